//! Pauses: workers that do not turn for seconds, while the network and everybody on it goes on.

use super::World;

/// Who does not turn, and from when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Paused {
    /// The process is stopped.
    Everybody,
    /// One worker is not scheduled.
    Worker(usize),
    /// One worker's turn takes so long: what it does by itself leaves only then.
    Turn(usize),
}

/// A pause that is to come.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pause {
    pub(super) at: u64,
    pub(super) for_ms: u64,
    pub(super) who: Paused,
}

impl World {
    /// Begins the pauses that are due. What is late for it is late by all of it, at the most.
    pub(super) fn begin_pauses(&mut self) {
        while let Some(due) = self.pauses.iter().position(|pause| pause.at <= self.now) {
            let Pause { for_ms, who, .. } = self.pauses.swap_remove(due);
            self.trace(|| format!("{who:?} pauses for {for_ms} ms"));
            self.record.borrow_mut().late_ms += for_ms;
            let until = self.now + for_ms;
            for (shard, seat) in self.seats.iter_mut().enumerate() {
                match who {
                    Paused::Turn(other) if other == shard => seat.slow_until = seat.slow_until.max(until),
                    Paused::Everybody => seat.paused_until = seat.paused_until.max(until),
                    Paused::Worker(other) if other == shard => seat.paused_until = seat.paused_until.max(until),
                    _ => {}
                }
            }
        }
    }
}
