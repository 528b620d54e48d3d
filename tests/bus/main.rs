//! Instances on a Redis that the tests start, stop, freeze and lie to: the real binary, a real `redis-server`.

#[path = "../e2e/client.rs"]
#[allow(dead_code)]
mod client;
#[path = "../e2e/command.rs"]
#[allow(dead_code)]
mod command;
mod emits;
mod faults;
mod hostile;
#[path = "../e2e/http.rs"]
#[allow(dead_code)]
mod http;
mod instance;
mod nodes;
mod peer;
mod redis_server;
mod requests;
mod secured;
#[path = "../e2e/server.rs"]
#[allow(dead_code)]
mod server;

use std::time::{Duration, Instant};

/// Nothing that a test waits for takes longer.
const WAIT_MAX: Duration = Duration::from_secs(20);

/// Asks again and again until the answer will do; fails with the last one.
#[track_caller]
fn until<T: std::fmt::Debug>(what: &str, mut ask: impl FnMut() -> T, will_do: impl Fn(&T) -> bool) -> T {
    let begun = Instant::now();
    loop {
        let answer = ask();
        if will_do(&answer) {
            return answer;
        }
        assert!(begun.elapsed() < WAIT_MAX, "{what}: in vain, the last answer was {answer:?}");
        // Not to wait for anything in particular, only to leave the core to others.
        std::thread::sleep(Duration::from_millis(5));
    }
}
