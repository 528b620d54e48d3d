//! `Directory`: the clients of a shard: by key, by session id, and by the time at which each has to be looked at.
//!
//! Between any two of its calls:
//! 1. Each client is in one slot, and only under the key that `insert` gave.
//! 2. A client that is armed (`timer_at`) has an entry on the wheel for that time, or one on `due`. More entries than
//!    that are hints that have grown old.
//! 3. `is_dirty` says whether a client is on `dirty`. Whoever takes the list clears the marks.
//! 4. An alarm is of a socket that is there.
//! 5. A sid in `moved_here` names another shard, and its client is here. One in `moved_away` names this shard, and its
//!    client is not here.
//! 6. An alias is of a socket that is there, and of no other.

use std::collections::{BTreeSet, VecDeque};

use foldhash::fast::RandomState;
use hashbrown::HashMap;
use sockring_protocol::Millis;
use sockring_protocol::adapter::Delivery;
use sockring_protocol::engineio::{Moment, Transport};

use crate::shard::faults::UnknownSid;
use crate::shard::moving::placement::ShardNumber;
use crate::shard::moving::sid::{Instance, RANDOM_BYTES, Sid};
use crate::shard::relay::{carried, maps};
use crate::shard::rooms::sockets::{NamespaceId, Seat, Socket, SocketStage};
use crate::shard::slots::Slots;
use crate::shard::timers::Timers;

use super::aliases::Aliases;
use super::client::{Client, ClientKey, Phase, Queued};
use super::outbox::{ConflateKey, Frames, Outbox};

/// The clients of a shard.
pub(crate) struct Directory {
    instance: Instance,
    shard: ShardNumber,
    clients: Slots<Client>,
    timers: Timers<ClientKey>,
    /// Those whose time has come, and who have not been seen to.
    due: VecDeque<ClientKey>,
    /// When the application wants to be called about sockets.
    alarms: BTreeSet<(Millis, ClientKey, u16)>,
    /// Those that something was queued for in this turn.
    dirty: Vec<ClientKey>,
    /// Polling clients that have moved away, and where they are now: their requests are sent on.
    moved_away: HashMap<Sid, u16, RandomState>,
    /// Clients that have moved here. One that began as a WebSocket is forgotten when its connection has come.
    moved_here: HashMap<Sid, ClientKey, RandomState>,
    aliases: Aliases,
}

carried!(Directory { due, alarms, dirty, moved_away by maps, moved_here by maps, aliases }
    parts { clients, timers }
    stays { instance, shard });

/// Where a session is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Found {
    Here(ClientKey),
    /// It has moved from here to this shard.
    Moved(u16),
    /// Its id names this shard.
    Elsewhere(u16),
    /// Its id names this instance.
    Abroad(Instance),
    Nowhere(UnknownSid),
}

impl Directory {
    pub(crate) fn new(instance: Instance, shard: ShardNumber, clients_max: usize, now: Millis) -> Directory {
        Directory {
            instance,
            shard,
            clients: Slots::with_capacity(clients_max),
            timers: Timers::new(now, shard),
            due: VecDeque::new(),
            alarms: BTreeSet::new(),
            dirty: Vec::new(),
            moved_away: HashMap::default(),
            moved_here: HashMap::default(),
            aliases: Aliases::default(),
        }
    }

    /// The Engine.IO sid of the client that the next `insert` adds; `None` when there is no room for one.
    pub(crate) fn next_sid(&self, random: impl FnOnce() -> [u8; RANDOM_BYTES]) -> Option<Sid> {
        let slot = self.clients.next_key()?;
        Some(Sid::new(self.instance, self.shard.number, slot.index, random()))
    }

    pub(crate) fn insert(&mut self, client: Client) -> Option<ClientKey> {
        self.clients.insert(client).map(ClientKey)
    }

    /// A client that has come from the shard that its sid names.
    pub(crate) fn insert_moved(&mut self, client: Client) -> Option<ClientKey> {
        let sid = client.sid;
        let key = self.insert(client)?;
        self.moved_here.insert(sid, key);
        Some(key)
    }

    /// Removes a client that goes to another shard. The requests of one that polls are sent after it from now on.
    pub(crate) fn remove_to(&mut self, key: ClientKey, home: u16) -> Option<Client> {
        let client = self.clients.remove(key.0)?;
        if client.began == Transport::Polling {
            self.moved_away.insert(client.sid, home);
        }
        Some(client)
    }

    /// Removes a client that is no more. The second says which shard still sends its requests on and has to be told.
    pub(crate) fn remove(&mut self, key: ClientKey) -> Option<(Client, Option<u16>)> {
        let client = self.clients.remove(key.0)?;
        let has_moved = client.sid.shard() != self.shard.number && self.moved_here.remove(&client.sid).is_some();
        let sender = (has_moved && client.began == Transport::Polling).then_some(client.sid.shard());
        Some((client, sender))
    }

    /// The WebSocket of a client has come after it, and no other request will name its sid.
    pub(crate) fn forget_sid(&mut self, sid: &Sid) {
        self.moved_here.remove(sid);
    }

    /// A client that had moved away is gone.
    pub(crate) fn on_gone(&mut self, sid: &Sid) {
        self.moved_away.remove(sid);
    }

    /// Finds the session with this id.
    pub(crate) fn find(&self, text: &str) -> Found {
        let Some(sid) = Sid::parse(text) else { return Found::Nowhere(UnknownSid::Malformed) };
        if sid.instance() != self.instance {
            return Found::Abroad(sid.instance());
        }
        if let Some(client) = self.find_here(&sid) {
            return Found::Here(client);
        }
        match self.moved_away.get(&sid) {
            Some(home) => Found::Moved(*home),
            None if sid.shard() != self.shard.number && sid.shard() < self.shard.of => Found::Elsewhere(sid.shard()),
            None => Found::Nowhere(UnknownSid::Gone),
        }
    }

    pub(crate) fn find_here(&self, sid: &Sid) -> Option<ClientKey> {
        if sid.shard() != self.shard.number {
            return self.moved_here.get(sid).copied();
        }
        let (key, client) = self.at(sid.slot())?;
        (client.sid == *sid).then_some(key)
    }

    #[inline]
    pub(crate) fn get(&self, key: ClientKey) -> Option<&Client> {
        self.clients.get(key.0)
    }

    #[inline]
    pub(crate) fn get_mut(&mut self, key: ClientKey) -> Option<&mut Client> {
        self.clients.get_mut(key.0)
    }

    /// The client that is in this slot now.
    #[inline]
    pub(crate) fn at(&self, slot: u32) -> Option<(ClientKey, &Client)> {
        self.clients.at(slot).map(|(key, client)| (ClientKey(key), client))
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (ClientKey, &Client)> {
        self.clients.iter().map(|(key, client)| (ClientKey(key), client))
    }

    pub(crate) fn len(&self) -> usize {
        self.clients.len()
    }

    /// Clients that have moved away and are still there.
    pub(crate) fn moved_away(&self) -> usize {
        self.moved_away.len()
    }

    pub(crate) fn socket(&self, key: ClientKey, place: u16) -> Option<&Socket> {
        self.get(key)?.sockets.get(place)
    }

    pub(crate) fn socket_mut(&mut self, key: ClientKey, place: u16) -> Option<&mut Socket> {
        self.get_mut(key)?.sockets.get_mut(place)
    }

    /// The socket in this seat, whoever's it is now.
    pub(crate) fn socket_at(&self, (slot, place): Seat) -> Option<(ClientKey, &Socket)> {
        let (key, client) = self.at(slot)?;
        Some((key, client.sockets.get(place)?))
    }

    pub(crate) fn socket_at_mut(&mut self, (slot, place): Seat) -> Option<&mut Socket> {
        self.clients.at_mut(slot)?.1.sockets.get_mut(place)
    }

    /// A socket's sid is a room of its own that is not stored: the sid itself says where the socket is.
    pub(crate) fn socket_with(&self, namespace: NamespaceId, sid: &str) -> Option<Seat> {
        let sid = Sid::parse(sid)?;
        if let Some(seat) = self.aliases.seat(&sid) {
            return self.socket_at(seat).filter(|(_, socket)| socket.namespace == namespace).map(|_| seat);
        }
        if !self.is_of_ours(&sid) {
            return None;
        }
        let (key, client) = self.at(sid.slot())?;
        let place = client.sockets.place_in(namespace)?;
        (client.sockets.get(place)?.random == sid.random()).then_some((key.0.index, place))
    }

    /// All sockets of a namespace.
    pub(crate) fn sockets_of(&self, namespace: NamespaceId) -> impl Iterator<Item = Seat> {
        self.iter().filter_map(move |(key, client)| Some((key.0.index, client.sockets.place_in(namespace)?)))
    }

    /// Whether this shard has given, or may give, this sid to a socket.
    pub(crate) fn is_of_ours(&self, sid: &Sid) -> bool {
        sid.instance() == self.instance && sid.shard() == self.shard.number
    }

    /// The same of a room that may be called like one.
    pub(crate) fn is_sid_of_ours(&self, room: &str) -> bool {
        Sid::parse(room).is_some_and(|sid| self.is_of_ours(&sid))
    }

    /// The Socket.IO sid of a socket: it says where its client is, which the Engine.IO sid of one that moved does not; or that
    /// of the socket that it continues.
    pub(crate) fn sid_of(&self, key: ClientKey, place: u16, random: [u8; RANDOM_BYTES]) -> Sid {
        let alias = self.aliases.sid((key.0.index, place));
        alias.unwrap_or_else(|| Sid::new(self.instance, self.shard.number, key.0.index, random))
    }

    /// A socket goes on under the sid of another one, which has ended.
    pub(crate) fn set_alias(&mut self, sid: Sid, seat: Seat) {
        self.aliases.set(sid, seat);
    }

    pub(crate) fn has_alias(&self, key: ClientKey, place: u16) -> bool {
        self.aliases.sid((key.0.index, place)).is_some()
    }

    pub(crate) fn forget_alias(&mut self, key: ClientKey, place: u16) {
        self.aliases.forget((key.0.index, place));
    }

    /// Queues messages for a client whatever waits for it already.
    pub(crate) fn refill(&mut self, key: ClientKey, messages: Vec<Frames>) {
        let Some(client) = self.clients.get_mut(key.0).filter(|client| client.phase != Phase::Farewell) else { return };
        messages.into_iter().for_each(|frames| client.outbox.push(frames));
        mark(client, key, &mut self.dirty);
    }

    /// Makes sure that the timer wheel asks this client in time.
    #[inline]
    pub(crate) fn arm(&mut self, key: ClientKey, moment: Moment) {
        let Some(client) = self.clients.get_mut(key.0) else { return };
        let deadline = client.deadline(moment);
        if deadline < client.timer_at {
            client.timer_at = self.timers.put(deadline, key, moment.at);
        }
    }

    /// Whoever's time has come is due.
    #[inline]
    pub(crate) fn advance(&mut self, now: Millis) {
        let Directory { timers, due, .. } = self;
        timers.advance(now, |key| due.push_back(key));
    }

    pub(crate) fn pop_due(&mut self) -> Option<ClientKey> {
        self.due.pop_front()
    }

    pub(crate) fn has_due(&self) -> bool {
        !self.due.is_empty()
    }

    #[inline]
    pub(crate) fn deadline(&self) -> Option<Millis> {
        let timer = self.timers.deadline();
        match self.alarms.first() {
            // The usual case, once in each turn.
            None => timer,
            Some((alarm, ..)) => Some(timer.map_or(*alarm, |timer| timer.min(*alarm))),
        }
    }

    pub(crate) fn set_alarm(&mut self, at: Millis, key: ClientKey, place: u16) {
        self.alarms.insert((at, key, place));
    }

    /// A socket whose alarm is due.
    #[inline]
    pub(crate) fn take_alarm(&mut self, now: Millis) -> Option<(ClientKey, u16)> {
        self.alarms.first().filter(|(at, ..)| *at <= now)?;
        self.alarms.pop_first().map(|(_, key, place)| (key, place))
    }

    /// A socket ends, and its alarms with it.
    pub(crate) fn forget_alarms(&mut self, key: ClientKey, place: u16) {
        if !self.alarms.is_empty() {
            self.alarms.retain(|(_, client, of)| (*client, *of) != (key, place));
        }
    }

    /// What waits for a client.
    #[inline]
    pub(crate) fn outbox(&mut self, key: ClientKey) -> Option<&mut Outbox> {
        self.get_mut(key).map(|client| &mut client.outbox)
    }

    /// Queues a message for one client, if its delivery and the limit allow.
    #[inline]
    pub(crate) fn queue(
        &mut self,
        key: ClientKey,
        frames: Frames,
        delivery: Delivery,
        queue_bytes_max: usize,
    ) -> Option<Queued> {
        let client = self.clients.get_mut(key.0)?;
        let queued = client.queue(frames, None, delivery, queue_bytes_max);
        if queued == Queued::Yes {
            mark(client, key, &mut self.dirty);
        }
        Some(queued)
    }

    /// Queues a message for the socket in a seat; `None` where there is none. One that has not been told that it is
    /// connected is promised nothing yet.
    #[inline]
    pub(crate) fn queue_at(
        &mut self,
        (slot, place): Seat,
        frames: &Frames,
        conflate: Option<&ConflateKey>,
        delivery: Delivery,
        queue_bytes_max: usize,
    ) -> Option<(ClientKey, Queued)> {
        let (key, client) = self.clients.at_mut(slot)?;
        let key = ClientKey(key);
        client.sockets.get(place).filter(|socket| socket.stage == SocketStage::Connected)?;
        let queued = client.queue(Frames::clone(frames), conflate, delivery, queue_bytes_max);
        if queued == Queued::Yes {
            mark(client, key, &mut self.dirty);
        }
        Some((key, queued))
    }

    /// Puts a client on the list of those that are flushed.
    #[inline]
    pub(crate) fn mark_dirty(&mut self, key: ClientKey) {
        if let Some(client) = self.clients.get_mut(key.0) {
            mark(client, key, &mut self.dirty);
        }
    }

    #[inline]
    pub(crate) fn has_dirty(&self) -> bool {
        !self.dirty.is_empty()
    }

    #[inline]
    pub(crate) fn take_dirty(&mut self) -> Vec<ClientKey> {
        std::mem::take(&mut self.dirty)
    }

    /// A list that was taken and worked off: its memory serves again, while nobody has come onto a new one.
    #[inline]
    pub(crate) fn reuse_dirty(&mut self, mut worked_off: Vec<ClientKey>) {
        if self.dirty.is_empty() && self.dirty.capacity() < worked_off.capacity() {
            worked_off.clear();
            self.dirty = worked_off;
        }
    }

    /// The block that room for so many clients reserves, in bytes.
    pub(crate) fn reserved(clients_max: usize) -> [usize; 2] {
        Slots::<Client>::reserved(clients_max)
    }
}

#[inline]
fn mark(client: &mut Client, key: ClientKey, dirty: &mut Vec<ClientKey>) {
    if !client.is_dirty {
        client.is_dirty = true;
        dirty.push(key);
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;

    use super::*;
    use crate::shard::slots::Key;

    fn directory() -> Directory {
        Directory::new(Instance::new(0), ShardNumber { number: 0, of: 1 }, 0, Millis(0))
    }

    #[test]
    fn alarms_are_due_in_order_of_time_and_end_with_their_sockets() {
        let mut directory = directory();
        let key = |index| ClientKey(Key { index, generation: NonZeroU32::MIN });
        for (at, client, place) in [(30, 1, 0), (10, 2, 1), (20, 2, 0), (10, 1, 0)] {
            directory.set_alarm(Millis(at), key(client), place);
        }
        directory.forget_alarms(key(2), 0);
        assert_eq!(directory.deadline(), Some(Millis(10)));
        assert_eq!(directory.take_alarm(Millis(9)), None);
        let due: Vec<_> = std::iter::from_fn(|| directory.take_alarm(Millis(30))).collect();
        assert_eq!(due, [(key(1), 0), (key(2), 1), (key(1), 0)]);
        assert_eq!(directory.deadline(), None);
    }

    #[test]
    fn a_list_that_was_worked_off_serves_again() {
        let mut directory = directory();
        directory.reuse_dirty(Vec::with_capacity(64));
        assert!(!directory.has_dirty());
        assert!(directory.take_dirty().capacity() >= 64);
    }
}
