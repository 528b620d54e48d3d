//! `Signal`: the event by which a ring ends a worker's sleep, for a task to wait on.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::event::{EventfdFlags, eventfd};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// An eventfd registered with the runtime of this thread.
#[derive(Debug)]
pub struct Signal(AsyncFd<OwnedFd>);

impl Signal {
    /// A new one. Has to be called within a runtime.
    pub fn new() -> io::Result<Signal> {
        let event = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        // SAFETY: an `OwnedFd` stays open and the same for as long as `AsyncFd` holds it.
        let registered = unsafe { AsyncFd::register_with_interest(event, Interest::READABLE)? };
        Ok(Signal(registered))
    }

    /// Waits for the next signal. Each one is an edge of its own, so the event's count is never read.
    pub async fn wait(&self) -> io::Result<()> {
        self.0.readable().await?.clear_ready();
        Ok(())
    }
}

impl AsFd for Signal {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.get_ref().as_fd()
    }
}
