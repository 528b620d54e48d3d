//! Ends a run that takes too long, and says what it was waiting for.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

const EXIT_TOO_LONG: i32 = 3;
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// What the run waits for, as its watchdog sees it.
#[derive(Clone, Debug)]
pub struct Watchdog(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    stage: Mutex<(&'static str, u64, Instant)>,
    done: AtomicU64,
}

impl Watchdog {
    /// A watchdog that allows this long for the first stage.
    pub fn start(allowed: Duration) -> Watchdog {
        let stage = Mutex::new(("setting up", 0, Instant::now() + allowed));
        let shared = Arc::new(Shared { stage, done: AtomicU64::new(0) });
        let watched = Arc::clone(&shared);
        thread::spawn(move || watch(&watched));
        Watchdog(shared)
    }

    /// Begins the next stage, in which `wanted` of something are to happen.
    pub fn stage(&self, name: &'static str, wanted: u64, allowed: Duration) {
        eprintln!("load: {name}");
        self.0.done.store(0, Ordering::Relaxed);
        *self.0.stage.lock().unwrap_or_else(PoisonError::into_inner) = (name, wanted, Instant::now() + allowed);
    }

    pub fn done(&self, count: u64) {
        self.0.done.store(count, Ordering::Relaxed);
    }
}

fn watch(shared: &Shared) {
    loop {
        thread::sleep(LOOK_EVERY);
        let (name, wanted, until) = *shared.stage.lock().unwrap_or_else(PoisonError::into_inner);
        if Instant::now() >= until {
            let done = shared.done.load(Ordering::Relaxed);
            eprintln!("load: took too long at: {name}; {done} of {wanted} done");
            std::process::exit(EXIT_TOO_LONG);
        }
    }
}
