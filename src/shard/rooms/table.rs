//! `Rooms`: named sets of sockets of one shard. A room exists while it has a member here.

use std::hash::BuildHasher;
use std::iter;

use foldhash::fast::RandomState;
use hashbrown::HashTable;
use slab::Slab;

use crate::shard::moving::placement::{ShardNumber, home_of};
use crate::shard::relay::{Carried, slabs};
use sockring_protocol::portable;
use sockring_protocol::portable::{Packer, Portable, Unpacker, Unreadable};

use super::sockets::{Link, NamespaceId, RoomId};

/// A socket in a room, and which of the socket's links leads back here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Member {
    pub client: u32,
    pub socket: u16,
    pub link: u16,
}

portable!(struct Member { client, socket, link });

/// One room: its members, and its name, which is stored here and nowhere else. Most are a user's who has one socket: its member is
/// a part of the room, and all of it half a line of the processor's cache.
#[expect(clippy::box_collection, reason = "a box keeps the common small case small")]
enum Room {
    Lone {
        namespace: NamespaceId,
        name: Box<str>,
        member: Member,
    },
    /// Two or more.
    Crowd {
        namespace: NamespaceId,
        name: Box<str>,
        members: Box<Vec<Member>>,
    },
}

impl Room {
    #[inline]
    fn full_name(&self) -> (NamespaceId, &str) {
        match self {
            Room::Lone { namespace, name, .. } | Room::Crowd { namespace, name, .. } => (*namespace, name),
        }
    }

    #[inline]
    fn name(&self) -> &str {
        self.full_name().1
    }

    #[inline]
    fn members(&self) -> &[Member] {
        match self {
            Room::Lone { member, .. } => std::slice::from_ref(member),
            Room::Crowd { members, .. } => members,
        }
    }

    #[inline]
    fn members_mut(&mut self) -> &mut [Member] {
        match self {
            Room::Lone { member, .. } => std::slice::from_mut(member),
            Room::Crowd { members, .. } => members,
        }
    }

    /// Adds a member and returns its position.
    fn join(&mut self, new: Member) -> usize {
        match self {
            Room::Lone { namespace, name, member } => {
                let (namespace, name) = (*namespace, std::mem::take(name));
                *self = Room::Crowd { namespace, name, members: Box::new(vec![*member, new]) };
                1
            }
            Room::Crowd { members, .. } => {
                members.push(new);
                members.len() - 1
            }
        }
    }
}

portable!(enum Room { 0 Lone { namespace, name, member }, 1 Crowd { namespace, name, members } });

/// The rooms of one shard.
pub(crate) struct Rooms {
    rooms: Slab<Room>,
    index: HashTable<Indexed>,
    hasher: RandomState,
    namespaces: u16,
    shard: ShardNumber,
    at_home: usize,
    users_at_home: usize,
    /// The first slot of `rooms` that never held a room, nor any behind it.
    slots: u32,
}

impl Carried for Rooms {
    const FORM: u64 = <(Vec<Option<Room>>, (usize, usize, u32))>::FORM;

    fn pack_state(&self, out: &mut Packer) {
        // The index follows, by a hasher of its own.
        let Rooms { rooms, index: _, hasher: _, namespaces: _, shard: _, at_home, users_at_home, slots } = self;
        slabs::pack(rooms, out);
        (*at_home, *users_at_home, *slots).pack(out);
    }

    fn unpack_state(&mut self, from: &mut Unpacker<'_>) -> Result<(), Unreadable> {
        slabs::refill(&mut self.rooms, from)?;
        (self.at_home, self.users_at_home, self.slots) = Portable::unpack(from)?;
        for (id, room) in &self.rooms {
            let (namespace, name) = room.full_name();
            let indexed = self.indexed(namespace, name, u32::try_from(id).map_err(|_| Unreadable)?);
            self.index.insert_unique(indexed.spread(), indexed, Indexed::spread);
        }
        Ok(())
    }
}

/// Some of the users that have sockets here, each with how many, and where to go on; `None`: they were the last.
pub(crate) type UsersPage = (Vec<(Box<str>, u64)>, Option<u32>);

/// A room in the index, with its hash: so the index grows without a look at any room.
#[derive(Clone, Copy)]
struct Indexed {
    hash: u32,
    room: RoomId,
}

impl Indexed {
    /// The hash as the table wants it: it uses the low bits and the highest.
    fn spread(&self) -> u64 {
        u64::from(self.hash) << 32 | u64::from(self.hash)
    }
}

/// Rooms that the index is made for. Unlike a slab, which is filled from its front, a hash table is touched all over: what
/// is reserved is paid for.
const INDEXED_MIN: usize = 14_336;

/// What a user's room is called, as the integration guide's backend does.
pub const USER_PREFIX: &str = "user:";

impl Rooms {
    /// No rooms yet, in this many namespaces, and room for one for each client: a user's.
    pub(crate) fn new(namespaces: u16, shard: ShardNumber, clients: usize) -> Rooms {
        Rooms {
            rooms: Slab::with_capacity(clients),
            index: HashTable::with_capacity(INDEXED_MIN.min(clients)),
            hasher: RandomState::default(),
            namespaces,
            shard,
            at_home: 0,
            users_at_home: 0,
            slots: 0,
        }
    }

    /// The block that room for so many clients reserves, in bytes.
    pub(crate) fn reserved(clients: usize) -> usize {
        clients.saturating_mul(size_of::<Room>() + size_of::<usize>())
    }

    pub(crate) fn find(&self, namespace: NamespaceId, name: &str) -> Option<RoomId> {
        let wanted = self.indexed(namespace, name, RoomId::MAX);
        let is_it = |other: &Indexed| other.hash == wanted.hash && self.is_called(other.room, namespace, name);
        self.index.find(wanted.spread(), is_it).map(|indexed| indexed.room)
    }

    /// Adds a member, and the room if this is its first. The caller keeps the link.
    pub(crate) fn join(&mut self, namespace: NamespaceId, name: &str, member: Member) -> Link {
        let Some(room) = self.find(namespace, name) else { return self.create(namespace, name, member) };
        let position = self.room_mut(room).join(member);
        Link { room, position: narrow(position) }
    }

    fn create(&mut self, namespace: NamespaceId, name: &str, member: Member) -> Link {
        let room = Room::Lone { namespace, name: name.into(), member };
        let id = narrow(self.rooms.insert(room));
        self.slots = self.slots.max(id + 1);
        let indexed = self.indexed(namespace, name, id);
        self.index.insert_unique(indexed.spread(), indexed, Indexed::spread);
        if home_of(name, self.shard.of) == self.shard.number {
            self.at_home += 1;
            self.users_at_home += usize::from(self.is_only_room_of_a_user(namespace, name));
        }
        Link { room: id, position: 0 }
    }

    /// Removes the member that a link leads to, and the room with its last one. Another member may have moved to that
    /// position: the caller corrects that member's link.
    pub(crate) fn leave(&mut self, link: Link) -> Option<Member> {
        let position = link.position as usize;
        let room = self.room_mut(link.room);
        match room {
            Room::Lone { .. } => {
                debug_assert_eq!(position, 0);
                self.remove(link.room);
                None
            }
            Room::Crowd { namespace, name, members } => {
                members.swap_remove(position);
                let moved = members.get(position).copied();
                if let [last] = ***members {
                    *room = Room::Lone { namespace: *namespace, name: std::mem::take(name), member: last };
                }
                moved
            }
        }
    }

    fn remove(&mut self, id: RoomId) {
        let (namespace, name) = self.room(id).full_name();
        let indexed = self.indexed(namespace, name, id);
        if let Ok(entry) = self.index.find_entry(indexed.spread(), |other| other.room == id) {
            entry.remove();
        }
        let room = self.rooms.remove(id as usize);
        let (namespace, name) = room.full_name();
        if home_of(name, self.shard.of) == self.shard.number {
            self.at_home -= 1;
            self.users_at_home -= usize::from(self.is_only_room_of_a_user(namespace, name));
        }
    }

    /// The users with a room from this slot on: so many at the most, from a look at `slots_max` slots at the most. A room stays
    /// where it is, so who asks on from where one answer ended hears once of each user that is there all the time.
    pub(crate) fn users_from(&self, from: u32, users_max: usize, slots_max: u32) -> UsersPage {
        let mut users = Vec::new();
        let end = self.slots.min(from.saturating_add(slots_max));
        for slot in from..end {
            if users.len() == users_max {
                return (users, Some(slot));
            }
            let Some(room) = self.rooms.get(slot as usize) else { continue };
            let Some(user) = room.name().strip_prefix(USER_PREFIX) else { continue };
            let mut of_user =
                (0..self.namespaces).filter_map(|namespace| self.find(NamespaceId(namespace), room.name()));
            // A user with sockets in several namespaces comes with the first of them.
            if of_user.next() == Some(slot) {
                let sockets = iter::once(slot).chain(of_user).map(|room| self.members(room).len() as u64).sum();
                users.push((user.into(), sockets));
            }
        }
        (users, Some(end).filter(|end| *end < self.slots))
    }

    /// A user with sockets in several namespaces counts once.
    fn is_only_room_of_a_user(&self, namespace: NamespaceId, name: &str) -> bool {
        let others = (0..self.namespaces).map(NamespaceId).filter(|other| *other != namespace);
        name.starts_with(USER_PREFIX) && others.into_iter().all(|other| self.find(other, name).is_none())
    }

    /// Corrects the way back from a member to its socket, after the socket's links were reordered.
    pub(crate) fn relink(&mut self, link: Link, to: u16) {
        let member = self.room_mut(link.room).members_mut().get_mut(link.position as usize);
        debug_assert!(member.is_some(), "a link leads to a member");
        if let Some(member) = member {
            member.link = to;
        }
    }

    pub(crate) fn members(&self, room: RoomId) -> &[Member] {
        self.room(room).members()
    }

    /// The rooms of a namespace with their members. Walks over all rooms: for those who ask, not for every turn.
    pub(crate) fn of(&self, namespace: NamespaceId) -> impl Iterator<Item = (&str, &[Member])> {
        let rooms = self.rooms.iter().filter(move |(_, room)| room.full_name().0 == namespace);
        rooms.map(|(_, room)| (room.name(), room.members()))
    }

    pub(crate) fn name(&self, room: RoomId) -> &str {
        self.room(room).name()
    }

    /// What it is called in full.
    pub(crate) fn full_name(&self, room: RoomId) -> (NamespaceId, &str) {
        self.room(room).full_name()
    }

    /// The rooms that have members here and whose home is here, those of users among them.
    pub(crate) fn at_home(&self) -> usize {
        self.at_home
    }

    /// The users that have a socket here and whose home is here.
    pub(crate) fn users_at_home(&self) -> usize {
        self.users_at_home
    }

    /// A room that has a member: nothing else is named, by links, by the index, or by who has just asked for it.
    #[inline]
    #[expect(
        clippy::indexing_slicing,
        reason = "a room that is not there is a fault of ours, and nothing to go on from"
    )]
    fn room(&self, id: RoomId) -> &Room {
        &self.rooms[id as usize]
    }

    #[inline]
    #[expect(clippy::indexing_slicing, reason = "as above")]
    fn room_mut(&mut self, id: RoomId) -> &mut Room {
        &mut self.rooms[id as usize]
    }

    fn is_called(&self, id: RoomId, namespace: NamespaceId, name: &str) -> bool {
        self.room(id).full_name() == (namespace, name)
    }

    fn indexed(&self, namespace: NamespaceId, name: &str, room: RoomId) -> Indexed {
        let hash = self.hasher.hash_one((namespace, name));
        #[expect(clippy::cast_possible_truncation, reason = "a part of it is enough")]
        Indexed { hash: hash as u32, room }
    }
}

/// Of a room, or of a place in one: both are bounded by clients and what each may have.
fn narrow(place: usize) -> u32 {
    let Ok(place) = u32::try_from(place) else { unreachable!("clients, and their rooms, are fewer than 2^32") };
    place
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROOT: NamespaceId = NamespaceId(0);
    const ALONE: ShardNumber = ShardNumber { number: 0, of: 1 };

    fn member(client: u32) -> Member {
        Member { client, socket: 0, link: 0 }
    }

    #[test]
    fn a_room_lives_from_its_first_member_to_its_last() {
        let mut rooms = Rooms::new(2, ALONE, 0);
        let links: Vec<_> = (0..3).map(|client| rooms.join(ROOT, "user:a", member(client))).collect();
        assert_eq!((rooms.at_home(), rooms.users_at_home()), (1, 1));
        let room = rooms.find(ROOT, "user:a").unwrap();
        assert_eq!(rooms.members(room).len(), 3);
        // The last one moves into the first one's place.
        assert_eq!(rooms.leave(links[0]), Some(member(2)));
        assert_eq!(rooms.leave(links[1]), None);
        assert_eq!(rooms.members(room), [member(2)]);
        assert_eq!(rooms.leave(Link { room, position: 0 }), None);
        assert_eq!((rooms.at_home(), rooms.users_at_home(), rooms.find(ROOT, "user:a")), (0, 0, None));
    }

    #[test]
    fn namespaces_do_not_share_rooms() {
        let mut rooms = Rooms::new(2, ALONE, 0);
        rooms.join(ROOT, "news", member(1));
        rooms.join(NamespaceId(1), "news", member(2));
        rooms.join(ROOT, "user:a", member(1));
        let link = rooms.join(NamespaceId(1), "user:a", member(2));
        assert_eq!(rooms.users_at_home(), 1);
        rooms.leave(link);
        assert_eq!(rooms.users_at_home(), 1);
        let members = |rooms: &Rooms, namespace| rooms.members(rooms.find(namespace, "news").unwrap()).to_vec();
        assert_eq!(members(&rooms, ROOT), [member(1)]);
        assert_eq!(members(&rooms, NamespaceId(1)), [member(2)]);
    }

    #[test]
    fn users_are_listed_a_part_at_a_time_and_each_of_them_once() {
        let mut rooms = Rooms::new(2, ALONE, 0);
        rooms.join(ROOT, "news", member(0));
        let mut links: Vec<_> =
            (0..10).map(|number| rooms.join(ROOT, &format!("user:{number}"), member(number))).collect();
        rooms.join(ROOT, "user:0", member(100));
        rooms.join(NamespaceId(1), "user:0", member(101));
        rooms.join(NamespaceId(1), "user:elsewhere", member(102));
        let mut listed = Vec::new();
        let mut next = Some(0);
        while let Some(from) = next {
            let (users, on) = rooms.users_from(from, 3, 4);
            assert!(users.len() <= 3 && on.is_none_or(|on| on > from && on <= from + 4));
            listed.extend(users);
            next = on;
            // Who goes and comes meanwhile moves nobody else.
            if let Some(link) = links.pop().filter(|_| links.len() > 5) {
                rooms.leave(link);
            }
            rooms.join(ROOT, &format!("user:late{}", listed.len()), member(7));
        }
        let count = |name: &str| listed.iter().filter(|(user, _)| **user == *name).count();
        assert!((0..5).all(|number| count(&number.to_string()) == 1), "{listed:?}");
        assert_eq!((count("elsewhere"), count("news")), (1, 0));
        assert_eq!(listed.iter().find(|(user, _)| **user == *"0"), Some(&("0".into(), 3)));
        assert_eq!(rooms.users_from(1_000, 3, 4), (Vec::new(), None));
        assert_eq!(rooms.users_from(u32::MAX, 3, u32::MAX), (Vec::new(), None));
    }

    #[test]
    fn a_room_is_small() {
        // As the slab has it.
        #[expect(dead_code)]
        enum Entry {
            Vacant(usize),
            Occupied(Room),
        }
        assert!(size_of::<Entry>() <= 32, "{}", size_of::<Entry>());
    }
}
