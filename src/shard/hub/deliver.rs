//! Delivery: a broadcast to the members that this shard has.

use std::sync::Arc;

use crate::app::Application;
use crate::broadcast::Broadcast;

use super::super::client::{ClientKey, CloseReason};
use super::super::encode::{self, Carrier};
use super::super::limit::Limit;
use super::super::outbox::ConflateKey;
use super::super::sid::Sid;
use super::super::sockets::{NamespaceId, SocketStage};
use super::{Farewell, Hub, Queued, enqueue};

/// A socket of this shard: its client's slot and its place there.
pub(super) type Seat = (u32, u16);

impl<A: Application> Hub<A> {
    /// Queues a broadcast for its members here; says for how many sockets.
    pub(in super::super) fn deliver(&mut self, broadcast: &Broadcast) -> u64 {
        self.deliver_as(Carrier::Event(None), broadcast)
    }

    /// The same, and each of them is asked for an acknowledgement; says of how many one is awaited.
    pub(super) fn deliver_for_ack(&mut self, broadcast: &Broadcast, number: u64, timeout_ms: u64) -> u64 {
        let ack = self.acks.begin(number, timeout_ms, self.now.at);
        self.deliver_as(Carrier::Event(Some(ack)), broadcast);
        self.acks.seal(ack)
    }

    fn deliver_as(&mut self, carrier: Carrier, broadcast: &Broadcast) -> u64 {
        let Some(namespace) = self.settings.namespace(&broadcast.namespace) else { return 0 };
        let targets = self.select(namespace, &broadcast.rooms, &broadcast.except);
        if targets.is_empty() {
            return 0;
        }
        let frames = encode::packet_with_args(
            &mut self.scratch,
            &broadcast.namespace,
            carrier,
            &broadcast.args,
            &broadcast.attachments,
        );
        let conflate = broadcast.conflate.as_ref().map(|key| ConflateKey::new(namespace, key));
        let mut delivered = 0;
        for (slot, place) in targets {
            let Some((key, client)) = self.clients.at_mut(slot) else { continue };
            // A socket that has not been told that it is connected is promised nothing yet.
            if client.sockets.get(place).is_none_or(|socket| socket.stage == SocketStage::Joining) {
                continue;
            }
            let max = self.settings.queue_bytes_max;
            match enqueue(client, Arc::clone(&frames), conflate.as_ref(), broadcast.delivery, max) {
                Queued::Yes => {
                    delivered += 1;
                    if let Carrier::Event(Some(ack)) = carrier {
                        match self.acks.len() < self.settings.acks_pending_max {
                            true => self.acks.expect(ack, ClientKey(key), place),
                            false => self.counters.hit(Limit::AcksPendingMax),
                        }
                    }
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

    /// The sockets that rooms name, without those that others do.
    pub(super) fn select(&self, namespace: NamespaceId, rooms: &[Box<str>], except: &[Box<str>]) -> Vec<Seat> {
        let mut targets = self.targets(namespace, rooms);
        if !except.is_empty() {
            let except = self.members_of(namespace, except);
            targets.retain(|seat| except.binary_search(seat).is_err());
        }
        targets
    }

    /// The sockets that rooms name; all sockets of the namespace when there are none. Each once.
    fn targets(&self, namespace: NamespaceId, rooms: &[Box<str>]) -> Vec<Seat> {
        if !rooms.is_empty() {
            return self.members_of(namespace, rooms);
        }
        let all =
            self.clients.iter().filter_map(|(key, client)| Some((key.index, client.sockets.place_in(namespace)?)));
        all.collect()
    }

    /// The members of some rooms, sorted, each once.
    fn members_of(&self, namespace: NamespaceId, rooms: &[Box<str>]) -> Vec<Seat> {
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
    pub(super) fn socket_with(&self, namespace: NamespaceId, sid: &str) -> Option<Seat> {
        let sid = Sid::parse(sid)
            .filter(|sid| sid.instance() == self.settings.instance && sid.shard() == self.shard.number)?;
        let (key, client) = self.clients.at(sid.slot())?;
        let place = client.sockets.place_in(namespace)?;
        (client.sockets.get(place)?.random == sid.random()).then_some((key.index, place))
    }
}
