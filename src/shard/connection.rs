//! `Connection`: one TCP connection as the shard sees it: what its bytes mean now, and what it has to send itself.

use sockring_protocol::Millis;
use sockring_protocol::http::{BodyDecoder, BodyState, Head, KeepAlive, Response};
use sockring_protocol::websocket::Decoder;

use crate::app::Application;

use super::Shard;
use super::client::{ClientKey, CloseReason, ConnectionKey};
use super::effects::Effect;
use super::hub::PostOutcome;
use super::requests::{Outcome, ReplyHead};

/// After our end a connection is read and discarded for this long, so that the peer still gets what was sent last.
const LINGER_MS: u64 = 1_000;
/// And up to this many bytes: enough for the rest of a body that was refused by its length, and nothing is kept of it.
const LINGER_BYTES_MAX: u32 = 8 << 20;
/// Answers that wait for a peer that does not read them: no further request is looked at meanwhile. Control frames of a
/// WebSocket: more, and the connection ends.
pub(super) const PENDING_BYTES_MAX: usize = 64 << 10;
/// A peer that takes nothing of what is being sent for this long is given up, where no heartbeat would notice.
const SEND_TIMEOUT_MS: u64 = 30_000;

/// One TCP connection.
pub(super) struct Connection {
    pub(super) stage: Stage,
    /// Bytes of the connection's own: answers, handshakes, control frames. They go before the client's outbox.
    pub(super) pending: Option<Box<Pending>>,
    pub(super) deadline: Millis,
    pub(super) timer_at: Millis,
    pub(super) is_sending: bool,
    pub(super) is_dirty: bool,
}

pub(super) struct Pending(pub(super) Vec<u8>);

/// What a connection's bytes mean.
pub(super) enum Stage {
    Http(Box<HttpStage>),
    WebSocket(WebSocketStage),
    /// Our side is done: flush, shut down, discard what still comes.
    Closing {
        discarded: u32,
        is_shut: bool,
    },
    /// Handed over as soon as what is being sent has gone out.
    Leaving,
    /// Closed; the worker has yet to say so.
    Gone,
}

/// A connection between or within HTTP requests.
#[derive(Default)]
pub(super) struct HttpStage {
    /// Bytes that are not a whole head yet, or that came behind a request that is still open.
    input: Vec<u8>,
    scanned: usize,
    request: Request,
    requests: u32,
    /// Whether nothing waited after the bytes before.
    input_was_empty: bool,
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
    /// Set when the head came; bytes that dribble in do not move it.
    deadline: Millis,
}

/// A WebSocket: a client's transport, or a probe beside its polling.
pub(super) struct WebSocketStage {
    pub(super) decoder: Decoder,
    pub(super) client: ClientKey,
    pub(super) role: Role,
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

    /// Whether the peer has not taken all that was said to it.
    fn is_behind(&self) -> bool {
        self.is_sending || self.pending.as_ref().is_some_and(|pending| pending.0.len() > PENDING_BYTES_MAX)
    }

    pub(super) fn is_closing(&self) -> bool {
        matches!(self.stage, Stage::Closing { .. } | Stage::Leaving | Stage::Gone)
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
            Stage::Leaving | Stage::Gone => {}
        }
    }

    /// The peer has ended its side.
    pub fn on_hangup(&mut self, key: ConnectionKey) {
        let Some(connection) = self.connections.get_mut(key.0) else { return };
        let is_behind = connection.is_sending || connection.pending.is_some();
        if let (Stage::Closing { is_shut: false, .. }, true) = (&connection.stage, is_behind) {
            // It may still read.
            return;
        }
        self.leave_peer(key);
        let is_http = self.connections.get(key.0).is_some_and(|connection| matches!(connection.stage, Stage::Http(_)));
        match is_http && is_behind {
            true => self.begin_close(key),
            false => self.finish(key),
        }
    }

    /// The connection is broken: nothing can be sent any more.
    pub(super) fn on_break(&mut self, key: ConnectionKey) {
        self.leave_peer(key);
        self.finish(key);
    }

    /// Tells the client, if there is one, that this connection is of no more use to it.
    fn leave_peer(&mut self, key: ConnectionKey) {
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
                    self.hub.on_poll_lost(client, key);
                }
            },
            Stage::WebSocket(stage) => match (stage.role, stage.client) {
                (Role::Transport, client) => self.hub.on_transport_end(client, key, CloseReason::TransportClose, None),
                (Role::Probe, client) => self.hub.on_probe_lost(client, key),
            },
            Stage::Closing { .. } | Stage::Leaving | Stage::Gone => {}
        }
    }

    /// Continues with the bytes that came while a request was being answered.
    pub(super) fn resume(&mut self, key: ConnectionKey) {
        self.on_http_bytes(key, &[]);
    }

    /// What was being sent has gone out, and time for the peer's end begins.
    pub(super) fn begin_linger(&mut self, key: ConnectionKey) {
        if let Some(connection) = self.connections.get_mut(key.0) {
            connection.deadline = self.hub.now.at + LINGER_MS;
        }
        self.arm_connection(key);
        self.effects.push(Effect::Read(key));
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
            // A peer that does not read its answers gets no more of them: its bytes wait, and it is not read.
            let is_behind = self.connections.get(key.0).is_none_or(Connection::is_behind);
            if is_behind && matches!(stage.request, Request::Head) {
                break;
            }
            let next = match std::mem::take(&mut stage.request) {
                Request::Head => self.on_head_bytes(key, &mut stage, rest),
                Request::Body(body) => self.on_body_bytes(key, &mut stage, body, rest),
                Request::Held(client, reply) => {
                    // What comes behind a held GET waits, within bounds.
                    let too_much = rest.len() > self.hub.settings.head.head_bytes_max;
                    stage.request = Request::Held(client, reply);
                    if too_much {
                        self.hub.on_poll_lost(client, key);
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
        let now = self.hub.now.at;
        let settings = &self.hub.settings;
        let Some(connection) = self.connections.get_mut(key.0) else { return };
        let is_behind = connection.is_behind();
        let was_waiting = at == 0 && !stage.input_was_empty;
        connection.deadline = match &stage.request {
            Request::Head if is_behind => now + SEND_TIMEOUT_MS,
            Request::Head if input.is_empty() => now + settings.idle_timeout_ms,
            // A head that dribbles in does not move its deadline.
            Request::Head if was_waiting => connection.deadline,
            Request::Head => now + settings.head_timeout_ms,
            Request::Body(post) => post.deadline,
            Request::Held(..) => Millis::NEVER,
        };
        let reads_on = !(is_behind && matches!(stage.request, Request::Head));
        stage.input_was_empty = input.is_empty();
        stage.input = input;
        connection.stage = Stage::Http(stage);
        self.arm_connection(key);
        if reads_on {
            self.effects.push(Effect::Read(key));
        }
    }

    fn on_head_bytes(&mut self, key: ConnectionKey, stage: &mut HttpStage, input: &[u8]) -> Next {
        if input.is_empty() {
            return Next::Wait;
        }
        let (mut head, length) = match Head::decode(input, &mut stage.scanned, &self.hub.settings.head) {
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
        stage.requests += 1;
        if stage.requests >= self.hub.settings.requests_per_connection_max {
            head.keep_alive = KeepAlive::Close;
        }
        match self.on_request(key, &head) {
            Outcome::Answered(KeepAlive::Keep) => Next::Consumed(length),
            Outcome::Answered(KeepAlive::Close) => {
                self.begin_close(key);
                Next::Over
            }
            Outcome::ReadBody(client, decoder, reply) => {
                let deadline = self.hub.now.at + self.hub.settings.body_timeout_ms;
                stage.request =
                    Request::Body(Box::new(PostBody { client, decoder, body: Vec::new(), reply, deadline }));
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
                // No send is under way here, so this one takes all answers before the connection leaves.
                self.flush_connection(key);
                self.effects.push(Effect::HandOver(key, destination, input.to_vec()));
                if let Some(connection) = self.connections.get_mut(key.0) {
                    connection.stage = Stage::Leaving;
                    connection.deadline = self.hub.now.at + SEND_TIMEOUT_MS;
                }
                self.arm_connection(key);
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

    /// Our side has said all: flush, shut down, linger.
    pub(super) fn begin_close(&mut self, key: ConnectionKey) {
        let Some(connection) = self.connections.get_mut(key.0) else { return };
        if connection.is_closing() {
            return;
        }
        connection.stage = Stage::Closing { discarded: 0, is_shut: false };
        connection.deadline = self.hub.now.at + SEND_TIMEOUT_MS;
        self.arm_connection(key);
        self.mark_dirty(key);
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
                Request::Head if connection.is_behind() => {
                    self.hub.counters.slow_requests += 1;
                    self.finish(key);
                }
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
            Stage::Closing { .. } | Stage::Leaving => self.finish(key),
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
