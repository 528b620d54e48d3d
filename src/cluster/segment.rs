//! `Segment`: a part of a line's bytes on its way through Redis, with what its sender has got so far.
//!
//! ```text
//!   version 1 | flags 1 | sender 3 | line 8 | offset 8 | received 8 | credit 8 | visitor, where it opens a line | bytes
//!   visitor: shard 2 | address 0, 4 or 16 behind a byte that says which
//! ```

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::shard::Instance;

const VERSION: u8 = 1;
const HEADER_BYTES: usize = 37;
const PREFIX_BYTES: usize = 3;

const OPENS: u8 = 1;
const ENDS: u8 = 2;
const RESETS: u8 = 4;
const ASKS: u8 = 8;
const FROM_OWNER: u8 = 16;

/// For whom a tunnel is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Visitor {
    /// The shard that the session id names.
    pub shard: u16,
    /// Whoever is at the other end of the connection that is brought; `None`: not known.
    pub address: Option<IpAddr>,
}

/// At which end of a line its sender is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum LineEnd {
    /// Where the connection came in.
    Opener,
    /// Where its session is.
    Owner,
}

/// What a segment is besides the bytes in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    Carry,
    /// These bytes are the last.
    Finish,
    /// The line is not known, or is given up.
    Reset,
}

/// One message on the channel of an instance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Segment {
    pub(super) from: Instance,
    pub(super) end: LineEnd,
    pub(super) line: u64,
    pub(super) purpose: Purpose,
    /// Its sender wants to hear how far the other end has got.
    pub(super) asks: bool,
    /// Until the other end was heard.
    pub(super) opens: Option<Visitor>,
    /// Of the first byte in it.
    pub(super) offset: u64,
    /// So much of the other end's bytes has come, its end counted as one.
    pub(super) received: u64,
    /// Up to here the other end may send.
    pub(super) credit: u64,
    pub(super) bytes: Vec<u8>,
}

impl Segment {
    /// The one that ends a line at once.
    pub(super) fn reset(from: Instance, end: LineEnd, line: u64) -> Segment {
        Segment {
            from,
            end,
            line,
            purpose: Purpose::Reset,
            asks: false,
            opens: None,
            offset: 0,
            received: 0,
            credit: 0,
            bytes: Vec::new(),
        }
    }

    pub(super) fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(HEADER_BYTES + 19 + self.bytes.len());
        let purpose = match self.purpose {
            Purpose::Carry => 0,
            Purpose::Finish => ENDS,
            Purpose::Reset => RESETS,
        };
        let flag = |is_set: bool, flag: u8| if is_set { flag } else { 0 };
        let flags = purpose
            | flag(self.opens.is_some(), OPENS)
            | flag(self.asks, ASKS)
            | flag(self.end == LineEnd::Owner, FROM_OWNER);
        bytes.extend([VERSION, flags]);
        bytes.extend(self.from.prefix().as_bytes());
        for number in [self.line, self.offset, self.received, self.credit] {
            bytes.extend(number.to_be_bytes());
        }
        if let Some(visitor) = self.opens {
            visitor.encode(&mut bytes);
        }
        bytes.extend(&self.bytes);
        bytes
    }

    /// `None` for what is no segment.
    pub(super) fn decode(bytes: &[u8]) -> Option<Segment> {
        let (header, mut rest) = bytes.split_at_checked(HEADER_BYTES)?;
        let ([VERSION, flags], header) = header.split_first_chunk()? else { return None };
        let (prefix, numbers) = header.split_at_checked(PREFIX_BYTES)?;
        let number = |index: usize| {
            let bytes = numbers.get(index * 8..)?.first_chunk()?;
            Some(u64::from_be_bytes(*bytes))
        };
        let has = |flag: u8| flags & flag != 0;
        let opens = if has(OPENS) { Some(Visitor::decode(&mut rest)?) } else { None };
        Some(Segment {
            from: Instance::of_prefix(std::str::from_utf8(prefix).ok()?)?,
            end: if has(FROM_OWNER) { LineEnd::Owner } else { LineEnd::Opener },
            line: number(0)?,
            purpose: match (has(RESETS), has(ENDS)) {
                (true, _) => Purpose::Reset,
                (false, true) => Purpose::Finish,
                (false, false) => Purpose::Carry,
            },
            asks: has(ASKS),
            opens,
            offset: number(1)?,
            received: number(2)?,
            credit: number(3)?,
            bytes: rest.to_vec(),
        })
    }
}

impl Visitor {
    /// What it takes at most.
    pub const BYTES_MAX: usize = 2 + 1 + 16;

    pub fn encode(&self, into: &mut Vec<u8>) {
        into.extend(self.shard.to_be_bytes());
        match self.address {
            None => into.push(0),
            Some(IpAddr::V4(address)) => {
                into.push(4);
                into.extend(address.octets());
            }
            Some(IpAddr::V6(address)) => {
                into.push(16);
                into.extend(address.octets());
            }
        }
    }

    /// Takes one off the front.
    pub fn decode(from: &mut &[u8]) -> Option<Visitor> {
        let (shard, rest) = from.split_first_chunk()?;
        let (kind, rest) = rest.split_first()?;
        let (address, rest) = match kind {
            0 => (None, rest),
            4 => {
                let (octets, rest) = rest.split_first_chunk::<4>()?;
                (Some(IpAddr::V4(Ipv4Addr::from(*octets))), rest)
            }
            16 => {
                let (octets, rest) = rest.split_first_chunk::<16>()?;
                (Some(IpAddr::V6(Ipv6Addr::from(*octets))), rest)
            }
            _ => return None,
        };
        *from = rest;
        Some(Visitor { shard: u16::from_be_bytes(*shard), address })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn segment(opens: Option<Visitor>) -> Segment {
        Segment {
            from: Instance::new(0x1_2345),
            end: LineEnd::Owner,
            line: u64::MAX - 1,
            purpose: Purpose::Finish,
            asks: true,
            opens,
            offset: 7,
            received: 8,
            credit: 9,
            bytes: b"GET /".to_vec(),
        }
    }

    #[test]
    fn a_segment_comes_back_as_it_was() {
        let visitor = |address: &str| Some(Visitor { shard: 300, address: address.parse().ok() });
        for opens in [None, visitor(""), visitor("203.0.113.9"), visitor("2001:db8::1")] {
            let one = segment(opens);
            assert_eq!(Segment::decode(&one.encode()), Some(one));
        }
        let reset = Segment::reset(Instance::new(1), LineEnd::Opener, 3);
        assert_eq!(Segment::decode(&reset.encode()), Some(reset));
    }

    #[test]
    fn what_is_cut_or_of_another_version_is_no_segment() {
        let mut whole = segment(Some(Visitor { shard: 1, address: "::1".parse().ok() }));
        whole.bytes.clear();
        let whole = whole.encode();
        for length in 0..whole.len() {
            assert_eq!(Segment::decode(&whole[..length]), None, "{length} bytes");
        }
        assert!(Segment::decode(&whole).is_some());
        for (at, byte) in [(0, 2), (2, b'!'), (HEADER_BYTES + 2, 5)] {
            let mut wrong = whole.clone();
            wrong[at] = byte;
            assert_eq!(Segment::decode(&wrong), None, "byte {at}");
        }
    }
}
