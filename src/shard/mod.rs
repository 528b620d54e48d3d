//! A shard: everything that one core knows, as plain data behind a handful of methods. It does no I/O and reads no clock.
//!
//! A turn: `on_time`, then `on_accept`, `on_bytes`, `on_sent`, `on_hangup`, `on_closed` and `on_mail` as things happen, then
//! `on_tick`, then `flush`. What the shard wants comes out of `flush` as effects. Between `on_accept` and `on_closed` a key
//! is valid; `on_closed` comes exactly once.

mod client;
mod connection;
mod effects;
mod encode;
mod flush;
mod frames;
mod hub;
mod mail;
mod metrics;
mod outbox;
mod requests;
mod rooms;
mod settings;
mod sid;
mod slots;
mod sockets;
mod timers;

use std::sync::Arc;

use sockring_protocol::Millis;

use crate::app::Application;
use crate::broadcast::Broadcast;

use connection::Connection;
use hub::{ConnectionCounts, Hub};
use sid::RandomPool;
use slots::Slots;
use timers::Timers;

pub use client::{ClientKey, CloseReason, ConnectionKey};
pub use effects::{Bytes, Destination, Effect};
pub use flush::Broken;
pub use hub::Now;
pub use mail::{Ending, Mail, Reply, ShardMetrics, ShardStats, Target, Ticket};
pub use metrics::Counters;
pub use outbox::Frames;
pub use rooms::USER_PREFIX;
pub use settings::{Elsewhere, EngineSettings, Layer};
pub use sid::{Entropy, Sid};
pub use slots::Key;

/// The connections, clients and rooms of one core.
pub struct Shard<A> {
    connections: Slots<Connection>,
    hub: Hub<A>,
    timers: Timers<ConnectionKey>,
    effects: Vec<Effect>,
    /// Connections that have something to send.
    dirty: Vec<ConnectionKey>,
    /// Connections whose held GET was answered, with more bytes behind it.
    resumable: Vec<ConnectionKey>,
    due: Vec<ConnectionKey>,
}

impl<A: Application> Shard<A> {
    /// A shard with its number among its siblings. `entropy` makes its session ids.
    pub fn new(settings: Arc<EngineSettings>, number: u16, app: A, entropy: Box<dyn Entropy>, now: Now) -> Shard<A> {
        Shard {
            connections: Slots::with_capacity(settings.connections_max),
            timers: Timers::new(now.at),
            hub: Hub::new(settings, number, app, RandomPool::new(entropy), now),
            effects: Vec::new(),
            dirty: Vec::new(),
            resumable: Vec::new(),
            due: Vec::new(),
        }
    }

    /// The time of the turn that begins.
    pub fn on_time(&mut self, now: Now) {
        self.hub.now = now;
    }

    /// A connection was accepted, or came back from where it had been handed to. `None`: there is no room for it.
    pub fn on_accept(&mut self) -> Option<ConnectionKey> {
        let key = self.add_connection()?;
        self.effects.push(Effect::Read(key));
        Some(key)
    }

    /// A connection came back with bytes that were read elsewhere.
    pub fn on_arrival(&mut self, bytes: &mut [u8]) -> Option<ConnectionKey> {
        let key = self.add_connection()?;
        self.on_bytes(key, bytes);
        Some(key)
    }

    fn add_connection(&mut self) -> Option<ConnectionKey> {
        let Some(key) = self.connections.insert(Connection::new()).map(ConnectionKey) else {
            self.hub.counters.full += 1;
            return None;
        };
        if let Some(connection) = self.connections.get_mut(key.0) {
            connection.deadline = self.hub.now.at + self.hub.settings.head_timeout_ms;
        }
        self.arm_connection(key);
        Some(key)
    }

    /// Whether another connection would find room.
    pub fn has_room(&self) -> bool {
        self.connections.next_key().is_some()
    }

    /// Nothing refers to the connection any more, outside and in the kernel.
    pub fn on_closed(&mut self, key: ConnectionKey) {
        self.connections.remove(key.0);
    }

    /// Fires what is due. Comes after everything that happened in the turn, so that a pong beats its timeout.
    pub fn on_tick(&mut self) {
        self.hub.expire();
        let mut due = std::mem::take(&mut self.due);
        self.timers.advance(self.hub.now.at, |key| due.push(key));
        for key in due.drain(..) {
            self.expire_connection(key);
        }
        self.due = due;
    }

    /// When the next turn has to come at the latest.
    pub fn deadline(&self) -> Option<Millis> {
        [self.hub.deadline(), self.timers.deadline()].into_iter().flatten().min()
    }

    /// A mail came; its answer is among the effects, under the ticket.
    pub fn on_mail(&mut self, ticket: Ticket, mail: Mail) {
        let Shard { hub, connections, .. } = self;
        let reply = hub.on_mail(mail, || count(connections));
        self.effects.push(Effect::Reply(ticket, reply));
    }

    /// Tells every client this and ends it at the engine level, so that it reconnects by itself. Ends idle connections too.
    pub fn shut_down(&mut self, farewell: &Broadcast) {
        for namespace in &Arc::clone(&self.hub.settings).namespaces {
            self.hub.deliver(&Broadcast { namespace: namespace.as_str().into(), ..farewell.clone() });
        }
        self.hub.shut_down();
        let connections: Vec<_> = self.connections.iter().map(|(key, _)| ConnectionKey(key)).collect();
        for key in connections {
            self.close_if_idle(key);
        }
    }

    /// How many of each there are.
    pub fn stats(&self) -> ShardStats {
        self.hub.stats(count(&self.connections))
    }

    /// How often things happened.
    pub fn counters(&self) -> &Counters {
        &self.hub.counters
    }

    fn arm_connection(&mut self, key: ConnectionKey) {
        let Some(connection) = self.connections.get_mut(key.0) else { return };
        if connection.deadline < connection.timer_at {
            connection.timer_at = self.timers.put(connection.deadline, key, self.hub.now.at);
        }
    }
}

/// Walks over all of them: for those who ask, not for every turn.
fn count(connections: &Slots<Connection>) -> ConnectionCounts {
    let closing = connections.iter().filter(|(_, connection)| connection.is_closing()).count();
    ConnectionCounts { all: connections.len() as u64, closing: closing as u64 }
}
