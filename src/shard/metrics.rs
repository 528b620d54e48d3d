//! `Counters`: how often things happened in one shard. Written by its core alone.

use crate::app::RefusalReason;
use sockring_protocol::portable;
use sockring_protocol::portable::{Packer, Portable, Unpacker, Unreadable};

use super::clients::client::CloseReason;
use super::faults::{Broken, PacketFault, UnknownSid};
use super::limit::Limit;
use super::recovery::outcome::Recovered;

/// Counts since start.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Bytes received from and handed to the kernel for connections.
    pub bytes_in: u64,
    pub bytes_out: u64,
    /// Bytes of messages that were copied so that several leave in one send.
    pub bytes_copied: u64,
    /// Sessions opened.
    pub opened: u64,
    /// CONNECTs that were accepted.
    pub connects_accepted: u64,
    /// Messages from clients.
    pub messages_in: u64,
    /// Messages queued for clients by broadcasts.
    pub delivered: u64,
    /// Volatile messages that a client could not take.
    pub volatile_dropped: u64,
    /// CONNECTs that had to wait until they could be decided.
    pub connects_delayed: u64,
    /// Emits under a key under which the same event had come.
    pub duplicates: u64,
    /// Requests from an origin that is not allowed.
    pub origins_refused: u64,
    /// Requests, frames and bodies that were no such thing.
    pub malformed: u64,
    /// Times when accepting paused because the operating system's limit of open files was near.
    pub descriptors_short: u64,
    /// Connections that idled and were closed so that others find room.
    pub idlers_closed: u64,
    /// Turns that came so late that the time did not count against peers.
    pub late_turns: u64,
    /// Peers that were past a deadline by the clock alone: what they had to say was there and not read yet.
    pub pardoned: u64,
    /// Clients that came from another shard, which their user's home is not.
    pub moved_in: u64,
    /// Subscriptions that the bus did not confirm in time, and those that nobody waited for because it was down.
    pub subscriptions_late: u64,
    pub subscriptions_unawaited: u64,
    /// Events that clients missed and got when they came back, and sockets that another connection of theirs has taken over.
    pub recovered_events: u64,
    pub taken_over: u64,
    /// Remembered events that went before their time, because there was no room for them.
    pub recovery_evicted: u64,
    /// From a session's opening to its first accepted CONNECT, in milliseconds.
    pub handshakes: Histogram,
    /// Turns, in microseconds, and what the kernel had completed for each.
    pub turns: Histogram,
    pub completions: Histogram,
    recoveries: Counts<{ Recovered::ALL.len() }>,
    /// From when a kept event was queued to its receipt, in milliseconds.
    pub receipts: Histogram,
    kept: Counts<{ KeptEnd::ALL.len() }>,
    acks: Counts<{ AckEnd::ALL.len() }>,
    hits: Counts<{ Limit::ALL.len() }>,
    refusals: Counts<{ RefusalReason::ALL.len() }>,
    faults: Counts<{ PacketFault::COUNT }>,
    broken: Counts<{ Broken::ALL.len() }>,
    unknown_sids: Counts<{ UnknownSid::ALL.len() }>,
    closed: Counts<{ CloseReason::ALL.len() }>,
}

portable!(struct Counters {
    bytes_in, bytes_out, bytes_copied, opened, connects_accepted, messages_in, delivered, volatile_dropped,
    connects_delayed, duplicates, origins_refused, malformed, descriptors_short, idlers_closed, late_turns,
    pardoned, moved_in, subscriptions_late, subscriptions_unawaited, recovered_events, taken_over, recovery_evicted,
    handshakes, turns, completions, recoveries, receipts, kept, acks, hits, refusals, faults, broken, unknown_sids,
    closed,
});

impl Counters {
    pub fn count_close(&mut self, reason: CloseReason) {
        self.closed.add(reason as usize);
    }

    /// A CONNECT was refused.
    pub fn count_refusal(&mut self, reason: RefusalReason) {
        self.refusals.add(reason as usize);
    }

    /// CONNECTs that were refused for this reason.
    pub fn refused(&self, reason: RefusalReason) -> u64 {
        self.refusals.of(reason as usize)
    }

    /// A client came back with a `pid`.
    pub fn count_recovery(&mut self, result: Recovered) {
        self.recoveries.add(result as usize);
    }

    /// CONNECTs with a `pid` that ended so.
    pub fn recoveries(&self, result: Recovered) -> u64 {
        self.recoveries.of(result as usize)
    }

    /// A frame or a packet ended its client.
    pub fn count_fault(&mut self, fault: PacketFault) {
        self.faults.add(fault.index());
    }

    /// Frames and packets that ended their clients so.
    pub fn faults(&self, fault: PacketFault) -> u64 {
        self.faults.of(fault.index())
    }

    /// A connection broke.
    pub fn count_broken(&mut self, broken: Broken) {
        self.broken.add(broken.index());
    }

    /// Connections that broke so.
    pub fn broken(&self, broken: Broken) -> u64 {
        self.broken.of(broken.index())
    }

    /// A request named a session that there is not.
    pub fn count_unknown_sid(&mut self, reason: UnknownSid) {
        self.unknown_sids.add(reason as usize);
    }

    /// Requests of sessions that were unknown for this reason.
    pub fn unknown_sids(&self, reason: UnknownSid) -> u64 {
        self.unknown_sids.of(reason as usize)
    }

    /// So many acknowledgements and receipts came to this end.
    pub(super) fn count_acks(&mut self, end: AckEnd, count: u64) {
        self.acks.add_several(end as usize, count);
    }

    /// Those that came to it.
    pub fn acks(&self, end: AckEnd) -> u64 {
        self.acks.of(end as usize)
    }

    /// So many kept events came to this end.
    pub(super) fn count_kept(&mut self, end: KeptEnd, count: u64) {
        self.kept.add_several(end as usize, count);
    }

    /// Events that came to this end.
    pub fn kept(&self, end: KeptEnd) -> u64 {
        self.kept.of(end as usize)
    }

    /// A peer has reached a limit.
    pub fn hit(&mut self, limit: Limit) {
        self.hits.add(limit as usize);
    }

    /// How often a limit was reached.
    pub fn hits(&self, limit: Limit) -> u64 {
        self.hits.of(limit as usize)
    }

    /// Sessions that ended for this reason.
    pub fn closed(&self, reason: CloseReason) -> u64 {
        self.closed.of(reason as usize)
    }
}

/// How an event that was to be kept is kept no more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeptEnd {
    Received,
    Expired,
    /// There was no room for it.
    Refused,
    /// Taken back.
    Deleted,
    /// A newer one came under its key.
    Replaced,
}

impl KeptEnd {
    pub const ALL: [KeptEnd; 5] =
        [KeptEnd::Received, KeptEnd::Expired, KeptEnd::Refused, KeptEnd::Deleted, KeptEnd::Replaced];

    /// The metric's label.
    pub fn label(self) -> &'static str {
        match self {
            KeptEnd::Received => "received",
            KeptEnd::Expired => "expired",
            KeptEnd::Refused => "refused",
            KeptEnd::Deleted => "deleted",
            KeptEnd::Replaced => "replaced",
        }
    }
}

/// How a socket is waited for no more that was to call back, or to receive something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AckEnd {
    Received,
    TimedOut,
    /// It ended.
    Gone,
}

impl AckEnd {
    pub const ALL: [AckEnd; 3] = [AckEnd::Received, AckEnd::TimedOut, AckEnd::Gone];

    /// The metric's label.
    pub fn label(self) -> &'static str {
        match self {
            AckEnd::Received => "received",
            AckEnd::TimedOut => "timed_out",
            AckEnd::Gone => "gone",
        }
    }
}

/// A number for each fault: an array with a default, which the language has up to 32.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Counts<const LABELS: usize>([u64; LABELS]);

impl<const LABELS: usize> Portable for Counts<LABELS> {
    const FORM: u64 = <[u64; LABELS]>::FORM;

    fn pack(&self, out: &mut Packer) {
        self.0.pack(out);
    }

    fn unpack(from: &mut Unpacker<'_>) -> Result<Counts<LABELS>, Unreadable> {
        Portable::unpack(from).map(Counts)
    }
}

impl<const LABELS: usize> Counts<LABELS> {
    #[inline]
    fn add(&mut self, place: usize) {
        self.add_several(place, 1);
    }

    /// A label has its place: enums are counted by their own number of variants.
    #[inline]
    fn add_several(&mut self, place: usize, several: u64) {
        debug_assert!(place < LABELS);
        if let Some(count) = self.0.get_mut(place) {
            *count += several;
        }
    }

    fn of(&self, place: usize) -> u64 {
        self.0.get(place).copied().unwrap_or(0)
    }
}

impl<const LABELS: usize> Default for Counts<LABELS> {
    fn default() -> Counts<LABELS> {
        Counts([0; LABELS])
    }
}

/// How many values fell between powers of four: up to 1, 4, 16 and so on, and beyond.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Histogram {
    buckets: [u64; Histogram::BOUNDS + 1],
    sum: u64,
}

portable!(struct Histogram { buckets, sum });

impl Histogram {
    /// The bounds are 4^0 to 4^10, about a million.
    pub const BOUNDS: usize = 11;

    pub fn observe(&mut self, value: u64) {
        let bits = u64::BITS - value.saturating_sub(1).leading_zeros();
        let bucket = (bits.div_ceil(2) as usize).min(Histogram::BOUNDS);
        if let Some(count) = self.buckets.get_mut(bucket) {
            *count += 1;
        }
        self.sum += value;
    }

    pub fn sum(&self) -> u64 {
        self.sum
    }

    /// Each bound with the number of values up to it that are beyond the bound before; the last has no bound.
    pub fn buckets(&self) -> impl Iterator<Item = (Option<u64>, u64)> + '_ {
        let bounds = (0..Histogram::BOUNDS).map(|power| Some(1 << (2 * power))).chain([None]);
        bounds.zip(self.buckets)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_falls_into_the_first_bucket_that_holds_it() {
        for (value, bound) in [
            (0, Some(1)),
            (1, Some(1)),
            (2, Some(4)),
            (4, Some(4)),
            (5, Some(16)),
            (1 << 20, Some(1 << 20)),
            ((1 << 20) + 1, None),
            (u64::MAX, None),
        ] {
            let mut histogram = Histogram::default();
            histogram.observe(value);
            let filled: Vec<_> = histogram.buckets().filter(|(_, count)| *count > 0).collect();
            assert_eq!(filled, [(bound, 1)], "{value}");
        }
    }
}
