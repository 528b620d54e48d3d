//! Keeping: how kept events come to their users' sockets, and how it is known that they have.
//!
//! A socket that is there gets an event at once, and one that connects gets all that is kept, in order, behind its greeting.
//! An event is kept until one socket of its user has it for certain.

use std::sync::Arc;

use sockring_protocol::adapter::{Broadcast, Delivery};
use sockring_protocol::engineio::Step;

use crate::app::Application;
use crate::shard::clients::client::ClientKey;
use crate::shard::clients::encode::{self, Carrier};
use crate::shard::clients::outbox::ConflateKey;
use crate::shard::event_id::EventId;
use crate::shard::hub::Hub;
use crate::shard::limit::Limit;
use crate::shard::mail::{Keep, Keeping, KeptView, Reply};
use crate::shard::metrics::KeptEnd;

use super::fan_out::{EncodedMessage, KeptName};
use super::kept::{Bounds, KeptEvent};
use super::receipts::SentEvent;
use super::sockets::{NamespaceId, Seat};

/// Of what may be queued for a socket, the part that kept events fill at once.
const QUEUE_SHARE: usize = 2;
/// What is kept about a message that waits, at the least.
const MESSAGE_OVERHEAD: usize = 64;

/// A kept event for a socket that has not had it.
struct Next {
    id: EventId,
    place: u64,
    args: Arc<[u8]>,
    conflate: Option<ConflateKey>,
}

impl<A: Application> Hub<A> {
    /// Keeps an event for the user whose room it goes to, if there is room for it.
    pub(crate) fn keep(&mut self, broadcast: &Broadcast, id: EventId, keep: &Keep) -> (Keeping, Option<KeptName>) {
        let ([room], Some(namespace)) = (&*broadcast.rooms, self.settings.namespace(&broadcast.namespace)) else {
            return (Keeping::UserFull, None);
        };
        let now = self.now;
        self.drop_expired();
        let event = KeptEvent {
            id,
            namespace,
            args: Arc::clone(&broadcast.args),
            except: broadcast.except.clone().into(),
            conflate: broadcast.conflate.clone(),
            emitted_unix_ms: keep.emitted_unix_ms,
            expires_at: now.at + keep.expires_unix_ms.saturating_sub(now.unix_ms),
            expires_unix_ms: keep.expires_unix_ms,
            on_its_way: 0,
            place: 0,
        };
        let bounds = Bounds {
            events_per_user_max: self.settings.kept_events_per_user_max,
            // Each shard has its part of what all may keep.
            bytes_max: self.settings.kept_bytes_max / usize::from(self.shard.of).max(1),
        };
        let before = self.kept.events();
        let keeping = self.kept.keep(room, event, bounds, now.at);
        if keeping != Keeping::Kept {
            self.counters.hit(match keeping {
                Keeping::MemoryFull => Limit::KeptBytesMax,
                Keeping::Kept | Keeping::UserFull => Limit::KeptEventsPerUserMax,
            });
            self.counters.count_kept(KeptEnd::Refused, 1);
            return (keeping, None);
        }
        self.counters.count_kept(KeptEnd::Replaced, u64::from(self.kept.events() == before));
        (keeping, self.kept.name(room).map(|room| KeptName { room, id }))
    }

    /// Drops what is over.
    pub(crate) fn drop_expired(&mut self) {
        let expired = self.kept.expire(self.now.at);
        self.counters.count_kept(KeptEnd::Expired, expired);
    }

    /// A socket has a kept event queued: when it has received it, it is kept no longer.
    pub(crate) fn on_kept_queued(&mut self, key: ClientKey, place: u16, kept: &KeptName) {
        self.kept.send(&kept.room, kept.id);
        let sent = SentEvent { room: Arc::clone(&kept.room), id: kept.id, place, at: self.now.at };
        self.receipts.expect(key, sent);
    }

    /// Whether a socket gets what is kept when it has taken what came before: what was kept, or what it reads out of the log.
    pub(crate) fn waits_its_turn(&mut self, seat: Seat, kept: &KeptName) -> bool {
        let Some((key, _)) = self.directory.at(seat.0) else { return false };
        if self.receipts.is_behind(key, seat.1) {
            return true;
        }
        if !self.is_behind_at(seat) {
            return false;
        }
        let had = self.kept.place_of(&kept.room, kept.id).unwrap_or_default().saturating_sub(1);
        self.receipts.fall_behind(key, seat.1, had);
        self.receipts.ask(key);
        true
    }

    /// A socket that was told that it is connected gets what is kept for its user, behind the place up to which it has had it.
    pub(crate) fn send_kept(&mut self, key: ClientKey, place: u16, mut had: u64) {
        let Some(socket) = self.directory.socket(key, place) else { return };
        let (Some(user), namespace) = (socket.user, socket.namespace) else { return };
        let Some(room) = self.kept.name(self.membership.name(user.room())) else { return };
        while let Some(next) = self.next_kept(key, place, &room, had) {
            let Some(waiting) = self.directory.outbox(key).map(|outbox| outbox.bytes()) else { return };
            let bytes = next.args.len() + MESSAGE_OVERHEAD;
            if waiting > 0 && waiting + bytes > self.settings.queue_bytes_max / QUEUE_SHARE {
                // It goes on when it has taken this.
                self.receipts.fall_behind(key, place, had);
                return self.receipts.ask(key);
            }
            had = next.place;
            let mark = self.mark_at((key.0.index, place));
            let frames = encode::packet_with_args::<&[u8]>(
                &mut self.scratch,
                self.settings.namespace_name(namespace),
                Carrier::Event(None),
                &next.args,
                &[],
                mark,
            );
            let kept = Some(KeptName { room: Arc::clone(&room), id: next.id });
            let message = EncodedMessage {
                frames,
                conflate: next.conflate,
                delivery: Delivery::Queue,
                ack: None,
                position: None,
                kept,
            };
            self.queue_for((key.0.index, place), &message);
        }
    }

    /// The first event behind a place that is for this socket.
    fn next_kept(&self, key: ClientKey, place: u16, room: &str, had: u64) -> Option<Next> {
        let namespace = self.directory.socket(key, place)?.namespace;
        let event = self
            .kept
            .of_user(room, self.now.at)
            .filter(|event| event.place > had && event.namespace == namespace)
            .find(|event| !self.is_excepted(key, place, namespace, &event.except))?;
        let conflate = event.conflate.as_ref().map(|key| ConflateKey::new(namespace, key));
        Some(Next { id: event.id, place: event.place, args: Arc::clone(&event.args), conflate })
    }

    /// Whether a socket is in one of these rooms.
    fn is_excepted(&self, key: ClientKey, place: u16, namespace: NamespaceId, except: &[Box<str>]) -> bool {
        !except.is_empty() && self.select(namespace, except, &[]).contains(&(key.0.index, place))
    }

    /// Pings those who have something queued for which a receipt is wanted.
    pub(crate) fn ping_for_receipts(&mut self) {
        let moment = self.moment();
        for key in self.receipts.take_wanted() {
            let Some(client) = self.directory.get_mut(key) else { continue };
            if client.session.ping_now(moment, &self.settings.times) == Step::SendPing {
                self.send_ping(key);
                self.arm(key);
            }
        }
    }

    /// Queues a ping.
    pub(crate) fn send_ping(&mut self, key: ClientKey) {
        let ping = self.ping_of(key);
        self.push(key, ping, Delivery::Queue);
        self.receipts.on_ping(key);
    }

    /// A client has answered its ping: it has all that was queued before that.
    pub(crate) fn on_pong(&mut self, key: ClientKey) {
        for SentEvent { room, id, at, .. } in self.receipts.on_pong(key) {
            if self.kept.remove(&room, id) {
                self.counters.count_kept(KeptEnd::Received, 1);
                self.counters.receipts.observe(self.now.at - at);
            }
        }
        for (place, had) in self.receipts.take_behind(key) {
            self.send_kept(key, place, had);
        }
    }

    /// A socket ends, and what it had queued is on its way to it no more.
    pub(crate) fn forget_receipts(&mut self, key: ClientKey, place: u16) {
        if self.receipts.is_empty() {
            return;
        }
        for SentEvent { room, id, .. } in self.receipts.forget(key, place) {
            self.kept.unsend(&room, id);
        }
    }

    /// What is kept for a user, behind the event of this id.
    pub(crate) fn kept_for(&self, room: &str, after: Option<EventId>, limit: usize) -> Reply {
        let all = || self.kept.of_user(room, self.now.at);
        let behind = match after.and_then(|id| all().find(|event| event.id == id)) {
            Some(event) => event.place,
            None => 0,
        };
        // One that is not kept any more was before all that are later by their ids.
        let is_behind =
            |event: &&KeptEvent| event.place > behind && (behind > 0 || after.is_none_or(|after| event.id > after));
        let mut events = all().filter(is_behind);
        let views = events.by_ref().take(limit).map(|event| KeptView {
            id: event.id,
            namespace: self.settings.namespace_name(event.namespace).into(),
            args: Arc::clone(&event.args),
            emitted_unix_ms: event.emitted_unix_ms,
            expires_unix_ms: event.expires_unix_ms,
            is_sent: event.on_its_way > 0,
        });
        let views = views.collect();
        Reply::Kept { events: views, has_more: events.next().is_some(), total: all().count() as u64 }
    }

    /// Takes back what is kept for a user: one event, or all.
    pub(crate) fn unkeep(&mut self, room: &str, id: Option<EventId>) -> Reply {
        self.drop_expired();
        let count = match id {
            None => self.kept.clear(room),
            Some(id) => u64::from(self.kept.remove(room, id)),
        };
        self.counters.count_kept(KeptEnd::Deleted, count);
        Reply::Changed(count)
    }
}
