//! Requests under the Engine.IO path: handshake, poll, post, upgrade, and how each may be refused.

use core::net::IpAddr;

use sockring_protocol::engineio::{Transport, Upgrades};
use sockring_protocol::http::{
    BodyDecoder, CONTINUE, Framing, Head, KeepAlive, Method, OriginDecision, Origins, Upgrade,
};
use sockring_protocol::websocket::{self, Opcode, encode_close, encode_frame};

use crate::app::{Application, Layer};
use crate::capacity::Rate;
use crate::shard::Shard;
use crate::shard::clients::client::{ClientKey, ConnectionKey, FirstRequest, Role};
use crate::shard::clients::directory::Found;
use crate::shard::clients::polling::{PollOutcome, PostOutcome};
use crate::shard::clients::probe::ProbeAdmission;
use crate::shard::effects::Destination;
use crate::shard::faults::UnknownSid;
use crate::shard::limit::Limit;
use crate::shard::moving::sid::Instance;
use crate::shard::settings::Elsewhere;

use super::stage::{HttpStage, ReplyHead, WebSocketStage};

/// What a request head leads to.
pub(crate) enum Outcome {
    /// The answer is among the connection's pending bytes.
    Answered(KeepAlive),
    ReadBody(ClientKey, BodyDecoder, ReplyHead),
    Hold(ClientKey, ReplyHead),
    Upgrade(WebSocketStage),
    HandOver(Destination),
}

/// The reference's refusals by their codes.
const TRANSPORT_UNKNOWN: u8 = 0;
const SESSION_UNKNOWN: u8 = 1;
const BAD_METHOD: u8 = 2;
const BAD_REQUEST: u8 = 3;
const FORBIDDEN: u8 = 4;
const UNSUPPORTED_REVISION: u8 = 5;

impl<A: Application> Shard<A> {
    /// One request head has come.
    pub(in crate::shard) fn on_request(
        &mut self,
        key: ConnectionKey,
        head: &Head<'_>,
        stage: &mut HttpStage,
    ) -> Outcome {
        let bearer = match std::mem::take(&mut stage.is_forwarded) {
            true => Bearer::Sibling,
            false if stage.is_tunnelled => Bearer::Neighbour,
            false => Bearer::Client,
        };
        let is_guest = self.is_guest(key);
        let settings = &self.hub.settings;
        if A::LAYER == Layer::WebSocket {
            return match is_guest {
                true => {
                    let reply = self.reply_head(head);
                    self.answer_no_room(key, &reply)
                }
                false => self.on_plain_websocket(key, head),
            };
        }
        if !settings.is_engine_path(head.path) {
            return match settings.elsewhere {
                // Another instance brings requests of sessions alone; to the API it is nobody.
                Elsewhere::HandOver if !stage.is_tunnelled => Outcome::HandOver(Destination::Api),
                _ => self.answer_not_found(key, head),
            };
        }
        let reply = self.reply_head(head);
        // A body that nobody reads would be taken for the next request.
        if head.method != Method::Post && !matches!(head.framing, Framing::None | Framing::Length(0)) {
            return self.refuse(key, head, 400, BAD_REQUEST, &reply);
        }
        let is_preflight = head.method == Method::Options;
        if is_preflight && !matches!(settings.cors.origins, Origins::SameOrigin) {
            return self.answer_preflight(key, head);
        }
        if !is_preflight && settings.cors.decide(head.origin(), head.host()) == OriginDecision::Refused {
            self.hub.refuse_origin(head.origin().unwrap_or_default());
            return self.refuse(key, head, 403, FORBIDDEN, &reply);
        }
        let target = self.verify(head, bearer);
        if matches!(target, Ok(RequestSubject::Session(_) | RequestSubject::Upgrade(_))) {
            stage.stranger = None;
        }
        match target {
            Ok(RequestSubject::Handshake(_) | RequestSubject::Upgrade(_)) if is_guest => {
                self.answer_no_room(key, &reply)
            }
            Ok(RequestSubject::Handshake(transport)) => {
                let address = settings.proxies.client_address(stage.peer, head.header_values("x-forwarded-for"));
                if !self.hub.capacity.admit(Rate::Handshakes, address, self.hub.now.at) {
                    self.hub.counters.hit(Limit::HandshakesPerMinuteMax);
                    return self.answer_busy(key, 429, "60", "too many connections from this address", &reply);
                }
                stage.stranger = None;
                match transport {
                    Transport::Polling => self.open_polling(key, head, address, reply),
                    Transport::WebSocket => self.open_websocket(key, head, address, &reply),
                }
            }
            Ok(RequestSubject::Elsewhere(shard)) => Outcome::HandOver(Destination::Shard(shard)),
            Ok(RequestSubject::Abroad(_)) if is_guest => self.answer_no_room(key, &reply),
            Ok(RequestSubject::Abroad(instance)) => {
                let address = settings.proxies.client_address(stage.peer, head.header_values("x-forwarded-for"));
                match self.hub.capacity.has_left(Rate::UnknownSids, address, self.hub.now.at) {
                    true => Outcome::HandOver(Destination::Instance(instance)),
                    false => self.answer_too_many_unknown(key, &reply),
                }
            }
            Ok(RequestSubject::Upgrade(client)) => self.upgrade(key, head, client, &reply),
            Ok(RequestSubject::Session(client)) => match head.method {
                // Those that wait would leave no seat for those that are only answered.
                Method::Get if is_guest && self.has_too_many_guests() => self.answer_no_room(key, &reply),
                Method::Get => self.poll(key, client, reply),
                Method::Post => self.post(key, head, client, reply),
                _ => self.refuse(key, head, 400, BAD_REQUEST, &reply),
            },
            Err(Denial::Unknown(reason)) => {
                self.hub.counters.count_unknown_sid(reason);
                if reason == UnknownSid::OtherInstance {
                    self.hub.tell_of_stray(stage.peer);
                }
                let settings = &self.hub.settings;
                let address = settings.proxies.client_address(stage.peer, head.header_values("x-forwarded-for"));
                match self.hub.capacity.admit(Rate::UnknownSids, address, self.hub.now.at) {
                    true => self.refuse(key, head, 400, SESSION_UNKNOWN, &reply),
                    false => self.answer_too_many_unknown(key, &reply),
                }
            }
            Err(Denial::Code(code)) => self.refuse(key, head, 400, code, &reply),
        }
    }

    fn answer_too_many_unknown(&mut self, key: ConnectionKey, reply: &ReplyHead) -> Outcome {
        self.hub.counters.hit(Limit::UnknownSidsPerMinuteMax);
        self.answer_busy(key, 429, "60", "too many unknown sessions from this address", reply)
    }

    /// The reference's checks in the reference's order: transport, sid, method, revision.
    fn verify(&self, head: &Head<'_>, bearer: Bearer) -> Result<RequestSubject, Denial> {
        let transport = match head.query.value("transport").as_deref() {
            Some("polling") => Transport::Polling,
            Some("websocket") => Transport::WebSocket,
            _ => return Err(Denial::Code(TRANSPORT_UNKNOWN)),
        };
        let revision = head.query.value("EIO");
        let is_upgrade = head.upgrade == Upgrade::WebSocket;
        if let Some(sid) = head.query.value("sid") {
            let client = match self.hub.directory.find(&sid) {
                Found::Here(client) => client,
                Found::Moved(shard) => return Ok(RequestSubject::Elsewhere(shard)),
                // Whoever sent it here read that its session is here.
                Found::Elsewhere(shard) if bearer != Bearer::Sibling => return Ok(RequestSubject::Elsewhere(shard)),
                Found::Elsewhere(_) => return Err(Denial::Unknown(UnknownSid::Gone)),
                // What another instance has brought goes no further.
                Found::Abroad(instance) if bearer == Bearer::Client && self.hub.neighbours.contains(&instance) => {
                    return Ok(RequestSubject::Abroad(instance));
                }
                Found::Abroad(_) => return Err(Denial::Unknown(UnknownSid::OtherInstance)),
                Found::Nowhere(reason) => return Err(Denial::Unknown(reason)),
            };
            // A session that is over may only fetch its last packets.
            let is_poll = !is_upgrade && transport == Transport::Polling && head.method == Method::Get;
            if !self.hub.is_alive(client) && !is_poll {
                return Err(Denial::Unknown(UnknownSid::Ended));
            }
            return match (is_upgrade, transport, self.hub.transport(client)) {
                // A session keeps the revision that it began with.
                (true, ..) if revision.as_deref() != Some("4") => Err(Denial::Code(UNSUPPORTED_REVISION)),
                (true, Transport::WebSocket, _) => Ok(RequestSubject::Upgrade(client)),
                (false, Transport::Polling, Some(Transport::Polling)) => Ok(RequestSubject::Session(client)),
                _ => Err(Denial::Code(BAD_REQUEST)),
            };
        }
        if head.method != Method::Get {
            return Err(Denial::Code(BAD_METHOD));
        }
        if (transport == Transport::WebSocket) != is_upgrade {
            return Err(Denial::Code(BAD_REQUEST));
        }
        if revision.as_deref() != Some("4") {
            return Err(Denial::Code(UNSUPPORTED_REVISION));
        }
        Ok(RequestSubject::Handshake(transport))
    }

    /// The log has the address of the peer where there is none that a request counts for.
    fn note_address(&mut self, key: ConnectionKey, client: ClientKey) {
        let peer = self.diary.account(key.0.index).address;
        self.hub.diary.note(client.0.index, |account| account.address = account.address.or(peer));
    }

    fn open_polling(
        &mut self,
        key: ConnectionKey,
        head: &Head<'_>,
        address: Option<IpAddr>,
        reply: ReplyHead,
    ) -> Outcome {
        let Some(client) = self.hub.open(Transport::Polling, None, handshake_of(head, address)) else {
            return self.answer_full(key, &reply);
        };
        self.note_address(key, client);
        let mut body = Vec::new();
        self.hub.open_packet(client, Upgrades::WebSocket, &mut body);
        self.answer_payload(key, &body, &reply);
        self.after_answer(head, &reply)
    }

    fn open_websocket(
        &mut self,
        key: ConnectionKey,
        head: &Head<'_>,
        address: Option<IpAddr>,
        reply: &ReplyHead,
    ) -> Outcome {
        let accept = match websocket::AcceptKey::of(head) {
            Ok(accept) => accept,
            Err(error) => return self.refuse_upgrade(key, error),
        };
        let Some(client) = self.hub.open(Transport::WebSocket, Some(key), handshake_of(head, address)) else {
            return self.answer_full(key, reply);
        };
        self.note_address(key, client);
        let mut open = Vec::new();
        self.hub.open_packet(client, Upgrades::None, &mut open);
        if let Some(connection) = self.connections.get_mut(key.0) {
            accept.encode_response(&reply.cors, connection.pending());
            encode_frame(Opcode::Text, &open, connection.pending());
        }
        self.mark_dirty(key);
        Outcome::Upgrade(WebSocketStage::new(client, Role::Transport))
    }

    fn upgrade(&mut self, key: ConnectionKey, head: &Head<'_>, client: ClientKey, reply: &ReplyHead) -> Outcome {
        let accept = match websocket::AcceptKey::of(head) {
            Ok(accept) => accept,
            Err(error) => return self.refuse_upgrade(key, error),
        };
        let probe = self.hub.on_probe(client, key);
        self.mark_dirty(key);
        let Some(connection) = self.connections.get_mut(key.0) else { return Outcome::Answered(KeepAlive::Close) };
        accept.encode_response(&reply.cors, connection.pending());
        if probe == ProbeAdmission::Refused {
            // As the reference does: a client library takes a refused handshake for a fault, a closed one for an answer.
            encode_close(None, "", connection.pending());
            return Outcome::Answered(KeepAlive::Close);
        }
        Outcome::Upgrade(WebSocketStage::new(client, Role::Probe))
    }

    /// For an application on `Layer::WebSocket`: any path, no session below.
    fn on_plain_websocket(&mut self, key: ConnectionKey, head: &Head<'_>) -> Outcome {
        if head.upgrade != Upgrade::WebSocket {
            return self.answer_not_found(key, head);
        }
        let accept = match websocket::AcceptKey::of(head) {
            Ok(accept) => accept,
            Err(error) => return self.refuse_upgrade(key, error),
        };
        let Some(client) = self.hub.open(Transport::WebSocket, Some(key), None) else {
            let reply = self.reply_head(head);
            return self.answer_full(key, &reply);
        };
        if let Some(connection) = self.connections.get_mut(key.0) {
            accept.encode_response(b"", connection.pending());
        }
        self.mark_dirty(key);
        Outcome::Upgrade(WebSocketStage::new(client, Role::Transport))
    }

    pub(in crate::shard) fn poll(&mut self, key: ConnectionKey, client: ClientKey, reply: ReplyHead) -> Outcome {
        match self.hub.on_poll(client, key) {
            PollOutcome::Held => Outcome::Hold(client, reply),
            PollOutcome::Answer(payload) => {
                self.answer_payload(key, &payload, &reply);
                Outcome::Answered(reply.keep_alive)
            }
            PollOutcome::Refuse => {
                self.answer_engine(key, 400, BAD_REQUEST, &reply);
                Outcome::Answered(reply.keep_alive)
            }
        }
    }

    fn post(&mut self, key: ConnectionKey, head: &Head<'_>, client: ClientKey, reply: ReplyHead) -> Outcome {
        if self.hub.on_post(client) == PostOutcome::Refuse {
            return self.refuse(key, head, 400, BAD_REQUEST, &reply);
        }
        let content_type = head.header("content-type").unwrap_or_default();
        if content_type.trim().eq_ignore_ascii_case("application/octet-stream") {
            self.hub.on_post_lost(client);
            return self.refuse(key, head, 400, BAD_REQUEST, &reply);
        }
        let (bytes_max, limit) = self.hub.message_limit(client);
        match BodyDecoder::new(head.framing, bytes_max) {
            Ok(decoder) => {
                if head.expects_continue
                    && let Some(connection) = self.connections.get_mut(key.0)
                {
                    connection.pending().extend_from_slice(CONTINUE);
                    self.mark_dirty(key);
                }
                Outcome::ReadBody(client, decoder, reply)
            }
            Err(error) => {
                self.hub.counters.hit(limit);
                self.hub.counters.malformed += 1;
                self.hub.on_post_lost(client);
                self.answer_empty(key, error.status(), &reply);
                Outcome::Answered(KeepAlive::Close)
            }
        }
    }
}

/// Who has brought a request here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Bearer {
    Client,
    /// Another shard, which has read its session id.
    Sibling,
    /// Another instance, likewise.
    Neighbour,
}

/// What a request under the path is about.
enum RequestSubject {
    Handshake(Transport),
    Session(ClientKey),
    Upgrade(ClientKey),
    /// A session that another shard has.
    Elsewhere(u16),
    /// One that another instance has.
    Abroad(Instance),
}

/// Why a request under the path is refused.
enum Denial {
    /// With this code of the reference.
    Code(u8),
    /// Its session is not known.
    Unknown(UnknownSid),
}

/// What an admission may need of the first request; `None` if it holds nothing of the kind.
fn handshake_of(head: &Head<'_>, address: Option<IpAddr>) -> Option<Box<FirstRequest>> {
    let authorization = head.header("authorization").map(Box::from);
    (authorization.is_some() || address.is_some()).then(|| Box::new(FirstRequest { authorization, address }))
}
