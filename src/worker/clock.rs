//! What time it is, and how much of it a thread has had. Only workers look.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rustix::time::{ClockId, clock_gettime};
use sockring_protocol::Millis;

use crate::shard::Now;

/// The monotonic clock as milliseconds, and the wall clock.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    origin: Instant,
}

impl Default for Clock {
    /// A clock that begins now.
    fn default() -> Clock {
        Clock { origin: Instant::now() }
    }
}

impl Clock {
    /// The time, as shards count it.
    pub fn at(&self) -> Millis {
        Millis(as_millis(self.origin.elapsed()))
    }

    pub(super) fn now(&self) -> Now {
        let unix = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Now { at: self.at(), unix_ms: as_millis(unix) }
    }

    pub(super) fn instant(&self, at: Millis) -> Instant {
        self.origin + Duration::from_millis(at.0)
    }
}

/// How long this thread has had a processor.
pub(super) fn thread_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::try_from(time).unwrap_or_default()
}

pub(super) fn as_micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

pub(super) fn as_millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
