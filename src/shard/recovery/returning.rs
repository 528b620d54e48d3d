//! Returning: a CONNECT with a `pid`. The older socket ends, the answer comes first, and what was missed behind it.

use sockring_protocol::adapter::Delivery;
use sockring_protocol::json::{Entries, Value};
use sockring_protocol::socketio;

use crate::app::{Application, ConnectRequest};
use crate::shard::clients::client::{ClientKey, CloseReason, Farewell};
use crate::shard::clients::encode;
use crate::shard::hub::Hub;
use crate::shard::mail::FoundSession;
use crate::shard::moving::sid::Sid;
use crate::shard::rooms::acks;
use crate::shard::rooms::kept::Choice;
use crate::shard::rooms::receipts::Had;
use crate::shard::rooms::sockets::{NamespaceId, Seat};
use crate::shard::rooms::table::USER_PREFIX;

use super::ended::EndedRooms;
use super::log::{LogReader, OtherRooms, Stay};
use super::outcome::Recovered;
use super::pid::{Holder, Pid};
use super::position::{Offset, Position};
use super::sharing::is_of_node;
use super::stays::{Visits, own_stays};

/// What a client that comes back gets at once; the rest follows as it reads.
const AT_ONCE_BYTES: usize = 256 << 10;
/// By how much Redis' clock may be ahead of ours: who has got later events than those has not got them at all.
const CLOCKS_APART_MS: u64 = 60_000;

/// What a socket was sent with the answer to its CONNECT.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Answered {
    /// Nothing: it begins.
    Anew,
    /// What its user has missed; what it was in besides is not known any more.
    WithMissed,
    /// All that it has missed.
    Recovered,
}

/// Who comes back, and up to where it has got everything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Returning {
    pid: Pid,
    from: Position,
    proof: Proof,
}

/// How it is known whose a session is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Proof {
    /// The `pid` is signed, by this shard or by another server like us.
    Signed,
    /// The session of a Node server names the user.
    Session,
    /// A Node server that is gone has left no session: only the user's own events may have been missed.
    Token,
}

impl Returning {
    /// Whether the socket goes on under its old name, if it can.
    fn keeps_name(&self) -> bool {
        self.proof != Proof::Token
    }
}

/// What a socket is told that it is.
struct SessionNames {
    /// Without recovery there is none.
    pid: Option<Box<str>>,
    is_recovered: bool,
    missed: Option<MissedPart>,
    /// The session that it goes on with.
    continued: Option<Sid>,
}

/// Which part of the log a socket has missed.
struct MissedPart {
    /// Behind what it has got.
    from: Position,
    /// Where its session began: what was emitted before is not in the log for it.
    start: Position,
    stays: Vec<Stay>,
    others: OtherRooms,
}

impl<A: Application> Hub<A> {
    /// Whom the `pid` of a CONNECT names, which is to have this seat. `None`: there is none; `Err`: it is nobody's, for this user.
    fn returning(
        &self,
        request: &ConnectRequest<'_>,
        user: Option<&str>,
        seat: Option<Seat>,
    ) -> Option<Result<Returning, Recovered>> {
        let recovery = self.recovery.as_deref()?;
        let sessions = recovery.sessions.as_deref();
        let (text, offset) = pid_and_offset(request.payload?)?;
        let head = match sessions {
            None => recovery.log.head(),
            // It may have been where more was read.
            Some(_) => recovery.log.head().max(Position::of_millis(self.now.unix_ms + CLOCKS_APART_MS)),
        };
        let is_possible = |offset: &Offset| offset.epoch == recovery.epoch && offset.position <= head;
        let offset = offset.and_then(|offset| Offset::parse(&offset)).filter(is_possible).map(|offset| offset.position);
        let holder = Holder { epoch: recovery.epoch, namespace: request.namespace, user };
        if let Some(pid) = recovery.signer.verify(&text, &holder) {
            if sessions.is_none() && !self.directory.is_of_ours(&pid.sid) {
                return Some(Err(Recovered::UnknownPid));
            }
            // One from before the session, and a string that an event happened to end with, mean its start.
            let from = offset.filter(|offset| *offset >= pid.start).unwrap_or(pid.start);
            return Some(Ok(Returning { pid, from, proof: Proof::Signed }));
        }
        let found = seat.and_then(|seat| sessions?.found(seat));
        let returning = offset.filter(|_| is_of_node(&text)).and_then(|from| of_node(&text, user, from, found));
        Some(returning.ok_or(Recovered::UnknownPid))
    }

    /// The `pid` of a CONNECT, if others may know of its session.
    pub(super) fn shared_pid(&self, request: &ConnectRequest<'_>) -> Option<Box<str>> {
        let sessions = self.recovery.as_deref()?.sessions.as_deref()?;
        if sessions.knows_past() && !self.membership.bus_is_up() {
            return None;
        }
        let (text, _) = pid_and_offset(request.payload?)?;
        (Pid::is_like(&text) || is_of_node(&text)).then(|| text.into())
    }

    /// Before a socket comes into being, or is told so: the one that it continues ends, if the server has not noticed yet that it
    /// is gone.
    pub(crate) fn end_older(
        &mut self,
        namespace: NamespaceId,
        request: &ConnectRequest<'_>,
        user: Option<&str>,
        seat: Option<Seat>,
    ) {
        let Some(Ok(returning)) = self.returning(request, user, seat) else { return };
        if !returning.keeps_name() {
            return;
        }
        let older = self.directory.socket_with(namespace, returning.pid.sid.text().as_str());
        let older = older.filter(|older| Some(*older) != seat);
        if let Some((key, _)) = older.and_then(|seat| self.directory.socket_at(seat)) {
            self.counters.taken_over += 1;
            self.drop_client(key, CloseReason::TakenOver, None, Farewell::Now);
        }
    }

    /// A socket is there and not told so yet. One that comes back goes on under its old name.
    pub(crate) fn resume_name(&mut self, key: ClientKey, place: u16, request: &ConnectRequest<'_>, user: Option<&str>) {
        let seat = (key.0.index, place);
        if let (Some(Ok(returning)), Some(recovery)) = (self.returning(request, user, Some(seat)), &self.recovery)
            && returning.keeps_name()
            && recovery.log.reaches_back_to(returning.from)
        {
            self.directory.set_alias(returning.pid.sid, seat);
        }
    }

    /// Tells a socket that it is connected, and sends it what it has missed.
    pub(crate) fn answer_connect(&mut self, key: ClientKey, place: u16, request: &ConnectRequest<'_>) -> Answered {
        let Some(socket) = self.directory.socket(key, place) else { return Answered::Anew };
        let (namespace, random) = (socket.namespace, socket.random);
        let SessionNames { pid, is_recovered, missed, continued } = self.session(key, place, request);
        let sid = self.directory.sid_of(key, place, random).text();
        let (sid, pid) = (sid.as_str(), pid.as_deref());
        let frames = encode::message(&mut self.scratch, |out| match pid {
            None => socketio::encode_connect(request.namespace, sid, out),
            Some(pid) => socketio::encode_connect_with_pid(request.namespace, sid, pid, out),
        });
        self.push(key, frames, Delivery::Queue);
        if let Some(MissedPart { from, start, stays, others }) = missed {
            self.go_ahead((key.0.index, place), from);
            // What was kept before that comes first, as it came first.
            self.hold_back((key.0.index, place), from);
            let is_shared = self.recovery.as_deref().is_some_and(|recovery| recovery.sessions.is_some());
            // Its session may have begun elsewhere, where nobody knew of what is kept here.
            let choice = if is_recovered && !is_shared { Choice::Offered } else { Choice::All };
            self.send_kept(key, place, Had { place: 0, log_from: start, reached: from, choice });
            self.catch_up_from(key, place, from, LogReader { namespace, stays: &stays, others, now: self.now.at });
            if let Some(sid) = continued {
                let part = if is_recovered { acks::MissedState::Queued } else { acks::MissedState::Unknown };
                self.bring_asked_back(key, place, sid, part);
            }
            return if is_recovered { Answered::Recovered } else { Answered::WithMissed };
        }
        Answered::Anew
    }

    /// Which session a socket has: the one that it comes back to, or a new one.
    fn session(&mut self, key: ClientKey, place: u16, request: &ConnectRequest<'_>) -> SessionNames {
        let seat = (key.0.index, place);
        let user = self.directory.socket(key, place).and_then(|socket| socket.user);
        let user_room: Option<Box<str>> = user.map(|user| self.membership.name(user.room()).into());
        let user = user_room.as_deref().and_then(|room| room.strip_prefix(USER_PREFIX));
        let head = match &self.recovery {
            None => return SessionNames { pid: None, is_recovered: false, missed: None, continued: None },
            Some(recovery) => recovery.log.told(),
        };
        let returning = self.returning(request, user, Some(seat));
        let continued = match &returning {
            Some(Ok(Returning { pid, .. })) => Some(pid.sid),
            _ => None,
        };
        let found =
            self.recovery.as_deref_mut().and_then(|recovery| recovery.sessions.as_deref_mut()?.take_found(seat));
        if let (Some(Ok(Returning { pid, from, .. })), Some(room)) = (&returning, &user_room) {
            self.confirm_kept(room, pid.sid, *from);
        }
        let is_elsewhere = matches!(&returning, Some(Ok(Returning { proof: Proof::Session, .. })));
        let (result, start, missed) = match returning {
            None => (None, head, None),
            Some(Err(result)) => (Some(result), head, None),
            Some(Ok(Returning { pid, from, .. })) => match self.regain(key, place, pid.sid, from, found.as_ref()) {
                Err(Recovered::RoomsUnknown) => {
                    if let Some(recovery) = self.recovery.as_deref_mut() {
                        // Until it has got further than here, which rooms it was in stays unknown.
                        recovery.stays.restore(seat, Visits { stays: Vec::new(), known_from: head });
                    }
                    let own = own_stays(user_room.clone(), pid.sid);
                    // The missed events are of its session: an offset among them is a part of it.
                    let part = MissedPart { from, start: pid.start, stays: own, others: OtherRooms::Unknown };
                    (Some(Recovered::RoomsUnknown), from, Some(part))
                }
                Err(result) => (Some(result), head, None),
                Ok(stays) => {
                    let own = own_stays(user_room.clone(), pid.sid);
                    let (stays, others) = ([own, stays].concat(), OtherRooms::None);
                    (Some(Recovered::Yes), pid.start, Some(MissedPart { from, start: pid.start, stays, others }))
                }
            },
        };
        if let Some(result) = result {
            self.counters.count_recovery(result);
        }
        let is_recovered = result == Some(Recovered::Yes);
        if !is_recovered {
            self.forget_name(key, place);
        }
        let signed = self.directory.socket_at(seat).and_then(|(_, socket)| {
            let recovery = self.recovery.as_deref()?;
            let holder = Holder { epoch: recovery.epoch, namespace: request.namespace, user };
            let sid = self.directory.sid_of(key, place, socket.random);
            Some(Box::from(recovery.signer.sign(Pid { sid, start }, &holder).as_str()))
        });
        let (mut pid, mut data) = (signed, user.map_or_else(|| b"null".as_slice().into(), user_data));
        if let Some(FoundSession::Known(session)) = found.filter(|_| is_recovered) {
            data = session.data;
            if is_elsewhere {
                // The client takes it for its own by its `pid`.
                pid = Some(session.pid);
            }
        }
        if let (Some(pid), Some(recovery)) = (&pid, self.recovery.as_deref_mut())
            && let Some(sessions) = recovery.sessions.as_deref_mut()
        {
            sessions.begin(seat, pid.clone(), data, self.now.at);
        }
        SessionNames { pid, is_recovered, missed, continued }
    }

    /// Puts a socket that comes back into the rooms that it was in besides its user's, and says when it was in which.
    fn regain(
        &mut self,
        key: ClientKey,
        place: u16,
        sid: Sid,
        from: Position,
        found: Option<&FoundSession>,
    ) -> Result<Vec<Stay>, Recovered> {
        let seat = (key.0.index, place);
        let is_of_ours = self.directory.is_of_ours(&sid);
        let Some(recovery) = self.recovery.as_deref_mut() else { return Err(Recovered::TooOld) };
        let knows_past = recovery.sessions.as_deref().is_none_or(|sessions| sessions.knows_past() || is_of_ours);
        if !recovery.log.reaches_back_to(from) || !knows_past {
            return Err(Recovered::TooOld);
        }
        let (namespace, user) = match self.directory.socket(key, place) {
            Some(socket) => (socket.namespace, socket.user.map(|user| self.membership.name(user.room()))),
            None => (NamespaceId(0), None),
        };
        let known = recovery.ended.take(namespace, &sid, from);
        let rooms = match found {
            // It may have been elsewhere since.
            Some(FoundSession::Known(session)) => self.rooms_of_session(session, user),
            Some(FoundSession::Nothing) => None,
            Some(FoundSession::Unknown) | None => known.filter(|_| is_of_ours),
        };
        let Some(EndedRooms::Known { joined, left }) = rooms else { return Err(Recovered::RoomsUnknown) };
        if left.known_from > from {
            return Err(Recovered::RoomsUnknown);
        }
        let Some(recovery) = self.recovery.as_deref_mut() else { return Err(Recovered::TooOld) };
        let mut stays = left.stays.clone();
        recovery.stays.restore(seat, left);
        for stay in joined {
            let room = stay.room.as_deref().and_then(|name| self.enter(key, place, name));
            let Some(room) = room else { return Err(Recovered::RoomsUnknown) };
            if let Some(recovery) = self.recovery.as_deref_mut()
                && stay.from > recovery.log.floor()
            {
                recovery.stays.rejoin(seat, room, stay.from);
            }
            stays.push(stay);
        }
        Ok(stays)
    }

    /// A socket that was elsewhere may have had more than was read here by now.
    fn go_ahead(&mut self, seat: Seat, from: Position) {
        if let Some(recovery) = self.recovery.as_deref_mut().filter(|recovery| recovery.log.head() < from)
            && let Some(sessions) = recovery.sessions.as_deref_mut()
        {
            sessions.put_ahead(seat, from);
        }
    }

    /// A socket was to go on under its old name, and cannot.
    fn forget_name(&mut self, key: ClientKey, place: u16) {
        if self.directory.has_alias(key, place) {
            self.unsubscribe_sid(key, place);
            self.directory.forget_alias(key, place);
            self.subscribe_sid(key, place);
        }
    }

    /// Queues what was delivered to some rooms behind a position; what is too much at once follows.
    fn catch_up_from(&mut self, key: ClientKey, place: u16, from: Position, reader: LogReader<'_>) {
        if self.directory.socket(key, place).is_none() {
            // There was no room for the answer, behind what waits for another socket of the client.
            return;
        }
        let bytes = match reader.others {
            OtherRooms::None => AT_ONCE_BYTES.min(self.settings.queue_bytes_max / 2),
            // What follows later is for the rooms that it is in then.
            OtherRooms::Unknown => usize::MAX,
        };
        let is_known = reader.others == OtherRooms::None;
        if is_known && self.receipts.is_behind(key, place) {
            // It follows when it has what was kept before.
            return;
        }
        let seat = (key.0.index, place);
        let Some(recovery) = self.recovery.as_deref_mut() else { return };
        let missed = recovery.log.since(from, reader, bytes);
        match missed.through < recovery.log.head() {
            true => recovery.behind.put(seat, missed.through),
            false => recovery.behind.remove(seat),
        }
        self.counters.recovered_events += missed.events.len() as u64;
        self.queue_missed(key, place, missed.events);
    }
}

/// Who comes back from a Node server, and had got everything up to `from`.
fn of_node(pid: &str, user: Option<&str>, from: Position, found: Option<&FoundSession>) -> Option<Returning> {
    let user_room = user.map(|user| [USER_PREFIX, user].concat());
    match found? {
        FoundSession::Known(session) => {
            let is_of_user = match &user_room {
                Some(user) => session.rooms.iter().any(|room| **room == **user),
                None => !session.rooms.iter().any(|room| room.starts_with(USER_PREFIX)),
            };
            let sid = Sid::parse(&session.sid).filter(|_| is_of_user && *session.pid == *pid)?;
            Some(Returning { pid: Pid { sid, start: Position::default() }, from, proof: Proof::Session })
        }
        // No socket has this sid.
        FoundSession::Nothing if user.is_some() => {
            Some(Returning { pid: Pid { sid: Sid::parse(pid)?, start: from }, from, proof: Proof::Token })
        }
        FoundSession::Nothing | FoundSession::Unknown => None,
    }
}

/// What a Node server has as `socket.data` of a socket that comes from here.
fn user_data(user: &str) -> Box<[u8]> {
    serde_json::json!({ "userId": user }).to_string().into_bytes().into()
}

/// The strings that the stock client puts into the payload of a CONNECT.
fn pid_and_offset(payload: &str) -> Option<(String, Option<String>)> {
    // Most clients come for the first time.
    if !payload.contains("\"pid\"") {
        return None;
    }
    let (mut pid, mut offset) = (None, None);
    for (key, value) in Entries::of(payload) {
        let text = || Value::decode(value).ok()?.string().map(std::borrow::Cow::into_owned);
        match &*key {
            "pid" => pid = text(),
            "offset" => offset = text(),
            _ => {}
        }
    }
    Some((pid?, offset))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_payload_says_who_comes_back_and_how_far_it_got() {
        for (payload, expected) in [
            (r#"{"token":"x"}"#, None),
            (r#"{"token":"\"pid\""}"#, None),
            (r#"{"pid":7,"offset":"~a"}"#, None),
            (r#"{"pid":"P"}"#, Some(("P", None))),
            (r#"{"pid":"P","offset":null}"#, Some(("P", None))),
            (r#"{"pid":"P","offset":"~a","token":"x"}"#, Some(("P", Some("~a")))),
            // As JSON.parse has it, the last one counts.
            (r#"{"pid":"P","offset":"~a","pid":"Q"}"#, Some(("Q", Some("~a")))),
        ] {
            let expected = expected.map(|(pid, offset)| (pid.to_owned(), offset.map(str::to_owned)));
            assert_eq!(pid_and_offset(payload), expected, "{payload}");
        }
    }
}
