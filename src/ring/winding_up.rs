//! The end of a ring: whatever is under way is cancelled and awaited, so that the memory that it names may go.

use std::time::{Duration, Instant};

use super::Ring;

/// The kernel lets go of cancelled operations at once; one that it does not let go of in this time keeps its memory.
const PATIENCE: Duration = Duration::from_secs(1);

impl Drop for Ring {
    fn drop(&mut self) {
        let until = Instant::now() + PATIENCE;
        let mut is_over = true;
        for lane in &mut self.lanes {
            if !lane.wind_up(until) {
                lane.buffers.leak();
                is_over = false;
            }
        }
        if !is_over {
            self.flight.leak();
        }
    }
}
