//! `Health`: which connections to Redis are up, told to whoever asks, and to the log when that changes.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{sleep, timeout};

use crate::mailbox::{Letter, Postbox};
use crate::shard::BusMail;

use super::pulse::Voice;
use super::settings::Address;

/// Which node a connection is to.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Node {
    /// The one of the settings, or another of its Redis Cluster.
    Any,
    /// This master, by name.
    Master(String, u16),
}

impl Node {
    pub(super) fn at(address: &Address) -> Node {
        Node::Master(address.host.clone(), address.port)
    }
}

/// A connection that the instance needs.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum RedisConnectionId {
    Subscriber(Node),
    Publisher(Node),
    /// Of this stream.
    Reader(String),
}

impl fmt::Display for RedisConnectionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RedisConnectionId::Subscriber(_) => f.write_str("subscriber"),
            RedisConnectionId::Publisher(_) => f.write_str("publisher"),
            RedisConnectionId::Reader(_) => f.write_str("reader"),
        }
    }
}

/// How all connections together are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Condition {
    Up,
    /// They stand, and Redis does not answer for the moment.
    Silent,
    Down,
}

/// The least time between two attempts of a connection, whatever the others do.
const REST_MIN: Duration = Duration::from_millis(50);
/// What is said of one loss.
const REASONS_LOGGED: usize = 4;

#[derive(Debug, Default)]
struct State {
    down: BTreeSet<RedisConnectionId>,
    /// Of those that stand.
    silent: BTreeSet<RedisConnectionId>,
    /// What was logged since everything was up.
    logged: BTreeSet<String>,
}

/// All connections of the instance.
#[derive(Debug, Default)]
pub(super) struct Health {
    state: Mutex<State>,
    changed: Condvar,
    /// Redis has answered one of them.
    answered: Notify,
}

impl Health {
    /// A connection that is still to be opened.
    pub(super) fn expect(&self, connection: RedisConnectionId) {
        self.lock().down.insert(connection);
    }

    pub(super) fn on_up(&self, connection: &RedisConnectionId) {
        tracing::debug!(%connection, "a connection to Redis stands");
        self.answered.notify_waiters();
        self.remove(connection);
    }

    /// What is heard on a connection that stands.
    pub(super) fn on_voice(&self, connection: &RedisConnectionId, voice: Voice) {
        let mut state = self.lock();
        match voice {
            Voice::Heard => {
                if state.silent.remove(connection) && state.silent.is_empty() {
                    tracing::info!("Redis answers again");
                }
            }
            Voice::Silent => {
                if state.silent.insert(connection.clone()) && state.silent.len() == 1 {
                    tracing::warn!("Redis is silent for the {connection}; what it still has is waited for");
                }
            }
        }
    }

    /// A connection is as it should be: it stands, or nobody needs it.
    fn remove(&self, connection: &RedisConnectionId) {
        let mut state = self.lock();
        state.silent.remove(connection);
        if state.down.remove(connection) && state.down.is_empty() {
            state.logged.clear();
            tracing::info!("Redis is up: events reach the other instances");
            self.changed.notify_all();
        }
    }

    pub(super) fn on_down(&self, connection: RedisConnectionId, reason: &str) {
        tracing::debug!(%connection, reason, "a connection to Redis is lost");
        let mut state = self.lock();
        // Other connections go down for the same reason at the same time.
        if state.logged.len() < REASONS_LOGGED && state.logged.insert(reason.to_owned()) {
            tracing::warn!("Redis is down for the {connection}: {reason}; this instance's clients are served on");
        }
        state.silent.remove(&connection);
        state.down.insert(connection);
    }

    /// A connection that is not needed any more.
    pub(super) fn forget(&self, connection: &RedisConnectionId) {
        self.remove(connection);
    }

    /// Waits before the next attempt of a connection: this long, or until another one stands, since Redis is back then.
    pub(super) async fn rest(&self, at_most: Duration) {
        let answered = self.answered.notified();
        let least = at_most.min(REST_MIN);
        sleep(least).await;
        // Over in either case.
        let _ = timeout(at_most - least, answered).await;
    }

    pub(super) fn condition(&self) -> Condition {
        let state = self.lock();
        match (state.down.is_empty(), state.silent.is_empty()) {
            (false, _) => Condition::Down,
            (true, false) => Condition::Silent,
            (true, true) => Condition::Up,
        }
    }

    /// Connections that stand and on which a question is open for too long.
    pub(super) fn silent(&self) -> usize {
        self.lock().silent.len()
    }

    /// Waits, at most this long, until everything is up.
    pub(super) fn wait(&self, at_most: Duration) -> bool {
        let state = self.lock();
        let waited = self.changed.wait_timeout_while(state, at_most, |state| !state.down.is_empty());
        waited.unwrap_or_else(PoisonError::into_inner).0.down.is_empty()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What the shards are told of the connections over which messages come.
#[derive(Debug)]
pub(super) struct Presence {
    shards: Vec<Postbox>,
    subscribers: Mutex<Subscribers>,
}

#[derive(Debug, Default)]
struct Subscribers {
    are_up: BTreeMap<Node, bool>,
    was_up: bool,
}

impl Presence {
    pub(super) fn new(shards: Vec<Postbox>) -> Presence {
        Presence { shards, subscribers: Mutex::default() }
    }

    /// A connection is up, or not any more. Says whether all are.
    pub(super) fn set(&self, node: &Node, is_up: bool) -> bool {
        self.change(|subscribers| {
            subscribers.insert(node.clone(), is_up);
        })
    }

    pub(super) fn forget(&self, node: &Node) -> bool {
        self.change(|subscribers| {
            subscribers.remove(node);
        })
    }

    /// Whether messages come.
    pub(super) fn is_up(&self) -> bool {
        self.subscribers.lock().unwrap_or_else(PoisonError::into_inner).was_up
    }

    fn change(&self, change: impl FnOnce(&mut BTreeMap<Node, bool>)) -> bool {
        let mut subscribers = self.subscribers.lock().unwrap_or_else(PoisonError::into_inner);
        change(&mut subscribers.are_up);
        let is_up = !subscribers.are_up.is_empty() && subscribers.are_up.values().all(|is_up| *is_up);
        if is_up != subscribers.was_up {
            subscribers.was_up = is_up;
            for shard in &self.shards {
                shard.post(Letter::Bus(if is_up { BusMail::Up } else { BusMail::Down }));
            }
        }
        is_up
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;
    use std::sync::Arc;

    use super::*;
    use crate::mailbox::Mailbox;

    #[test]
    fn an_instance_is_up_when_all_its_connections_are() {
        let health = Health::default();
        let connections = [RedisConnectionId::Subscriber(Node::Any), RedisConnectionId::Publisher(Node::Any)];
        connections.iter().cloned().for_each(|connection| health.expect(connection));
        health.on_up(&connections[0]);
        assert_eq!((health.condition(), health.wait(Duration::ZERO)), (Condition::Down, false));
        health.on_up(&connections[1]);
        assert_eq!((health.condition(), health.wait(Duration::ZERO)), (Condition::Up, true));
        health.on_down(connections[0].clone(), "a test");
        assert_eq!(health.condition(), Condition::Down);
        health.forget(&connections[0]);
        assert_eq!(health.condition(), Condition::Up);
    }

    #[test]
    fn who_does_not_answer_is_silent_until_it_is_heard_or_lost() {
        let health = Health::default();
        let connections = [RedisConnectionId::Subscriber(Node::Any), RedisConnectionId::Publisher(Node::Any)];
        connections.iter().for_each(|connection| health.on_voice(connection, Voice::Silent));
        assert_eq!((health.condition(), health.silent()), (Condition::Silent, 2));
        health.on_voice(&connections[0], Voice::Heard);
        assert_eq!(health.condition(), Condition::Silent);
        health.on_down(connections[1].clone(), "a test");
        assert_eq!((health.condition(), health.silent()), (Condition::Down, 0));
        health.on_up(&connections[1]);
        assert_eq!(health.condition(), Condition::Up);
    }

    #[tokio::test]
    async fn a_connection_that_stands_ends_the_rest_of_the_others() {
        let health = Health::default();
        let connection = RedisConnectionId::Publisher(Node::Any);
        let begun = tokio::time::Instant::now();
        health.on_up(&connection);
        health.rest(2 * REST_MIN).await;
        assert!(begun.elapsed() >= 2 * REST_MIN, "what stood before does not count");
        // Even when it stands before the least time is over.
        for after in [Duration::ZERO, 2 * REST_MIN] {
            let begun = tokio::time::Instant::now();
            let stands = async {
                sleep(after).await;
                health.on_up(&connection);
            };
            tokio::join!(health.rest(Duration::from_secs(600)), stands);
            let took = begun.elapsed();
            assert!(took >= REST_MIN.max(after) && took < Duration::from_secs(300), "{took:?}");
        }
    }

    #[test]
    fn a_shard_hears_of_changes_only() {
        let mailbox = Arc::new(Mailbox::new(1000));
        let presence = Presence::new(vec![Postbox::new(Arc::clone(&mailbox), 0)]);
        let node = Node::Master("a".to_owned(), 1);
        let mut letters = VecDeque::new();
        let mut heard = |presence: &Presence, node: &Node, is_up| {
            presence.set(node, is_up);
            letters.clear();
            mailbox.collect(&mut letters);
            letters.iter().map(|letter| format!("{letter:?}")).collect::<String>()
        };
        assert_eq!(heard(&presence, &Node::Any, false), "");
        assert_eq!(heard(&presence, &Node::Any, true), "Bus(Up)");
        assert_eq!(heard(&presence, &node, true), "");
        assert_eq!(heard(&presence, &node, false), "Bus(Down)");
        assert_eq!(heard(&presence, &Node::Any, false), "");
        assert!(!presence.forget(&node));
        assert_eq!(heard(&presence, &Node::Any, true), "Bus(Up)");
    }
}
