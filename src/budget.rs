//! How open files are shared out: what the program itself needs, the API's address, those who are only answered, and the rest.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use sockring::config::Settings;
use sockring::ring::RingOptions;

/// Of the process, of each shard, and of Redis' connections.
const OWN: usize = 24;
const OWN_PER_SHARD: usize = 13;
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
    /// File tables of each shard: WebSockets have no descriptors, but all of their tables behind the first have one.
    pub tables: usize,
}

/// Of the descriptors that are free, one in so many at the most is for tables.
const TABLES_SHARE: usize = 4;

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
    let (tables, free) = tables(settings, allowed, allowed - own, allowed - least);
    let guests = (free / 16).clamp(GUESTS_LEAST, GUESTS_MOST);
    let api = match settings.api.listen {
        Some(_) => (settings.api.connections_max + settings.api.connections_max / 8).min(free / 8).max(API_LEAST),
        None => 0,
    };
    Ok(Descriptors { members: free - guests - api, guests, api, tables })
}

/// How many tables of so many slots each shard may have, and what they leave of the free descriptors.
fn tables(settings: &Settings, slots: usize, free: usize, spare: usize) -> (usize, usize) {
    let shards = usize::from(settings.shards);
    let wanted = RingOptions::for_connections(settings.capacity.connections_max, slots, usize::MAX).tables_max as usize;
    let later = (wanted - 1).min(spare / TABLES_SHARE / shards);
    (1 + later, free - later * shards)
}

/// Sizes of each shard's ring. A table cannot be larger than the limit of open files; connections beyond all tables keep theirs.
pub(crate) fn ring_options(settings: &Settings, allowed: usize) -> RingOptions {
    let tables = descriptors(settings, allowed).map_or(1, |shared| shared.tables);
    RingOptions::for_connections(settings.capacity.connections_max, allowed, tables)
}

/// How many open files there may be, once the limit is raised.
pub(crate) fn descriptors_allowed() -> usize {
    getrlimit(Resource::Nofile).maximum.and_then(|limit| usize::try_from(limit).ok()).unwrap_or(usize::MAX)
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
