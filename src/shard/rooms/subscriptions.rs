//! `PendingSubscriptions`: which rooms the bus has been asked for and has not confirmed yet, and who waits for that.
//!
//! A room that is confirmed, or that nobody may wait for any more, costs nothing here: that it is subscribed follows from its
//! having members. Each `Subscribe` has an epoch that its confirmation repeats, so that a confirmation of an earlier one, for
//! a room that was down in between, is never taken for the later one's.

use std::collections::VecDeque;

use foldhash::fast::RandomState;
use hashbrown::HashMap;
use sockring_protocol::Millis;

use crate::shard::mail::RoomName;
use crate::shard::relay::{carried, map_lists};
use sockring_protocol::portable;
use sockring_protocol::portable::{Packer, Portable, Unpacker, Unreadable};

use super::sockets::NamespaceId;

/// No longer than this does anybody wait for the bus.
const CONFIRM_MS_MAX: u64 = 250;

/// Whether the bus is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum BusState {
    Up,
    /// Until it first says that it is up, too.
    Down,
}

portable!(enum BusState { 0 Up, 1 Down });

/// A room that the bus has been asked for, and those who wait for it.
struct UnderWay<W> {
    epoch: u32,
    waiting: Vec<W>,
}

impl<W: Portable> Portable for UnderWay<W> {
    const FORM: u64 = <(u32, Vec<W>)>::FORM;

    fn pack(&self, out: &mut Packer) {
        let UnderWay { epoch, waiting } = self;
        epoch.pack(out);
        waiting.pack(out);
    }

    fn unpack(from: &mut Unpacker<'_>) -> Result<UnderWay<W>, Unreadable> {
        Ok(UnderWay { epoch: Portable::unpack(from)?, waiting: Portable::unpack(from)? })
    }
}

/// The subscriptions of a shard that are under way; `W` is what waits.
pub(crate) struct PendingSubscriptions<W> {
    bus: BusState,
    epoch: u32,
    /// By namespace and name.
    under_way: Vec<HashMap<Box<str>, UnderWay<W>, RandomState>>,
    /// In order of time. Those that are not under way any more are taken off when they come to the front.
    late_at: VecDeque<(Millis, RoomName, u32)>,
}

carried!([W: Portable] PendingSubscriptions<W> { bus, epoch, under_way by map_lists, late_at });

/// Those who waited for a room.
pub(crate) type Released<W> = (RoomName, Vec<W>);

impl<W> PendingSubscriptions<W> {
    pub(crate) fn new(namespaces: u16) -> PendingSubscriptions<W> {
        let under_way = (0..namespaces).map(|_| HashMap::default()).collect();
        PendingSubscriptions { bus: BusState::Down, epoch: 0, under_way, late_at: VecDeque::new() }
    }

    /// The first member of a room has come: the epoch of its subscription. Nobody waits for a bus that is down.
    pub(crate) fn begin(&mut self, room: &RoomName, now: Millis) -> u32 {
        self.epoch = self.epoch.wrapping_add(1);
        if self.bus == BusState::Up
            && let Some(rooms) = self.under_way.get_mut(usize::from(room.namespace.0))
        {
            rooms.insert(room.name.clone(), UnderWay { epoch: self.epoch, waiting: Vec::new() });
            self.late_at.push_back((now + CONFIRM_MS_MAX, room.clone(), self.epoch));
        }
        self.epoch
    }

    /// The last member has gone; what still waits for the room.
    pub(crate) fn end(&mut self, room: &RoomName) -> Vec<W> {
        let rooms = self.under_way.get_mut(usize::from(room.namespace.0));
        let ended = rooms.and_then(|rooms| rooms.remove(&*room.name));
        self.forget_settled();
        ended.map_or_else(Vec::new, |ended| ended.waiting)
    }

    /// Where those go who have to wait for this room; `None`: nobody has to.
    pub(crate) fn waiting(&mut self, namespace: NamespaceId, name: &str) -> Option<&mut Vec<W>> {
        let rooms = self.under_way.get_mut(usize::from(namespace.0))?;
        rooms.get_mut(name).map(|under_way| &mut under_way.waiting)
    }

    /// The bus has confirmed a subscription; who waited for it. Nobody, if it is not the room's last.
    pub(crate) fn confirm(&mut self, room: &RoomName, epoch: u32) -> Vec<W> {
        if !self.is_under_way(room, epoch) {
            return Vec::new();
        }
        self.end(room)
    }

    pub(crate) fn bus_is_up(&self) -> bool {
        self.bus == BusState::Up
    }

    pub(crate) fn on_up(&mut self) {
        self.bus = BusState::Up;
    }

    /// All that is under way will be when the bus is back; nobody waits for that.
    pub(crate) fn on_down(&mut self) -> Vec<Released<W>> {
        self.bus = BusState::Down;
        let mut released = Vec::new();
        while let Some((_, room, epoch)) = self.late_at.pop_front() {
            self.release(room, epoch, &mut released);
        }
        released
    }

    /// Those who have waited long enough.
    pub(crate) fn expire(&mut self, now: Millis) -> Vec<Released<W>> {
        let mut released = Vec::new();
        while self.late_at.front().is_some_and(|(at, ..)| *at <= now) {
            let Some((_, room, epoch)) = self.late_at.pop_front() else { break };
            self.release(room, epoch, &mut released);
        }
        self.forget_settled();
        released
    }

    pub(crate) fn deadline(&self) -> Option<Millis> {
        self.late_at.front().map(|(at, ..)| *at)
    }

    /// How many rooms are under way.
    pub(crate) fn len(&self) -> usize {
        self.under_way.iter().map(HashMap::len).sum()
    }

    fn release(&mut self, room: RoomName, epoch: u32, released: &mut Vec<Released<W>>) {
        if self.is_under_way(&room, epoch) {
            let rooms = self.under_way.get_mut(usize::from(room.namespace.0));
            let waiting = rooms.and_then(|rooms| rooms.remove(&*room.name)).map(|under_way| under_way.waiting);
            released.push((room, waiting.unwrap_or_default()));
        }
    }

    fn is_under_way(&self, room: &RoomName, epoch: u32) -> bool {
        let rooms = self.under_way.get(usize::from(room.namespace.0));
        rooms.and_then(|rooms| rooms.get(&*room.name)).is_some_and(|under_way| under_way.epoch == epoch)
    }

    /// Confirmations come mostly in order, so that the list is mostly as short as what is under way.
    fn forget_settled(&mut self) {
        while let Some((_, room, epoch)) = self.late_at.front()
            && !self.is_under_way(room, *epoch)
        {
            self.late_at.pop_front();
        }
    }
}

#[cfg(test)]
mod tests;
