//! Room homes: the home of a room knows which other shards have members of it, because they tell it (`RoomUp`, `RoomDown`).
//!
//! Only who is told that it is in a room may rely on it, so the CONNECT answer, and the answer to a join, wait until the home
//! has acknowledged. Where the home is this shard there is nothing to tell.

use std::collections::HashSet;
use std::sync::Arc;

use foldhash::fast::RandomState;
use hashbrown::HashMap;

use crate::app::{Application, ConnectRequest};

use super::super::client::ClientKey;
use super::super::mail::{RoomName, SiblingMail};
use super::super::placement::home_of;
use super::super::rooms::{RoomId, Rooms, USER_PREFIX};
use super::super::sockets::{Link, NamespaceId, SocketStage};
use super::Hub;

/// At home: the other shards that have members of a room, with the epoch of their `RoomUp`.
type Outposts = Vec<(u16, u32)>;

/// The rooms whose home is here and that have members elsewhere.
pub(super) struct Homes {
    /// By namespace.
    rooms: Vec<HashMap<Box<str>, Outposts, RandomState>>,
}

impl Homes {
    pub(super) fn new(namespaces: u16) -> Homes {
        Homes { rooms: (0..namespaces).map(|_| HashMap::default()).collect() }
    }

    fn up(&mut self, room: &RoomName, shard: u16, epoch: u32) {
        let Some(rooms) = self.rooms.get_mut(usize::from(room.namespace.0)) else { return };
        let outposts = rooms.entry_ref(&*room.name).or_default();
        match outposts.iter_mut().find(|(other, _)| *other == shard) {
            Some((_, known)) => *known = epoch,
            None => outposts.push((shard, epoch)),
        }
    }

    /// One that is older than the shard's last `up` is ignored.
    fn down(&mut self, room: &RoomName, shard: u16, epoch: u32) {
        let Some(rooms) = self.rooms.get_mut(usize::from(room.namespace.0)) else { return };
        let Some(outposts) = rooms.get_mut(&*room.name) else { return };
        outposts.retain(|outpost| *outpost != (shard, epoch));
        if outposts.is_empty() {
            rooms.remove(&*room.name);
        }
    }

    /// The other shards with members of a room.
    pub(super) fn outposts(&self, namespace: NamespaceId, name: &str) -> &[(u16, u32)] {
        let rooms = self.rooms.get(usize::from(namespace.0));
        rooms.and_then(|rooms| rooms.get(name)).map_or(&[], Vec::as_slice)
    }

    /// The rooms and users at home here that have no member here.
    pub(super) fn count_others(&self, local: &Rooms) -> (usize, usize) {
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

/// The rooms with members here whose home is elsewhere.
#[derive(Default)]
pub(super) struct Announced {
    epoch: u32,
    rooms: HashMap<RoomId, Announcement, RandomState>,
}

struct Announcement {
    epoch: u32,
    is_acknowledged: bool,
    waiting: Vec<Waiting>,
}

/// What waits for an acknowledgement.
enum Waiting {
    /// A CONNECT answer.
    Connect { client: ClientKey, place: u16, payload: Option<Box<str>> },
    /// The answer to a mail.
    Pending(usize),
}

impl<A: Application> Hub<A> {
    /// The first member of a room has joined: tell its home.
    pub(super) fn announce(&mut self, room: RoomId, namespace: NamespaceId, name: &str) {
        let home = home_of(name, self.shard.of);
        if home == self.shard.number {
            return;
        }
        self.announced.epoch = self.announced.epoch.wrapping_add(1);
        let epoch = self.announced.epoch;
        let announcement = Announcement { epoch, is_acknowledged: false, waiting: Vec::new() };
        self.announced.rooms.insert(room, announcement);
        let room = RoomName { namespace, name: name.into() };
        self.mails.push((home, SiblingMail::RoomUp { room, epoch, from: self.shard.number }));
    }

    /// A member is about to leave its room: if it is the last, the home is told.
    pub(super) fn before_leave(&mut self, link: Link) {
        if self.rooms.members(link.room).len() > 1 {
            return;
        }
        let Some(announcement) = self.announced.rooms.remove(&link.room) else { return };
        let (namespace, name) = self.rooms.full_name(link.room);
        let room = RoomName { namespace, name: name.into() };
        let (home, epoch, from) = (home_of(name, self.shard.of), announcement.epoch, self.shard.number);
        self.mails.push((home, SiblingMail::RoomDown { room, epoch, from }));
        for waiting in announcement.waiting {
            if let Waiting::Pending(pending) = waiting {
                self.settle_pending(pending, 0, 0);
            }
        }
    }

    fn is_acknowledged(&self, room: RoomId) -> bool {
        self.announced.rooms.get(&room).is_none_or(|announcement| announcement.is_acknowledged)
    }

    /// A socket waits for its CONNECT answer until the home of its user's room knows of it; `false`: it need not.
    pub(super) fn connect_waits(&mut self, key: ClientKey, place: u16, request: &ConnectRequest<'_>) -> bool {
        let Some(room) = self.socket(key, place).and_then(|socket| socket.user) else { return false };
        let Some(announcement) = self.announced.rooms.get_mut(&room.room()) else { return false };
        if announcement.is_acknowledged {
            return false;
        }
        let payload = request.payload.map(Box::from);
        announcement.waiting.push(Waiting::Connect { client: key, place, payload });
        true
    }

    /// An answer waits until the home of this room knows of it; `false`: it need not.
    pub(super) fn answer_waits(&mut self, namespace: NamespaceId, name: &str, pending: usize) -> bool {
        let Some(room) = self.rooms.find(namespace, name).filter(|room| !self.is_acknowledged(*room)) else {
            return false;
        };
        match self.announced.rooms.get_mut(&room) {
            Some(announcement) => {
                announcement.waiting.push(Waiting::Pending(pending));
                true
            }
            None => false,
        }
    }

    /// At home: a shard has members of this room from now on.
    pub(super) fn on_room_up(&mut self, room: RoomName, epoch: u32, from: u16) {
        self.homes.up(&room, from, epoch);
        self.mails.push((from, SiblingMail::RoomReady { room, epoch }));
    }

    /// At home: it has none any more.
    pub(super) fn on_room_down(&mut self, room: &RoomName, epoch: u32, from: u16) {
        self.homes.down(room, from, epoch);
    }

    /// The home knows of the room: what waits goes on.
    pub(super) fn on_room_ready(&mut self, room: &RoomName, epoch: u32) {
        let Some(id) = self.rooms.find(room.namespace, &room.name) else { return };
        let Some(announcement) = self.announced.rooms.get_mut(&id).filter(|known| known.epoch == epoch) else { return };
        announcement.is_acknowledged = true;
        let settings = Arc::clone(&self.settings);
        for waiting in std::mem::take(&mut announcement.waiting) {
            match waiting {
                Waiting::Pending(pending) => self.settle_pending(pending, 0, 0),
                Waiting::Connect { client, place, payload } => {
                    // It may be gone, and another have its place.
                    let socket = self.socket(client, place);
                    let Some(socket) = socket.filter(|socket| {
                        socket.stage == SocketStage::Joining && socket.user.is_some_and(|user| user.room() == id)
                    }) else {
                        continue;
                    };
                    let request = ConnectRequest {
                        namespace: settings.namespace_name(socket.namespace),
                        payload: payload.as_deref(),
                        authorization: None,
                        now_unix_ms: self.now.unix_ms,
                    };
                    self.welcome(client, place, &request);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::placement::Place;
    use super::*;

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
        assert_eq!(homes.count_others(&Rooms::new(1, Place { number: 0, of: 4 }, 0)), (0, 0));
    }
}
