//! The probe: whether the server would find its Redis, before it starts.

use std::sync::Arc;

use redis::{Cmd, RedisError, Value};
use sockring_protocol::adapter::{Adapter, stream_of};
use tokio::time::timeout;

use crate::shard::Instance;

use super::claim::claim_of;
use super::link::{Dialler, LinkError, PROBE_TIMEOUT, RedisMode, ServerInfo};
use super::outside::OperatingSystem;
use super::publisher::is_no_right;
use super::scripts::KEEP;
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
            let is_ours = |error: &RedisError| is_no_right(error.code().unwrap_or_default(), error.detail());
            if let Some(error) = refused.filter(is_ours) {
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
        commands.extend(needed_to_keep());
        if self.tunnels.tunnels_max > 0 {
            let verb = if self.adapter == Adapter::Sharded { "SSUBSCRIBE" } else { "SUBSCRIBE" };
            let claim = format!("{}check", claim_of(self, Instance::default()));
            commands.extend([
                command(&[verb, &format!("{prefix}-link#")]),
                command(&["SET", &claim, "", "PX", "1", "NX", "XX"]),
            ]);
        }
        if mode == RedisMode::Cluster {
            commands.push(command(&["CLUSTER", "SLOTS"]));
        }
        commands
    }
}

/// What keeps events, and what its scripts do, under a key that is over at once.
fn needed_to_keep() -> Vec<Cmd> {
    const KEY: &str = "sockring:{check}:kept";
    let command = |words: &[&str]| {
        let mut command = Cmd::new();
        command.arg(words);
        command
    };
    vec![
        command(&["EVAL", "return 0", "0"]),
        KEEP.command(&[KEY]),
        command(&["GET", KEY]),
        // Nothing is there to be replaced.
        command(&["SET", KEY, "", "PX", "1", "XX"]),
        command(&["LINDEX", KEY, "0"]),
        command(&["LPOP", KEY]),
        command(&["LLEN", KEY]),
        command(&["LRANGE", KEY, "0", "-1"]),
        command(&["LREM", KEY, "1", "check"]),
        command(&["PTTL", KEY]),
        command(&["RPUSH", KEY, "check"]),
        command(&["PEXPIRE", KEY, "1"]),
    ]
}
