//! churn: clients come, join, leave at once, and come again.

use std::error::Error;
use std::time::Duration;

use sockring_load::clock::now_ns;
use sockring_load::histogram::Histogram;
use sockring_load::report::Report;

use super::connect::put_handshakes;
use crate::crowd::{Event, Handler, Role, Todo};
use crate::run::{Run, TURN, nanos};

#[derive(Default)]
struct Churn {
    /// Places without a connection.
    free: Vec<u32>,
    opened_at_ns: Vec<u64>,
    /// From the connect to the answer to CONNECT.
    latencies: Histogram,
    left: u64,
    ended: u64,
}

impl Handler for Churn {
    fn handle(&mut self, event: Event<'_>, todo: &mut Todo) {
        match event {
            Event::Joined(index) => {
                self.latencies.record(now_ns() - self.opened_at_ns[index as usize]);
                todo.leave(index);
            }
            Event::Closed(index) => {
                self.left += 1;
                self.free.push(index);
            }
            Event::Ended(_) => self.ended += 1,
            Event::Message(..) | Event::Answered(..) => {}
        }
    }
}

/// Connects that are made before completions are looked at again.
const OPENED_PER_TURN: usize = 16;

pub fn run(run: &mut Run, report: &mut Report) -> Result<(), Box<dyn Error>> {
    let count = run.flags.connections;
    let mut churn =
        Churn { free: (0..count).rev().collect(), opened_at_ns: vec![0; count as usize], ..Churn::default() };
    run.watchdog.stage("churning", 0, run.warmup() + run.seconds() + run.margin());
    let mut pace = Pace::new(run.flags.rate);
    turn_until(run, &mut churn, &mut pace, now_ns() + nanos(run.warmup()))?;
    churn.latencies.clear();
    churn.left = 0;
    let begun = run.mark()?;
    turn_until(run, &mut churn, &mut pace, now_ns() + nanos(run.seconds()))?;
    let window = run.window(&begun)?;
    if churn.ended > 0 {
        return Err(format!("{} clients were closed by the server before they left", churn.ended).into());
    }
    window.report(report);
    put_handshakes(report, &window, churn.latencies.count() as f64);
    report.put("left", churn.left);
    report.latencies(&churn.latencies);
    Ok(())
}

fn turn_until(run: &mut Run, churn: &mut Churn, pace: &mut Pace, until_ns: u64) -> Result<(), Box<dyn Error>> {
    loop {
        let now = now_ns();
        if now >= until_ns {
            return Ok(());
        }
        for _ in 0..OPENED_PER_TURN {
            if !pace.is_due(now) {
                break;
            }
            let Some(index) = churn.free.pop() else { break };
            pace.step();
            churn.opened_at_ns[index as usize] = now_ns();
            run.swarm.open(index, Role::Client)?;
        }
        let wait = match churn.free.is_empty() {
            true => TURN,
            false => pace.wait(now).min(TURN),
        };
        run.swarm.turn(wait, churn)?;
        run.watchdog.done(churn.left);
    }
}

/// When the next client is due: at a rate, or always.
struct Pace {
    every_ns: f64,
    next_ns: f64,
}

impl Pace {
    fn new(rate: Option<f64>) -> Pace {
        Pace { every_ns: rate.map_or(0.0, |rate| 1e9 / rate), next_ns: now_ns() as f64 }
    }

    fn is_due(&self, now_ns: u64) -> bool {
        self.every_ns == 0.0 || self.next_ns <= now_ns as f64
    }

    fn step(&mut self) {
        self.next_ns += self.every_ns;
    }

    fn wait(&self, now_ns: u64) -> Duration {
        if self.every_ns == 0.0 { Duration::ZERO } else { Duration::from_nanos((self.next_ns - now_ns as f64) as u64) }
    }
}
