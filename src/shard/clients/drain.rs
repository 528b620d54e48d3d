//! `Drain`: how far a shard has come with ending its clients, which it does evenly over a time.

use std::collections::VecDeque;

use sockring_protocol::Millis;

use super::client::ClientKey;
use sockring_protocol::portable;

/// How often a shard without clients looks whether its siblings still have some.
const LOOK_MS: u64 = 20;

/// How far a shard has come.
pub(crate) struct Drain {
    since: Millis,
    over_ms: u64,
    total: u64,
    left: VecDeque<ClientKey>,
    at: Millis,
}

portable!(struct Drain { since, over_ms, total, left, at });

impl Drain {
    /// Ends these, one after the other, within this time.
    pub(crate) fn new(left: VecDeque<ClientKey>, over_ms: u64, now: Millis) -> Drain {
        Drain { since: now, over_ms, total: left.len() as u64, left, at: now }
    }

    /// The next one whose time has come.
    pub(crate) fn next(&mut self, now: Millis) -> Option<ClientKey> {
        self.at = now;
        if !self.is_behind(now) {
            return None;
        }
        self.left.pop_front()
    }

    /// Whether more should have ended by now.
    pub(crate) fn is_behind(&self, now: Millis) -> bool {
        !self.left.is_empty() && self.next_at() <= now
    }

    /// When the next client ends.
    pub(crate) fn next_at(&self) -> Millis {
        match self.left.is_empty() {
            true => self.at + LOOK_MS,
            false => self.since + (self.total - self.left.len() as u64) * self.over_ms / self.total.max(1),
        }
    }
}
