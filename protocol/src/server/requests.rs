//! What requests do: handshakes, polls, POSTs and upgrades, in the words of the reference.

use alloc::vec::Vec;

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;

use super::connection::{ConnectionStage, SessionRequest, WebSocketRole};
use super::session::ServerSession;
use super::{ConnectionId, Server, ServerEvent, SessionId};
use crate::Millis;
use crate::engineio::{EnginePacket, Input, OpenPacket, Payload, SessionEnd, Step, Transport, Upgrades};
use crate::http::{BodyDecoder, KeepAlive, Method, Response};
use crate::websocket::UpgradeError;

pub(super) const TEXT: &str = "text/plain; charset=UTF-8";
pub(super) const JSON: &str = "application/json";

/// Why a request is answered with 400 (engine.io 6.6, `Server.errors`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RequestRefusal {
    UnknownTransport,
    UnknownSession,
    BadMethod,
    BadRequest,
    UnsupportedRevision,
}

impl RequestRefusal {
    pub(super) fn body(self) -> &'static [u8] {
        match self {
            RequestRefusal::UnknownTransport => br#"{"code":0,"message":"Transport unknown"}"#,
            RequestRefusal::UnknownSession => br#"{"code":1,"message":"Session ID unknown"}"#,
            RequestRefusal::BadMethod => br#"{"code":2,"message":"Bad handshake method"}"#,
            RequestRefusal::BadRequest => br#"{"code":3,"message":"Bad request"}"#,
            RequestRefusal::UnsupportedRevision => br#"{"code":5,"message":"Unsupported protocol version"}"#,
        }
    }
}

impl Server {
    /// The reference's checks in the reference's order: transport, sid, method, revision.
    pub(super) fn on_request(&mut self, id: ConnectionId, request: &SessionRequest, now: Millis) {
        if !request.is_for_sessions {
            return self.answer(id, 404, "", request.after());
        }
        if request.method != Method::Post && request.has_body() {
            return self.refuse(id, RequestRefusal::BadRequest, request);
        }
        let Some(transport) = request.transport else {
            return self.refuse(id, RequestRefusal::UnknownTransport, request);
        };
        let Some(sid) = &request.sid else { return self.on_handshake(id, transport, request, now) };
        let Some(session) = self.find(sid) else { return self.refuse(id, RequestRefusal::UnknownSession, request) };
        let carried_by = self.sessions.get(&session).map(|session| session.machine.transport());
        match (&request.upgrade, transport) {
            (Some(_), _) if !request.is_revision_4 => self.refuse(id, RequestRefusal::UnsupportedRevision, request),
            (Some(upgrade), Transport::WebSocket) => match upgrade {
                Ok(key) => {
                    let is_accepted = self.step(session, Input::Probe, now) == Step::Accept;
                    if let Some(connection) = self.connection(id) {
                        connection.upgrade(key, session, WebSocketRole::Probe);
                        if !is_accepted {
                            // As the reference does: a client takes a refused handshake for a fault, a closed one for an answer.
                            connection.close_websocket();
                        }
                    }
                    if is_accepted && let Some(session) = self.sessions.get_mut(&session) {
                        session.probe = Some(id);
                    }
                }
                Err(error) => self.refuse_upgrade(id, *error),
            },
            (None, Transport::Polling) if carried_by == Some(Transport::Polling) => match request.method {
                Method::Get => self.on_poll(id, session, request, now),
                Method::Post => self.on_post(id, session, request, now),
                _ => self.refuse(id, RequestRefusal::BadRequest, request),
            },
            _ => self.refuse(id, RequestRefusal::BadRequest, request),
        }
    }

    pub(super) fn find(&self, sid: &str) -> Option<SessionId> {
        self.sessions.iter().find(|(_, session)| session.sid == sid).map(|(id, _)| *id)
    }

    pub(super) fn on_handshake(
        &mut self,
        id: ConnectionId,
        transport: Transport,
        request: &SessionRequest,
        now: Millis,
    ) {
        if request.method != Method::Get {
            return self.refuse(id, RequestRefusal::BadMethod, request);
        }
        if (transport == Transport::WebSocket) != request.upgrade.is_some() {
            return self.refuse(id, RequestRefusal::BadRequest, request);
        }
        if !request.is_revision_4 {
            return self.refuse(id, RequestRefusal::UnsupportedRevision, request);
        }
        if let Some(Err(error)) = &request.upgrade {
            return self.refuse_upgrade(id, *error);
        }
        let session = SessionId(self.number());
        let mut opened =
            ServerSession::open(transport, BASE64_URL_SAFE_NO_PAD.encode((self.random)()), now, &self.settings);
        let times = &self.settings.times;
        let upgrades = if transport == Transport::Polling { Upgrades::WebSocket } else { Upgrades::None };
        let mut packet = Vec::new();
        OpenPacket {
            sid: &opened.sid,
            upgrades,
            ping_interval_ms: times.ping_interval_ms,
            ping_timeout_ms: times.ping_timeout_ms,
            payload_bytes_max: self.settings.message.message_bytes_max as u64,
        }
        .encode(&mut packet);
        if let Some(connection) = self.connection(id) {
            match &request.upgrade {
                Some(Ok(key)) => {
                    connection.upgrade(key, session, WebSocketRole::Transport);
                    connection.send(&packet);
                    opened.socket = Some(id);
                }
                _ => connection.answer(200, TEXT, &packet, request.keep_alive),
            }
        }
        self.sessions.insert(session, opened);
        self.events.push(ServerEvent::Opened { session, transport });
    }

    pub(super) fn on_poll(&mut self, id: ConnectionId, session: SessionId, request: &SessionRequest, now: Millis) {
        match self.step(session, Input::Poll, now) {
            Step::Accept => {
                if let Some(connection) = self.connection(id) {
                    connection.stage = ConnectionStage::Held { session, keep_alive: request.keep_alive };
                }
                if let Some(session) = self.sessions.get_mut(&session) {
                    session.poll = Some(id);
                }
                self.flush(session, now);
            }
            Step::End(SessionEnd::ClientClose) => {
                if let Some(connection) = self.connection(id) {
                    connection.answer(200, TEXT, b"6", request.keep_alive);
                }
            }
            _ => self.refuse(id, RequestRefusal::BadRequest, request),
        }
    }

    pub(super) fn on_post(&mut self, id: ConnectionId, session: SessionId, request: &SessionRequest, now: Millis) {
        if self.step(session, Input::Post, now) != Step::Accept {
            return self.refuse(id, RequestRefusal::BadRequest, request);
        }
        match BodyDecoder::new(request.framing, self.settings.message.message_bytes_max) {
            Ok(decoder) => {
                if let Some(connection) = self.connection(id) {
                    connection.read_body(session, decoder, request);
                }
                if let Some(session) = self.sessions.get_mut(&session) {
                    session.post = Some(id);
                }
            }
            Err(error) => {
                self.answer(id, error.status(), error.reason(), KeepAlive::Close);
                self.step(session, Input::PostLost, now);
            }
        }
    }

    pub(super) fn on_body(
        &mut self,
        id: ConnectionId,
        session: SessionId,
        body: &[u8],
        keep_alive: KeepAlive,
        now: Millis,
    ) {
        if let Some(session) = self.sessions.get_mut(&session) {
            session.post = None;
        }
        let is_accepted = self.step(session, Input::PostComplete, now) == Step::Accept
            && self.on_payload(session, body, now) == Step::Accept;
        if let Some(connection) = self.connection(id) {
            match is_accepted {
                true => connection.answer(200, "text/html", b"ok", keep_alive),
                false => connection.answer(400, JSON, RequestRefusal::BadRequest.body(), keep_alive),
            }
        }
    }

    /// The packets of a POST: accepted, or refused with the first that is none or that a client must not send.
    pub(super) fn on_payload(&mut self, session: SessionId, body: &[u8], now: Millis) -> Step {
        let packets = core::str::from_utf8(body).map(|body| Payload::decode(body, self.settings.payload_packets_max));
        let Ok(packets) = packets else {
            self.step(session, Input::BadPacket, now);
            return Step::Refuse;
        };
        for packet in packets {
            match packet {
                Ok(EnginePacket::Ping(_)) | Err(_) => {
                    self.step(session, Input::BadPacket, now);
                    return Step::Refuse;
                }
                Ok(packet) => self.on_packet(session, packet, now),
            }
            if self.sessions.get(&session).is_none_or(|session| session.machine.is_ending()) {
                break;
            }
        }
        Step::Accept
    }

    pub(super) fn answer(&mut self, id: ConnectionId, status: u16, words: &str, keep_alive: KeepAlive) {
        if let Some(connection) = self.connection(id) {
            connection.answer(status, TEXT, words.as_bytes(), keep_alive);
        }
    }

    pub(super) fn refuse(&mut self, id: ConnectionId, refusal: RequestRefusal, request: &SessionRequest) {
        if let Some(connection) = self.connection(id) {
            connection.answer(400, JSON, refusal.body(), request.after());
        }
    }

    pub(super) fn refuse_upgrade(&mut self, id: ConnectionId, error: UpgradeError) {
        if let Some(connection) = self.connection(id) {
            connection.encode(&Response {
                status: error.status(),
                content_type: TEXT,
                headers: error.headers(),
                cors: b"",
                body: error.reason().as_bytes(),
                keep_alive: KeepAlive::Close,
            });
        }
    }
}
