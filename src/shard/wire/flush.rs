//! The end of a turn: what was queued becomes effects. Nobody writes to a connection before this.

use sockring_protocol::http::KeepAlive;

use crate::app::Application;
use crate::shard::Shard;
use crate::shard::clients::client::{ClientKey, ConnectionKey};
use crate::shard::clients::outbox::{Bytes, Outbox};
use crate::shard::effects::Effect;
use crate::shard::faults::Broken;
use crate::shard::hub::outbound::Order;

use super::stage::Stage;
use super::tls_stages::LastWord;

/// Where more clients than this are flushed at once, no pings ride along: after an event for very many, the heartbeats of a
/// fifth of them would come together from then on, and their answers at once.
const RIDERS_MAX: usize = 32;

impl<A: Application> Shard<A> {
    /// Turns everything queued in this turn into effects.
    pub fn flush(&mut self, effects: &mut Vec<Effect>) {
        loop {
            if self.hub.receipts.has_wanted() {
                self.hub.ping_for_receipts();
            }
            let clients = self.hub.directory.take_dirty();
            if clients.len() <= RIDERS_MAX {
                clients.iter().for_each(|client| self.hub.ping_along(*client));
            }
            for client in &clients {
                self.flush_client(*client);
            }
            self.carry_out_orders();
            // Bytes that waited behind an answered GET may lead to more of all this.
            for key in std::mem::take(&mut self.resumable) {
                self.resume(key);
            }
            let is_done = !self.hub.directory.has_dirty() && self.hub.outbound.orders.is_empty();
            if is_done && self.resumable.is_empty() && !self.hub.receipts.has_wanted() {
                self.hub.directory.reuse_dirty(clients);
                break;
            }
        }
        self.flush_connections();
        self.compressor.begin_turn();
        let around = self.hub.begin_looks_around();
        // Mail first: who is told in this turn that it is in a room, or moves, is known there before it hears of it.
        effects.extend(self.hub.outbound.mails.drain(..).map(|(shard, mail)| Effect::Mail(shard, Box::new(mail))));
        effects.append(&mut self.hub.outbound.for_bus);
        if self.hub.broadcasts.has_concluded() {
            self.hub.outbound.replies.append(&mut self.hub.broadcasts.take_concluded());
        }
        // Whoever asked need not wait for what is queued to be sent.
        effects
            .extend(self.hub.outbound.replies.drain(..).map(|(ticket, reply)| Effect::Reply(ticket, Box::new(reply))));
        effects.extend(self.hub.outbound.looks.drain(..).map(Effect::Look));
        effects.extend(around);
        effects.append(&mut self.effects);
    }

    /// Sends what connections have to send, as many bytes as a turn may hand to the kernel. What is large waits for the next
    /// turn then, and what is small does not wait for it. What has begun to leave goes on before anything else begins.
    fn flush_connections(&mut self) {
        let mut dirty = std::mem::take(&mut self.dirty);
        if !self.begun.is_empty() {
            dirty.splice(..0, self.begun.drain(..));
        }
        let mut bytes_left = self.hub.settings.turn.sent_bytes_max;
        dirty.retain(|key| {
            if bytes_left == 0 && self.next_send_bytes(*key) > self.hub.settings.turn.small_bytes_max {
                return true;
            }
            bytes_left = bytes_left.saturating_sub(self.flush_connection(*key, Cut::InPieces));
            false
        });
        dirty.append(&mut self.dirty);
        self.dirty = dirty;
    }

    /// At least so much would be sent next.
    fn next_send_bytes(&self, key: ConnectionKey) -> usize {
        let Some(connection) = self.connections.get(key.0) else { return 0 };
        let piece_bytes_max = self.hub.settings.turn.piece_bytes_max;
        let rest = connection.rest_bytes();
        if rest > 0 {
            return rest.min(piece_bytes_max);
        }
        let outbox = match (connection.transport_of(), &connection.stage) {
            (Some(client), _) => self.hub.directory.get(client).map(|client| &client.outbox),
            (None, Stage::Closing { unsent: Some(unsent), .. }) => Some(&**unsent),
            _ => None,
        };
        (connection.own_bytes() + outbox.map_or(0, Outbox::first_bytes)).min(piece_bytes_max)
    }

    fn flush_client(&mut self, key: ClientKey) {
        let Some(client) = self.hub.directory.get_mut(key) else { return };
        client.is_dirty = false;
        let Some(connection) = client.connection else { return };
        match client.session.transport() {
            sockring_protocol::engineio::Transport::WebSocket => self.mark_dirty(connection),
            sockring_protocol::engineio::Transport::Polling => self.hub.answer_poll(key),
        }
    }

    fn carry_out_orders(&mut self) {
        for order in std::mem::take(&mut self.hub.outbound.orders) {
            match order {
                Order::AnswerPoll(key, payload) => {
                    let Some(reply) = self.release_held(key) else { continue };
                    self.answer_payload(key, &payload, &reply);
                    self.after_held(key, reply.keep_alive);
                }
                Order::RefusePoll(key) => {
                    let Some(reply) = self.release_held(key) else { continue };
                    self.answer_engine(key, 400, 3, &reply);
                    self.after_held(key, reply.keep_alive);
                }
                Order::CloseWebSocket(key, outbox, code) => {
                    let Some(connection) = self.connections.get(key.0) else { continue };
                    if !matches!(connection.stage, Stage::WebSocket(_)) {
                        continue;
                    }
                    self.close_behind(key, outbox, code, "");
                }
                Order::GiveUp(key) => match self.connections.get(key.0) {
                    Some(connection) if connection.is_sending || connection.rest_bytes() > 0 => self.finish(key),
                    _ => self.close_behind(key, Outbox::EMPTY, None, ""),
                },
                Order::Abort(key) => self.finish(key),
            }
        }
    }

    fn after_held(&mut self, key: ConnectionKey, keep_alive: KeepAlive) {
        match keep_alive {
            KeepAlive::Keep => self.resumable.push(key),
            KeepAlive::Close => self.begin_close(key),
        }
    }

    /// Sends what a connection has to send, unless a send is under way: then `on_sent` comes back here. Says how many bytes.
    pub(in crate::shard) fn flush_connection(&mut self, key: ConnectionKey, cut: Cut) -> usize {
        let Some(connection) = self.connections.get_mut(key.0) else { return 0 };
        let bytes_max = match cut {
            Cut::InPieces => {
                // It has come to its turn.
                connection.is_dirty = false;
                self.hub.settings.turn.piece_bytes_max
            }
            Cut::Whole => usize::MAX,
        };
        if connection.is_sending {
            connection.has_more = true;
            return 0;
        }
        if matches!(connection.stage, Stage::Gone) {
            return 0;
        }
        let is_tls = connection.is_tls;
        if let Some(piece) = connection.take_piece(bytes_max) {
            connection.is_sending = true;
            connection.has_more = true;
            return if is_tls { self.seal_and_send(key, piece) } else { self.send(key, piece) };
        }
        let client = connection.transport_of();
        let is_closing = client.is_none() && matches!(connection.stage, Stage::Closing { .. });
        // Usually nobody is.
        let behind = if self.hub.is_anybody_behind() { client } else { None };
        if let Some(client) = behind {
            self.hub.refill(client);
        }
        let own = connection.take_pending();
        let outbox = match (client, &mut connection.stage) {
            (Some(client), _) => self.hub.directory.outbox(client),
            (None, Stage::Closing { unsent: Some(unsent), .. }) => Some(&mut **unsent),
            _ => None,
        };
        let (taken, left, waits) = match outbox {
            Some(outbox) => {
                let bytes = |outbox: &Outbox| if is_closing { outbox.bytes() } else { 0 };
                let before = bytes(outbox);
                (outbox.take(own), before - bytes(outbox), !outbox.is_empty())
            }
            None => ((!own.is_empty()).then_some((Bytes::Owned(own), 0)), 0, false),
        };
        let waits = waits || behind.is_some_and(|client| self.hub.has_behind(client));
        if is_closing {
            self.closing_bytes -= left;
        }
        if let Some((bytes, copied)) = taken {
            let count = bytes.as_slice().len();
            connection.is_sending = true;
            connection.sending_bytes = u32::try_from(count).unwrap_or(u32::MAX);
            connection.has_more = waits || is_closing || count > bytes_max;
            self.sending_bytes += u64::from(connection.sending_bytes);
            self.hub.counters.bytes_copied += copied as u64;
            if let Some(client) = client {
                self.hub.diary.sent(client.0.index, count);
            }
            let bytes = if count > bytes_max { connection.cut(bytes, bytes_max) } else { bytes };
            return if is_tls { self.seal_and_send(key, bytes) } else { self.send(key, bytes) };
        }
        if is_tls && let Some(own) = self.tls.take_own(key, LastWord::of(is_closing)) {
            connection.is_sending = true;
            connection.has_more = is_closing;
            return self.send(key, Bytes::Owned(own));
        }
        if let Stage::Closing { is_shut: is_shut @ false, .. } = &mut connection.stage {
            *is_shut = true;
            self.effects.push(Effect::ShutDown(key));
            self.begin_linger(key);
        }
        0
    }

    /// Hands to the kernel what a peer is told; says how many bytes.
    #[inline]
    fn send(&mut self, key: ConnectionKey, bytes: Bytes) -> usize {
        let count = bytes.as_slice().len();
        self.hub.counters.bytes_out += count as u64;
        self.diary.sent(key.0.index, count);
        self.effects.push(Effect::Send(key, bytes));
        count
    }

    #[inline(never)]
    fn seal_and_send(&mut self, key: ConnectionKey, bytes: Bytes) -> usize {
        match self.tls.seal(key, &bytes) {
            Some(sealed) => self.send(key, Bytes::Owned(sealed)),
            None => {
                // Its handshake is not done, or it has failed: there is no way to tell it anything.
                self.finish(key);
                0
            }
        }
    }

    /// All bytes of a send are with the kernel, or the connection is broken.
    pub fn on_sent(&mut self, key: ConnectionKey, result: Result<(), Broken>) {
        let Some(connection) = self.connections.get_mut(key.0) else { return };
        connection.is_sending = false;
        let left = u32::try_from(connection.rest_bytes()).unwrap_or(0);
        let gone = std::mem::replace(&mut connection.sending_bytes, left) - left;
        self.sending_bytes -= u64::from(gone);
        match result {
            Ok(()) => {
                // Of a handshake, or of its own, no request waits unless it has come meanwhile.
                let is_tls = connection.is_tls && gone == 0 && left == 0;
                let resumes = match &connection.stage {
                    Stage::Http(stage) => !is_tls || !stage.input.is_empty(),
                    _ => false,
                };
                if connection.has_more {
                    self.mark_dirty(key);
                }
                if resumes {
                    // Requests that waited until their predecessors' answers were taken.
                    self.resume(key);
                }
            }
            Err(broken) => self.on_broken(key, broken),
        }
    }

    pub(in crate::shard) fn mark_dirty(&mut self, key: ConnectionKey) {
        if let Some(connection) = self.connections.get_mut(key.0)
            && !connection.is_dirty
        {
            connection.is_dirty = true;
            match connection.rest_bytes() {
                0 => self.dirty.push(key),
                _ => self.begun.push(key),
            }
        }
    }
}

/// How what is large leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cut {
    InPieces,
    /// At once: nothing can be sent behind it.
    Whole,
}
