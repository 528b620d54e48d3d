//! What the rules of a session have done: packets delivered, pings sent, probes answered, ends told.

use super::connection::ConnectionStage;
use super::requests::{JSON, RequestRefusal, TEXT};
use super::session::ServerSession;
use super::{ConnectionId, OwnedData, Server, ServerEvent, SessionId};
use crate::Millis;
use crate::engineio::{Data, EnginePacket, Input, PacketType, ProbePacket, SessionEnd, Step};
use crate::http::KeepAlive;

impl Server {
    pub(super) fn on_packet(&mut self, session: SessionId, packet: EnginePacket<'_>, now: Millis) {
        if self.step(session, Input::Packet(PacketType::of(&packet)), now) == Step::Deliver
            && let EnginePacket::Message(data) = packet
        {
            let message = match data {
                Data::Text(text) => OwnedData::Text(text.into()),
                Data::Binary(bytes) => OwnedData::Binary(bytes.into_owned()),
            };
            self.events.push(ServerEvent::Message { session, message });
        }
    }

    pub(super) fn on_probe(&mut self, session: SessionId, packet: ProbePacket, now: Millis) {
        match self.step(session, Input::ProbePacket(packet), now) {
            Step::AnswerProbe => {
                let probe = self.sessions.get(&session).and_then(|session| session.probe);
                if let Some(connection) = probe.and_then(|id| self.connection(id)) {
                    connection.send(b"3probe");
                }
                self.release_poll(session, now);
            }
            Step::Upgraded => {
                let Some(upgraded) = self.sessions.get_mut(&session) else { return };
                upgraded.socket = upgraded.probe.take();
                let (socket, poll) = (upgraded.socket, upgraded.poll.take());
                if let Some(connection) = socket.and_then(|id| self.connection(id)) {
                    connection.become_transport();
                }
                if let Some(id) = poll {
                    self.answer_poll(id, 400, JSON, RequestRefusal::BadRequest.body());
                }
                self.events.push(ServerEvent::Upgraded { session });
                self.flush(session, now);
            }
            Step::DropProbe => self.drop_probe(session),
            _ => {}
        }
    }

    pub(super) fn drop_probe(&mut self, session: SessionId) {
        let probe = self.sessions.get_mut(&session).and_then(|session| session.probe.take());
        if let Some(connection) = probe.and_then(|id| self.connection(id)) {
            connection.close_websocket();
        }
    }

    pub(super) fn expire_session(&mut self, id: SessionId, now: Millis) {
        while let Some(session) = self.sessions.get_mut(&id) {
            match session.machine.expire(now, &self.settings.times) {
                Step::SendPing => {
                    session.push(OwnedData::Text("2".into()), usize::MAX);
                    self.flush(id, now);
                }
                Step::ReleasePoll => self.release_poll(id, now),
                // The caller has passed on all that has come, so there is nothing to look for.
                Step::Suspect => drop(self.step(id, Input::Silent, now)),
                Step::SuspectProbe => {
                    if self.step(id, Input::ProbeSilent, now) == Step::DropProbe {
                        self.drop_probe(id);
                    }
                }
                Step::End(end) => self.end(id, end),
                _ => return,
            }
        }
    }

    /// Tells the session's rules what happened, and ends it if they say so.
    pub(super) fn step(&mut self, id: SessionId, input: Input, now: Millis) -> Step {
        let Some(session) = self.sessions.get_mut(&id) else { return Step::Refuse };
        let step = session.machine.receive(input, now, &self.settings.times);
        if let Step::End(end) = step {
            self.end(id, end);
        }
        step
    }

    pub(super) fn end(&mut self, id: SessionId, end: SessionEnd) {
        let Some(ended) = self.sessions.remove(&id) else { return };
        self.events.push(ServerEvent::Closed { session: id, end });
        self.dismiss(ended, if end == SessionEnd::ClientClose { b"6" } else { b"1" });
    }

    /// Tells the connections of a session that it is over.
    pub(super) fn dismiss(&mut self, session: ServerSession, last_packet: &[u8]) {
        if let Some(id) = session.poll {
            self.answer_poll(id, 200, TEXT, last_packet);
        }
        if let Some(connection) = session.post.and_then(|id| self.connection(id)) {
            connection.answer(400, JSON, RequestRefusal::UnknownSession.body(), KeepAlive::Close);
        }
        for id in [session.socket, session.probe].into_iter().flatten() {
            if let Some(connection) = self.connection(id) {
                connection.close_websocket();
            }
        }
    }

    /// Writes what waits for a client, if there is a way to it.
    pub(super) fn flush(&mut self, id: SessionId, now: Millis) {
        let Some(session) = self.sessions.get_mut(&id) else { return };
        if session.is_idle() {
            return;
        }
        if let Some(socket) = session.socket {
            let queued = session.take_queue();
            if let Some(connection) = self.connection(socket) {
                queued.iter().for_each(|message| connection.send_message(message));
            }
        } else if let Some(poll) = session.poll.take() {
            let payload = session.take_payload();
            self.answer_poll(poll, 200, TEXT, &payload);
            self.step(id, Input::PollAnswered, now);
        }
    }

    /// The GET that waits is answered, with a noop if there is nothing else.
    pub(super) fn release_poll(&mut self, id: SessionId, now: Millis) {
        let Some(session) = self.sessions.get_mut(&id) else { return };
        let Some(poll) = session.poll.take() else { return };
        let payload = if session.is_idle() { b"6".to_vec() } else { session.take_payload() };
        self.answer_poll(poll, 200, TEXT, &payload);
        self.step(id, Input::PollAnswered, now);
    }

    pub(super) fn answer_poll(&mut self, id: ConnectionId, status: u16, content_type: &str, body: &[u8]) {
        if let Some(connection) = self.connection(id)
            && let ConnectionStage::Held { keep_alive, .. } = connection.stage
        {
            connection.answer(status, content_type, body, keep_alive);
            if connection.has_input() {
                self.ready.push(id);
            }
        }
    }
}
