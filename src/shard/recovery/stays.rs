//! `Stays`: since when sockets are in rooms that they joined lately, and which they have left since.
//!
//! Who is in a room that is not named here has been in it for longer than the log reaches back.

use std::collections::VecDeque;

use foldhash::fast::RandomState;
use hashbrown::HashMap;
use serde::{Deserialize, Serialize};

use crate::shard::hints::drop_stale;
use crate::shard::moving::sid::Sid;
use crate::shard::relay::maps;
use crate::shard::rooms::sockets::{RoomId, Seat};
use sockring_protocol::portable;

use super::log::Stay;
use super::position::Position;

/// The rooms of sockets besides their users', by position.
#[derive(Default)]
pub(crate) struct Stays {
    joined: HashMap<(Seat, RoomId), Position, RandomState>,
    /// In the order of their positions; some have been left since.
    in_order: VecDeque<(Position, Seat, RoomId)>,
    left: HashMap<Seat, Visits, RandomState>,
}

portable!(struct Stays { joined by maps, in_order, left by maps });

/// Rooms that a socket has left.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Visits {
    pub(crate) stays: Vec<Stay>,
    /// Before this position there were more.
    pub(crate) known_from: Position,
}

portable!(struct Visits { stays, known_from });

/// Rooms that one socket has left and that are remembered.
const VISITS_MAX: usize = 128;

/// The rooms of a socket that nobody puts it into: its user's, its own, and everybody.
pub(crate) fn own_stays(user_room: Option<Box<str>>, sid: Sid) -> Vec<Stay> {
    let always = |room| Stay { room, from: Position::default(), until: Position::MAX };
    let named = user_room.map(|room| always(Some(room)));
    named.into_iter().chain([always(Some(sid.text().as_str().into())), always(None)]).collect()
}

impl Stays {
    pub(crate) fn join(&mut self, seat: Seat, room: RoomId, at: Position) {
        self.joined.insert((seat, room), at);
        self.in_order.push_back((at, seat, room));
        let joined = &self.joined;
        let is_current = |(at, seat, room): &(Position, Seat, RoomId)| joined.get(&(*seat, *room)) == Some(at);
        drop_stale(&mut self.in_order, joined.len(), is_current);
    }

    /// A socket that has come back has been in a room since then.
    pub(crate) fn rejoin(&mut self, seat: Seat, room: RoomId, at: Position) {
        self.joined.insert((seat, room), at);
        let place = self.in_order.partition_point(|(other, ..)| *other <= at);
        self.in_order.insert(place, (at, seat, room));
    }

    /// Since when a socket is in a room in which it is.
    pub(crate) fn since(&self, seat: Seat, room: RoomId) -> Position {
        self.joined.get(&(seat, room)).copied().unwrap_or_default()
    }

    /// A socket leaves a room and stays otherwise.
    pub(crate) fn leave(&mut self, seat: Seat, room: RoomId, name: &str, at: Position, floor: Position) {
        let from = self.joined.remove(&(seat, room)).unwrap_or_default();
        let visits = self.left.entry(seat).or_default();
        visits.stays.retain(|stay| stay.until > floor);
        if visits.stays.len() >= VISITS_MAX {
            visits.known_from = visits.stays.remove(0).until;
        }
        if at > floor {
            visits.stays.push(Stay { room: Some(name.into()), from, until: at });
        }
    }

    /// A socket is in a room and needs no longer be remembered there: it is about to end.
    pub(crate) fn forget(&mut self, seat: Seat, room: RoomId) {
        self.joined.remove(&(seat, room));
    }

    /// The rooms that a socket has left, for the last time.
    pub(crate) fn take_left(&mut self, seat: Seat) -> Visits {
        self.left.remove(&seat).unwrap_or_default()
    }

    /// The rooms that a socket has left.
    pub(crate) fn left(&self, seat: Seat) -> Visits {
        self.left.get(&seat).cloned().unwrap_or_default()
    }

    /// A socket that has come back had left these before.
    pub(crate) fn restore(&mut self, seat: Seat, visits: Visits) {
        if visits != Visits::default() {
            self.left.insert(seat, visits);
        }
    }

    /// The log reaches no further back than this.
    pub(crate) fn prune(&mut self, floor: Position) {
        while let Some((at, seat, room)) = self.in_order.front().copied().filter(|(at, ..)| *at <= floor) {
            self.in_order.pop_front();
            if self.joined.get(&(seat, room)) == Some(&at) {
                self.joined.remove(&(seat, room));
            }
        }
        if self.in_order.is_empty() && self.in_order.capacity() > VISITS_MAX {
            self.in_order = VecDeque::new();
        }
    }

    /// How many of each there are.
    #[cfg(test)]
    pub(crate) fn len(&self) -> (usize, usize) {
        (self.joined.len(), self.left.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SEAT: Seat = (7, 0);

    #[test]
    fn a_stay_is_known_until_the_log_begins_behind_it() {
        let mut stays = Stays::default();
        stays.join(SEAT, 1, Position(5));
        stays.join(SEAT, 2, Position(9));
        assert_eq!(stays.since(SEAT, 1), Position(5));
        stays.prune(Position(5));
        assert_eq!((stays.since(SEAT, 1), stays.since(SEAT, 2)), (Position(0), Position(9)));
        // It left and joined again: the older hint says nothing.
        stays.leave(SEAT, 2, "two", Position(10), Position(5));
        stays.join(SEAT, 2, Position(12));
        stays.prune(Position(9));
        assert_eq!(stays.since(SEAT, 2), Position(12));
        let visit = Stay { room: Some("two".into()), from: Position(9), until: Position(10) };
        assert_eq!(stays.left(SEAT).stays, [visit]);
        stays.prune(Position(12));
        assert_eq!(stays.take_left(SEAT).stays.len(), 1);
        assert_eq!(stays.len(), (0, 0));
    }

    #[test]
    fn who_comes_and_goes_all_the_time_is_not_remembered_for_ever() {
        let mut stays = Stays::default();
        for turn in 1..=1_000 {
            stays.join(SEAT, 1, Position(turn * 2));
            stays.leave(SEAT, 1, "room", Position(turn * 2 + 1), Position(0));
        }
        let visits = stays.left(SEAT);
        assert_eq!((visits.stays.len(), visits.known_from), (VISITS_MAX, Position((1_000 - 128) * 2 + 1)));
        assert!(stays.in_order.len() < 100, "{} hints", stays.in_order.len());
        stays.join(SEAT, 1, Position(3_000));
        stays.leave(SEAT, 1, "room", Position(3_001), Position(2_900));
        assert_eq!(stays.left(SEAT).stays.len(), 1);
        stays.prune(Position(3_001));
        assert!(stays.in_order.is_empty());
    }
}
