//! Keeping: how kept events come to their users' sockets, and how it is known that they have.
//!
//! A socket that is there gets an event at once, and one that connects gets all that is kept, in order, behind its greeting.
//! An event is kept until one socket of its user has it for certain.

use std::sync::Arc;

use sockring_protocol::adapter::{Broadcast, Delivery};
use sockring_protocol::engineio::{Step, Transport};

use crate::app::Application;
use crate::shard::clients::client::{ClientKey, CloseReason, Farewell, Queued};
use crate::shard::clients::encode::{self, Carrier};
use crate::shard::clients::outbox::ConflateKey;
use crate::shard::event_id::EventId;
use crate::shard::hub::Hub;
use crate::shard::limit::Limit;
use crate::shard::mail::{Keep, Keeping, KeptBy, KeptView, Remembered, Reply, RoomName};
use crate::shard::metrics::{AckEnd, KeptEnd};
use crate::shard::moving::sid::Sid;
use crate::shard::recovery::position::Position;

use super::fan_out::KeptName;
use super::kept::{Bounds, Choice, KeptEvent};
use super::receipts::{Had, SentEvent, WantedBy};
use super::sockets::{NamespaceId, Seat};

/// Of what may be queued for a socket, the part that kept events fill at once.
const QUEUE_SHARE: usize = 2;
/// What is kept about a message that waits, at the least.
const MESSAGE_OVERHEAD: usize = 64;

/// A kept event for a socket that has not had it.
struct Next {
    id: EventId,
    place: u64,
    namespace: NamespaceId,
    args: Arc<[u8]>,
    conflate: Option<ConflateKey>,
    /// How far the socket has got when it has it.
    position: Option<Position>,
}

impl<A: Application> Hub<A> {
    /// Keeps an event for the user whose room it goes to, if there is room for it. Where the bus could not take it, it is given
    /// to it later.
    pub(crate) fn keep(&mut self, emit: &Remembered, keep: &Keep) -> (Keeping, Option<KeptName>) {
        let Remembered { broadcast, id, key, by, .. } = emit;
        let (id, by) = (*id, *by);
        let ([room], Some(namespace)) = (&*broadcast.rooms, self.settings.namespace(&broadcast.namespace)) else {
            return (Keeping::UserFull, None);
        };
        self.drop_expired();
        let event = KeptEvent { by, key: key.map(Box::new), ..self.kept_event(namespace, broadcast, id, keep) };
        let bounds = self.kept_bounds(self.settings.kept_events_per_user_max);
        let before = self.kept.events();
        let keeping = self.kept.keep(room, event, bounds, self.now.at);
        if keeping != Keeping::Kept {
            self.counters.hit(match keeping {
                Keeping::MemoryFull => Limit::KeptBytesMax,
                Keeping::Kept | Keeping::KeptByBus | Keeping::UserFull => Limit::KeptEventsPerUserMax,
            });
            self.counters.count_kept(KeptEnd::Refused, 1);
            return (keeping, None);
        }
        self.counters.count_kept(KeptEnd::Replaced, u64::from(self.kept.events() == before));
        let name = self.kept.name(room);
        if let (Some(mailboxes), Some(room)) = (self.mailboxes.as_deref_mut(), &name) {
            mailboxes.give_later(Arc::clone(room), id);
        }
        (keeping, name.map(|room| KeptName { room, id }))
    }

    /// An event as it is kept here.
    pub(crate) fn kept_event(
        &self,
        namespace: NamespaceId,
        broadcast: &Broadcast,
        id: EventId,
        keep: &Keep,
    ) -> KeptEvent {
        KeptEvent {
            id,
            namespace,
            args: Arc::clone(&broadcast.args),
            except: broadcast.except.clone().into(),
            conflate: broadcast.conflate.clone(),
            emitted_unix_ms: keep.emitted_unix_ms,
            expires_at: self.now.at + keep.expires_unix_ms.saturating_sub(self.now.unix_ms),
            expires_unix_ms: keep.expires_unix_ms,
            on_its_way: 0,
            place: 0,
            position: None,
            offers: Vec::new(),
            by: KeptBy::Us,
            known_as: None,
            key: None,
        }
    }

    /// Each shard has its part of what all may keep.
    pub(crate) fn kept_bounds(&self, events_per_user_max: usize) -> Bounds {
        Bounds { events_per_user_max, bytes_max: self.settings.kept_bytes_max / usize::from(self.shard.of).max(1) }
    }

    /// An event that is not kept replaces what is kept under its key for the users that it is for: who has got the newer one
    /// would get the older one after it.
    pub(crate) fn outdate_kept(&mut self, namespace: NamespaceId, rooms: &[Box<str>], key: &str) {
        if self.kept.events() == 0 {
            return;
        }
        for room in rooms {
            let Some(id) = self.kept.under(room, namespace, key) else { continue };
            let is_by_us = self.kept.find(room, id).is_some_and(|event| event.by == KeptBy::Us);
            if let Some(mailboxes) = self.mailboxes.as_deref_mut().filter(|_| !is_by_us) {
                mailboxes.receive(RoomName { namespace, name: room.clone() }, id, self.now.at);
            }
            self.kept.remove(room, id);
            self.counters.count_kept(KeptEnd::Replaced, 1);
        }
    }

    /// Drops what is over.
    pub(crate) fn drop_expired(&mut self) {
        let expired = self.kept.expire(self.now.at);
        self.counters.count_kept(KeptEnd::Expired, expired);
    }

    /// A socket has a kept event queued: when it has received it, it is kept no longer.
    pub(crate) fn on_kept_queued(&mut self, key: ClientKey, place: u16, kept: &KeptName, position: Option<Position>) {
        self.kept.send(&kept.room, kept.id);
        if let (Some(_), Some(socket)) = (&self.recovery, self.directory.socket(key, place)) {
            let sid = self.directory.sid_of(key, place, socket.random);
            self.kept.offer(&kept.room, kept.id, sid, position);
        }
        let wanted = WantedBy::Kept { room: Arc::clone(&kept.room), id: kept.id };
        self.receipts.expect(key, SentEvent { wanted, place, at: self.now.at });
    }

    /// Whether a socket gets what is kept when it has taken what was kept before.
    pub(crate) fn gets_kept_later(&self, seat: Seat) -> bool {
        self.directory.at(seat.0).is_some_and(|(key, _)| self.receipts.is_behind(key, seat.1))
    }

    /// A socket whose session begins gets what is kept for its user, and each event has a position for when it comes back.
    pub(crate) fn offer_kept(&mut self, key: ClientKey, place: u16) {
        let Some(room) = self.user_with_kept(key, place) else { return };
        let position = self.recovery.as_deref().map_or(Position::MAX, |recovery| recovery.log.head());
        let mut had = Had { place: 0, log_from: Position::MAX, reached: position, choice: Choice::All };
        self.hold_back((key.0.index, place), position);
        while let Some(next) = self.next_kept(key, place, &room, had) {
            had.place = next.place;
            let (Some(recovery), Some(socket)) = (self.recovery.as_deref_mut(), self.directory.socket(key, place))
            else {
                break;
            };
            let sid = self.directory.sid_of(key, place, socket.random);
            self.kept.offer(&room, next.id, sid, Some(recovery.log.advance(self.now.at)));
        }
        let log_from = self.recovery.as_deref().map_or(Position::MAX, |recovery| recovery.log.head());
        let choice = if self.recovery.is_some() { Choice::Offered } else { Choice::All };
        self.send_kept(key, place, Had { place: 0, log_from, choice, ..had });
    }

    /// A socket gets what is kept for its user and does not come out of the log, behind what it has had of it.
    pub(crate) fn send_kept(&mut self, key: ClientKey, place: u16, mut had: Had) {
        let seat = (key.0.index, place);
        let room = self.user_with_kept(key, place);
        while let Some(room) = &room
            && let Some(next) = self.next_kept(key, place, room, had)
        {
            let Some(waiting) = self.directory.outbox(key).map(|outbox| outbox.bytes()) else { return };
            let bytes = next.args.len() + MESSAGE_OVERHEAD;
            if waiting > 0 && waiting + bytes > self.settings.queue_bytes_max / QUEUE_SHARE {
                // It goes on when it has taken this.
                self.receipts.fall_behind(key, place, had);
                return self.receipts.ask(key);
            }
            had.place = next.place;
            had.reached = next.position.map_or(had.reached, |position| position.max(had.reached));
            self.hold_back_further(seat, had.reached);
            if !self.queue_kept(key, place, &next, had.reached) {
                return;
            }
            self.on_kept_queued(key, place, &KeptName { room: Arc::clone(room), id: next.id }, None);
        }
        // What waits in the log goes on.
        self.directory.mark_dirty(key);
    }

    /// Queues a kept event; says whether it was. Whose queue has no room for it is closed.
    fn queue_kept(&mut self, key: ClientKey, place: u16, next: &Next, reached: Position) -> bool {
        let frames = encode::packet_with_args::<&[u8]>(
            &mut self.scratch,
            self.settings.namespace_name(next.namespace),
            Carrier::Event(None),
            &next.args,
            &[],
            self.recovery.as_deref().map(|recovery| recovery.mark_of(reached)),
        );
        let (seat, max) = ((key.0.index, place), self.settings.queue_bytes_max);
        match self.directory.queue_at(seat, &frames, next.conflate.as_ref(), Delivery::Queue, max) {
            Some((_, Queued::Yes)) => {
                self.broadcasts.spend(self.settings.turn.changes_per_message);
                self.counters.delivered += 1;
                true
            }
            Some((_, Queued::Full)) => {
                self.drop_client(key, CloseReason::QueueFull, None, Farewell::Now);
                false
            }
            Some((_, Queued::Dropped)) | None => false,
        }
    }

    /// The room of a socket's user, if something is kept for it.
    fn user_with_kept(&self, key: ClientKey, place: u16) -> Option<Arc<str>> {
        let user = self.directory.socket(key, place)?.user?;
        self.kept.name(self.membership.name(user.room()))
    }

    /// The first event that a socket has not had, and does not get out of the log.
    fn next_kept(&self, key: ClientKey, place: u16, room: &str, had: Had) -> Option<Next> {
        let socket = self.directory.socket(key, place)?;
        let (namespace, sid) = (socket.namespace, self.directory.sid_of(key, place, socket.random));
        let is_its = |event: &&KeptEvent| {
            event.place > had.place
                && event.namespace == namespace
                && event.is_chosen(had.choice, sid)
                && event.position.is_none_or(|position| position <= had.log_from)
        };
        let mut events = self.kept.of_user(room, self.now.at).filter(is_its);
        // Whom it was offered to it was for.
        let is_for_it = |event: &&KeptEvent| {
            event.offer_to(sid).is_some() || !self.is_excepted(key, place, namespace, &event.except)
        };
        let event = events.find(is_for_it)?;
        let conflate = event.conflate.as_ref().map(|key| ConflateKey::new(namespace, key));
        let position = event.offer_to(sid).and_then(|offer| offer.position);
        Some(Next { id: event.id, place: event.place, namespace, args: Arc::clone(&event.args), conflate, position })
    }

    /// A socket says how far it has got: what it has received so is kept no longer.
    pub(crate) fn confirm_kept(&mut self, room: &str, sid: Sid, through: Position) {
        for id in self.kept.received_by(room, sid, through) {
            self.receive_kept(room, id);
        }
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

    /// Lets a ping that is due soon go along with what leaves for a client by its WebSocket.
    pub(crate) fn ping_along(&mut self, key: ClientKey) {
        let moment = self.moment();
        let Some(client) = self.directory.get_mut(key) else { return };
        let is_served = client.connection.is_some() && client.session.transport() == Transport::WebSocket;
        if is_served
            && !client.outbox.is_empty()
            && client.session.ping_along(moment, &self.settings.times) == Step::SendPing
        {
            self.send_ping(key);
            self.arm(key);
        }
    }

    /// Queues a ping.
    pub(crate) fn send_ping(&mut self, key: ClientKey) {
        // What ends one of its sockets may be among what is due to it.
        self.catch_up(key.0.index);
        let ping = self.ping_of(key);
        self.push(key, ping, Delivery::Queue);
        self.receipts.on_ping(key);
    }

    /// A client has answered its ping: it has all that was queued before that.
    pub(crate) fn on_pong(&mut self, key: ClientKey) {
        for SentEvent { wanted, place, at } in self.receipts.on_pong(key) {
            match wanted {
                WantedBy::Kept { room, id } if self.receive_kept(&room, id) => {
                    self.counters.receipts.observe(self.now.at - at);
                }
                WantedBy::Kept { .. } => {}
                WantedBy::Backend(ack) => {
                    if self.broadcasts.take_ack(ack, key, place, b"[]").is_some() {
                        self.counters.count_acks(AckEnd::Received, 1);
                        self.counters.receipts.observe(self.now.at - at);
                    }
                }
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
        for SentEvent { wanted, .. } in self.receipts.forget(key, place) {
            // Whom a backend waits for is known elsewhere.
            if let WantedBy::Kept { room, id } = wanted {
                self.kept.unsend(&room, id);
            }
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
            by: event.by,
        });
        let views = views.collect();
        Reply::Kept { events: views, has_more: events.next().is_some(), total: all().count() as u64 }
    }

    /// Takes back what is kept for a user: one event, or all.
    pub(crate) fn unkeep(&mut self, room: &str, id: Option<EventId>) -> Reply {
        self.drop_expired();
        let is_meant = |event: &&KeptEvent| id.is_none_or(|id| event.id == id);
        let all = self.kept.of_user(room, self.now.at).filter(is_meant);
        let meant: Vec<_> = all.map(|event| (event.namespace, event.id, event.by)).collect();
        let (mut here, mut by_bus) = (0, 0);
        for (namespace, id, by) in meant {
            if let Some(recovery) = self.recovery.as_deref_mut() {
                recovery.log.take_back(namespace, room, id);
            }
            if let Some(mailboxes) = self.mailboxes.as_deref_mut() {
                mailboxes.settle(id, self.now.at);
            }
            self.kept.remove(room, id);
            match by {
                KeptBy::Us | KeptBy::Perhaps => here += 1,
                KeptBy::Bus => by_bus += 1,
            }
        }
        self.counters.count_kept(KeptEnd::Deleted, here + by_bus);
        Reply::Unkept { here, by_bus }
    }
}
