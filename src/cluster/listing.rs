//! The users of one instance for another one that asks, a part at a time.

use serde::{Deserialize, Serialize};
use sockring_protocol::adapter::{Answer, Message};

use crate::shard::{Mail, Reply};

use super::Cluster;
use super::awaiting::replies;

/// The event that asks for them.
const EVENT: &str = "sockring:users";
/// Users of one answer.
const LISTED_MAX: usize = 1000;
/// Looks of shards for one answer.
const LOOKS_MAX: usize = 32;

/// Some users of an instance, each with its sockets there, and the shard and place from which to ask on; `None`: they were the
/// last.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListedUsers {
    pub users: Vec<(Box<str>, u64)>,
    pub next: Option<(u16, u32)>,
}

/// Which part of the list: so many users at the most, from a place of a shard on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UsersPart {
    pub shard: u16,
    pub from: u32,
    pub limit: usize,
}

impl UsersPart {
    /// What an event of servers asks for, and of which instance.
    pub(super) fn of(args: &[u8]) -> Option<(UsersPart, Box<str>)> {
        let (event, id, shard, from, limit): (Box<str>, _, _, _, usize) = serde_json::from_slice(args).ok()?;
        (*event == *EVENT).then(|| (UsersPart { shard, from, limit: limit.min(LISTED_MAX) }, id))
    }
}

impl Cluster {
    /// Some of the users of another instance. `None`: none of this id has answered.
    pub async fn users_of(&self, id: &str, part: UsersPart) -> Option<ListedUsers> {
        let (namespace, request) = (self.namespaces.first()?, self.request_id());
        let args = serde_json::to_vec(&(EVENT, id, part.shard, part.from, part.limit)).ok()?;
        let message = Message::ServerSide { request: Some(request.clone()), args: args.into() };
        let users = |answer| match answer {
            Answer::ServerSide(value) => serde_json::from_slice(&value).ok(),
            _ => None,
        };
        self.ask(namespace, request, message, users).await.answers.pop()
    }

    /// What this one answers: one shard after the other, until there are so many, or it was asked often enough.
    pub(super) async fn own_users(&self, UsersPart { mut shard, mut from, limit }: UsersPart) -> Answer {
        let mut users = Vec::new();
        for _ in 0..LOOKS_MAX {
            let Some(postbox) = self.postboxes.get(usize::from(shard)) else { break };
            if users.len() == limit {
                break;
            }
            let asked = postbox.ask(Mail::Users { from, limit: limit - users.len() });
            let Some(Reply::Users { users: more, next }) = replies(asked.into_iter().collect()).await.pop() else {
                return Answer::ServerSide(b"null".to_vec().into());
            };
            users.extend(more);
            (shard, from) = next.map_or((shard.saturating_add(1), 0), |from| (shard, from));
        }
        let listed = ListedUsers { users, next: Some((shard, from)).filter(|_| shard < self.shards()) };
        Answer::ServerSide(serde_json::to_vec(&listed).unwrap_or_else(|_| b"null".to_vec()).into())
    }
}
