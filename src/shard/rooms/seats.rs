//! Whom a broadcast, or an order, is for: the sockets of this shard that rooms name.

use crate::app::Application;
use crate::shard::hub::Hub;

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
        self.directory.sockets_of(namespace).collect()
    }

    /// The members of some rooms, sorted, each once. A room that is named often is looked at once.
    fn members_of(&self, namespace: NamespaceId, rooms: &[Box<str>]) -> Vec<Seat> {
        let mut ids: Vec<_> = rooms.iter().filter_map(|room| self.membership.find(namespace, room)).collect();
        ids.sort_unstable();
        ids.dedup();
        let mut places: Vec<_> = rooms.iter().filter_map(|room| self.directory.socket_with(namespace, room)).collect();
        for id in ids {
            places.extend(self.membership.members(id).iter().map(|member| (member.client, member.socket)));
        }
        places.sort_unstable();
        places.dedup();
        places
    }
}
