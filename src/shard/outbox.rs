//! `Outbox`: what waits for one client, as references to encoded messages.
//!
//! A message is kept as the WebSocket frames that carry it; the form for long-polling is read off those frames when it is
//! needed, into the answer's body, where it has to be copied anyway.

use std::collections::VecDeque;
use std::sync::Arc;

use sockring_protocol::engineio::PayloadEncoder;
use sockring_protocol::websocket::{Opcode, server_frames};

/// One message, encoded once per shard: whole server frames, one per Engine.IO packet.
pub type Frames = Arc<[u8]>;

/// Messages that wait for a client's transport. Empty, or with one message, it holds no memory of its own.
#[derive(Clone, Debug, Default)]
#[expect(clippy::box_collection, reason = "a box keeps the common small case small")]
pub enum Outbox {
    #[default]
    Empty,
    One(Frames),
    Many(Box<VecDeque<Frames>>),
}

impl Outbox {
    pub fn push(&mut self, frames: Frames) {
        match self {
            Outbox::Empty => *self = Outbox::One(frames),
            Outbox::One(first) => {
                let queue = VecDeque::from([Arc::clone(first), frames]);
                *self = Outbox::Many(Box::new(queue));
            }
            Outbox::Many(queue) => queue.push_back(frames),
        }
    }

    pub fn pop(&mut self) -> Option<Frames> {
        match self {
            Outbox::Empty => None,
            Outbox::One(_) => match std::mem::take(self) {
                Outbox::One(frames) => Some(frames),
                _ => None,
            },
            Outbox::Many(queue) => {
                let frames = queue.pop_front();
                if queue.is_empty() {
                    *self = Outbox::Empty;
                }
                frames
            }
        }
    }

    /// Hands out all of it in order.
    pub fn for_each(mut self, mut take: impl FnMut(Frames)) {
        while let Some(frames) = self.pop() {
            take(frames);
        }
    }

    pub fn is_empty(&self) -> bool {
        matches!(self, Outbox::Empty)
    }

    pub fn first_bytes(&self) -> usize {
        match self {
            Outbox::Empty => 0,
            Outbox::One(frames) => frames.len(),
            Outbox::Many(queue) => queue.front().map_or(0, |frames| frames.len()),
        }
    }
}

/// Appends a message in the form of a polling payload.
pub fn encode_for_polling(frames: &[u8], payload: &mut PayloadEncoder<'_>) {
    for (opcode, data) in server_frames(frames) {
        match opcode {
            Opcode::Binary => payload.push_binary(data),
            _ => payload.push_text(data),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use sockring_protocol::websocket::encode_frame;

    #[test]
    fn messages_leave_in_order_and_an_empty_outbox_holds_nothing() {
        let mut outbox = Outbox::default();
        for byte in 0..5u8 {
            outbox.push(Arc::from([byte].as_slice()));
        }
        assert_eq!(outbox.first_bytes(), 1);
        let order: Vec<_> = std::iter::from_fn(|| outbox.pop()).map(|frames| frames[0]).collect();
        assert_eq!(order, [0, 1, 2, 3, 4]);
        assert!(matches!(outbox, Outbox::Empty));
        assert!(size_of::<Outbox>() <= 24);
    }

    #[test]
    fn frames_become_a_polling_payload() {
        let mut frames = Vec::new();
        encode_frame(Opcode::Text, b"451-[\"a\",{\"_placeholder\":true,\"num\":0}]", &mut frames);
        encode_frame(Opcode::Binary, &[1, 2, 3, 4], &mut frames);
        let mut body = Vec::new();
        encode_for_polling(&frames, &mut PayloadEncoder::new(&mut body));
        assert_eq!(body, b"451-[\"a\",{\"_placeholder\":true,\"num\":0}]\x1ebAQIDBA==");
    }
}
