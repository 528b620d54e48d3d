//! The log's lines about clients: of all of them, or of the users that the operator wants to see.

use sockring_protocol::engineio::Transport;

use crate::app::{Application, Refusal};
use crate::shard::diary::tell;
use crate::shard::hub::Hub;

use super::client::{Cause, ClientKey, Phase};

/// Which way a socket goes through the door of a room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Passage {
    In,
    Out,
}

impl<A: Application> Hub<A> {
    /// The log's line for a CONNECT that was accepted.
    #[cold]
    pub(super) fn tell_connect(&self, key: ClientKey, namespace: &str, user: Option<&str>) {
        let Some(client) = self.directory.get(key) else { return };
        let account = self.diary.account(key.0.index);
        tell!(
            self.diary.voice(user),
            user,
            namespace,
            client = ?client.sid,
            address = account.address.map(tracing::field::display),
            transport = word(client.session.transport()),
            ms = self.diary.since(key.0.index, self.now.at),
            "a client has connected"
        );
    }

    /// The log's line for an upgrade.
    #[cold]
    pub(super) fn tell_upgrade(&self, key: ClientKey) {
        let Some(client) = self.directory.get(key) else { return };
        let account = self.diary.account(key.0.index);
        let user = self.user_of(key);
        tell!(
            self.diary.voice(user),
            user,
            client = ?client.sid,
            address = account.address.map(tracing::field::display),
            ms = self.diary.since(key.0.index, self.now.at),
            "a client has upgraded to WebSocket"
        );
    }

    /// The log's line for the end of a client, while its sockets are there.
    #[cold]
    pub(super) fn tell_end(&self, key: ClientKey, cause: Cause) {
        let Some(client) = self.directory.get(key).filter(|client| client.phase != Phase::Farewell) else { return };
        let account = self.diary.account(key.0.index);
        let user = self.user_of(key);
        tell!(
            self.diary.voice(user),
            user,
            client = ?client.sid,
            sockets = client.sockets.len(),
            address = account.address.map(tracing::field::display),
            transport = word(client.session.transport()),
            reason = cause.reason.label(),
            detail = cause.detail.map(tracing::field::display),
            ms = self.diary.since(key.0.index, self.now.at),
            received_bytes = account.received_bytes,
            sent_bytes = account.sent_bytes,
            "a client has ended"
        );
    }

    /// The log's line for a CONNECT that was refused.
    #[cold]
    pub(super) fn tell_refusal(&self, key: ClientKey, namespace: &str, refusal: &Refusal) {
        let Some(client) = self.directory.get(key) else { return };
        let account = self.diary.account(key.0.index);
        let user = refusal.user.as_deref().or_else(|| self.user_of(key));
        tell!(
            self.diary.voice(user),
            user,
            namespace,
            client = ?client.sid,
            address = account.address.map(tracing::field::display),
            transport = word(client.session.transport()),
            reason = refusal.reason.label(),
            ms = self.diary.since(key.0.index, self.now.at),
            "a CONNECT was refused"
        );
    }

    /// The log's line for a room that a socket joins or leaves while it is there; not that of its user.
    #[inline]
    pub(super) fn tell_room(&self, key: ClientKey, place: u16, room: &str, passage: Passage) {
        if self.diary.is_kept() {
            self.tell_passage(key, place, room, passage);
        }
    }

    #[cold]
    fn tell_passage(&self, key: ClientKey, place: u16, room: &str, passage: Passage) {
        let Some(client) = self.directory.get(key) else { return };
        let Some(socket) = client.sockets.get(place) else { return };
        let user = self.membership.user_of(socket);
        let (namespace, client) = (self.settings.namespace_name(socket.namespace), &client.sid);
        match passage {
            Passage::In => tell!(self.diary.voice(user), user, namespace, ?client, room, "a socket has joined a room"),
            Passage::Out => tell!(self.diary.voice(user), user, namespace, ?client, room, "a socket has left a room"),
        }
    }

    /// The user of a client's first socket that has one.
    fn user_of(&self, key: ClientKey) -> Option<&str> {
        let client = self.directory.get(key)?;
        client.sockets.iter().find_map(|(_, socket)| self.membership.user_of(socket))
    }
}

fn word(transport: Transport) -> &'static str {
    match transport {
        Transport::Polling => "polling",
        Transport::WebSocket => "websocket",
    }
}
