//! Mail between threads and tasks: a `Mailbox` per worker, and a `Postbox` for everyone who writes to it.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use rustix::event::{EventfdFlags, eventfd};
use tokio::sync::oneshot;

use crate::broadcast::Broadcast;
use crate::shard::{Mail, Reply};

/// One thing for a worker.
#[derive(Debug)]
pub enum Letter {
    /// For its shard; the answer goes to whoever waits for it.
    Mail(Mail, oneshot::Sender<Reply>),
    /// A connection, with bytes that were read from it and not used.
    Arrival(OwnedFd, Vec<u8>),
    /// Tell all clients this, close everything and return.
    ShutDown(Broadcast),
}

/// The letters that wait for one worker. Nobody waits to put one in.
#[derive(Debug)]
pub struct Mailbox {
    letters: Mutex<Vec<Letter>>,
    /// Set while the worker may be asleep: who posts then has to write the event.
    asleep: AtomicBool,
    event: OwnedFd,
}

impl Mailbox {
    pub fn new() -> std::io::Result<Mailbox> {
        // Written by posters here and by the kernel when completions come: one event ends a worker's sleep. With two, one
        // polled by the ring and one signalled by it, the second signal would come from within the first, and the kernel
        // puts such a nested one off by a grace period of milliseconds.
        let event = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        Ok(Mailbox { letters: Mutex::default(), asleep: AtomicBool::new(false), event })
    }

    /// Takes all letters; `into` must be empty.
    pub fn collect(&self, into: &mut Vec<Letter>) {
        debug_assert!(into.is_empty());
        std::mem::swap(&mut *self.letters.lock().unwrap_or_else(PoisonError::into_inner), into);
    }

    pub fn is_empty(&self) -> bool {
        self.letters.lock().unwrap_or_else(PoisonError::into_inner).is_empty()
    }

    /// From now on posting writes the event. Look once more for letters after this.
    pub fn fall_asleep(&self) {
        self.asleep.store(true, Ordering::SeqCst);
    }

    pub fn wake_up(&self) {
        self.asleep.store(false, Ordering::Relaxed);
    }
}

impl AsFd for Mailbox {
    /// The event that ends the worker's sleep.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.event.as_fd()
    }
}

/// The sending end of a mailbox.
#[derive(Clone, Debug)]
pub struct Postbox(Arc<Mailbox>);

impl Postbox {
    pub fn new(mailbox: Arc<Mailbox>) -> Postbox {
        Postbox(mailbox)
    }

    pub fn post(&self, letter: Letter) {
        self.0.letters.lock().unwrap_or_else(PoisonError::into_inner).push(letter);
        // The lock above and this swap order the letter before the look that the worker takes after `fall_asleep`.
        if self.0.asleep.swap(false, Ordering::SeqCst) {
            let _ = rustix::io::write(&self.0.event, &1u64.to_ne_bytes());
        }
    }

    /// Asks the worker's shard; the answer comes by the receiver, which fails if the worker is gone.
    pub fn ask(&self, mail: Mail) -> oneshot::Receiver<Reply> {
        let (answer, answered) = oneshot::channel();
        self.post(Letter::Mail(mail, answer));
        answered
    }
}
