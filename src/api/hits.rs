//! `Hits`: how often limits were reached at the API.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::shard::Limit;

/// How often a limit was reached here.
#[derive(Debug, Default)]
pub(super) struct Hits {
    pub(super) connections: AtomicU64,
    pub(super) per_address: AtomicU64,
    pub(super) bodies: AtomicU64,
    /// Of those that shards have too.
    shared: [AtomicU64; Limit::ALL.len()],
}

impl Hits {
    pub(super) fn count(&self, limit: Limit) {
        if let Some(count) = self.shared.get(limit as usize) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// By the names of the settings.
    pub(super) fn all(&self) -> Vec<(&'static str, u64)> {
        let own = [
            ("api_connections_max", &self.connections),
            ("api_connections_per_address_max", &self.per_address),
            ("api_body_bytes_max", &self.bodies),
        ];
        let shared = Limit::ALL.iter().map(|limit| limit.setting()).zip(&self.shared);
        own.into_iter().chain(shared).map(|(name, count)| (name, count.load(Ordering::Relaxed))).collect()
    }
}
