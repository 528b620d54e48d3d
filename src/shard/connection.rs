//! `Connection`: one TCP connection as the shard sees it: what its bytes mean now, and what it has to send itself.

use sockring_protocol::Millis;
use sockring_protocol::engineio::ProbePacket;
use sockring_protocol::http::{BodyDecoder, BodyState, Head, KeepAlive, Response};
use sockring_protocol::websocket::{self, CloseFrame, Decoder, Event, FrameError, Opcode, encode_close, encode_frame};

use crate::app::Application;

use super::Shard;
use super::client::{ClientKey, CloseReason, ConnectionKey};
use super::effects::Effect;
use super::hub::{PostOutcome, ProbeOutcome};
use super::requests::{Outcome, ReplyHead};

/// A closing connection is read and discarded for this long, so that the peer still gets what was sent last.
const LINGER_MS: u64 = 1_000;
/// And up to this many bytes: enough for the rest of a body that was refused by its length, and nothing is kept of it.
const LINGER_BYTES_MAX: u32 = 16 << 20;
/// Control frames that wait for a peer that does not read them; more: the connection ends.
const CONTROL_BYTES_MAX: usize = 64 << 10;

/// One TCP connection.
pub(super) struct Connection {
    pub(super) stage: Stage,
    /// Bytes of the connection's own: answers, handshakes, control frames. They go before the client's outbox.
    pending: Option<Box<Pending>>,
    pub(super) deadline: Millis,
    pub(super) timer_at: Millis,
    pub(super) is_sending: bool,
    pub(super) is_dirty: bool,
}

struct Pending(Vec<u8>);

/// What a connection's bytes mean.
pub(super) enum Stage {
    Http(Box<HttpStage>),
    WebSocket(WebSocketStage),
    /// Our side is done: flush, shut down, discard what still comes.
    Closing {
        discarded: u32,
        is_shut: bool,
    },
    /// Closed or handed over; the worker has yet to say so.
    Gone,
}

/// A connection between or within HTTP requests.
#[derive(Default)]
pub(super) struct HttpStage {
    /// Bytes that are not a whole head yet, or that came behind a request that is still open.
    input: Vec<u8>,
    scanned: usize,
    request: Request,
}

#[derive(Default)]
enum Request {
    #[default]
    Head,
    Body(Box<PostBody>),
    /// A GET that waits for something to say.
    Held(ClientKey, ReplyHead),
}

struct PostBody {
    client: ClientKey,
    decoder: BodyDecoder,
    body: Vec<u8>,
    reply: ReplyHead,
}

/// A WebSocket: a client's transport, or a probe beside its polling.
pub(super) struct WebSocketStage {
    decoder: Decoder,
    client: ClientKey,
    role: Role,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    Transport,
    Probe,
}

impl Connection {
    pub(super) fn new() -> Connection {
        Connection {
            stage: Stage::Http(Box::default()),
            pending: None,
            deadline: Millis::NEVER,
            timer_at: Millis::NEVER,
            is_sending: false,
            is_dirty: false,
        }
    }

    pub(super) fn pending(&mut self) -> &mut Vec<u8> {
        &mut self.pending.get_or_insert_with(|| Box::new(Pending(Vec::new()))).0
    }

    pub(super) fn take_pending(&mut self) -> Vec<u8> {
        self.pending.take().map_or_else(Vec::new, |pending| pending.0)
    }

    pub(super) fn is_closing(&self) -> bool {
        matches!(self.stage, Stage::Closing { .. } | Stage::Gone)
    }

    /// The client whose outbox this connection sends, if it is a client's transport.
    pub(super) fn transport_of(&self) -> Option<ClientKey> {
        match &self.stage {
            Stage::WebSocket(WebSocketStage { client, role: Role::Transport, .. }) => Some(*client),
            _ => None,
        }
    }
}

impl WebSocketStage {
    pub(super) fn new(client: ClientKey, role: Role) -> WebSocketStage {
        WebSocketStage { decoder: Decoder::default(), client, role }
    }
}

impl<A: Application> Shard<A> {
    /// Bytes came from a connection. They may be changed in place.
    pub fn on_bytes(&mut self, key: ConnectionKey, bytes: &mut [u8]) {
        let Some(connection) = self.connections.get_mut(key.0) else { return };
        self.hub.counters.bytes_in += bytes.len() as u64;
        match &mut connection.stage {
            Stage::Http(_) => self.on_http_bytes(key, bytes),
            Stage::WebSocket(_) => self.on_frames(key, bytes),
            Stage::Closing { discarded, .. } => {
                *discarded = discarded.saturating_add(u32::try_from(bytes.len()).unwrap_or(u32::MAX));
                if *discarded > LINGER_BYTES_MAX {
                    self.finish(key);
                } else {
                    self.effects.push(Effect::Read(key));
                }
            }
            Stage::Gone => {}
        }
    }

    /// The peer has ended its side, or the connection broke.
    pub fn on_hangup(&mut self, key: ConnectionKey) {
        let Some(connection) = self.connections.get_mut(key.0) else { return };
        match &connection.stage {
            Stage::Http(stage) => match &stage.request {
                Request::Head => {}
                Request::Body(body) => {
                    let client = body.client;
                    self.hub.on_post_lost(client);
                }
                Request::Held(client, _) => {
                    let client = *client;
                    self.hub.on_poll_lost(client);
                }
            },
            Stage::WebSocket(stage) => match (stage.role, stage.client) {
                (Role::Transport, client) => self.hub.on_transport_end(client, CloseReason::TransportClose, None),
                (Role::Probe, client) => self.hub.on_probe_lost(client),
            },
            Stage::Closing { .. } => {}
            Stage::Gone => return,
        }
        self.finish(key);
    }

    /// Continues with the bytes that came while a request was being answered.
    pub(super) fn resume(&mut self, key: ConnectionKey) {
        self.on_http_bytes(key, &[]);
    }

    fn on_http_bytes(&mut self, key: ConnectionKey, bytes: &[u8]) {
        let Some(connection) = self.connections.get_mut(key.0) else { return };
        let Stage::Http(stage) = &mut connection.stage else { return };
        let mut stage = std::mem::take(stage);
        let mut input = std::mem::take(&mut stage.input);
        input.extend_from_slice(bytes);
        let mut at = 0;
        loop {
            let rest = input.get(at..).unwrap_or_default();
            let next = match std::mem::take(&mut stage.request) {
                Request::Head => self.on_head_bytes(key, &mut stage, rest),
                Request::Body(body) => self.on_body_bytes(key, &mut stage, body, rest),
                Request::Held(client, reply) => {
                    // What comes behind a held GET waits, within bounds.
                    let too_much = rest.len() > self.hub.settings.head.head_bytes_max;
                    stage.request = Request::Held(client, reply);
                    if too_much {
                        self.hub.on_poll_lost(client);
                        return self.finish(key);
                    }
                    Next::Wait
                }
            };
            match next {
                Next::Consumed(count) => at += count,
                Next::Wait => break,
                Next::Frames(count) => {
                    at += count;
                    return self.on_frames(key, input.get_mut(at..).unwrap_or_default());
                }
                Next::Over => return,
            }
        }
        input.drain(..at);
        let deadline = self.http_deadline(&stage, &input);
        stage.input = input;
        if let Some(connection) = self.connections.get_mut(key.0) {
            // A head that dribbles in does not move its deadline.
            connection.deadline = match (&stage.request, stage.input.is_empty()) {
                (Request::Head, false) | (Request::Body(_), _) if at == 0 => connection.deadline.min(deadline),
                _ => deadline,
            };
            connection.stage = Stage::Http(stage);
        }
        self.arm_connection(key);
        self.effects.push(Effect::Read(key));
    }

    fn http_deadline(&self, stage: &HttpStage, input: &[u8]) -> Millis {
        let settings = &self.hub.settings;
        match &stage.request {
            Request::Head if input.is_empty() => self.hub.now.at + settings.idle_timeout_ms,
            Request::Head => self.hub.now.at + settings.head_timeout_ms,
            Request::Body(_) => self.hub.now.at + settings.body_timeout_ms,
            Request::Held(..) => Millis::NEVER,
        }
    }

    fn on_head_bytes(&mut self, key: ConnectionKey, stage: &mut HttpStage, input: &[u8]) -> Next {
        if input.is_empty() {
            return Next::Wait;
        }
        let (head, length) = match Head::decode(input, &mut stage.scanned, &self.hub.settings.head) {
            Ok(Some(decoded)) => decoded,
            Ok(None) => return Next::Wait,
            Err(error) => {
                self.hub.counters.malformed += 1;
                self.answer(key, &refusal(error.status(), error.reason()));
                self.begin_close(key);
                return Next::Over;
            }
        };
        stage.scanned = 0;
        match self.on_request(key, &head) {
            Outcome::Answered(KeepAlive::Keep) => Next::Consumed(length),
            Outcome::Answered(KeepAlive::Close) => {
                self.begin_close(key);
                Next::Over
            }
            Outcome::ReadBody(client, decoder, reply) => {
                stage.request = Request::Body(Box::new(PostBody { client, decoder, body: Vec::new(), reply }));
                Next::Consumed(length)
            }
            Outcome::Hold(client, reply) => {
                stage.request = Request::Held(client, reply);
                Next::Consumed(length)
            }
            Outcome::Upgrade(stage) => {
                if let Some(connection) = self.connections.get_mut(key.0) {
                    connection.stage = Stage::WebSocket(stage);
                    connection.deadline = Millis::NEVER;
                }
                self.effects.push(Effect::Settle(key));
                Next::Frames(length)
            }
            Outcome::HandOver(destination) => {
                self.flush_connection(key);
                self.effects.push(Effect::HandOver(key, destination, input.to_vec()));
                if let Some(connection) = self.connections.get_mut(key.0) {
                    connection.stage = Stage::Gone;
                }
                Next::Over
            }
        }
    }

    fn on_body_bytes(
        &mut self,
        key: ConnectionKey,
        stage: &mut HttpStage,
        mut post: Box<PostBody>,
        input: &[u8],
    ) -> Next {
        match post.decoder.decode(input, &mut post.body) {
            Ok((_, BodyState::More)) if !self.hub.is_alive(post.client) => {
                self.answer_engine(key, 400, 1, &post.reply);
                self.begin_close(key);
                Next::Over
            }
            Ok((count, BodyState::More)) => {
                stage.request = Request::Body(post);
                if count == 0 { Next::Wait } else { Next::Consumed(count) }
            }
            Ok((count, BodyState::Complete)) => {
                match self.hub.on_post_body(post.client, &post.body) {
                    PostOutcome::Accept => self.answer_ok(key, &post.reply),
                    PostOutcome::Refuse => self.answer_engine(key, 400, 3, &post.reply),
                }
                if post.reply.keep_alive == KeepAlive::Close {
                    self.begin_close(key);
                    return Next::Over;
                }
                Next::Consumed(count)
            }
            Err(error) => {
                self.hub.counters.malformed += 1;
                self.hub.on_post_lost(post.client);
                self.answer_empty(key, error.status(), &post.reply);
                self.begin_close(key);
                Next::Over
            }
        }
    }

    /// Takes the reply that a held GET is waiting for; `None` if the connection holds none.
    pub(super) fn release_held(&mut self, key: ConnectionKey) -> Option<ReplyHead> {
        let connection = self.connections.get_mut(key.0)?;
        let Stage::Http(stage) = &mut connection.stage else { return None };
        match std::mem::take(&mut stage.request) {
            Request::Held(_, reply) => Some(reply),
            other => {
                stage.request = other;
                None
            }
        }
    }

    fn on_frames(&mut self, key: ConnectionKey, bytes: &mut [u8]) {
        let limits = self.hub.settings.message_limits();
        let mut at = 0;
        loop {
            let Some(connection) = self.connections.get_mut(key.0) else { return };
            let Connection { stage: Stage::WebSocket(stage), pending, .. } = connection else { return };
            let (client, role) = (stage.client, stage.role);
            let step = match stage.decoder.decode(bytes.get_mut(at..).unwrap_or_default(), &limits) {
                Ok(step) => step,
                Err(error) => return self.fail_frames(key, client, role, error),
            };
            at += step.consumed;
            match (step.event, role) {
                (None, _) => break,
                (Some(Event::Text(text)), Role::Transport) => self.hub.on_text(client, text),
                (Some(Event::Binary(data)), Role::Transport) => self.hub.on_binary(client, data),
                (Some(Event::Text(text)), Role::Probe) => {
                    let outcome = self.hub.on_probe_text(client, text);
                    self.on_probe_outcome(key, outcome);
                }
                (Some(Event::Binary(_)), Role::Probe) => {
                    let outcome = self.hub.on_probe_packet(client, ProbePacket::Other);
                    self.on_probe_outcome(key, outcome);
                }
                (Some(Event::Ping(data)), _) => {
                    let pending = &mut pending.get_or_insert_with(|| Box::new(Pending(Vec::new()))).0;
                    if pending.len() > CONTROL_BYTES_MAX {
                        self.leave_websocket(client, role, CloseReason::QueueFull, None);
                        return self.finish(key);
                    }
                    encode_frame(Opcode::Pong, data, pending);
                    self.mark_dirty(key);
                }
                (Some(Event::Pong(_)), _) => {}
                (Some(Event::Close(frame)), _) => {
                    let code =
                        websocket::reply_code(frame.map(|CloseFrame { code, reason }| CloseFrame { code, reason }));
                    return self.close_websocket(key, client, role, CloseReason::ClientClose, code, "");
                }
            }
            if role == Role::Transport && !self.hub.is_alive(client) {
                // The order to close it is on the hub's list.
                return;
            }
        }
        self.see_to_partial(key);
    }

    /// A message that has begun has to end in time; an idle decoder holds no memory.
    fn see_to_partial(&mut self, key: ConnectionKey) {
        let Some(connection) = self.connections.get_mut(key.0) else { return };
        let Stage::WebSocket(stage) = &mut connection.stage else { return };
        stage.decoder.release();
        match (stage.decoder.has_partial(), connection.deadline) {
            (false, _) => connection.deadline = Millis::NEVER,
            (true, Millis::NEVER) => {
                connection.deadline = self.hub.now.at + self.hub.settings.message_timeout_ms;
                self.arm_connection(key);
            }
            (true, _) => {}
        }
    }

    fn on_probe_outcome(&mut self, key: ConnectionKey, outcome: ProbeOutcome) {
        match outcome {
            ProbeOutcome::Answer => {
                if let Some(connection) = self.connections.get_mut(key.0) {
                    encode_frame(Opcode::Text, b"3probe", connection.pending());
                }
                self.mark_dirty(key);
            }
            ProbeOutcome::Upgraded => {
                if let Some(Connection { stage: Stage::WebSocket(stage), .. }) = self.connections.get_mut(key.0) {
                    stage.role = Role::Transport;
                }
                self.mark_dirty(key);
            }
            // Dropping is an order on the hub's list.
            ProbeOutcome::Drop | ProbeOutcome::Nothing => {}
        }
    }

    fn fail_frames(&mut self, key: ConnectionKey, client: ClientKey, role: Role, error: FrameError) {
        self.hub.counters.malformed += 1;
        let reason = match error {
            FrameError::MessageTooBig => CloseReason::PayloadTooBig,
            _ => CloseReason::FrameError,
        };
        self.close_websocket(key, client, role, reason, Some(error.close_code()), error.reason());
    }

    /// Ends a WebSocket from our side with a close frame, and what it was to its client.
    fn close_websocket(
        &mut self,
        key: ConnectionKey,
        client: ClientKey,
        role: Role,
        reason: CloseReason,
        code: Option<u16>,
        words: &str,
    ) {
        // What is queued for the client goes out before the close frame.
        if let Some(connection) = self.connections.get_mut(key.0) {
            let outbox = match role {
                Role::Transport => self.hub.take_outbox(client),
                Role::Probe => Default::default(),
            };
            let pending = connection.pending();
            outbox.for_each(|frames| pending.extend_from_slice(&frames));
            encode_close(code, words, pending);
        }
        self.leave_websocket(client, role, reason, code);
        self.begin_close(key);
    }

    fn leave_websocket(&mut self, client: ClientKey, role: Role, reason: CloseReason, code: Option<u16>) {
        match role {
            Role::Transport => self.hub.on_transport_end(client, reason, code),
            Role::Probe => self.hub.on_probe_lost(client),
        }
    }

    /// Our side has said all: flush, shut down, linger.
    pub(super) fn begin_close(&mut self, key: ConnectionKey) {
        let Some(connection) = self.connections.get_mut(key.0) else { return };
        if matches!(connection.stage, Stage::Closing { .. } | Stage::Gone) {
            return;
        }
        connection.stage = Stage::Closing { discarded: 0, is_shut: false };
        connection.deadline = self.hub.now.at + LINGER_MS;
        self.arm_connection(key);
        self.mark_dirty(key);
        self.effects.push(Effect::Read(key));
    }

    /// Closes a connection that is between two requests, or within the head of one.
    pub(super) fn close_if_idle(&mut self, key: ConnectionKey) {
        let Some(connection) = self.connections.get(key.0) else { return };
        if matches!(&connection.stage, Stage::Http(stage) if matches!(stage.request, Request::Head)) {
            self.begin_close(key);
        }
    }

    /// Closes without further ado.
    pub(super) fn finish(&mut self, key: ConnectionKey) {
        let Some(connection) = self.connections.get_mut(key.0) else { return };
        if matches!(connection.stage, Stage::Gone) {
            return;
        }
        connection.stage = Stage::Gone;
        connection.deadline = Millis::NEVER;
        self.effects.push(Effect::Close(key));
    }

    /// A connection's deadline has passed.
    pub(super) fn expire_connection(&mut self, key: ConnectionKey) {
        let now = self.hub.now.at;
        let Some(connection) = self.connections.get_mut(key.0) else { return };
        if connection.timer_at > now {
            return;
        }
        connection.timer_at = Millis::NEVER;
        if connection.deadline > now {
            return self.arm_connection(key);
        }
        match &connection.stage {
            Stage::Http(stage) => match &stage.request {
                Request::Head if stage.input.is_empty() => self.begin_close(key),
                Request::Head => {
                    self.hub.counters.slow_requests += 1;
                    self.answer(key, &refusal(408, "the request head took too long"));
                    self.begin_close(key);
                }
                Request::Body(post) => {
                    let client = post.client;
                    self.hub.counters.slow_requests += 1;
                    self.hub.on_post_lost(client);
                    self.answer(key, &refusal(408, "the request body took too long"));
                    self.begin_close(key);
                }
                Request::Held(..) => {}
            },
            Stage::WebSocket(stage) => {
                let (client, role) = (stage.client, stage.role);
                let words = "a message took too long";
                self.close_websocket(key, client, role, CloseReason::MessageTimeout, Some(1008), words);
            }
            Stage::Closing { .. } => self.finish(key),
            Stage::Gone => {}
        }
    }

    /// Appends an answer to what the connection sends.
    pub(super) fn answer(&mut self, key: ConnectionKey, response: &Response<'_>) {
        if let Some(connection) = self.connections.get_mut(key.0) {
            response.encode(connection.pending());
        }
        self.mark_dirty(key);
    }
}

/// What to do after some bytes of an HTTP connection.
enum Next {
    Consumed(usize),
    /// More bytes are needed, or a request is open.
    Wait,
    /// The connection is a WebSocket behind this many bytes.
    Frames(usize),
    /// The connection is no longer in this stage.
    Over,
}

fn refusal(status: u16, reason: &str) -> Response<'_> {
    Response {
        status,
        content_type: "text/plain; charset=UTF-8",
        headers: &[],
        cors: b"",
        body: reason.as_bytes(),
        keep_alive: KeepAlive::Close,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_is_small() {
        assert!(size_of::<Connection>() <= 64, "{}", size_of::<Connection>());
    }
}
