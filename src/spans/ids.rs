//! Ids of spans and traces, and which of the traces that begin here are recorded.

use std::sync::atomic::{AtomicU64, Ordering};

/// SplitMix64: every number once, in an order that nobody sees a pattern in. Ids have to differ, not to be secret, and one
/// of the operating system's would be a system call for each.
const STEP: u64 = 0x9e37_79b9_7f4a_7c15;

#[derive(Debug)]
pub(super) struct Ids {
    /// What ids of traces begin with differs by more than their own half.
    high: u64,
    next: AtomicU64,
}

impl Ids {
    pub(super) fn new(seed: u128) -> Ids {
        let [high, next] = [seed >> 64, seed & u128::from(u64::MAX)].map(|half| u64::try_from(half).unwrap_or(0));
        Ids { high, next: AtomicU64::new(next) }
    }

    /// Of a span; never 0.
    pub(super) fn span(&self) -> u64 {
        loop {
            let id = mixed(self.next.fetch_add(STEP, Ordering::Relaxed));
            if id != 0 {
                return id;
            }
        }
    }

    /// Of a trace; never 0.
    pub(super) fn trace(&self) -> u128 {
        let low = self.span();
        u128::from(mixed(self.high ^ low)) << 64 | u128::from(low)
    }
}

fn mixed(number: u64) -> u64 {
    let number = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let number = (number ^ (number >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    number ^ (number >> 31)
}

/// A part of all traces, by their ids: of whoever decides by the same ratio it is the same part (`TraceIdRatioBased`).
#[derive(Clone, Copy, Debug)]
pub(super) struct Ratio {
    below: u64,
}

/// What the last eight bytes of an id are without their first bit, at the most.
const RANGE: f64 = (1u64 << 63) as f64;

impl Ratio {
    pub(super) fn new(ratio: f64) -> Ratio {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a cast ends at the bounds of u64, and makes 0 of what is no number"
        )]
        let below = (ratio * RANGE) as u64;
        Ratio { below }
    }

    pub(super) fn takes(self, trace: u128) -> bool {
        let low = u64::try_from(trace & u128::from(u64::MAX >> 1)).unwrap_or(0);
        low < self.below
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn ids_differ_and_are_not_0() {
        // The 0 of the mixing is the id that may not be.
        let ids = Ids::new(1 << 64);
        let mut seen = HashSet::from([0]);
        assert!((0..10_000).all(|_| seen.insert(u128::from(ids.span()))));
        assert!((0..10_000).all(|_| seen.insert(ids.trace())));
    }

    #[test]
    fn about_so_many_are_recorded() {
        let ids = Ids::new(3);
        for (ratio, expected) in [(0.0, 0..1), (0.1, 800..1200), (0.5, 4700..5300), (1.0, 10_000..10_001)] {
            let taken = (0..10_000).filter(|_| Ratio::new(ratio).takes(ids.trace())).count();
            assert!(expected.contains(&taken), "{ratio}: {taken}");
        }
    }
}
