//! Sharing: sessions are looked for elsewhere, and others are told of those here; and what was delivered before this process came
//! is remembered as if it had been there.

use std::sync::Arc;

use sockring_protocol::adapter::{Broadcast, Delivery, EntryId, StoredSession};

use crate::app::{Application, ConnectRequest};
use crate::shard::clients::client::ClientKey;
use crate::shard::effects::{Effect, KeptSession};
use crate::shard::hub::Hub;
use crate::shard::mail::{FoundSession, SharedPast};
use crate::shard::moving::placement::home_of;
use crate::shard::moving::sid::Sid;
use crate::shard::rooms::sockets::{Seat, SocketStage};
use crate::shard::rooms::table::USER_PREFIX;

use super::ended::EndedRooms;
use super::log::Stay;
use super::pid::Signer;
use super::position::Position;
use super::sessions::{AwaitingSession, LIVE_MS};
use super::stays::Visits;

impl<A: Application> Hub<A> {
    /// A socket that comes back waits for what others know of it; `false`: there is nobody to ask.
    pub(crate) fn session_waits(&mut self, key: ClientKey, place: u16, request: &ConnectRequest<'_>) -> bool {
        let Some(pid) = self.shared_pid(request) else { return false };
        let Some(socket) = self.directory.socket(key, place) else { return false };
        let payload = request.payload.map(Box::from);
        let waiting = AwaitingSession { client: key, place, random: socket.random, payload };
        let Some(sessions) = self.recovery.as_deref_mut().and_then(|recovery| recovery.sessions.as_deref_mut()) else {
            return false;
        };
        let question = sessions.ask(waiting, pid, self.now.at);
        self.outbound.for_bus.extend(question.map(Box::new).map(Effect::FindSession));
        true
    }

    /// What is known of a session elsewhere: whoever waited for it goes on.
    pub(crate) fn on_session(&mut self, number: u64, found: FoundSession) {
        let sessions = self.recovery.as_deref_mut().and_then(|recovery| recovery.sessions.as_deref_mut());
        let Some(sessions) = sessions else { return };
        let Some(AwaitingSession { client: key, place, random, payload }) = sessions.answered(number) else { return };
        // It may be gone, and another have its place.
        let socket = self.directory.socket(key, place);
        let Some(socket) = socket.filter(|socket| socket.stage == SocketStage::Joining && socket.random == random)
        else {
            return;
        };
        let (namespace, seat) = (socket.namespace, (key.0.index, place));
        let user = self.membership.user_of(socket).map(str::to_owned);
        sessions.find(seat, found);
        let settings = Arc::clone(&self.settings);
        let request = ConnectRequest {
            namespace: settings.namespace_name(namespace),
            payload: payload.as_deref(),
            authorization: None,
            now_unix_ms: self.now.unix_ms,
        };
        // Of one that a Node server has begun it is only known now what it is called.
        self.end_older(namespace, &request, user.as_deref(), Some(seat));
        self.resume_name(key, place, &request, user.as_deref());
        if !self.connect_waits(key, place, &request) {
            self.welcome(key, place, &request);
        }
    }

    /// Tells others what is new, and lets those go on who have waited for long enough.
    pub(crate) fn share_sessions(&mut self) {
        let now = self.now.at;
        let Some(sessions) = self.recovery.as_deref_mut().and_then(|recovery| recovery.sessions.as_deref_mut()) else {
            return;
        };
        for seat in sessions.take_changed(now) {
            let rooms = self.known_rooms(seat);
            self.share(seat, &rooms, LIVE_MS);
        }
        let sessions = |hub: &mut Self| hub.recovery.as_deref_mut()?.sessions.as_deref_mut()?.late(now);
        while let Some(number) = sessions(self) {
            self.on_session(number, FoundSession::Unknown);
        }
    }

    /// The rooms that a socket is in and was in, besides its user's.
    fn known_rooms(&self, seat: Seat) -> EndedRooms {
        let (mut joined, mut left) = (Vec::new(), Visits::default());
        if let (Some((_, socket)), Some(recovery)) = (self.directory.socket_at(seat), self.recovery.as_deref()) {
            let user = socket.user.map(|user| user.room());
            for link in socket.links.as_slice().iter().filter(|link| Some(link.room) != user) {
                let from = recovery.stays.since(seat, link.room);
                joined.push(Stay { room: Some(self.membership.name(link.room).into()), from, until: Position::MAX });
            }
            left = recovery.stays.left(seat);
        }
        EndedRooms::Known { joined, left }
    }

    /// Others are told of a socket, for so long.
    pub(super) fn share(&mut self, seat: Seat, rooms: &EndedRooms, for_ms: u64) {
        let Some(sessions) = self.recovery.as_deref().and_then(|recovery| recovery.sessions.as_deref()) else { return };
        let (Some((key, socket)), Some((pid, data))) = (self.directory.socket_at(seat), sessions.of(seat)) else {
            return;
        };
        let sid: Box<str> = self.directory.sid_of(key, seat.1, socket.random).text().as_str().into();
        let user = socket.user.map(|user| self.membership.name(user.room()).into());
        let mut names: Vec<Box<str>> = std::iter::once(sid.clone()).chain(user).collect();
        if let EndedRooms::Known { joined, .. } = rooms {
            names.extend(joined.iter().filter_map(|stay| stay.room.clone()));
        }
        let nothing = EndedRooms::Known { joined: Vec::new(), left: Visits::default() };
        let stays = (*rooms != nothing).then(|| serde_json::to_string(rooms).unwrap_or_default().into());
        let session = StoredSession { sid, pid: pid.into(), rooms: names, data: data.into(), stays };
        self.outbound.for_bus.push(Effect::KeepSession(Box::new(KeptSession { session, for_ms })));
    }

    /// The rooms of a socket that was elsewhere, besides its user's; `None`: they are not known, or what was sent to them is not.
    pub(super) fn rooms_of_session(&self, session: &StoredSession, user_room: Option<&str>) -> Option<EndedRooms> {
        let rooms = match &session.stays {
            Some(stays) => serde_json::from_str(stays).ok()?,
            None => {
                let is_own = |room: &str| room == &*session.sid || Some(room) == user_room;
                let others = session.rooms.iter().filter(|room| !is_own(room));
                let always =
                    |room: &str| Stay { room: Some(room.into()), from: Position::default(), until: Position::MAX };
                EndedRooms::Known { joined: others.map(|room| always(room)).collect(), left: Visits::default() }
            }
        };
        let EndedRooms::Known { joined, left } = &rooms else { return Some(rooms) };
        // What another user's room got goes to its home.
        let is_logged = |stay: &Stay| {
            stay.room
                .as_deref()
                .is_none_or(|room| !room.starts_with(USER_PREFIX) || home_of(room, self.shard.of) == self.shard.number)
        };
        joined.iter().chain(&left.stays).all(is_logged).then_some(rooms)
    }

    /// What was read of a stream before it is listened to.
    pub(crate) fn recall(&mut self, broadcasts: Vec<Broadcast>) {
        for broadcast in broadcasts {
            let Some(namespace) = self.settings.namespace(&broadcast.namespace) else { continue };
            let place = broadcast.entry.map(Position::of_entry);
            let is_new = self.recovery.as_deref().is_some_and(|recovery| place > Some(recovery.log.head()));
            if is_new && broadcast.delivery != Delivery::Volatile {
                self.remember_only(namespace, &broadcast);
            }
        }
    }

    /// All that is in the stream is known, from then on.
    pub(crate) fn on_past(&mut self, past: SharedPast) {
        let Some(recovery) = self.recovery.as_deref_mut() else { return };
        let Some(sessions) = recovery.sessions.as_deref_mut() else { return };
        match past {
            SharedPast::From(first) => {
                let floor = first.map_or(Position::default(), Position::of_entry);
                if floor > recovery.log.head() {
                    recovery.log.forget(floor);
                }
            }
            SharedPast::Known { secret } => {
                let questions = sessions.on_past().map(Box::new).map(Effect::FindSession);
                self.outbound.for_bus.extend(questions);
                if let Some(secret) = secret {
                    recovery.signer = Signer::new(secret.as_bytes());
                }
            }
            SharedPast::Lost => recovery.log.forget(recovery.log.head()),
        }
    }

    /// A stream was read up to here, whatever of it was for this shard.
    pub(crate) fn on_read(&mut self, through: EntryId) {
        let now = self.now.at;
        if let Some(recovery) = self.recovery.as_deref_mut().filter(|recovery| recovery.sessions.is_some()) {
            recovery.log.reach(Position::of_entry(through), now);
        }
    }

    /// Whether a socket has had an event at this position elsewhere, before it came here.
    #[inline]
    pub(crate) fn has_had(&mut self, seat: Seat, position: Option<Position>, delivery: Delivery) -> bool {
        let Some(sessions) = self.recovery.as_deref_mut().and_then(|recovery| recovery.sessions.as_deref_mut()) else {
            return false;
        };
        match (sessions.ahead(seat), position) {
            (None, _) => false,
            // What says how far the shard has got would take it back.
            (Some(_), None) => delivery == Delivery::Volatile,
            (Some(ahead), Some(position)) if position <= ahead => true,
            (Some(_), Some(_)) => {
                sessions.overtake(seat);
                false
            }
        }
    }
}

/// Whether this has the form of a `pid` that a Node server makes.
pub(super) fn is_of_node(pid: &str) -> bool {
    // 15 random bytes, as its sids.
    Sid::parse(pid).is_some()
}
