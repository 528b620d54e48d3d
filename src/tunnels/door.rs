//! The door: where other instances dial (`cluster_listen`). Whoever has proved that it knows the secret and said for whom it
//! comes is a connection of a shard from then on.

use std::io;
use std::net::TcpListener as Listener;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::timeout;

use super::Tunnels;
use super::counters::TunnelRefusal;
use super::proof::{CHANCE_BYTES, HELLO_BYTES, PREFACE_BYTES_MAX, SecretProof, TAG_BYTES, Unproven};

/// From accepting to the end of the preface.
const PROVED_WITHIN: Duration = Duration::from_secs(3);
/// That have not proved anything; more wait to be accepted.
const UNPROVED_MAX: usize = 256;
const PAUSE: Duration = Duration::from_millis(100);

/// Accepts for as long as the core lives.
pub(super) async fn keep(tunnels: Arc<Tunnels>, listener: Listener) {
    if let Err(error) = accept_all(tunnels, listener).await {
        tracing::error!(%error, "cluster_listen: other instances cannot dial this one; they reach it over Redis");
    }
}

async fn accept_all(tunnels: Arc<Tunnels>, listener: Listener) -> io::Result<()> {
    listener.set_nonblocking(true)?;
    let listener = TcpListener::from_std(listener)?;
    let places = Arc::new(Semaphore::new(UNPROVED_MAX));
    loop {
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { return Ok(()) };
        match listener.accept().await {
            Ok((stream, _)) => {
                let tunnels = Arc::clone(&tunnels);
                tokio::task::spawn_local(async move {
                    let _place = place;
                    let refusal = match timeout(PROVED_WITHIN, meet(&tunnels, stream)).await {
                        Ok(Ok(())) => return,
                        Ok(Err(refusal)) => refusal,
                        Err(_) => TunnelRefusal::Slow,
                    };
                    tunnels.counters.refuse(refusal);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "a tunnel could not be accepted");
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

/// Lets in whoever proves that it may come. Nothing behind the preface is read: it is the shard's.
async fn meet(tunnels: &Tunnels, mut stream: TcpStream) -> Result<(), TunnelRefusal> {
    let broken = |_: io::Error| TunnelRefusal::Wrong;
    let unproven = |unproven| match unproven {
        Unproven::Secret => TunnelRefusal::Secret,
        Unproven::Wrong => TunnelRefusal::Wrong,
    };
    let secret = tunnels.cluster.tunnel_secret().ok_or(TunnelRefusal::Secret)?;
    stream.set_nodelay(true).map_err(broken)?;
    let mut hello = [0; HELLO_BYTES];
    stream.read_exact(&mut hello).await.map_err(broken)?;
    let mut chance = [0; CHANCE_BYTES];
    tunnels.cluster.fill(&mut chance);
    let proof = SecretProof::of_acceptor(secret, chance, &hello).map_err(unproven)?;
    stream.write_all(&proof.challenge()).await.map_err(broken)?;
    let length = usize::from(stream.read_u8().await.map_err(broken)?);
    if length > PREFACE_BYTES_MAX {
        return Err(TunnelRefusal::Wrong);
    }
    let (mut preface, mut tag) = (vec![0; length], [0; TAG_BYTES]);
    stream.read_exact(&mut preface).await.map_err(broken)?;
    stream.read_exact(&mut tag).await.map_err(broken)?;
    let preface = proof.accept(&preface, &tag).map_err(unproven)?;
    if preface.to != tunnels.engine.instance {
        // It was started anew under another name, and its address is as before.
        return Err(TunnelRefusal::Wrong);
    }
    let stream = stream.into_std().map_err(broken)?;
    // As the ring wants it: an operation on it waits.
    stream.set_nonblocking(false).map_err(broken)?;
    // What becomes of it is counted there.
    let _ = tunnels.let_in(preface.visitor, OwnedFd::from(stream));
    Ok(())
}
