//! `WaitingConnects`: CONNECTs that the application cannot decide yet, in the order in which they are asked about again.
//!
//! Those of one client are decided one after the other: the first that is accepted may lead it to another shard, and the
//! others go along.

use std::collections::VecDeque;

use foldhash::fast::RandomState;
use hashbrown::HashMap;
use sockring_protocol::Millis;

use crate::shard::relay::maps;
use crate::shard::rooms::sockets::NamespaceId;
use sockring_protocol::portable;

use super::client::ClientKey;

/// What is kept of a CONNECT besides its payload, about.
const CONNECT_BYTES: usize = 96;

/// A CONNECT that waits.
pub(crate) struct WaitingConnect {
    pub(crate) namespace: NamespaceId,
    pub(crate) payload: Option<Box<str>>,
    /// When it is answered at the latest. `None`: it has not been asked about, since another one of its client waits.
    pub(crate) until: Option<Millis>,
}

portable!(struct WaitingConnect { namespace, payload, until });

impl WaitingConnect {
    pub(crate) fn bytes(&self) -> usize {
        CONNECT_BYTES + self.payload.as_deref().map_or(0, str::len)
    }
}

/// All that wait at a shard.
#[derive(Default)]
pub(crate) struct WaitingConnects {
    clients: HashMap<ClientKey, VecDeque<WaitingConnect>, RandomState>,
    /// Clients, by when their first one is answered at the latest.
    order: VecDeque<(ClientKey, Millis)>,
    /// Those that were asked about again and wait on, before the others.
    again: VecDeque<(ClientKey, Millis)>,
    /// How many of the order are to be asked about again.
    due: usize,
}

portable!(struct WaitingConnects { clients by maps, order, again, due });

impl WaitingConnects {
    /// How many of a client wait.
    pub(crate) fn of(&self, key: ClientKey) -> usize {
        self.clients.get(&key).map_or(0, VecDeque::len)
    }

    /// How many wait.
    pub(crate) fn len(&self) -> usize {
        self.clients.values().map(VecDeque::len).sum()
    }

    /// All that wait now may be decided.
    pub(crate) fn wake(&mut self) {
        self.merge();
        self.due = self.order.len();
    }

    /// Whether some are to be asked about now.
    pub(crate) fn has_due(&self, now: Millis) -> bool {
        self.due > 0 || self.deadline().is_some_and(|at| at <= now)
    }

    pub(crate) fn deadline(&self) -> Option<Millis> {
        let fronts = [self.again.front(), self.order.front()];
        fronts.into_iter().flatten().map(|(_, until)| *until).min()
    }

    /// The client whose first one is to be asked about next.
    pub(crate) fn next(&mut self, now: Millis) -> Option<ClientKey> {
        if self.due > 0 {
            self.due -= 1;
            return self.order.pop_front().map(|(key, _)| key);
        }
        self.merge();
        self.order.front().filter(|(_, until)| *until <= now)?;
        self.order.pop_front().map(|(key, _)| key)
    }

    /// Those that wait on came before all that have come since.
    fn merge(&mut self) {
        if !self.again.is_empty() {
            self.again.append(&mut self.order);
            std::mem::swap(&mut self.again, &mut self.order);
        }
    }

    pub(crate) fn push(&mut self, key: ClientKey, connect: WaitingConnect) {
        if let Some(until) = connect.until {
            self.order.push_back((key, until));
        }
        self.clients.entry(key).or_default().push_back(connect);
    }

    /// One that was taken goes on waiting, as the first of its client.
    pub(crate) fn put_back(&mut self, key: ClientKey, connect: WaitingConnect) {
        if let Some(until) = connect.until {
            self.again.push_back((key, until));
        }
        self.clients.entry(key).or_default().push_front(connect);
    }

    pub(crate) fn take_first(&mut self, key: ClientKey) -> Option<WaitingConnect> {
        let waiting = self.clients.get_mut(&key)?;
        let first = waiting.pop_front();
        if waiting.is_empty() {
            self.clients.remove(&key);
        }
        first
    }

    /// Those of a client for a namespace wait no more; how many bytes that were.
    pub(crate) fn take_back(&mut self, key: ClientKey, namespace: NamespaceId, now: Millis) -> usize {
        let Some(waiting) = self.clients.get_mut(&key) else { return 0 };
        let bytes = |waiting: &VecDeque<WaitingConnect>| waiting.iter().map(WaitingConnect::bytes).sum::<usize>();
        let before = bytes(waiting);
        waiting.retain(|connect| connect.namespace != namespace);
        let after = bytes(waiting);
        match waiting.front_mut() {
            // What stood for the other in the order stands for this one: it is asked about then.
            Some(first) => drop(first.until.get_or_insert(now)),
            None => drop(self.clients.remove(&key)),
        }
        before - after
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.clients.is_empty()
    }

    pub(crate) fn take_all(&mut self, key: ClientKey) -> Vec<WaitingConnect> {
        self.clients.remove(&key).map(Vec::from).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shard::slots::Slots;

    fn connect(namespace: u16, until: u64) -> WaitingConnect {
        WaitingConnect { namespace: NamespaceId(namespace), payload: None, until: Some(Millis(until)) }
    }

    #[test]
    fn what_waits_on_keeps_its_place_before_what_came_since() {
        let mut slots = Slots::with_capacity(8);
        let keys: Vec<_> = (0..4).filter_map(|_| slots.insert(()).map(ClientKey)).collect();
        let mut waiting = WaitingConnects::default();
        waiting.push(keys[0], connect(0, 10));
        waiting.push(keys[1], connect(0, 20));
        assert_eq!((waiting.next(Millis(9)), waiting.deadline()), (None, Some(Millis(10))));
        waiting.wake();
        waiting.push(keys[2], connect(0, 30));
        assert_eq!(waiting.next(Millis(9)), Some(keys[0]));
        let first = waiting.take_first(keys[0]).expect("it waits");
        waiting.put_back(keys[0], first);
        assert_eq!(waiting.next(Millis(9)), Some(keys[1]));
        assert!(waiting.take_first(keys[1]).is_some() && !waiting.has_due(Millis(9)) && waiting.has_due(Millis(10)));
        // Woken in the middle of a round, all are asked about once more.
        waiting.wake();
        let round: Vec<_> = std::iter::from_fn(|| waiting.next(Millis(9))).collect();
        assert_eq!((round, waiting.of(keys[3])), (vec![keys[0], keys[2]], 0));
    }
}
