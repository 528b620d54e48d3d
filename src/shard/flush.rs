//! The end of a turn: what was queued becomes effects. Nobody writes to a connection before this.

use sockring_protocol::http::KeepAlive;
use sockring_protocol::websocket::encode_close;

use crate::app::Application;

use super::Shard;
use super::client::{ClientKey, ConnectionKey};
use super::connection::Stage;
use super::effects::{Bytes, Effect};
use super::hub::Order;

/// Messages for one connection leave in one send up to this size.
const SEND_BYTES_MAX: usize = 256 << 10;

impl<A: Application> Shard<A> {
    /// Turns everything queued in this turn into effects.
    pub fn flush(&mut self, effects: &mut Vec<Effect>) {
        loop {
            let clients = std::mem::take(&mut self.hub.dirty);
            for client in &clients {
                self.flush_client(*client);
            }
            self.carry_out_orders();
            // Bytes that waited behind an answered GET may lead to more of all this.
            for key in std::mem::take(&mut self.resumable) {
                self.resume(key);
            }
            if self.hub.dirty.is_empty() && self.hub.orders.is_empty() && self.resumable.is_empty() {
                if self.hub.dirty.capacity() < clients.capacity() {
                    self.hub.dirty = clients;
                    self.hub.dirty.clear();
                }
                break;
            }
        }
        let mut dirty = std::mem::take(&mut self.dirty);
        for key in dirty.drain(..) {
            if let Some(connection) = self.connections.get_mut(key.0) {
                connection.is_dirty = false;
            }
            self.flush_connection(key);
        }
        self.dirty = dirty;
        // Mail first: who is told in this turn that it is in a room, or moves, is known there before it hears of it.
        effects.extend(self.hub.mails.drain(..).map(|(shard, mail)| Effect::Mail(shard, Box::new(mail))));
        effects.append(&mut self.hub.for_bus);
        // Whoever asked need not wait for what is queued to be sent.
        effects.extend(self.hub.replies.drain(..).map(|(ticket, reply)| Effect::Reply(ticket, Box::new(reply))));
        effects.append(&mut self.effects);
    }

    fn flush_client(&mut self, key: ClientKey) {
        let Some(client) = self.hub.clients.get_mut(key.0) else { return };
        client.is_dirty = false;
        let Some(connection) = client.connection else { return };
        match client.session.transport() {
            sockring_protocol::engineio::Transport::WebSocket => self.mark_dirty(connection),
            sockring_protocol::engineio::Transport::Polling => self.hub.answer_poll(key),
        }
    }

    fn carry_out_orders(&mut self) {
        for order in std::mem::take(&mut self.hub.orders) {
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
                    let Some(connection) = self.connections.get_mut(key.0) else { continue };
                    if !matches!(connection.stage, Stage::WebSocket(_)) {
                        continue;
                    }
                    let pending = connection.pending();
                    outbox.for_each(|frames| pending.extend_from_slice(&frames));
                    encode_close(code, "", pending);
                    self.begin_close(key);
                }
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

    /// Sends what a connection has to send, unless a send is under way: then `on_sent` comes back here.
    pub(super) fn flush_connection(&mut self, key: ConnectionKey) {
        let Some(connection) = self.connections.get_mut(key.0) else { return };
        if connection.is_sending {
            connection.has_more = true;
            return;
        }
        if matches!(connection.stage, Stage::Gone) {
            return;
        }
        let own = connection.take_pending();
        let taken = match connection.transport_of() {
            Some(client) => self.hub.take_frames(client, own, SEND_BYTES_MAX),
            None if own.is_empty() => None,
            None => Some((Bytes::Owned(own), false)),
        };
        let Some(connection) = self.connections.get_mut(key.0) else { return };
        match (taken, &mut connection.stage) {
            (Some((bytes, has_more)), stage) => {
                connection.is_sending = true;
                connection.has_more = has_more || matches!(stage, Stage::Closing { .. });
                self.hub.counters.bytes_out += bytes.as_slice().len() as u64;
                self.effects.push(Effect::Send(key, bytes));
            }
            (None, Stage::Closing { is_shut: is_shut @ false, .. }) => {
                *is_shut = true;
                self.effects.push(Effect::ShutDown(key));
                self.begin_linger(key);
            }
            (None, _) => {}
        }
    }

    /// All bytes of a send are with the kernel, or the connection is broken.
    pub fn on_sent(&mut self, key: ConnectionKey, result: Result<(), Broken>) {
        let Some(connection) = self.connections.get_mut(key.0) else { return };
        connection.is_sending = false;
        match result {
            Ok(()) => {
                let (has_more, is_http) = (connection.has_more, matches!(connection.stage, Stage::Http(_)));
                if has_more {
                    self.mark_dirty(key);
                }
                if is_http {
                    // Requests that waited until their predecessors' answers were taken.
                    self.resume(key);
                }
            }
            Err(Broken) => self.on_break(key),
        }
    }

    pub(super) fn mark_dirty(&mut self, key: ConnectionKey) {
        if let Some(connection) = self.connections.get_mut(key.0)
            && !connection.is_dirty
        {
            connection.is_dirty = true;
            self.dirty.push(key);
        }
    }
}

/// A send that failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Broken;
