//! `InstanceNumbers`: what an instance says of itself to another one that asks, as the answer to an event of servers.

use serde::{Deserialize, Serialize};
use sockring_protocol::adapter::{Answer, Message};

use crate::shard::{Mail, Reply, ShardStats};

use super::awaiting::replies;
use super::{Cluster, Gathered};

/// The event that asks for them. Node servers hear it too, have no listener for it, and do not answer.
pub(super) const QUESTION: &[u8] = br#"["sockring:numbers"]"#;

/// How much of each there is in one instance now.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct InstanceNumbers {
    /// What the other servers know it by; empty where there are none.
    pub id: Box<str>,
    /// Where it runs, for people.
    pub name: Box<str>,
    pub version: Box<str>,
    pub shards: u64,
    pub connected: u64,
    pub users: u64,
    pub rooms: u64,
    pub websocket: u64,
    pub polling: u64,
    pub queued_bytes: u64,
    pub kept_events: u64,
    pub uptime_seconds: u64,
}

impl InstanceNumbers {
    /// Of an instance called so, as its shards say.
    pub fn new(name: &str, uptime_seconds: u64, shards: &[ShardStats]) -> InstanceNumbers {
        let sum = |count: fn(&ShardStats) -> u64| shards.iter().map(count).sum();
        InstanceNumbers {
            id: "".into(),
            name: name.into(),
            version: env!("CARGO_PKG_VERSION").into(),
            shards: shards.len() as u64,
            connected: sum(|shard| shard.connected),
            users: sum(|shard| shard.users),
            rooms: sum(|shard| shard.rooms),
            websocket: sum(|shard| shard.websocket),
            polling: sum(|shard| shard.polling),
            queued_bytes: sum(|shard| shard.queued_bytes),
            kept_events: sum(|shard| shard.kept_events),
            uptime_seconds,
        }
    }
}

impl Cluster {
    /// What the other instances say of themselves. Of what answers without saying anything there is nothing.
    pub async fn numbers(&self) -> Gathered<InstanceNumbers> {
        let Some(namespace) = self.namespaces.first() else { return Gathered::default() };
        let request = self.request_id();
        let message = Message::ServerSide { request: Some(request.clone()), args: QUESTION.into() };
        let numbers = |answer| match answer {
            Answer::ServerSide(value) => serde_json::from_slice(&value).ok(),
            _ => None,
        };
        self.ask(namespace, request, message, numbers).await
    }

    /// What the other servers know this one by.
    pub fn id(&self) -> &str {
        self.uids.first().map_or("", |uid| uid)
    }

    /// What this one says.
    pub(super) async fn own_numbers(&self) -> Answer {
        let mut shards = Vec::new();
        for reply in replies(self.post(|| Mail::Stats)).await {
            if let Reply::Stats(stats) = reply {
                shards.push(*stats);
            }
        }
        let uptime_seconds = self.started.elapsed().as_secs();
        let numbers =
            InstanceNumbers { id: self.id().into(), ..InstanceNumbers::new(&self.name, uptime_seconds, &shards) };
        // Where a shard does not answer, what the others say is not this instance.
        let is_all = shards.len() == self.postboxes.len();
        let value = serde_json::to_vec(&numbers).ok().filter(|_| is_all);
        Answer::ServerSide(value.unwrap_or_else(|| b"null".to_vec()).into())
    }
}
