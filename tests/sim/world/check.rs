//! What must hold after every step, and at the end.

use sockring::shard::ShardStats;

use super::World;
use super::around::Posted;
use super::worker::Permit;

/// How late a timer may be where times are long, and a worker may be besides.
const LATE_MS_MAX: u64 = 10;

/// No less than what a shard counts for a message besides its own bytes.
const MESSAGE_BYTES: usize = 200;

impl World {
    /// What must hold for one shard after its turn.
    pub(super) fn check_worker(&self, shard: usize) {
        let Permit { worker, stats, .. } = &self.seats[shard];
        assert_eq!(stats.connections, worker.connections() as u64, "connections");
        assert!(stats.unclaimed + stats.connected + stats.leaving <= stats.clients, "phases of clients: {stats:?}");
        assert!(stats.closing <= stats.connections && stats.probing <= stats.clients, "half open: {stats:?}");
        assert_eq!(stats.websocket + stats.polling, stats.connected, "transports of the connected clients");
        assert!(stats.acks_pending == 0 || stats.sockets > 0, "somebody who is gone has still to acknowledge");
        let queue_max = (self.settings.queue_bytes_max + self.record.borrow().largest_message + MESSAGE_BYTES) as u64;
        assert!(stats.queued_bytes <= stats.clients * queue_max, "{} bytes are queued", stats.queued_bytes);
        let (least, most) = self.record.borrow().kept_at(shard, None, worker.outside.told.get());
        assert!((least..=most).contains(&stats.kept_events), "{} are kept, of {least} to {most}", stats.kept_events);
        let Some(drain) = worker.outside.drain.filter(|_| !worker.shard.is_behind()) else { return };
        let passed = (self.now - drain.since).saturating_sub(LATE_MS_MAX).min(drain.over_ms);
        let ended = (drain.clients * passed).checked_div(drain.over_ms).unwrap_or(drain.clients);
        let there = stats.clients - stats.leaving;
        assert!(there <= drain.clients - ended, "{there} clients of {drain:?} are there at {}", self.now);
    }

    /// What must hold for all of it after the turns of a step.
    pub(super) fn check(&mut self) {
        let record = self.record.borrow();
        for (actor, _) in &self.actors {
            actor.check(self.now, &record);
        }
        self.office.check(self.now, record.late_ms);
        if self.seats.iter().any(|seat| seat.is_in_turn) {
            // What its turn has done is not to be seen outside yet.
            return;
        }
        let letters = || self.seats.iter().flat_map(|seat| seat.worker.outside.letters());
        let moving = letters().filter(|posted| posted.is_move()).count() as u64;
        let sum = |of: fn(&ShardStats) -> u64| self.seats.iter().map(|seat| of(&seat.stats)).sum::<u64>();
        let clients = sum(|stats| stats.clients) + moving;
        assert_eq!(self.capacity.clients() as u64, clients, "clients of the process");
        if letters().any(Posted::is_of_sibling) {
            // Shards do not agree before they have read what they have told each other.
            return self.check_bus(&record, false);
        }
        if self.seats.iter().any(|seat| seat.worker.shard.is_behind()) {
            // Some are to be gone, and still there.
            return self.check_bus(&record, false);
        }
        let joining = sum(|stats| stats.joining);
        self.check_bus(&record, joining == 0);
        if joining > 0 {
            // They are members, and nobody has been told.
            return assert!(sum(|stats| stats.subscriptions_pending) > 0, "sockets wait for nobody");
        }
        if self.counts.0 != record.changes {
            self.counts = (record.changes, record.counts());
        }
        let counts = self.counts.1;
        assert_eq!(
            (sum(|stats| stats.connected), sum(|stats| stats.sockets)),
            (counts.connected, counts.sockets),
            "connected clients, sockets: the shards', and the record's"
        );
        // The home of a room that has lost its last member at another shard is not told so while it lingers there.
        let lingering = sum(|stats| stats.lingering_rooms);
        for (what, counted, there) in
            [("users", sum(|stats| stats.users), counts.users), ("rooms", sum(|stats| stats.rooms), counts.rooms)]
        {
            assert!(
                (there..=there + lingering).contains(&counted),
                "{counted} {what}, of {there} and {lingering} lingering"
            );
        }
        assert!(sum(|stats| stats.moved_away) <= clients, "clients that have moved and are gone");
        let (least, most) = record.websockets();
        let websockets = sum(|stats| stats.websocket);
        assert!((least..=most).contains(&websockets), "{websockets} WebSockets of {least} to {most}");
    }

    /// Nothing is left.
    pub(super) fn check_end(&mut self) {
        for (shard, Permit { worker, .. }) in self.seats.iter().enumerate() {
            let drain = worker.outside.drain;
            let left = worker.shard.stats();
            // One that has drained does not wait until all that it remembers is over.
            let remembered = ShardStats {
                kept_events: left.kept_events,
                kept_users: left.kept_users,
                kept_bytes: left.kept_bytes,
                idempotency_keys: left.idempotency_keys,
                recovery_events: left.recovery_events,
                recovery_bytes: left.recovery_bytes,
                recovery_oldest_ms: left.recovery_oldest_ms,
                lingering_rooms: left.lingering_rooms,
                users: left.users,
                rooms: left.rooms,
                is_draining: true,
                ..ShardStats::default()
            };
            let nothing = if drain.is_some() { remembered } else { ShardStats::default() };
            assert_eq!(left, nothing, "something is left in shard {shard}");
            assert!(worker.connections() == 0, "worker {shard} forgot connections");
            assert!(worker.kernel.is_idle(), "something is under way in the kernel of worker {shard}");
            assert!(worker.outside.letters().next().is_none(), "letters are left in shard {shard}");
            let deadline = worker.shard.deadline().filter(|_| drain.is_none());
            assert!(deadline.is_none_or(|at| at.0 > self.now), "an overdue deadline is left: {deadline:?}");
            assert!(drain.is_none_or(|drain| drain.is_over), "shard {shard} does not drain");
        }
        assert!(self.at_api.is_empty(), "connections are left at the API");
        self.check_bus(&self.record.borrow(), true);
        assert!(self.office.is_idle(), "a call without an answer");
        assert_eq!(self.capacity.clients(), 0, "clients of the process");
        let has_room = || self.capacity.has_room_for_connection();
        let descriptors = std::iter::repeat_with(|| has_room().then(|| self.capacity.add_descriptor()));
        assert_eq!(descriptors.map_while(|taken| taken).count(), super::CONNECTIONS_MAX, "descriptors of the process");
        (0..super::CONNECTIONS_MAX).for_each(|_| self.capacity.give_back_descriptor());
        let room = std::iter::repeat_with(|| self.capacity.take_seat().is_some()).take_while(|taken| *taken).count();
        assert_eq!(room, super::CONNECTIONS_MAX, "connections of the process");
    }
}
