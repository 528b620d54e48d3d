//! Changes to many sockets, and questions about them: they join, leave, end, or are described. Whom one is about is decided when
//! it comes. It takes as many turns as it needs, as a broadcast does, and the mail behind it waits for it.

use sockring_protocol::adapter::{Selection, SocketDescription};

use crate::app::Application;
use crate::shard::clients::client::ClientKey;
use crate::shard::hub::Hub;
use crate::shard::mail::{TallyKey, Ticket};

use super::fan_out::{Asker, Change, Deed};
use super::sockets::{NamespaceId, Seat};
use super::table::USER_PREFIX;
use super::tally::Tally;

impl<A: Application> Hub<A> {
    /// Changes something about these sockets, and then answers about how many.
    pub(crate) fn change(&mut self, ticket: Ticket, mut seats: Vec<Seat>, deed: Deed) {
        seats.sort_unstable();
        let tally = self.broadcasts.open(Tally::of_change(ticket));
        self.spread(deed, seats, Asker::Tally(tally, 0));
    }

    /// Puts the selected sockets into rooms, and answers how many that has been done to.
    pub(crate) fn join_selected(&mut self, ticket: Ticket, selection: &Selection, rooms: Vec<Box<str>>) {
        let seats = self.selected(selection);
        let tally = self.broadcasts.open(Tally::of_joins(ticket, seats.len()));
        let change = Change { rooms, namespace: self.settings.namespace(&selection.namespace) };
        self.spread(Deed::Join(change), seats, Asker::Tally(tally, 0));
    }

    /// Answers who the selected sockets are, in so many bytes at the most.
    pub(crate) fn describe(&mut self, ticket: Ticket, selection: &Selection, bytes_max: usize) {
        let tally = self.broadcasts.open(Tally::of_descriptions(ticket, bytes_max));
        let seats = self.selected(selection);
        self.spread(Deed::Describe(tally), seats, Asker::Tally(tally, 0));
    }

    /// Puts a socket into these rooms; says whether it is in all of them now.
    pub(crate) fn join_rooms(&mut self, key: ClientKey, place: u16, rooms: &[Box<str>]) -> bool {
        // It is in the room of its own sid as long as it is there.
        let own =
            self.directory.socket(key, place).map(|socket| self.directory.sid_of(key, place, socket.random).text());
        let mut others = rooms.iter().filter(|room| own.is_none_or(|own| own.as_str() != &***room));
        others.all(|room| self.join(key, place, room).is_some())
    }

    /// Takes a socket out of these rooms; says whether it was in one of them.
    pub(crate) fn leave_rooms(&mut self, key: ClientKey, place: u16, rooms: &[Box<str>]) -> bool {
        rooms.iter().filter(|room| self.leave(key, place, room)).count() > 0
    }

    /// Adds a socket to an answer; says whether that has room for it.
    pub(crate) fn describe_in(&mut self, tally: TallyKey, key: ClientKey, place: u16) -> bool {
        if !self.broadcasts.tally(tally).is_some_and(Tally::wants_description) {
            return false;
        }
        let Some(description) = self.description_of(key, place) else { return false };
        self.broadcasts.tally_mut(tally).is_some_and(|tally| tally.describe(description))
    }

    /// So many sockets have joined, and whoever asked is told when emits to these rooms reach them.
    pub(crate) fn await_rooms(&mut self, change: &Change, asker: Asker, count: u64) {
        let Asker::Tally(tally, _) = asker else { return };
        // Who was refused the last of them may be in the others.
        let count = self.broadcasts.tally(tally).and_then(Tally::joining).unwrap_or(count);
        if count == 0 {
            return;
        }
        let all = 0..u16::try_from(self.settings.namespaces.len()).unwrap_or(u16::MAX);
        let namespaces = all.map(NamespaceId).filter(|id| change.namespace.is_none_or(|namespace| namespace == *id));
        for namespace in namespaces {
            for room in &change.rooms {
                if self.answer_waits(namespace, room, tally) {
                    self.broadcasts.expect(tally);
                }
            }
        }
    }

    fn description_of(&self, key: ClientKey, place: u16) -> Option<SocketDescription> {
        let socket = self.directory.socket(key, place)?;
        let id: Box<str> = self.directory.sid_of(key, place, socket.random).text().as_str().into();
        let joined = socket.links.as_slice().iter().map(|link| Box::from(self.membership.name(link.room)));
        let rooms = std::iter::once(id.clone()).chain(joined).collect();
        let user = socket.user.and_then(|user| self.membership.name(user.room()).strip_prefix(USER_PREFIX));
        Some(SocketDescription { id, rooms, user: user.map(Box::from) })
    }
}
