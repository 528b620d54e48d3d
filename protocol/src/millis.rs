//! `Millis`: a point in time, in milliseconds since an origin that only the caller knows.

use core::ops::{Add, Sub};
use core::time::Duration;

/// A point on the caller's monotonic clock, in milliseconds since the caller's own origin.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
#[cfg_attr(feature = "arbitrary", derive(arbitrary::Arbitrary))]
pub struct Millis(pub u64);

impl Millis {
    /// Later than every deadline: "never".
    pub const NEVER: Millis = Millis(u64::MAX);
}

impl From<Duration> for Millis {
    /// `Millis::from(begun.elapsed())` is the clock of a program that runs less than half a billion years.
    fn from(since_origin: Duration) -> Millis {
        Millis(u64::try_from(since_origin.as_millis()).unwrap_or(u64::MAX))
    }
}

impl Add<u64> for Millis {
    type Output = Millis;

    fn add(self, milliseconds: u64) -> Millis {
        Millis(self.0.saturating_add(milliseconds))
    }
}

impl Sub for Millis {
    type Output = u64;

    /// Milliseconds from `earlier` to `self`; 0 if `earlier` is not earlier.
    fn sub(self, earlier: Millis) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}
