//! `Pool`: tunnels to other instances that wait for the next request of the same client's address.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::capacity::Capacity;
use crate::cluster::{Stream, Visitor};
use crate::shard::Instance;

/// One that nobody has used for so long is closed; well before the owner would close it.
const IDLE_MAX: Duration = Duration::from_secs(3);
/// To one place.
const IDLE_TUNNELS_MAX: usize = 64;

/// To whom, and for whom.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Goal {
    pub(super) instance: Instance,
    pub(super) visitor: Visitor,
}

/// Over what bytes go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Medium {
    Tcp,
    Redis,
}

pub(super) struct Tunnel {
    pub(super) stream: Box<dyn Stream>,
    pub(super) medium: Medium,
    /// The file that it takes.
    pub(super) descriptor: Option<TunnelFile>,
    /// It has carried a request before: its owner may have closed it meanwhile.
    pub(super) is_used: bool,
}

/// A file that a tunnel takes, counted among those of the process until it is dropped.
#[derive(Debug)]
pub(super) struct TunnelFile(Arc<Capacity>);

impl TunnelFile {
    pub(super) fn of(capacity: &Arc<Capacity>) -> TunnelFile {
        capacity.add_descriptor();
        TunnelFile(Arc::clone(capacity))
    }
}

impl Drop for TunnelFile {
    fn drop(&mut self) {
        self.0.give_back_descriptor();
    }
}

/// Ways that wait for the next request.
#[derive(Default)]
pub(super) struct Pool {
    tunnels: HashMap<Goal, Vec<(Tunnel, Instant)>>,
}

impl Pool {
    pub(super) fn len(&self) -> usize {
        self.tunnels.values().map(Vec::len).sum()
    }

    /// The one that was used last.
    pub(super) fn take(&mut self, goal: &Goal) -> Option<Tunnel> {
        let tunnels = self.tunnels.get_mut(goal)?;
        let last = tunnels.pop().map(|(tunnel, _)| tunnel);
        if tunnels.is_empty() {
            self.tunnels.remove(goal);
        }
        last
    }

    pub(super) fn put(&mut self, goal: &Goal, tunnel: Tunnel) {
        let tunnels = self.tunnels.entry(*goal).or_default();
        if tunnels.len() < IDLE_TUNNELS_MAX {
            tunnels.push((Tunnel { is_used: true, ..tunnel }, Instant::now()));
        }
    }

    /// Closes those that nobody uses.
    pub(super) fn sweep(&mut self, now: Instant) {
        self.tunnels.retain(|_, tunnels| {
            tunnels.retain(|(_, since)| now < *since + IDLE_MAX);
            !tunnels.is_empty()
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tunnel() -> Tunnel {
        Tunnel { stream: Box::new(tokio::io::duplex(1).0), medium: Medium::Redis, descriptor: None, is_used: false }
    }

    fn goal(shard: u16, address: &str) -> Goal {
        Goal { instance: Instance::new(1), visitor: Visitor { shard, address: address.parse().ok() } }
    }

    #[tokio::test]
    async fn a_tunnel_serves_again_for_the_same_client_and_not_for_ever() {
        let mut pool = Pool::default();
        let one = goal(0, "203.0.113.1");
        pool.put(&one, tunnel());
        assert!(pool.take(&goal(0, "203.0.113.2")).is_none() && pool.take(&goal(1, "203.0.113.1")).is_none());
        assert!(pool.take(&one).is_some_and(|tunnel| tunnel.is_used) && pool.take(&one).is_none());
        for _ in 0..2 * IDLE_TUNNELS_MAX {
            pool.put(&one, tunnel());
        }
        assert_eq!(pool.len(), IDLE_TUNNELS_MAX);
        pool.sweep(Instant::now() + IDLE_MAX / 2);
        assert_eq!(pool.len(), IDLE_TUNNELS_MAX);
        pool.sweep(Instant::now() + IDLE_MAX);
        assert!(pool.tunnels.is_empty());
    }
}
