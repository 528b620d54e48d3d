//! Who emits: threads of the backend, so that the clients go on while it waits for an answer.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use serde_json::{Value, json};

use crate::api::Api;
use crate::clock::now_ns;
use crate::reading::{TO_ALL, TO_ONE};
use crate::speech::Speech;

const CONNECTIONS: u32 = 8;

/// Emits one event to all, and says with which status and what that was answered.
pub fn to_all(number: u16, payload: usize) -> JoinHandle<Result<(u16, Value), String>> {
    thread::spawn(move || {
        let data = json!({"number": number, "pad": "x".repeat(payload)});
        let emit = json!({"broadcast": true, "event": TO_ALL, "data": data});
        let answer = Api::default().post("/emit", &emit).map_err(|error| format!("an emit to all: {error}"))?;
        Ok((answer.status, answer.data()))
    })
}

/// Emits to single users at a rate that does not wait for the server.
pub struct Emitter {
    threads: Vec<JoinHandle<Result<(), String>>>,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    is_over: AtomicBool,
    emitted: AtomicU64,
    refused: AtomicU64,
    /// Users that were not connected.
    undelivered: AtomicU64,
}

impl Emitter {
    pub fn start(rate: f64, users: u32, payload: usize) -> Emitter {
        let shared = Arc::new(Shared::default());
        let interval_ns = (1e9 * f64::from(CONNECTIONS) / rate) as u64;
        let start_ns = now_ns();
        let threads = (0..CONNECTIONS).map(|at| {
            let shared = Arc::clone(&shared);
            let first_ns = start_ns + interval_ns * u64::from(at) / u64::from(CONNECTIONS);
            thread::spawn(move || emit(&shared, first_ns, interval_ns, users, payload))
        });
        Emitter { threads: threads.collect(), shared }
    }

    /// Ends it: how many emits were taken, how many refused, and how many of those taken reached nobody.
    pub fn stop(self) -> Result<(u64, u64, u64), String> {
        self.shared.is_over.store(true, Ordering::Relaxed);
        for thread in self.threads {
            thread.join().map_err(|_| "an emitter panicked".to_owned())??;
        }
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Ok((count(&self.shared.emitted), count(&self.shared.refused), count(&self.shared.undelivered)))
    }
}

fn emit(shared: &Shared, first_ns: u64, interval_ns: u64, users: u32, payload: usize) -> Result<(), String> {
    let (mut api, mut due_ns, pad) = (Api::default(), first_ns, "x".repeat(payload));
    while !shared.is_over.load(Ordering::Relaxed) {
        let now = now_ns();
        if now < due_ns {
            thread::sleep(Duration::from_nanos(due_ns - now));
        }
        // Any user, another one each time; the multiplier is that of Knuth's hash.
        let user = (due_ns.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32) % u64::from(users);
        let data = json!({"number": due_ns, "pad": pad});
        let emit = json!({"user": Speech::user(user as u32), "event": TO_ONE, "data": data});
        let answer = api.post("/emit", &emit).map_err(|error| format!("an emit to one: {error}"))?;
        let counter = if answer.status == 200 { &shared.emitted } else { &shared.refused };
        counter.fetch_add(1, Ordering::Relaxed);
        if answer.status == 200 && answer.data()["delivered"] == 0 {
            shared.undelivered.fetch_add(1, Ordering::Relaxed);
        }
        due_ns += interval_ns;
    }
    Ok(())
}
