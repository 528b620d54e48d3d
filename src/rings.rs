//! Tries whether all shards could have their rings, and says in one sentence why not.

use std::sync::mpsc;
use std::thread;

use rustix::process::{Resource, getrlimit};
use sockring::config::Settings;
use sockring::ring::{self, RingError, RingOptions};
use sockring::worker::{self, WorkerError};

use crate::space;

/// Sets up what all workers have, all at once as when it serves, and drops it.
pub(crate) fn try_all(options: RingOptions, settings: &Settings) -> Result<(), String> {
    let mut stays = Vec::new();
    let mut threads = Vec::new();
    let mut result = Ok(());
    for _ in 0..settings.shards {
        let (word, outcome) = mpsc::channel();
        let (stay, release) = mpsc::channel::<()>();
        stays.push(stay);
        let name = "trial".to_owned();
        let spawned = thread::Builder::new().name(name).spawn(move || match worker::try_out(&options) {
            Ok(trial) => {
                let _ = word.send(Ok(()));
                // Ends when the other side is dropped.
                let _ = release.recv();
                drop(trial);
            }
            Err(error) => drop(word.send(Err(error))),
        });
        match spawned {
            Ok(thread) => threads.push(thread),
            Err(error) => result = Err(space::explain(&error, settings)),
        }
        if let Ok(Err(error)) = outcome.recv() {
            result = Err(explain(&error, options, settings));
        }
        if result.is_err() {
            break;
        }
    }
    drop(stays);
    for thread in threads {
        let _ = thread.join();
    }
    result
}

/// Why a worker could not start, with what all of them need.
pub(crate) fn explain(error: &WorkerError, options: RingOptions, settings: &Settings) -> String {
    match error {
        WorkerError::Ring(RingError::Memory) => {}
        WorkerError::Memory => return space::shortage(settings).unwrap_or_else(|| error.to_string()),
        _ => return error.to_string(),
    }
    let shards = settings.shards;
    let need = worker::locked_bytes(&options).saturating_mul(u64::from(shards));
    let need = tenths((need * 10).div_ceil(1 << 20));
    let shards = if shards == 1 { "1 shard".to_owned() } else { format!("{shards} shards") };
    match getrlimit(Resource::Memlock).current {
        Some(have) if ring::is_memory_limited() => format!(
            "io_uring could not lock memory: {shards} need {need}, and RLIMIT_MEMLOCK allows {} for all that this user runs: \
             raise it (LimitMEMLOCK= in systemd, ulimit -l), or lower shards",
            tenths(have.saturating_mul(10) >> 20)
        ),
        _ => space::shortage(settings).unwrap_or_else(|| {
            format!(
                "io_uring found no memory for its rings: {shards} need {need}, and this machine, or the control group, is \
                 short of it: give it more, or lower shards"
            )
        }),
    }
}

/// What is needed is rounded up before, and what there is down.
fn tenths(of_mebibytes: u64) -> String {
    format!("{}.{} MiB", of_mebibytes / 10, of_mebibytes % 10)
}
