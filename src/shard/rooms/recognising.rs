//! Recognising: an event that the bus keeps comes by several ways, as it is emitted, here or elsewhere, and in its user's mailbox.
//! By its id it is known which of them was the first.

use std::sync::Arc;

use sockring_protocol::adapter::Broadcast;

use crate::app::Application;
use crate::shard::event_id::EventId;
use crate::shard::hub::Hub;
use crate::shard::kept_mark::KeptMark;
use crate::shard::limit::Limit;
use crate::shard::mail::{Keep, Keeping, KeptBy, OnceKey, RoomName, Verdict};
use crate::shard::metrics::KeptEnd;
use crate::shard::moving::placement::home_of;

use super::fan_out::KeptName;
use super::kept::KeptEvent;
use super::table::USER_PREFIX;

/// What an event is that somebody keeps.
pub(crate) enum Recognised {
    /// Nothing is to be remembered of it here.
    Plain,
    New(KeptName),
    /// It has come before, or is over.
    Known,
}

impl<A: Application> Hub<A> {
    /// What an event is that an instance says it has kept. It is remembered here too while a socket of its user is here or may
    /// come back, until one has received it.
    pub(crate) fn recognise(&mut self, broadcast: &Broadcast) -> Recognised {
        let Some(mark) = broadcast.kept.as_deref().filter(|_| self.mailboxes.is_some()) else {
            return Recognised::Plain;
        };
        let (Some(KeptMark { id, expires_unix_ms, key }), [room]) = (KeptMark::parse(mark), &*broadcast.rooms) else {
            return Recognised::Plain;
        };
        let Some(namespace) = self.settings.namespace(&broadcast.namespace) else { return Recognised::Plain };
        if !room.starts_with(USER_PREFIX) || home_of(room, self.shard.of) != self.shard.number {
            return Recognised::Plain;
        }
        let is_kept = expires_unix_ms > 0;
        let first = key.and_then(|key| self.first_under(&key, id));
        if let Some(first) = first {
            if is_kept {
                self.stand_for(&RoomName { namespace, name: room.clone() }, first, id);
            }
            return Recognised::Known;
        }
        if !is_kept {
            return Recognised::Plain;
        }
        if expires_unix_ms <= self.now.unix_ms || self.has_come(room, id) {
            return Recognised::Known;
        }
        if self.membership.is_remembered(namespace, room) {
            let keep = Keep { emitted_unix_ms: id.unix_ms(), expires_unix_ms };
            let event = self.kept_event(namespace, broadcast, id, &keep);
            let bounds = self.kept_bounds(usize::MAX);
            let event = KeptEvent { by: KeptBy::Bus, ..event };
            if self.kept.keep(room, event, bounds, self.now.at) == Keeping::MemoryFull {
                // Who has received it is not known then, and it comes again at the next CONNECT.
                self.counters.hit(Limit::KeptBytesMax);
            }
        }
        let room = self.kept.name(room).unwrap_or_else(|| Arc::from(&**room));
        Recognised::New(KeptName { room, id })
    }

    /// Whether an event that is about to be kept here has come by another way.
    pub(crate) fn has_come(&self, room: &str, id: EventId) -> bool {
        let Some(mailboxes) = self.mailboxes.as_deref() else { return false };
        mailboxes.is_settled(id) || self.kept.knows(room, id)
    }

    /// The same event that has come under a key before, by another name: it was let in here while the bus could not be asked.
    fn first_under(&mut self, key: &OnceKey, id: EventId) -> Option<EventId> {
        match self.once.judge(key, self.now.at, self.settings.idempotency_window_ms) {
            Verdict::New => {
                self.remember_key(key, id, self.now.at);
                None
            }
            Verdict::Repeated(first) => Some(first).filter(|first| *first != id),
            Verdict::AnotherEvent => None,
        }
    }

    /// The bus keeps, by another name, what has come here before: it is received when this one is.
    pub(crate) fn stand_for(&mut self, room: &RoomName, first: EventId, id: EventId) {
        let is_waiting = self.kept.find(&room.name, first).is_some();
        if is_waiting {
            self.kept.set_known_as(&room.name, first, id);
        } else if let Some(mailboxes) = self.mailboxes.as_deref_mut() {
            mailboxes.receive(room.clone(), id, self.now.at);
        }
    }

    /// A user has received an event: it is kept no longer, here or by the bus. Says whether it was kept here.
    pub(crate) fn receive_kept(&mut self, room: &str, id: EventId) -> bool {
        let Some(event) = self.kept.find(room, id) else { return false };
        if let Some(mailboxes) = self.mailboxes.as_deref_mut() {
            match event.by {
                KeptBy::Us => mailboxes.settle(id, self.now.at),
                KeptBy::Perhaps | KeptBy::Bus => {
                    let room = RoomName { namespace: event.namespace, name: room.into() };
                    if let Some(other) = event.known_as {
                        mailboxes.receive(room.clone(), other, self.now.at);
                    }
                    mailboxes.receive(room, id, self.now.at);
                }
            }
        }
        self.counters.count_kept(KeptEnd::Received, 1);
        self.kept.remove(room, id)
    }
}
