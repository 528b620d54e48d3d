//! What a connection is: one TCP connection as the shard sees it, by what its bytes mean now. Whatever acts on one is above.

use core::net::IpAddr;

use sockring_protocol::Millis;
use sockring_protocol::http::{BodyDecoder, KeepAlive};
use sockring_protocol::websocket::Decoder;

use crate::capacity::{Standing, Stranger};
use crate::shard::clients::client::{ClientKey, Role};
use crate::shard::clients::outbox::{Bytes, Frames, Outbox};
use sockring_protocol::portable;

/// Answers that wait for a peer that does not read them: no further request is looked at meanwhile. Control frames of a
/// WebSocket: more, and the connection ends.
pub(crate) const PENDING_BYTES_MAX: usize = 64 << 10;
/// A peer that takes nothing of what is being sent for this long is given up, where no heartbeat would notice.
pub(crate) const SEND_TIMEOUT_MS: u64 = 30_000;

/// One TCP connection.
pub(crate) struct Connection {
    pub(crate) stage: Stage,
    /// Bytes of the connection's own: answers, handshakes, control frames. They go before the client's outbox.
    pub(crate) pending: Option<Box<Pending>>,
    /// By the clock that runs against peers.
    pub(crate) deadline: Millis,
    pub(crate) timer_at: Millis,
    /// Of what has begun to leave and is not with the kernel yet.
    pub(crate) sending_bytes: u32,
    /// Of what the peer has begun, as they were last counted.
    pub(crate) input_bytes: u32,
    pub(crate) is_sending: bool,
    /// What is under way is not all: when it is sent there is something to do.
    pub(crate) has_more: bool,
    pub(crate) is_dirty: bool,
    pub(crate) standing: Standing,
    /// Its deadline has passed, and what has come is looked for.
    pub(crate) is_suspect: bool,
    /// It was given away.
    pub(crate) has_left: bool,
    /// Its bytes go through a stage of TLS.
    pub(crate) is_tls: bool,
}

portable!(struct Connection {
    stage, pending, deadline, timer_at, sending_bytes, input_bytes, is_sending, has_more, is_dirty, standing, is_suspect,
    has_left, is_tls,
});

/// What a connection has to send before its client's outbox.
#[derive(Default)]
pub(crate) struct Pending {
    /// The rest of what has begun to leave. It goes before all else.
    rest: Option<Rest>,
    own: Vec<u8>,
}

portable!(struct Pending { rest, own });

/// What is left of bytes that are sent in pieces.
struct Rest {
    frames: Frames,
    from: u32,
}

portable!(struct Rest { frames, from });

/// What a connection's bytes mean.
pub(crate) enum Stage {
    Http(Box<HttpStage>),
    WebSocket(WebSocketStage),
    /// Our side is done: flush, shut down, discard what still comes.
    Closing {
        /// What waited for its client, shared with all others whom it waits for.
        unsent: Option<Box<Outbox>>,
        discarded: u32,
        is_shut: bool,
    },
    /// Being given away.
    Leaving,
    /// Closed; the worker has yet to say so.
    Gone,
}

portable!(enum Stage {
    0 Http(stage),
    1 WebSocket(stage),
    2 Closing { unsent, discarded, is_shut },
    3 Leaving,
    4 Gone,
});

impl Connection {
    pub(crate) fn new(stage: Stage, standing: Standing) -> Connection {
        Connection {
            stage,
            pending: None,
            deadline: Millis::NEVER,
            timer_at: Millis::NEVER,
            sending_bytes: 0,
            input_bytes: 0,
            is_sending: false,
            has_more: false,
            is_dirty: false,
            standing,
            is_suspect: false,
            has_left: false,
            is_tls: false,
        }
    }

    #[inline]
    pub(crate) fn pending(&mut self) -> &mut Vec<u8> {
        Pending::own(&mut self.pending)
    }

    /// All of it, for whoever sends it instead.
    #[inline]
    pub(crate) fn take_pending(&mut self) -> Vec<u8> {
        self.pending.take().map_or_else(Vec::new, |pending| pending.into_bytes())
    }

    /// Whether the peer has not taken all that was said to it.
    #[inline]
    pub(crate) fn is_behind(&self) -> bool {
        self.is_sending || self.rest_bytes() > 0 || self.own_bytes() > PENDING_BYTES_MAX
    }

    /// What has begun to leave and has not been handed to the kernel.
    #[inline]
    pub(crate) fn rest_bytes(&self) -> usize {
        self.pending.as_ref().and_then(|pending| pending.rest.as_ref()).map_or(0, |rest| rest.bytes().len())
    }

    /// The connection's own bytes that wait.
    #[inline]
    pub(crate) fn own_bytes(&self) -> usize {
        self.pending.as_ref().map_or(0, |pending| pending.own.len())
    }

    /// Cuts what is to be sent now down to one piece, and keeps the rest.
    #[inline]
    pub(crate) fn cut(&mut self, bytes: Bytes, bytes_max: usize) -> Bytes {
        let count = bytes.as_slice().len();
        let (true, Ok(_)) = (count > bytes_max, u32::try_from(count)) else { return bytes };
        let frames = match bytes {
            Bytes::Shared(frames) => frames,
            Bytes::Owned(own) => own.into(),
            piece @ Bytes::Piece(..) => return piece,
        };
        self.pending.get_or_insert_default().rest.insert(Rest { frames, from: 0 }).take(bytes_max)
    }

    /// The next piece of what has begun to leave.
    #[inline]
    pub(crate) fn take_piece(&mut self, bytes_max: usize) -> Option<Bytes> {
        let pending = self.pending.as_mut()?;
        let rest = pending.rest.as_mut()?;
        let piece = rest.take(bytes_max);
        if rest.bytes().is_empty() {
            pending.rest = None;
            self.pending.take_if(|pending| pending.own.is_empty());
        }
        Some(piece)
    }

    #[inline]
    pub(crate) fn is_closing(&self) -> bool {
        matches!(self.stage, Stage::Closing { .. } | Stage::Leaving | Stage::Gone)
    }

    /// What a connection that closes has still to send.
    #[inline]
    pub(crate) fn unsent_bytes(&self) -> usize {
        match &self.stage {
            Stage::Closing { unsent: Some(unsent), .. } => unsent.bytes(),
            _ => 0,
        }
    }

    /// The client whose outbox this connection sends, if it is a client's transport.
    #[inline]
    pub(crate) fn transport_of(&self) -> Option<ClientKey> {
        match &self.stage {
            Stage::WebSocket(WebSocketStage { client, role: Role::Transport, .. }) => Some(*client),
            _ => None,
        }
    }

    /// The bytes of a head, a body, a frame or a message that have come.
    #[inline]
    pub(crate) fn begun_bytes(&self) -> usize {
        match &self.stage {
            Stage::Http(stage) => stage.begun_bytes(),
            Stage::WebSocket(stage) => stage.decoder.held_bytes(),
            Stage::Closing { .. } | Stage::Leaving | Stage::Gone => 0,
        }
    }

    /// Whether it has waited for a request, or for the rest of a head, since before this time.
    pub(crate) fn is_idle_since(&self, before: Millis) -> bool {
        match &self.stage {
            Stage::Http(stage) => {
                matches!(stage.request, Request::Head)
                    && stage.since <= before
                    && !self.is_sending
                    && self.pending.is_none()
            }
            _ => false,
        }
    }
}

impl Pending {
    /// Kept out of the way of those who have nothing that waits, which are nearly all.
    #[cold]
    #[inline(never)]
    #[expect(clippy::boxed_local, reason = "who has one hands over a pointer")]
    fn into_bytes(self: Box<Self>) -> Vec<u8> {
        let Pending { rest, mut own } = *self;
        if let Some(rest) = rest {
            own.splice(..0, rest.bytes().iter().copied());
        }
        own
    }

    pub(crate) fn own(pending: &mut Option<Box<Pending>>) -> &mut Vec<u8> {
        &mut pending.get_or_insert_default().own
    }
}

impl Rest {
    fn bytes(&self) -> &[u8] {
        self.frames.get(self.from as usize..).unwrap_or_default()
    }

    fn take(&mut self, bytes_max: usize) -> Bytes {
        let count = self.bytes().len().min(bytes_max);
        let from = self.from;
        self.from += u32::try_from(count).unwrap_or(u32::MAX);
        Bytes::Piece(Frames::clone(&self.frames), from..self.from)
    }
}

/// A connection between or within HTTP requests.
#[derive(Default)]
pub(crate) struct HttpStage {
    /// Bytes that are not a whole head yet, or that came behind a request that is still open.
    pub(crate) input: Vec<u8>,
    pub(crate) scanned: usize,
    pub(crate) request: Request,
    pub(crate) requests: u32,
    /// Whether nothing waited after the bytes before.
    pub(crate) input_was_empty: bool,
    /// The next request came from another shard, which read its session id.
    pub(crate) is_forwarded: bool,
    pub(crate) peer: Option<IpAddr>,
    /// It comes through another instance, which said who its peer is.
    pub(crate) is_tunnelled: bool,
    /// Until it has served a session.
    pub(crate) stranger: Option<Stranger>,
    /// When it was accepted, or the request before was answered.
    pub(crate) since: Millis,
}

// A stranger is counted anew (`relay`).
portable!(struct HttpStage {
    input, scanned, request, requests, input_was_empty, is_forwarded, peer, is_tunnelled, since,
} anew { stranger: None });

#[derive(Default)]
pub(crate) enum Request {
    #[default]
    Head,
    Body(Box<PostBody>),
    /// A GET that waits for something to say.
    Held(ClientKey, ReplyHead),
}

portable!(enum Request { 0 Head, 1 Body(body), 2 Held(client, reply) });

pub(crate) struct PostBody {
    pub(crate) client: ClientKey,
    pub(crate) decoder: BodyDecoder,
    pub(crate) body: Vec<u8>,
    pub(crate) reply: ReplyHead,
    /// Set when the head came; bytes that dribble in do not move it.
    pub(crate) deadline: Millis,
}

portable!(struct PostBody { client, decoder, body, reply, deadline });

impl HttpStage {
    /// What is held of a head or a body that has begun, or of what came behind.
    pub(crate) fn begun_bytes(&self) -> usize {
        let body = if let Request::Body(post) = &self.request { post.body.capacity() } else { 0 };
        self.input.capacity() + body
    }

    /// Who is at the other end of a connection that came through another instance.
    pub(crate) fn origin(&self) -> Option<TunnelOrigin> {
        self.is_tunnelled.then_some(TunnelOrigin { address: self.peer })
    }

    pub(crate) fn new(peer: Option<IpAddr>, requests: u32, stranger: Option<Stranger>, since: Millis) -> HttpStage {
        HttpStage { peer, requests, stranger, since, ..HttpStage::default() }
    }
}

/// Who is at the other end of a connection that another instance carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TunnelOrigin {
    /// As that instance saw it; `None`: it does not know.
    pub address: Option<IpAddr>,
}

/// What an answer needs to know of its request's head.
pub(crate) struct ReplyHead {
    pub(crate) keep_alive: KeepAlive,
    /// Header lines for the request's origin.
    pub(crate) cors: Vec<u8>,
    pub(crate) body: BodyIn,
    pub(crate) coding: Coding,
}

portable!(struct ReplyHead { keep_alive, cors, body, coding });

/// How the body of an answer may be coded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Coding {
    Identity,
    /// Or as it is.
    Gzip,
}

portable!(enum Coding { 0 Identity, 1 Gzip });

/// Whether an answer has a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BodyIn {
    Answer,
    /// HEAD: its length only.
    LengthOnly,
}

portable!(enum BodyIn { 0 Answer, 1 LengthOnly });

/// A WebSocket: a client's transport, or a probe beside its polling.
pub(crate) struct WebSocketStage {
    pub(crate) decoder: Decoder,
    pub(crate) client: ClientKey,
    pub(crate) role: Role,
    pub(crate) reading: Reading,
}

portable!(struct WebSocketStage { decoder, client, role, reading });

/// How a WebSocket is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reading {
    /// Once per request: its client may still move to another shard, and the connection with it.
    OnRequest,
    /// Whenever it has bytes: it stays.
    Settled,
}

portable!(enum Reading { 0 OnRequest, 1 Settled });

impl WebSocketStage {
    pub(crate) fn new(client: ClientKey, role: Role) -> WebSocketStage {
        WebSocketStage { decoder: Decoder::default(), client, role, reading: Reading::OnRequest }
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
