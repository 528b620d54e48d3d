//! What a shard says of itself.

use sockring_protocol::engineio::Transport;

use crate::app::Application;
use crate::shard::clients::client::Phase;
use crate::shard::rooms::sockets::{Socket, SocketStage};

use super::super::mail::ShardStats;
use super::Hub;

/// What the shard knows of connections and the hub does not.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct ConnectionCounts {
    pub(crate) all: u64,
    pub(crate) closing: u64,
    /// Begun and not complete.
    pub(crate) heads: u64,
    pub(crate) bodies: u64,
    pub(crate) closing_bytes: u64,
    pub(crate) sending_bytes: u64,
    /// May be closed for others.
    pub(crate) idle: u64,
}

impl<A: Application> Hub<A> {
    /// How many of each there are.
    pub(crate) fn stats(&self, connections: ConnectionCounts) -> ShardStats {
        let counts = self.membership.counts();
        let mut stats = ShardStats {
            connections: connections.all,
            closing: connections.closing,
            clients: self.directory.len() as u64,
            heads: connections.heads,
            bodies: connections.bodies,
            closing_bytes: connections.closing_bytes,
            sending_bytes: connections.sending_bytes,
            input_bytes: self.input_bytes as u64,
            idle: connections.idle,
            moved_away: self.directory.moved_away() as u64,
            users: counts.users as u64,
            rooms: counts.rooms as u64,
            subscriptions_pending: counts.subscriptions_pending as u64,
            acks_pending: self.broadcasts.acks_pending() as u64,
            deliveries_pending: self.broadcasts.deliveries_pending() as u64,
            kept_events: self.kept.events() as u64,
            kept_users: self.kept.users() as u64,
            kept_bytes: self.kept.bytes() as u64,
            idempotency_keys: self.once.len() as u64,
            connects_waiting: self.waiting.len() as u64,
            is_draining: self.is_draining(),
            ..ShardStats::default()
        };
        if let Some(recovery) = self.recovery.as_deref() {
            stats.recovery_events = recovery.log.len() as u64;
            stats.recovery_bytes = recovery.log.bytes() as u64;
            stats.recovery_oldest_ms = recovery.log.oldest_ms(self.now.at);
            stats.lingering_rooms = self.membership.lingering() as u64;
            stats.behind = recovery.behind() as u64;
        }
        for (_, client) in self.directory.iter() {
            stats.queued_bytes += client.outbox.bytes() as u64;
            stats.sockets += client.sockets.len() as u64;
            let joining = |(_, socket): &(u16, &Socket)| socket.stage == SocketStage::Joining;
            stats.joining += client.sockets.iter().filter(joining).count() as u64;
            stats.unclaimed += u64::from(client.phase == Phase::Unclaimed);
            stats.leaving += u64::from(client.phase == Phase::Farewell);
            stats.probing += u64::from(client.session.is_probing());
            stats.assembling += u64::from(client.begun.assembler.is_some());
            if client.is_connected() {
                stats.connected += 1;
                match client.session.transport() {
                    Transport::WebSocket => stats.websocket += 1,
                    Transport::Polling => stats.polling += 1,
                }
            }
        }
        stats
    }
}
