//! `until`: waits for what a server does in its own time.

use std::time::{Duration, Instant};

use crate::WAIT_MAX;

/// Asks again and again until the answer will do; fails with the last one.
#[track_caller]
pub fn until<T: std::fmt::Debug>(what: &str, mut ask: impl FnMut() -> T, will_do: impl Fn(&T) -> bool) -> T {
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
