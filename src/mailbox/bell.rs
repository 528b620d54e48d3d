//! `Bell`: what waits for one thread, behind a lock, and how whoever adds to it ends that thread's sleep. It knows nothing of
//! what waits; `tests/model` walks through the orders in which threads can meet here.

use super::sync::{AtomicBool, Mutex, MutexGuard, Notify, Ordering, PoisonError};

/// Something that many add to and one thread takes from, which sleeps in between.
#[derive(Debug)]
pub(super) struct Bell<W> {
    waiting: Mutex<W>,
    /// Set while the thread may be asleep: who adds something then has to wake it. Stores would do where it is swapped and the
    /// result is not looked at, but loom lets them come between the two halves of another thread's swap.
    asleep: AtomicBool,
    rung: Notify,
}

impl<W> Bell<W> {
    pub(super) fn new(waiting: W) -> Bell<W> {
        Bell { waiting: Mutex::new(waiting), asleep: AtomicBool::new(false), rung: Notify::new() }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, W> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// From now on `rung` ends when something is added. Look once more for what waits after this.
    pub(super) fn fall_asleep(&self) {
        self.asleep.swap(true, Ordering::AcqRel);
    }

    pub(super) fn wake_up(&self) {
        self.asleep.swap(false, Ordering::AcqRel);
    }

    /// Ends when something has been added since `fall_asleep`; perhaps also without.
    pub(super) async fn rung(&self) {
        self.rung.notified().await;
    }

    /// Comes after something was added and the lock given back.
    pub(super) fn ring(&self) {
        // The lock before and this swap order what was added before the look that the thread takes after `fall_asleep`.
        if self.asleep.swap(false, Ordering::AcqRel) {
            self.rung.notify_one();
        }
    }
}
