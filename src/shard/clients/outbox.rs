//! `Outbox`: what waits for one client, as references to encoded messages.
//!
//! A message is kept as the WebSocket frames that carry it; the form for long-polling is read off those frames when it is
//! needed, into the answer's body, where it has to be copied anyway.

mod carried;

use core::ops::Range;
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use sockring_protocol::engineio::PayloadEncoder;
use sockring_protocol::websocket::{Opcode, ServerFrames};

use crate::shard::rooms::sockets::NamespaceId;
use sockring_protocol::portable;

/// One message, encoded once per shard: whole server frames, one per Engine.IO packet.
pub type Frames = Arc<[u8]>;

/// Bytes to send.
#[derive(Clone, Debug)]
pub enum Bytes {
    /// One message that others may be getting too.
    Shared(Frames),
    /// A piece of one that is too large to be sent at once.
    Piece(Frames, Range<u32>),
    Owned(Vec<u8>),
}

impl Bytes {
    pub fn as_slice(&self) -> &[u8] {
        match self {
            Bytes::Shared(bytes) => bytes,
            Bytes::Piece(bytes, Range { start, end }) => bytes.get(*start as usize..*end as usize).unwrap_or_default(),
            Bytes::Owned(bytes) => bytes,
        }
    }
}

/// What a message that waits takes besides its own bytes: its place in the queue, and the counts of its references.
const MESSAGE_BYTES: usize = 40;
/// And one that a newer one may replace, besides the key's own bytes: the key, and its place in the index.
const KEY_BYTES: usize = 96;

/// Messages up to this size are copied, so that several leave in one send; a larger one leaves by itself, shared.
const MERGED_MESSAGE_BYTES_MAX: usize = 4 << 10;
/// And no more of them than this at once.
const MERGED_BYTES_MAX: usize = 32 << 10;

/// A queue that was longer gives memory back beyond this many places.
const PLACES_KEPT: usize = 64;

/// Messages that wait for a client's transport. Empty, or with one message, it holds no memory of its own.
#[derive(Debug)]
pub(crate) enum Outbox {
    One(Frames),
    /// `None`: it is empty. So all of it is two words.
    Many(Option<Box<Queue>>),
}

impl Default for Outbox {
    #[inline]
    fn default() -> Outbox {
        Outbox::EMPTY
    }
}

portable!(enum Outbox { 0 One(frames), 1 Many(queue) });

/// Several messages, or one that a newer one may replace.
#[derive(Debug, Default)]
pub(crate) struct Queue {
    /// In their order. `None`: a newer one has replaced it; the first is none of these.
    messages: VecDeque<Option<QueuedMessage>>,
    replaced: usize,
    /// How many have left, so that a message keeps its number.
    taken: u64,
    /// The numbers of the messages that wait under a key.
    keys: HashMap<ConflateKey, u64>,
    /// What all of them take.
    bytes: usize,
}

#[derive(Debug)]
struct QueuedMessage {
    frames: Frames,
    key: Option<ConflateKey>,
}

portable!(struct QueuedMessage { frames, key });

/// What messages replace each other under: in one namespace, for one client.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct ConflateKey(Arc<(NamespaceId, Box<str>)>);

portable!(struct ConflateKey(key));

impl ConflateKey {
    pub(crate) fn new(namespace: NamespaceId, key: &str) -> ConflateKey {
        ConflateKey(Arc::new((namespace, key.into())))
    }

    pub(crate) fn text(&self) -> &str {
        &self.0.1
    }
}

/// What a message takes while it waits, all that is kept about it included.
pub(crate) fn weight(frames: &Frames, key: Option<&ConflateKey>) -> usize {
    MESSAGE_BYTES + frames.len() + key.map_or(0, |key| KEY_BYTES + key.0.1.len())
}

impl Outbox {
    pub(crate) const EMPTY: Outbox = Outbox::Many(None);

    #[inline]
    pub(crate) fn push(&mut self, frames: Frames) {
        match self {
            // An assignment would drop what is not there.
            Outbox::Many(None) => std::mem::forget(std::mem::replace(self, Outbox::One(frames))),
            Outbox::One(_) => self.queue().push(frames, None),
            Outbox::Many(Some(queue)) => queue.push(frames, None),
        }
    }

    /// Puts a message behind all others, and drops the one that waits under the same key: so nothing comes before what was
    /// pushed earlier.
    pub(crate) fn push_under(&mut self, key: &ConflateKey, frames: Frames) {
        let queue = self.queue();
        queue.drop_under(key);
        queue.keys.insert(key.clone(), queue.next_number());
        queue.push(frames, Some(key.clone()));
    }

    /// What waits in this namespace is not replaced any more: the socket that it is for ends, and another may follow.
    pub(crate) fn forget_keys(&mut self, namespace: NamespaceId) {
        let Outbox::Many(Some(queue)) = self else { return };
        queue.keys.retain(|key, _| key.0.0 != namespace);
        for message in queue.messages.iter_mut().flatten() {
            let before = message.bytes();
            message.key.take_if(|key| key.0.0 == namespace);
            queue.bytes -= before - message.bytes();
        }
    }

    /// What all of it takes, all that is kept about it included.
    pub(crate) fn bytes(&self) -> usize {
        match self {
            Outbox::One(frames) => weight(frames, None),
            Outbox::Many(queue) => queue.as_ref().map_or(0, |queue| queue.bytes),
        }
    }

    /// What the message that waits under this key takes.
    pub(crate) fn bytes_under(&self, key: &ConflateKey) -> usize {
        let Outbox::Many(Some(queue)) = self else { return 0 };
        let message = queue.place(key).and_then(|place| queue.messages.get(place)?.as_ref());
        message.map_or(0, QueuedMessage::bytes)
    }

    fn queue(&mut self) -> &mut Queue {
        if let Outbox::One(_) = self
            && let Outbox::One(first) = std::mem::take(self)
        {
            let mut queue = Box::<Queue>::default();
            queue.push(first, None);
            *self = Outbox::Many(Some(queue));
        }
        match self {
            Outbox::Many(queue) => queue.get_or_insert_default(),
            Outbox::One(_) => unreachable!("it was made so"),
        }
    }

    pub(crate) fn pop(&mut self) -> Option<Frames> {
        match self {
            Outbox::One(_) => match std::mem::take(self) {
                Outbox::One(frames) => Some(frames),
                _ => None,
            },
            Outbox::Many(None) => None,
            Outbox::Many(Some(queue)) => {
                let frames = queue.pop();
                if queue.messages.is_empty() {
                    *self = Outbox::EMPTY;
                }
                frames
            }
        }
    }

    /// The next bytes to send, behind those that are the connection's own, and how many of them were copied out of messages.
    /// Small messages leave together; a large one, and a single one, is shared and not copied.
    #[inline]
    pub(crate) fn take(&mut self, own: Vec<u8>) -> Option<(Bytes, usize)> {
        // The usual case.
        if own.is_empty()
            && let Outbox::One(_) = self
            && let Outbox::One(only) = std::mem::take(self)
        {
            return Some((Bytes::Shared(only), 0));
        }
        self.take_several(own)
    }

    #[inline(never)]
    fn take_several(&mut self, mut own: Vec<u8>) -> Option<(Bytes, usize)> {
        let own_bytes = own.len();
        if own.is_empty() {
            let first = self.pop()?;
            if first.len() > MERGED_MESSAGE_BYTES_MAX || !self.has_small() {
                return Some((Bytes::Shared(first), 0));
            }
            own.extend_from_slice(&first);
        }
        while self.has_small()
            && own.len() + self.first_bytes() <= MERGED_BYTES_MAX
            && let Some(frames) = self.pop()
        {
            own.extend_from_slice(&frames);
        }
        let copied = own.len() - own_bytes;
        Some((Bytes::Owned(own), copied))
    }

    fn has_small(&self) -> bool {
        !self.is_empty() && self.first_bytes() <= MERGED_MESSAGE_BYTES_MAX
    }

    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        matches!(self, Outbox::Many(None))
    }

    pub(crate) fn first_bytes(&self) -> usize {
        match self {
            Outbox::One(frames) => frames.len(),
            Outbox::Many(queue) => {
                let first = queue.as_ref().and_then(|queue| queue.messages.front()?.as_ref());
                first.map_or(0, |first| first.frames.len())
            }
        }
    }
}

impl QueuedMessage {
    fn bytes(&self) -> usize {
        weight(&self.frames, self.key.as_ref())
    }
}

impl Queue {
    fn next_number(&self) -> u64 {
        self.taken + self.messages.len() as u64
    }

    fn push(&mut self, frames: Frames, key: Option<ConflateKey>) {
        let message = QueuedMessage { frames, key };
        self.bytes += message.bytes();
        self.messages.push_back(Some(message));
    }

    /// Where the message is that waits under this key.
    fn place(&self, key: &ConflateKey) -> Option<usize> {
        usize::try_from(self.keys.get(key)?.checked_sub(self.taken)?).ok()
    }

    fn pop(&mut self) -> Option<Frames> {
        let message = self.messages.pop_front().flatten()?;
        self.taken += 1;
        self.bytes -= message.bytes();
        if let Some(key) = &message.key {
            self.keys.remove(key);
        }
        self.close_gaps();
        Some(message.frames)
    }

    fn drop_under(&mut self, key: &ConflateKey) {
        let Some(place) = self.place(key) else { return };
        self.keys.remove(key);
        if let Some(older) = self.messages.get_mut(place).and_then(Option::take) {
            self.bytes -= older.bytes();
            self.replaced += 1;
            self.close_gaps();
        }
    }

    /// Makes the first a message, and what is kept in proportion to what waits.
    fn close_gaps(&mut self) {
        while let Some(None) = self.messages.front() {
            self.messages.pop_front();
            self.taken += 1;
            self.replaced -= 1;
        }
        if self.replaced > PLACES_KEPT && self.replaced * 2 > self.messages.len() {
            self.messages.retain(Option::is_some);
            self.replaced = 0;
            for (number, message) in (self.taken..).zip(&self.messages) {
                if let Some(kept) = message.as_ref().and_then(|message| self.keys.get_mut(message.key.as_ref()?)) {
                    *kept = number;
                }
            }
        }
        if self.messages.capacity() > PLACES_KEPT && self.messages.len() < self.messages.capacity() / 4 {
            self.messages.shrink_to(self.messages.len() * 2);
        }
        if self.keys.capacity() > PLACES_KEPT && self.keys.len() < self.keys.capacity() / 4 {
            self.keys.shrink_to(self.keys.len() * 2);
        }
    }
}

/// All of an outbox and perhaps one more packet as one polling payload.
pub(crate) fn polling_payload(mut outbox: Outbox, last: Option<&[u8]>) -> Vec<u8> {
    let mut payload = Vec::new();
    let mut encoder = PayloadEncoder::new(&mut payload);
    while let Some(frames) = outbox.pop() {
        encode_for_polling(&frames, &mut encoder);
    }
    if let Some(last) = last {
        encoder.push_text(last);
    }
    payload
}

/// Appends a message in the form of a polling payload.
pub(crate) fn encode_for_polling(frames: &[u8], payload: &mut PayloadEncoder<'_>) {
    for (opcode, data) in ServerFrames::new(frames) {
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
        assert!(outbox.is_empty());
        assert!(size_of::<Outbox>() <= 24);
    }

    fn frames(byte: u8) -> Frames {
        Frames::from([byte].as_slice())
    }

    fn key(name: &str) -> ConflateKey {
        ConflateKey::new(NamespaceId(0), name)
    }

    #[test]
    fn a_newer_message_goes_to_the_back_and_the_older_one_under_its_key_is_dropped() {
        let mut outbox = Outbox::default();
        outbox.push(frames(0));
        outbox.push_under(&key("a"), frames(1));
        outbox.push_under(&key("b"), frames(2));
        outbox.push_under(&ConflateKey::new(NamespaceId(1), "a"), frames(3));
        assert_eq!(outbox.bytes_under(&key("a")), weight(&frames(1), Some(&key("a"))));
        assert_eq!(outbox.bytes_under(&key("c")), 0);
        outbox.push_under(&key("a"), frames(4));
        assert_eq!([outbox.pop(), outbox.pop()].map(|frames| frames.unwrap()[0]), [0, 2]);
        // What has left is not replaced any more.
        outbox.push_under(&key("b"), frames(5));
        let rest: Vec<_> = std::iter::from_fn(|| outbox.pop()).map(|frames| frames[0]).collect();
        assert_eq!(rest, [3, 4, 5]);
        assert!(outbox.is_empty());
        // Nor what is for a socket that has ended.
        for byte in [8, 9] {
            outbox.push_under(&key("a"), frames(byte));
            outbox.push_under(&ConflateKey::new(NamespaceId(1), "a"), frames(byte + 10));
            outbox.forget_keys(NamespaceId(0));
        }
        let rest: Vec<_> = std::iter::from_fn(|| outbox.pop()).map(|frames| frames[0]).collect();
        assert_eq!((rest, outbox.bytes()), (vec![8, 9, 19], 0));
        // The only one is replaced as well.
        outbox.push_under(&key("a"), frames(6));
        outbox.push_under(&key("a"), frames(7));
        assert_eq!((outbox.pop(), outbox.bytes()), (Some(frames(7)), 0));
    }

    #[test]
    fn a_queue_knows_what_it_takes_whatever_is_replaced_and_taken() {
        let mut outbox = Outbox::default();
        let mut expected: Vec<(u32, Option<u32>)> = Vec::new();
        let mut state = 1u32;
        for number in 0..20_000u32 {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let name = state >> 8 & 15;
            let message = Frames::from(number.to_le_bytes().as_slice());
            match state >> 28 {
                0..=3 => {
                    outbox.push(message);
                    expected.push((number, None));
                }
                4..=11 => {
                    outbox.push_under(&key(&name.to_string()), message);
                    expected.retain(|(_, other)| *other != Some(name));
                    expected.push((number, Some(name)));
                }
                _ => {
                    let first = (!expected.is_empty()).then(|| expected.remove(0).0.to_le_bytes());
                    assert_eq!(outbox.pop().as_deref(), first.as_ref().map(<[u8; 4]>::as_slice));
                }
            }
            let weigh = |(number, name): &(u32, Option<u32>)| {
                let key = name.map(|name| key(&name.to_string()));
                weight(&Frames::from(number.to_le_bytes().as_slice()), key.as_ref())
            };
            assert_eq!(outbox.bytes(), expected.iter().map(weigh).sum::<usize>());
        }
    }

    /// What a queue has allocated, without the messages and keys, which are shared.
    fn places(outbox: &Outbox) -> (usize, usize) {
        let Outbox::Many(Some(queue)) = outbox else { return (0, 0) };
        (queue.messages.capacity(), queue.keys.capacity())
    }

    #[test]
    fn what_is_kept_is_in_proportion_to_what_waits() {
        // Keys whose messages have left.
        let mut outbox = Outbox::default();
        outbox.push(frames(0));
        for number in 0..100_000 {
            outbox.push_under(&key(&number.to_string()), frames(1));
            outbox.pop();
        }
        assert!(places(&outbox).0 <= 4 && places(&outbox).1 <= 8, "{:?}", places(&outbox));
        // Messages that were replaced behind one that waits.
        for number in 0..100_000 {
            outbox.push_under(&key(["a", "b"][number % 2]), frames(1));
        }
        assert!(places(&outbox).0 <= 4 * PLACES_KEPT && places(&outbox).1 <= 8, "{:?}", places(&outbox));
        // A queue that was long.
        (0..100_000).for_each(|number| outbox.push_under(&key(&number.to_string()), frames(1)));
        while outbox.bytes() > 1000 {
            outbox.pop();
        }
        assert!(places(&outbox).0 <= 4 * PLACES_KEPT && places(&outbox).1 <= 4 * PLACES_KEPT, "{:?}", places(&outbox));
    }

    #[test]
    fn small_messages_leave_together_and_large_ones_shared() {
        let of = |bytes: usize| Frames::from(vec![b'x'; bytes]);
        let small = MERGED_MESSAGE_BYTES_MAX;
        let take = |own: usize, waiting: &[usize]| {
            let mut outbox = Outbox::default();
            waiting.iter().for_each(|bytes| outbox.push(of(*bytes)));
            let mut own = vec![b'o'; own];
            // What each send is: shared or owned, its bytes, and how many of them are copies.
            let mut sends = Vec::new();
            while let Some((bytes, copied)) = outbox.take(std::mem::take(&mut own)) {
                sends.push((matches!(bytes, Bytes::Shared(_)), bytes.as_slice().len(), copied));
                if outbox.is_empty() {
                    break;
                }
            }
            sends
        };
        assert_eq!(take(0, &[]), []);
        assert_eq!(take(9, &[]), [(false, 9, 0)]);
        assert_eq!(take(0, &[10]), [(true, 10, 0)]);
        assert_eq!(take(0, &[400_000, 400_000]), [(true, 400_000, 0), (true, 400_000, 0)]);
        assert_eq!(take(0, &[10, 400_000, 10, 20]), [(true, 10, 0), (true, 400_000, 0), (false, 30, 30)]);
        assert_eq!(take(9, &[small, small + 1]), [(false, small + 9, small), (true, small + 1, 0)]);
        assert_eq!(take(9, &[small + 1]), [(false, 9, 0), (true, small + 1, 0)]);
        let full = MERGED_BYTES_MAX / small;
        let sends = take(0, &vec![small; full + 2]);
        assert_eq!(sends, [(false, full * small, full * small), (false, 2 * small, 2 * small)]);
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
