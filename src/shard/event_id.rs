//! `EventId`: what an event is called that its home remembers: when it was emitted, by which instance, and which of several.

use sockring_protocol::portable;
use std::sync::atomic::{AtomicU64, Ordering};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

/// What the time in an id counts in, and what the instance's bits do.
const MILLIS_SHIFT: u32 = 22;
const COUNTER_BITS: u32 = 8;
const INSTANCE_MASK: u32 = (1 << (MILLIS_SHIFT - COUNTER_BITS)) - 1;

const TEXT_BYTES: usize = 11;

/// 42 bits of milliseconds since 1970, 14 bits of an instance, 8 bits of a counter: they sort by time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EventId(pub u64);

portable!(struct EventId(id));

impl EventId {
    /// 11 characters of base64url.
    pub fn text(self) -> String {
        URL_SAFE_NO_PAD.encode(self.0.to_be_bytes())
    }

    /// About when it was made, in milliseconds since 1970.
    pub fn unix_ms(self) -> u64 {
        self.0 >> MILLIS_SHIFT
    }

    /// `None` for a text that is no id.
    pub fn parse(text: &str) -> Option<EventId> {
        let mut bytes = [0; 8];
        let length = (text.len() == TEXT_BYTES).then(|| URL_SAFE_NO_PAD.decode_slice(text, &mut bytes))?.ok()?;
        (length == bytes.len()).then(|| EventId(u64::from_be_bytes(bytes)))
    }
}

/// Makes the ids of an instance, each later than the one before, on whichever thread.
#[derive(Debug)]
pub struct EventIds {
    instance: u64,
    last: AtomicU64,
}

impl EventIds {
    /// Of a random number.
    pub fn new(random: u32) -> EventIds {
        EventIds { instance: u64::from(random & INSTANCE_MASK) << COUNTER_BITS, last: AtomicU64::new(0) }
    }

    pub fn next(&self, unix_ms: u64) -> EventId {
        let first = (unix_ms << MILLIS_SHIFT) | self.instance;
        // Beyond 256 in a millisecond, or with a clock that was set back, the next number is as good.
        let next = |last: u64| first.max(last + 1);
        let last = self.last.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |last| Some(next(last)));
        EventId(next(last.unwrap_or_else(|last| last)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_ascend_whatever_the_clock_does_and_are_11_characters() {
        let ids = EventIds::new(u32::MAX);
        let made: Vec<_> = [5, 5, 4, 6].iter().flat_map(|at| (0..300).map(|_| ids.next(*at))).collect();
        assert!(made.is_sorted_by(|one, next| one < next));
        assert_eq!(made[0].0 >> MILLIS_SHIFT, 5);
        for id in made {
            assert_eq!((id.text().len(), EventId::parse(&id.text())), (TEXT_BYTES, Some(id)));
        }
        for text in ["", "AAAAAAAAAA", "AAAAAAAAAAAA", "AAAAAAAAAA!", "AAAAAAAAAAB"] {
            assert_eq!(EventId::parse(text), None, "{text}");
        }
    }
}
