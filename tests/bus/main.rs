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
mod kept;
mod load;
mod nodes;
mod peer;
mod proxy;
mod redis_server;
mod requests;
mod scripts;
mod secured;
mod sentinels;
#[path = "../e2e/server.rs"]
#[allow(dead_code)]
mod server;
mod silence;
mod tunnels;
#[path = "../support/waiting.rs"]
mod waiting;

use std::time::Duration;

use waiting::until;

/// Nothing that a test waits for takes longer.
const WAIT_MAX: Duration = Duration::from_secs(20);
