//! Slow clients fall behind, and get what waits in the log as fast as they read.

use std::sync::Arc;

use crate::app::Application;
use crate::shard::clients::client::{ClientKey, CloseReason, Farewell};
use crate::shard::clients::outbox::Frames;
use crate::shard::hub::Hub;
use crate::shard::rooms::fan_out::KeptName;
use crate::shard::rooms::sockets::{Seat, Socket};

use super::log::{LogReader, MissedEvent, OtherRooms, Stay};
use super::position::{Mark, Position};
use super::stays::own_stays;

/// What follows at once when a client has read, and how little has to wait for it before that.
const REFILL_BYTES: usize = 128 << 10;
const LOW_BYTES: usize = 64 << 10;

impl<A: Application> Hub<A> {
    /// Whether what is remembered waits in the log for a socket, and not in its client's outbox.
    #[inline]
    pub(crate) fn is_behind_at(&self, seat: Seat) -> bool {
        self.recovery.as_deref().is_some_and(|recovery| recovery.behind.position(seat).is_some())
    }

    /// The marker of what is sent to one socket alone: of all that it has been sent before.
    pub(crate) fn mark_at(&self, seat: Seat) -> Option<Mark> {
        let recovery = self.recovery.as_deref()?;
        Some(recovery.mark_of(recovery.reached_by(seat)))
    }

    /// What is behind this position waits for a socket in the log, until it has taken what is before it.
    pub(crate) fn hold_back(&mut self, seat: Seat, from: Position) {
        if self.directory.socket_at(seat).is_none() {
            // There was no room for what it was told before.
            return;
        }
        if let Some(recovery) = self.recovery.as_deref_mut() {
            recovery.behind.put(seat, from);
        }
    }

    /// One for whom the log waits has got further meanwhile.
    pub(crate) fn hold_back_further(&mut self, seat: Seat, from: Position) {
        if self.is_behind_at(seat) {
            self.hold_back(seat, from);
        }
    }

    /// There is no room for the event at this position in a client's outbox: from here on it gets out of the log what it reads.
    pub(crate) fn fall_behind(&mut self, seat: Seat, position: Position) {
        if let Some(recovery) = self.recovery.as_deref_mut() {
            recovery.behind.put(seat, position.before());
        }
    }

    /// Whether there is any socket that is behind.
    #[inline]
    pub(crate) fn is_anybody_behind(&self) -> bool {
        self.recovery.as_deref().is_some_and(|recovery| !recovery.behind.is_empty())
    }

    /// Whether some of a client's sockets are behind.
    pub(crate) fn has_behind(&self, key: ClientKey) -> bool {
        let Some(recovery) = self.recovery.as_deref() else { return false };
        let is_behind = |(place, _): (u16, &Socket)| recovery.behind.position((key.0.index, place)).is_some();
        self.directory.get(key).is_some_and(|client| client.sockets.iter().any(is_behind))
    }

    /// A client reads: what it has missed follows.
    pub(crate) fn refill(&mut self, key: ClientKey) {
        if !self.has_behind(key) {
            return;
        }
        let low = LOW_BYTES.min(self.settings.queue_bytes_max / 4);
        let waiting = self.directory.get(key).map_or(0, |client| client.outbox.bytes());
        if waiting > low {
            return;
        }
        // What is under way to it is in the log, and comes out of that.
        self.catch_up(key.0.index);
        let client = self.directory.get(key);
        let places: Vec<u16> = client.iter().flat_map(|client| client.sockets.iter()).map(|(place, _)| place).collect();
        for place in places {
            self.refill_socket(key, place);
        }
    }

    fn refill_socket(&mut self, key: ClientKey, place: u16) {
        if self.receipts.is_behind(key, place) {
            // What is kept from before comes first.
            return;
        }
        let seat = (key.0.index, place);
        let Some(from) = self.recovery.as_deref().and_then(|recovery| recovery.behind.position(seat)) else { return };
        let stays = self.stays_of(key, place);
        let Some(socket) = self.directory.socket(key, place) else { return };
        let Some(recovery) = self.recovery.as_deref_mut() else { return };
        let bytes = REFILL_BYTES.min(self.settings.queue_bytes_max / 2);
        let others = OtherRooms::None;
        let reader = LogReader { namespace: socket.namespace, stays: &stays, others, now: self.now.at };
        let missed = recovery.log.since(from, reader, bytes);
        match missed.through < recovery.log.head() {
            true => recovery.behind.put(seat, missed.through),
            false => recovery.behind.remove(seat),
        }
        self.queue_missed(key, place, missed.events);
    }

    /// Queues what the log has for a socket.
    pub(super) fn queue_missed(&mut self, key: ClientKey, place: u16, events: Vec<MissedEvent>) {
        let user = self.directory.socket(key, place).and_then(|socket| socket.user);
        let room = user.and_then(|user| self.kept.name(self.membership.name(user.room())));
        let frames = events.iter().map(|event| Frames::clone(&event.frames)).collect();
        self.directory.refill(key, frames);
        for MissedEvent { position, kept, .. } in events {
            if let (Some(room), Some(id)) = (&room, kept)
                && self.kept.find(room, id).is_some()
            {
                let kept = KeptName { room: Arc::clone(room), id };
                self.on_kept_queued(key, place, &kept, Some(position));
            }
        }
    }

    /// When a socket has been in which rooms, as far as the log reaches back.
    fn stays_of(&self, key: ClientKey, place: u16) -> Vec<Stay> {
        let (Some(socket), Some(recovery)) = (self.directory.socket(key, place), self.recovery.as_deref()) else {
            return Vec::new();
        };
        let seat = (key.0.index, place);
        let user = socket.user.map(|user| user.room());
        let sid = self.directory.sid_of(key, place, socket.random);
        let mut stays = own_stays(user.map(|room| self.membership.name(room).into()), sid);
        for link in socket.links.as_slice().iter().filter(|link| Some(link.room) != user) {
            let (room, from) = (self.membership.name(link.room), recovery.stays.since(seat, link.room));
            stays.push(Stay { room: Some(room.into()), from, until: Position::MAX });
        }
        stays.extend(recovery.stays.left(seat).stays);
        stays
    }

    /// Whoever reads so slowly that what it has to get next is not remembered any more is closed.
    pub(crate) fn drop_lost(&mut self) {
        let Some(recovery) = self.recovery.as_deref_mut() else { return };
        for slot in recovery.behind.lost(recovery.log.floor()) {
            if let Some((key, _)) = self.directory.at(slot) {
                self.drop_client(key, CloseReason::QueueFull, None, Farewell::Now);
            }
        }
    }
}
