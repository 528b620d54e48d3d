//! `Receipts`: what clients have queued and have still to say that they have received.
//!
//! Transports keep their order, so a pong says that all before its ping has arrived. Nothing is asked of the client but what
//! it does anyway: a ping follows what a receipt is wanted for, unless one is on its way; then another follows its pong.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use foldhash::fast::RandomState;
use hashbrown::HashMap;
use sockring_protocol::Millis;
use sockring_protocol::socketio::AckId;

use crate::shard::clients::client::ClientKey;
use crate::shard::event_id::EventId;
use crate::shard::recovery::position::Position;
use crate::shard::relay::maps;
use sockring_protocol::portable;

use super::kept::Choice;

/// An event that a socket has queued, and that somebody wants to know of that it has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SentEvent {
    pub(crate) wanted: WantedBy,
    /// The socket's place in its client.
    pub(crate) place: u16,
    pub(crate) at: Millis,
}

portable!(struct SentEvent { wanted, place, at });

/// Who wants to know it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum WantedBy {
    /// The event is kept for the user of this room.
    Kept { room: Arc<str>, id: EventId },
    /// A backend has asked, under this id.
    Backend(AckId),
}

portable!(enum WantedBy { 0 Kept { room, id }, 1 Backend(ack) });

/// What one client has queued.
#[derive(Debug, Default)]
struct OnTheWay {
    /// In the order in which it was queued.
    sent: VecDeque<SentEvent>,
    /// How many of them the ping that is on its way follows.
    before_ping: usize,
}

portable!(struct OnTheWay { sent, before_ping });

/// How far a socket has come in what is kept for its user.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Had {
    /// The place of the last event that it has had.
    pub(crate) place: u64,
    /// What is behind this position it gets out of the log.
    pub(crate) log_from: Position,
    /// How far it says that it has got when it has that event.
    pub(crate) reached: Position,
    pub(crate) choice: Choice,
}

portable!(struct Had { place, log_from, reached, choice });

/// The receipts that a shard waits for.
#[derive(Default)]
pub(crate) struct Receipts {
    clients: HashMap<ClientKey, OnTheWay, RandomState>,
    /// Clients that want to be pinged at the end of this turn.
    wanted: Vec<ClientKey>,
    /// Sockets for which more is kept than they may have queued at once.
    behind: BTreeMap<(ClientKey, u16), Had>,
}

portable!(struct Receipts { clients by maps, wanted, behind });

impl Receipts {
    /// A client has something queued.
    pub(crate) fn expect(&mut self, client: ClientKey, sent: SentEvent) {
        let on_the_way = self.clients.entry(client).or_default();
        // For whoever waits for a pong another ping follows it.
        if on_the_way.before_ping == on_the_way.sent.len() {
            self.wanted.push(client);
        }
        on_the_way.sent.push_back(sent);
    }

    /// A client is to be pinged, whatever it has queued.
    pub(crate) fn ask(&mut self, client: ClientKey) {
        self.clients.entry(client).or_default();
        self.wanted.push(client);
    }

    /// The clients that have something queued behind their last ping. Each is asked for once.
    pub(crate) fn take_wanted(&mut self) -> Vec<ClientKey> {
        std::mem::take(&mut self.wanted)
    }

    #[inline]
    pub(crate) fn has_wanted(&self) -> bool {
        !self.wanted.is_empty()
    }

    /// A ping is queued for a client, behind all that it has queued.
    #[inline]
    pub(crate) fn on_ping(&mut self, client: ClientKey) {
        if !self.clients.is_empty()
            && let Some(on_the_way) = self.clients.get_mut(&client)
        {
            on_the_way.before_ping = on_the_way.sent.len();
        }
    }

    /// Its pong has come: what it has received. What was queued meanwhile wants another ping.
    #[inline]
    pub(crate) fn on_pong(&mut self, client: ClientKey) -> Vec<SentEvent> {
        if self.clients.is_empty() { Vec::new() } else { self.take_received(client) }
    }

    fn take_received(&mut self, client: ClientKey) -> Vec<SentEvent> {
        let Some(on_the_way) = self.clients.get_mut(&client) else { return Vec::new() };
        let received = on_the_way.sent.drain(..on_the_way.before_ping).collect();
        on_the_way.before_ping = 0;
        match on_the_way.sent.is_empty() {
            true => drop(self.clients.remove(&client)),
            false => self.wanted.push(client),
        }
        received
    }

    /// A socket has ended: what it had queued it may not have taken, whatever comes.
    pub(crate) fn forget(&mut self, client: ClientKey, place: u16) -> Vec<SentEvent> {
        self.behind.remove(&(client, place));
        let Some(on_the_way) = self.clients.get_mut(&client) else { return Vec::new() };
        let is_before = |at: usize, sent: &SentEvent| at < on_the_way.before_ping && sent.place == place;
        let before = on_the_way.sent.iter().enumerate().filter(|(at, sent)| is_before(*at, sent)).count();
        on_the_way.before_ping -= before;
        let (gone, rest): (Vec<_>, Vec<_>) = on_the_way.sent.drain(..).partition(|sent| sent.place == place);
        on_the_way.sent = rest.into();
        if on_the_way.sent.is_empty() {
            self.clients.remove(&client);
        }
        gone
    }

    /// A socket has had so much, and more is kept for it.
    pub(crate) fn fall_behind(&mut self, client: ClientKey, place: u16, had: Had) {
        self.behind.insert((client, place), had);
    }

    /// Whether it has still to get what was kept before.
    #[inline]
    pub(crate) fn is_behind(&self, client: ClientKey, place: u16) -> bool {
        !self.behind.is_empty() && self.behind.contains_key(&(client, place))
    }

    /// The sockets of a client that are behind, which they are no more, and what they have had.
    #[inline]
    pub(crate) fn take_behind(&mut self, client: ClientKey) -> Vec<(u16, Had)> {
        if self.behind.is_empty() {
            return Vec::new();
        }
        let of_client = (client, 0)..=(client, u16::MAX);
        let behind: Vec<_> = self.behind.range(of_client).map(|((_, place), had)| (*place, *had)).collect();
        for (place, _) in &behind {
            self.behind.remove(&(client, *place));
        }
        behind
    }

    /// Whether nothing is on its way.
    pub(crate) fn is_empty(&self) -> bool {
        self.clients.is_empty() && self.behind.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;

    use super::*;
    use crate::shard::slots::Key;

    const CLIENT: ClientKey = ClientKey(Key { index: 1, generation: NonZeroU32::MIN });

    fn sent(id: u64, place: u16) -> SentEvent {
        SentEvent { wanted: WantedBy::Kept { room: "user:a".into(), id: EventId(id) }, place, at: Millis(0) }
    }

    fn ids(sent: &[SentEvent]) -> Vec<u64> {
        let id = |sent: &SentEvent| match &sent.wanted {
            WantedBy::Kept { id, .. } => id.0,
            WantedBy::Backend(ack) => ack.0,
        };
        sent.iter().map(id).collect()
    }

    #[test]
    fn a_pong_is_the_receipt_of_what_was_queued_before_its_ping() {
        let mut receipts = Receipts::default();
        receipts.expect(CLIENT, sent(1, 0));
        receipts.expect(CLIENT, sent(2, 1));
        assert_eq!(receipts.take_wanted(), [CLIENT], "one ping for both");
        receipts.on_ping(CLIENT);
        receipts.expect(CLIENT, sent(3, 0));
        receipts.expect(CLIENT, sent(4, 0));
        assert_eq!(receipts.take_wanted(), [CLIENT], "it is not pinged while it is to answer");
        assert_eq!(ids(&receipts.on_pong(CLIENT)), [1, 2]);
        assert_eq!(receipts.take_wanted(), [CLIENT]);
        assert_eq!(ids(&receipts.on_pong(CLIENT)), [0; 0], "a pong that follows no ping");
        receipts.take_wanted();
        receipts.on_ping(CLIENT);
        assert_eq!(ids(&receipts.on_pong(CLIENT)), [3, 4]);
        assert!(receipts.is_empty() && !receipts.has_wanted());
    }

    #[test]
    fn what_a_socket_had_queued_that_ended_is_not_received() {
        let mut receipts = Receipts::default();
        for (id, place) in [(1, 0), (2, 1), (3, 0)] {
            receipts.expect(CLIENT, sent(id, place));
        }
        receipts.on_ping(CLIENT);
        receipts.expect(CLIENT, sent(4, 1));
        assert_eq!(ids(&receipts.forget(CLIENT, 0)), [1, 3]);
        assert_eq!(ids(&receipts.on_pong(CLIENT)), [2]);
        assert_eq!(ids(&receipts.forget(CLIENT, 1)), [4]);
        assert!(receipts.is_empty() && receipts.on_pong(CLIENT).is_empty());
    }
}
