//! The probe: whether the server would find its Redis, before it starts.

use std::sync::Arc;

use redis::{Cmd, RedisError, Value};
use sockring_protocol::adapter::{Adapter, stream_of};
use tokio::time::timeout;

use super::link::{Dialler, LinkError, PROBE_TIMEOUT, RedisMode, ServerInfo};
use super::outside::OperatingSystem;
use super::publisher::NO_RIGHT;
use super::sentinels;
use super::settings::{Address, ClusterSettings};

impl ClusterSettings {
    /// Connects once and subscribes, as the server would, and says what is there. Has to be called within the local tasks
    /// of a runtime.
    pub async fn probe(&self) -> Result<(Address, ServerInfo), LinkError> {
        timeout(PROBE_TIMEOUT, self.probe_at_leisure()).await.unwrap_or(Err(LinkError::Silent))
    }

    async fn probe_at_leisure(&self) -> Result<(Address, ServerInfo), LinkError> {
        let dialler = Dialler::new(Arc::new(OperatingSystem), self)?;
        let address = match &self.sentinels {
            None => self.address.clone(),
            Some(sentinels) => sentinels::find(&dialler.for_sentinels(sentinels), sentinels).await?,
        };
        let link = dialler.open(&address, "sockring-check").await?;
        let mut connection = link.connection.clone();
        for command in self.needed(link.server.mode) {
            let refused = match connection.send_packed_command(&command).await {
                Ok(Value::ServerError(error)) => Some(RedisError::from(error)),
                Ok(_) => None,
                Err(error) => Some(error),
            };
            // What else Redis has against a command comes after the question whether we may.
            if let Some(error) = refused.filter(|error| error.code() == Some(NO_RIGHT)) {
                return Err(LinkError::Refused(error.to_string()));
            }
        }
        Ok((address, link.server.clone()))
    }

    /// Each command that the server needs, so that it harms nobody.
    fn needed(&self, mode: RedisMode) -> Vec<Cmd> {
        let (prefix, name) = (&self.prefix, format!("{}#/#check", self.prefix));
        let stream = stream_of(&self.streams.name, self.streams.count, "/");
        let command = |words: &[&str]| {
            let mut command = Cmd::new();
            command.arg(words);
            command
        };
        let mut commands = match self.adapter {
            Adapter::Classic => vec![
                command(&["PSUBSCRIBE", &format!("{name}*#")]),
                command(&["SUBSCRIBE", &name]),
                // Nobody hears this channel.
                command(&["PUBLISH", &format!("{prefix}-check#"), ""]),
                command(&["PUBSUB", "NUMSUB", &name]),
            ],
            Adapter::Sharded => vec![
                command(&["SSUBSCRIBE", &name]),
                command(&["SPUBLISH", &format!("{prefix}-check#"), ""]),
                command(&["PUBSUB", "SHARDNUMSUB", &name]),
            ],
            Adapter::Streams => vec![
                command(&["SUBSCRIBE", &name]),
                command(&["PUBLISH", &format!("{prefix}-check#"), ""]),
                command(&["PUBSUB", "NUMSUB", &name]),
                command(&["XREVRANGE", &stream, "+", "-", "COUNT", "1"]),
                command(&["XREAD", "COUNT", "1", "STREAMS", &stream, "$"]),
                // No entry may be called this.
                command(&["XADD", &stream, "check", "check", ""]),
            ],
        };
        if let Some(sessions) = &self.streams.sessions {
            let key = format!("{}check", sessions.prefix);
            commands.extend([
                command(&["XRANGE", &stream, "-", "+", "COUNT", "1"]),
                command(&["XLEN", &stream]),
                command(&["GET", &key]),
                // Nothing is there to be replaced.
                command(&["SET", &key, "", "PX", "1", "XX"]),
            ]);
            if sessions.secret.is_none() {
                let key = self.streams.secret_key();
                commands.extend([command(&["GET", &key]), command(&["SET", &key, "", "PX", "1", "NX", "XX"])]);
            }
        }
        if mode == RedisMode::Cluster {
            commands.push(command(&["CLUSTER", "SLOTS"]));
        }
        commands
    }
}
