//! `Sessions`: what all servers of one stream know of each other's sockets, so that a client may come back to any of them.
//!
//! ```text
//!    a CONNECT with a pid   FindSession ──► the socket waits ──► Session, or its time is over ──► answered
//!    a socket               KeepSession when it begins, when its rooms change, now and then, and when it ends
//! ```
//!
//! It is kept from the beginning, and not only at the end: a process that is killed cannot say who was there.

use std::collections::VecDeque;

use foldhash::fast::RandomState;
use hashbrown::HashMap;
use sockring_protocol::Millis;

use crate::shard::clients::client::ClientKey;
use crate::shard::effects::SessionQuestion;
use crate::shard::mail::FoundSession;
use crate::shard::moving::sid::RANDOM_BYTES;
use crate::shard::relay::{carried, maps};
use crate::shard::rooms::sockets::Seat;
use sockring_protocol::portable;

use super::position::Position;

/// No longer than this does a CONNECT wait for what is known elsewhere, and for what was delivered before this process came.
const FOUND_WITHIN_MS: u64 = 500;
const PAST_WITHIN_MS: u64 = 2_000;
/// For how long a socket that is there is known to others, and when they are told again.
pub(super) const LIVE_MS: u64 = 1_800_000;
const RENEWED_AFTER_MS: u64 = 600_000;

/// A socket whose CONNECT waits for what is known of its session.
pub(super) struct AwaitingSession {
    pub(super) client: ClientKey,
    pub(super) place: u16,
    pub(super) random: [u8; RANDOM_BYTES],
    pub(super) payload: Option<Box<str>>,
}

portable!(struct AwaitingSession { client, place, random, payload });

/// A session that others know of.
struct Shared {
    pid: Box<str>,
    /// What a Node server keeps with it, as JSON.
    data: Box<[u8]>,
    /// Of the renewal that counts.
    renewal: u64,
}

portable!(struct Shared { pid, data, renewal });

/// The sessions of a shard's sockets, as others know of them.
#[derive(Default)]
pub(crate) struct Sessions {
    /// What was delivered before this process came is known: who was elsewhere then has missed nothing.
    knows_past: bool,
    /// Those that are looked for when it is.
    unasked: Vec<(u64, Box<str>)>,
    shared: HashMap<Seat, Shared, RandomState>,
    /// In the order of their times; some are over.
    renewals: VecDeque<(Millis, Seat, u64)>,
    renewed: u64,
    /// Those of which something new is to be told.
    changed: Vec<Seat>,
    awaiting: HashMap<u64, AwaitingSession, RandomState>,
    /// In the order in which their time is over.
    awaiting_until: VecDeque<(Millis, u64)>,
    asked: u64,
    /// Of sockets that have still to be answered.
    found: HashMap<Seat, FoundSession, RandomState>,
    /// Sockets that were elsewhere told of more than was read here by now.
    ahead: HashMap<Seat, Position, RandomState>,
}

carried!(Sessions {
    knows_past, unasked, shared by maps, renewals, renewed, changed, awaiting by maps, awaiting_until, asked, found by maps,
    ahead by maps,
});

impl Sessions {
    pub(super) fn knows_past(&self) -> bool {
        self.knows_past
    }

    /// A socket waits for what others know of this `pid`. `None`: they are asked when the past is known.
    pub(super) fn ask(&mut self, waiting: AwaitingSession, pid: Box<str>, now: Millis) -> Option<SessionQuestion> {
        self.asked += 1;
        let number = self.asked;
        self.awaiting.insert(number, waiting);
        let within_ms = if self.knows_past { FOUND_WITHIN_MS } else { PAST_WITHIN_MS };
        self.awaiting_until.push_back((now + within_ms, number));
        if !self.knows_past {
            self.unasked.push((number, pid));
            return None;
        }
        Some(SessionQuestion { number, pid })
    }

    /// The past is known: what may be asked now.
    pub(super) fn on_past(&mut self) -> impl Iterator<Item = SessionQuestion> + use<> {
        self.knows_past = true;
        std::mem::take(&mut self.unasked).into_iter().map(|(number, pid)| SessionQuestion { number, pid })
    }

    /// Who waited for this answer, if it comes in time.
    pub(super) fn answered(&mut self, number: u64) -> Option<AwaitingSession> {
        let waiting = self.awaiting.remove(&number);
        while self.awaiting_until.front().is_some_and(|(_, number)| !self.awaiting.contains_key(number)) {
            self.awaiting_until.pop_front();
        }
        waiting
    }

    /// A number for which there is no more time.
    pub(super) fn late(&mut self, now: Millis) -> Option<u64> {
        self.awaiting_until.front().filter(|(until, _)| *until <= now).map(|(_, number)| *number)
    }

    pub(super) fn find(&mut self, seat: Seat, found: FoundSession) {
        self.found.insert(seat, found);
    }

    /// What was found of the session that a socket goes on with; `None`: nobody was asked.
    pub(super) fn found(&self, seat: Seat) -> Option<&FoundSession> {
        self.found.get(&seat)
    }

    pub(super) fn take_found(&mut self, seat: Seat) -> Option<FoundSession> {
        self.found.remove(&seat)
    }

    /// A socket is told what it comes back with.
    pub(super) fn begin(&mut self, seat: Seat, pid: Box<str>, data: Box<[u8]>, now: Millis) {
        self.renewed += 1;
        self.shared.insert(seat, Shared { pid, data, renewal: self.renewed });
        self.renewals.push_back((now + RENEWED_AFTER_MS, seat, self.renewed));
        self.changed.push(seat);
    }

    /// What a socket comes back with, and what a Node server keeps with it.
    pub(super) fn of(&self, seat: Seat) -> Option<(&str, &[u8])> {
        self.shared.get(&seat).map(|shared| (&*shared.pid, &*shared.data))
    }

    /// A socket's rooms are others.
    pub(super) fn on_change(&mut self, seat: Seat) {
        if self.shared.contains_key(&seat) {
            self.changed.push(seat);
        }
    }

    /// A socket is over.
    pub(super) fn end(&mut self, seat: Seat) {
        self.shared.remove(&seat);
        self.found.remove(&seat);
        self.ahead.remove(&seat);
    }

    /// The sockets of which something new is to be told, each once.
    pub(super) fn take_changed(&mut self, now: Millis) -> Vec<Seat> {
        while let Some((_, seat, renewal)) = self.renewals.front().copied().filter(|(at, ..)| *at <= now) {
            self.renewals.pop_front();
            if self.shared.get(&seat).is_some_and(|shared| shared.renewal == renewal) {
                self.changed.push(seat);
                self.renewals.push_back((now + RENEWED_AFTER_MS, seat, renewal));
            }
        }
        let mut changed = std::mem::take(&mut self.changed);
        changed.sort_unstable();
        changed.dedup();
        changed
    }

    pub(super) fn deadline(&self) -> Option<Millis> {
        let renewal = self.renewals.front().map(|(at, ..)| *at);
        let late = self.awaiting_until.front().map(|(at, _)| *at);
        [renewal, late].into_iter().flatten().min()
    }

    /// A socket has had everything up to here, whatever is still to be read.
    pub(super) fn put_ahead(&mut self, seat: Seat, position: Position) {
        self.ahead.insert(seat, position);
    }

    /// Up to where a socket has had more than was read here.
    pub(super) fn ahead(&self, seat: Seat) -> Option<Position> {
        match self.ahead.is_empty() {
            // The usual case.
            true => None,
            false => self.ahead.get(&seat).copied(),
        }
    }

    /// What is read has come to where a socket was.
    pub(super) fn overtake(&mut self, seat: Seat) {
        self.ahead.remove(&seat);
    }

    /// Whether nothing is remembered of any socket.
    #[cfg(test)]
    fn is_empty(&self) -> bool {
        self.shared.is_empty() && self.awaiting.is_empty() && self.found.is_empty() && self.ahead.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;

    use super::*;
    use crate::shard::slots::Key;

    fn waiting() -> AwaitingSession {
        let client = ClientKey(Key { index: 1, generation: NonZeroU32::MIN });
        AwaitingSession { client, place: 0, random: [0; 9], payload: None }
    }

    #[test]
    fn a_question_is_answered_once_or_too_late() {
        let mut sessions = Sessions::default();
        assert_eq!(sessions.ask(waiting(), "p".into(), Millis(0)), None);
        assert_eq!(sessions.deadline(), Some(Millis(PAST_WITHIN_MS)));
        let early: Vec<_> = sessions.on_past().map(|question| question.number).collect();
        assert!(early.len() == 1 && sessions.answered(early[0]).is_some() && sessions.is_empty());
        let asked = [0, 10].map(|at| sessions.ask(waiting(), "p".into(), Millis(at)));
        let [first, second] = asked.map(|question| question.map_or(0, |question| question.number));
        assert_eq!(sessions.deadline(), Some(Millis(FOUND_WITHIN_MS)));
        assert!(sessions.answered(first).is_some() && sessions.answered(first).is_none());
        assert_eq!((sessions.late(Millis(FOUND_WITHIN_MS)), sessions.deadline()), (None, Some(Millis(510))));
        assert_eq!(sessions.late(Millis(510)), Some(second));
        assert!(sessions.answered(second).is_some() && sessions.late(Millis(999)).is_none() && sessions.is_empty());
    }

    #[test]
    fn others_are_told_of_a_session_when_it_begins_and_changes_and_now_and_then() {
        let mut sessions = Sessions::default();
        sessions.begin((1, 0), "p".into(), (*b"null").into(), Millis(0));
        sessions.on_change((1, 0));
        sessions.on_change((2, 0));
        assert_eq!((sessions.take_changed(Millis(0)), sessions.take_changed(Millis(1))), (vec![(1, 0)], Vec::new()));
        // Another socket has its seat by then.
        sessions.end((1, 0));
        sessions.begin((1, 0), "q".into(), (*b"null").into(), Millis(5));
        assert_eq!(sessions.take_changed(Millis(5)), [(1, 0)]);
        assert!(sessions.take_changed(Millis(RENEWED_AFTER_MS)).is_empty());
        assert_eq!(sessions.take_changed(Millis(RENEWED_AFTER_MS + 5)), [(1, 0)]);
        sessions.end((1, 0));
        assert!(sessions.take_changed(Millis(9 * RENEWED_AFTER_MS)).is_empty() && sessions.is_empty());
        assert_eq!(sessions.deadline(), None);
    }
}
