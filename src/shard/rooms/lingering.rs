//! `Lingering`: rooms that have lost their last member here and are kept as if they had one for a while, so that what is sent to
//! them meanwhile is remembered for members that come back.

use std::collections::VecDeque;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use foldhash::fast::RandomState;
use hashbrown::{Equivalent, HashMap};
use sockring_protocol::Millis;

use crate::shard::hints::drop_stale;
use crate::shard::mail::RoomName;
use crate::shard::recovery::position::Position;
use crate::shard::relay::{carried, maps};
use sockring_protocol::portable;
use sockring_protocol::portable::{Packer, Portable, Unpacker, Unreadable};

use super::sockets::NamespaceId;

/// For how long a room is kept, and since when.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Term {
    /// Who was in the room has been told of no position as late as this.
    pub(crate) since: Position,
    pub(crate) until: Millis,
}

portable!(struct Term { since, until });

/// Rooms without members that are not given up yet, each with `A`.
pub(crate) struct Lingering<A> {
    rooms: HashMap<Arc<RoomName>, Room<A>, RandomState>,
    /// In the order of their ends; some have members again.
    in_order: VecDeque<(Millis, Arc<RoomName>)>,
    by_namespace: Vec<usize>,
    rooms_max: usize,
}

carried!([A: Portable] Lingering<A> { rooms by maps, in_order, by_namespace } stays { rooms_max });

struct Room<A> {
    term: Term,
    with: A,
}

impl<A: Portable> Portable for Room<A> {
    const FORM: u64 = <(Term, A)>::FORM;

    fn pack(&self, out: &mut Packer) {
        let Room { term, with } = self;
        term.pack(out);
        with.pack(out);
    }

    fn unpack(from: &mut Unpacker<'_>) -> Result<Room<A>, Unreadable> {
        Ok(Room { term: Portable::unpack(from)?, with: Portable::unpack(from)? })
    }
}

/// The name of a room by its parts: hashes as `RoomName` does.
struct Named<'a>(NamespaceId, &'a str);

impl Hash for Named<'_> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.hash(state);
        self.1.hash(state);
    }
}

impl Equivalent<Arc<RoomName>> for Named<'_> {
    fn equivalent(&self, key: &Arc<RoomName>) -> bool {
        key.namespace == self.0 && *key.name == *self.1
    }
}

impl<A> Lingering<A> {
    pub(crate) fn new(namespaces: u16, rooms_max: usize) -> Lingering<A> {
        Lingering {
            rooms: HashMap::default(),
            in_order: VecDeque::new(),
            by_namespace: vec![0; usize::from(namespaces)],
            rooms_max,
        }
    }

    pub(crate) fn contains(&self, namespace: NamespaceId, name: &str) -> bool {
        !self.rooms.is_empty() && self.rooms.contains_key(&Named(namespace, name))
    }

    /// Whether a namespace has such rooms.
    pub(crate) fn has_some(&self, namespace: NamespaceId) -> bool {
        self.by_namespace.get(usize::from(namespace.0)).is_some_and(|count| *count > 0)
    }

    pub(crate) fn len(&self) -> usize {
        self.rooms.len()
    }

    pub(crate) fn get_mut(&mut self, namespace: NamespaceId, name: &str) -> Option<&mut A> {
        self.rooms.get_mut(&Named(namespace, name)).map(|room| &mut room.with)
    }

    /// A room has lost its last member.
    pub(crate) fn put(&mut self, room: RoomName, term: Term, with: A) {
        let name = Arc::new(room);
        self.in_order.push_back((term.until, Arc::clone(&name)));
        let namespace = usize::from(name.namespace.0);
        if self.rooms.insert(name, Room { term, with }).is_none()
            && let Some(count) = self.by_namespace.get_mut(namespace)
        {
            *count += 1;
        }
        let rooms = &self.rooms;
        let is_current =
            |(until, name): &(Millis, Arc<RoomName>)| rooms.get(name).is_some_and(|room| room.term.until == *until);
        drop_stale(&mut self.in_order, rooms.len(), is_current);
    }

    /// It has a member again.
    pub(crate) fn take(&mut self, namespace: NamespaceId, name: &str) -> Option<A> {
        if self.rooms.is_empty() {
            return None;
        }
        self.remove(namespace, name).map(|room| room.with)
    }

    fn remove(&mut self, namespace: NamespaceId, name: &str) -> Option<Room<A>> {
        let room = self.rooms.remove(&Named(namespace, name))?;
        if let Some(count) = self.by_namespace.get_mut(usize::from(namespace.0)) {
            *count -= 1;
        }
        Some(room)
    }

    /// A room whose time is over, or the first one where there are too many.
    pub(crate) fn expire(&mut self, now: Millis) -> Option<(RoomName, Position, A)> {
        while self.in_order.front().is_some_and(|(until, _)| *until <= now) || self.rooms.len() > self.rooms_max {
            let (until, name) = self.in_order.pop_front()?;
            let named = Named(name.namespace, &name.name);
            if self.rooms.get(&named).is_some_and(|room| room.term.until == until)
                && let Some(room) = self.remove(name.namespace, &name.name)
            {
                return Some((Arc::unwrap_or_clone(name), room.term.since, room.with));
            }
        }
        if self.in_order.is_empty() && self.in_order.capacity() > 0 {
            self.in_order = VecDeque::new();
            self.rooms.shrink_to_fit();
        }
        None
    }

    /// All of them, in the order of their ends.
    pub(crate) fn all(&self) -> impl Iterator<Item = (&RoomName, Term)> {
        self.in_order.iter().filter_map(|(until, name)| {
            let room = self.rooms.get(name).filter(|room| room.term.until == *until)?;
            Some((&**name, room.term))
        })
    }

    pub(crate) fn deadline(&self) -> Option<Millis> {
        self.in_order.front().map(|(until, _)| *until)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROOT: NamespaceId = NamespaceId(0);

    fn name(name: &str) -> RoomName {
        RoomName { namespace: ROOT, name: name.into() }
    }

    fn term(until: u64) -> Term {
        Term { since: Position::default(), until: Millis(until) }
    }

    #[test]
    fn a_room_is_kept_until_its_time_or_its_next_member_or_others_need_the_place() {
        let mut lingering = Lingering::new(2, 3);
        lingering.put(name("a"), term(10), 1);
        lingering.put(name("b"), term(20), 2);
        assert!(lingering.contains(ROOT, "a") && !lingering.contains(NamespaceId(1), "a"));
        assert!(lingering.has_some(ROOT) && !lingering.has_some(NamespaceId(1)));
        assert_eq!((lingering.take(ROOT, "a"), lingering.take(ROOT, "a")), (Some(1), None));
        lingering.put(name("a"), term(30), 3);
        // The older hint ends nothing.
        assert!(lingering.expire(Millis(10)).is_none());
        let ended = lingering.expire(Millis(20)).map(|(room, _, with)| (room, with));
        assert_eq!(ended, Some((name("b"), 2)));
        for other in ["c", "d", "e"] {
            lingering.put(name(other), term(40), 4);
        }
        let ended = lingering.expire(Millis(20)).map(|(room, _, with)| (room, with));
        assert_eq!((ended, lingering.deadline()), (Some((name("a"), 3)), Some(Millis(40))));
        while lingering.expire(Millis(40)).is_some() {}
        assert_eq!((lingering.len(), lingering.has_some(ROOT), lingering.deadline()), (0, false, None));
    }

    #[test]
    fn a_room_that_comes_and_goes_takes_no_place_from_others() {
        let mut lingering = Lingering::new(1, 2);
        lingering.put(name("a"), term(1_000), 1);
        for until in 1_000..11_000 {
            lingering.put(name("b"), term(until), 2);
            assert_eq!(lingering.take(ROOT, "b"), Some(2));
            assert!(lingering.expire(Millis(0)).is_none());
        }
        assert!(lingering.contains(ROOT, "a"));
        assert!(lingering.in_order.len() < 100, "{} hints", lingering.in_order.len());
    }
}
