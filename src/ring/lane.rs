//! `Lane`: one io_uring of a ring: its queues, its file table and its pool of receive buffers.

use std::io;
use std::os::fd::{FromRawFd, OwnedFd, RawFd};
use std::time::{Duration, Instant};

use io_uring::{IoUring, cqueue, opcode, squeue, types};

use super::backlog::{Backlog, SubmissionQueue};
use super::buffers::Buffers;
use super::files::Files;
use super::token::{Operation, pack, unpack};
use super::{RingError, RingOptions, Token, probe};

/// What operations go into together: those of the sockets of its table, of the first lane those of all others too.
pub(super) struct Lane {
    // Dropped first: R1.
    uring: IoUring,
    pub(super) buffers: Buffers,
    /// A receive has found no buffer.
    pub(super) is_starved: bool,
    pub(super) files: Files,
    /// What the kernel has not taken yet.
    backlog: Backlog<squeue::Entry>,
    /// Operations whose last completion has still to be taken.
    under_way: usize,
    /// How many completions came lately: half of what this was before, and those of the last time that they were taken.
    pub(super) came: u32,
}

impl Lane {
    /// Sets up the lane of this number, for this thread.
    pub(super) fn new(options: &RingOptions, number: u32) -> Result<Lane, RingError> {
        let mut builder = IoUring::<squeue::Entry>::builder();
        builder.setup_cqsize(options.completions).setup_submit_all();
        builder.setup_single_issuer().setup_defer_taskrun().setup_taskrun_flag();
        let uring = builder.build(options.submissions).map_err(probe::explain)?;
        let at = |operation| {
            move |error: io::Error| match error.kind() {
                io::ErrorKind::OutOfMemory => RingError::Memory,
                _ => RingError::Setup(operation, error),
            }
        };
        uring.submitter().register_files_sparse(options.files).map_err(|error| match error.raw_os_error() {
            Some(libc::EMFILE) => RingError::Files,
            _ => at("registering the file table")(error),
        })?;
        let buffers = Buffers::register(&uring, options.buffers, options.buffer_bytes)
            .map_err(at("registering the receive buffers"))?;
        Ok(Lane {
            uring,
            buffers,
            is_starved: false,
            files: Files::of_lane(number, options.files),
            backlog: Backlog::new(),
            under_way: 0,
            came: 0,
        })
    }

    /// Signals this eventfd when completions come while signals are on.
    pub(super) fn signal(&self, event: RawFd) -> io::Result<()> {
        self.uring.submitter().register_eventfd(event)
    }

    pub(super) fn signal_on(&mut self) {
        self.uring.completion().enable_eventfd();
    }

    pub(super) fn signal_off(&mut self) {
        self.uring.completion().disable_eventfd();
    }

    /// Puts a file into a slot of the table.
    pub(super) fn fill(&self, index: u32, descriptor: RawFd) -> io::Result<()> {
        self.uring.submitter().register_files_update(index, &[descriptor]).map(drop)
    }

    pub(super) fn queue(&mut self, entry: squeue::Entry) {
        self.under_way += 1;
        self.backlog.add(entry, &mut self.uring);
    }

    /// The next completion that is there.
    pub(super) fn next(&mut self) -> Option<cqueue::Entry> {
        let entry = self.uring.completion().next()?;
        self.under_way -= usize::from(!cqueue::more(entry.flags()));
        Some(entry)
    }

    /// Completions that are there.
    pub(super) fn there(&mut self) -> u32 {
        u32::try_from(self.uring.completion().len()).unwrap_or(u32::MAX)
    }

    /// Entries that the next call submits.
    fn queued(&mut self) -> u32 {
        u32::try_from(self.uring.submission().len()).unwrap_or(u32::MAX)
    }

    /// Completions that are there, and those that submissions bring if each has one at once.
    pub(super) fn at_once(&mut self) -> u32 {
        self.there().saturating_add(self.queued())
    }

    /// Whether the kernel has put work off until the next call.
    fn has_deferred(&mut self) -> bool {
        let submission = self.uring.submission();
        submission.taskrun() || submission.cq_overflow()
    }

    pub(super) fn has_work(&mut self) -> bool {
        let is_submitted = self.uring.submission().is_empty() && self.backlog.is_empty();
        !self.uring.completion().is_empty() || !is_submitted || self.has_deferred()
    }

    /// Submits what is queued, lets in what was deferred, and waits for `want` completions. No call where there is nothing to do.
    pub(super) fn enter(&mut self, want: u32, timeout: Option<Duration>) {
        self.buffers.publish();
        self.backlog.refill(&mut self.uring);
        let queued = self.queued();
        if queued == 0 && want == 0 && !self.has_deferred() {
            return;
        }
        let result = match timeout {
            None => {
                // SAFETY: R2; no argument is passed, so no memory is named.
                unsafe { self.uring.submitter().enter::<libc::sigset_t>(queued, want, ENTER_GETEVENTS, None) }
            }
            Some(timeout) => {
                let time = types::Timespec::from(timeout);
                let arguments = types::SubmitArgs::new().timespec(&time);
                self.uring.submitter().submit_with_args(want as usize, &arguments)
            }
        };
        match result {
            Ok(_) => {}
            Err(error) => match error.raw_os_error() {
                // Time is up; interrupted; completions must be taken first: the next turn does all of that.
                Some(libc::ETIME | libc::EINTR | libc::EBUSY | libc::EAGAIN) => {}
                _ => cannot_enter(&error),
            },
        }
    }

    /// Ends all operations. `false`: the kernel may still use the memory that they name.
    pub(super) fn wind_up(&mut self, until: Instant) -> bool {
        self.under_way -= self.backlog.clear();
        while self.under_way > 0 {
            let all = opcode::AsyncCancel2::new(types::CancelBuilder::any()).build();
            self.queue(all.user_data(pack(Operation::Cancel, Token { index: 0, generation: 0 })));
            let time = types::Timespec::from(AGAIN_AFTER);
            let arguments = types::SubmitArgs::new().timespec(&time);
            // However it ends: what counts is which completions came.
            let _ = self.uring.submitter().submit_with_args(self.under_way, &arguments);
            while let Some(entry) = self.next() {
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

/// What was about to run is not found by a cancellation: so long after it is asked again.
const AGAIN_AFTER: Duration = Duration::from_millis(10);
/// IORING_ENTER_GETEVENTS
const ENTER_GETEVENTS: u32 = 1;

impl SubmissionQueue<squeue::Entry> for IoUring {
    fn push(&mut self, entry: &squeue::Entry) -> bool {
        // SAFETY: the memory that an entry names is the pool's (B1), in the ring's flight until its completion (F1), or `seen` (R1).
        unsafe { self.submission().push(entry).is_ok() }
    }

    fn submit(&mut self) {
        match self.submitter().submit() {
            Ok(_) => {}
            Err(error) if matches!(error.raw_os_error(), Some(libc::EINTR | libc::EBUSY | libc::EAGAIN)) => {}
            Err(error) => cannot_enter(&error),
        }
    }
}

/// A ring that cannot be entered carries nobody's bytes any more: its worker ends, and with it the process.
#[cold]
#[expect(clippy::panic, reason = "there is nothing to go on with")]
fn cannot_enter(error: &io::Error) -> ! {
    panic!("io_uring_enter failed: {error}")
}

/// The connection that an accept has brought.
pub(super) fn accepted(result: RawFd) -> io::Result<OwnedFd> {
    if result < 0 {
        return Err(io::Error::from_raw_os_error(-result));
    }
    // SAFETY: a non-negative result of an accept without direct descriptors is a new descriptor that nobody else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(result) })
}
