//! fanout: one emit to all, again and again; the next one when all have the former, or so many are under way.

use std::collections::VecDeque;
use std::error::Error;
use std::sync::Arc;

use sockring::ring::SendBytes;
use sockring_load::clock::now_ns;
use sockring_load::histogram::Histogram;
use sockring_load::report::Report;

use crate::crowd::{AfterAnswer, Event, Handler, Role, Todo};
use crate::http::Requests;
use crate::run::{Run, TURN, Window, nanos};

/// How a message begins that is counted: `e` is the event.
const PREFIX: &[u8] = b"42[\"e\",";
const STATUS_OK: u16 = 200;

/// Emits to all, and counts who has them.
pub struct Fanout {
    request: Arc<[u8]>,
    /// The connection that emits; those before it are clients.
    api: u32,
    api_state: ApiState,
    receivers: u32,
    pipeline: usize,
    is_over: bool,
    /// Emits under way: when each was sent, and how many have it still to come.
    rounds: VecDeque<(u64, u32)>,
    /// Emits that all have.
    completed: u32,
    /// Messages of each client.
    counts: Vec<u32>,
    /// From the request to the last receiver.
    pub last: Histogram,
    /// To each receiver.
    pub each: Histogram,
    pub ended: u32,
    refused: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ApiState {
    Free,
    Waiting,
    /// The server ends a connection after so many requests; another one takes its place.
    Closing,
}

impl Fanout {
    pub fn new(run: &Run, receivers: u32) -> Fanout {
        let body = format!("{{\"broadcast\":true,\"event\":\"e\",\"data\":\"{}\"}}", "x".repeat(run.flags.payload));
        let host = run.flags.target().map(|target| target.to_string()).unwrap_or_default();
        let requests = Requests::new(&host, run.flags.api_key.as_deref());
        Fanout {
            request: requests.post(&run.flags.api_path, body.as_bytes()).into(),
            api: run.flags.connections,
            api_state: ApiState::Free,
            receivers,
            pipeline: run.flags.pipeline.max(1),
            is_over: false,
            rounds: VecDeque::new(),
            completed: 0,
            counts: vec![0; run.flags.connections as usize],
            last: Histogram::default(),
            each: Histogram::default(),
            ended: 0,
            refused: 0,
        }
    }

    /// Emits if that is due.
    fn emit(&mut self, todo: &mut Todo) {
        if self.api_state == ApiState::Free && self.rounds.len() < self.pipeline && !self.is_over {
            self.api_state = ApiState::Waiting;
            self.rounds.push_back((now_ns(), self.receivers));
            todo.send(self.api, SendBytes::Shared(Arc::clone(&self.request)));
        }
    }

    fn on_message(&mut self, index: u32, todo: &mut Todo) {
        let count = &mut self.counts[index as usize];
        let at = count.wrapping_sub(self.completed) as usize;
        *count = count.wrapping_add(1);
        let now = now_ns();
        let Some((sent_at, left)) = self.rounds.get_mut(at) else {
            // More than was emitted.
            self.refused += 1;
            return;
        };
        *left -= 1;
        self.each.record(now - *sent_at);
        while let Some((sent_at, 0)) = self.rounds.front().copied() {
            self.rounds.pop_front();
            self.completed = self.completed.wrapping_add(1);
            self.last.record(now - sent_at);
        }
        self.emit(todo);
    }

    /// What has gone wrong, if anything has.
    pub fn fault(&self) -> Option<String> {
        match (self.refused, self.ended) {
            (0, 0) => None,
            (0, ended) => Some(format!("{ended} clients were closed by the server")),
            (refused, _) => Some(format!("{refused} emits were refused, or came twice")),
        }
    }

    pub fn clear(&mut self) {
        self.last.clear();
        self.each.clear();
    }
}

impl Handler for Fanout {
    fn handle(&mut self, event: Event<'_>, todo: &mut Todo) {
        match event {
            Event::Message(index, message) if message.starts_with(PREFIX) => self.on_message(index, todo),
            Event::Answered(_, status, after) => {
                if status != STATUS_OK {
                    eprintln!("load: an emit was answered with status {status}");
                    self.refused += 1;
                }
                self.api_state = match after {
                    AfterAnswer::KeepAlive => ApiState::Free,
                    AfterAnswer::Close => ApiState::Closing,
                };
                self.emit(todo);
            }
            Event::Closed(index) if index == self.api => {
                todo.open(index, Role::Api);
                self.api_state = ApiState::Free;
            }
            Event::Ended(index) if index != self.api => self.ended += 1,
            _ => {}
        }
    }
}

/// Emits until time is up and all have everything: what the window cost, aligned to whole emits with one under way.
pub fn drive(run: &mut Run, fanout: &mut Fanout, mut on_turn: impl FnMut(&Run)) -> Result<Window, Box<dyn Error>> {
    run.watchdog.stage("emitting to all", 0, run.warmup() + run.seconds() + run.margin());
    run.swarm.open(fanout.api, Role::Api)?;
    let mut mark = None;
    let mut until = now_ns() + nanos(run.warmup());
    loop {
        // An emit begins here only when none is under way; the rest follow from events.
        if fanout.rounds.is_empty() && fanout.api_state == ApiState::Free {
            if now_ns() >= until {
                match mark {
                    Some(begun) => return Ok(run.window(&begun)?),
                    None => {
                        fanout.clear();
                        mark = Some(run.mark()?);
                        until = now_ns() + nanos(run.seconds());
                        fanout.is_over = false;
                    }
                }
            }
            let mut todo = Todo::default();
            fanout.emit(&mut todo);
            run.swarm.perform_all(&mut todo)?;
        }
        run.swarm.turn(TURN, fanout)?;
        on_turn(run);
        run.watchdog.done(fanout.last.count());
        // Lets the emits under way end, so that a window begins and ends with none.
        fanout.is_over = now_ns() >= until;
        if let Some(fault) = fanout.fault() {
            return Err(fault.into());
        }
    }
}

pub fn run(run: &mut Run, report: &mut Report) -> Result<(), Box<dyn Error>> {
    run.gather(|_| Role::Client)?;
    run.settle()?;
    let mut fanout = Fanout::new(run, run.flags.connections);
    let window = drive(run, &mut fanout, |_| {})?;
    window.report(report);
    put_deliveries(report, &window, &fanout);
    report.put("starved", run.swarm.starved());
    Ok(())
}

pub fn put_deliveries(report: &mut Report, window: &Window, fanout: &Fanout) {
    let deliveries = fanout.each.count() as f64;
    report.put("emits", fanout.last.count());
    report.put("deliveries", fanout.each.count());
    report.ratio("deliveries_per_second", deliveries, window.seconds);
    report.ratio("per_cpu_second", deliveries, window.server.seconds());
    report.number("each_p50_us", fanout.each.quantile_us(0.5));
    report.number("each_p99_us", fanout.each.quantile_us(0.99));
    // Of the last receiver of each emit.
    report.latencies(&fanout.last);
}
