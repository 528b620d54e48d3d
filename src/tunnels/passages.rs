//! How a passage to another instance is opened: by TCP where it says that it can be dialled, else over Redis.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};

use crate::cluster::Address;

use super::counters::TunnelRefusal;
use super::pool::{Goal, Medium, Tunnel, TunnelFile};
use super::proof::{CHALLENGE_BYTES, CHANCE_BYTES, Preface, SecretProof, hello};
use super::{Tunnels, lock};

/// For dialling, and until both have proved themselves: an owner that is stopped for a moment is waited for.
const DIALLED_WITHIN: Duration = Duration::from_secs(10);
const SWEPT_EVERY: Duration = Duration::from_secs(1);

/// Closes the passages of a core that nobody uses.
pub(super) async fn sweep(tunnels: Arc<Tunnels>, core: usize) {
    loop {
        tokio::time::sleep(SWEPT_EVERY).await;
        if let Some(pool) = tunnels.pools.get(core) {
            lock(pool).sweep(Instant::now());
        }
    }
}

impl Tunnels {
    /// A new one.
    pub(super) async fn open_passage(&self, goal: &Goal) -> Result<Tunnel, TunnelRefusal> {
        let neighbour = self.cluster.neighbour(goal.instance).ok_or(TunnelRefusal::Gone)?;
        if let (Some(address), Some(secret)) = (&neighbour.address, self.cluster.tunnel_secret()) {
            match timeout(DIALLED_WITHIN, self.dial(address, secret, goal)).await {
                Ok(Ok(stream)) => {
                    let descriptor = Some(TunnelFile::of(&self.capacity));
                    return Ok(Tunnel { stream: Box::new(stream), medium: Medium::Tcp, descriptor, is_used: false });
                }
                // Who cannot be dialled may still hear Redis.
                Ok(Err(error)) => self.counters.tell_of_dialling(address, &error),
                Err(_) => return Err(TunnelRefusal::Unreachable),
            }
        }
        let stream = self.cluster.open_line(goal.instance, goal.visitor);
        Ok(Tunnel { stream: Box::new(stream), medium: Medium::Redis, descriptor: None, is_used: false })
    }

    async fn dial(&self, address: &Address, secret: &[u8], goal: &Goal) -> io::Result<TcpStream> {
        let mut stream = TcpStream::connect((&*address.host, address.port)).await?;
        stream.set_nodelay(true)?;
        let mut chance = [0; CHANCE_BYTES];
        self.cluster.fill(&mut chance);
        stream.write_all(&hello(&chance)).await?;
        let mut challenge = [0; CHALLENGE_BYTES];
        stream.read_exact(&mut challenge).await?;
        let unproven = |_| io::Error::other("it does not know our cluster_secret");
        let proof = SecretProof::of_dialler(secret, chance, &challenge).map_err(unproven)?;
        let preface = Preface { to: goal.instance, from: self.engine.instance, visitor: goal.visitor };
        stream.write_all(&proof.introduce(&preface)).await?;
        Ok(stream)
    }
}
