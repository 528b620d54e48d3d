//! `Line`: one end of a stream of bytes between two instances over messages that may be lost: what was sent and not received is
//! sent again, and no more is sent than the other end has room for. No I/O and no clock.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;

use crate::shard::Instance;

use super::segment::{LineEnd, Purpose, Segment, Visitor};

/// What may be on its way, and wait at the other end to be read.
pub(super) const WINDOW_BYTES: usize = 64 << 10;
/// Bytes of one segment.
const SEGMENT_BYTES_MAX: usize = 16 << 10;
/// Time for what is received to be confirmed by what is sent anyway.
const CONFIRMED_WITHIN: Duration = Duration::from_millis(40);
/// What is not confirmed in this time, or twice that, and so on, is sent again.
const SENT_AGAIN_AFTER: Duration = Duration::from_millis(500);
const SENT_AGAIN_AFTER_MOST: Duration = Duration::from_secs(2);
/// An end that says nothing for so long while something is wanted of it is gone.
pub(super) const SILENCE_MAX: Duration = Duration::from_secs(20);

/// Why a line does not go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Torn {
    /// The other end does not know it, or has given it up.
    Reset,
    /// Nothing was heard of the other end for too long.
    Silent,
    /// The other end sends what it may not.
    Wrong,
}

/// One end of a line.
#[derive(Debug)]
pub(super) struct Line {
    here: Instance,
    end: LineEnd,
    number: u64,
    /// At the opener's end, until the other one was heard.
    opens: Option<Visitor>,
    /// What was not confirmed; its first byte is at `confirmed`.
    unconfirmed: VecDeque<u8>,
    confirmed: u64,
    /// Up to here it was sent.
    sent: u64,
    /// There will be no more, and this is where it ends.
    ends_at: Option<u64>,
    credit: u64,
    received: u64,
    /// Of these, what was read here.
    consumed: u64,
    /// The other end's last byte has come.
    is_received: bool,
    told_credit: u64,
    confirm_at: Option<Instant>,
    again_at: Option<Instant>,
    attempts: u32,
    /// Since when something is wanted of the other end, which has not been heard since.
    waits_since: Option<Instant>,
    asks: bool,
}

impl Line {
    pub(super) fn new(here: Instance, end: LineEnd, number: u64, opens: Option<Visitor>) -> Line {
        Line {
            here,
            end,
            number,
            opens,
            unconfirmed: VecDeque::new(),
            confirmed: 0,
            sent: 0,
            ends_at: None,
            credit: WINDOW_BYTES as u64,
            received: 0,
            consumed: 0,
            is_received: false,
            told_credit: WINDOW_BYTES as u64,
            confirm_at: None,
            again_at: None,
            attempts: 0,
            waits_since: None,
            asks: false,
        }
    }

    /// Bytes that may be pushed.
    pub(super) fn room(&self) -> usize {
        match self.ends_at {
            None => WINDOW_BYTES.saturating_sub(self.unconfirmed.len()),
            Some(_) => 0,
        }
    }

    pub(super) fn push(&mut self, bytes: &[u8]) {
        self.unconfirmed.extend(bytes);
    }

    /// Nothing more will be pushed.
    pub(super) fn finish(&mut self) {
        self.ends_at.get_or_insert(self.confirmed + self.unconfirmed.len() as u64);
    }

    /// So many of the bytes that came were taken away.
    pub(super) fn consume(&mut self, bytes: usize, now: Instant) {
        self.consumed += bytes as u64;
        if self.consumed + WINDOW_BYTES as u64 >= self.told_credit + WINDOW_BYTES as u64 / 2 {
            self.confirm_at = Some(now);
        }
    }

    /// All bytes of the other end have come.
    pub(super) fn has_received_all(&self) -> bool {
        self.is_received
    }

    /// Both ends have all of each other.
    pub(super) fn is_over(&self) -> bool {
        self.is_received && self.ends_at.is_some_and(|end| self.confirmed > end)
    }

    /// Takes a segment of the other end; says which bytes come next.
    pub(super) fn receive(&mut self, segment: Segment, now: Instant) -> Result<Vec<u8>, Torn> {
        if segment.purpose == Purpose::Reset {
            return Err(Torn::Reset);
        }
        self.opens = None;
        self.credit = self.credit.max(segment.credit);
        self.confirm(segment.received)?;
        self.waits_since = self.again_at.map(|_| now);
        if segment.asks {
            self.confirm_at = Some(now);
        }
        if segment.bytes.is_empty() && segment.purpose != Purpose::Finish {
            return Ok(Vec::new());
        }
        let behind = segment.offset + segment.bytes.len() as u64;
        let Some(known) =
            self.received.checked_sub(segment.offset).filter(|_| behind >= self.received && !self.is_received)
        else {
            // What came twice, or behind something that was lost: the other end is to hear where we are.
            self.confirm_at = Some(now);
            return Ok(Vec::new());
        };
        let mut bytes = segment.bytes;
        bytes.drain(..usize::try_from(known).unwrap_or(usize::MAX).min(bytes.len()));
        self.received = behind;
        if self.received - self.consumed > WINDOW_BYTES as u64 {
            return Err(Torn::Wrong);
        }
        let is_last = segment.purpose == Purpose::Finish;
        self.is_received = is_last;
        self.received += u64::from(is_last);
        let by = if is_last { now } else { now + CONFIRMED_WITHIN };
        self.confirm_at = Some(self.confirm_at.map_or(by, |at| at.min(by)));
        Ok(bytes)
    }

    /// The other end has got so much.
    fn confirm(&mut self, received: u64) -> Result<(), Torn> {
        let Some(more) = received.checked_sub(self.confirmed).filter(|more| *more > 0) else { return Ok(()) };
        let end = self.confirmed + self.unconfirmed.len() as u64;
        if received > end + u64::from(self.ends_at.is_some()) {
            return Err(Torn::Wrong);
        }
        let bytes = usize::try_from(more).unwrap_or(usize::MAX).min(self.unconfirmed.len());
        self.unconfirmed.drain(..bytes);
        self.confirmed = received;
        self.sent = self.sent.max(received);
        self.attempts = 0;
        self.again_at = None;
        Ok(())
    }

    /// What is to be sent now, if anything is.
    pub(super) fn next(&mut self, now: Instant) -> Result<Option<Segment>, Torn> {
        if self.waits_since.is_some_and(|since| now >= since + SILENCE_MAX) {
            return Err(Torn::Silent);
        }
        if self.again_at.is_some_and(|at| now >= at) {
            self.sent = self.confirmed;
            self.attempts += 1;
            self.again_at = None;
            // Where there is no room for anything, a question goes instead.
            self.asks = true;
        }
        let (offset, end) = (self.sent, self.confirmed + self.unconfirmed.len() as u64);
        let until = end.min(self.credit).min(offset + SEGMENT_BYTES_MAX as u64).max(offset);
        let is_last = self.ends_at == Some(until) && self.sent <= until;
        let is_new = until > offset || is_last;
        let is_due = self.confirm_at.is_some_and(|at| now >= at);
        self.see_to_waiting(now, end);
        if !is_new && !is_due && !self.asks {
            return Ok(None);
        }
        self.sent = until + u64::from(is_last);
        let from = usize::try_from(offset - self.confirmed.min(offset)).unwrap_or(usize::MAX);
        let count = usize::try_from(until - offset).unwrap_or(0);
        self.confirm_at = None;
        self.told_credit = self.consumed + WINDOW_BYTES as u64;
        Ok(Some(Segment {
            from: self.here,
            end: self.end,
            line: self.number,
            purpose: if is_last { Purpose::Finish } else { Purpose::Carry },
            asks: std::mem::take(&mut self.asks),
            opens: self.opens,
            offset,
            received: self.received,
            credit: self.told_credit,
            bytes: self.unconfirmed.iter().skip(from).take(count).copied().collect(),
        }))
    }

    /// What is on its way, or has no room at the other end, is seen to later.
    fn see_to_waiting(&mut self, now: Instant, end: u64) {
        let is_waiting = end > self.confirmed || self.ends_at.is_some_and(|end| self.confirmed <= end);
        if !is_waiting {
            self.again_at = None;
            self.waits_since = None;
        } else if self.again_at.is_none() {
            let after = SENT_AGAIN_AFTER * 2_u32.saturating_pow(self.attempts);
            self.again_at = Some(now + after.min(SENT_AGAIN_AFTER_MOST));
            self.waits_since.get_or_insert(now);
        }
    }

    /// When `next` is to be asked again, though nothing happens.
    pub(super) fn deadline(&self) -> Option<Instant> {
        let silent_at = self.waits_since.map(|since| since + SILENCE_MAX);
        [self.confirm_at, self.again_at, silent_at].into_iter().flatten().min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two ends, and what is on its way between them.
    struct Pair {
        ends: [Line; 2],
        got: [Vec<u8>; 2],
        now: Instant,
        chance: u64,
    }

    impl Pair {
        fn new(seed: u64) -> Pair {
            let visitor = Visitor { shard: 0, address: None };
            let end = |end, opens| Line::new(Instance::new(1), end, 5, opens);
            let ends = [end(LineEnd::Opener, Some(visitor)), end(LineEnd::Owner, None)];
            Pair { ends, got: Default::default(), now: Instant::now(), chance: seed * 2 + 1 }
        }

        fn one_in(&mut self, of: u64) -> bool {
            self.chance = self.chance.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            of > 0 && (self.chance >> 33).is_multiple_of(of)
        }

        /// Sends what there is to send, of which one in so many is lost, and reads at most so much; then time goes on.
        fn step(&mut self, lost_one_in: u64, read_max: usize) -> Result<(), Torn> {
            for from in [0, 1] {
                while let Some(segment) = self.ends[from].next(self.now)? {
                    assert!(segment.bytes.len() <= SEGMENT_BYTES_MAX);
                    if !self.one_in(lost_one_in) {
                        let segment = Segment::decode(&segment.encode()).unwrap();
                        let bytes = self.ends[1 - from].receive(segment, self.now)?;
                        self.got[1 - from].extend(bytes);
                    }
                }
            }
            for end in [0, 1] {
                let waiting = self.got[end].len() as u64 - self.ends[end].consumed;
                self.ends[end].consume(read_max.min(usize::try_from(waiting).unwrap()), self.now);
            }
            let deadline = self.ends.iter().filter_map(Line::deadline).min();
            self.now = deadline.unwrap_or(self.now).max(self.now + Duration::from_millis(1));
            Ok(())
        }
    }

    fn bytes(count: usize) -> Vec<u8> {
        (0..count).map(|number| u8::try_from(number % 251).unwrap()).collect()
    }

    #[test]
    fn all_bytes_come_once_and_in_order_whatever_is_lost() {
        for seed in 0..60 {
            let mut pair = Pair::new(seed);
            let sent = [bytes(300_000), bytes(7_000)];
            let mut pushed = [0, 0];
            for _ in 0..5_000 {
                for end in [0, 1] {
                    let count = pair.ends[end].room().min(sent[end].len() - pushed[end]).min(40_000);
                    pair.ends[end].push(&sent[end][pushed[end]..pushed[end] + count]);
                    pushed[end] += count;
                    if pushed[end] == sent[end].len() {
                        pair.ends[end].finish();
                    }
                }
                pair.step([0, 5, 9, 30][seed as usize % 4], [1_000, 30_000, usize::MAX][seed as usize % 3]).unwrap();
                if pair.ends.iter().all(Line::is_over) {
                    break;
                }
            }
            assert!(pair.got[0] == sent[1] && pair.got[1] == sent[0], "seed {seed}");
            assert!(pair.ends.iter().all(|end| end.is_over() || end.has_received_all()), "seed {seed}");
        }
    }

    #[test]
    fn no_more_is_sent_than_there_is_room_for_until_some_is_read() {
        let mut pair = Pair::new(1);
        pair.ends[0].push(&bytes(WINDOW_BYTES));
        for _ in 0..50 {
            pair.step(0, 0).unwrap();
        }
        assert_eq!((pair.got[1].len(), pair.ends[0].room()), (WINDOW_BYTES, WINDOW_BYTES));
        pair.ends[0].push(b"more");
        for _ in 0..50 {
            pair.step(0, 0).unwrap();
        }
        assert_eq!(pair.got[1].len(), WINDOW_BYTES, "there is no room for it");
        for _ in 0..5 {
            pair.step(0, usize::MAX).unwrap();
        }
        assert_eq!(pair.got[1].len(), WINDOW_BYTES + 4);
    }

    #[test]
    fn an_end_that_is_not_heard_of_is_given_up() {
        let mut line = Line::new(Instance::new(1), LineEnd::Opener, 5, Some(Visitor { shard: 0, address: None }));
        line.push(b"GET");
        let begun = Instant::now();
        let (mut now, mut sent) = (begun, 0);
        let torn = loop {
            match line.next(now) {
                Ok(Some(segment)) => {
                    assert!(segment.opens.is_some(), "nobody has heard of it");
                    sent += 1;
                }
                Ok(None) => now = line.deadline().unwrap(),
                Err(torn) => break torn,
            }
        };
        assert_eq!((torn, now - begun), (Torn::Silent, SILENCE_MAX));
        assert!((5..20).contains(&sent), "{sent}");
    }

    #[test]
    fn a_peer_that_breaks_the_rules_is_cut_off() {
        let now = Instant::now();
        let segment = |bytes: usize, received| Segment {
            purpose: Purpose::Carry,
            received,
            bytes: vec![0; bytes],
            ..Segment::reset(Instance::new(2), LineEnd::Owner, 5)
        };
        let line = || Line::new(Instance::new(1), LineEnd::Opener, 5, None);
        assert_eq!(line().receive(segment(WINDOW_BYTES + 1, 0), now), Err(Torn::Wrong));
        assert_eq!(line().receive(segment(0, 1), now), Err(Torn::Wrong), "nothing was sent");
        assert_eq!(line().receive(Segment::reset(Instance::new(2), LineEnd::Owner, 5), now), Err(Torn::Reset));
        assert!(line().receive(segment(WINDOW_BYTES, 0), now).is_ok());
    }
}
