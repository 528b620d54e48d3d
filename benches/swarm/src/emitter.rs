//! Who emits: threads of the backend, so that the clients go on while it waits for an answer.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use serde_json::{Value, json};

use crate::api::Api;
use crate::clock::now_ns;
use crate::reading::{LOAD, TO_ALL, TO_ONE};
use crate::speech::Speech;

/// How long it may take until an emitter that waits sees that it is over.
const SLEEP_MAX: Duration = Duration::from_millis(100);

/// Emits one event to all, and says with which status and what that was answered.
pub fn to_all(number: u16, payload: usize) -> JoinHandle<Result<(u16, Value), String>> {
    thread::spawn(move || {
        let data = json!({"number": number, "pad": "x".repeat(payload)});
        let emit = json!({"broadcast": true, "event": TO_ALL, "data": data});
        let answer = Api::default().post("/emit", &emit).map_err(|error| format!("an emit to all: {error}"))?;
        Ok((answer.status, answer.data()))
    })
}

/// What is emitted again and again.
#[derive(Clone, Debug)]
pub struct Plan {
    pub to: Receivers,
    /// Bytes of the string in each event.
    pub payload: usize,
    /// Per second; it does not wait for the server as long as one of the connections is free.
    pub rate: f64,
    pub connections: u32,
}

#[derive(Clone, Copy, Debug)]
pub enum Receivers {
    /// One of so many users.
    One(u32),
    All,
}

/// Emits until it is stopped.
pub struct Emitter {
    threads: Vec<JoinHandle<Result<(), String>>>,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    is_over: AtomicBool,
    taken: AtomicU64,
    refused: AtomicU64,
    unanswered: AtomicU64,
    undelivered: AtomicU64,
}

/// What became of emits.
#[derive(Clone, Copy, Debug)]
pub struct Emits {
    /// Status 200.
    pub taken: u64,
    /// Status 503, or any other but 504.
    pub refused: u64,
    /// Status 504: whoever gets them has not said so within a second.
    pub unanswered: u64,
    /// Those of `taken` whose user was not connected.
    pub undelivered: u64,
}

impl Emitter {
    pub fn start(plan: &Plan) -> Emitter {
        let shared = Arc::new(Shared::default());
        let interval_ns = (1e9 * f64::from(plan.connections) / plan.rate) as u64;
        let start_ns = now_ns();
        let threads = (0..plan.connections).map(|at| {
            let (shared, plan) = (Arc::clone(&shared), plan.clone());
            let first_ns = start_ns + interval_ns * u64::from(at) / u64::from(plan.connections);
            thread::spawn(move || emit(&shared, &plan, first_ns, interval_ns))
        });
        Emitter { threads: threads.collect(), shared }
    }

    /// Ends it, once what is under way is answered: on a thread of its own, since clients go on meanwhile.
    pub fn stop(self) -> JoinHandle<Result<Emits, String>> {
        self.shared.is_over.store(true, Ordering::Relaxed);
        thread::spawn(move || {
            for thread in self.threads {
                thread.join().map_err(|_| "an emitter panicked".to_owned())??;
            }
            let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
            Ok(Emits {
                taken: count(&self.shared.taken),
                refused: count(&self.shared.refused),
                unanswered: count(&self.shared.unanswered),
                undelivered: count(&self.shared.undelivered),
            })
        })
    }
}

fn emit(shared: &Shared, plan: &Plan, first_ns: u64, interval_ns: u64) -> Result<(), String> {
    let (mut api, mut due_ns, pad) = (Api::default(), first_ns, "x".repeat(plan.payload));
    while !shared.is_over.load(Ordering::Relaxed) {
        let now = now_ns();
        if now < due_ns {
            thread::sleep(Duration::from_nanos(due_ns - now).min(SLEEP_MAX));
            continue;
        }
        let data = json!({"number": due_ns, "pad": pad});
        let emit = match plan.to {
            Receivers::All => json!({"broadcast": true, "event": LOAD, "data": data}),
            // Another one each time; the multiplier is that of Knuth's hash.
            Receivers::One(users) => {
                let user = (due_ns.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32) % u64::from(users);
                json!({"user": Speech::user(user as u32), "event": TO_ONE, "data": data})
            }
        };
        let answer = api.post("/emit", &emit).map_err(|error| format!("an emit: {error}"))?;
        let counter = match answer.status {
            200 => &shared.taken,
            504 => &shared.unanswered,
            _ => &shared.refused,
        };
        counter.fetch_add(1, Ordering::Relaxed);
        if answer.status == 200 && answer.data()["delivered"] == 0 {
            shared.undelivered.fetch_add(1, Ordering::Relaxed);
        }
        // Who is behind by more than a moment leaves out what was due meanwhile.
        due_ns = (due_ns + interval_ns).max(now_ns().saturating_sub(interval_ns));
    }
    Ok(())
}
