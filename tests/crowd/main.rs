//! Thousands of clients that behave as the stock client does, against the real binary with several shards.
//!
//! The numbers of ordinary runs are small; the environment makes them large (see `README.md` beside this file).

mod attempts;
mod backend;
mod client;
mod crowd;
mod drain;
mod http;
mod many;
mod order;
mod pause;
mod server;
mod slow;
mod stream;
mod theft;
mod websocket;
mod worker;

use std::str::FromStr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// One test at a time: each has the cores for itself.
static CORES: Mutex<()> = Mutex::new(());

fn alone() -> MutexGuard<'static, ()> {
    CORES.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A number from the environment, where it differs from the usual one.
fn knob<T: FromStr>(name: &str, usual: T) -> T {
    match std::env::var(name) {
        Ok(text) => text.parse().unwrap_or_else(|_| panic!("{name}: `{text}` is no number")),
        Err(_) => usual,
    }
}

fn shards() -> u32 {
    knob("CROWD_SHARDS", 4)
}

/// Nothing that a test waits for takes longer.
fn wait_max() -> Duration {
    Duration::from_secs(knob("CROWD_WAIT_S", 20))
}

/// What every server here is started with.
fn environment(clients: usize) -> Vec<(&'static str, String)> {
    // Polling clients have two connections or three while they upgrade.
    let connections = (clients * 4 + 1000).max(16_384);
    vec![
        ("SOCKRING_SHARDS", shards().to_string()),
        ("SOCKRING_CONNECTIONS_MAX", connections.to_string()),
        // Clients that say something themselves need one each.
        ("SOCKRING_API_CONNECTIONS_MAX", clients.max(1024).to_string()),
        ("SOCKRING_CLIENTS_MAX", (clients * 2).max(16_384).to_string()),
    ]
}

/// `total` in as many parts as needed, none larger than `part_max`: (first, count) of each.
fn parts(total: usize, part_max: usize) -> impl Iterator<Item = (usize, usize)> {
    let count = total.div_ceil(part_max).max(1);
    (0..count).map(move |number| {
        let first = total * number / count;
        (first, total * (number + 1) / count - first)
    })
}
