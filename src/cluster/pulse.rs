//! `Pulse`: whether a Redis still answers: it is asked every second, and only a question without an answer counts against it.

use std::future::pending;
use std::sync::Arc;
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use tokio::sync::{oneshot, watch};
use tokio::time::{Instant, Interval, MissedTickBehavior, interval};

use super::Cluster;
use super::flow::Flow;
use super::link::{RedisConnection, RedisRole, ServerInfo, greeting};
use super::settings::Address;

/// How often a Redis is asked whether it is there.
const INTERVAL: Duration = Duration::from_secs(1);

/// What is heard of a Redis.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Voice {
    Heard,
    /// It has left a question open for longer than answers take. It may still have all that was sent.
    Silent,
}

/// Of one connection.
pub(super) struct Pulse {
    connection: MultiplexedConnection,
    flow: Arc<Flow>,
    address: Address,
    /// Who the master is, where sentinels say so.
    master: watch::Receiver<Option<Address>>,
    ticks: Interval,
    timeout: Duration,
    asked: Option<Unanswered>,
}

/// A question without an answer.
struct Unanswered {
    at: Instant,
    /// Its time was over at an earlier look.
    is_overdue: bool,
    answer: oneshot::Receiver<ServerInfo>,
}

impl Pulse {
    pub(super) fn new(cluster: &Cluster, link: &RedisConnection) -> Pulse {
        let timeout = cluster.settings.silence_timeout;
        let mut ticks = interval(interval_for(timeout));
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (connection, flow) = (link.connection.clone(), Arc::clone(&link.flow));
        let mut master = cluster.master.subscribe();
        // It may have changed since the connection was dialled.
        master.mark_changed();
        Pulse { connection, flow, address: link.address.clone(), master, ticks, timeout, asked: None }
    }

    /// Waits for the next answer, or the next time to ask. An error: the connection counts as lost.
    pub(super) async fn next(&mut self) -> Result<Voice, String> {
        let answer = async {
            match &mut self.asked {
                Some(asked) => (&mut asked.answer).await,
                None => pending().await,
            }
        };
        tokio::select! {
            biased;
            answer = answer => {
                self.asked = None;
                // If it fails, the connection is gone, which is said elsewhere.
                let Ok(server) = answer else { return Ok(Voice::Heard) };
                server.check(RedisRole::Master).map(|()| Voice::Heard).map_err(|error| error.to_string())
            }
            Ok(()) = self.master.changed() => match &*self.master.borrow_and_update() {
                Some(master) if *master != self.address => Err(format!("{master} is the master now")),
                _ => Ok(Voice::Heard),
            },
            _ = self.ticks.tick() => self.on_tick(),
        }
    }

    fn on_tick(&mut self) -> Result<Voice, String> {
        let Some(asked) = &mut self.asked else {
            self.asked = Some(ask(self.connection.clone(), Arc::clone(&self.flow)));
            return Ok(Voice::Heard);
        };
        if asked.at.elapsed() > self.timeout {
            // We may have been stopped ourselves: then its answer waits to be read, perhaps behind much else.
            if asked.is_overdue && self.flow.is_drained() {
                return Err(format!("no answer came for {:.1} s", self.timeout.as_secs_f64()));
            }
            asked.is_overdue = true;
        }
        Ok(Voice::Silent)
    }
}

/// How often a Redis is asked that may leave a question open for this long.
pub(super) fn interval_for(timeout: Duration) -> Duration {
    INTERVAL.min(timeout / 2)
}

fn ask(mut connection: MultiplexedConnection, flow: Arc<Flow>) -> Unanswered {
    let (done, answer) = oneshot::channel();
    tokio::task::spawn_local(async move {
        let mut question = redis::pipe();
        // The second answer says whether it is still the master.
        question.cmd("PING").add_command(greeting());
        if let Ok(answers) = connection.send_packed_commands(&question, 0, 2).await {
            flow.answered();
            // Who waits for it may have gone.
            let _ = done.send(ServerInfo::of(answers.last()));
        }
    });
    Unanswered { at: Instant::now(), is_overdue: false, answer }
}
