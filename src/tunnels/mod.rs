//! Tunnels: a request whose session another instance has is brought there, and its answer back, as bytes.
//!
//! ```text
//!   here                                                           the owner of the session
//!     shard --> carriage: one request, or a WebSocket for life       shard: as if it had accepted it
//!                 |  passage: by TCP (cluster_listen) ------------>   door: proves itself, lets in
//!                 |       or a line over Redis -------------------->   host: the same limits
//!                 +--> back to its shard, with what was read behind the request
//! ```
//!
//! The instance that the client has come to reads of it only where a request and its answer end. Who the client is goes along,
//! so that limits by address hold where its session is; what another instance has brought is never brought on.

mod carriage;
mod client;
mod counters;
mod door;
mod passages;
mod pool;
mod proof;

use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::watch;

use crate::capacity::{Capacity, Door, Permit, Stranger, TooMany};
use crate::cluster::{Cluster, Refused, Visitor};
use crate::mailbox::{Letter, Postbox};
use crate::shard::{EngineSettings, Instance, Papers, Parcel, TunnelOrigin};
use crate::worker::Clock;

use counters::TunnelCounters;
use pool::{Pool, TunnelFile};

pub use counters::{TunnelMetrics, TunnelRefusal};

/// Everything that brings requests to other instances, and takes what they bring.
pub struct Tunnels {
    cluster: Arc<Cluster>,
    engine: Arc<EngineSettings>,
    capacity: Arc<Capacity>,
    shards: Vec<Postbox>,
    clock: Clock,
    counters: TunnelCounters,
    /// By core: passages that wait for the next request.
    pools: Vec<Mutex<Pool>>,
    /// Set when this instance ends: over how long.
    ending: watch::Sender<Option<Duration>>,
}

/// What they are made of.
pub struct TunnelParts {
    pub cluster: Arc<Cluster>,
    pub engine: Arc<EngineSettings>,
    /// Shared by all workers.
    pub capacity: Arc<Capacity>,
    /// The shards' mailboxes.
    pub shards: Vec<Postbox>,
    /// That of the workers.
    pub clock: Clock,
}

impl std::fmt::Debug for Tunnels {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tunnels").field("counters", &self.counters).finish_non_exhaustive()
    }
}

impl Tunnels {
    /// Connections that other instances bring over Redis are taken from now on.
    pub fn new(parts: TunnelParts) -> Arc<Tunnels> {
        let TunnelParts { cluster, engine, capacity, shards, clock } = parts;
        let pools = shards.iter().map(|_| Mutex::default()).collect();
        let (counters, ending) = (TunnelCounters::default(), watch::Sender::new(None));
        let tunnels = Arc::new(Tunnels { cluster, engine, capacity, shards, clock, counters, pools, ending });
        let host = Arc::downgrade(&tunnels);
        tunnels.cluster.receive_visitors(Box::new(move |visitor, descriptor| {
            let tunnels = host.upgrade().ok_or(Refused)?;
            tunnels.let_in(visitor, descriptor)?;
            // Ours of the two ends.
            Ok(Box::new(TunnelFile::of(&tunnels.capacity)))
        }));
        tunnels
    }

    /// Starts the tasks of a core. Has to be called within its runtime.
    pub fn start(self: &Arc<Self>, core: usize, listener: Option<TcpListener>) {
        if let Some(listener) = listener {
            tokio::task::spawn_local(door::keep(Arc::clone(self), listener));
        }
        tokio::task::spawn_local(passages::sweep(Arc::clone(self), core));
    }

    /// Brings the request that a connection's bytes begin with to the instance that has its session. Has to be called within
    /// the runtime of this core.
    pub fn carry(self: &Arc<Self>, core: usize, instance: Instance, descriptor: OwnedFd, parcel: Parcel) {
        tokio::task::spawn_local(carriage::run(Arc::clone(self), core, instance, descriptor, parcel));
    }

    /// This instance ends: WebSockets that it carries for others end too, evenly over this time.
    pub fn end_over(&self, over: Duration) {
        self.ending.send_replace(Some(over));
    }

    /// What was counted so far.
    pub fn metrics(&self) -> TunnelMetrics {
        let neighbours = self.cluster.neighbours() as u64;
        let idle = self.pools.iter().map(|pool| lock(pool).len() as u64).sum();
        self.counters.snapshot(neighbours, idle)
    }

    /// Gives a connection that another instance has brought to the shard that its session id names, as one that came by itself.
    fn let_in(&self, visitor: Visitor, descriptor: OwnedFd) -> Result<(), Refused> {
        let refuse = |reason| {
            self.counters.refuse(reason);
            Refused
        };
        let address = self.engine.proxies.client_address(visitor.address, []);
        let stranger = Stranger::enter(&self.capacity, Door::Clients, address)
            .map_err(|TooMany| refuse(TunnelRefusal::PerAddress))?;
        let shard = self.shards.get(usize::from(visitor.shard)).ok_or_else(|| refuse(TunnelRefusal::Wrong))?;
        let standing = self.capacity.take_seat().ok_or_else(|| refuse(TunnelRefusal::NoRoom))?;
        let papers = Papers {
            seat: Some(Permit::counted(Arc::clone(&self.capacity), standing)),
            stranger,
            origin: Some(TunnelOrigin { address: visitor.address }),
            ..Papers::default()
        };
        let parcel = Parcel::between_requests(Vec::new(), 0).with(papers);
        self.counters.received.fetch_add(1, Ordering::Relaxed);
        shard.post(Letter::Arrival(descriptor, Box::new(parcel)));
        Ok(())
    }
}

impl Tunnels {
    /// From 0 to 1.
    fn chance(&self) -> f64 {
        let mut byte = [0; 1];
        self.cluster.fill(&mut byte);
        f64::from(byte[0]) / 255.0
    }
}

fn lock(pool: &Mutex<Pool>) -> std::sync::MutexGuard<'_, Pool> {
    pool.lock().unwrap_or_else(PoisonError::into_inner)
}
