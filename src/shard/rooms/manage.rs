//! What a backend does to sockets: joins, leaves and disconnects.

use sockring_protocol::adapter::Ending;

use crate::app::Application;
use crate::shard::clients::client::{ClientKey, CloseReason, Farewell};
use crate::shard::hub::Hub;
use crate::shard::mail::Target;

use super::sockets::{NamespaceId, Seat};
use super::table::USER_PREFIX;

impl<A: Application> Hub<A> {
    pub(crate) fn end_as(&mut self, key: ClientKey, place: u16, ending: Ending) {
        match ending {
            Ending::Socket => self.disconnect(key, place),
            Ending::Client => {
                let client = self.directory.get(key);
                let places: Vec<u16> =
                    client.iter().flat_map(|client| client.sockets.iter()).map(|(place, _)| place).collect();
                places.into_iter().for_each(|place| self.disconnect(key, place));
                self.drop_client(key, CloseReason::ServerClose, None, Farewell::NextPoll);
            }
            Ending::Session => self.drop_client(key, CloseReason::ServerClose, None, Farewell::NextPoll),
        }
    }

    /// Sockets in all namespaces.
    pub(crate) fn places_of(&self, target: &Target) -> Vec<Seat> {
        let mut places = Vec::new();
        for namespace in 0..u16::try_from(self.settings.namespaces.len()).unwrap_or(u16::MAX) {
            let namespace = NamespaceId(namespace);
            match target {
                Target::User(user) => {
                    let members = self.membership.members_of(namespace, &[USER_PREFIX, user].concat());
                    places.extend(members.iter().map(|member| (member.client, member.socket)));
                }
                Target::Socket(sid) => places.extend(self.directory.socket_with(namespace, sid)),
            }
        }
        places
    }
}
