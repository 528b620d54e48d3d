//! `Membership`: which sockets of a shard are in which rooms, which other shards have members of them, and what the bus is
//! wanted to do because of that.
//!
//! ```text
//!    a socket joins                 the home of its room                      the bus
//!    first member here  -- RoomUp ->  first member anywhere  -- Subscribe ->
//!    waits                            waits                                   waits for Redis, 250 ms at most
//!    goes on           <- RoomReady -  goes on               <- Subscribed --
//!
//!    last member gone  -- RoomDown ->  last member anywhere  -- Unsubscribe ->
//! ```
//!
//! A `RoomDown` and an answer carry the epoch of what they end or answer: one that a newer `RoomUp` or `Subscribe` has
//! overtaken changes nothing.
//!
//! Between any two calls:
//! 1. A room is in `rooms` while it has a member here. Each member leads to a socket, and that socket's link of this
//!    number leads back; whoever moves a link says so (`relink`).
//! 2. A room in `rooms` is in `announced` exactly if its home is elsewhere.
//! 3. A room is in `homes` exactly if its home is here and other shards have members of it.
//! 4. With a bus, a room whose home is here is subscribed while it has a member anywhere, and is in `subscriptions` until
//!    that is confirmed.
//! 5. A room that lingers is not in `rooms`, and counts as one with a member for 3 and 4: its home, or the bus, hears of the
//!    end when its time is over.

use foldhash::fast::RandomState;
use hashbrown::HashMap;
use sockring_protocol::Millis;

use crate::shard::clients::client::ClientKey;
use crate::shard::effects::Effect;
use crate::shard::mail::{RoomName, SiblingMail, TallyKey};
use crate::shard::moving::placement::{ShardNumber, home_of};
use crate::shard::moving::sid::{Instance, RANDOM_BYTES};
use crate::shard::recovery::position::Position;
use crate::shard::relay::{carried, maps};
use crate::shard::settings::Instances;
use sockring_protocol::portable;

use super::homes::Homes;
use super::lingering::{Lingering, Term};
use super::sockets::{Link, NamespaceId, RoomId, Socket};
use super::subscriptions::{PendingSubscriptions, Released};
use super::table::{Member, Rooms, USER_PREFIX, UsersPage};

/// The rooms of a shard, those at home here and those that have members here.
pub(crate) struct Membership {
    shard: ShardNumber,
    instances: Instances,
    instance: Instance,
    rooms: Rooms,
    homes: Homes,
    /// The rooms with members here whose home is elsewhere.
    announced: HashMap<RoomId, Announcement, RandomState>,
    epoch: u32,
    subscriptions: PendingSubscriptions<Waiting>,
    /// Rooms that have lost their last member here lately, and what their home was told of them.
    lingering: Lingering<Option<Announcement>>,
}

carried!(Membership { announced by maps, epoch }
    parts { rooms, homes, subscriptions, lingering }
    stays { shard, instances, instance });

struct Announcement {
    epoch: u32,
    is_acknowledged: bool,
    waiting: Vec<Waiting>,
}

portable!(struct Announcement { epoch, is_acknowledged, waiting });

/// What waits for the acknowledgement of a room's home, or at home for the bus.
pub(crate) enum Waiting {
    /// A CONNECT answer.
    Connect { client: ClientKey, place: u16, random: [u8; RANDOM_BYTES], payload: Option<Box<str>> },
    /// The answer to a mail.
    Tally(TallyKey),
    /// The acknowledgement of another shard's `RoomUp`.
    Outpost { shard: u16, epoch: u32 },
}

portable!(enum Waiting {
    0 Connect { client, place, random, payload },
    1 Tally(tally),
    2 Outpost { shard, epoch },
});

/// Who has to hear of a room's first member, or of its last.
pub(crate) enum Notice {
    Shard(u16, SiblingMail),
    Bus(Effect),
}

/// What the end of a membership leads to.
pub(crate) struct Left {
    /// The member that has the position now: its socket's link has to follow.
    pub(crate) moved: Option<Member>,
    pub(crate) notice: Option<Notice>,
    /// What waited for a room that has no member any more.
    pub(crate) given_up: Vec<Waiting>,
}

/// A room that has lingered for long enough.
pub(crate) struct EndedRoom {
    pub(crate) room: RoomName,
    /// The position of its end.
    pub(crate) since: Position,
    pub(crate) notice: Option<Notice>,
    pub(crate) given_up: Vec<Waiting>,
}

/// How many of each there are.
pub(crate) struct MembershipCounts {
    pub(crate) rooms: usize,
    pub(crate) users: usize,
    pub(crate) subscriptions_pending: usize,
}

impl Membership {
    /// No rooms yet, in this many namespaces, and room for one for each client: a user's.
    pub(crate) fn new(
        namespaces: u16,
        shard: ShardNumber,
        clients_max: usize,
        instances: Instances,
        instance: Instance,
    ) -> Membership {
        Membership {
            shard,
            instances,
            instance,
            rooms: Rooms::new(namespaces, shard, clients_max),
            homes: Homes::new(namespaces),
            announced: HashMap::default(),
            epoch: 0,
            subscriptions: PendingSubscriptions::new(namespaces),
            lingering: Lingering::new(namespaces, clients_max),
        }
    }

    pub(crate) fn find(&self, namespace: NamespaceId, name: &str) -> Option<RoomId> {
        self.rooms.find(namespace, name)
    }

    pub(crate) fn members(&self, room: RoomId) -> &[Member] {
        self.rooms.members(room)
    }

    /// The members here of the room with this name.
    pub(crate) fn members_of(&self, namespace: NamespaceId, name: &str) -> &[Member] {
        self.find(namespace, name).map_or(&[], |room| self.members(room))
    }

    pub(crate) fn name(&self, room: RoomId) -> &str {
        self.rooms.name(room)
    }

    /// The user that a socket belongs to.
    pub(crate) fn user_of(&self, socket: &Socket) -> Option<&str> {
        self.name(socket.user?.room()).strip_prefix(USER_PREFIX)
    }

    /// Some of the users that have sockets here.
    pub(crate) fn users_from(&self, from: u32, users_max: usize, slots_max: u32) -> UsersPage {
        self.rooms.users_from(from, users_max, slots_max)
    }

    /// The rooms of a namespace with their members. Walks over all rooms: for those who ask, not for every turn.
    pub(crate) fn rooms_of(&self, namespace: NamespaceId) -> impl Iterator<Item = (&str, &[Member])> {
        self.rooms.of(namespace)
    }

    /// At home: the other shards with members of a room, each with the epoch of its `RoomUp`.
    pub(crate) fn outposts(&self, namespace: NamespaceId, name: &str) -> &[(u16, u32)] {
        self.homes.outposts(namespace, name)
    }

    pub(crate) fn counts(&self) -> MembershipCounts {
        let (rooms, users) = self.homes.count_others(&self.rooms);
        MembershipCounts {
            rooms: self.rooms.at_home() + rooms,
            users: self.rooms.users_at_home() + users,
            subscriptions_pending: self.subscriptions.len(),
        }
    }

    /// Adds a member, and the room if this is its first: then its home hears of it, or at home the bus.
    pub(crate) fn join(
        &mut self,
        namespace: NamespaceId,
        name: &str,
        member: Member,
        now: Millis,
    ) -> (Link, Option<Notice>) {
        let link = self.rooms.join(namespace, name, member);
        if self.rooms.members(link.room).len() > 1 {
            return (link, None);
        }
        if let Some(announcement) = self.lingering.take(namespace, name) {
            self.announced.extend(announcement.map(|announcement| (link.room, announcement)));
            return (link, None);
        }
        let home = home_of(name, self.shard.of);
        if home == self.shard.number {
            let is_first = self.homes.outposts(namespace, name).is_empty();
            return (link, if is_first { self.subscribe(namespace, name, now) } else { None });
        }
        self.epoch = self.epoch.wrapping_add(1);
        let epoch = self.epoch;
        self.announced.insert(link.room, Announcement { epoch, is_acknowledged: false, waiting: Vec::new() });
        let room = RoomName { namespace, name: name.into() };
        (link, Some(Notice::Shard(home, SiblingMail::RoomUp { room, epoch, from: self.shard.number })))
    }

    /// Whether the next one who leaves a room is its last member here.
    pub(crate) fn has_one_member(&self, room: RoomId) -> bool {
        self.rooms.members(room).len() <= 1
    }

    /// Removes the member that a link leads to, and the room with its last one. It lingers, if there is a term for that.
    pub(crate) fn leave(&mut self, link: Link, term: Option<Term>) -> Left {
        let (notice, given_up) = match self.has_one_member(link.room) {
            true => self.before_last_leaves(link.room, term),
            false => (None, Vec::new()),
        };
        Left { moved: self.rooms.leave(link), notice, given_up }
    }

    fn before_last_leaves(&mut self, room: RoomId, term: Option<Term>) -> (Option<Notice>, Vec<Waiting>) {
        let announcement = self.announced.remove(&room);
        if term.is_none() && announcement.is_none() && self.instances == Instances::Alone {
            return (None, Vec::new());
        }
        let (namespace, name) = self.rooms.full_name(room);
        let room = RoomName { namespace, name: name.into() };
        match term {
            Some(term) => {
                self.lingering.put(room, term, announcement);
                (None, Vec::new())
            }
            None => self.give_up(room, announcement),
        }
    }

    /// A room has no member here any more, nor does it linger.
    fn give_up(&mut self, room: RoomName, announcement: Option<Announcement>) -> (Option<Notice>, Vec<Waiting>) {
        match announcement {
            Some(Announcement { epoch, waiting, .. }) => {
                let (home, from) = (home_of(&room.name, self.shard.of), self.shard.number);
                (Some(Notice::Shard(home, SiblingMail::RoomDown { room, epoch, from })), waiting)
            }
            None if self.has_channels_of_sids() && self.instance.covers(&room.name) => {
                let (notice, given_up) = self.unsubscribe_from(room);
                (Some(notice), given_up)
            }
            // Its home is here.
            None if self.homes.outposts(room.namespace, &room.name).is_empty() => self.unsubscribe(room),
            None => (None, Vec::new()),
        }
    }

    /// Something that is no room here lingers as one: a socket that was in none.
    pub(crate) fn linger(&mut self, room: RoomName, term: Term) {
        self.lingering.put(room, term, None);
    }

    /// The rooms that linger.
    pub(crate) fn all_lingering(&self) -> impl Iterator<Item = (&RoomName, Term)> {
        self.lingering.all()
    }

    /// A room that lingered in the process before goes on to do so. Where its home is another shard, that one knows of it
    /// under this epoch.
    pub(crate) fn linger_on(&mut self, room: RoomName, term: Term, epoch: u32) {
        let is_elsewhere = home_of(&room.name, self.shard.of) != self.shard.number;
        let announcement = || Announcement { epoch, is_acknowledged: true, waiting: Vec::new() };
        self.epoch = self.epoch.max(epoch);
        self.lingering.put(room, term, is_elsewhere.then(announcement));
    }

    /// At home: another shard has remembered this room since the process before.
    pub(crate) fn expect_outpost(&mut self, room: &RoomName, shard: u16, epoch: u32) {
        if home_of(&room.name, self.shard.of) == self.shard.number {
            self.homes.up(room, shard, epoch);
        }
    }

    /// Takes back the end of a room that lingers; `false`: it does not.
    pub(crate) fn ends_to_linger(&mut self, room: &RoomName) -> bool {
        self.lingering.take(room.namespace, &room.name).is_some()
    }

    /// Whether a room has members here, or has had some lately.
    pub(crate) fn is_remembered(&self, namespace: NamespaceId, name: &str) -> bool {
        self.find(namespace, name).is_some() || self.lingering.contains(namespace, name)
    }

    /// Whether rooms of a namespace have lost their last member lately.
    pub(crate) fn has_lingering(&self, namespace: NamespaceId) -> bool {
        self.lingering.has_some(namespace)
    }

    pub(crate) fn lingering(&self) -> usize {
        self.lingering.len()
    }

    /// Whether rooms that have lingered for long enough are still to be ended.
    pub(crate) fn has_lingered(&self, now: Millis) -> bool {
        self.lingering.deadline().is_some_and(|at| at <= now)
    }

    /// Ends a room that has lingered for long enough, with the position of its end.
    pub(crate) fn expire_lingering(&mut self, now: Millis) -> Option<EndedRoom> {
        let (room, since, announcement) = self.lingering.expire(now)?;
        let name = room.clone();
        let (notice, given_up) = self.give_up(room, announcement);
        Some(EndedRoom { room: name, since, notice, given_up })
    }

    /// Corrects the way back from a member to its socket, after the socket's links were reordered.
    pub(crate) fn relink(&mut self, link: Link, to: u16) {
        self.rooms.relink(link, to);
    }

    /// Whether the sid of each socket is a room with a channel of its own on the bus.
    pub(crate) fn has_channels_of_sids(&self) -> bool {
        self.instances == Instances::OverBusBySid
    }

    /// At home: a room has its first member, on whichever shard.
    fn subscribe(&mut self, namespace: NamespaceId, name: &str, now: Millis) -> Option<Notice> {
        if self.instances == Instances::Alone || self.instance.covers(name) {
            return None;
        }
        Some(self.subscribe_to(RoomName { namespace, name: name.into() }, now))
    }

    /// The bus is wanted to send the messages to this room, from now on.
    pub(crate) fn subscribe_to(&mut self, room: RoomName, now: Millis) -> Notice {
        let epoch = self.subscriptions.begin(&room, now);
        Notice::Bus(Effect::Subscribe(Box::new(room), epoch))
    }

    /// At home: a room has no member any more, on any shard.
    fn unsubscribe(&mut self, room: RoomName) -> (Option<Notice>, Vec<Waiting>) {
        if self.instances == Instances::Alone || self.instance.covers(&room.name) {
            return (None, Vec::new());
        }
        let (notice, given_up) = self.unsubscribe_from(room);
        (Some(notice), given_up)
    }

    /// The bus is wanted to send them no more.
    pub(crate) fn unsubscribe_from(&mut self, room: RoomName) -> (Notice, Vec<Waiting>) {
        let given_up = self.subscriptions.end(&room);
        (Notice::Bus(Effect::Unsubscribe(Box::new(room))), given_up)
    }

    /// Where those go who have to wait until emits reach this room from everywhere; `None`: they do.
    pub(crate) fn waiting_for(&mut self, room: RoomId) -> Option<&mut Vec<Waiting>> {
        if let Some(announcement) = self.announced.get_mut(&room) {
            return (!announcement.is_acknowledged).then_some(&mut announcement.waiting);
        }
        let (namespace, name) = self.rooms.full_name(room);
        self.subscriptions.waiting(namespace, name)
    }

    /// Where those go who have to wait until the bus has this room; `None`: it has.
    pub(crate) fn waiting_for_bus(&mut self, room: &RoomName) -> Option<&mut Vec<Waiting>> {
        self.subscriptions.waiting(room.namespace, &room.name)
    }

    /// At home: a shard has members of this room from now on. It hears that this is known when emits reach the room.
    pub(crate) fn on_room_up(&mut self, room: RoomName, epoch: u32, from: u16, now: Millis) -> [Option<Notice>; 2] {
        let has_others = !self.homes.outposts(room.namespace, &room.name).is_empty();
        let is_first = !has_others && !self.is_remembered(room.namespace, &room.name);
        self.homes.up(&room, from, epoch);
        let subscribe = if is_first { self.subscribe(room.namespace, &room.name, now) } else { None };
        match self.waiting_for_bus(&room) {
            Some(waiting) => {
                waiting.push(Waiting::Outpost { shard: from, epoch });
                [subscribe, None]
            }
            None => [subscribe, Some(Notice::Shard(from, SiblingMail::RoomReady { room, epoch }))],
        }
    }

    /// At home: it has none any more.
    pub(crate) fn on_room_down(&mut self, room: &RoomName, epoch: u32, from: u16) -> (Option<Notice>, Vec<Waiting>) {
        match self.homes.down(room, from, epoch) && !self.is_remembered(room.namespace, &room.name) {
            true => self.unsubscribe(room.clone()),
            false => (None, Vec::new()),
        }
    }

    /// The home of a room knows of the `RoomUp` of this epoch; who waited for that.
    pub(crate) fn on_room_ready(&mut self, room: &RoomName, epoch: u32) -> Vec<Waiting> {
        let announced = match self.find(room.namespace, &room.name) {
            Some(id) => self.announced.get_mut(&id),
            None => self.lingering.get_mut(room.namespace, &room.name).and_then(Option::as_mut),
        };
        let Some(announcement) = announced.filter(|known| known.epoch == epoch) else { return Vec::new() };
        announcement.is_acknowledged = true;
        std::mem::take(&mut announcement.waiting)
    }

    /// At home: the bus has confirmed the `Subscribe` of this epoch; who waited for that.
    pub(crate) fn on_subscribed(&mut self, room: &RoomName, epoch: u32) -> Vec<Waiting> {
        self.subscriptions.confirm(room, epoch)
    }

    pub(crate) fn bus_is_up(&self) -> bool {
        self.subscriptions.bus_is_up()
    }

    pub(crate) fn on_bus_up(&mut self) {
        self.subscriptions.on_up();
    }

    /// The bus is gone: nobody waits for it any more.
    pub(crate) fn on_bus_down(&mut self) -> Vec<Released<Waiting>> {
        self.subscriptions.on_down()
    }

    /// Those for whom the bus has had its time.
    pub(crate) fn expire(&mut self, now: Millis) -> Vec<Released<Waiting>> {
        self.subscriptions.expire(now)
    }

    pub(crate) fn deadline(&self) -> Option<Millis> {
        [self.subscriptions.deadline(), self.lingering.deadline()].into_iter().flatten().min()
    }
}
