//! `Ended`: the rooms of sockets that have ended and may come back, besides those of their users.

use std::collections::VecDeque;

use foldhash::fast::RandomState;
use hashbrown::HashMap;
use serde::{Deserialize, Serialize};
use sockring_protocol::Millis;

use crate::shard::hints::drop_stale;
use crate::shard::moving::sid::Sid;
use crate::shard::relay::{carried, maps};
use crate::shard::rooms::sockets::NamespaceId;
use sockring_protocol::portable;

use super::log::Stay;
use super::position::Position;
use super::stays::Visits;

/// What is known of the rooms of a socket that has ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum EndedRooms {
    /// Those that it was in when it ended, and those that it had left before.
    Known { joined: Vec<Stay>, left: Visits },
    /// It was taken out of its namespace, and so out of them.
    Gone,
}

portable!(enum EndedRooms { 0 Known { joined, left }, 1 Gone });

/// How a socket ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Parting {
    /// With its client.
    Lost,
    /// It is taken out of its namespace, by either side.
    Disconnected,
}

/// Sockets that have ended, of which more is to be remembered than their user.
pub(crate) struct Ended {
    sockets: HashMap<(NamespaceId, Sid), EndedSocket, RandomState>,
    /// In the order of their ends; some have come back since.
    in_order: VecDeque<(Millis, NamespaceId, Sid)>,
    sockets_max: usize,
    /// Of sockets that ended before this position nothing may be known any more.
    floor: Position,
}

carried!(Ended { sockets by maps, in_order, floor } stays { sockets_max });

struct EndedSocket {
    rooms: EndedRooms,
    at: Position,
    until: Millis,
}

portable!(struct EndedSocket { rooms, at, until });

/// A socket that has ended, and what is known of it.
pub(crate) struct EndedView<'a> {
    pub(crate) namespace: NamespaceId,
    pub(crate) sid: Sid,
    pub(crate) rooms: &'a EndedRooms,
    pub(crate) at: Position,
    pub(crate) until: Millis,
}

impl Ended {
    pub(crate) fn new(sockets_max: usize) -> Ended {
        Ended { sockets: HashMap::default(), in_order: VecDeque::new(), sockets_max, floor: Position::default() }
    }

    /// A socket has ended at this position, and is remembered until then.
    pub(crate) fn put(&mut self, namespace: NamespaceId, sid: Sid, rooms: EndedRooms, at: Position, until: Millis) {
        self.sockets.insert((namespace, sid), EndedSocket { rooms, at, until });
        self.in_order.push_back((until, namespace, sid));
        while self.sockets.len() > self.sockets_max {
            self.drop_first();
        }
        let sockets = &self.sockets;
        let is_current = |(until, namespace, sid): &(Millis, NamespaceId, Sid)| {
            sockets.get(&(*namespace, *sid)).is_some_and(|left| left.until == *until)
        };
        drop_stale(&mut self.in_order, sockets.len(), is_current);
    }

    /// A socket that was about to come back is taken out of its namespace: its rooms are gone, as if it had been there.
    pub(crate) fn lose_rooms(&mut self, namespace: NamespaceId, sid: &Sid) {
        let has_rooms = |rooms: &EndedRooms| matches!(rooms, EndedRooms::Known { joined, .. } if !joined.is_empty());
        if let Some(ended) = self.sockets.get_mut(&(namespace, *sid)).filter(|ended| has_rooms(&ended.rooms)) {
            ended.rooms = EndedRooms::Gone;
        }
    }

    /// The rooms of a socket that comes back and had got everything up to `from`. `None`: they are not known any more, and stay
    /// so.
    pub(crate) fn take(&mut self, namespace: NamespaceId, sid: &Sid, from: Position) -> Option<EndedRooms> {
        let key = (namespace, *sid);
        let is_whole =
            |left: &EndedSocket| matches!(&left.rooms, EndedRooms::Known { left, .. } if left.known_from <= from);
        match self.sockets.get(&key).map(is_whole) {
            Some(true) => self.sockets.remove(&key).map(|left| left.rooms),
            // It gets another sid, and may not hear of that: then it asks for this one again.
            Some(false) => None,
            None if from < self.floor => None,
            None => Some(EndedRooms::Known { joined: Vec::new(), left: Visits::default() }),
        }
    }

    /// All sockets that are remembered, in the order in which their time is over.
    pub(crate) fn all(&self) -> impl Iterator<Item = EndedView<'_>> {
        self.in_order.iter().filter_map(|(until, namespace, sid)| {
            let left = self.sockets.get(&(*namespace, *sid)).filter(|left| left.until == *until)?;
            Some(EndedView { namespace: *namespace, sid: *sid, rooms: &left.rooms, at: left.at, until: *until })
        })
    }

    /// Of whoever ended before this position it may not be known.
    pub(crate) fn floor(&self) -> Position {
        self.floor
    }

    pub(crate) fn forget(&mut self, through: Position) {
        self.floor = self.floor.max(through);
    }

    pub(crate) fn expire(&mut self, now: Millis) {
        while self.in_order.front().is_some_and(|(until, ..)| *until <= now) {
            self.drop_first();
        }
    }

    pub(crate) fn deadline(&self) -> Option<Millis> {
        self.in_order.front().map(|(until, ..)| *until)
    }

    fn drop_first(&mut self) {
        let Some((until, namespace, sid)) = self.in_order.pop_front() else { return };
        let key = (namespace, sid);
        if self.sockets.get(&key).is_some_and(|left| left.until == until)
            && let Some(left) = self.sockets.remove(&key)
        {
            self.floor = self.floor.max(left.at);
        }
        if self.in_order.is_empty() {
            self.in_order = VecDeque::new();
            self.sockets.shrink_to_fit();
        }
    }

    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.sockets.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shard::moving::sid::Instance;

    const ROOT: NamespaceId = NamespaceId(0);

    fn sid(slot: u32) -> Sid {
        Sid::new(Instance::new(1), 0, slot, [0; 9])
    }

    fn known() -> EndedRooms {
        let joined = vec![Stay { room: Some("news".into()), from: Position::default(), until: Position::MAX }];
        EndedRooms::Known { joined, left: Visits::default() }
    }

    fn nothing() -> Option<EndedRooms> {
        Some(EndedRooms::Known { joined: Vec::new(), left: Visits::default() })
    }

    #[test]
    fn who_had_rooms_gets_them_back_once_and_in_time() {
        let mut ended = Ended::new(10);
        ended.put(ROOT, sid(1), EndedRooms::Gone, Position(5), Millis(100));
        assert_eq!(ended.take(NamespaceId(1), &sid(1), Position(0)), nothing());
        assert_eq!([0, 1].map(|_| ended.take(ROOT, &sid(1), Position(0))), [None, None]);
        ended.put(ROOT, sid(3), known(), Position(6), Millis(100));
        assert_eq!(ended.take(ROOT, &sid(3), Position(0)), Some(known()));
        assert_eq!(ended.take(ROOT, &sid(3), Position(0)), nothing());
        // It came back and ended again: the first end's time is not its own.
        ended.put(ROOT, sid(1), EndedRooms::Gone, Position(9), Millis(200));
        ended.expire(Millis(100));
        assert_eq!((ended.len(), ended.floor), (1, Position(0)));
        ended.expire(Millis(200));
        assert_eq!((ended.len(), ended.take(ROOT, &sid(1), Position(8))), (0, None));
        // One with rooms is disconnected when it has not quite come back; one without has none to lose.
        ended.put(ROOT, sid(4), known(), Position(9), Millis(300));
        let left = || EndedRooms::Known { joined: Vec::new(), left: Visits::default() };
        ended.put(ROOT, sid(5), left(), Position(9), Millis(300));
        [4, 5].iter().for_each(|slot| ended.lose_rooms(ROOT, &sid(*slot)));
        assert_eq!([4, 5].map(|slot| ended.take(ROOT, &sid(slot), Position(9))), [None, Some(left())]);
        // Whose last position is behind that had no rooms, or would be there.
        assert_eq!(ended.take(ROOT, &sid(2), Position(9)), nothing());
    }

    #[test]
    fn too_many_are_not_remembered_and_it_is_known_that_they_are_not() {
        let mut ended = Ended::new(2);
        for slot in 1..=3 {
            ended.put(ROOT, sid(slot), known(), Position(u64::from(slot)), Millis(100));
        }
        assert_eq!((ended.len(), ended.take(ROOT, &sid(1), Position(0))), (2, None));
        assert_eq!(ended.take(ROOT, &sid(2), Position(0)), Some(known()));
    }

    #[test]
    fn a_socket_that_comes_and_goes_takes_no_place_from_others() {
        let mut ended = Ended::new(2);
        ended.put(ROOT, sid(1), known(), Position(1), Millis(1_000));
        for at in 1_000..11_000 {
            ended.put(ROOT, sid(2), known(), Position(at), Millis(at));
            assert_eq!(ended.take(ROOT, &sid(2), Position(at)), Some(known()));
        }
        assert!(ended.in_order.len() < 100, "{} hints", ended.in_order.len());
        assert_eq!(ended.take(ROOT, &sid(1), Position(0)), Some(known()));
    }
}
