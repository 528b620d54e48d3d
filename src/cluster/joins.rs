//! `Joins`: the rooms into which an order of another server puts sockets here, from when it comes to when every shard has done
//! it: for so long a message to such a room may be for any shard, and after it for those that said that they have members.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use tokio::sync::watch;

use crate::shard::{RoomName, USER_PREFIX};

use super::seldom::Seldom;

/// One room into which orders of other servers put sockets.
#[derive(Debug, Default)]
struct Joined {
    under_way: u32,
    /// A user's room that was joined by others: its members are not all at its home.
    is_spread: bool,
}

#[derive(Debug, Default)]
struct State {
    next: u64,
    under_way: BTreeSet<u64>,
    rooms: HashMap<RoomName, Joined>,
}

/// One order to join, until it is done.
#[derive(Debug)]
pub(super) struct Join {
    number: u64,
    rooms: Vec<RoomName>,
}

/// The orders that are under way, and what they leave behind.
#[derive(Debug)]
pub(super) struct Joins {
    state: Mutex<State>,
    /// All orders before this one are done.
    done_before: watch::Sender<u64>,
    /// Of sockets that were in too many rooms.
    log: Seldom,
}

impl Default for Joins {
    fn default() -> Joins {
        Joins { state: Mutex::default(), done_before: watch::Sender::new(0), log: Seldom::default() }
    }
}

impl Joins {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// An order has come.
    pub(super) fn begin(&self, rooms: Vec<RoomName>) -> Join {
        let mut state = self.lock();
        let number = state.next;
        state.next += 1;
        state.under_way.insert(number);
        for room in &rooms {
            state.rooms.entry(room.clone()).or_default().under_way += 1;
        }
        Join { number, rooms }
    }

    /// Every shard has done it, and this says which rooms it has put sockets into.
    pub(super) fn end(&self, join: Join, outcome: JoinOutcome) {
        let mut state = self.lock();
        state.under_way.remove(&join.number);
        for room in join.rooms {
            let is_spread = outcome == JoinOutcome::Joined && room.name.starts_with(USER_PREFIX);
            let Some(joined) = state.rooms.get_mut(&room) else { continue };
            joined.under_way -= 1;
            joined.is_spread |= is_spread;
            if joined.under_way == 0 && !joined.is_spread {
                state.rooms.remove(&room);
            }
        }
        let before = state.under_way.first().copied().unwrap_or(state.next);
        self.done_before.send_replace(before);
    }

    /// So many sockets were not put into all of an order's rooms, because they would have been in too many.
    pub(super) fn tell_of_refused(&self, sockets: u64) {
        if sockets > 0 && self.log.is_due(Instant::now()) {
            tracing::warn!(
                sockets,
                "an order of another server to join rooms was not done for all sockets: \
                 some are in as many as rooms_per_socket_max lets them"
            );
        }
    }

    /// Whether any shard may have members of this room, whatever has been said of it.
    pub(super) fn may_be_anywhere(&self, room: &RoomName) -> bool {
        let state = self.lock();
        !state.rooms.is_empty() && state.rooms.contains_key(room)
    }

    /// Nobody here is in this room any more.
    pub(super) fn forget(&self, room: &RoomName) {
        let mut state = self.lock();
        if let Some(joined) = state.rooms.get_mut(room) {
            joined.is_spread = false;
            if joined.under_way == 0 {
                state.rooms.remove(room);
            }
        }
    }

    /// Ends when all orders that came before this call are done.
    pub(super) async fn done(&self) {
        let last = self.lock().next;
        let mut done_before = self.done_before.subscribe();
        // The sender lives as long as this.
        let _ = done_before.wait_for(|before| *before >= last).await;
    }
}

/// Whether an order has put somebody into its rooms.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum JoinOutcome {
    Joined,
    Nobody,
}

#[cfg(test)]
mod tests {
    use std::pin::pin;
    use std::task::{Context, Waker};

    use super::*;
    use crate::shard::NamespaceId;

    fn room(name: &str) -> RoomName {
        RoomName { namespace: NamespaceId(0), name: name.into() }
    }

    #[test]
    fn a_room_may_be_anywhere_until_the_last_order_for_it_is_done() {
        let joins = Joins::default();
        let [first, second] = [(); 2].map(|()| joins.begin(vec![room("a")]));
        assert!(joins.may_be_anywhere(&room("a")) && !joins.may_be_anywhere(&room("b")));
        joins.end(second, JoinOutcome::Joined);
        assert!(joins.may_be_anywhere(&room("a")));
        joins.end(first, JoinOutcome::Nobody);
        assert!(!joins.may_be_anywhere(&room("a")));
    }

    #[test]
    fn a_users_room_with_guests_is_anywhere_until_all_have_left() {
        let joins = Joins::default();
        let join = joins.begin(vec![room("user:a"), room("user:b")]);
        joins.end(join, JoinOutcome::Joined);
        assert!(joins.may_be_anywhere(&room("user:a")));
        joins.forget(&room("user:a"));
        assert!(!joins.may_be_anywhere(&room("user:a")) && joins.may_be_anywhere(&room("user:b")));
        let join = joins.begin(vec![room("user:c")]);
        joins.end(join, JoinOutcome::Nobody);
        assert!(!joins.may_be_anywhere(&room("user:c")));
    }

    #[tokio::test]
    async fn who_asks_waits_for_the_orders_before_and_no_others() {
        let joins = Joins::default();
        joins.done().await;
        let [first, second] = [(); 2].map(|()| joins.begin(vec![room("a")]));
        let mut done = pin!(joins.done());
        let mut context = Context::from_waker(Waker::noop());
        assert!(done.as_mut().poll(&mut context).is_pending());
        joins.end(second, JoinOutcome::Joined);
        assert!(done.as_mut().poll(&mut context).is_pending());
        let later = joins.begin(vec![room("b")]);
        joins.end(first, JoinOutcome::Joined);
        assert!(done.as_mut().poll(&mut context).is_ready());
        joins.end(later, JoinOutcome::Joined);
    }
}
