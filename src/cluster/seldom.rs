//! `Seldom`: what is logged once in a while, however often it happens; it is counted each time.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

const TOLD_EVERY: Duration = Duration::from_secs(60);

/// When the log last told of one thing.
#[derive(Debug, Default)]
pub(super) struct Seldom(Mutex<Option<Instant>>);

impl Seldom {
    /// Whether to tell of it now; then it was told.
    pub(super) fn is_due(&self, now: Instant) -> bool {
        let mut told_at = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let is_due = told_at.is_none_or(|at| now.duration_since(at) >= TOLD_EVERY);
        if is_due {
            *told_at = Some(now);
        }
        is_due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_log_tells_once_in_a_while() {
        let (seldom, now) = (Seldom::default(), Instant::now());
        let times = [now, now + TOLD_EVERY / 2, now + TOLD_EVERY, now + TOLD_EVERY * 3 / 2];
        assert_eq!(times.map(|now| seldom.is_due(now)), [true, false, true, false]);
    }
}
