//! Room homes: the home of a room knows which other shards have members of it, because they tell it (`RoomUp`, `RoomDown`).
//!
//! Only who is told that it is in a room may rely on it, so the CONNECT answer, and the answer to a join, wait until the home
//! has acknowledged. Where the home is this shard there is nobody to tell, but where there is a bus: the home wants the
//! room's messages of it, from the room's first member on whichever shard to its last, and until the bus has confirmed it, or
//! has had its time, all of them wait, the acknowledgements to other shards among them.

use std::collections::HashSet;
use std::sync::Arc;

use foldhash::fast::RandomState;
use hashbrown::HashMap;

use crate::app::{Application, ConnectRequest};
use crate::shard::clients::client::ClientKey;
use crate::shard::effects::Effect;
use crate::shard::hub::Hub;
use crate::shard::mail::{RoomName, SiblingMail};
use crate::shard::moving::placement::home_of;
use crate::shard::moving::sid::RANDOM_BYTES;
use crate::shard::settings::Cluster;

use super::sockets::{Link, NamespaceId, RoomId, SocketStage};
use super::table::{Rooms, USER_PREFIX};

/// At home: the other shards that have members of a room, with the epoch of their `RoomUp`.
type Outposts = Vec<(u16, u32)>;

/// The rooms whose home is here and that have members elsewhere.
pub(crate) struct Homes {
    /// By namespace.
    rooms: Vec<HashMap<Box<str>, Outposts, RandomState>>,
}

impl Homes {
    pub(crate) fn new(namespaces: u16) -> Homes {
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

    /// One that is older than the shard's last `up` is ignored. Says whether no shard is left.
    fn down(&mut self, room: &RoomName, shard: u16, epoch: u32) -> bool {
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

/// The rooms with members here whose home is elsewhere.
#[derive(Default)]
pub(crate) struct Announced {
    epoch: u32,
    rooms: HashMap<RoomId, Announcement, RandomState>,
}

struct Announcement {
    epoch: u32,
    is_acknowledged: bool,
    waiting: Vec<Waiting>,
}

/// What waits for the acknowledgement of a room's home, or at home for the bus.
pub(crate) enum Waiting {
    /// A CONNECT answer.
    Connect { client: ClientKey, place: u16, random: [u8; RANDOM_BYTES], payload: Option<Box<str>> },
    /// The answer to a mail.
    Pending(usize),
    /// The acknowledgement of another shard's `RoomUp`.
    Outpost { shard: u16, epoch: u32 },
}

impl<A: Application> Hub<A> {
    /// The first member of a room has joined: tell its home, or at home the bus.
    pub(crate) fn announce(&mut self, room: RoomId, namespace: NamespaceId, name: &str) {
        let home = home_of(name, self.shard.of);
        if home == self.shard.number {
            if self.homes.outposts(namespace, name).is_empty() {
                self.subscribe(namespace, name);
            }
            return;
        }
        self.announced.epoch = self.announced.epoch.wrapping_add(1);
        let epoch = self.announced.epoch;
        let announcement = Announcement { epoch, is_acknowledged: false, waiting: Vec::new() };
        self.announced.rooms.insert(room, announcement);
        let room = RoomName { namespace, name: name.into() };
        self.outbound.mails.push((home, SiblingMail::RoomUp { room, epoch, from: self.shard.number }));
    }

    /// A member is about to leave its room: if it is the last, the home is told, or at home the bus.
    pub(crate) fn before_leave(&mut self, link: Link) {
        if self.rooms.members(link.room).len() > 1 {
            return;
        }
        let Some(announcement) = self.announced.rooms.remove(&link.room) else {
            // Its home is here.
            if self.settings.cluster != Cluster::Alone {
                let (namespace, name) = self.rooms.full_name(link.room);
                if self.homes.outposts(namespace, name).is_empty() {
                    self.unsubscribe(RoomName { namespace, name: name.into() });
                }
            }
            return;
        };
        let (namespace, name) = self.rooms.full_name(link.room);
        let room = RoomName { namespace, name: name.into() };
        let (home, epoch, from) = (home_of(name, self.shard.of), announcement.epoch, self.shard.number);
        self.outbound.mails.push((home, SiblingMail::RoomDown { room, epoch, from }));
        self.give_up(announcement.waiting);
    }

    /// At home: the first member of a room has come, on whichever shard.
    fn subscribe(&mut self, namespace: NamespaceId, name: &str) {
        if self.settings.cluster == Cluster::Alone || self.settings.instance.covers(name) {
            return;
        }
        let room = RoomName { namespace, name: name.into() };
        let epoch = self.subscriptions.begin(&room, self.now.at);
        self.counters.subscriptions_unawaited += u64::from(!self.subscriptions.bus_is_up());
        self.outbound.for_bus.push(Effect::Subscribe(Box::new(room), epoch));
    }

    /// At home: the last one has gone.
    fn unsubscribe(&mut self, room: RoomName) {
        if self.settings.cluster == Cluster::Alone || self.settings.instance.covers(&room.name) {
            return;
        }
        let waiting = self.subscriptions.end(&room);
        self.give_up(waiting);
        self.outbound.for_bus.push(Effect::Unsubscribe(Box::new(room)));
    }

    /// The last member of a room is gone, and with it all that its sockets, or other shards, waited for.
    fn give_up(&mut self, waiting: Vec<Waiting>) {
        for waiting in waiting {
            if let Waiting::Pending(pending) = waiting {
                self.settle_pending(pending, 0, 0);
            }
        }
    }

    /// Where those go who have to wait until emits reach this room from everywhere; `None`: they do.
    fn waiting_for(&mut self, room: RoomId) -> Option<&mut Vec<Waiting>> {
        if let Some(announcement) = self.announced.rooms.get_mut(&room) {
            return (!announcement.is_acknowledged).then_some(&mut announcement.waiting);
        }
        let (namespace, name) = self.rooms.full_name(room);
        self.subscriptions.waiting(namespace, name)
    }

    /// The room of a socket's own sid, where that has a channel of its own.
    fn room_of_sid(&self, key: ClientKey, place: u16) -> Option<RoomName> {
        if self.settings.cluster != Cluster::OverBusBySid {
            return None;
        }
        let socket = self.directory.socket(key, place)?;
        let name = self.directory.sid_of(key, socket.random).text().as_str().into();
        Some(RoomName { namespace: socket.namespace, name })
    }

    /// A socket is there: the bus is asked for its own channel, if it has one.
    pub(crate) fn subscribe_sid(&mut self, key: ClientKey, place: u16) {
        let Some(room) = self.room_of_sid(key, place) else { return };
        let epoch = self.subscriptions.begin(&room, self.now.at);
        self.counters.subscriptions_unawaited += u64::from(!self.subscriptions.bus_is_up());
        self.outbound.for_bus.push(Effect::Subscribe(Box::new(room), epoch));
    }

    /// A socket is about to go.
    pub(crate) fn unsubscribe_sid(&mut self, key: ClientKey, place: u16) {
        let Some(room) = self.room_of_sid(key, place) else { return };
        let waiting = self.subscriptions.end(&room);
        self.give_up(waiting);
        self.outbound.for_bus.push(Effect::Unsubscribe(Box::new(room)));
    }

    /// A socket waits for its CONNECT answer until emits to its user, and to itself, reach it from everywhere; `false`: they
    /// do.
    pub(crate) fn connect_waits(&mut self, key: ClientKey, place: u16, request: &ConnectRequest<'_>) -> bool {
        let Some(socket) = self.directory.socket(key, place) else { return false };
        let (user, random) = (socket.user, socket.random);
        let connect = || Waiting::Connect { client: key, place, random, payload: request.payload.map(Box::from) };
        if let Some(user) = user
            && let Some(waiting) = self.waiting_for(user.room())
        {
            waiting.push(connect());
            return true;
        }
        let Some(room) = self.room_of_sid(key, place) else { return false };
        let Some(waiting) = self.subscriptions.waiting(room.namespace, &room.name) else { return false };
        waiting.push(connect());
        true
    }

    /// An answer waits until emits reach this room from everywhere; `false`: they do.
    pub(crate) fn answer_waits(&mut self, namespace: NamespaceId, name: &str, pending: usize) -> bool {
        let Some(room) = self.rooms.find(namespace, name) else { return false };
        let Some(waiting) = self.waiting_for(room) else { return false };
        waiting.push(Waiting::Pending(pending));
        true
    }

    /// At home: a shard has members of this room from now on.
    pub(crate) fn on_room_up(&mut self, room: RoomName, epoch: u32, from: u16) {
        let has_others = !self.homes.outposts(room.namespace, &room.name).is_empty();
        let is_first = !has_others && self.rooms.find(room.namespace, &room.name).is_none();
        self.homes.up(&room, from, epoch);
        if is_first {
            self.subscribe(room.namespace, &room.name);
        }
        match self.subscriptions.waiting(room.namespace, &room.name) {
            Some(waiting) => waiting.push(Waiting::Outpost { shard: from, epoch }),
            None => self.outbound.mails.push((from, SiblingMail::RoomReady { room, epoch })),
        }
    }

    /// At home: it has none any more.
    pub(crate) fn on_room_down(&mut self, room: &RoomName, epoch: u32, from: u16) {
        if self.homes.down(room, from, epoch) && self.rooms.find(room.namespace, &room.name).is_none() {
            self.unsubscribe(room.clone());
        }
    }

    /// At home: messages to the room come from now on, since the `Subscribe` of this epoch.
    pub(crate) fn on_subscribed(&mut self, room: &RoomName, epoch: u32) {
        let waiting = self.subscriptions.confirm(room, epoch);
        self.go_on(room, waiting);
    }

    /// The bus is gone: nobody waits for it.
    pub(crate) fn on_bus_down(&mut self) {
        for (room, waiting) in self.subscriptions.on_down() {
            self.counters.subscriptions_unawaited += 1;
            self.go_on(&room, waiting);
        }
    }

    /// The bus has had its time.
    pub(crate) fn expire_subscriptions(&mut self) {
        for (room, waiting) in self.subscriptions.expire(self.now.at) {
            self.counters.subscriptions_late += 1;
            self.go_on(&room, waiting);
        }
    }

    /// The home knows of the room: what waits goes on.
    pub(crate) fn on_room_ready(&mut self, room: &RoomName, epoch: u32) {
        let Some(id) = self.rooms.find(room.namespace, &room.name) else { return };
        let Some(announcement) = self.announced.rooms.get_mut(&id).filter(|known| known.epoch == epoch) else { return };
        announcement.is_acknowledged = true;
        let waiting = std::mem::take(&mut announcement.waiting);
        self.go_on(room, waiting);
    }

    /// What waited for this room waits no longer.
    fn go_on(&mut self, room: &RoomName, waiting: Vec<Waiting>) {
        let settings = Arc::clone(&self.settings);
        for waiting in waiting {
            match waiting {
                Waiting::Pending(pending) => self.settle_pending(pending, 0, 0),
                Waiting::Outpost { shard, epoch } => {
                    self.outbound.mails.push((shard, SiblingMail::RoomReady { room: room.clone(), epoch }));
                }
                Waiting::Connect { client, place, random, payload } => {
                    // It may be gone, and another have its place.
                    let socket = self.directory.socket(client, place);
                    let Some(socket) =
                        socket.filter(|socket| socket.stage == SocketStage::Joining && socket.random == random)
                    else {
                        continue;
                    };
                    let request = ConnectRequest {
                        namespace: settings.namespace_name(socket.namespace),
                        payload: payload.as_deref(),
                        authorization: None,
                        now_unix_ms: self.now.unix_ms,
                    };
                    if !self.connect_waits(client, place, &request) {
                        self.welcome(client, place, &request);
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shard::moving::placement::Place;

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
