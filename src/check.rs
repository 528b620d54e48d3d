//! `sockring check`: whether this machine and these settings will do, one line each, with what to mend.

use std::error::Error;

use rustix::process::{Resource, getrlimit};
use sockring::config::Settings;
use sockring::ring;

/// Connections that the program needs descriptors for besides those of clients.
const SPARE_DESCRIPTORS: u64 = 256;

/// Prints a line per check; an error if one failed.
pub fn run(settings: &Settings) -> Result<(), Box<dyn Error>> {
    let mut failed = false;
    let mut line = |name: &str, result: Result<String, String>| match result {
        Ok(fine) => println!("ok    {name}: {fine}"),
        Err(fix) => {
            failed = true;
            println!("FAIL  {name}: {fix}");
        }
    };
    let secret = match settings.access_token_secret {
        Some(_) => "a secret is set",
        None => "no secret is set: one is made for each run",
    };
    line("settings", Ok(format!("environment `{}`, port {}, {secret}", settings.environment, settings.port)));
    line("io_uring", ring::requirements().map(|()| "usable".to_owned()).map_err(|error| error.to_string()));
    line("kernel", kernel());
    line("descriptors", descriptors(settings.engine.connections_max as u64));
    line("redis", redis());
    if failed { Err("some checks failed".into()) } else { Ok(()) }
}

fn kernel() -> Result<String, String> {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").map_err(|error| error.to_string())?;
    let release = release.trim();
    let mut numbers = release.split(['.', '-']).map_while(|part| part.parse::<u32>().ok());
    let version = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    if version < (6, 1) {
        return Err(format!("{release} is too old: Linux 6.1 or newer is needed"));
    }
    Ok(release.to_owned())
}

fn descriptors(connections_max: u64) -> Result<String, String> {
    let limit = getrlimit(Resource::Nofile).maximum.unwrap_or(u64::MAX);
    if limit < connections_max + SPARE_DESCRIPTORS {
        return Err(format!(
            "RLIMIT_NOFILE allows {limit}, connections_max is {connections_max}: raise the limit (ulimit -n, or \
             LimitNOFILE= in systemd) to {}, or lower connections_max",
            connections_max + SPARE_DESCRIPTORS
        ));
    }
    Ok(format!("{limit} allowed, connections_max is {connections_max}"))
}

fn redis() -> Result<String, String> {
    match crate::serve::redis_variable() {
        None => Ok("not set: a single instance".to_owned()),
        Some(name) => Err(format!("{name} is set, but this version does not join a cluster yet: unset it")),
    }
}
