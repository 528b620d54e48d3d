//! `EntryId`: where an entry stands in its stream.

use core::fmt;

/// Where an entry stands in its stream: the time at which Redis took it, and a number within that millisecond.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EntryId {
    /// Since 1970, by Redis' clock.
    pub millis: u64,
    /// From 0 on.
    pub sequence: u64,
}

crate::portable!(struct EntryId { millis, sequence });

impl EntryId {
    /// From `1732412345678-0`.
    pub fn decode(text: &[u8]) -> Option<EntryId> {
        let (millis, sequence) = core::str::from_utf8(text).ok()?.split_once('-')?;
        let number = |digits: &str| digits.parse().ok().filter(|_| digits.bytes().all(|byte| byte.is_ascii_digit()));
        Some(EntryId { millis: number(millis)?, sequence: number(sequence)? })
    }
}

impl fmt::Display for EntryId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.millis, self.sequence)
    }
}
