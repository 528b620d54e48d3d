//! Returning: a CONNECT with a `pid`. The older socket ends, the answer comes first, and what was missed behind it.

use sockring_protocol::adapter::Delivery;
use sockring_protocol::json::{Entries, Value};
use sockring_protocol::socketio;

use crate::app::{Application, ConnectRequest};
use crate::shard::clients::client::{ClientKey, CloseReason, Farewell};
use crate::shard::clients::encode;
use crate::shard::hub::Hub;
use crate::shard::moving::sid::Sid;
use crate::shard::rooms::kept::Choice;
use crate::shard::rooms::receipts::Had;
use crate::shard::rooms::sockets::NamespaceId;
use crate::shard::rooms::table::USER_PREFIX;

use super::ended::EndedRooms;
use super::log::{LogReader, OtherRooms, Stay};
use super::outcome::Recovered;
use super::pid::{Holder, Pid, PidText};
use super::position::{Offset, Position};
use super::stays::{Visits, own_stays};

/// What a client that comes back gets at once; the rest follows as it reads.
const AT_ONCE_BYTES: usize = 256 << 10;

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
}

/// What a socket is told that it is.
struct SessionNames {
    /// Without recovery there is none.
    pid: Option<PidText>,
    is_recovered: bool,
    missed: Option<MissedPart>,
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
    /// Whom the `pid` of a CONNECT names. `None`: there is none; `Err`: it is not one of ours for this user.
    fn returning(&self, request: &ConnectRequest<'_>, user: Option<&str>) -> Option<Result<Returning, Recovered>> {
        let recovery = self.recovery.as_deref()?;
        let (pid, offset) = pid_and_offset(request.payload?)?;
        let holder = Holder { epoch: recovery.epoch, namespace: request.namespace, user };
        let is_here = |pid: &Pid| self.directory.is_of_ours(&pid.sid);
        let Some(pid) = recovery.signer.verify(&pid, &holder).filter(is_here) else {
            return Some(Err(Recovered::UnknownPid));
        };
        let is_possible = |offset: &Offset| {
            offset.epoch == recovery.epoch && (pid.start..=recovery.log.head()).contains(&offset.position)
        };
        // One from before the session, and a string that an event happened to end with, mean its start.
        let offset = offset.and_then(|offset| Offset::parse(&offset)).filter(is_possible);
        Some(Ok(Returning { pid, from: offset.map_or(pid.start, |offset| offset.position) }))
    }

    /// Before a socket comes into being: the one that it continues ends, if the server has not noticed yet that it is gone.
    pub(crate) fn end_older(&mut self, namespace: NamespaceId, request: &ConnectRequest<'_>, user: Option<&str>) {
        let Some(Ok(Returning { pid, .. })) = self.returning(request, user) else { return };
        let older = self.directory.socket_with(namespace, pid.sid.text().as_str());
        if let Some((key, _)) = older.and_then(|seat| self.directory.socket_at(seat)) {
            self.counters.taken_over += 1;
            self.drop_client(key, CloseReason::TakenOver, None, Farewell::Now);
        }
    }

    /// A socket is there and not told so yet. One that comes back goes on under its old name.
    pub(crate) fn resume_name(&mut self, key: ClientKey, place: u16, request: &ConnectRequest<'_>, user: Option<&str>) {
        if let (Some(Ok(Returning { pid, from })), Some(recovery)) = (self.returning(request, user), &self.recovery)
            && recovery.log.reaches_back_to(from)
        {
            self.directory.set_alias(pid.sid, (key.0.index, place));
        }
    }

    /// Tells a socket that it is connected, and sends it what it has missed.
    pub(crate) fn answer_connect(&mut self, key: ClientKey, place: u16, request: &ConnectRequest<'_>) -> Answered {
        let Some(socket) = self.directory.socket(key, place) else { return Answered::Anew };
        let (namespace, random) = (socket.namespace, socket.random);
        let SessionNames { pid, is_recovered, missed } = self.session(key, place, request);
        let sid = self.directory.sid_of(key, place, random).text();
        let (sid, pid) = (sid.as_str(), pid.as_ref().map(PidText::as_str));
        let frames = encode::message(&mut self.scratch, |out| match pid {
            None => socketio::encode_connect(request.namespace, sid, out),
            Some(pid) => socketio::encode_connect_with_pid(request.namespace, sid, pid, out),
        });
        self.push(key, frames, Delivery::Queue);
        if let Some(MissedPart { from, start, stays, others }) = missed {
            // What was kept before that comes first, as it came first.
            self.hold_back((key.0.index, place), from);
            let choice = if is_recovered { Choice::Offered } else { Choice::All };
            self.send_kept(key, place, Had { place: 0, log_from: start, reached: from, choice });
            self.catch_up_from(key, place, from, LogReader { namespace, stays: &stays, others, now: self.now.at });
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
            None => return SessionNames { pid: None, is_recovered: false, missed: None },
            Some(recovery) => recovery.log.head(),
        };
        let returning = self.returning(request, user);
        if let (Some(Ok(Returning { pid, from })), Some(room)) = (&returning, &user_room) {
            self.confirm_kept(room, pid.sid, *from);
        }
        let (result, start, missed) = match returning {
            None => (None, head, None),
            Some(Err(result)) => (Some(result), head, None),
            Some(Ok(Returning { pid, from })) => match self.regain(key, place, pid.sid, from) {
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
        let pid = self.directory.socket_at(seat).and_then(|(_, socket)| {
            let recovery = self.recovery.as_deref()?;
            let holder = Holder { epoch: recovery.epoch, namespace: request.namespace, user };
            let sid = self.directory.sid_of(key, place, socket.random);
            Some(recovery.signer.sign(Pid { sid, start }, &holder))
        });
        SessionNames { pid, is_recovered, missed }
    }

    /// Puts a socket that comes back into the rooms that it was in besides its user's, and says when it was in which.
    fn regain(&mut self, key: ClientKey, place: u16, sid: Sid, from: Position) -> Result<Vec<Stay>, Recovered> {
        let seat = (key.0.index, place);
        let Some(recovery) = self.recovery.as_deref_mut() else { return Err(Recovered::TooOld) };
        if !recovery.log.reaches_back_to(from) {
            return Err(Recovered::TooOld);
        }
        let namespace = self.directory.socket(key, place).map_or(NamespaceId(0), |socket| socket.namespace);
        let (joined, left) = match recovery.ended.take(namespace, &sid, from) {
            Some(EndedRooms::Known { joined, left }) => (joined, left),
            _ => return Err(Recovered::RoomsUnknown),
        };
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
