//! The bell of a mailbox, on loom's threads.

#[path = "../../../src/mailbox/bell.rs"]
mod bell;

use std::future::Future;
use std::pin::pin;
use std::task::{Context, Waker};

use loom::sync::Arc;
use loom::thread;

use bell::Bell;

/// What a bell is made of, as loom has it.
mod sync {
    pub(super) use std::sync::PoisonError;

    pub(super) use loom::sync::atomic::{AtomicBool, Ordering};
    pub(super) use loom::sync::{Condvar, Mutex, MutexGuard};

    /// One permit. It waits on its thread, where the server's waits in its task.
    #[derive(Debug)]
    pub(super) struct Notify {
        permit: Mutex<bool>,
        given: Condvar,
    }

    impl Notify {
        pub(super) fn new() -> Notify {
            Notify { permit: Mutex::new(false), given: Condvar::new() }
        }

        pub(super) fn notify_one(&self) {
            *self.permit.lock().unwrap() = true;
            self.given.notify_one();
        }

        pub(super) async fn notified(&self) {
            let mut permit = self.permit.lock().unwrap();
            while !std::mem::take(&mut *permit) {
                permit = self.given.wait(permit).unwrap();
            }
        }
    }
}

/// Takes what waits until there were so many, as a worker does: it sleeps only when nothing is there after it said so.
fn take(bell: &Bell<u32>, count: u32) {
    let mut taken = 0;
    loop {
        taken += std::mem::take(&mut *bell.lock());
        if taken == count {
            return;
        }
        bell.fall_asleep();
        if *bell.lock() == 0 {
            let rung = pin!(bell.rung()).poll(&mut Context::from_waker(Waker::noop()));
            assert!(rung.is_ready());
        }
        bell.wake_up();
    }
}

/// A letter that the worker sleeps through is a deadlock, which loom finds.
#[test]
fn no_letter_is_slept_through() {
    let mut model = loom::model::Builder::new();
    // What goes wrong between threads does with few switches against their will.
    model.preemption_bound = Some(3);
    model.check(|| {
        let bell = Arc::new(Bell::new(0));
        let posters = [0, 1].map(|_| {
            let bell = Arc::clone(&bell);
            thread::spawn(move || {
                *bell.lock() += 1;
                bell.ring();
            })
        });
        take(&bell, 2);
        posters.into_iter().for_each(|poster| poster.join().unwrap());
    });
}
