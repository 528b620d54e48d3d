//! `Pulse`: whether a Redis still answers: it is asked every second, and only a question without an answer counts against it.

use std::future::pending;
use std::sync::Arc;
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::cmd;
use tokio::sync::oneshot;
use tokio::time::{Instant, Interval, MissedTickBehavior, interval};

use super::flow::Flow;
use super::link::Link;

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
    ticks: Interval,
    timeout: Duration,
    asked: Option<Asked>,
}

/// A question without an answer.
struct Asked {
    at: Instant,
    /// Its time was over at an earlier look.
    is_overdue: bool,
    answer: oneshot::Receiver<()>,
}

impl Pulse {
    /// A question that stays open for longer than `timeout` ends the connection.
    pub(super) fn new(link: &Link, timeout: Duration) -> Pulse {
        let mut ticks = interval(INTERVAL.min(timeout / 2));
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (connection, flow) = (link.connection.clone(), Arc::clone(&link.flow));
        Pulse { connection, flow, ticks, timeout, asked: None }
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
            // If it fails, the connection is gone, which is said elsewhere.
            _ = answer => {
                self.asked = None;
                Ok(Voice::Heard)
            }
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

fn ask(mut connection: MultiplexedConnection, flow: Arc<Flow>) -> Asked {
    let (done, answer) = oneshot::channel();
    tokio::task::spawn_local(async move {
        if connection.send_packed_command(&cmd("PING")).await.is_ok() {
            flow.answered();
            // Who waits for it may have gone.
            let _ = done.send(());
        }
    });
    Asked { at: Instant::now(), is_overdue: false, answer }
}
