//! The end of a ring: whatever is under way is cancelled and awaited, so that the memory that it names may go.

use std::time::{Duration, Instant};

use io_uring::{cqueue, opcode, types};

use super::token::{Operation, pack, unpack};
use super::{Ring, Token, accepted};

/// The kernel lets go of cancelled operations at once; one that it does not let go of in this time keeps its memory.
const PATIENCE: Duration = Duration::from_secs(1);
/// After which it is asked again: what was about to run was not found.
const AGAIN_AFTER: Duration = Duration::from_millis(10);

impl Ring {
    /// Ends all operations. `false`: the kernel may still use the memory that they name.
    pub(super) fn wind_up(&mut self) -> bool {
        self.under_way -= self.backlog.clear();
        let until = Instant::now() + PATIENCE;
        while self.under_way > 0 {
            let all = opcode::AsyncCancel2::new(types::CancelBuilder::any()).build();
            self.queue(all.user_data(pack(Operation::Cancel, Token { index: 0, generation: 0 })));
            let time = types::Timespec::from(AGAIN_AFTER);
            let arguments = types::SubmitArgs::new().timespec(&time);
            // However it ends: what counts is which completions came.
            let _ = self.uring.submitter().submit_with_args(self.under_way, &arguments);
            while let Some(entry) = self.uring.completion().next() {
                self.under_way -= usize::from(!cqueue::more(entry.flags()));
                if let Some((Operation::Accept, _)) = unpack(entry.user_data()) {
                    // Nobody is left to serve it.
                    drop(accepted(entry.result()));
                }
            }
            if Instant::now() > until {
                return false;
            }
        }
        true
    }
}
