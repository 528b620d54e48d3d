//! `Acks`: who has still to acknowledge a broadcast that asked for it, by calling back or by a receipt.
//!
//! All receivers of such a broadcast get one packet, so one id. The ids are from a range of their own: an application numbers
//! its events from below, and ids above 2^31 do not fit what some clients keep them in. A receipt has an id too, which
//! clients never see. Who may come back is waited for while it is away: its client has the packet, and calls back then.

use std::collections::BTreeSet;

use foldhash::fast::RandomState;
use hashbrown::HashMap;
use sockring_protocol::Millis;
use sockring_protocol::socketio::AckId;

use crate::shard::clients::client::ClientKey;
use crate::shard::mail::{InquiryKey, Reply, Ticket};
use crate::shard::moving::sid::Sid;
use crate::shard::relay::{carried, maps};
use sockring_protocol::portable;

use super::inquiries::{Inquiries, ResponseBounds};

/// The ids of broadcasts: from this one to twice as many, less one.
const FIRST_ID: u32 = 1 << 30;
/// However long the asker would wait.
const WAIT_MS_MAX: u64 = 10 * 60 * 1000;

/// Who wants acknowledgements.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AckAsker {
    /// Another instance, by its number.
    Bus(u64),
    /// A backend, which gets at the most so much of what is said with them.
    Backend(InquiryKey, ResponseBounds),
}

portable!(enum AckAsker { 0 Bus(number), 1 Backend(key, bounds) });

/// How a socket acknowledges.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AckWay {
    /// By an ACK packet.
    Callback,
    /// By a pong behind the message; who comes back gets it again, or has said that it has it.
    Receipt,
    /// By a pong, and who comes back does not get it again.
    PassingReceipt,
}

portable!(enum AckWay { 0 Callback, 1 Receipt, 2 PassingReceipt });

/// A broadcast that waits for answers.
struct Ask {
    asker: AckAsker,
    way: AckWay,
    ends_at: Millis,
    /// All of them, those that have answered or gone among them.
    receivers: Vec<(ClientKey, u16)>,
    /// Those that have gone and may come back.
    away: Vec<Sid>,
    unanswered: usize,
    /// There will be no more receivers.
    is_sealed: bool,
}

portable!(struct Ask { asker, way, ends_at, receivers, away, unanswered, is_sealed });

/// The acknowledgements that a shard waits for.
#[derive(Default)]
pub(crate) struct Acks {
    begun: u32,
    asks: HashMap<u32, Ask, RandomState>,
    /// A socket by its client and place there, and the id that it has to answer.
    pending: BTreeSet<(ClientKey, u16, u32)>,
    /// The same of sockets that have gone and may come back, by their sids.
    away: HashMap<Sid, Vec<u32>, RandomState>,
    away_count: usize,
    ends: BTreeSet<(Millis, u32)>,
    inquiries: Inquiries,
}

carried!(Acks { begun, asks by maps, pending, away by maps, away_count, ends } parts { inquiries });

impl Acks {
    /// A broadcast whose receivers follow, and then `seal`.
    pub(crate) fn begin(&mut self, asker: AckAsker, way: AckWay, timeout_ms: u64, now: Millis) -> AckId {
        let id = loop {
            let id = FIRST_ID + self.begun % FIRST_ID;
            self.begun = self.begun.wrapping_add(1);
            if !self.asks.contains_key(&id) {
                break id;
            }
        };
        let ends_at = now + timeout_ms.min(WAIT_MS_MAX);
        if let AckAsker::Backend(key, _) = asker {
            self.inquiries.begin(key, ends_at);
        }
        let ask = Ask { asker, way, ends_at, receivers: Vec::new(), away: Vec::new(), unanswered: 0, is_sealed: false };
        self.asks.insert(id, ask);
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

    /// There are no more receivers. Says how many there are, where another instance wants to know that.
    pub(crate) fn seal(&mut self, ack: AckId) -> Option<u64> {
        let id = u32::try_from(ack.0).ok()?;
        let ask = self.asks.get_mut(&id)?;
        ask.is_sealed = true;
        let receivers = matches!(ask.asker, AckAsker::Bus(_)).then_some(ask.receivers.len() as u64);
        self.end_if_answered(id);
        receivers
    }

    /// A socket acknowledges, with these arguments: what it answers to, if that was asked of it and it has not answered before.
    pub(crate) fn take(&mut self, ack: AckId, client: ClientKey, place: u16, args: &[u8]) -> Option<Taken> {
        let id = u32::try_from(ack.0).ok()?;
        if !self.pending.remove(&(client, place, id)) {
            return None;
        }
        let ask = self.asks.get_mut(&id)?;
        ask.unanswered -= 1;
        let taken = match ask.asker {
            AckAsker::Bus(number) => Taken::OfBus(number),
            AckAsker::Backend(key, bounds) => match self.inquiries.say(key, args, bounds) {
                true => Taken::OfBackend,
                false => Taken::WithoutResponse,
            },
        };
        self.end_if_answered(id);
        Some(taken)
    }

    /// A socket is gone, and will not answer. Says how many times it was to.
    pub(crate) fn forget(&mut self, client: ClientKey, place: u16) -> u64 {
        let ids = self.take_pending(client, place);
        ids.iter().for_each(|id| self.give_up(*id));
        ids.len() as u64
    }

    /// A socket is gone, and may come back under this sid. Of so many acknowledgements at the most that is remembered;
    /// says how many are waited for no more.
    pub(crate) fn set_aside(&mut self, client: ClientKey, place: u16, sid: Sid, away_max: usize) -> u64 {
        let mut gone = 0;
        for id in self.take_pending(client, place) {
            match self.asks.get_mut(&id) {
                Some(ask) if ask.way != AckWay::PassingReceipt && self.away_count < away_max => {
                    ask.away.push(sid);
                    self.away.entry(sid).or_default().push(id);
                    self.away_count += 1;
                }
                _ => {
                    gone += 1;
                    self.give_up(id);
                }
            }
        }
        gone
    }

    /// A socket goes on with the session of this sid. Returns the receipts that are wanted of it then.
    pub(crate) fn bring_back(&mut self, sid: Sid, client: ClientKey, place: u16, missed: MissedState) -> Vec<AckId> {
        let Some(ids) = self.away.remove(&sid) else { return Vec::new() };
        self.away_count -= ids.len();
        let mut receipts = Vec::new();
        for id in ids {
            let Some(ask) = self.asks.get_mut(&id) else { continue };
            ask.away.retain(|other| *other != sid);
            match (ask.way, missed) {
                (AckWay::Callback, _) => {}
                (_, MissedState::Queued) => receipts.push(AckId(u64::from(id))),
                (_, MissedState::Unknown) => {
                    self.give_up(id);
                    continue;
                }
            }
            ask.receivers.push((client, place));
            self.pending.insert((client, place, id));
        }
        receipts
    }

    fn take_pending(&mut self, client: ClientKey, place: u16) -> Vec<u32> {
        if self.pending.is_empty() {
            return Vec::new();
        }
        let of_socket = (client, place, 0)..=(client, place, u32::MAX);
        let ids: Vec<u32> = self.pending.range(of_socket).map(|(_, _, id)| *id).collect();
        for id in &ids {
            self.pending.remove(&(client, place, *id));
        }
        ids
    }

    /// One of the receivers will not answer.
    fn give_up(&mut self, id: u32) {
        if let Some(ask) = self.asks.get_mut(&id) {
            ask.unanswered -= 1;
        }
        self.end_if_answered(id);
    }

    /// What was not answered in time is waited for no longer. Says how many have not answered.
    pub(crate) fn expire(&mut self, now: Millis) -> u64 {
        let mut unanswered = 0;
        while let Some((_, id)) = self.ends.first().copied().filter(|(at, _)| *at <= now) {
            self.ends.pop_first();
            let Some(ask) = self.asks.remove(&id) else { continue };
            for (client, place) in &ask.receivers {
                self.pending.remove(&(*client, *place, id));
            }
            for sid in &ask.away {
                let Some(ids) = self.away.get_mut(sid) else { continue };
                ids.retain(|other| *other != id);
                self.away_count -= 1;
                if ids.is_empty() {
                    self.away.remove(sid);
                }
            }
            unanswered += ask.unanswered as u64;
            self.on_end(&ask);
        }
        self.inquiries.expire(now);
        unanswered
    }

    pub(crate) fn deadline(&self) -> Option<Millis> {
        let ask = self.ends.first().map(|(at, _)| *at);
        [ask, self.inquiries.deadline()].into_iter().flatten().min()
    }

    /// How many acknowledgements are waited for from sockets that are here.
    pub(crate) fn len(&self) -> usize {
        self.pending.len()
    }

    /// A backend comes for what was said.
    pub(crate) fn fetch(&mut self, key: InquiryKey, ticket: Ticket) {
        self.inquiries.fetch(key, ticket);
    }

    #[inline]
    pub(crate) fn has_concluded(&self) -> bool {
        self.inquiries.has_concluded()
    }

    /// The answers to those who came for what was said.
    pub(crate) fn take_concluded(&mut self) -> Vec<(Ticket, Reply)> {
        self.inquiries.take_concluded()
    }

    fn end_if_answered(&mut self, id: u32) {
        if let Some(ask) = self.asks.get(&id)
            && ask.is_sealed
            && ask.unanswered == 0
            && let Some(ask) = self.asks.remove(&id)
        {
            self.ends.remove(&(ask.ends_at, id));
            self.on_end(&ask);
        }
    }

    fn on_end(&mut self, ask: &Ask) {
        if let AckAsker::Backend(key, _) = ask.asker {
            self.inquiries.end_part(key);
        }
    }
}

/// To whom an acknowledgement went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Taken {
    /// It has still to go to another instance, by its number.
    OfBus(u64),
    OfBackend,
    /// The same, and there was no room for what it said.
    WithoutResponse,
}

/// Whether a socket that comes back gets all that it has missed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum MissedState {
    Queued,
    Unknown,
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
        asked_by(AckAsker::Bus(7), AckWay::Callback, receivers, timeout_ms)
    }

    fn asked_by(asker: AckAsker, way: AckWay, receivers: &[(u32, u16)], timeout_ms: u64) -> (Acks, AckId) {
        let mut acks = Acks::default();
        let ack = acks.begin(asker, way, timeout_ms, Millis(1_000));
        receivers.iter().for_each(|(index, place)| acks.expect(ack, client(*index), *place));
        acks.seal(ack);
        (acks, ack)
    }

    fn take(acks: &mut Acks, ack: AckId, index: u32, place: u16) -> Option<Taken> {
        acks.take(ack, client(index), place, b"[1]")
    }

    fn is_empty(acks: &Acks) -> bool {
        let is_nobody_away = acks.away.is_empty() && acks.away_count == 0;
        acks.asks.is_empty() && acks.pending.is_empty() && acks.ends.is_empty() && is_nobody_away
    }

    #[test]
    fn each_receiver_answers_once_and_nobody_else() {
        let (mut acks, ack) = asked(&[(1, 0), (2, 0), (2, 1)], 100);
        assert_eq!((acks.len(), acks.deadline()), (3, Some(Millis(1_100))));
        assert_eq!(take(&mut acks, ack, 3, 0), None);
        assert_eq!(take(&mut acks, AckId(0), 1, 0), None);
        assert_eq!(take(&mut acks, AckId(u64::MAX), 1, 0), None);
        for (index, place) in [(2, 1), (1, 0), (2, 0)] {
            assert_eq!(take(&mut acks, ack, index, place), Some(Taken::OfBus(7)));
            assert_eq!(take(&mut acks, ack, index, place), None);
        }
        assert!(is_empty(&acks));
    }

    #[test]
    fn nothing_is_left_of_what_nobody_answers() {
        let (acks, _) = asked(&[], 100);
        assert!(is_empty(&acks), "it reached nobody");
        let (mut acks, ack) = asked(&[(1, 0), (2, 0)], 100);
        acks.forget(client(1), 0);
        assert_eq!((acks.len(), take(&mut acks, ack, 1, 0)), (1, None));
        acks.forget(client(2), 0);
        assert!(is_empty(&acks), "all of them have gone");
        let (mut acks, ack) = asked(&[(1, 0), (2, 0)], u64::MAX);
        take(&mut acks, ack, 1, 0);
        acks.expire(Millis(1_000 + WAIT_MS_MAX - 1));
        assert_eq!(acks.len(), 1);
        acks.expire(Millis(1_000 + WAIT_MS_MAX));
        assert!(is_empty(&acks), "its time is over");
        assert_eq!(take(&mut acks, ack, 2, 0), None);
    }

    #[test]
    fn ids_are_apart_from_an_applications_and_fit_31_bits() {
        let mut acks = Acks { begun: FIRST_ID - 1, ..Acks::default() };
        let begin = |acks: &mut Acks| acks.begin(AckAsker::Bus(1), AckWay::Callback, 10, Millis(0));
        let (last, first) = (begin(&mut acks), begin(&mut acks));
        assert_eq!((last, first), (AckId((1 << 31) - 1), AckId(1 << 30)));
        acks.begun = 0;
        assert_eq!(begin(&mut acks), AckId((1 << 30) + 1), "one that is waited for is not given twice");
    }

    const BACKEND: AckAsker = AckAsker::Backend(InquiryKey(5), ResponseBounds { count_max: 9, bytes_max: 100 });

    fn concluded(acks: &mut Acks) -> Option<u64> {
        match acks.take_concluded().pop()? {
            (Ticket(3), Reply::Concluded { sockets, .. }) => Some(sockets),
            other => panic!("{other:?}"),
        }
    }

    fn sid(slot: u32) -> Sid {
        Sid::new(crate::shard::moving::sid::Instance::new(1), 0, slot, [0; 9])
    }

    #[test]
    fn who_is_away_may_call_back_when_it_has_come_back() {
        let (mut acks, ack) = asked_by(BACKEND, AckWay::Callback, &[(1, 0), (2, 0), (3, 0), (4, 0)], 100);
        acks.fetch(InquiryKey(5), Ticket(3));
        acks.set_aside(client(1), 0, sid(1), 2);
        acks.set_aside(client(2), 0, sid(2), 2);
        acks.set_aside(client(4), 0, sid(4), 2);
        assert_eq!((acks.len(), acks.away_count, take(&mut acks, ack, 1, 0)), (1, 2, None));
        assert_eq!(acks.bring_back(sid(1), client(9), 4, MissedState::Unknown), []);
        assert_eq!(take(&mut acks, ack, 9, 4), Some(Taken::OfBackend));
        assert_eq!(take(&mut acks, ack, 3, 0), Some(Taken::OfBackend));
        assert_eq!(concluded(&mut acks), None, "one may come back");
        acks.expire(Millis(1_100));
        assert_eq!(concluded(&mut acks), Some(2));
        assert!(is_empty(&acks));
        assert_eq!(acks.bring_back(sid(2), client(8), 0, MissedState::Queued), []);
    }

    #[test]
    fn a_receipt_is_wanted_again_of_who_gets_what_it_has_missed() {
        for (way, missed, receipts, received) in [
            (AckWay::Receipt, MissedState::Queued, 1, 1),
            (AckWay::Receipt, MissedState::Unknown, 0, 0),
            (AckWay::PassingReceipt, MissedState::Queued, 0, 0),
        ] {
            let (mut acks, ack) = asked_by(BACKEND, way, &[(1, 0)], 100);
            acks.set_aside(client(1), 0, sid(1), 9);
            assert_eq!(acks.bring_back(sid(1), client(2), 0, missed).len(), receipts, "{way:?}, {missed:?}");
            assert_eq!(take(&mut acks, ack, 2, 0).is_some(), receipts > 0);
            acks.fetch(InquiryKey(5), Ticket(3));
            assert_eq!(concluded(&mut acks), Some(received), "{way:?}, {missed:?}: nobody is waited for any more");
            assert!(is_empty(&acks));
        }
    }
}
