//! `Claim`: what the sids of an instance begin with is its own as long as a key of Redis says so.

use std::sync::Arc;
use std::time::Duration;

use redis::{Cmd, Value, cmd};
use sockring_protocol::adapter::Adapter;
use tokio::time::timeout;

use crate::shard::Instance;

use super::Cluster;
use super::link::{Dialler, LinkError, text};
use super::outside::OperatingSystem;
use super::publisher::To;
use super::sentinels;
use super::settings::{Address, ClusterSettings};
use super::topology::Moved;

/// For how long a claim stands that nobody renews.
pub(super) const STANDS_MS: u64 = 20_000;
/// All that an end is held up by it.
const GOODBYE_WITHIN: Duration = Duration::from_millis(500);
const ANSWER_WITHIN: Duration = Duration::from_secs(2);
/// All that a start is held up by it.
const CLAIMED_WITHIN: Duration = Duration::from_secs(1);
/// Instances that are tried: with hundreds of them one is free by then.
const DRAWN_MAX: usize = 16;
/// Nodes that are asked who has the key's slot.
const NODES_MAX: usize = 4;

/// What a start calls itself among others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claimed {
    pub instance: Instance,
    pub run: Box<str>,
    /// What stood in the way of claiming it, for the log; the first announcement tells of a duplicate all the same.
    pub trouble: Option<String>,
}

/// The key that says whose an instance is.
pub(super) fn claim_of(settings: &ClusterSettings, instance: Instance) -> String {
    format!("sockring:{}:instance:{}", settings.prefix, instance.prefix())
}

/// Takes it where nobody has it.
pub(super) fn take(key: &str, run: &str) -> Cmd {
    cmd("SET").arg(key).arg(run).arg("NX").arg("PX").arg(STANDS_MS).take()
}

/// Has it, and says who had it.
fn keep(key: &str, run: &str) -> Cmd {
    cmd("SET").arg(key).arg(run).arg("PX").arg(STANDS_MS).arg("GET").take()
}

/// Gives it up.
pub(super) fn give_up(key: &str) -> Cmd {
    cmd("SET").arg(key).arg("").arg("XX").arg("PX").arg(1).take()
}

/// Renews ours. Without the right to, duplicates are noticed by their announcements.
pub(super) async fn renew(cluster: Arc<Cluster>, key: String) {
    let answer = cluster.backlog.ask(keep(&key, &cluster.run), To::OwnerOf(key), ANSWER_WITHIN).await;
    if let Ok(Some(other)) = answer.as_ref().map(text)
        && !other.is_empty()
        && other != &*cluster.run
    {
        cluster.tell_of_duplicate("its claim is in Redis");
    }
}

impl ClusterSettings {
    /// Draws an instance that nobody has claimed, and claims it. Where that cannot be found out, the first one is taken.
    /// Has to be called within the local tasks of a runtime.
    pub async fn claim(&self, run: &str, mut draw: impl FnMut() -> Instance) -> Claimed {
        let first = draw();
        let mut instance = first;
        let attempts = async {
            let dialler = Dialler::new(Arc::new(OperatingSystem), self).map_err(|error| error.to_string())?;
            let mut address = match &self.sentinels {
                None => self.address.clone(),
                Some(sentinels) => sentinels::find(&dialler.for_sentinels(sentinels), sentinels)
                    .await
                    .map_err(|error| error.to_string())?,
            };
            for _ in 0..DRAWN_MAX {
                let command = take(&claim_of(self, instance), run);
                match ask(&dialler, &mut address, &command).await? {
                    Value::Nil => instance = draw(),
                    _ => return Ok(instance),
                }
            }
            Err("all that were drawn are others'".to_owned())
        };
        let result = timeout(CLAIMED_WITHIN, attempts).await.unwrap_or_else(|_| Err("no answer in time".to_owned()));
        match result {
            Ok(instance) => Claimed { instance, run: run.into(), trouble: None },
            Err(trouble) => Claimed { instance: first, run: run.into(), trouble: Some(trouble) },
        }
    }
}

impl Cluster {
    /// Tells the others that this instance ends, and gives up its claim. Has to be called within the local tasks of a runtime,
    /// when nobody is served any more.
    pub async fn say_goodbye(&self) {
        if !self.has_tunnels() {
            return;
        }
        let (channel, body) = self.farewell();
        let verb = if self.adapter() == Adapter::Sharded { "SPUBLISH" } else { "PUBLISH" };
        let commands = [cmd(verb).arg(&channel).arg(body).take(), give_up(&claim_of(&self.settings, self.instance))];
        let _ = timeout(GOODBYE_WITHIN, async {
            for command in commands {
                let Ok(mut address) = self.where_master_is().await else { return };
                if let Err(error) = ask(&self.dialler, &mut address, &command).await {
                    tracing::debug!(error, "a last word to the other instances was not sent");
                }
            }
        })
        .await;
    }

    async fn where_master_is(&self) -> Result<Address, LinkError> {
        match &self.settings.sentinels {
            None => Ok(self.settings.address.clone()),
            Some(sentinels) => sentinels::find(&self.dialler.for_sentinels(sentinels), sentinels).await,
        }
    }
}

/// Asks whoever has the slot of the command's key.
async fn ask(dialler: &Dialler, address: &mut Address, command: &Cmd) -> Result<Value, String> {
    for _ in 0..NODES_MAX {
        let link = dialler.open(address, "sockring-claim").await.map_err(|error| error.to_string())?;
        let mut pipeline = redis::Pipeline::with_capacity(1);
        pipeline.add_command(command.clone());
        let answers = link.connection.clone().send_packed_commands(&pipeline, 0, 1).await;
        match answers.map_err(|error| error.to_string())?.pop() {
            Some(Value::ServerError(error)) => {
                let moved = Moved::from_details(error.details().unwrap_or_default(), address);
                match moved.filter(|_| error.code() == "MOVED") {
                    Some(moved) => *address = moved.to,
                    None => return Err(format!("{}: {}", error.code(), error.details().unwrap_or_default())),
                }
            }
            Some(answer) => return Ok(answer),
            None => return Err("no answer".to_owned()),
        }
    }
    Err("no node has the slot of the key".to_owned())
}
