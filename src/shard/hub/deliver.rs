//! Delivery: a broadcast to the members that this shard has, and what the shard says of itself.

use std::sync::Arc;

use sockring_protocol::engineio::Transport;

use crate::app::Application;
use crate::broadcast::Broadcast;

use super::super::client::{ClientKey, CloseReason, Phase};
use super::super::encode::{self, Carrier};
use super::super::mail::{Mail, Reply, ShardMetrics, ShardStats};
use super::super::rooms::USER_PREFIX;
use super::super::sid::Sid;
use super::super::sockets::NamespaceId;
use super::{Farewell, Hub, Queued, enqueue};

/// A socket of this shard: its client's slot and its place there.
pub(super) type Place = (u32, u16);

/// What the shard knows of connections and the hub does not.
#[derive(Clone, Copy, Debug)]
pub(in super::super) struct ConnectionCounts {
    pub(in super::super) all: u64,
    pub(in super::super) closing: u64,
}

impl<A: Application> Hub<A> {
    /// Takes one mail and answers it.
    pub(in super::super) fn on_mail(&mut self, mail: Mail, connections: impl FnOnce() -> ConnectionCounts) -> Reply {
        match mail {
            Mail::Emit(broadcast) => Reply::Delivered(self.deliver(&broadcast)),
            Mail::Join(target, room) => Reply::Changed(self.join_target(&target, &room)),
            Mail::Leave(target, room) => Reply::Changed(self.leave_target(&target, &room)),
            Mail::Disconnect(target, ending) => Reply::Changed(self.end_target(&target, ending)),
            Mail::Stand(event) => {
                self.standing = event;
                Reply::Changed(0)
            }
            Mail::Stats => Reply::Stats(self.stats(connections())),
            Mail::Metrics => {
                let metrics = ShardMetrics { stats: self.stats(connections()), counters: self.counters.clone() };
                Reply::Metrics(Box::new(metrics))
            }
            Mail::UserStatus(user) => {
                let room = self.rooms.find(NamespaceId(0), &[USER_PREFIX, &user].concat());
                Reply::Sockets(room.map_or(0, |room| self.rooms.members(room).len() as u64))
            }
        }
    }

    /// Queues a broadcast for its members here; says for how many sockets.
    pub(in super::super) fn deliver(&mut self, broadcast: &Broadcast) -> u64 {
        let Some(namespace) = self.settings.namespace(&broadcast.namespace) else { return 0 };
        let mut targets = self.targets(namespace, &broadcast.rooms);
        if !broadcast.except.is_empty() {
            let except = self.members_of(namespace, &broadcast.except);
            targets.retain(|place| except.binary_search(place).is_err());
        }
        if targets.is_empty() {
            return 0;
        }
        let carrier = Carrier::Event(None);
        let frames = encode::packet_with_args(
            &mut self.scratch,
            &broadcast.namespace,
            carrier,
            &broadcast.args,
            &broadcast.attachments,
        );
        let mut delivered = 0;
        for (slot, _) in targets {
            let Some((key, client)) = self.clients.at_mut(slot) else { continue };
            match enqueue(client, Arc::clone(&frames), broadcast.delivery, self.settings.queue_bytes_max) {
                Queued::Yes => {
                    delivered += 1;
                    if !client.is_dirty {
                        client.is_dirty = true;
                        self.dirty.push(ClientKey(key));
                    }
                }
                Queued::Dropped => self.counters.volatile_dropped += 1,
                Queued::Full => self.drop_client(ClientKey(key), CloseReason::QueueFull, None, Farewell::Now),
            }
        }
        self.counters.delivered += delivered;
        delivered
    }

    /// The sockets that rooms name; all sockets of the namespace when there are none. Each once.
    fn targets(&self, namespace: NamespaceId, rooms: &[Box<str>]) -> Vec<Place> {
        if !rooms.is_empty() {
            return self.members_of(namespace, rooms);
        }
        let all =
            self.clients.iter().filter_map(|(key, client)| Some((key.index, client.sockets.place_in(namespace)?)));
        all.collect()
    }

    /// The members of some rooms, sorted, each once.
    fn members_of(&self, namespace: NamespaceId, rooms: &[Box<str>]) -> Vec<Place> {
        let mut places = Vec::new();
        for room in rooms {
            if let Some(id) = self.rooms.find(namespace, room) {
                places.extend(self.rooms.members(id).iter().map(|member| (member.client, member.socket)));
            }
            places.extend(self.socket_with(namespace, room));
        }
        places.sort_unstable();
        places.dedup();
        places
    }

    /// A socket's sid is a room of its own that is not stored: the sid itself says where the socket is.
    pub(super) fn socket_with(&self, namespace: NamespaceId, sid: &str) -> Option<Place> {
        let sid = Sid::parse(sid).filter(|sid| sid.shard == self.shard)?;
        let (key, client) = self.clients.at(sid.slot)?;
        let place = client.sockets.place_in(namespace)?;
        (client.sockets.get(place)?.random == sid.random).then_some((key.index, place))
    }

    /// How many of each there are.
    pub(in super::super) fn stats(&self, connections: ConnectionCounts) -> ShardStats {
        let mut stats = ShardStats {
            connections: connections.all,
            closing: connections.closing,
            clients: self.clients.len() as u64,
            users: self.rooms.users() as u64,
            rooms: self.rooms.len() as u64,
            ..ShardStats::default()
        };
        for (_, client) in self.clients.iter() {
            stats.queued_bytes += u64::from(client.queued_bytes);
            stats.sockets += client.sockets.len() as u64;
            stats.unclaimed += u64::from(client.phase == Phase::Unclaimed);
            stats.leaving += u64::from(client.phase == Phase::Farewell);
            stats.probing += u64::from(client.session.is_probing());
            stats.assembling += u64::from(client.assembler.is_some());
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
