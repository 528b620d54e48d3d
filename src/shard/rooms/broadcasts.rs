//! `Broadcasts`: the broadcasts of a shard on their way, and what else is done to many sockets: who has still to be reached,
//! which answers wait for that, who has still to acknowledge, and the event that newcomers get.
//!
//! ```text
//!    a mail       opens a tally                       for its ticket
//!       |         selects its receivers    waiting    over as many turns as it takes
//!       |         asks them                acks       if it is to be acknowledged
//!       v         closes                   counts     with what other shards have counted
//!    a reply      when the last count of the tally is there
//! ```
//!
//! Between any two of its calls:
//! 1. What waits does so in the order in which it came, and `seats`, `bytes` and `changes` are the sums over it. What is
//!    taken out (`take_first`) counts again when it is put back.
//! 2. A tally is there until its last count. Each count that it awaits is of something that waits here, of another shard
//!    that has been mailed, or of a room that somebody is told of (`Waiting::Tally`).
//! 3. An acknowledgement is awaited of sockets that are there and have the broadcast queued, and not beyond its time.

use std::collections::VecDeque;
use std::sync::Arc;

use slab::Slab;
use sockring_protocol::Millis;
use sockring_protocol::socketio::AckId;

use crate::shard::clients::client::ClientKey;
use crate::shard::mail::{InquiryKey, Reply, SiblingMail, TallyKey, Ticket};
use crate::shard::moving::sid::Sid;
use crate::shard::relay::{carried, slabs};
use crate::shard::settings::TurnLimits;

use super::acks::{AckAsker, AckWay, Acks, MissedState, Taken};
use super::fan_out::{AskedOf, Asker, Deed, FanOut};
use super::sockets::Seat;
use super::tally::Tally;

/// The part of a turn that is kept for what waits.
const SHARE: usize = 4;

/// The broadcasts of a shard.
#[derive(Default)]
pub(crate) struct Broadcasts {
    /// Those that have not reached all of their receivers.
    waiting: VecDeque<FanOut>,
    /// What waits, in seats and in bytes of messages, and how many of them are no broadcasts.
    seats: usize,
    bytes: usize,
    changes: usize,
    /// What this turn may still do, in parts of a message that is queued.
    parts_left: usize,
    tallies: Slab<Tally>,
    acks: Acks,
    /// An event that every new socket gets behind its greeting: a JSON array.
    standing: Option<Arc<[u8]>>,
}

carried!(Broadcasts { waiting, seats, bytes, changes, parts_left, tallies by slabs, standing } parts { acks });

/// Who has to hear that a broadcast has reached all that it will.
#[derive(Debug)]
pub(crate) enum Report {
    Reply(Ticket, Reply),
    Home(u16, SiblingMail),
}

impl Broadcasts {
    /// A turn begins.
    pub(crate) fn begin_turn(&mut self, limits: &TurnLimits) {
        self.parts_left = limits.parts_max();
    }

    /// However much else there was to do, something of what waits goes on.
    pub(crate) fn keep_a_share(&mut self, limits: &TurnLimits) {
        self.parts_left = self.parts_left.max(limits.parts_max().div_ceil(SHARE));
    }

    #[inline]
    pub(crate) fn spend(&mut self, parts: usize) {
        self.parts_left = self.parts_left.saturating_sub(parts);
    }

    #[inline]
    pub(crate) fn is_spent(&self) -> bool {
        self.parts_left == 0
    }

    /// Whether something that takes so many parts can be done now: nothing is before it, and this turn has room.
    pub(crate) fn has_time_for(&self, parts: usize) -> bool {
        self.waiting.is_empty() && parts <= self.parts_left
    }

    /// Whether another mail may be read in this turn.
    pub(crate) fn takes_mail(&self, limits: &TurnLimits) -> bool {
        !self.is_spent() && !self.is_full(limits)
    }

    /// Whether what comes has to wait: there is too much, or a change is under way: who is to be gone is still there, who is
    /// to be in a room is not yet.
    fn is_full(&self, limits: &TurnLimits) -> bool {
        self.changes > 0
            || self.seats >= limits.backlog_messages_max
            || self.bytes >= limits.backlog_bytes_max
            || self.waiting.len() >= limits.backlog_broadcasts_max
    }

    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// How many wait.
    pub(crate) fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// Messages that have still to be queued.
    pub(crate) fn deliveries_pending(&self) -> usize {
        self.seats
    }

    /// It waits behind all that wait.
    pub(crate) fn put_last(&mut self, fan_out: FanOut) {
        self.add(&fan_out);
        self.waiting.push_back(fan_out);
    }

    /// It was taken out, and is not done.
    pub(crate) fn put_back(&mut self, fan_out: FanOut) {
        self.add(&fan_out);
        self.waiting.push_front(fan_out);
    }

    fn add(&mut self, fan_out: &FanOut) {
        self.seats += fan_out.left();
        self.bytes += fan_out.deed.bytes();
        self.changes += usize::from(!matches!(*fan_out.deed, Deed::Queue(_)));
    }

    pub(crate) fn take_first(&mut self) -> Option<FanOut> {
        let fan_out = self.waiting.pop_front()?;
        self.seats -= fan_out.left();
        self.bytes -= fan_out.deed.bytes();
        self.changes -= usize::from(!matches!(*fan_out.deed, Deed::Queue(_)));
        Some(fan_out)
    }

    /// Takes a client's seat out of the one that waits at this position; the caller does to it what is due.
    pub(crate) fn take_seat(&mut self, at: usize, slot: u32) -> Option<(Seat, Arc<Deed>)> {
        let fan_out = self.waiting.get_mut(at)?;
        let seat = fan_out.take(slot)?;
        Some((seat, Arc::clone(&fan_out.deed)))
    }

    /// The one at this position has reached another socket.
    pub(crate) fn count_reached(&mut self, at: usize) {
        if let Some(fan_out) = self.waiting.get_mut(at) {
            fan_out.reached += 1;
        }
    }

    /// An answer that waits for its counts.
    pub(crate) fn open(&mut self, tally: Tally) -> TallyKey {
        TallyKey(self.tallies.insert(tally))
    }

    pub(crate) fn tally(&self, TallyKey(key): TallyKey) -> Option<&Tally> {
        self.tallies.get(key)
    }

    pub(crate) fn tally_mut(&mut self, TallyKey(key): TallyKey) -> Option<&mut Tally> {
        self.tallies.get_mut(key)
    }

    /// An answer waits for one count more.
    pub(crate) fn expect(&mut self, tally: TallyKey) {
        if let Some(tally) = self.tally_mut(tally) {
            tally.expect();
        }
    }

    /// A count of an answer is there; with the last one it is given.
    pub(crate) fn count(&mut self, tally: TallyKey, index: usize, count: u64) -> Option<Report> {
        let is_complete = self.tally_mut(tally)?.count(index, count);
        let (ticket, reply) = is_complete.then(|| self.tallies.remove(tally.0))?.into_reply();
        Some(Report::Reply(ticket, reply))
    }

    /// A broadcast has reached so many, and will reach no more. Whoever asked is told how many, or for another instance how many
    /// acknowledgements are awaited.
    pub(crate) fn close(&mut self, asked: AskedOf, asker: Asker, count: u64) -> Option<Report> {
        let count = asked.ack.and_then(|ack| self.acks.seal(ack)).unwrap_or(count);
        if let Some(receipt) = asked.receipt {
            self.acks.seal(receipt);
        }
        match asker {
            Asker::Nobody => None,
            Asker::Tally(tally, index) => self.count(tally, index, count),
            Asker::Home { shard, tally, index } => {
                Some(Report::Home(shard, SiblingMail::Delivered { tally, index, count }))
            }
        }
    }

    /// A broadcast begins whose receivers are asked to acknowledge it, under this id.
    pub(crate) fn ask(&mut self, asker: AckAsker, way: AckWay, timeout_ms: u64, now: Millis) -> AckId {
        self.acks.begin(asker, way, timeout_ms, now)
    }

    pub(crate) fn expect_ack(&mut self, ack: AckId, client: ClientKey, place: u16) {
        self.acks.expect(ack, client, place);
    }

    /// A socket acknowledges, with these arguments, what it was asked.
    pub(crate) fn take_ack(&mut self, ack: AckId, client: ClientKey, place: u16, args: &[u8]) -> Option<Taken> {
        self.acks.take(ack, client, place, args)
    }

    /// A backend comes for what was said to its inquiry.
    pub(crate) fn fetch(&mut self, key: InquiryKey, ticket: Ticket) {
        self.acks.fetch(key, ticket);
    }

    #[inline]
    pub(crate) fn has_concluded(&self) -> bool {
        self.acks.has_concluded()
    }

    /// The answers to those who came for what was said.
    pub(crate) fn take_concluded(&mut self) -> Vec<(Ticket, Reply)> {
        self.acks.take_concluded()
    }

    /// A socket is gone, and will not acknowledge. Says how many times it was to.
    pub(crate) fn forget_acks(&mut self, client: ClientKey, place: u16) -> u64 {
        self.acks.forget(client, place)
    }

    /// A socket is gone, and may come back under this sid. Says how many acknowledgements are waited for no more.
    pub(crate) fn set_acks_aside(&mut self, client: ClientKey, place: u16, sid: Sid, away_max: usize) -> u64 {
        self.acks.set_aside(client, place, sid, away_max)
    }

    /// A socket goes on with the session of this sid: the receipts that are wanted of it.
    pub(crate) fn bring_acks_back(&mut self, sid: Sid, seat: (ClientKey, u16), missed: MissedState) -> Vec<AckId> {
        self.acks.bring_back(sid, seat.0, seat.1, missed)
    }

    /// What was not acknowledged in time is waited for no longer. Says how many have not.
    pub(crate) fn expire(&mut self, now: Millis) -> u64 {
        self.acks.expire(now)
    }

    pub(crate) fn deadline(&self) -> Option<Millis> {
        self.acks.deadline()
    }

    /// How many acknowledgements are waited for from sockets that are here.
    pub(crate) fn acks_pending(&self) -> usize {
        self.acks.len()
    }

    /// What newcomers get from now on.
    pub(crate) fn stand(&mut self, event: Option<Arc<[u8]>>) {
        self.standing = event;
    }

    pub(crate) fn standing(&self) -> Option<Arc<[u8]>> {
        self.standing.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shard::rooms::fan_out::Change;

    fn join(seats: &[Seat], asker: Asker) -> FanOut {
        FanOut::new(Deed::Join(Change { rooms: Vec::new(), namespace: None }), seats.to_vec(), asker)
    }

    #[test]
    fn what_waits_counts_while_it_waits() {
        let mut broadcasts = Broadcasts::default();
        broadcasts.put_last(join(&[(1, 0), (2, 0), (2, 1)], Asker::Nobody));
        broadcasts.put_last(join(&[(2, 0)], Asker::Nobody));
        assert_eq!((broadcasts.waiting(), broadcasts.deliveries_pending(), broadcasts.changes), (2, 4, 2));
        let mut first = broadcasts.take_first().expect("two wait");
        assert_eq!((broadcasts.deliveries_pending(), broadcasts.changes), (1, 1));
        assert_eq!(first.next_seat(), Some((1, 0)));
        broadcasts.put_back(first);
        assert_eq!(broadcasts.deliveries_pending(), 3);
        let seats: Vec<_> = std::iter::from_fn(|| broadcasts.take_seat(0, 2).map(|(seat, _)| seat)).collect();
        assert_eq!(seats, [(2, 0), (2, 1)], "of a client that is not to wait, in their order");
        assert!(broadcasts.take_seat(0, 1).is_none(), "it has had its turn");
        while broadcasts.take_first().is_some() {}
        assert_eq!((broadcasts.deliveries_pending(), broadcasts.bytes, broadcasts.changes), (0, 0, 0));
    }

    #[test]
    fn an_answer_is_given_once_with_its_last_count() {
        let mut broadcasts = Broadcasts::default();
        let tally = broadcasts.open(Tally::of_emits(Ticket(7), 2));
        broadcasts.expect(tally);
        assert!(broadcasts.close(AskedOf::NOTHING, Asker::Tally(tally, 0), 3).is_none());
        assert!(broadcasts.count(tally, 1, 1).is_none());
        let report = broadcasts.count(tally, 1, 4);
        assert!(matches!(report, Some(Report::Reply(Ticket(7), Reply::Delivered(counts))) if counts == [3, 5]));
        assert!(broadcasts.count(tally, 0, 1).is_none(), "it is gone");
        let report = broadcasts.close(AskedOf::NOTHING, Asker::Home { shard: 2, tally, index: 1 }, 9);
        assert!(matches!(report, Some(Report::Home(2, SiblingMail::Delivered { index: 1, count: 9, .. }))));
    }

    #[test]
    fn of_a_broadcast_that_is_acknowledged_the_awaited_count() {
        let mut broadcasts = Broadcasts::default();
        let tally = broadcasts.open(Tally::of_emits(Ticket(1), 1));
        let ack = broadcasts.ask(AckAsker::Bus(5), AckWay::Callback, 100, Millis(0));
        let asked = AskedOf { ack: Some(ack), receipt: None };
        let report = broadcasts.close(asked, Asker::Tally(tally, 0), 4);
        assert!(matches!(report, Some(Report::Reply(_, Reply::Delivered(counts))) if counts == [0]));
        assert_eq!(broadcasts.deadline(), None, "nobody is left to answer");
    }
}
