//! `Connection`: one TCP connection as the shard sees it: what its bytes mean now, and what it has to send itself.

use std::sync::Arc;

use sockring_protocol::Millis;
use sockring_protocol::http::Response;

use crate::app::Application;
use crate::capacity::{Seat, Standing};
use crate::shard::Shard;
use crate::shard::clients::client::{ClientKey, CloseReason, ConnectionKey, Role};
use crate::shard::clients::outbox::{Frames, Outbox};
use crate::shard::effects::{Bytes, Destination, Effect};
use crate::shard::limit::Limit;

use super::frames::WebSocketStage;
use super::http::{HttpStage, Request, refusal};
use super::parcel::Parcel;

/// After our end a connection is read and discarded for this long, so that the peer still gets what was sent last.
const LINGER_MS: u64 = 1_000;
/// And up to this many bytes: enough for the rest of a body that was refused by its length, and nothing is kept of it.
const LINGER_BYTES_MAX: u32 = 8 << 20;
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
}

/// What a connection has to send before its client's outbox.
#[derive(Default)]
pub(crate) struct Pending {
    /// The rest of what has begun to leave. It goes before all else.
    rest: Option<Rest>,
    own: Vec<u8>,
}

/// What is left of bytes that are sent in pieces.
struct Rest {
    frames: Frames,
    from: u32,
}

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
        }
    }

    pub(crate) fn pending(&mut self) -> &mut Vec<u8> {
        Pending::own(&mut self.pending)
    }

    /// All of it, for whoever sends it instead.
    pub(crate) fn take_pending(&mut self) -> Vec<u8> {
        let Some(Pending { rest, mut own }) = self.pending.take().map(|pending| *pending) else { return Vec::new() };
        if let Some(rest) = rest {
            own.splice(..0, rest.bytes().iter().copied());
        }
        own
    }

    /// Whether the peer has not taken all that was said to it.
    pub(crate) fn is_behind(&self) -> bool {
        self.is_sending || self.rest_bytes() > 0 || self.own_bytes() > PENDING_BYTES_MAX
    }

    /// What has begun to leave and has not been handed to the kernel.
    pub(crate) fn rest_bytes(&self) -> usize {
        self.pending.as_ref().and_then(|pending| pending.rest.as_ref()).map_or(0, |rest| rest.bytes().len())
    }

    /// The connection's own bytes that wait.
    pub(crate) fn own_bytes(&self) -> usize {
        self.pending.as_ref().map_or(0, |pending| pending.own.len())
    }

    /// Cuts what is to be sent now down to one piece, and keeps the rest.
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

    pub(crate) fn is_closing(&self) -> bool {
        matches!(self.stage, Stage::Closing { .. } | Stage::Leaving | Stage::Gone)
    }

    /// What a connection that closes has still to send.
    pub(crate) fn unsent_bytes(&self) -> usize {
        match &self.stage {
            Stage::Closing { unsent: Some(unsent), .. } => unsent.bytes(),
            _ => 0,
        }
    }

    /// The client whose outbox this connection sends, if it is a client's transport.
    pub(crate) fn transport_of(&self) -> Option<ClientKey> {
        match &self.stage {
            Stage::WebSocket(WebSocketStage { client, role: Role::Transport, .. }) => Some(*client),
            _ => None,
        }
    }
}

impl Pending {
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

impl<A: Application> Shard<A> {
    /// Bytes came from a connection. They may be changed in place.
    pub fn on_bytes(&mut self, key: ConnectionKey, bytes: &mut [u8]) {
        let Some(connection) = self.connections.get_mut(key.0) else { return };
        self.hub.counters.bytes_in += bytes.len() as u64;
        match &mut connection.stage {
            Stage::Http(_) => {
                self.on_http_bytes(key, bytes);
                self.weigh(key);
            }
            Stage::WebSocket(_) => {
                self.on_frames(key, bytes);
                self.weigh(key);
            }
            Stage::Closing { discarded, .. } => {
                *discarded = discarded.saturating_add(u32::try_from(bytes.len()).unwrap_or(u32::MAX));
                if *discarded > LINGER_BYTES_MAX {
                    self.finish(key);
                } else {
                    self.effects.push(Effect::Read(key));
                }
            }
            Stage::Leaving => self.send_bytes_along(key, bytes),
            Stage::Gone => {}
        }
    }

    /// Bytes that came in the turn in which their connection was given away go with it.
    fn send_bytes_along(&mut self, key: ConnectionKey, bytes: &[u8]) {
        let parcel = self.effects.iter_mut().rev().find_map(|effect| match effect {
            Effect::HandOver(leaving, _, parcel) if *leaving == key => Some(parcel),
            _ => None,
        });
        if let Some(parcel) = parcel {
            parcel.append(bytes);
        }
    }

    /// The peer has ended its side.
    pub fn on_hangup(&mut self, key: ConnectionKey) {
        let Some(connection) = self.connections.get_mut(key.0) else { return };
        if matches!(connection.stage, Stage::Leaving) {
            // Whoever gets it will notice.
            return;
        }
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
    pub(in crate::shard) fn on_break(&mut self, key: ConnectionKey) {
        if self.connections.get(key.0).is_some_and(|connection| matches!(connection.stage, Stage::Leaving)) {
            return;
        }
        self.leave_peer(key);
        self.finish(key);
    }

    /// Tells the client, if there is one, that this connection is of no more use to it.
    pub(in crate::shard) fn leave_peer(&mut self, key: ConnectionKey) {
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

    /// What was being sent has gone out, and time for the peer's end begins.
    pub(in crate::shard) fn begin_linger(&mut self, key: ConnectionKey) {
        if let Some(connection) = self.connections.get_mut(key.0) {
            connection.deadline = self.hub.attended() + LINGER_MS;
            connection.is_suspect = false;
        }
        self.arm_connection(key);
        self.effects.push(Effect::Read(key));
    }

    /// Gives the connection away as soon as what is being sent has gone out.
    pub(in crate::shard) fn hand_over(&mut self, key: ConnectionKey, destination: Destination, parcel: Parcel) {
        let Some(connection) = self.connections.get_mut(key.0) else { return };
        connection.stage = Stage::Leaving;
        connection.has_left = true;
        self.hub.give_back_input(std::mem::take(&mut connection.input_bytes) as usize);
        let mut parcel = parcel;
        parcel.papers.seat = Some(Seat::counted(Arc::clone(&self.hub.capacity), connection.standing));
        connection.deadline = self.hub.attended() + SEND_TIMEOUT_MS;
        connection.is_suspect = false;
        self.arm_connection(key);
        self.effects.push(Effect::HandOver(key, destination, Box::new(parcel)));
    }

    /// Our side has said all: flush, shut down, linger.
    pub(in crate::shard) fn begin_close(&mut self, key: ConnectionKey) {
        self.begin_close_behind(key, Outbox::Empty);
    }

    /// The same, behind what is still to be sent.
    pub(in crate::shard) fn begin_close_behind(&mut self, key: ConnectionKey, unsent: Outbox) {
        let Some(connection) = self.connections.get_mut(key.0) else { return };
        if connection.is_closing() {
            return;
        }
        self.closing_bytes += unsent.bytes();
        let unsent = (!unsent.is_empty()).then(|| Box::new(unsent));
        connection.stage = Stage::Closing { unsent, discarded: 0, is_shut: false };
        self.hub.give_back_input(std::mem::take(&mut connection.input_bytes) as usize);
        connection.deadline = self.hub.attended() + SEND_TIMEOUT_MS;
        connection.is_suspect = false;
        self.arm_connection(key);
        self.mark_dirty(key);
    }

    /// Closes a connection that is between two requests, or within the head of one.
    pub(in crate::shard) fn close_if_idle(&mut self, key: ConnectionKey) {
        let Some(connection) = self.connections.get(key.0) else { return };
        if matches!(&connection.stage, Stage::Http(stage) if matches!(stage.request, Request::Head)) {
            self.begin_close(key);
        }
    }

    /// Closes without further ado.
    pub(in crate::shard) fn finish(&mut self, key: ConnectionKey) {
        let Some(connection) = self.connections.get_mut(key.0) else { return };
        if matches!(connection.stage, Stage::Gone) {
            return;
        }
        self.closing_bytes -= connection.unsent_bytes();
        connection.stage = Stage::Gone;
        self.hub.give_back_input(std::mem::take(&mut connection.input_bytes) as usize);
        connection.deadline = Millis::NEVER;
        self.effects.push(Effect::Close(key));
    }

    /// A connection's deadline has passed.
    pub(in crate::shard) fn expire_connection(&mut self, key: ConnectionKey) {
        let now = self.hub.now.at;
        let Some(connection) = self.connections.get_mut(key.0) else { return };
        if connection.timer_at > now {
            return;
        }
        connection.timer_at = Millis::NEVER;
        if connection.deadline > self.hub.attended() {
            return self.arm_connection(key);
        }
        let may_have_come = match &connection.stage {
            Stage::Http(stage) => !(matches!(stage.request, Request::Head) && connection.is_behind()),
            Stage::WebSocket(_) => true,
            Stage::Closing { .. } | Stage::Leaving | Stage::Gone => false,
        };
        if may_have_come {
            connection.is_suspect = true;
            return self.hub.looks.push(key);
        }
        self.end_overdue(key);
    }

    /// All that had come from a connection is processed: if it is still past a deadline, or its client is, that was all.
    pub fn on_looked(&mut self, key: ConnectionKey) {
        let Some(connection) = self.connections.get_mut(key.0) else { return };
        if std::mem::take(&mut connection.is_suspect) {
            if connection.deadline > self.hub.attended() {
                self.hub.counters.pardoned += 1;
                self.arm_connection(key);
            } else {
                self.end_overdue(key);
            }
        }
        let Some(Connection { stage: Stage::WebSocket(stage), .. }) = self.connections.get(key.0) else { return };
        match stage.role {
            Role::Transport => self.hub.on_silent(stage.client),
            Role::Probe => self.hub.on_probe_silent(stage.client),
        }
    }

    /// All that had come for this shard, on whichever connection, is processed.
    pub fn on_looked_around(&mut self) {
        let answers = self.hub.on_looked_around();
        self.effects.extend(answers.into_iter().map(|(shard, mail)| Effect::Mail(shard, Box::new(mail))));
    }

    /// Ends a connection that has had its time.
    fn end_overdue(&mut self, key: ConnectionKey) {
        let Some(connection) = self.connections.get_mut(key.0) else { return };
        match &connection.stage {
            Stage::Http(stage) => match &stage.request {
                Request::Head if connection.is_behind() => self.finish(key),
                Request::Head if stage.input.is_empty() => {
                    let limit = if stage.requests == 0 { Limit::HeadTimeout } else { Limit::IdleTimeout };
                    self.hub.counters.hit(limit);
                    self.begin_close(key);
                }
                Request::Head => {
                    self.hub.counters.hit(Limit::HeadTimeout);
                    self.answer(key, &refusal(408, "the request head took too long"));
                    self.begin_close(key);
                }
                Request::Body(post) => {
                    let client = post.client;
                    self.hub.counters.hit(Limit::BodyTimeout);
                    self.hub.on_post_lost(client);
                    self.answer(key, &refusal(408, "the request body took too long"));
                    self.begin_close(key);
                }
                Request::Held(..) => {}
            },
            Stage::WebSocket(stage) => {
                let (client, role) = (stage.client, stage.role);
                self.hub.counters.hit(Limit::MessageTimeout);
                let words = "a message took too long";
                self.close_websocket(key, client, role, CloseReason::MessageTimeout, Some(1008), words);
            }
            Stage::Closing { .. } | Stage::Leaving => self.finish(key),
            Stage::Gone => {}
        }
    }

    /// Appends an answer to what the connection sends.
    pub(in crate::shard) fn answer(&mut self, key: ConnectionKey, response: &Response<'_>) {
        if let Some(connection) = self.connections.get_mut(key.0) {
            response.encode(connection.pending());
        }
        self.mark_dirty(key);
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
