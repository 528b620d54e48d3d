//! Changes to many sockets, and questions about them: they join, leave, end, or are described. Whom one is about is decided when
//! it comes. It takes as many turns as it needs, as a broadcast does, and the mail behind it waits for it.

use sockring_protocol::adapter::{Selection, SocketDescription};

use crate::app::Application;
use crate::shard::clients::client::ClientKey;
use crate::shard::hub::Hub;
use crate::shard::mail::Ticket;

use super::deliver::{Asker, Change, Deed};
use super::sockets::Seat;
use super::table::USER_PREFIX;

impl<A: Application> Hub<A> {
    /// Changes something about these sockets, and then answers about how many.
    pub(crate) fn change(&mut self, ticket: Ticket, mut seats: Vec<Seat>, deed: Deed) {
        seats.sort_unstable();
        let pending = self.await_change(ticket);
        self.spread(deed, seats, Asker::Pending(pending, 0));
    }

    /// Puts the selected sockets into rooms, and answers how many that has been done to.
    pub(crate) fn join_selected(&mut self, ticket: Ticket, selection: &Selection, rooms: Vec<Box<str>>) {
        let seats = self.selected(selection);
        let pending = self.await_joined(ticket, seats.len());
        let change = Change { rooms, namespace: self.settings.namespace(&selection.namespace) };
        self.spread(Deed::Join(change), seats, Asker::Pending(pending, 0));
    }

    /// Answers who the selected sockets are, in so many bytes at the most.
    pub(crate) fn describe(&mut self, ticket: Ticket, selection: &Selection, bytes_max: usize) {
        let pending = self.await_descriptions(ticket, bytes_max);
        let seats = self.selected(selection);
        self.spread(Deed::Describe(pending), seats, Asker::Pending(pending, 0));
    }

    /// Puts a socket into these rooms; says whether it is in all of them now.
    pub(crate) fn join_rooms(&mut self, key: ClientKey, place: u16, rooms: &[Box<str>]) -> bool {
        // It is in the room of its own sid as long as it is there.
        let own = self.directory.socket(key, place).map(|socket| self.directory.sid_of(key, socket.random).text());
        let mut others = rooms.iter().filter(|room| own.is_none_or(|own| own.as_str() != &***room));
        others.all(|room| self.join(key, place, room).is_some())
    }

    /// Takes a socket out of these rooms; says whether it was in one of them.
    pub(crate) fn leave_rooms(&mut self, key: ClientKey, place: u16, rooms: &[Box<str>]) -> bool {
        rooms.iter().filter(|room| self.leave(key, place, room)).count() > 0
    }

    /// Adds a socket to the answer that waits under this key; says whether that has room for it.
    pub(crate) fn describe_in(&mut self, pending: usize, key: ClientKey, place: u16) -> bool {
        if !self.wants_description(pending) {
            return false;
        }
        let description = self.description_of(key, place);
        description.is_some_and(|description| self.add_description(pending, description))
    }

    fn description_of(&self, key: ClientKey, place: u16) -> Option<SocketDescription> {
        let socket = self.directory.socket(key, place)?;
        let id: Box<str> = self.directory.sid_of(key, socket.random).text().as_str().into();
        let joined = socket.links.as_slice().iter().map(|link| Box::from(self.membership.name(link.room)));
        let rooms = std::iter::once(id.clone()).chain(joined).collect();
        let user = socket.user.and_then(|user| self.membership.name(user.room()).strip_prefix(USER_PREFIX));
        Some(SocketDescription { id, rooms, user: user.map(Box::from) })
    }
}
