//! Selections: what other instances ask about sockets, and do to them.

use sockring_protocol::adapter::{Selection, SocketDescription};

use crate::app::Application;
use crate::shard::clients::client::ClientKey;
use crate::shard::hub::Hub;

use super::seats::Seat;
use super::sockets::SocketStage;
use super::table::{Member, USER_PREFIX};

/// What came of an order to join.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Joined {
    /// In all of the rooms now.
    pub(crate) sockets: u64,
    /// Would have been in more rooms than a socket may.
    pub(crate) refused: u64,
}

impl<A: Application> Hub<A> {
    /// The sockets that a selection names. One that has not been told that it is connected is nobody's yet.
    pub(crate) fn selected(&self, selection: &Selection) -> Vec<Seat> {
        let Some(namespace) = self.settings.namespace(&selection.namespace) else { return Vec::new() };
        let mut selected = self.select(namespace, &selection.rooms, &selection.except);
        selected.retain(|seat| self.is_connected_at(*seat));
        selected
    }

    fn is_connected_at(&self, (slot, place): Seat) -> bool {
        let socket = self.clients.at(slot).and_then(|(_, client)| client.sockets.get(place));
        socket.is_some_and(|socket| socket.stage == SocketStage::Connected)
    }

    /// `None` where that takes more bytes than this.
    pub(crate) fn describe(&self, selection: &Selection, bytes_max: usize) -> Option<Vec<SocketDescription>> {
        let describe = |(slot, place): Seat| {
            let (key, client) = self.clients.at(slot)?;
            let socket = client.sockets.get(place)?;
            let id: Box<str> = self.sid_of(ClientKey(key), socket.random).text().as_str().into();
            let joined = socket.links.as_slice().iter().map(|link| Box::from(self.rooms.name(link.room)));
            let rooms = std::iter::once(id.clone()).chain(joined).collect();
            let user = socket.user.and_then(|user| self.rooms.name(user.room()).strip_prefix(USER_PREFIX));
            Some(SocketDescription { id, rooms, user: user.map(Box::from) })
        };
        let mut descriptions = Vec::new();
        let mut bytes = 0;
        for description in self.selected(selection).into_iter().filter_map(describe) {
            bytes += description.bytes();
            if bytes > bytes_max {
                return None;
            }
            descriptions.push(description);
        }
        Some(descriptions)
    }

    /// The rooms of a namespace that have members here, those of their own sids among them. `None` where they take more bytes
    /// than this.
    pub(crate) fn room_names(&self, namespace: &str, bytes_max: usize) -> Option<Vec<Box<str>>> {
        let Some(namespace) = self.settings.namespace(namespace) else { return Some(Vec::new()) };
        let has_member =
            |members: &[Member]| members.iter().any(|member| self.is_connected_at((member.client, member.socket)));
        let rooms = self.rooms.of(namespace).filter(|(_, members)| has_member(members));
        let sids = self.clients.iter().filter_map(|(key, client)| {
            let socket = client.sockets.get(client.sockets.place_in(namespace)?)?;
            let is_there = socket.stage == SocketStage::Connected;
            is_there.then(|| Box::<str>::from(self.sid_of(ClientKey(key), socket.random).text().as_str()))
        });
        let mut names: Vec<Box<str>> = Vec::new();
        let mut bytes = 0;
        for name in rooms.map(|(name, _)| Box::<str>::from(name)).chain(sids) {
            bytes += size_of::<Box<str>>() + name.len();
            if bytes > bytes_max {
                return None;
            }
            names.push(name);
        }
        // A socket may be in a room that is called like another's sid.
        names.sort_unstable();
        names.dedup();
        Some(names)
    }

    pub(crate) fn join_selected(&mut self, selection: &Selection, rooms: &[Box<str>]) -> Joined {
        let selected = self.selected(selection);
        let of = selected.len() as u64;
        let sockets = self.for_all(selected, |hub, key, place| {
            // It is in the room of its own sid as long as it is there.
            let own = hub.socket(key, place).map(|socket| hub.sid_of(key, socket.random).text());
            let mut others = rooms.iter().filter(|room| own.is_none_or(|own| own.as_str() != &***room));
            others.all(|room| hub.join(key, place, room).is_some())
        });
        Joined { sockets, refused: of - sockets }
    }

    /// Says how many were in one of the rooms. The rooms of its user and its own sid nobody leaves.
    pub(crate) fn leave_selected(&mut self, selection: &Selection, rooms: &[Box<str>]) -> u64 {
        let selected = self.selected(selection);
        self.for_all(selected, |hub, key, place| {
            let left = rooms.iter().filter(|room| hub.leave(key, place, room)).count();
            left > 0
        })
    }
}
