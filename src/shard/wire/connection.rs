//! What happens to a connection, whatever it carries: its bytes, its end, its time and its leaving for elsewhere.

use std::sync::Arc;

use sockring_protocol::Millis;

use crate::app::Application;
use crate::capacity::Permit;
use crate::shard::Shard;
use crate::shard::clients::client::{Cause, CloseReason, ConnectionKey, Detail, Role};
use crate::shard::clients::outbox::Outbox;
use crate::shard::effects::{Destination, Effect};
use crate::shard::faults::Broken;
use crate::shard::limit::Limit;

use super::answers::refusal;
use super::parcel::Parcel;
use super::stage::{Connection, Request, SEND_TIMEOUT_MS, Stage};

/// After our end a connection is read and discarded for this long, so that the peer still gets what was sent last.
const LINGER_MS: u64 = 1_000;
/// And up to this many bytes: enough for the rest of a body that was refused by its length, and nothing is kept of it.
const LINGER_BYTES_MAX: u32 = 8 << 20;
/// Who waits for us to go on with its handshake is looked at again after this.
const WAITING_MS: u64 = 1_000;

impl<A: Application> Shard<A> {
    /// Bytes came from a connection. They may be changed in place.
    pub fn on_bytes(&mut self, key: ConnectionKey, bytes: &mut [u8]) {
        let Some(connection) = self.connections.get_mut(key.0) else { return };
        self.hub.counters.bytes_in += bytes.len() as u64;
        self.diary.received(key.0.index, bytes.len());
        if connection.is_tls && !connection.is_closing() {
            return self.on_sealed_bytes(key, bytes);
        }
        self.on_plain_bytes(key, bytes);
    }

    /// What a peer says, whatever way it came.
    #[inline]
    pub(in crate::shard) fn on_plain_bytes(&mut self, key: ConnectionKey, bytes: &mut [u8]) {
        let Some(connection) = self.connections.get_mut(key.0) else { return };
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
        self.diary.note(key.0.index, |account| account.ended_by = Some("peer"));
        self.leave_peer(key, None);
        let is_http = self.connections.get(key.0).is_some_and(|connection| matches!(connection.stage, Stage::Http(_)));
        match is_http && is_behind {
            true => self.begin_close(key),
            false => self.finish(key),
        }
    }

    /// The connection is broken: nothing can be sent any more.
    pub fn on_broken(&mut self, key: ConnectionKey, broken: Broken) {
        let Some(connection) = self.connections.get(key.0) else { return };
        // Whoever gets one that leaves will notice.
        if matches!(connection.stage, Stage::Leaving | Stage::Gone) {
            return;
        }
        self.hub.counters.count_broken(broken);
        self.diary.note(key.0.index, |account| account.ended_by = Some(broken.label()));
        self.leave_peer(key, Some(broken));
        self.finish(key);
    }

    /// Tells the client, if there is one, that this connection is of no more use to it.
    pub(in crate::shard) fn leave_peer(&mut self, key: ConnectionKey, broken: Option<Broken>) {
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
                (Role::Transport, client) => {
                    let cause = Cause { reason: CloseReason::TransportClose, detail: broken.map(Detail::Broken) };
                    self.hub.on_transport_end(client, key, cause, None);
                }
                (Role::Probe, client) => self.hub.on_probe_lost(client, key),
            },
            Stage::Closing { .. } | Stage::Leaving | Stage::Gone => {}
        }
    }

    /// The log's line for the end of a connection.
    #[cold]
    pub(in crate::shard) fn tell_end(&self, key: ConnectionKey) {
        let account = self.diary.account(key.0.index);
        tracing::debug!(
            address = account.address.map(tracing::field::display),
            transport = if account.is_websocket { "websocket" } else { "http" },
            reason = account.ended_by.unwrap_or("server"),
            ms = self.hub.now.at.0 - account.since.0,
            received_bytes = account.received_bytes,
            sent_bytes = account.sent_bytes,
            "a connection has ended"
        );
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
        if connection.is_tls {
            parcel.tls = self.tls.take(key);
        }
        parcel.papers.account = self.diary.is_kept().then(|| Box::new(self.diary.account(key.0.index)));
        parcel.papers.seat = Some(Permit::counted(Arc::clone(&self.hub.capacity), connection.standing));
        connection.deadline = self.hub.attended() + SEND_TIMEOUT_MS;
        connection.is_suspect = false;
        self.arm_connection(key);
        self.effects.push(Effect::HandOver(key, destination, Box::new(parcel)));
    }

    /// Our side has said all: flush, shut down, linger.
    pub(in crate::shard) fn begin_close(&mut self, key: ConnectionKey) {
        self.begin_close_behind(key, Outbox::EMPTY);
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
            return self.hub.outbound.looks.push(key);
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
        let now = self.hub.attended();
        let Some(connection) = self.connections.get_mut(key.0) else { return };
        if connection.is_tls && self.tls.is_waiting(key) {
            // It waits for us.
            connection.deadline = now + WAITING_MS;
            return self.arm_connection(key);
        }
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
}
