//! `Pace`: how busy a worker is, and whether it pays to wait for more arrivals before the next turn. No clock in here.
//!
//! Each wake-up of a sleeping worker costs system calls, a switch of threads and cold caches. While frames come in quick
//! succession, a short wait within the ring lets many of them share one. Mail and the tasks of the core have to wait along,
//! so a worker that gets mail does not do it.

use std::time::{Duration, Instant};

/// How long the arrivals of a wait should take, for a worker with nothing to do and for one always at work: the less time is
/// left, the more a wake-up has to be worth.
const SPAN_MIN: Duration = Duration::from_micros(50);
const SPAN_MAX: Duration = Duration::from_micros(500);
/// A wait ends after so many spans.
const SPANS_MAX: u32 = 2;
/// What a wait adds to a latency at the most.
const WAIT_MAX: Duration = Duration::from_micros(500);
/// Arrivals that are worth a wait, and that fit into one turn well.
const WANT_MIN: u32 = 2;
const WANT_MAX: u32 = 256;
/// Of a worker's connections, who may be waited for: clients that send when they are answered do not while all wait.
const WANT_SHARE: f64 = 0.75;
/// Over this time arrivals are counted.
const WINDOW: Duration = Duration::from_millis(1);
/// What was counted longer ago says nothing of now.
const STALE: Duration = Duration::from_millis(4);

/// A wait within the ring: until so many completions are there, or so much time has passed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Wait {
    pub(super) want: u32,
    pub(super) timeout: Duration,
}

/// What came to a worker lately, and how much of its time that took.
#[derive(Debug)]
pub(super) struct Pace {
    since: Instant,
    arrivals: u32,
    letters: u32,
    /// Processor time of the thread when the window began.
    worked: Duration,
    /// Arrivals in a second, of the last full window; 0 if there was mail in it.
    rate: f64,
    /// In which time the arrivals of a wait should come.
    span: Duration,
}

impl Pace {
    pub(super) fn new(now: Instant) -> Pace {
        Pace { since: now, arrivals: 0, letters: 0, worked: Duration::ZERO, rate: 0.0, span: SPAN_MIN }
    }

    /// A turn has ended that handled so much. `worked` tells the thread's processor time, and is asked once per window.
    pub(super) fn on_turn(&mut self, now: Instant, arrivals: usize, letters: usize, worked: impl FnOnce() -> Duration) {
        self.arrivals = self.arrivals.saturating_add(u32::try_from(arrivals).unwrap_or(u32::MAX));
        self.letters = self.letters.saturating_add(u32::try_from(letters).unwrap_or(u32::MAX));
        let window = now - self.since;
        if window < WINDOW {
            return;
        }
        let is_calm = self.letters == 0 && window < STALE;
        self.rate = if is_calm { f64::from(self.arrivals) / window.as_secs_f64() } else { 0.0 };
        let worked = worked();
        let share = worked.saturating_sub(self.worked).as_secs_f64() / window.as_secs_f64();
        self.span = SPAN_MIN + (SPAN_MAX - SPAN_MIN).mul_f64(share.min(1.0));
        (self.since, self.arrivals, self.letters, self.worked) = (now, 0, 0, worked);
    }

    /// The wait that pays now, when there is nothing to do; it ends before `deadline`.
    pub(super) fn wait(&self, now: Instant, deadline: Option<Instant>, connections: usize) -> Option<Wait> {
        if self.letters > 0 || now - self.since > STALE {
            return None;
        }
        #[expect(clippy::cast_precision_loss, reason = "descriptors are fewer")]
        let possible = connections as f64 * WANT_SHARE;
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it is clamped, and not negative")]
        let want = (self.rate * self.span.as_secs_f64()).min(possible).min(f64::from(WANT_MAX)) as u32;
        if want < WANT_MIN {
            return None;
        }
        let longest = WAIT_MAX.min(self.span * SPANS_MAX);
        let left = deadline.map_or(longest, |deadline| deadline.saturating_duration_since(now));
        (!left.is_zero()).then_some(Wait { want, timeout: left.min(longest) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STEP: Duration = Duration::from_micros(100);
    const MANY: usize = 10_000;

    /// Turns every 100 us with so many arrivals and letters, for 2 ms, of which this share was work.
    fn turned(arrivals: usize, letters: usize, share: f64) -> (Pace, Instant) {
        let begun = Instant::now();
        let mut pace = Pace::new(begun);
        for turn in 1..=20 {
            pace.on_turn(begun + turn * STEP, arrivals, letters, || (turn * STEP).mul_f64(share));
        }
        (pace, begun + 20 * STEP)
    }

    #[test]
    fn only_a_busy_worker_without_mail_waits() {
        let (pace, now) = turned(10, 0, 0.0);
        assert_eq!(pace.wait(now, None, MANY), Some(Wait { want: 5, timeout: SPAN_MIN * SPANS_MAX }));
        for (arrivals, letters) in [(3, 0), (0, 0), (100, 1)] {
            let (pace, now) = turned(arrivals, letters, 0.0);
            assert_eq!(pace.wait(now, None, MANY), None, "{arrivals} arrivals, {letters} letters");
        }
        // A letter of this very window.
        let (mut pace, now) = turned(100, 0, 0.0);
        pace.on_turn(now + STEP, 100, 1, || Duration::ZERO);
        assert_eq!(pace.wait(now + STEP, None, MANY), None);
    }

    #[test]
    fn the_more_a_worker_works_the_more_it_waits_for() {
        let (pace, now) = turned(10, 0, 0.25);
        assert_eq!(pace.wait(now, None, MANY), Some(Wait { want: 16, timeout: Duration::from_micros(325) }));
        let (pace, now) = turned(10, 0, 0.9);
        assert_eq!(pace.wait(now, None, MANY), Some(Wait { want: 45, timeout: WAIT_MAX }));
        let (pace, now) = turned(1000, 0, 1.0);
        assert_eq!(pace.wait(now, None, MANY).map(|wait| wait.want), Some(WANT_MAX));
    }

    #[test]
    fn a_wait_leaves_some_connections_out() {
        let (pace, now) = turned(1000, 0, 1.0);
        assert_eq!(pace.wait(now, None, 8).map(|wait| wait.want), Some(6));
        assert_eq!(pace.wait(now, None, 2), None);
    }

    #[test]
    fn a_wait_ends_before_the_next_deadline_and_old_counts_do_not_matter() {
        let (pace, now) = turned(100, 0, 1.0);
        assert_eq!(pace.wait(now, Some(now + STEP), MANY).map(|wait| wait.timeout), Some(STEP));
        assert_eq!(pace.wait(now, Some(now), MANY), None);
        assert_eq!(pace.wait(now + 2 * STALE, None, MANY), None);
        let (mut pace, now) = turned(100, 0, 1.0);
        pace.on_turn(now + 2 * STALE, 100, 0, || Duration::ZERO);
        assert_eq!(pace.wait(now + 2 * STALE, None, MANY), None, "they came slowly");
    }
}
