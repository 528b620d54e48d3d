//! The WebSocket stage of a connection: what its frames do, as a client's transport or as a probe beside its polling, and
//! how it ends.

use sockring_protocol::Millis;
use sockring_protocol::engineio::ProbePacket;
use sockring_protocol::websocket::{self, CloseFrame, Decoder, Event, FrameError, Opcode, encode_close, encode_frame};

use crate::app::Application;
use crate::shard::Shard;
use crate::shard::clients::client::{Cause, ClientKey, CloseReason, ConnectionKey, Role};
use crate::shard::clients::outbox::Outbox;
use crate::shard::clients::probe::ProbeOutcome;
use crate::shard::effects::{Destination, Effect};
use crate::shard::faults::PacketFault;
use crate::shard::limit::Limit;
use crate::shard::moving::sid::Sid;

use super::parcel::{Luggage, Papers, Parcel};
use super::stage::{Connection, PENDING_BYTES_MAX, Pending, Reading, Stage, WebSocketStage};

impl<A: Application> Shard<A> {
    pub(in crate::shard) fn on_frames(&mut self, key: ConnectionKey, bytes: &mut [u8]) {
        let mut limits = self.hub.settings.message_limits();
        let mut at = 0;
        loop {
            let Some(connection) = self.connections.get_mut(key.0) else { return };
            let Connection { stage: Stage::WebSocket(stage), pending, deadline, .. } = connection else { return };
            let (client, role) = (stage.client, stage.role);
            (limits.message_bytes_max, _) = self.hub.message_limit(client);
            let step = match stage.decoder.decode(bytes.get_mut(at..).unwrap_or_default(), &limits) {
                Ok(step) => step,
                Err(error) => return self.fail_frames(key, client, role, error),
            };
            at += step.consumed;
            if matches!(step.event, Some(Event::Text(_) | Event::Binary(_))) {
                // What is begun behind it in the same bytes has a time of its own.
                *deadline = Millis::NEVER;
            }
            match (step.event, role) {
                (None, _) => break,
                (Some(Event::Text(text)), Role::Transport) => self.hub.on_text(client, text),
                (Some(Event::Binary(data)), Role::Transport) => self.hub.on_binary(client, data),
                (Some(Event::Text(text)), Role::Probe) => {
                    let outcome = self.hub.on_probe_text(client, key, text);
                    self.on_probe_outcome(key, outcome);
                }
                (Some(Event::Binary(_)), Role::Probe) => {
                    let outcome = self.hub.on_probe_packet(client, key, ProbePacket::Other);
                    self.on_probe_outcome(key, outcome);
                }
                (Some(Event::Ping(data)), _) => {
                    let pending = Pending::own(pending);
                    if pending.len() > PENDING_BYTES_MAX {
                        self.leave_websocket(key, client, role, CloseReason::QueueFull, None);
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
                // The client has moved, and this goes after it; or the order to close it is on the hub's list.
                if let Some(departed) = self.hub.outbound.departed.take() {
                    self.send_websocket_after(key, departed.sid, departed.home, bytes.get(at..).unwrap_or_default());
                }
                return;
            }
        }
        self.see_to_partial(key);
        self.read_on(key);
    }

    /// Asks for more bytes of a WebSocket whose client may move, and lets one that stays settle.
    fn read_on(&mut self, key: ConnectionKey) {
        let Some(connection) = self.connections.get_mut(key.0) else { return };
        let Stage::WebSocket(stage) = &mut connection.stage else { return };
        match stage.reading {
            Reading::Settled => {}
            Reading::OnRequest if self.hub.may_move(stage.client) => self.effects.push(Effect::Read(key)),
            Reading::OnRequest => {
                stage.reading = Reading::Settled;
                self.effects.push(Effect::Settle(key));
            }
        }
    }

    /// The WebSocket, or the probe, of a client that moves goes after it, with the bytes that are not used.
    pub(in crate::shard) fn send_websocket_after(&mut self, key: ConnectionKey, sid: Sid, home: u16, bytes: &[u8]) {
        let Some(connection) = self.connections.get_mut(key.0) else { return };
        let pending = connection.take_pending();
        let Stage::WebSocket(stage) = &mut connection.stage else { return };
        let mut decoder = std::mem::take(&mut stage.decoder);
        decoder.release();
        let luggage = Luggage::WebSocket { sid, decoder, pending };
        let parcel = Parcel { bytes: bytes.to_vec(), requests: 0, luggage, papers: Papers::default(), tls: None };
        self.hand_over(key, Destination::Shard(home), parcel);
    }

    /// A WebSocket arrived after the client that it belongs to.
    pub(in crate::shard) fn on_websocket_arrival(
        &mut self,
        key: ConnectionKey,
        sid: Sid,
        decoder: Decoder,
        pending: Vec<u8>,
    ) {
        let Some(connection) = self.connections.get_mut(key.0) else { return };
        if !pending.is_empty() {
            *connection.pending() = pending;
        }
        let Some((client, role)) = self.hub.on_websocket_arrival(&sid, key) else { return self.begin_close(key) };
        connection.stage = Stage::WebSocket(WebSocketStage { decoder, ..WebSocketStage::new(client, role) });
        self.diary.note(key.0.index, |account| account.is_websocket = true);
        self.mark_dirty(key);
    }

    /// A message that has begun has to end in time; an idle decoder holds no memory.
    fn see_to_partial(&mut self, key: ConnectionKey) {
        let Some(connection) = self.connections.get_mut(key.0) else { return };
        let Stage::WebSocket(stage) = &mut connection.stage else { return };
        stage.decoder.release();
        match (stage.decoder.has_partial(), connection.deadline) {
            (false, _) => connection.deadline = Millis::NEVER,
            (true, Millis::NEVER) => {
                connection.deadline = self.hub.attended() + self.hub.settings.message_timeout_ms;
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
            FrameError::MessageTooBig => {
                let (_, limit) = self.hub.message_limit(client);
                self.hub.counters.hit(limit);
                CloseReason::PayloadTooBig
            }
            FrameError::TooManyFragments => {
                self.hub.counters.hit(Limit::FragmentsMax);
                CloseReason::FrameError
            }
            _ => CloseReason::FrameError,
        };
        let cause = Cause { reason, ..self.hub.fault(PacketFault::WebSocket(error)) };
        self.close_websocket(key, client, role, cause, Some(error.close_code()), error.reason());
    }

    /// Ends a WebSocket from our side with a close frame, and what it was to its client.
    pub(in crate::shard) fn close_websocket(
        &mut self,
        key: ConnectionKey,
        client: ClientKey,
        role: Role,
        cause: impl Into<Cause>,
        code: Option<u16>,
        words: &str,
    ) {
        let outbox = match role {
            Role::Transport => self.hub.take_outbox(client),
            Role::Probe => Outbox::EMPTY,
        };
        self.leave_websocket(key, client, role, cause, code);
        self.close_behind(key, outbox, code, words);
    }

    /// Ends a WebSocket: what is queued for its client goes out, shared as it is, and then a close frame.
    pub(in crate::shard) fn close_behind(
        &mut self,
        key: ConnectionKey,
        mut outbox: Outbox,
        code: Option<u16>,
        words: &str,
    ) {
        let Some(connection) = self.connections.get_mut(key.0) else { return };
        if outbox.is_empty() {
            encode_close(code, words, connection.pending());
        } else {
            let mut frame = Vec::new();
            encode_close(code, words, &mut frame);
            outbox.push(frame.into());
        }
        self.begin_close_behind(key, outbox);
    }

    pub(in crate::shard) fn leave_websocket(
        &mut self,
        key: ConnectionKey,
        client: ClientKey,
        role: Role,
        cause: impl Into<Cause>,
        code: Option<u16>,
    ) {
        match role {
            Role::Transport => self.hub.on_transport_end(client, key, cause, code),
            Role::Probe => self.hub.on_probe_lost(client, key),
        }
    }
}
