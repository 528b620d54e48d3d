//! `Subscriptions`: the rooms whose messages a core wants, what Redis knows of that, and what it is still to be told.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use tokio::time::Instant;

use crate::shard::RoomName;

/// How long a room that is not wanted any more stays subscribed: most are wanted again soon, when a client comes back.
pub(super) const LINGER: Duration = Duration::from_secs(5);

/// A room, with the epoch of the wish for it, which its confirmation carries.
pub(super) type Wish = (RoomName, u32);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum SubscriptionStage {
    /// Redis has still to be told, or to confirm it.
    Asked,
    Confirmed,
}

#[derive(Clone, Copy, Debug)]
struct Subscription {
    epoch: u32,
    stage: SubscriptionStage,
    /// Not wanted any more: unsubscribed then.
    until: Option<Instant>,
}

/// The rooms of one connection.
#[derive(Debug, Default)]
pub(super) struct Subscriptions {
    rooms: HashMap<RoomName, Subscription>,
    /// To be subscribed, unless that has changed.
    unsent: VecDeque<RoomName>,
    /// By the time at which they end, unless that has changed.
    lingering: VecDeque<(Instant, RoomName)>,
}

impl Subscriptions {
    /// Rooms that are subscribed or will be.
    pub(super) fn len(&self) -> usize {
        self.rooms.len()
    }

    /// Whether a room is subscribed, or will be.
    pub(super) fn has(&self, room: &RoomName) -> bool {
        self.rooms.contains_key(room)
    }

    /// A room is wanted. `Some`: messages to it come already.
    pub(super) fn want(&mut self, room: RoomName, epoch: u32) -> Option<Wish> {
        if let Some(standing) = self.rooms.get_mut(&room) {
            let was_wanted = standing.until.take().is_none();
            standing.epoch = epoch;
            match standing.stage {
                SubscriptionStage::Confirmed => return Some((room, epoch)),
                SubscriptionStage::Asked if was_wanted => return None,
                SubscriptionStage::Asked => {}
            }
        } else {
            self.rooms.insert(room.clone(), Subscription { epoch, stage: SubscriptionStage::Asked, until: None });
        }
        self.unsent.push_back(room);
        None
    }

    /// A room is not wanted any more.
    pub(super) fn leave(&mut self, room: RoomName, now: Instant) {
        if let Some(standing) = self.rooms.get_mut(&room).filter(|standing| standing.until.is_none()) {
            let until = now + LINGER;
            standing.until = Some(until);
            self.lingering.push_back((until, room));
        }
    }

    /// The next rooms to subscribe.
    pub(super) fn next_batch(&mut self, max: usize) -> Vec<RoomName> {
        let mut batch = Vec::new();
        while batch.len() < max
            && let Some(room) = self.unsent.pop_front()
        {
            if self
                .rooms
                .get(&room)
                .is_some_and(|known| known.stage == SubscriptionStage::Asked && known.until.is_none())
            {
                batch.push(room);
            }
        }
        batch
    }

    /// Whether there is something to subscribe.
    pub(super) fn has_unsent(&self) -> bool {
        !self.unsent.is_empty()
    }

    /// Redis has subscribed these. Gives back those that somebody waits for.
    pub(super) fn confirm(&mut self, rooms: Vec<RoomName>) -> Vec<Wish> {
        let mut confirmed = Vec::with_capacity(rooms.len());
        for room in rooms {
            // One that has ended in the meantime is being unsubscribed.
            let Some(standing) = self.rooms.get_mut(&room) else { continue };
            standing.stage = SubscriptionStage::Confirmed;
            if standing.until.is_none() {
                confirmed.push((room, standing.epoch));
            }
        }
        confirmed
    }

    /// The rooms that nobody has wanted again: to be unsubscribed.
    pub(super) fn expire(&mut self, now: Instant) -> Vec<RoomName> {
        let mut expired = Vec::new();
        while let Some((until, _)) = self.lingering.front()
            && *until <= now
            && let Some((until, room)) = self.lingering.pop_front()
        {
            if self.rooms.get(&room).is_some_and(|standing| standing.until == Some(until)) {
                self.rooms.remove(&room);
                expired.push(room);
            }
        }
        expired
    }

    /// The connection is a new one: what is wanted is to be subscribed again, the rest is forgotten.
    pub(super) fn restart(&mut self) {
        self.lingering = VecDeque::new();
        self.rooms.retain(|_, standing| standing.until.is_none());
        for standing in self.rooms.values_mut() {
            standing.stage = SubscriptionStage::Asked;
        }
        self.unsent = self.rooms.keys().cloned().collect();
    }

    /// These could not be subscribed where they were asked for.
    pub(super) fn ask_again(&mut self, rooms: Vec<RoomName>) {
        self.unsent.extend(rooms);
    }

    /// Redis has ended this subscription by itself: it is to be asked for again, if somebody wants it.
    pub(super) fn lose(&mut self, room: RoomName) {
        match self.rooms.get_mut(&room) {
            Some(standing) if standing.until.is_none() => {
                standing.stage = SubscriptionStage::Asked;
                self.unsent.push_back(room);
            }
            Some(_) => drop(self.rooms.remove(&room)),
            None => {}
        }
    }

    /// Gives up those of these rooms that were not confirmed; says which of them are wanted.
    pub(super) fn give_up_unconfirmed(&mut self, rooms: Vec<RoomName>) -> Vec<Wish> {
        let mut wishes = Vec::new();
        for room in rooms {
            if self.rooms.get(&room).is_some_and(|standing| standing.stage == SubscriptionStage::Asked)
                && let Some(standing) = self.rooms.remove(&room)
                && standing.until.is_none()
            {
                wishes.push((room, standing.epoch));
            }
        }
        wishes
    }

    /// Gives up the wanted rooms that this says, with what Redis has to be told of.
    pub(super) fn give_up(&mut self, mut is_elsewhere: impl FnMut(&RoomName) -> bool) -> Vec<Wish> {
        let gone = self.rooms.extract_if(|room, _| is_elsewhere(room));
        gone.filter(|(_, standing)| standing.until.is_none()).map(|(room, standing)| (room, standing.epoch)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shard::NamespaceId;

    fn room(name: &str) -> RoomName {
        RoomName { namespace: NamespaceId(0), name: name.into() }
    }

    #[test]
    fn what_is_wanted_in_one_turn_is_one_batch_and_confirmed_with_its_epoch() {
        let mut subscriptions = Subscriptions::default();
        assert_eq!(subscriptions.want(room("a"), 1), None);
        assert_eq!(subscriptions.want(room("b"), 2), None);
        assert_eq!(subscriptions.want(room("a"), 3), None);
        assert_eq!(subscriptions.next_batch(9), [room("a"), room("b")]);
        assert_eq!((subscriptions.next_batch(9).len(), subscriptions.has_unsent()), (0, false));
        assert_eq!(subscriptions.confirm(vec![room("a"), room("b")]), [(room("a"), 3), (room("b"), 2)]);
        assert_eq!(subscriptions.want(room("a"), 4), Some((room("a"), 4)));
    }

    #[test]
    fn a_room_lingers_and_is_confirmed_at_once_when_it_is_wanted_again() {
        let now = Instant::now();
        let mut subscriptions = Subscriptions::default();
        for name in ["a", "b"] {
            subscriptions.want(room(name), 1);
            let batch = subscriptions.next_batch(9);
            subscriptions.confirm(batch);
            subscriptions.leave(room(name), now);
        }
        assert!(subscriptions.expire(now + LINGER / 2).is_empty());
        assert_eq!(subscriptions.want(room("a"), 2), Some((room("a"), 2)));
        subscriptions.leave(room("a"), now + LINGER / 2);
        assert_eq!(subscriptions.expire(now + LINGER), [room("b")]);
        assert_eq!((subscriptions.expire(now + 2 * LINGER), subscriptions.len()), (vec![room("a")], 0));
    }

    #[test]
    fn a_room_that_was_left_before_it_was_asked_for_is_not_asked_for() {
        let now = Instant::now();
        let mut subscriptions = Subscriptions::default();
        subscriptions.want(room("a"), 1);
        subscriptions.leave(room("a"), now);
        assert!(subscriptions.next_batch(9).is_empty());
        assert_eq!(subscriptions.want(room("a"), 2), None);
        assert_eq!(subscriptions.next_batch(9), [room("a")]);
    }

    #[test]
    fn a_new_connection_gets_all_that_is_wanted_in_batches() {
        let now = Instant::now();
        let mut subscriptions = Subscriptions::default();
        for number in 0..25 {
            subscriptions.want(room(&number.to_string()), number);
        }
        let batch = subscriptions.next_batch(25);
        subscriptions.confirm(batch);
        subscriptions.leave(room("7"), now);
        subscriptions.restart();
        let mut sizes = Vec::new();
        while subscriptions.has_unsent() {
            let batch = subscriptions.next_batch(10);
            sizes.push(batch.len());
            assert!(!batch.contains(&room("7")));
            subscriptions.confirm(batch);
        }
        assert_eq!((sizes, subscriptions.len()), (vec![10, 10, 4], 24));
        assert!(subscriptions.expire(now + LINGER).is_empty());
    }

    #[test]
    fn rooms_that_belong_elsewhere_are_given_up_with_their_epochs() {
        let mut subscriptions = Subscriptions::default();
        subscriptions.want(room("a"), 1);
        subscriptions.want(room("b"), 2);
        assert_eq!(subscriptions.give_up(|room| &*room.name == "b"), [(room("b"), 2)]);
        assert_eq!(subscriptions.next_batch(9), [room("a")]);
    }
    #[test]
    fn what_redis_ends_by_itself_is_asked_for_again_or_given_up() {
        let now = Instant::now();
        let mut subscriptions = Subscriptions::default();
        for (name, epoch) in [("a", 1), ("b", 2), ("c", 3)] {
            subscriptions.want(room(name), epoch);
        }
        let batch = subscriptions.next_batch(9);
        subscriptions.confirm(batch);
        subscriptions.leave(room("c"), now);
        ["a", "b", "c", "unknown"].into_iter().for_each(|name| subscriptions.lose(room(name)));
        assert_eq!((subscriptions.next_batch(9), subscriptions.len()), (vec![room("a"), room("b")], 2));
        subscriptions.confirm(vec![room("b")]);
        assert_eq!(subscriptions.give_up_unconfirmed(vec![room("a"), room("b"), room("c")]), [(room("a"), 1)]);
        assert_eq!(subscriptions.len(), 1);
    }
}
