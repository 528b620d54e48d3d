//! Making room: when there are too many connections, those that have idled longest go first.

use sockring_protocol::Millis;

use crate::app::Application;
use crate::capacity::Standing;
use crate::shard::Shard;
use crate::shard::clients::client::ConnectionKey;

use super::idlers::idle_before;
use super::stage::Stage;

/// And for so long where not even a guest would find a seat.
const IDLE_LEAST_MS: u64 = 50;
/// How many are found by one look at all, and how long at the most a look that found nothing is believed.
const FOUND_MAX: usize = 1_024;
const LOOK_AGAIN_MS: u64 = 100;
/// Connections that are closed at once where there is no seat left.
const CLOSED_AT_ONCE: usize = 32;

impl<A: Application> Shard<A> {
    /// A connection has come for which there is room only as a guest: it takes the place of one that idles, if there is one.
    pub(in crate::shard) fn take_place_of_idler(&mut self) -> Standing {
        let Some(key) = self.close_idler(idle_before(self.hub.now.at)) else { return Standing::Guest };
        // The one that goes is the guest from now on.
        let idler = self.connections.get_mut(key.0);
        idler.map_or(Standing::Guest, |idler| std::mem::replace(&mut idler.standing, Standing::Guest))
    }

    /// There is no seat left: whoever has been silent for a moment goes.
    pub fn make_room(&mut self) {
        let before = Millis(self.hub.now.at.0.saturating_sub(IDLE_LEAST_MS));
        for _ in 0..CLOSED_AT_ONCE {
            if self.close_idler(before).is_none() {
                break;
            }
        }
    }

    /// Closes the connection that has idled longest, if that is since before this time.
    fn close_idler(&mut self, before: Millis) -> Option<ConnectionKey> {
        if self.idlers.found.is_empty() {
            self.look_for_idlers(before);
        }
        while let Some(key) = self.idlers.found.pop() {
            if self.connections.get(key.0).is_some_and(|connection| connection.is_idle_since(before)) {
                self.hub.counters.idlers_closed += 1;
                self.finish(key);
                return Some(key);
            }
        }
        None
    }

    fn look_for_idlers(&mut self, before: Millis) {
        let now = self.hub.now.at;
        if now < self.idlers.look_at {
            return;
        }
        let mut soon = now;
        let mut idle = Vec::new();
        for (key, connection) in self.connections.iter().filter(|(_, connection)| connection.is_idle_since(now)) {
            let Stage::Http(stage) = &connection.stage else { continue };
            match stage.since <= before {
                true => idle.push((stage.since, ConnectionKey(key))),
                false => soon = soon.min(stage.since),
            }
        }
        if idle.len() > FOUND_MAX {
            idle.select_nth_unstable(FOUND_MAX);
            idle.truncate(FOUND_MAX);
        }
        idle.sort_unstable_by(|one, other| other.cmp(one));
        self.idlers.found = idle.into_iter().map(|(_, key)| key).collect();
        if self.idlers.found.is_empty() {
            // Until the first of them has idled long enough.
            self.idlers.look_at = (soon + (now - before)).min(now + LOOK_AGAIN_MS);
        }
    }

    /// Whether the connection may stay behind its next request: a guest where there is room by now.
    pub(in crate::shard) fn may_stay(&mut self, key: ConnectionKey) -> bool {
        let Some(connection) = self.connections.get_mut(key.0) else { return false };
        if connection.standing == Standing::Guest && self.hub.capacity.promote() {
            connection.standing = Standing::Member;
        }
        connection.standing == Standing::Member
    }

    pub(in crate::shard) fn is_guest(&self, key: ConnectionKey) -> bool {
        self.connections.get(key.0).is_some_and(|connection| connection.standing == Standing::Guest)
    }

    /// Whether so many guests wait for events that the others would find no seat.
    pub(in crate::shard) fn has_too_many_guests(&self) -> bool {
        self.hub.capacity.guests() > self.hub.capacity.limits().guests_max / 2
    }
}
