//! The HTTP API and the page: everything on the port that is not Engine.IO, as tasks of a core.
//!
//! The API knows shards by their mail only. What it wants of them it asks, and waits for the answer.

mod access;
mod answer;
mod connection;
mod demo;
mod emit;
mod fields;
mod metrics;
mod page;
mod routes;

use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::broadcast::Broadcast;
use crate::config::{ApiSettings, Strictness};
use crate::mailbox::{Letter, Postbox};
use crate::shard::{EngineSettings, Mail, Reply, ShardMetrics, ShardStats};

use answer::ApiError;

/// How long a question to the shards may take.
const ASK_TIMEOUT: Duration = Duration::from_secs(1);

/// What all API tasks of all cores share.
#[derive(Debug)]
pub struct Api {
    settings: ApiSettings,
    engine: Arc<EngineSettings>,
    /// What `server` is in every payload.
    server: Arc<str>,
    /// One per shard, by its number.
    shards: Vec<Postbox>,
    page: page::Page,
    started: Instant,
    connections: AtomicUsize,
    demos: AtomicUsize,
    /// Connections that found `api_connections_max` reached.
    refused: AtomicU64,
}

impl Api {
    pub fn new(settings: ApiSettings, engine: Arc<EngineSettings>, server: Arc<str>, shards: Vec<Postbox>) -> Arc<Api> {
        Arc::new(Api {
            page: page::Page::new(),
            settings,
            engine,
            server,
            shards,
            started: Instant::now(),
            connections: AtomicUsize::new(0),
            demos: AtomicUsize::new(0),
            refused: AtomicU64::new(0),
        })
    }

    /// Serves a connection with the bytes that were already read from it, until it ends or goes back to shard `home`.
    /// Has to be called within the runtime of a core.
    pub fn receive(self: &Arc<Self>, home: usize, descriptor: OwnedFd, bytes: Vec<u8>) {
        let api = Rc::new(Arc::clone(self));
        tokio_uring::spawn(async move {
            let returned = connection::serve(&api, descriptor, bytes).await;
            if let (Some((descriptor, bytes)), Some(shard)) = (returned, api.shards.get(home)) {
                shard.post(Letter::Arrival(descriptor, bytes));
            }
        });
    }

    fn is_production(&self) -> bool {
        self.settings.strictness == Strictness::Production
    }

    /// Emits to every shard that may have members; says how many sockets have it queued.
    async fn emit(&self, broadcast: &Broadcast) -> Result<u64, ApiError> {
        Ok(self.emit_all(std::slice::from_ref(broadcast)).await?.iter().sum())
    }

    /// Emits several at once; the answers are in their order.
    async fn emit_all(&self, broadcasts: &[Broadcast]) -> Result<Vec<u64>, ApiError> {
        let shards = self.shards.len();
        let mails = broadcasts.iter().flat_map(|broadcast| (0..shards).map(|_| Mail::Emit(broadcast.clone())));
        let replies = self.ask(mails).await?;
        let delivered = |reply: &Reply| if let Reply::Delivered(count) = reply { *count } else { 0 };
        Ok(replies.chunks(shards).map(|chunk| chunk.iter().map(delivered).sum()).collect())
    }

    /// Has something done to sockets; says to how many it was done.
    async fn change(&self, mail: impl Fn() -> Mail) -> Result<u64, ApiError> {
        let replies = self.ask_all(mail).await?;
        Ok(replies.into_iter().map(|reply| if let Reply::Changed(count) = reply { count } else { 0 }).sum())
    }

    /// What each shard says of itself.
    async fn stats(&self) -> Result<Vec<ShardStats>, ApiError> {
        let replies = self.ask_all(|| Mail::Stats).await?;
        Ok(replies
            .into_iter()
            .filter_map(|reply| if let Reply::Stats(stats) = reply { Some(stats) } else { None })
            .collect())
    }

    /// What each shard counts.
    async fn metrics(&self) -> Result<Vec<ShardMetrics>, ApiError> {
        let replies = self.ask_all(|| Mail::Metrics).await?;
        Ok(replies
            .into_iter()
            .filter_map(|reply| if let Reply::Metrics(metrics) = reply { Some(*metrics) } else { None })
            .collect())
    }

    /// How many sockets a user has.
    async fn sockets_of(&self, user: &str) -> Result<u64, ApiError> {
        let replies = self.ask_all(|| Mail::UserStatus(user.to_owned())).await?;
        Ok(replies.into_iter().map(|reply| if let Reply::Sockets(count) = reply { count } else { 0 }).sum())
    }

    /// Asks all shards the same.
    async fn ask_all(&self, mail: impl Fn() -> Mail) -> Result<Vec<Reply>, ApiError> {
        self.ask(self.shards.iter().map(|_| mail())).await
    }

    /// Posts mails to the shards in turn, again and again from the first, and waits for all answers.
    async fn ask(&self, mails: impl Iterator<Item = Mail>) -> Result<Vec<Reply>, ApiError> {
        // Every question is posted before the first answer is awaited.
        let answers: Vec<_> = self.shards.iter().cycle().zip(mails).map(|(shard, mail)| shard.ask(mail)).collect();
        let all = async {
            let mut replies = Vec::with_capacity(answers.len());
            for answer in answers {
                replies.push(answer.await.ok()?);
            }
            Some(replies)
        };
        match tokio::time::timeout(ASK_TIMEOUT, all).await {
            Ok(Some(replies)) => Ok(replies),
            Ok(None) => Err(ApiError::new(503, "the server is shutting down")),
            Err(_) => Err(ApiError::new(504, "a shard did not answer in time")),
        }
    }
}

/// Counts something up for as long as it lives.
struct Counted<'c>(&'c AtomicUsize);

impl<'c> Counted<'c> {
    /// `None` when there are `max` already.
    fn below(count: &'c AtomicUsize, max: usize) -> Option<Counted<'c>> {
        if count.fetch_add(1, Ordering::Relaxed) >= max {
            count.fetch_sub(1, Ordering::Relaxed);
            return None;
        }
        Some(Counted(count))
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Unix time in milliseconds.
fn unix_ms() -> u64 {
    let unix = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(unix.as_millis()).unwrap_or(u64::MAX)
}
