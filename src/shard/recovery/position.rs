//! `Position`: a place in what a shard has delivered, and the marker that tells it to a client.
//!
//! A shard counts what it delivers, and its positions mean nothing to others (`~EEEPPPP`). Where all servers read one stream,
//! what is read is at the place that it has there (`1732412345678-0`, as Node says it), and what is delivered besides counts
//! from the entry before it.
//!
//! ```text
//!   bit  0                                          42          52            64
//!        | when Redis took it, in ms since 1970     | sequence  | what follows |
//! ```
//!
//! A marker is an event without arguments: the stock client (4.6 and newer) keeps the last string of each event as its
//! offset, the name of such an event too, and sends it along when it comes back.

use serde::{Deserialize, Serialize};
use sockring_protocol::adapter::EntryId;
use sockring_protocol::json::encode_string;

use crate::shard::settings::OffsetForm;
use sockring_protocol::portable;

/// A place in a shard's log. It only grows; that two follow each other without a gap is nobody's business.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub(crate) struct Position(pub(super) u64);

portable!(struct Position(place));

impl Position {
    pub(crate) const MAX: Position = Position(u64::MAX);

    /// Of an entry of a stream. Beyond a thousand entries of one millisecond several have one place.
    pub(crate) fn of_entry(entry: EntryId) -> Position {
        let sequence = entry.sequence.min((1 << SEQUENCE_BITS) - 1);
        let millis = entry.millis.min((1 << (u64::BITS - SEQUENCE_BITS - FOLLOWING_BITS)) - 1);
        Position(((millis << SEQUENCE_BITS) | sequence) << FOLLOWING_BITS)
    }

    /// Of the first entry that a stream may have at this time.
    pub(crate) fn of_millis(unix_ms: u64) -> Position {
        Position::of_entry(EntryId { millis: unix_ms, sequence: 0 })
    }

    /// The entry of a stream that is at this very place.
    fn entry(self) -> Option<EntryId> {
        let (entry, following) = (self.0 >> FOLLOWING_BITS, self.0 & ((1 << FOLLOWING_BITS) - 1));
        let id = EntryId { millis: entry >> SEQUENCE_BITS, sequence: entry & ((1 << SEQUENCE_BITS) - 1) };
        (following == 0).then_some(id)
    }

    /// All that is before this one.
    pub(crate) fn before(self) -> Position {
        Position(self.0.saturating_sub(1))
    }
}

/// Of an entry's sequence within its millisecond, and of what a shard delivers before the next entry comes.
const SEQUENCE_BITS: u32 = 10;
const FOLLOWING_BITS: u32 = 12;

/// One life of one shard: positions of another mean nothing here. 18 random bits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Epoch(u32);

portable!(struct Epoch(number));

const EPOCH_BITS: u32 = 18;
const EPOCH_DIGITS: usize = 3;
/// Fewer digits than these are filled up, so that the markers of a young server are as long as those of an old one.
const POSITION_DIGITS_MIN: usize = 4;
/// What 64 bits take.
const POSITION_DIGITS_MAX: usize = 11;

/// What all markers begin with.
const MARK: u8 = b'~';
const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

impl Epoch {
    /// That of all shards whose positions are places in a stream. No other epoch is the same.
    pub(crate) const OF_STREAM: Epoch = Epoch(0);

    pub(crate) fn new(random: [u8; 4]) -> Epoch {
        Epoch((u32::from_be_bytes(random) >> (u32::BITS - EPOCH_BITS)).max(1))
    }

    #[cfg(test)]
    pub(crate) const fn of(number: u32) -> Epoch {
        Epoch(number)
    }

    pub(super) fn bytes(self) -> [u8; 4] {
        self.0.to_be_bytes()
    }
}

/// What a client has received up to here, as it says it: `~EEEPPPP`, or the id of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Offset {
    pub(crate) epoch: Epoch,
    pub(crate) position: Position,
}

/// A marker, and how it is sent.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Mark {
    pub(crate) offset: Offset,
    pub(crate) form: OffsetForm,
}

impl Offset {
    /// Appends it as text.
    pub(crate) fn encode(self, out: &mut Vec<u8>) {
        if let (Epoch::OF_STREAM, Some(entry)) = (self.epoch, self.position.entry()) {
            return out.extend_from_slice(entry.to_string().as_bytes());
        }
        out.push(MARK);
        let mut push = |value: u64, digits: usize| {
            for digit in (0..digits).rev() {
                out.extend(DIGITS.get((value >> (6 * digit) & 63) as usize));
            }
        };
        push(u64::from(self.epoch.0), EPOCH_DIGITS);
        let bits = (u64::BITS - self.position.0.leading_zeros()) as usize;
        push(self.position.0, bits.div_ceil(6).max(POSITION_DIGITS_MIN));
    }

    /// `None` for what is no offset of ours: a string that an event happened to end with.
    pub(crate) fn parse(text: &str) -> Option<Offset> {
        if let Some(entry) = EntryId::decode(text.as_bytes()) {
            return Some(Offset { epoch: Epoch::OF_STREAM, position: Position::of_entry(entry) });
        }
        let digits = text.as_bytes().strip_prefix(&[MARK])?;
        let (epoch, position) = digits.split_at_checked(EPOCH_DIGITS)?;
        if !(POSITION_DIGITS_MIN..=POSITION_DIGITS_MAX).contains(&position.len()) {
            return None;
        }
        let epoch = u32::try_from(number(epoch)?).ok()?;
        Some(Offset { epoch: Epoch(epoch), position: Position(number(position)?) })
    }

    /// Appends the marker packet, without the `4` of Engine.IO: `2["~EEEPPPP"]`.
    pub(crate) fn encode_marker(self, namespace: &str, out: &mut Vec<u8>) {
        out.push(b'2');
        if namespace != "/" {
            out.extend_from_slice(namespace.as_bytes());
            out.push(b',');
        }
        out.extend_from_slice(b"[\"");
        self.encode(out);
        out.extend_from_slice(b"\"]");
    }

    /// The arguments of an event with the offset behind them, as Node sends it.
    pub(crate) fn append_to(self, args: &[u8]) -> Vec<u8> {
        let end = args.iter().rposition(|byte| *byte == b']').unwrap_or(args.len());
        let mut with = Vec::with_capacity(args.len() + EPOCH_DIGITS + POSITION_DIGITS_MAX + 4);
        with.extend_from_slice(args.get(..end).unwrap_or_default());
        with.push(b',');
        let mut text = Vec::new();
        self.encode(&mut text);
        encode_string(std::str::from_utf8(&text).unwrap_or_default(), &mut with);
        with.push(b']');
        with
    }
}

fn number(digits: &[u8]) -> Option<u64> {
    digits.iter().try_fold(0u64, |number, digit| {
        let value = DIGITS.iter().position(|other| other == digit)? as u64;
        (number.leading_zeros() >= 6).then_some(number << 6 | value)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(epoch: u32, position: u64) -> String {
        let mut out = Vec::new();
        Offset { epoch: Epoch(epoch), position: Position(position) }.encode(&mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn an_offset_comes_back_as_it_was_whatever_its_size() {
        for (epoch, position, expected) in [
            (1, 0, "~AABAAAA"),
            (1, 63, "~AABAAA_"),
            ((1 << 18) - 1, (1 << 24) - 1, "~_______"),
            (2, 1 << 24, "~AACBAAAA"),
            (0, 7 << 22 | 3 << 12, "7-3"),
            (0, 7 << 22 | 3 << 12 | 1, "~AAABwDAB"),
            (7, u64::MAX, "~AAHP__________"),
        ] {
            assert_eq!(text(epoch, position), expected);
            let offset = Offset { epoch: Epoch(epoch), position: Position(position) };
            assert_eq!(Offset::parse(expected), Some(offset), "{expected}");
        }
        assert_eq!([[255; 4], [0; 4]].map(Epoch::new), [Epoch((1 << 18) - 1), Epoch(1)]);
    }

    #[test]
    fn places_in_a_stream_are_in_the_order_of_their_entries_with_room_between() {
        let entries = [(0, 0), (0, 1), (5, 0), (5, 1_023), (6, 0), (1_732_412_345_678, 0), (1_732_412_345_678, 900)];
        let entries = entries.map(|(millis, sequence)| EntryId { millis, sequence });
        let positions = entries.map(Position::of_entry);
        assert_eq!(positions.map(Position::entry), entries.map(Some));
        assert!(positions.windows(2).all(|pair| pair[1].0 - pair[0].0 >= 1 << FOLLOWING_BITS));
        let beyond = EntryId { millis: 5, sequence: 5_000 };
        assert_eq!(Position::of_entry(beyond), Position::of_entry(EntryId { sequence: 1_023, ..beyond }));
    }

    #[test]
    fn what_an_event_happened_to_end_with_is_no_offset() {
        for text in
            ["", "~", "~AAA", "~AAAAAA", "AAAAAAA", "done", "~AAA AAAA", "~AAAAAAAAAAAAAAAA", "~AAA___________", "~äöü"]
        {
            assert_eq!(Offset::parse(text), None, "{text}");
        }
    }

    #[test]
    fn a_marker_is_an_event_that_is_only_a_name_and_an_argument_is_the_last_one() {
        let offset = Offset { epoch: Epoch(1), position: Position(5) };
        let marker = |namespace| {
            let mut out = Vec::new();
            offset.encode_marker(namespace, &mut out);
            String::from_utf8(out).unwrap()
        };
        assert_eq!(marker("/"), r#"2["~AABAAAF"]"#);
        assert_eq!(marker("/admin"), r#"2/admin,["~AABAAAF"]"#);
        for (args, expected) in
            [(r#"["a"]"#, r#"["a","~AABAAAF"]"#), (r#"["a",{"b":[1]}] "#, r#"["a",{"b":[1]},"~AABAAAF"]"#)]
        {
            assert_eq!(String::from_utf8(offset.append_to(args.as_bytes())).unwrap(), expected);
        }
    }
}
