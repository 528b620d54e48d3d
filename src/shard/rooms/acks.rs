//! `Acks`: who has still to acknowledge a broadcast that asked for it.
//!
//! All receivers of such a broadcast get one packet, so one id. The ids are from a range of their own: an application numbers
//! its events from below, and ids above 2^31 do not fit what some clients keep them in.

use std::collections::BTreeSet;

use foldhash::fast::RandomState;
use hashbrown::HashMap;
use sockring_protocol::Millis;
use sockring_protocol::socketio::AckId;

use crate::shard::clients::client::ClientKey;

/// The ids of broadcasts: from this one to twice as many, less one.
const FIRST_ID: u32 = 1 << 30;
/// However long the asker would wait.
const WAIT_MS_MAX: u64 = 10 * 60 * 1000;

/// A broadcast that waits for answers.
struct Ask {
    /// Its asker's.
    number: u64,
    ends_at: Millis,
    /// All of them, those that have answered or gone among them.
    receivers: Vec<(ClientKey, u16)>,
    unanswered: usize,
    /// There will be no more receivers.
    is_sealed: bool,
}

/// The acknowledgements that a shard waits for.
#[derive(Default)]
pub(crate) struct Acks {
    begun: u32,
    asks: HashMap<u32, Ask, RandomState>,
    /// A socket by its client and place there, and the id that it has to answer.
    pending: BTreeSet<(ClientKey, u16, u32)>,
    ends: BTreeSet<(Millis, u32)>,
}

impl Acks {
    /// A broadcast whose receivers follow, and then `seal`.
    pub(crate) fn begin(&mut self, number: u64, timeout_ms: u64, now: Millis) -> AckId {
        let id = loop {
            let id = FIRST_ID + self.begun % FIRST_ID;
            self.begun = self.begun.wrapping_add(1);
            if !self.asks.contains_key(&id) {
                break id;
            }
        };
        let ends_at = now + timeout_ms.min(WAIT_MS_MAX);
        self.asks.insert(id, Ask { number, ends_at, receivers: Vec::new(), unanswered: 0, is_sealed: false });
        self.ends.insert((ends_at, id));
        AckId(u64::from(id))
    }

    /// A socket has the broadcast queued.
    pub(crate) fn expect(&mut self, ack: AckId, client: ClientKey, place: u16) {
        let Ok(id) = u32::try_from(ack.0) else { return };
        if let Some(ask) = self.asks.get_mut(&id)
            && self.pending.insert((client, place, id))
        {
            ask.receivers.push((client, place));
            ask.unanswered += 1;
        }
    }

    /// There are no more receivers. Says how many there are.
    pub(crate) fn seal(&mut self, ack: AckId) -> u64 {
        let Ok(id) = u32::try_from(ack.0) else { return 0 };
        let Some(ask) = self.asks.get_mut(&id) else { return 0 };
        ask.is_sealed = true;
        let receivers = ask.receivers.len() as u64;
        self.end_if_answered(id);
        receivers
    }

    /// A socket answers: the number of what it answers to, if that was asked of it and it has not answered before.
    pub(crate) fn take(&mut self, ack: AckId, client: ClientKey, place: u16) -> Option<u64> {
        let id = u32::try_from(ack.0).ok()?;
        if !self.pending.remove(&(client, place, id)) {
            return None;
        }
        let ask = self.asks.get_mut(&id)?;
        ask.unanswered -= 1;
        let number = ask.number;
        self.end_if_answered(id);
        Some(number)
    }

    /// A socket is gone, and will not answer.
    pub(crate) fn forget(&mut self, client: ClientKey, place: u16) {
        let of_socket = (client, place, 0)..=(client, place, u32::MAX);
        while let Some(pending) = self.pending.range(of_socket.clone()).next().copied() {
            self.pending.remove(&pending);
            if let Some(ask) = self.asks.get_mut(&pending.2) {
                ask.unanswered -= 1;
            }
            self.end_if_answered(pending.2);
        }
    }

    /// What was not answered in time is waited for no longer.
    pub(crate) fn expire(&mut self, now: Millis) {
        while let Some((_, id)) = self.ends.first().copied().filter(|(at, _)| *at <= now) {
            self.ends.pop_first();
            let Some(ask) = self.asks.remove(&id) else { continue };
            for (client, place) in ask.receivers {
                self.pending.remove(&(client, place, id));
            }
        }
    }

    pub(crate) fn deadline(&self) -> Option<Millis> {
        self.ends.first().map(|(at, _)| *at)
    }

    /// How many acknowledgements are waited for.
    pub(crate) fn len(&self) -> usize {
        self.pending.len()
    }

    fn end_if_answered(&mut self, id: u32) {
        if let Some(ask) = self.asks.get(&id)
            && ask.is_sealed
            && ask.unanswered == 0
        {
            self.ends.remove(&(ask.ends_at, id));
            self.asks.remove(&id);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;

    use super::*;
    use crate::shard::slots::Key;

    fn client(index: u32) -> ClientKey {
        ClientKey(Key { index, generation: NonZeroU32::MIN })
    }

    fn asked(receivers: &[(u32, u16)], timeout_ms: u64) -> (Acks, AckId) {
        let mut acks = Acks::default();
        let ack = acks.begin(7, timeout_ms, Millis(1_000));
        receivers.iter().for_each(|(index, place)| acks.expect(ack, client(*index), *place));
        acks.seal(ack);
        (acks, ack)
    }

    fn is_empty(acks: &Acks) -> bool {
        acks.asks.is_empty() && acks.pending.is_empty() && acks.ends.is_empty()
    }

    #[test]
    fn each_receiver_answers_once_and_nobody_else() {
        let (mut acks, ack) = asked(&[(1, 0), (2, 0), (2, 1)], 100);
        assert_eq!((acks.len(), acks.deadline()), (3, Some(Millis(1_100))));
        assert_eq!(acks.take(ack, client(3), 0), None);
        assert_eq!(acks.take(AckId(0), client(1), 0), None);
        assert_eq!(acks.take(AckId(u64::MAX), client(1), 0), None);
        for (index, place) in [(2, 1), (1, 0), (2, 0)] {
            assert_eq!(acks.take(ack, client(index), place), Some(7));
            assert_eq!(acks.take(ack, client(index), place), None);
        }
        assert!(is_empty(&acks));
    }

    #[test]
    fn nothing_is_left_of_what_nobody_answers() {
        let (acks, _) = asked(&[], 100);
        assert!(is_empty(&acks), "it reached nobody");
        let (mut acks, ack) = asked(&[(1, 0), (2, 0)], 100);
        acks.forget(client(1), 0);
        assert_eq!((acks.len(), acks.take(ack, client(1), 0)), (1, None));
        acks.forget(client(2), 0);
        assert!(is_empty(&acks), "all of them have gone");
        let (mut acks, ack) = asked(&[(1, 0), (2, 0)], u64::MAX);
        acks.take(ack, client(1), 0);
        acks.expire(Millis(1_000 + WAIT_MS_MAX - 1));
        assert_eq!(acks.len(), 1);
        acks.expire(Millis(1_000 + WAIT_MS_MAX));
        assert!(is_empty(&acks), "its time is over");
        assert_eq!(acks.take(ack, client(2), 0), None);
    }

    #[test]
    fn ids_are_apart_from_an_applications_and_fit_31_bits() {
        let mut acks = Acks { begun: FIRST_ID - 1, ..Acks::default() };
        let (last, first) = (acks.begin(1, 10, Millis(0)), acks.begin(2, 10, Millis(0)));
        assert_eq!((last, first), (AckId((1 << 31) - 1), AckId(1 << 30)));
        acks.begun = 0;
        assert_eq!(acks.begin(3, 10, Millis(0)), AckId((1 << 30) + 1), "one that is waited for is not given twice");
    }
}
