//! The probe: whether the server would find its Redis, before it starts.

use std::sync::Arc;

use redis::{Cmd, Value, cmd};
use sockring_protocol::adapter::{Adapter, stream_of};
use tokio::time::timeout;

use super::link::{Dialler, LinkError, PROBE_TIMEOUT, ServerInfo};
use super::outside::OperatingSystem;
use super::publisher::is_elsewhere;
use super::sentinels;
use super::settings::{Address, ClusterSettings};

impl ClusterSettings {
    /// Connects once and subscribes, as the server would, and says what is there. Has to be called within the local tasks
    /// of a runtime.
    pub async fn probe(&self) -> Result<(Address, ServerInfo), LinkError> {
        timeout(PROBE_TIMEOUT, self.probe_at_leisure()).await.unwrap_or(Err(LinkError::Silent))
    }

    /// What the reader of a stream asks first.
    fn first_look(&self) -> Cmd {
        let stream = stream_of(&self.streams.name, self.streams.count, "/");
        cmd("XREVRANGE").arg(stream).arg("+").arg("-").arg("COUNT").arg(1).take()
    }

    async fn probe_at_leisure(&self) -> Result<(Address, ServerInfo), LinkError> {
        let dialler = Dialler::new(Arc::new(OperatingSystem), self)?;
        let address = match &self.sentinels {
            None => self.address.clone(),
            Some(sentinels) => sentinels::find(&dialler.for_sentinels(sentinels), sentinels).await?,
        };
        let link = dialler.open(&address, "sockring-check").await?;
        let (mut connection, name) = (link.connection.clone(), format!("{}#/#check", self.prefix));
        let subscribed = match self.adapter {
            Adapter::Classic => connection.psubscribe(name + "*#").await,
            // A stream that is not there yet is read as one without entries.
            Adapter::Streams => match connection.subscribe(name).await {
                Ok(()) => match connection.send_packed_command(&self.first_look()).await {
                    Ok(Value::ServerError(error)) if !is_elsewhere(error.code()) => Err(error.into()),
                    Err(error) if !error.code().is_some_and(is_elsewhere) => Err(error),
                    _ => Ok(()),
                },
                Err(error) => Err(error),
            },
            // Which node of a cluster has a channel does not matter here; whether we may, is said before that.
            Adapter::Sharded => match connection.send_packed_command(cmd("SSUBSCRIBE").arg(name)).await {
                Ok(Value::ServerError(error)) if !is_elsewhere(error.code()) => Err(error.into()),
                Err(error) if !error.code().is_some_and(is_elsewhere) => Err(error),
                _ => Ok(()),
            },
        };
        subscribed.map_err(|error| LinkError::Refused(error.to_string()))?;
        Ok((address, link.server.clone()))
    }
}
