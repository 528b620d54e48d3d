//! `Pace`: how busy a worker is, and whether it pays to wait for more completions before the next turn. No clock in here.
//!
//! Each wake-up of a sleeping worker costs system calls and a walk through the runtime. While completions come in quick
//! succession, a short wait within the ring lets many of them share one. Mail and the tasks of the core have to wait along,
//! so a worker that gets mail does not do it.

use std::time::{Duration, Instant};

/// How long a wait within the ring may take: what it adds to a latency at the most.
const WAIT_MAX: Duration = Duration::from_micros(200);
/// Within this share of `WAIT_MAX` the completions that are waited for should be there.
const WAIT_SHARE: f64 = 0.5;
/// Completions that are worth a wait, and that fit into one turn well.
const WANT_MIN: u32 = 3;
const WANT_MAX: u32 = 256;
/// Over this time completions are counted.
const WINDOW: Duration = Duration::from_millis(1);
/// What was counted longer ago says nothing of now.
const STALE: Duration = Duration::from_millis(4);

/// A wait within the ring: until so many completions are there, or so much time has passed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Wait {
    pub(super) want: u32,
    pub(super) timeout: Duration,
}

/// What a worker had to do lately.
#[derive(Debug)]
pub(super) struct Pace {
    since: Instant,
    completions: u32,
    letters: u32,
    /// Completions in a second, of the last full window; 0 if there was mail in it.
    rate: f64,
}

impl Pace {
    pub(super) fn new(now: Instant) -> Pace {
        Pace { since: now, completions: 0, letters: 0, rate: 0.0 }
    }

    /// A turn has ended that handled so much.
    pub(super) fn on_turn(&mut self, now: Instant, completions: usize, letters: usize) {
        self.completions = self.completions.saturating_add(u32::try_from(completions).unwrap_or(u32::MAX));
        self.letters = self.letters.saturating_add(u32::try_from(letters).unwrap_or(u32::MAX));
        let window = now - self.since;
        if window < WINDOW {
            return;
        }
        let is_calm = self.letters == 0 && window < STALE;
        self.rate = if is_calm { f64::from(self.completions) / window.as_secs_f64() } else { 0.0 };
        (self.since, self.completions, self.letters) = (now, 0, 0);
    }

    /// The wait that pays now, when there is nothing to do; it ends before `deadline`.
    pub(super) fn wait(&self, now: Instant, deadline: Option<Instant>) -> Option<Wait> {
        if self.letters > 0 || now - self.since > STALE {
            return None;
        }
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it is clamped, and not negative")]
        let want = (self.rate * WAIT_MAX.as_secs_f64() * WAIT_SHARE) as u32;
        if want < WANT_MIN {
            return None;
        }
        let left = deadline.map_or(WAIT_MAX, |deadline| deadline.saturating_duration_since(now));
        (!left.is_zero()).then_some(Wait { want: want.min(WANT_MAX), timeout: left.min(WAIT_MAX) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STEP: Duration = Duration::from_micros(100);

    /// Turns every 100 us with so many completions and letters, for 2 ms.
    fn turned(completions: usize, letters: usize) -> (Pace, Instant) {
        let begun = Instant::now();
        let mut pace = Pace::new(begun);
        for turn in 1..=20 {
            pace.on_turn(begun + turn * STEP, completions, letters);
        }
        (pace, begun + 20 * STEP)
    }

    #[test]
    fn only_a_busy_worker_without_mail_waits() {
        let (pace, now) = turned(100, 0);
        assert_eq!(pace.wait(now, None), Some(Wait { want: 100, timeout: WAIT_MAX }));
        let (pace, now) = turned(10_000, 0);
        assert_eq!(pace.wait(now, None).map(|wait| wait.want), Some(WANT_MAX));
        for (completions, letters) in [(2, 0), (0, 0), (100, 1)] {
            let (pace, now) = turned(completions, letters);
            assert_eq!(pace.wait(now, None), None, "{completions} completions, {letters} letters");
        }
        // A letter of this very window.
        let (mut pace, now) = turned(100, 0);
        pace.on_turn(now + STEP, 100, 1);
        assert_eq!(pace.wait(now + STEP, None), None);
    }

    #[test]
    fn a_wait_ends_before_the_next_deadline_and_old_counts_do_not_matter() {
        let (pace, now) = turned(100, 0);
        assert_eq!(pace.wait(now, Some(now + STEP)).map(|wait| wait.timeout), Some(STEP));
        assert_eq!(pace.wait(now, Some(now)), None);
        assert_eq!(pace.wait(now + 2 * STALE, None), None);
        let (mut pace, now) = turned(100, 0);
        pace.on_turn(now + 2 * STALE, 100, 0);
        assert_eq!(pace.wait(now + 2 * STALE, None), None, "they came slowly");
    }
}
