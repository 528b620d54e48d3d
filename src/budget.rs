//! How open files are shared out: what the program itself needs, the API's address, those who are only answered, and the rest.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use sockring::config::Settings;

/// Of the process, of each shard, and of Redis' connections.
const OWN: usize = 24;
const OWN_PER_SHARD: usize = 12;
const REDIS: usize = 8;
const REDIS_PER_SHARD: usize = 8;
/// Without so many of each nobody could be served.
const MEMBERS_LEAST: usize = 16;
const GUESTS_LEAST: usize = 8;
const API_LEAST: usize = 8;
pub(crate) const GUESTS_MOST: usize = 256;

/// Open files that connections may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Descriptors {
    /// At the clients' port, before they are WebSockets.
    pub members: usize,
    /// At the clients' port, for an answer where there is no room.
    pub guests: usize,
    /// At `api_listen`.
    pub api: usize,
}

/// Shares out `allowed` open files; where they do not do, says how many would.
pub(crate) fn descriptors(settings: &Settings, allowed: usize) -> Result<Descriptors, String> {
    let shards = usize::from(settings.shards);
    let redis = if settings.cluster.is_some() { REDIS + REDIS_PER_SHARD * shards } else { 0 };
    let own = OWN + OWN_PER_SHARD * shards + redis;
    let api_least = if settings.api.listen.is_some() { API_LEAST } else { 0 };
    let least = own + MEMBERS_LEAST + GUESTS_LEAST + api_least;
    if allowed < least {
        return Err(format!(
            "{allowed} open files are allowed, and {least} are the least that {} need: raise RLIMIT_NOFILE (ulimit -n, or \
             LimitNOFILE= in systemd){}",
            match shards {
                1 => "1 shard and its connections".to_owned(),
                shards => format!("{shards} shards and their connections"),
            },
            if shards > 1 { ", or lower shards" } else { "" }
        ));
    }
    let free = allowed - own;
    let guests = (free / 16).clamp(GUESTS_LEAST, GUESTS_MOST);
    let api = match settings.api.listen {
        Some(_) => (settings.api.connections_max + settings.api.connections_max / 8).min(free / 8).max(API_LEAST),
        None => 0,
    };
    Ok(Descriptors { members: free - guests - api, guests, api })
}

/// Descriptors are needed for connections that are not WebSockets yet; the soft limit is often far below the hard one.
/// Returns the limit that is in force then.
pub(crate) fn raise_descriptor_limit() -> usize {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    if let Err(error) = setrlimit(Resource::Nofile, raised) {
        tracing::warn!(%error, "the limit of open files could not be raised");
    }
    getrlimit(Resource::Nofile).current.and_then(|limit| usize::try_from(limit).ok()).unwrap_or(usize::MAX)
}
