//! `Permit`: the place of one connection among those of the process, wherever the connection is.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::addresses::{take, whole_site};
use super::{Capacity, Door};
use sockring_protocol::portable;

/// Whether there was room for a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    Member,
    /// There was not: it is answered, and closes.
    Guest,
}

portable!(enum Standing { 0 Member, 1 Guest });

/// A connection's place, given back when dropped.
#[derive(Debug)]
pub struct Permit {
    capacity: Arc<Capacity>,
    standing: Standing,
    has_descriptor: bool,
}

impl Permit {
    /// For a connection that was counted with this standing.
    pub fn counted(capacity: Arc<Capacity>, standing: Standing) -> Permit {
        Permit { capacity, standing, has_descriptor: false }
    }

    /// Its descriptor stays counted for as long.
    pub fn keep_descriptor(&mut self) {
        self.has_descriptor = true;
    }

    /// Whether it may stay: a guest where there is room by now.
    pub fn may_stay(&mut self) -> bool {
        if self.standing == Standing::Guest && self.capacity.promote() {
            self.standing = Standing::Member;
        }
        self.standing == Standing::Member
    }

    /// Ends the seat, and leaves the connection counted as it was.
    pub fn into_standing(mut self) -> Standing {
        if std::mem::take(&mut self.has_descriptor) {
            self.capacity.give_back_descriptor();
        }
        // Not given back.
        self.capacity.recount(self.standing);
        self.standing
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        if self.has_descriptor {
            self.capacity.give_back_descriptor();
        }
        self.capacity.give_back(self.standing);
    }
}

impl Capacity {
    /// Counts a connection, if only as a guest.
    pub fn take_seat(&self) -> Option<Standing> {
        if self.has_descriptors(0) && take(&self.connections, self.limits.connections_max) {
            return Some(Standing::Member);
        }
        let is_guest = self.has_descriptors(self.limits.guests_max) && take(&self.guests, self.limits.guests_max);
        is_guest.then_some(Standing::Guest)
    }

    /// Makes a guest a member, if there is room by now.
    pub fn promote(&self) -> bool {
        // Its descriptor is counted already.
        let has_room = self.has_descriptors(1) && take(&self.connections, self.limits.connections_max);
        if has_room {
            self.give_back(Standing::Guest);
        }
        has_room
    }

    pub fn give_back(&self, standing: Standing) {
        let count = match standing {
            Standing::Member => &self.connections,
            Standing::Guest => &self.guests,
        };
        count.fetch_sub(1, Ordering::Relaxed);
    }

    fn recount(&self, standing: Standing) {
        let count = match standing {
            Standing::Member => &self.connections,
            Standing::Guest => &self.guests,
        };
        count.fetch_add(1, Ordering::Relaxed);
    }

    /// How many guests there are.
    pub fn guests(&self) -> usize {
        self.guests.load(Ordering::Relaxed)
    }

    fn has_descriptors(&self, beyond: usize) -> bool {
        self.descriptors.load(Ordering::Relaxed) < self.limits.descriptors_max.saturating_add(beyond)
    }

    /// Whether another connection would be a member.
    pub fn has_room_for_connection(&self) -> bool {
        self.has_descriptors(0) && !self.is_full()
    }

    /// Whether it would be let in at all.
    pub fn has_seat(&self) -> bool {
        let has_guest_seat = self.has_descriptors(self.limits.guests_max) && self.guests() < self.limits.guests_max;
        has_guest_seat || self.has_room_for_connection()
    }
}

/// One of an address' connections without a session, until it is dropped.
#[derive(Debug)]
pub struct Stranger {
    capacity: Arc<Capacity>,
    door: Door,
    address: IpAddr,
}

/// An address has as many connections as it may.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooMany;

impl Stranger {
    /// Counts a connection of this address. One that does not count is `None`.
    pub fn enter(capacity: &Arc<Capacity>, door: Door, address: Option<IpAddr>) -> Result<Option<Stranger>, TooMany> {
        let Some(address) = address.map(whole_site) else { return Ok(None) };
        let max = match door {
            Door::Clients => capacity.limits.connections_per_address_max,
            Door::Api => capacity.limits.api_connections_per_address_max,
        };
        let mut counts = capacity.at(door).counts();
        let count = counts.entry(address).or_default();
        if *count >= max {
            return Err(TooMany);
        }
        *count += 1;
        Ok(Some(Stranger { capacity: Arc::clone(capacity), door, address }))
    }
}

impl Stranger {
    /// Whom it counts for, and where it came in.
    pub fn whom(&self) -> (Door, IpAddr) {
        (self.door, self.address)
    }

    /// One that was counted before, by another process: it is not asked whether there are too many.
    pub fn again(capacity: &Arc<Capacity>, door: Door, address: IpAddr) -> Stranger {
        *capacity.at(door).counts().entry(address).or_default() += 1;
        Stranger { capacity: Arc::clone(capacity), door, address }
    }
}

impl Drop for Stranger {
    fn drop(&mut self) {
        let mut counts = self.capacity.at(self.door).counts();
        if let Some(count) = counts.get_mut(&self.address) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&self.address);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::CapacityLimits;
    use super::*;

    fn capacity() -> Arc<Capacity> {
        Arc::new(Capacity::new(CapacityLimits {
            connections_max: 2,
            guests_max: 1,
            descriptors_max: 5,
            connections_per_address_max: 2,
            api_connections_per_address_max: 1,
            ..CapacityLimits::UNLIMITED
        }))
    }

    #[test]
    fn who_finds_no_room_is_a_guest_and_a_member_when_there_is_room() {
        let capacity = capacity();
        let seats = [(); 4].map(|()| capacity.take_seat());
        assert_eq!(seats, [Some(Standing::Member), Some(Standing::Member), Some(Standing::Guest), None]);
        assert!(!capacity.has_seat());
        let mut guest = Permit::counted(Arc::clone(&capacity), Standing::Guest);
        assert!(!guest.may_stay());
        drop(Permit::counted(Arc::clone(&capacity), Standing::Member));
        assert!(guest.may_stay() && !capacity.has_room_for_connection() && capacity.has_seat());
        assert_eq!(guest.into_standing(), Standing::Member);
        assert!(!capacity.has_room_for_connection(), "it counts on");
    }

    #[test]
    fn where_descriptors_run_short_some_are_left_for_guests() {
        let capacity = capacity();
        (0..5).for_each(|_| capacity.add_descriptor());
        assert_eq!(capacity.take_seat(), Some(Standing::Guest));
        capacity.add_descriptor();
        assert_eq!(capacity.take_seat(), None);
        assert!(!capacity.promote());
        capacity.give_back_descriptor();
        assert!(capacity.promote(), "of five descriptors one is its own");
    }

    #[test]
    fn connections_of_an_address_are_counted_until_they_are_gone() {
        let capacity = capacity();
        let enter = |address: &str| Stranger::enter(&capacity, Door::Clients, address.parse().ok());
        let (first, second) = (enter("203.0.113.1").unwrap(), enter("203.0.113.1").unwrap());
        assert!(first.is_some() && enter("203.0.113.1").is_err());
        assert!(enter("203.0.113.2").is_ok(), "one address does not use up another's");
        assert!((0..9).all(|_| Stranger::enter(&capacity, Door::Clients, None).is_ok()));
        drop(first);
        assert!(enter("203.0.113.1").is_ok());
        drop(second);
        assert!(capacity.addresses.iter().all(|addresses| addresses.counts().is_empty()));
    }

    #[test]
    fn each_door_counts_by_itself() {
        let capacity = capacity();
        let enter = |door| Stranger::enter(&capacity, door, "203.0.113.1".parse().ok());
        let api = enter(Door::Api).unwrap();
        assert!(api.is_some() && enter(Door::Api).is_err());
        let clients = [Door::Clients; 2].map(|door| enter(door).unwrap());
        assert!(enter(Door::Clients).is_err());
        drop(api);
        assert!(enter(Door::Clients).is_err() && enter(Door::Api).is_ok());
        drop(clients);
        assert!(enter(Door::Clients).is_ok());
    }
}
