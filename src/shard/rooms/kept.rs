//! `KeptEvents`: events that wait for their users, at the users' home, until one of a user's clients has received them or
//! their time is over.
//!
//! Between any two calls:
//! 1. A user is here while something waits for it, in the order in which it was emitted; each event is once in `expiries`.
//! 2. `bytes` is the sum over all events, and no more than what it was allowed to be when the last one came.

use std::collections::{BTreeSet, VecDeque};
use std::fmt;
use std::sync::Arc;

use foldhash::fast::RandomState;
use hashbrown::HashMap;
use sockring_protocol::Millis;

use crate::shard::event_id::EventId;
use crate::shard::mail::{Keeping, KeptBy, OnceKey};
use crate::shard::moving::sid::Sid;
use crate::shard::recovery::position::Position;
use crate::shard::relay::maps;
use sockring_protocol::portable;

use super::sockets::NamespaceId;

/// What an event takes besides its own bytes: itself, and its place among those that expire.
const OVERHEAD: usize =
    size_of::<KeptEvent>() + OFFERS_MAX * size_of::<Offer>() + size_of::<(Millis, EventId, Arc<str>)>() + 32;
/// Sockets of which it is known where they have got an event. Others get it again when they come back, unless somebody has
/// said by then that it has arrived.
const OFFERS_MAX: usize = 4;
/// Events whose time is over go together, so that a shard that has nothing else to do is not woken for each. None is given
/// to anybody any more meanwhile.
const TOGETHER_MS: u64 = 1_000;

/// An event that waits for a user.
#[derive(Clone, Debug)]
pub(crate) struct KeptEvent {
    pub(crate) id: EventId,
    pub(crate) namespace: NamespaceId,
    /// A JSON array, its name first.
    pub(crate) args: Arc<[u8]>,
    /// Whose sockets do not get it.
    pub(crate) except: Box<[Box<str>]>,
    /// The newest under a key is the only one.
    pub(crate) conflate: Option<Box<str>>,
    pub(crate) emitted_unix_ms: u64,
    pub(crate) expires_at: Millis,
    pub(crate) expires_unix_ms: u64,
    /// Sockets that have it queued, and have not said that they have received it.
    pub(crate) on_its_way: u32,
    /// Its place among all that were kept; `keep` gives it.
    pub(crate) place: u64,
    /// Where it is in the log; `None`: it is not.
    pub(crate) position: Option<Position>,
    /// The sockets that were to get it last.
    pub(crate) offers: Vec<Offer>,
    pub(crate) by: KeptBy,
    /// What the bus calls it, where it came there under the same key.
    pub(crate) known_as: Option<EventId>,
    /// Under which it came, while the bus has still to hear of it.
    pub(crate) key: Option<Box<OnceKey>>,
}

portable!(struct KeptEvent {
    id, namespace, args, except, conflate, emitted_unix_ms, expires_at, expires_unix_ms, on_its_way, place, position, offers,
    by, known_as, key,
});

/// A socket that was to get an event, and what it says when it has got as far as that.
#[derive(Clone, Copy)]
pub(crate) struct Offer {
    pub(crate) sid: Sid,
    /// `None`: what it says tells nothing of this event.
    pub(crate) position: Option<Position>,
}

portable!(struct Offer { sid, position });

impl fmt::Debug for Offer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The sid is not shown.
        f.debug_tuple("Offer").field(&self.position).finish()
    }
}

impl KeptEvent {
    /// What a socket was told of it; `None`: it was not to get it, or that is not known any more.
    pub(crate) fn offer_to(&self, sid: Sid) -> Option<Offer> {
        self.offers.iter().find(|offer| offer.sid == sid).copied()
    }

    /// Whether a socket that goes on with its session may have been to get it.
    fn may_be_of(&self, sid: Sid) -> bool {
        self.offers.len() >= OFFERS_MAX || self.offer_to(sid).is_some()
    }

    /// Whether it is among those that a socket gets.
    pub(crate) fn is_chosen(&self, choice: Choice, sid: Sid) -> bool {
        match choice {
            Choice::All => true,
            Choice::Offered => self.may_be_of(sid),
        }
    }

    fn bytes(&self) -> usize {
        let names = self.except.iter().map(|name| size_of::<Box<str>>() + name.len()).sum::<usize>();
        OVERHEAD + self.args.len() + names + self.conflate.as_ref().map_or(0, |key| key.len())
    }
}

/// Which of the events that are kept for its user a socket gets, but for those that it is excepted from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Choice {
    All,
    /// Those that it was to get when its session began: from others it was excepted then.
    Offered,
}

portable!(enum Choice { 0 All, 1 Offered });

/// How much may be kept.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    pub(crate) events_per_user_max: usize,
    pub(crate) bytes_max: usize,
}

/// All that waits for the users of a shard.
#[derive(Default)]
pub(crate) struct KeptEvents {
    /// By the user's room.
    users: HashMap<Arc<str>, VecDeque<KeptEvent>, RandomState>,
    expiries: BTreeSet<(Millis, EventId, Arc<str>)>,
    bytes: usize,
    places: u64,
}

portable!(struct KeptEvents { users by maps, expiries, bytes, places });

impl KeptEvents {
    /// Keeps an event, if there is room for it. What is under its key goes.
    pub(crate) fn keep(&mut self, room: &str, mut event: KeptEvent, bounds: Bounds, now: Millis) -> Keeping {
        let others = self.users.get(room).map_or(0, |events| {
            events.iter().filter(|other| other.expires_at > now && !is_replaced_by(other, &event)).count()
        });
        if others >= bounds.events_per_user_max {
            return Keeping::UserFull;
        }
        let replaced = self.users.get(room).and_then(|events| {
            let replaced = events.iter().find(|other| is_replaced_by(other, &event))?;
            Some((replaced.id, replaced.bytes()))
        });
        let freed = replaced.map_or(0, |(_, bytes)| bytes);
        if self.bytes - freed + event.bytes() > bounds.bytes_max {
            return Keeping::MemoryFull;
        }
        if let Some((id, _)) = replaced {
            self.remove(room, id);
        }
        let room = self.users.get_key_value(room).map_or_else(|| room.into(), |(room, _)| Arc::clone(room));
        self.places += 1;
        event.place = self.places;
        self.bytes += event.bytes();
        self.expiries.insert((event.expires_at, event.id, Arc::clone(&room)));
        self.users.entry(room).or_default().push_back(event);
        Keeping::Kept
    }

    /// What waits under a key.
    pub(crate) fn under(&self, room: &str, namespace: NamespaceId, key: &str) -> Option<EventId> {
        let is_under_it = |event: &&KeptEvent| event.conflate.as_deref() == Some(key) && event.namespace == namespace;
        self.users.get(room).and_then(|events| events.iter().find(is_under_it)).map(|event| event.id)
    }

    /// What waits for a user, in order, without what is over.
    pub(crate) fn of_user(&self, room: &str, now: Millis) -> impl Iterator<Item = &KeptEvent> {
        self.users.get(room).into_iter().flatten().filter(move |event| event.expires_at > now)
    }

    /// All that is kept, of each user in order.
    pub(crate) fn all(&self, now: Millis) -> impl Iterator<Item = (&str, &KeptEvent)> {
        let users = self.users.iter();
        users.flat_map(move |(room, events)| {
            events.iter().filter(move |event| event.expires_at > now).map(|event| (&**room, event))
        })
    }

    /// The name under which a user's events are known, for who remembers it.
    pub(crate) fn name(&self, room: &str) -> Option<Arc<str>> {
        self.users.get_key_value(room).map(|(room, _)| Arc::clone(room))
    }

    pub(crate) fn find(&self, room: &str, id: EventId) -> Option<&KeptEvent> {
        self.users.get(room)?.iter().find(|event| event.id == id)
    }

    /// How many events have been kept so far: what comes later has a later place.
    pub(crate) fn places(&self) -> u64 {
        self.places
    }

    /// The bus keeps it from now on.
    pub(crate) fn set_by_bus(&mut self, room: &str, id: EventId) {
        if let Some(event) = self.find_mut(room, id) {
            (event.by, event.key) = (KeptBy::Bus, None);
        }
    }

    /// The bus keeps it by another name.
    pub(crate) fn set_known_as(&mut self, room: &str, id: EventId, other: EventId) {
        if let Some(event) = self.find_mut(room, id) {
            (event.by, event.known_as, event.key) = (KeptBy::Bus, Some(other), None);
        }
    }

    /// Whether an event is here, by this name or as the bus calls it.
    pub(crate) fn knows(&self, room: &str, id: EventId) -> bool {
        let is_it = |event: &KeptEvent| event.id == id || event.known_as == Some(id);
        self.users.get(room).is_some_and(|events| events.iter().any(is_it))
    }

    /// The bus may have it.
    pub(crate) fn doubt(&mut self, room: &str, id: EventId) {
        if let Some(event) = self.find_mut(room, id).filter(|event| event.by == KeptBy::Us) {
            event.by = KeptBy::Perhaps;
        }
    }

    /// It is in the log too.
    pub(crate) fn set_position(&mut self, room: &str, id: EventId, position: Position) {
        if let Some(event) = self.find_mut(room, id) {
            event.position = Some(position);
        }
    }

    /// A socket gets it, and has it when it says that it has got so far.
    pub(crate) fn offer(&mut self, room: &str, id: EventId, sid: Sid, position: Option<Position>) {
        let Some(event) = self.find_mut(room, id) else { return };
        // It has one position for a socket, however often it is sent.
        let known = event.offer_to(sid).and_then(|offer| offer.position);
        event.offers.retain(|offer| offer.sid != sid);
        if event.offers.len() >= OFFERS_MAX {
            event.offers.remove(0);
        }
        event.offers.push(Offer { sid, position: position.or(known) });
    }

    /// What a user's socket has that says that it has got so far.
    pub(crate) fn received_by(&self, room: &str, sid: Sid, through: Position) -> Vec<EventId> {
        let is_reached = |offer: Offer| offer.position.is_some_and(|position| position <= through);
        let has_it = |event: &&KeptEvent| event.offer_to(sid).is_some_and(is_reached);
        self.users.get(room).into_iter().flatten().filter(has_it).map(|event| event.id).collect()
    }

    /// Another socket has it queued.
    pub(crate) fn send(&mut self, room: &str, id: EventId) {
        if let Some(event) = self.find_mut(room, id) {
            event.on_its_way += 1;
        }
    }

    /// A socket that had it queued is gone, or has said that it has it.
    pub(crate) fn unsend(&mut self, room: &str, id: EventId) {
        if let Some(event) = self.find_mut(room, id) {
            event.on_its_way = event.on_its_way.saturating_sub(1);
        }
    }

    fn find_mut(&mut self, room: &str, id: EventId) -> Option<&mut KeptEvent> {
        self.users.get_mut(room)?.iter_mut().find(|event| event.id == id)
    }

    /// It waits no longer. Says whether it was there.
    pub(crate) fn remove(&mut self, room: &str, id: EventId) -> bool {
        let Some(name) = self.name(room) else { return false };
        let Some(events) = self.users.get_mut(room) else { return false };
        let Some(at) = events.iter().position(|event| event.id == id) else { return false };
        let Some(event) = events.remove(at) else { return false };
        if events.is_empty() {
            self.users.remove(room);
        }
        self.bytes -= event.bytes();
        self.expiries.remove(&(event.expires_at, event.id, name));
        true
    }

    /// Drops what is over; says how many.
    pub(crate) fn expire(&mut self, now: Millis) -> u64 {
        let mut expired = 0;
        while let Some((_, id, room)) = self.expiries.first().filter(|(at, ..)| *at <= now).cloned() {
            self.remove(&room, id);
            expired += 1;
        }
        expired
    }

    pub(crate) fn deadline(&self) -> Option<Millis> {
        self.expiries.first().map(|(at, ..)| *at + TOGETHER_MS)
    }

    pub(crate) fn events(&self) -> usize {
        self.expiries.len()
    }

    pub(crate) fn users(&self) -> usize {
        self.users.len()
    }

    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }
}

/// Whether an event has the key of a newer one.
fn is_replaced_by(event: &KeptEvent, newer: &KeptEvent) -> bool {
    newer.conflate.is_some() && event.conflate == newer.conflate && event.namespace == newer.namespace
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOUNDS: Bounds = Bounds { events_per_user_max: 3, bytes_max: 1 << 20 };

    fn event(id: u64, expires_at: u64) -> KeptEvent {
        KeptEvent {
            id: EventId(id),
            namespace: NamespaceId(0),
            args: Arc::from(&b"[\"e\"]"[..]),
            except: Box::default(),
            conflate: None,
            emitted_unix_ms: 0,
            expires_at: Millis(expires_at),
            expires_unix_ms: 0,
            on_its_way: 0,
            place: 0,
            position: None,
            offers: Vec::new(),
            by: KeptBy::Us,
            known_as: None,
            key: None,
        }
    }

    fn ids(kept: &KeptEvents, room: &str, now: u64) -> Vec<u64> {
        kept.of_user(room, Millis(now)).map(|event| event.id.0).collect()
    }

    fn is_empty(kept: &KeptEvents) -> bool {
        (kept.events(), kept.users(), kept.bytes(), kept.deadline()) == (0, 0, 0, None)
    }

    #[test]
    fn events_wait_in_order_until_they_are_received_or_over() {
        let mut kept = KeptEvents::default();
        for (id, expires_at) in [(1, 50), (2, 20), (3, 90)] {
            assert_eq!(kept.keep("user:a", event(id, expires_at), BOUNDS, Millis(0)), Keeping::Kept);
        }
        kept.keep("user:b", event(1, 30), BOUNDS, Millis(0));
        assert_eq!((ids(&kept, "user:a", 0), ids(&kept, "user:a", 20)), (vec![1, 2, 3], vec![1, 3]));
        assert_eq!((kept.events(), kept.users(), kept.deadline()), (4, 2, Some(Millis(20 + TOGETHER_MS))));
        assert!(kept.remove("user:a", EventId(1)) && !kept.remove("user:a", EventId(1)));
        assert_eq!(kept.expire(Millis(30)), 2);
        assert_eq!((ids(&kept, "user:a", 30), kept.users()), (vec![3], 1));
        assert!(kept.remove("user:a", EventId(3)));
        assert!(is_empty(&kept));
    }

    #[test]
    fn a_user_and_all_together_have_so_much_and_what_is_over_does_not_count() {
        let mut kept = KeptEvents::default();
        let bounds = Bounds { events_per_user_max: 2, bytes_max: 3 * event(0, 0).bytes() };
        let mut keep = |room: &str, id, expires_at, now| kept.keep(room, event(id, expires_at), bounds, Millis(now));
        assert_eq!((keep("user:a", 1, 10, 0), keep("user:a", 2, 90, 0)), (Keeping::Kept, Keeping::Kept));
        assert_eq!(keep("user:a", 3, 90, 0), Keeping::UserFull);
        assert_eq!(keep("user:a", 3, 90, 10), Keeping::Kept, "the first is over");
        assert_eq!(keep("user:b", 4, 90, 10), Keeping::MemoryFull);
        kept.expire(Millis(10));
        assert_eq!(kept.keep("user:b", event(4, 90), bounds, Millis(10)), Keeping::Kept);
        assert_eq!(kept.bytes(), bounds.bytes_max);
    }

    #[test]
    fn under_a_key_the_newest_waits_alone_and_at_the_end() {
        let mut kept = KeptEvents::default();
        let under = |id, key: &str| KeptEvent { conflate: Some(key.into()), ..event(id, 90) };
        for event in [under(1, "k"), event(2, 90), under(3, "l")] {
            kept.keep("user:a", event, BOUNDS, Millis(0));
        }
        assert_eq!(kept.keep("user:a", under(4, "k"), BOUNDS, Millis(0)), Keeping::Kept, "it takes a place");
        assert_eq!(ids(&kept, "user:a", 0), [2, 3, 4]);
        let elsewhere = KeptEvent { namespace: NamespaceId(1), ..under(5, "k") };
        assert_eq!(kept.keep("user:a", elsewhere, BOUNDS, Millis(0)), Keeping::UserFull);
        let under = |room, namespace, key| kept.under(room, NamespaceId(namespace), key);
        assert_eq!((under("user:a", 0, "m"), under("user:b", 0, "k")), (None, None));
        assert_eq!(under("user:a", 1, "k"), None, "a key is one of its namespace");
        assert_eq!(under("user:a", 0, "k"), Some(EventId(4)));
        assert!([2, 3, 4].map(|id| kept.remove("user:a", EventId(id))).iter().all(|removed| *removed));
        assert!(is_empty(&kept));
    }
}
