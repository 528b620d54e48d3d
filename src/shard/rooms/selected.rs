//! Selections: what other instances ask about sockets, and do to them.

use sockring_protocol::adapter::Selection;

use crate::app::Application;
use crate::shard::hub::Hub;

use super::sockets::{Seat, SocketStage};
use super::table::Member;

impl<A: Application> Hub<A> {
    /// The sockets that a selection names. One that has not been told that it is connected is nobody's yet.
    pub(crate) fn selected(&self, selection: &Selection) -> Vec<Seat> {
        let Some(namespace) = self.settings.namespace(&selection.namespace) else { return Vec::new() };
        let mut selected = self.select(namespace, &selection.rooms, &selection.except);
        selected.retain(|seat| self.is_connected_at(*seat));
        selected
    }

    fn is_connected_at(&self, seat: Seat) -> bool {
        self.directory.socket_at(seat).is_some_and(|(_, socket)| socket.stage == SocketStage::Connected)
    }

    /// The rooms of a namespace that have members here, those of their own sids among them. `None` where they take more bytes
    /// than this.
    pub(crate) fn room_names(&self, namespace: &str, bytes_max: usize) -> Option<Vec<Box<str>>> {
        let Some(namespace) = self.settings.namespace(namespace) else { return Some(Vec::new()) };
        let has_member =
            |members: &[Member]| members.iter().any(|member| self.is_connected_at((member.client, member.socket)));
        let rooms = self.membership.rooms_of(namespace).filter(|(_, members)| has_member(members));
        let sids = self.directory.iter().filter_map(|(key, client)| {
            let place = client.sockets.place_in(namespace)?;
            let socket = client.sockets.get(place)?;
            let is_there = socket.stage == SocketStage::Connected;
            is_there.then(|| Box::<str>::from(self.directory.sid_of(key, place, socket.random).text().as_str()))
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
}
