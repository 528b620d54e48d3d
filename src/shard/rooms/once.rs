//! `SeenKeys`: the keys under which emits have come lately, so that one that is repeated is not a second event.
//!
//! A key is known at the home of what it is emitted to, and its emit is taken there in one turn: whoever repeats it finds
//! all of it done, or nothing. What is kept of a key does not depend on its length.

use std::collections::VecDeque;

use foldhash::fast::RandomState;
use hashbrown::HashMap;
use sockring_protocol::Millis;

use crate::shard::event_id::EventId;
use crate::shard::mail::{OnceKey, Verdict};
use crate::shard::relay::maps;
use sockring_protocol::portable;

/// Keys whose window has ended go together, so that a shard that has nothing else to do is not woken for each.
const TOGETHER_MS: u64 = 1_000;

/// An event that has come under a key.
#[derive(Clone, Copy, Debug)]
struct Known {
    id: EventId,
    print: u64,
}

portable!(struct Known { id, print });

/// The keys of a shard.
#[derive(Default)]
pub(crate) struct SeenKeys {
    known: HashMap<u128, Known, RandomState>,
    /// When each came, in order.
    order: VecDeque<(Millis, u128)>,
}

portable!(struct SeenKeys { known by maps, order });

impl SeenKeys {
    /// What an emit under this key is; `Verdict::New` has still to be remembered.
    pub(crate) fn judge(&mut self, key: &OnceKey, now: Millis, window_ms: u64) -> Verdict {
        self.expire(now, window_ms);
        match self.known.get(&key.name) {
            None => Verdict::New,
            Some(known) if known.print == key.print => Verdict::Repeated(known.id),
            Some(_) => Verdict::AnotherEvent,
        }
    }

    /// From now on the key is this event's. Says whether the oldest had to be forgotten for it.
    pub(crate) fn remember(&mut self, key: &OnceKey, id: EventId, now: Millis, keys_max: usize) -> KeyRoom {
        let mut room = KeyRoom::Enough;
        while self.order.len() >= keys_max.max(1) {
            self.forget_oldest();
            room = KeyRoom::Made;
        }
        self.known.insert(key.name, Known { id, print: key.print });
        self.order.push_back((now, key.name));
        room
    }

    /// Forgets those whose window has ended.
    pub(crate) fn expire(&mut self, now: Millis, window_ms: u64) {
        while self.order.front().is_some_and(|(at, _)| *at + window_ms <= now) {
            self.forget_oldest();
        }
    }

    /// When there will be something to forget.
    pub(crate) fn deadline(&self, window_ms: u64) -> Option<Millis> {
        self.order.front().map(|(at, _)| *at + (window_ms + TOGETHER_MS))
    }

    /// All keys, in the order in which they came, with when that was, and their events.
    pub(crate) fn all(&self) -> impl Iterator<Item = (Millis, OnceKey, EventId)> + '_ {
        self.order.iter().filter_map(|(at, name)| {
            let Known { id, print } = *self.known.get(name)?;
            Some((*at, OnceKey { name: *name, print }, id))
        })
    }

    pub(crate) fn len(&self) -> usize {
        self.order.len()
    }

    fn forget_oldest(&mut self) {
        if let Some((_, name)) = self.order.pop_front() {
            self.known.remove(&name);
        }
        if self.order.is_empty() {
            // As many will not come again soon.
            *self = SeenKeys::default();
        }
    }
}

/// What it took to remember another key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum KeyRoom {
    Enough,
    /// The oldest went.
    Made,
}

#[cfg(test)]
mod tests {
    use super::*;

    const WINDOW_MS: u64 = 100;

    fn key(name: u128, print: u64) -> OnceKey {
        OnceKey { name, print }
    }

    #[test]
    fn a_key_is_one_event_within_its_window_and_free_after_it() {
        let mut once = SeenKeys::default();
        let judge = |once: &mut SeenKeys, name, print, at| once.judge(&key(name, print), Millis(at), WINDOW_MS);
        assert_eq!(judge(&mut once, 1, 7, 0), Verdict::New);
        assert_eq!(once.remember(&key(1, 7), EventId(5), Millis(0), 9), KeyRoom::Enough);
        assert_eq!(judge(&mut once, 1, 7, 99), Verdict::Repeated(EventId(5)));
        assert_eq!(judge(&mut once, 1, 8, 99), Verdict::AnotherEvent);
        assert_eq!(judge(&mut once, 2, 7, 99), Verdict::New, "another key");
        assert_eq!((judge(&mut once, 1, 8, 100), once.len()), (Verdict::New, 0), "a repetition does not prolong it");
    }

    #[test]
    fn beyond_the_bound_the_oldest_are_forgotten() {
        let mut once = SeenKeys::default();
        let rooms: Vec<_> = (0..4).map(|name| once.remember(&key(name, 0), EventId(0), Millis(0), 2)).collect();
        assert_eq!(rooms, [KeyRoom::Enough, KeyRoom::Enough, KeyRoom::Made, KeyRoom::Made]);
        let known: Vec<_> =
            (0..4).filter(|name| once.judge(&key(*name, 0), Millis(1), WINDOW_MS) != Verdict::New).collect();
        assert_eq!((known, once.len(), once.known.len()), (vec![2, 3], 2, 2));
        assert_eq!(once.deadline(WINDOW_MS), Some(Millis(WINDOW_MS + TOGETHER_MS)));
        once.expire(Millis(WINDOW_MS), WINDOW_MS);
        assert_eq!((once.len(), once.deadline(WINDOW_MS)), (0, None));
    }
}
