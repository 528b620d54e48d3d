//! The real binary from outside: started, spoken to over TCP, watched through /proc, and ended by its own process id.

mod addresses;
mod api;
mod bad_input;
mod client;
mod command;
mod endings;
mod http;
mod idle;
mod keep_alive;
mod limits;
mod malformed;
mod pool;
mod reload;
mod server;
mod slow;
mod start;
mod users;
mod without_io_uring;

use std::time::{Duration, Instant};

/// Nothing that a test waits for takes longer.
const WAIT_MAX: Duration = Duration::from_secs(10);

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
        std::thread::sleep(Duration::from_millis(2));
    }
}
