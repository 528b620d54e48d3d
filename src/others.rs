//! What serving has to do with other instances: what this one is called among them, where they dial it, and the last word.

use std::net::TcpListener;
use std::sync::Arc;

use sockring::cluster::Cluster;
use sockring::config::Settings;
use sockring::shard::Instance;

use crate::listen;

/// What this start is among others.
pub(crate) struct InstanceIdentity {
    pub(crate) instance: Instance,
    pub(crate) run: Box<str>,
}

impl InstanceIdentity {
    /// Draws an instance that nobody has, unless it is set or there is nobody else; `drawn` is the first.
    pub(crate) fn find(settings: &Settings, drawn: Instance) -> Result<InstanceIdentity, String> {
        let chance = || getrandom::u64().map_err(|error| format!("no random bytes: {error}"));
        let run: Box<str> = format!("{:016x}", chance()?).into();
        let is_free = settings.instance.is_none();
        let Some(cluster) = settings.cluster.as_ref().filter(|cluster| is_free && cluster.tunnels.tunnels_max > 0)
        else {
            return Ok(InstanceIdentity { instance: drawn, run });
        };
        let mut next = Some(drawn);
        let draw = || next.take().unwrap_or_else(|| Instance::new(getrandom::u32().unwrap_or_default()));
        let claimed = alone(cluster.claim(&run, draw))?;
        if let Some(trouble) = claimed.trouble {
            tracing::debug!(trouble, "what the session ids of this instance begin with is not claimed yet");
        }
        Ok(InstanceIdentity { instance: claimed.instance, run })
    }
}

/// Opens the address at which other instances dial, and has the settings say what it really is.
pub(crate) fn door(settings: &mut Settings) -> Result<Option<TcpListener>, String> {
    let Some(cluster) = &mut settings.cluster else { return Ok(None) };
    let Some(listen) = cluster.tunnels.listen else { return Ok(None) };
    let listener = listen::at(listen, "cluster_listen")?;
    cluster.tunnels.listen = listener.local_addr().ok();
    Ok(Some(listener))
}

/// Nobody is served any more, and nobody is to be brought here.
pub(crate) fn say_goodbye(cluster: &Arc<Cluster>) {
    if let Err(error) = alone(cluster.say_goodbye()) {
        tracing::debug!(error, "other instances were not told of the end");
    }
}

/// Does something on a runtime of its own.
fn alone<T>(something: impl Future<Output = T>) -> Result<T, String> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| format!("no runtime: {error}"))?;
    Ok(tokio::task::LocalSet::new().block_on(&runtime, something))
}
