//! The nodes of a Redis Cluster: who they are, kept up to date, and which of them a connection is to be opened to.

use std::sync::Arc;
use std::time::Duration;

use redis::cmd;
use tokio::time::timeout;

use super::Cluster;
use super::health::Node;
use super::link::{LinkError, RedisConnection, RedisMode, ServerInfo};
use super::publisher::To;
use super::sentinels;
use super::settings::Address;
use super::topology::{Moved, SlotMap, Topology};

/// Between two looks at the map of slots, however often it seems to be stale.
const PAUSE: Duration = Duration::from_millis(200);
/// A look without a reason.
const NOW_AND_THEN: Duration = Duration::from_secs(15);
const ANSWER_WITHIN: Duration = Duration::from_secs(1);

/// Keeps the map of slots up to date.
pub(super) async fn watch(cluster: Arc<Cluster>) {
    loop {
        let _ = timeout(NOW_AND_THEN, cluster.topology_is_stale.notified()).await;
        if *cluster.topology.borrow() != Topology::Single && cluster.backlog.is_up() {
            cluster.refresh_topology().await;
        }
        tokio::time::sleep(PAUSE).await;
    }
}

impl Cluster {
    /// A node has said what it is.
    pub(super) fn on_server(&self, server: &ServerInfo, address: &Address) {
        tracing::debug!(%address, version = server.version, "connected to Redis");
        if server.mode == RedisMode::Standalone {
            self.learn(Topology::Single);
        } else {
            self.topology_is_stale.notify_one();
        }
    }

    async fn refresh_topology(&self) {
        let command = cmd("CLUSTER").arg("SLOTS").take();
        if let Ok(answer) = self.backlog.ask(command, To::Anybody, ANSWER_WITHIN).await
            && let Some(map) = SlotMap::from_answer(&answer, &self.settings.address)
        {
            self.learn(Topology::Slots(map));
        }
    }

    /// A node has said who has a slot now. All learn the whole map in a moment; what looks up that slot goes there at once.
    pub(super) fn on_moved(&self, moved: Moved) {
        self.topology_is_stale.notify_one();
        self.topology.send_if_modified(|known| {
            if let Topology::Slots(map) = known {
                map.amend(moved);
            }
            false
        });
    }

    fn learn(&self, topology: Topology) {
        self.topology.send_if_modified(|known| {
            let is_new = *known != topology;
            if is_new {
                *known = topology;
            }
            is_new
        });
    }

    /// The next attempt for a connection.
    pub(super) async fn open(&self, node: Node, attempts: usize, name: &str) -> Result<RedisConnection, LinkError> {
        let address = match (&node, &self.settings.sentinels) {
            (Node::Any, Some(sentinels)) => sentinels::master(self, sentinels).await?,
            _ => self.address_of(&node, attempts),
        };
        let link = self.dialler.open(&address, name).await;
        if link.is_err() {
            self.master_is_stale.notify_one();
        }
        link
    }

    /// Where the next attempt goes. One to anybody goes round.
    fn address_of(&self, node: &Node, attempts: usize) -> Address {
        match node {
            Node::Master(host, port) => Address { host: host.clone(), port: *port },
            Node::Any => {
                let mut known = vec![self.settings.address.clone()];
                if let Topology::Slots(map) = &*self.topology.borrow() {
                    known.extend(map.masters().iter().filter(|master| **master != self.settings.address).cloned());
                }
                known.swap_remove(attempts % known.len())
            }
        }
    }
}
