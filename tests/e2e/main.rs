//! The real binary from outside: started, spoken to over TCP, watched through /proc, and ended by its own process id.

mod address_space;
mod addresses;
mod api;
mod asked;
mod bad_input;
mod client;
mod command;
mod commands;
mod console;
mod crowded;
mod descriptors;
mod endings;
mod full;
mod http;
mod idle;
mod keep_alive;
mod kept;
mod limits;
mod malformed;
mod memory;
mod operator;
mod polling;
mod pool;
mod reasons;
mod reload;
mod retries;
mod returning;
mod server;
mod slow;
mod start;
mod state;
mod supervised;
mod telling;
mod tls;
mod users;
#[path = "../support/waiting.rs"]
mod waiting;
mod watched;
mod without_io_uring;

use std::time::Duration;

use waiting::until;

/// Nothing that a test waits for takes longer.
const WAIT_MAX: Duration = Duration::from_secs(10);
