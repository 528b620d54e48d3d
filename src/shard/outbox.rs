//! `Outbox`: what waits for one client, as references to encoded messages.
//!
//! A message is kept as the WebSocket frames that carry it; the form for long-polling is read off those frames when it is
//! needed, into the answer's body, where it has to be copied anyway.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use sockring_protocol::engineio::PayloadEncoder;
use sockring_protocol::websocket::{Opcode, server_frames};

use super::sockets::NamespaceId;

/// One message, encoded once per shard: whole server frames, one per Engine.IO packet.
pub type Frames = Arc<[u8]>;

/// Messages that wait for a client's transport. Empty, or with one message, it holds no memory of its own.
#[derive(Debug, Default)]
pub enum Outbox {
    #[default]
    Empty,
    One(Frames),
    Many(Box<Queue>),
}

/// Several messages, or one that a newer one may replace.
#[derive(Debug, Default)]
pub struct Queue {
    frames: VecDeque<Frames>,
    /// How many have left, so that a message keeps its number.
    taken: u64,
    keys: HashMap<ConflateKey, u64>,
}

/// What messages replace each other under: in one namespace, for one client.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ConflateKey(NamespaceId, Arc<str>);

impl ConflateKey {
    pub fn new(namespace: NamespaceId, key: &str) -> ConflateKey {
        ConflateKey(namespace, key.into())
    }
}

impl Outbox {
    pub fn push(&mut self, frames: Frames) {
        match self {
            Outbox::Empty => *self = Outbox::One(frames),
            Outbox::One(_) => self.queue().frames.push_back(frames),
            Outbox::Many(queue) => queue.frames.push_back(frames),
        }
    }

    /// Puts a message in the place of the one that waits under the same key, or behind all if none does.
    pub fn push_under(&mut self, key: &ConflateKey, frames: Frames) {
        let queue = self.queue();
        let waiting = queue.keys.get(key).and_then(|number| usize::try_from(number.checked_sub(queue.taken)?).ok());
        match waiting.and_then(|place| queue.frames.get_mut(place)) {
            Some(older) => *older = frames,
            None => {
                queue.keys.insert(key.clone(), queue.taken + queue.frames.len() as u64);
                queue.frames.push_back(frames);
            }
        }
    }

    /// What waits in this namespace is not replaced any more: the socket that it is for ends, and another may follow.
    pub fn forget_keys(&mut self, namespace: NamespaceId) {
        if let Outbox::Many(queue) = self {
            queue.keys.retain(|key, _| key.0 != namespace);
        }
    }

    /// The bytes of the message that waits under this key.
    pub fn waiting_bytes(&self, key: &ConflateKey) -> usize {
        let Outbox::Many(queue) = self else { return 0 };
        let place = queue.keys.get(key).and_then(|number| usize::try_from(number.checked_sub(queue.taken)?).ok());
        place.and_then(|place| queue.frames.get(place)).map_or(0, |frames| frames.len())
    }

    fn queue(&mut self) -> &mut Queue {
        match std::mem::take(self) {
            Outbox::Empty => *self = Outbox::Many(Box::default()),
            Outbox::One(first) => {
                *self = Outbox::Many(Box::new(Queue { frames: VecDeque::from([first]), ..Queue::default() }));
            }
            many @ Outbox::Many(_) => *self = many,
        }
        match self {
            Outbox::Many(queue) => queue,
            _ => unreachable!("it was made so"),
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
                let frames = queue.frames.pop_front();
                queue.taken += 1;
                if queue.frames.is_empty() {
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
            Outbox::Many(queue) => queue.frames.front().map_or(0, |frames| frames.len()),
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
    fn a_newer_message_takes_the_place_of_the_older_one_under_its_key() {
        let frames = |byte: u8| Frames::from([byte].as_slice());
        let key = |name| ConflateKey::new(NamespaceId(0), name);
        let mut outbox = Outbox::default();
        outbox.push(frames(0));
        outbox.push_under(&key("a"), frames(1));
        outbox.push_under(&key("b"), frames(2));
        outbox.push_under(&ConflateKey::new(NamespaceId(1), "a"), frames(3));
        outbox.push_under(&key("a"), frames(4));
        assert_eq!((outbox.waiting_bytes(&key("a")), outbox.waiting_bytes(&key("c"))), (1, 0));
        assert_eq!([outbox.pop(), outbox.pop()].map(|frames| frames.unwrap()[0]), [0, 4]);
        // What has left is not replaced any more.
        outbox.push_under(&key("a"), frames(5));
        let rest: Vec<_> = std::iter::from_fn(|| outbox.pop()).map(|frames| frames[0]).collect();
        assert_eq!(rest, [2, 3, 5]);
        assert!(matches!(outbox, Outbox::Empty));
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
