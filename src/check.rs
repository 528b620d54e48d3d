//! `sockring check`: whether this machine and these settings will do, one line each, with what to mend.

use std::error::Error;

use rustix::process::{Resource, getrlimit};
use sockring::cluster::{Adapter, Mode};
use sockring::config::{ConfigError, Settings, keys};
use sockring::ring;

/// Connections that the program needs descriptors for besides those of clients.
const SPARE_DESCRIPTORS: usize = 256;

/// Prints a line per check; an error if one failed.
pub fn run(settings: Result<Settings, ConfigError>) -> Result<(), Box<dyn Error>> {
    let mut failed = false;
    let mut line = |name: &str, result: Result<String, String>| match result {
        Ok(fine) => println!("ok    {name}: {fine}"),
        Err(fix) => {
            failed = true;
            println!("FAIL  {name}: {fix}");
        }
    };
    line("settings", settings.as_ref().map(describe).map_err(ConfigError::to_string));
    line("io_uring", ring::requirements().map(|()| "usable".to_owned()).map_err(|error| error.to_string()));
    line("kernel", kernel());
    if let Ok(settings) = &settings {
        line("descriptors", descriptors(settings));
        line("redis", redis(settings));
    }
    if failed { Err("some checks failed".into()) } else { Ok(()) }
}

fn kernel() -> Result<String, String> {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").map_err(|error| error.to_string())?;
    let release = release.trim();
    if !ring::is_new_enough(release) {
        return Err(format!("{release} is too old: Linux 6.1 or newer is needed"));
    }
    Ok(release.to_owned())
}

fn descriptors(settings: &Settings) -> Result<String, String> {
    let limit = getrlimit(Resource::Nofile).maximum.unwrap_or(u64::MAX);
    // WebSockets need none: each shard's ring has a table for as many of them as the limit allows files.
    let tables = limit.saturating_mul(u64::from(settings.shards));
    let needed = settings.api.connections_max + SPARE_DESCRIPTORS;
    let wanted = settings.capacity.connections_max as u64;
    if limit < needed as u64 {
        return Err(format!(
            "RLIMIT_NOFILE allows {limit}, and the API alone may need {needed}: raise the limit (ulimit -n, or \
             LimitNOFILE= in systemd), or lower api_connections_max"
        ));
    }
    let shards = settings.shards;
    let room = format!("{limit} allowed, enough for {} WebSockets with {shards} shards", tables.min(wanted));
    let is_default = keys::find("connections_max").is_some_and(|key| key.default == wanted.to_string());
    match tables < wanted && !is_default {
        true => Err(format!(
            "{room}, and connections_max is {wanted}: raise RLIMIT_NOFILE (ulimit -n, or LimitNOFILE= in systemd) or \
             shards, or lower connections_max"
        )),
        false => Ok(room),
    }
}

fn describe(settings: &Settings) -> String {
    let secret = match (&settings.access_token_secret, &settings.token_public_key) {
        (Some(_), _) => "a secret is set",
        (None, Some(_)) => "a public key is set",
        (None, None) => "no secret is set: one is made for each run",
    };
    format!("environment `{}`, port {}, {secret}", settings.environment, settings.port)
}

fn redis(settings: &Settings) -> Result<String, String> {
    let Some(redis) = &settings.cluster else { return Ok("not set: a single instance".to_owned()) };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| format!("no runtime to connect with: {error}"))?;
    let server = tokio::task::LocalSet::new().block_on(&runtime, redis.probe());
    let server = server.map_err(|error| format!("{} {error}; {}", redis.address, error.fix()))?;
    let mode = match server.mode {
        Mode::Standalone => "one server",
        Mode::Cluster => "a Redis Cluster",
    };
    let adapter = match redis.adapter {
        Adapter::Classic => "classic",
        Adapter::Sharded => "sharded",
    };
    Ok(format!("{} answers: version {}, {mode}, {adapter} adapter", redis.address, server.version))
}
