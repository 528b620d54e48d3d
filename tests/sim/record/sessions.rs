//! Sessions that their clients come back to: what each has to get since its start, wherever its client is meanwhile.

use std::collections::{BTreeMap, BTreeSet};

use sockring_protocol::adapter::{Broadcast, Delivery};

use super::Record;
use super::emits::number_of;

/// Clients of users whose names begin so come back.
const WANDERERS: char = 'r';

/// One session: a socket as its client knows it, over all connections.
#[derive(Debug)]
struct Session {
    shard: usize,
    namespace: String,
    user: String,
    /// Those of the socket when it ended last.
    rooms: BTreeSet<String>,
    left_at: u64,
    /// What was delivered to its rooms since it began, in order, with the time.
    events: Vec<Remembered>,
}

/// One event that a session has to get.
#[derive(Clone, Debug)]
pub struct Remembered {
    pub number: u64,
    pub at: u64,
    conflate: Option<Box<str>>,
    /// It was for the user's room, its own or everybody, and not for rooms that the session was put into.
    is_for_user: bool,
}

/// All sessions by sid.
#[derive(Debug, Default)]
pub struct Sessions {
    by_sid: BTreeMap<String, Session>,
    /// Emits that are not repeated, and may come or not.
    volatile: BTreeSet<u64>,
    /// For how long every emit has to be remembered for a client that is away; 0: that is not known.
    window_ms: u64,
    /// All `pid`s, with their users.
    pids: Vec<(String, String)>,
}

pub fn is_wanderer(user: &str) -> bool {
    user.starts_with(WANDERERS)
}

impl Record {
    /// A socket is there: that of a session which goes on, with its rooms, or of a new one.
    pub(super) fn begin_session(&mut self, sid: &str, shard: usize, namespace: &str, user: &str) -> BTreeSet<String> {
        let own = BTreeSet::from([format!("{}{user}", sockring::shard::USER_PREFIX)]);
        if !is_wanderer(user) {
            return own;
        }
        let new = || Session {
            shard,
            namespace: namespace.to_owned(),
            user: user.to_owned(),
            rooms: own,
            left_at: 0,
            events: Vec::new(),
        };
        let session = self.sessions.by_sid.entry(sid.to_owned()).or_insert_with(new);
        assert_eq!((&*session.user, &*session.namespace), (user, namespace), "somebody has another's session");
        assert_eq!(session.shard, shard, "a session goes on at another shard");
        session.rooms.clone()
    }

    /// The socket of a session has ended.
    pub(super) fn leave_session(&mut self, sid: &str, rooms: &BTreeSet<String>) {
        if let Some(session) = self.sessions.by_sid.get_mut(sid) {
            session.rooms.clone_from(rooms);
            session.left_at = self.now;
        }
    }

    pub fn remember_for(&mut self, window_ms: u64) {
        self.sessions.window_ms = window_ms;
    }

    /// Sessions that an emit has to be remembered for, once it is answered.
    pub(super) fn sessions_owed(&self, broadcast: &Broadcast) -> BTreeSet<String> {
        let mut owed = self.sessions_for(broadcast, None);
        owed.retain(|sid| {
            let is_lately = self.now < self.sessions.by_sid[sid].left_at + self.sessions.window_ms / 2;
            self.sessions.window_ms > 0 && (self.live.contains_key(sid) || is_lately)
        });
        owed
    }

    pub fn on_pid(&mut self, user: &str, pid: &str) {
        self.sessions.pids.push((user.to_owned(), pid.to_owned()));
    }

    /// A `pid` of somebody else, by any number.
    pub fn pid_of_another(&self, user: &str, number: usize) -> Option<String> {
        let others: Vec<_> = self.sessions.pids.iter().filter(|(owner, _)| owner != user).collect();
        others.get(number % others.len().max(1)).map(|(_, pid)| pid.clone())
    }

    /// Sessions that an emit is for, of one shard or all.
    fn sessions_for(&self, broadcast: &Broadcast, shard: Option<usize>) -> BTreeSet<String> {
        let for_it = self.sessions.by_sid.iter().filter(|(sid, session)| {
            let rooms = self.live.get(*sid).map_or(&session.rooms, |socket| &socket.rooms);
            let is_in = |names: &[Box<str>]| names.iter().any(|name| **name == ***sid || rooms.contains(&**name));
            shard.is_none_or(|shard| session.shard == shard)
                && session.namespace == *broadcast.namespace
                && (broadcast.rooms.is_empty() || is_in(&broadcast.rooms))
                && !is_in(&broadcast.except)
        });
        for_it.map(|(sid, _)| sid.clone()).collect()
    }

    /// A shard delivers a broadcast.
    pub fn on_remembered(&mut self, broadcast: &Broadcast, shard: usize) {
        let number = number_of(broadcast);
        if broadcast.delivery == Delivery::Volatile {
            self.sessions.volatile.insert(number);
            return;
        }
        for sid in self.sessions_for(broadcast, Some(shard)) {
            let session = self.sessions.by_sid.get_mut(&sid).expect("just found");
            let own_room = format!("{}{}", sockring::shard::USER_PREFIX, session.user);
            let is_own = |name: &str| name == own_room || name == sid;
            let is_for_user = broadcast.rooms.is_empty() || broadcast.rooms.iter().any(|name| is_own(name));
            let conflate = broadcast.conflate.clone();
            session.events.push(Remembered { number, at: self.now, conflate, is_for_user });
        }
    }

    /// Whether a session has, or will get, an event.
    pub(super) fn is_remembered(&self, sid: &str, number: u64) -> bool {
        self.sessions.by_sid[sid].events.iter().any(|event| event.number == number)
    }

    /// A client got an event of its session, of which it had so many: how many it has now. `None`: it may not get this.
    pub fn on_session_event(&self, sid: &str, had: usize, number: u64) -> Option<usize> {
        let events = &self.sessions.by_sid[sid].events;
        if self.sessions.volatile.contains(&number) {
            return Some(had);
        }
        let at = had + events[had..].iter().position(|event| event.number == number)?;
        let skipped = (had..at).find(|place| has_to_come(events, *place));
        assert!(skipped.is_none(), "{sid} got {number} and not {:?}", skipped.map(|place| &events[place]));
        Some(at + 1)
    }

    /// A client whose session did not go on got an event that its user has missed, when it had so many of that session: how many
    /// it has now.
    pub fn on_missed_event(&self, sid: &str, had: usize, number: u64) -> Option<usize> {
        let session = &self.sessions.by_sid[sid];
        let place = session.events[had..].iter().position(|event| event.number == number && event.is_for_user)?;
        Some(had + place + 1)
    }

    /// The oldest event that a client which has got so many of its session has still to get.
    pub fn missing(&self, sid: &str, had: usize) -> Option<&Remembered> {
        let events = &self.sessions.by_sid.get(sid)?.events;
        (had..events.len()).find(|place| has_to_come(events, *place)).map(|place| &events[place])
    }
}

/// Whether an event is not under the key of a newer one.
fn has_to_come(events: &[Remembered], place: usize) -> bool {
    let key = &events[place].conflate;
    key.is_none() || !events[place + 1..].iter().any(|newer| newer.conflate == *key)
}
