//! Whom a broadcast, or an order, is for: the sockets of this shard that rooms name.

use crate::app::Application;
use crate::shard::hub::Hub;
use crate::shard::moving::sid::Sid;

use super::sockets::{NamespaceId, Seat};

impl<A: Application> Hub<A> {
    /// The sockets that rooms name, without those that others do.
    pub(crate) fn select(&self, namespace: NamespaceId, rooms: &[Box<str>], except: &[Box<str>]) -> Vec<Seat> {
        let mut targets = self.targets(namespace, rooms);
        if !except.is_empty() {
            let except = self.members_of(namespace, except);
            targets.retain(|seat| except.binary_search(seat).is_err());
        }
        targets
    }

    /// The sockets that rooms name; all sockets of the namespace when there are none. Each once.
    fn targets(&self, namespace: NamespaceId, rooms: &[Box<str>]) -> Vec<Seat> {
        if !rooms.is_empty() {
            return self.members_of(namespace, rooms);
        }
        let all =
            self.clients.iter().filter_map(|(key, client)| Some((key.index, client.sockets.place_in(namespace)?)));
        all.collect()
    }

    /// The members of some rooms, sorted, each once. A room that is named often is looked at once.
    fn members_of(&self, namespace: NamespaceId, rooms: &[Box<str>]) -> Vec<Seat> {
        let mut ids: Vec<_> = rooms.iter().filter_map(|room| self.rooms.find(namespace, room)).collect();
        ids.sort_unstable();
        ids.dedup();
        let mut places: Vec<_> = rooms.iter().filter_map(|room| self.socket_with(namespace, room)).collect();
        for id in ids {
            places.extend(self.rooms.members(id).iter().map(|member| (member.client, member.socket)));
        }
        places.sort_unstable();
        places.dedup();
        places
    }

    /// A socket's sid is a room of its own that is not stored: the sid itself says where the socket is.
    pub(crate) fn socket_with(&self, namespace: NamespaceId, sid: &str) -> Option<Seat> {
        let sid = Sid::parse(sid)
            .filter(|sid| sid.instance() == self.settings.instance && sid.shard() == self.shard.number)?;
        let (key, client) = self.clients.at(sid.slot())?;
        let place = client.sockets.place_in(namespace)?;
        (client.sockets.get(place)?.random == sid.random()).then_some((key.index, place))
    }
}
