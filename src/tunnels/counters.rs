//! What tunnels count.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::cluster::Address;

const TOLD_EVERY: Duration = Duration::from_secs(60);

/// Why a tunnel is not opened, here or for another instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TunnelRefusal {
    /// There are as many as there may be.
    TunnelsMax,
    /// The owner of the session is gone.
    Gone,
    /// It could not be reached, or did not answer in time.
    Unreachable,
    /// Who wants one does not know the secret.
    Secret,
    /// It has not said in time who it is.
    Slow,
    /// It has said what nobody says.
    Wrong,
    /// There is no room for another connection.
    NoRoom,
    /// The client's address has as many connections as it may.
    PerAddress,
}

impl TunnelRefusal {
    pub const ALL: [TunnelRefusal; 8] = [
        TunnelRefusal::TunnelsMax,
        TunnelRefusal::Gone,
        TunnelRefusal::Unreachable,
        TunnelRefusal::Secret,
        TunnelRefusal::Slow,
        TunnelRefusal::Wrong,
        TunnelRefusal::NoRoom,
        TunnelRefusal::PerAddress,
    ];

    pub fn label(self) -> &'static str {
        match self {
            TunnelRefusal::TunnelsMax => "tunnels_max",
            TunnelRefusal::Gone => "foreign_gone",
            TunnelRefusal::Unreachable => "unreachable",
            TunnelRefusal::Secret => "secret",
            TunnelRefusal::Slow => "slow",
            TunnelRefusal::Wrong => "wrong",
            TunnelRefusal::NoRoom => "no_room",
            TunnelRefusal::PerAddress => "per_address",
        }
    }
}

/// Since the start, and now.
#[derive(Debug, Default)]
pub(super) struct TunnelCounters {
    /// Requests under way.
    pub(super) requests: AtomicU64,
    /// WebSockets that are carried.
    pub(super) websockets: AtomicU64,
    /// Requests that were brought: over TCP, over Redis.
    pub(super) by_tcp: AtomicU64,
    pub(super) by_redis: AtomicU64,
    /// Bytes to owners, and from them.
    pub(super) sent_bytes: AtomicU64,
    pub(super) received_bytes: AtomicU64,
    /// Those that other instances have opened to here.
    pub(super) received: AtomicU64,
    refused: [AtomicU64; TunnelRefusal::ALL.len()],
    /// When the log last told of an instance that cannot be dialled.
    dialling_told_at: Mutex<Option<Instant>>,
}

impl TunnelCounters {
    pub(super) fn refuse(&self, reason: TunnelRefusal) {
        if let Some(count) = self.refused.get(reason as usize) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Says, once in a while, that an instance is reached over Redis alone.
    pub(super) fn tell_of_dialling(&self, address: &Address, error: &io::Error) {
        let mut told_at = self.dialling_told_at.lock().unwrap_or_else(PoisonError::into_inner);
        if told_at.is_none_or(|at| at.elapsed() >= TOLD_EVERY) {
            *told_at = Some(Instant::now());
            tracing::warn!(%address, %error, "an instance could not be dialled, and is reached over Redis instead");
        }
    }

    pub(super) fn snapshot(&self, neighbours: u64, idle: u64) -> TunnelMetrics {
        let value = |count: &AtomicU64| count.load(Ordering::Relaxed);
        TunnelMetrics {
            neighbours,
            idle,
            requests: value(&self.requests),
            websockets: value(&self.websockets),
            by_tcp: value(&self.by_tcp),
            by_redis: value(&self.by_redis),
            sent_bytes: value(&self.sent_bytes),
            received_bytes: value(&self.received_bytes),
            received: value(&self.received),
            refused: TunnelRefusal::ALL.into_iter().zip(&self.refused).map(|(of, n)| (of.label(), value(n))).collect(),
        }
    }
}

/// What was counted so far.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TunnelMetrics {
    /// Other instances that can be reached.
    pub neighbours: u64,
    /// Ways that wait for the next request.
    pub idle: u64,
    pub requests: u64,
    pub websockets: u64,
    pub by_tcp: u64,
    pub by_redis: u64,
    pub sent_bytes: u64,
    pub received_bytes: u64,
    pub received: u64,
    /// By reason.
    pub refused: Vec<(&'static str, u64)>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_has_its_place() {
        assert!(TunnelRefusal::ALL.iter().enumerate().all(|(index, reason)| *reason as usize == index));
        let counters = TunnelCounters::default();
        counters.refuse(TunnelRefusal::PerAddress);
        assert_eq!(counters.snapshot(0, 0).refused.last(), Some(&("per_address", 1)));
    }
}
