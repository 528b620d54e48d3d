//! `Homes`: the rooms whose home a shard is, with the other shards that have members of them, because they say so.

use std::collections::HashSet;

use foldhash::fast::RandomState;
use hashbrown::HashMap;

use crate::shard::mail::RoomName;
use crate::shard::relay::{carried, map_lists};

use super::sockets::NamespaceId;
use super::table::{Rooms, USER_PREFIX};

/// At home: the other shards that have members of a room, with the epoch of their `RoomUp`.
type Outposts = Vec<(u16, u32)>;

/// The rooms whose home is here and that have members elsewhere.
pub(crate) struct Homes {
    /// By namespace.
    rooms: Vec<HashMap<Box<str>, Outposts, RandomState>>,
}

carried!(Homes { rooms by map_lists });

impl Homes {
    pub(crate) fn new(namespaces: u16) -> Homes {
        Homes { rooms: (0..namespaces).map(|_| HashMap::default()).collect() }
    }

    pub(crate) fn up(&mut self, room: &RoomName, shard: u16, epoch: u32) {
        let Some(rooms) = self.rooms.get_mut(usize::from(room.namespace.0)) else { return };
        let outposts = rooms.entry_ref(&*room.name).or_default();
        match outposts.iter_mut().find(|(other, _)| *other == shard) {
            Some((_, known)) => *known = epoch,
            None => outposts.push((shard, epoch)),
        }
    }

    /// One that is older than the shard's last `up` is ignored. Says whether no shard is left.
    pub(crate) fn down(&mut self, room: &RoomName, shard: u16, epoch: u32) -> bool {
        let Some(rooms) = self.rooms.get_mut(usize::from(room.namespace.0)) else { return false };
        let Some(outposts) = rooms.get_mut(&*room.name) else { return false };
        outposts.retain(|outpost| *outpost != (shard, epoch));
        let is_empty = outposts.is_empty();
        if is_empty {
            rooms.remove(&*room.name);
        }
        is_empty
    }

    /// The other shards with members of a room.
    pub(crate) fn outposts(&self, namespace: NamespaceId, name: &str) -> &[(u16, u32)] {
        let rooms = self.rooms.get(usize::from(namespace.0));
        rooms.and_then(|rooms| rooms.get(name)).map_or(&[], Vec::as_slice)
    }

    /// The rooms and users at home here that have no member here.
    pub(crate) fn count_others(&self, local: &Rooms) -> (usize, usize) {
        let namespaces = (0..u16::try_from(self.rooms.len()).unwrap_or(u16::MAX)).map(NamespaceId);
        let mut users = HashSet::new();
        let mut rooms = 0;
        for (namespace, names) in namespaces.clone().zip(&self.rooms) {
            for name in names.keys() {
                rooms += usize::from(local.find(namespace, name).is_none());
                let is_local = || namespaces.clone().any(|namespace| local.find(namespace, name).is_some());
                if name.starts_with(USER_PREFIX) && !is_local() {
                    users.insert(name);
                }
            }
        }
        (rooms, users.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shard::moving::placement::ShardNumber;

    #[test]
    fn a_late_down_does_not_undo_a_newer_up() {
        let mut homes = Homes::new(1);
        let room = RoomName { namespace: NamespaceId(0), name: "news".into() };
        homes.up(&room, 3, 1);
        homes.up(&room, 3, 2);
        homes.down(&room, 3, 1);
        assert_eq!(homes.outposts(NamespaceId(0), "news"), [(3, 2)]);
        homes.down(&room, 3, 2);
        assert!(homes.outposts(NamespaceId(0), "news").is_empty());
        assert_eq!(homes.count_others(&Rooms::new(1, ShardNumber { number: 0, of: 4 }, 0)), (0, 0));
    }
}
