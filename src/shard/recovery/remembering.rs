//! Remembering: what is delivered goes into the log, and what a socket that ends was in is noted.

use sockring_protocol::adapter::{Broadcast, Delivery};

use crate::app::Application;
use crate::shard::clients::client::ClientKey;
use crate::shard::clients::outbox::{ConflateKey, Frames};
use crate::shard::hub::Hub;
use crate::shard::mail::RoomName;
use crate::shard::rooms::membership::EndedRoom;
use crate::shard::rooms::sockets::{NamespaceId, RoomId, Seat, SocketStage};

use super::ended::{EndedRooms, Parting};
use super::log::{Delivered, KeptUntil, Stay};
use super::position::{Mark, Position};
use super::state::Recovery;
use super::stays::Visits;

impl<A: Application> Hub<A> {
    /// Whether an event is kept for those who come back: somebody gets it, or would get it if its connection had not broken.
    pub(crate) fn is_remembered(&self, namespace: NamespaceId, broadcast: &Broadcast) -> bool {
        let Some(recovery) = self.recovery.as_deref().filter(|_| broadcast.delivery != Delivery::Volatile) else {
            return false;
        };
        if recovery.sessions.is_some() && broadcast.entry.is_some() {
            // Who was elsewhere when it came may come here.
            return true;
        }
        match &*broadcast.rooms {
            [] => self.membership.has_lingering(namespace) || self.directory.sockets_of(namespace).next().is_some(),
            // A socket that is gone has left no room of its own behind, and its sid says that it was here.
            rooms => rooms
                .iter()
                .any(|room| self.membership.is_remembered(namespace, room) || self.directory.is_sid_of_ours(room)),
        }
    }

    /// The marker of what follows all that was delivered so far, where there are markers.
    pub(crate) fn mark(&self) -> Option<Mark> {
        self.recovery.as_deref().map(Recovery::mark)
    }

    /// Puts an event into the log, under the position that its marker has.
    pub(crate) fn remember(
        &mut self,
        namespace: NamespaceId,
        broadcast: &Broadcast,
        position: Position,
        conflate: Option<ConflateKey>,
        kept: Option<KeptUntil>,
        frames: &Frames,
    ) {
        let Some(recovery) = self.recovery.as_deref_mut() else { return };
        let Broadcast { rooms, except, .. } = broadcast;
        recovery.log.append(Delivered { namespace, rooms, except, conflate, kept, frames }, position, self.now.at);
        self.counters.recovery_evicted = recovery.log.evicted();
    }

    /// A socket has joined a room besides its user's.
    pub(crate) fn note_join(&mut self, seat: Seat, room: RoomId) {
        if let Some(recovery) = self.recovery.as_deref_mut() {
            recovery.stays.join(seat, room, recovery.log.head());
            recovery.on_rooms_changed(seat);
        }
    }

    /// A socket leaves a room and stays otherwise.
    pub(crate) fn note_leave(&mut self, seat: Seat, room: RoomId) {
        if let Some(recovery) = self.recovery.as_deref_mut() {
            let (head, floor) = (recovery.log.head(), recovery.log.floor());
            recovery.stays.leave(seat, room, self.membership.name(room), head, floor);
            recovery.on_rooms_changed(seat);
        }
    }

    /// A socket is about to end: what it was in, besides its user's room, is kept for when it comes back.
    pub(crate) fn note_end(&mut self, key: ClientKey, place: u16, parting: Parting) {
        let Some(recovery) = self.recovery.as_deref_mut() else { return };
        let seat = (key.0.index, place);
        recovery.behind.remove(seat);
        let Some(socket) = self.directory.socket(key, place) else { return };
        let (namespace, sid) = (socket.namespace, self.directory.sid_of(key, place, socket.random));
        let user = socket.user.map(|user| user.room());
        let mut joined = Vec::new();
        for link in socket.links.as_slice().iter().filter(|link| Some(link.room) != user) {
            let from = recovery.stays.since(seat, link.room);
            recovery.stays.forget(seat, link.room);
            joined.push(Stay { room: Some(self.membership.name(link.room).into()), from, until: Position::MAX });
        }
        let left = recovery.stays.take_left(seat);
        let is_told = socket.stage == SocketStage::Connected;
        let (term, keep_ms) = (recovery.term(self.now.at), recovery.keep_ms);
        let has_rooms = !(joined.is_empty() && left == Visits::default());
        let rooms = match parting {
            Parting::Disconnected if !joined.is_empty() => EndedRooms::Gone,
            _ => EndedRooms::Known { joined, left },
        };
        if is_told {
            self.share(seat, &rooms, keep_ms);
        }
        let Some(recovery) = self.recovery.as_deref_mut() else { return };
        if let Some(sessions) = recovery.sessions.as_deref_mut() {
            sessions.end(seat);
        }
        if is_told && has_rooms {
            recovery.ended.put(namespace, sid, rooms, term.since, term.until);
        }
        if !is_told && parting == Parting::Disconnected {
            recovery.ended.lose_rooms(namespace, &sid);
        }
        // One without a user's room leaves nothing else behind that says that somebody may come back.
        if is_told && user.is_none() || self.membership.has_channels_of_sids() {
            self.membership.linger(RoomName { namespace, name: sid.text().as_str().into() }, term);
        }
        self.directory.forget_alias(key, place);
    }

    /// Rooms that have lingered for long enough end.
    pub(crate) fn expire_recovery(&mut self) {
        let Some(recovery) = self.recovery.as_deref_mut() else { return };
        recovery.expire(self.now.at);
        for _ in 0..self.settings.turn.clients_due_max {
            let Some(ended) = self.membership.expire_lingering(self.now.at) else { return };
            let EndedRoom { room, since, notice, given_up } = ended;
            self.forget_mailbox(room.namespace, &room.name);
            if let Some(recovery) = self.recovery.as_deref_mut().filter(|recovery| recovery.sessions.is_none()) {
                // Who was in it may have missed something from now on.
                recovery.log.forget(since);
            }
            self.give_up(given_up);
            self.tell(notice);
        }
    }
}
