//! `Model`: who has to have got what: all that was emitted, by the sessions that it was for.

use std::collections::{BTreeMap, BTreeSet};

use sockring::shard::{OffsetForm, RecoverySettings};
use sockring_protocol::adapter::Broadcast;

use super::client::Client;
use super::lobby::Welcome;

/// An event that a backend sent.
pub(crate) struct Emitted<'a> {
    number: u64,
    rooms: &'a [Box<str>],
    except: &'a [Box<str>],
    conflate: Option<&'a str>,
    keeping: EmitKeeping,
}

/// Whether an event waits for its user until somebody has received it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum EmitKeeping {
    No,
    Yes,
}

impl<'a> Emitted<'a> {
    pub(crate) fn new(number: u64, broadcast: &'a Broadcast, keeping: EmitKeeping) -> Emitted<'a> {
        let Broadcast { rooms, except, conflate, .. } = broadcast;
        Emitted { number, rooms, except, conflate: conflate.as_deref(), keeping }
    }
}

/// An event that a session has to get.
#[derive(Clone, Debug)]
struct ExpectedEmit {
    number: u64,
    conflate: Option<String>,
    /// It is for whoever has this user, whatever rooms the session was in.
    is_own: bool,
}

/// From an answer with `recovered: false` on, by its sid.
#[derive(Debug)]
struct Session {
    user: String,
    rooms: BTreeSet<String>,
    expected: Vec<ExpectedEmit>,
    /// What the session before it has not got of its user's events: it comes first, or not at all.
    inherited: Vec<ExpectedEmit>,
    /// What was kept for its user when it began: some of it comes before all else.
    mailbox: Vec<u64>,
    /// How many of those have come, or were passed over.
    mailbox_got: usize,
    /// How many of them have come, or been replaced by one that has.
    got: usize,
    /// The last event's marker has not come: it may come again after a break.
    unmarked: Option<u64>,
    may_repeat: Option<u64>,
    /// It was taken out of its namespace while it was in rooms.
    is_gone: bool,
    /// It began with what another one had missed, and has not read its own greeting: which rooms it was in is not known.
    is_heir: bool,
    /// It began so: where a text that is no offset brings it back to, the rooms of the one before it are not known.
    began_as_heir: bool,
    began_at: u64,
}

pub(crate) struct Model {
    form: OffsetForm,
    window_ms: u64,
    /// Nothing is forgotten before its time.
    has_room: bool,
    count: u64,
    received: u64,
    sessions: BTreeMap<String, Session>,
    kept: Vec<KeptEvent>,
    /// When each event was emitted.
    emitted_at: BTreeMap<u64, u64>,
}

/// An event that was kept.
#[derive(Debug)]
struct KeptEvent {
    number: u64,
    user: String,
    /// All that is to get it has to get it.
    is_plain: bool,
    is_received: bool,
}

/// Of so many sockets of a user it is known what they have got of what is kept.
const SOCKETS_KNOWN: usize = 4;

impl Model {
    pub(crate) fn new(settings: &RecoverySettings) -> Model {
        let (form, window_ms, has_room) = (settings.offset, settings.window_ms, settings.bytes_max > 100_000);
        Model {
            form,
            window_ms,
            has_room,
            count: 0,
            received: 0,
            sessions: BTreeMap::new(),
            kept: Vec::new(),
            emitted_at: BTreeMap::new(),
        }
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.count += 1;
        self.count
    }

    pub(crate) fn received(&self) -> u64 {
        self.received
    }

    pub(crate) fn on_welcome(&mut self, welcome: Welcome, clients: &[Client], now: u64) {
        let client = &clients[welcome.client];
        if welcome.is_recovered {
            let session = self.sessions.get(&welcome.sid).expect("a session that there was");
            assert!(!session.is_gone, "recovered although its rooms are gone");
            return;
        }
        let before = client.sid.as_ref().and_then(|sid| self.sessions.get(sid));
        let is_rootless = |session: &Session| session.is_heir || session.began_as_heir && !client.has_offset();
        let is_gone = before.is_some_and(|session| session.is_gone || is_rootless(session));
        // Whoever was still reading what it had missed before, or had not begun to, has missed more than since it left.
        let missing = before.and_then(|before| before.expected.get(before.got));
        let missing_since = missing.and_then(|missing| self.emitted_at.get(&missing.number)).copied();
        // A text that is no offset means where the session began.
        let begun_at = before.filter(|_| !client.has_offset()).map(|before| before.began_at);
        let got_until = missing_since.unwrap_or(now).min(client.left_at).min(client.marked_at);
        let away_ms = now - begun_at.unwrap_or(now).min(got_until);
        let has_reason = before.is_none() || is_gone || !self.has_room || away_ms > self.window_ms;
        assert!(has_reason, "{} was away for {away_ms} ms and is not recovered", client.user);
        let own = before.map_or(Vec::new(), |before| {
            let rest = &before.expected[if client.has_offset() { before.got } else { 0 }..];
            let mut missed = [&before.inherited, rest].concat();
            missed.retain(|expected| expected.is_own);
            missed
        });
        // Where only its rooms are gone, what its user missed comes all the same.
        let is_known = is_gone && self.has_room && away_ms <= self.window_ms;
        let (expected, inherited) = if is_known { (own, Vec::new()) } else { (Vec::new(), own) };
        let of_user = self.kept.iter().filter(|event| event.user == client.user);
        let mailbox = of_user.map(|event| event.number).collect();
        let session = Session {
            mailbox,
            mailbox_got: 0,
            user: client.user.clone(),
            rooms: BTreeSet::new(),
            expected,
            inherited,
            got: 0,
            unmarked: None,
            may_repeat: before.and_then(|before| before.unmarked),
            is_gone: false,
            is_heir: before.is_some(),
            began_as_heir: before.is_some(),
            began_at: now,
        };
        assert!(self.sessions.insert(welcome.sid, session).is_none(), "a sid twice");
    }

    /// A client has read the answer to its CONNECT.
    pub(crate) fn on_answer(&mut self, client: &Client, is_recovered: bool) {
        let session = self.session(client);
        if is_recovered {
            session.may_repeat = session.unmarked;
            if !client.has_offset() {
                // All of it comes again, from the session's start.
                (session.got, session.mailbox_got, session.may_repeat) = (0, 0, None);
            }
        }
    }

    fn session(&mut self, client: &Client) -> &mut Session {
        self.sessions.get_mut(client.sid.as_deref().expect("a connected client")).expect("its session")
    }

    pub(crate) fn on_emit(&mut self, emitted: &Emitted<'_>, now: u64) {
        self.emitted_at.insert(emitted.number, now);
        if let (EmitKeeping::Yes, [room]) = (emitted.keeping, emitted.rooms) {
            self.kept.push(KeptEvent {
                number: emitted.number,
                user: room.trim_start_matches("user:").to_owned(),
                is_plain: emitted.except.is_empty() && emitted.conflate.is_none(),
                is_received: false,
            });
        }
        for session in self.sessions.values_mut() {
            let user = format!("user:{}", session.user);
            let is_in = |room: &str| session.rooms.contains(room) || *room == *user;
            if emitted.except.iter().any(|room| is_in(room))
                || !(emitted.rooms.is_empty() || emitted.rooms.iter().any(|room| is_in(room)))
            {
                continue;
            }
            let is_own = emitted.rooms.is_empty() || emitted.rooms.iter().any(|room| **room == *user);
            let is_own = is_own && emitted.except.is_empty();
            let conflate = emitted.conflate.map(str::to_owned);
            session.expected.push(ExpectedEmit { number: emitted.number, conflate, is_own });
        }
    }

    pub(crate) fn on_join(&mut self, sid: &str, room: &str) {
        self.sessions.get_mut(sid).expect("a session").rooms.insert(room.to_owned());
    }

    pub(crate) fn on_leave(&mut self, sid: &str, room: &str) {
        self.sessions.get_mut(sid).expect("a session").rooms.remove(room);
    }

    pub(crate) fn on_disconnect(&mut self, sid: &str) {
        let session = self.sessions.get_mut(sid).expect("a session");
        session.is_gone |= !session.rooms.is_empty();
        session.rooms.clear();
    }

    pub(crate) fn on_received(&mut self, client: &Client, number: u64) {
        self.received += 1;
        let form = self.form;
        if let Some(event) = self.kept.iter_mut().find(|event| event.number == number) {
            event.is_received = true;
        }
        let sockets = self.sessions.values().filter(|session| session.user == client.user).count();
        let session = self.session(client);
        if session.take_kept(number, sockets) {
            return;
        }
        if session.may_repeat.take() == Some(number) && form == OffsetForm::Packet {
            session.unmarked = Some(number);
            return;
        }
        if session.inherited.iter().any(|expected| expected.number == number) {
            let inherited = std::mem::take(&mut session.inherited);
            session.expected.splice(0..0, inherited);
        }
        let rest = &session.expected[session.got..];
        let place = rest.iter().position(|expected| expected.number == number);
        let place = place
            .unwrap_or_else(|| panic!("{} got {number}, which is not for it or came before: {session:?}", client.user));
        // What is passed over has been replaced by a newer one.
        for (skipped, expected) in rest[..place].iter().enumerate() {
            let newer = rest[skipped + 1..].iter().any(|newer| newer.conflate == expected.conflate);
            assert!(
                expected.conflate.is_some() && newer,
                "{} got {number} and missed {}",
                client.user,
                expected.number
            );
        }
        session.got += place + 1;
        session.unmarked = Some(number);
    }

    /// A client has read its greeting, and the marker of it.
    pub(crate) fn on_greeted(&mut self, client: &Client) {
        let session = self.session(client);
        session.is_heir = false;
        // It would have come before.
        session.inherited.clear();
    }

    pub(crate) fn on_marked(&mut self, client: &Client) {
        self.session(client).unmarked = None;
    }

    /// What was kept for who is there has been received by somebody.
    pub(crate) fn check_kept(&self, clients: &[Client]) {
        for event in &self.kept {
            let has_clients = clients.iter().any(|client| client.user == event.user);
            assert!(event.is_received || !event.is_plain || !has_clients, "nobody has got {event:?}");
        }
    }

    /// All that was for a connected client has come.
    pub(crate) fn check_complete(&self, client: &Client) {
        let session = &self.sessions[client.sid.as_ref().expect("it is connected")];
        let missing: Vec<_> = session.expected[session.got..].iter().map(|expected| expected.number).collect();
        assert!(missing.is_empty(), "{} has not got {missing:?}", client.user);
    }

    /// There are no more sockets than sessions: one for each `pid`.
    pub(crate) fn check_takeovers(&self, sockets: u64) {
        assert!(sockets <= self.sessions.len() as u64, "{sockets} sockets of {} sessions", self.sessions.len());
    }
}

impl Session {
    /// Whether an event is one that was kept from before the session: those come once, in order, and before all else.
    fn take_kept(&mut self, number: u64, sockets: usize) -> bool {
        // What so many have had queued is not known of each.
        let is_crowded = sockets > SOCKETS_KNOWN;
        let is_expected = self.expected[self.got..].iter().any(|expected| expected.number == number);
        let Some(place) = self.mailbox.iter().position(|kept| *kept == number).filter(|_| !is_expected) else {
            return false;
        };
        // The connection may have broken before its marker came.
        let is_repeated = self.may_repeat == Some(number);
        assert!(
            place >= self.mailbox_got || is_repeated || is_crowded,
            "{} got {number} again, or too late: {:?}",
            self.user,
            self.mailbox
        );
        assert!(
            self.got == 0 || is_crowded || self.is_heir,
            "{} got {number} behind what came later: {self:?}",
            self.user
        );
        self.mailbox_got = place + 1;
        self.unmarked = Some(number);
        // It may as well be the first of what the session before has not got.
        if let Some(at) = self.inherited.iter().position(|expected| expected.number == number) {
            let (before, rest) = self.inherited.split_at(at);
            let is_replaced = |expected: &ExpectedEmit| {
                expected.conflate.is_some() && rest.iter().any(|newer| newer.conflate == expected.conflate)
            };
            match before.iter().all(is_replaced) {
                true => drop(self.inherited.drain(..=at)),
                false => self.inherited.clear(),
            }
        }
        true
    }
}
