//! What reaches beyond this instance: emits and changes are published, questions asked of the others.

use std::cell::RefCell;
use std::sync::Arc;

use serde_json::{Value, json};
use sockring_protocol::adapter::{Broadcast, Ending, Message, Selection, SocketDescription};
use tokio::task::JoinSet;

use crate::cluster::{Cluster, Condition, Gathered, InOrder, Readiness};
use crate::shard::{EventId, Keeping, Mail, Target, USER_PREFIX};

use super::Api;
use super::answer::ApiError;

/// What came of an emit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Emitted {
    /// Sockets of this instance that have it queued.
    pub(super) delivered: u64,
    /// Redis has it.
    pub(super) published: bool,
    pub(super) memory: Memory,
    /// Whether it is kept for all of its users, and until when. `None`: it was not to be.
    pub(super) keeping: Option<(Keeping, u64)>,
}

impl Emitted {
    /// Of an emit of which nothing is remembered.
    pub(super) fn plain(delivered: u64, published: bool) -> Emitted {
        Emitted { delivered, published, memory: Memory::Nothing, keeping: None }
    }
}

/// What is remembered of an emit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Memory {
    Nothing,
    New(EventId),
    /// It has come before.
    Repeated(EventId),
    /// Another one has come under its key, for some of those that it is for.
    AnotherEvent,
}

/// What came of a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Changed {
    /// Sockets of this instance.
    pub(super) sockets: u64,
    /// Redis has it.
    pub(super) published: bool,
    /// All other instances that have such sockets hear the room that these have joined; `None`: there is none to say so, or
    /// no room.
    pub(super) confirmed: Option<bool>,
}

/// What is done to sockets.
#[derive(Clone, Debug)]
pub(super) enum SocketChange {
    Join(Box<str>),
    Leave(Box<str>),
    End(Ending),
}

/// Where a user has sockets.
#[derive(Clone, Debug, Default)]
pub(super) struct Whereabouts {
    pub(super) sockets: u64,
    /// Instances with some of them.
    pub(super) instances: u64,
    /// What is not known; `None`: there are no other instances.
    pub(super) unknown: Option<Unknown>,
}

#[derive(Clone, Debug, Default)]
pub(super) struct Unknown {
    /// Instances that did not answer; `None`: not even that is known.
    pub(super) missing: Option<usize>,
    pub(super) silent: Vec<Box<str>>,
}

impl Api {
    /// Emits to all members, wherever they are.
    pub(super) async fn emit(&self, broadcast: Broadcast) -> Result<Emitted, ApiError> {
        let emitted = self.emit_all(vec![broadcast]).await?;
        Ok(emitted.first().copied().unwrap_or(Emitted::plain(0, false)))
    }

    /// Emits several; what came of them is in their order. Here and elsewhere at the same time.
    pub(super) async fn emit_all(&self, broadcasts: Vec<Broadcast>) -> Result<Vec<Emitted>, ApiError> {
        if let Some(cluster) = self.cluster.as_deref().filter(|cluster| cluster.delivers_what_it_reads()) {
            return self.emit_in_order(cluster, broadcasts).await;
        }
        let count = broadcasts.len();
        let elsewhere = self.cluster.as_deref().map(|cluster| (cluster, broadcasts.clone()));
        let publishing = async {
            match elsewhere {
                None => vec![false; count],
                Some((cluster, broadcasts)) => publish_all(cluster, broadcasts).await,
            }
        };
        let (delivered, published) = tokio::join!(self.deliver_all(broadcasts), publishing);
        match delivered {
            Ok(delivered) => {
                let emitted = delivered.into_iter().zip(published);
                Ok(emitted.map(|(delivered, published)| Emitted::plain(delivered, published)).collect())
            }
            Err(error) => Err(with_published(error, published.iter().any(|published| *published))),
        }
    }

    /// The same where what Redis takes is delivered here when it comes back.
    async fn emit_in_order(&self, cluster: &Cluster, broadcasts: Vec<Broadcast>) -> Result<Vec<Emitted>, ApiError> {
        let refused = RefCell::new(None);
        let deliver = async |broadcasts| match self.deliver_all(broadcasts).await {
            Ok(delivered) => delivered,
            Err(error) => {
                refused.borrow_mut().get_or_insert(error);
                Vec::new()
            }
        };
        let emitted = cluster.emit_all(broadcasts, deliver).await;
        match refused.into_inner() {
            Some(error) => Err(with_published(error, emitted.iter().any(|emitted| emitted.published))),
            None => Ok(emitted
                .into_iter()
                .map(|InOrder { delivered, published }| Emitted::plain(delivered, published))
                .collect()),
        }
    }

    /// Delivers what was answered before it was read: what its caller does next is done at once.
    pub(super) async fn catch_up(&self) {
        if let Some(cluster) = &self.cluster {
            // What cannot be delivered is counted where it happens.
            cluster.catch_up(async |broadcasts| self.deliver_all(broadcasts).await.unwrap_or_default()).await;
        }
    }

    /// Changes sockets. For who is put into a room it ends when emits to the room reach them wherever they are, if the other
    /// instances say so in time.
    pub(super) async fn change_everywhere(&self, target: &Target, change: &SocketChange) -> Result<Changed, ApiError> {
        self.catch_up().await;
        let mail = || match change {
            SocketChange::Join(room) => Mail::Join(target.clone(), room.clone()),
            SocketChange::Leave(room) => Mail::Leave(target.clone(), room.clone()),
            SocketChange::End(ending) => Mail::Disconnect(target.clone(), *ending),
        };
        let elsewhere = async {
            let Some(cluster) = &self.cluster else { return (false, None) };
            let published = self.publish_change(cluster, target, change).await;
            let confirmed = match change {
                SocketChange::Join(room) => Some(published && self.is_joined_elsewhere(cluster, target, room).await),
                SocketChange::Leave(_) | SocketChange::End(_) => None,
            };
            (published, confirmed)
        };
        let (sockets, (published, confirmed)) = tokio::join!(self.change(mail), elsewhere);
        Ok(Changed { sockets: sockets?, published, confirmed })
    }

    /// Asks in all namespaces at once: each takes several times the way to Redis.
    async fn is_joined_elsewhere(&self, cluster: &Arc<Cluster>, target: &Target, room: &str) -> bool {
        let mut asked = JoinSet::new();
        for namespace in &self.engine.namespaces {
            let (cluster, selection, room) =
                (Arc::clone(cluster), selection(namespace, target), Box::<str>::from(room));
            asked.spawn_local(async move { cluster.is_joined(selection, &room).await });
        }
        while let Some(answer) = asked.join_next().await {
            if !matches!(answer, Ok(true)) {
                return false;
            }
        }
        true
    }

    async fn publish_change(&self, cluster: &Cluster, target: &Target, change: &SocketChange) -> bool {
        let mut messages = Vec::new();
        for namespace in &self.engine.namespaces {
            let selection = selection(namespace, target);
            let message = match change {
                SocketChange::Join(room) => Message::Join { selection, rooms: vec![room.clone()], confirm: None },
                SocketChange::Leave(room) => Message::Leave { selection, rooms: vec![room.clone()], confirm: None },
                SocketChange::End(ending) => Message::Disconnect { selection, ending: *ending, confirm: None },
            };
            messages.push((namespace.as_str(), message));
        }
        cluster.publish_all(&messages).await.iter().all(Result::is_ok)
    }

    /// Where a user has sockets, as far as the instances answer in time.
    pub(super) async fn whereabouts(&self, user: &str) -> Result<Whereabouts, ApiError> {
        let room = [USER_PREFIX, user].concat().into();
        let selection = Selection { namespace: "/".into(), rooms: vec![room], except: Vec::new() };
        let elsewhere = async {
            match &self.cluster {
                None => None,
                Some(cluster) => Some(cluster.fetch(selection).await),
            }
        };
        let (here, elsewhere) = tokio::join!(self.sockets_of(user), elsewhere);
        let here = here?;
        let mut found = Whereabouts { sockets: here, instances: u64::from(here > 0), unknown: None };
        if let Some(Gathered { answers, missing, silent }) = elsewhere {
            found.instances += answers.iter().filter(|sockets| !sockets.is_empty()).count() as u64;
            found.sockets += answers.iter().map(|sockets: &Vec<SocketDescription>| sockets.len() as u64).sum::<u64>();
            found.unknown = Some(Unknown { missing, silent });
        }
        Ok(found)
    }

    /// How many instances and servers there are, this one included.
    pub(super) async fn instances(&self) -> usize {
        match &self.cluster {
            None => 1,
            Some(cluster) => cluster.instances().await.unwrap_or(1),
        }
    }

    /// `None`: there is no Redis.
    pub(super) fn redis(&self) -> Option<RedisState> {
        self.cluster.as_deref().map(|cluster: &Cluster| RedisState {
            word: match cluster.condition() {
                Condition::Up => "up",
                Condition::Silent => "silent",
                Condition::Down => "down",
            },
            spoils_readiness: cluster.condition() == Condition::Down && cluster.readiness() == Readiness::RequiresRedis,
        })
    }
}

/// The sockets of a namespace that a target names.
fn selection(namespace: &str, target: &Target) -> Selection {
    let room = match target {
        Target::User(user) => [USER_PREFIX, user].concat().into(),
        Target::Socket(sid) => sid.clone(),
    };
    Selection { namespace: namespace.into(), rooms: vec![room], except: Vec::new() }
}

/// What was not done here was done elsewhere, perhaps.
fn with_published(mut error: ApiError, published: bool) -> ApiError {
    if let Value::Object(data) = &mut error.data {
        data.insert("published".to_owned(), json!(published));
    }
    error
}

async fn publish_all(cluster: &Cluster, broadcasts: Vec<Broadcast>) -> Vec<bool> {
    let names: Vec<Box<str>> = broadcasts.iter().map(|broadcast| broadcast.namespace.clone()).collect();
    let messages: Vec<_> =
        names.iter().zip(broadcasts).map(|(name, broadcast)| (&**name, Message::Broadcast(broadcast))).collect();
    cluster.publish_all(&messages).await.iter().map(Result::is_ok).collect()
}

/// How Redis is.
#[derive(Clone, Copy, Debug)]
pub(super) struct RedisState {
    pub(super) word: &'static str,
    pub(super) spoils_readiness: bool,
}
