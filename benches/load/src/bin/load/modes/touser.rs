//! touser: emits to single users at a fixed rate, whether the server keeps up or not; each has to arrive, once.

use std::collections::VecDeque;
use std::error::Error;
use std::fmt::Write;
use std::time::Duration;

use sockring::ring::SendBytes;
use sockring_load::clock::now_ns;
use sockring_load::histogram::Histogram;
use sockring_load::report::Report;

use crate::crowd::{AfterAnswer, Event, Handler, Role, Todo};
use crate::http::Requests;
use crate::run::{Run, TURN, nanos};

/// How a message begins that is counted; the number of the emit follows.
const PREFIX: &[u8] = b"42[\"e\",\"";
const NUMBER_DIGITS: usize = 10;
const STATUS_OK: u16 = 200;
/// Nearer than this, the next emit is waited for awake: a timer would be late by about as much.
const AWAKE_NS: u64 = 150_000;
const DEFAULT_RATE: f64 = 2000.0;

/// One emit on its way.
#[derive(Clone, Copy, Debug)]
struct Emit {
    due_ns: u64,
    user: u32,
    received: bool,
}

struct ToUser {
    requests: Requests,
    path: String,
    padding: String,
    batch: u32,
    users: u32,
    random: u64,
    emits: Vec<Emit>,
    /// Numbers of the first emits of requests that wait for a connection.
    waiting: VecDeque<u32>,
    free: Vec<u32>,
    body: String,
    /// From when the emit was due to its reception.
    latencies: Histogram,
    /// From when the request was due to its answer.
    answers: Histogram,
    asked_at_ns: Vec<u64>,
    received: u64,
    /// Emits before this one are warm-up.
    measured_from: u32,
    wrong: u64,
    refused: u64,
    ended: u64,
}

impl ToUser {
    /// The next request is due: its emits get their numbers and users.
    fn schedule(&mut self, due_ns: u64) {
        let first = u32::try_from(self.emits.len()).unwrap_or(u32::MAX);
        for _ in 0..self.batch {
            // xorshift64
            self.random ^= self.random << 13;
            self.random ^= self.random >> 7;
            self.random ^= self.random << 17;
            let user = u32::try_from(self.random % u64::from(self.users)).unwrap_or(0);
            self.emits.push(Emit { due_ns, user, received: false });
        }
        self.waiting.push_back(first);
    }

    /// Sends what waits over the connections that are free.
    fn emit(&mut self, todo: &mut Todo) {
        while !self.waiting.is_empty()
            && let Some(connection) = self.free.pop()
        {
            let Some(first) = self.waiting.pop_front() else { break };
            self.asked_at_ns[(connection - self.users) as usize] = self.emits[first as usize].due_ns;
            self.write_body(first);
            todo.send(connection, SendBytes::Owned(self.requests.post(&self.path, self.body.as_bytes())));
        }
    }

    fn write_body(&mut self, first: u32) {
        let ToUser { body, padding, emits, batch, .. } = self;
        body.clear();
        if *batch > 1 {
            body.push('[');
        }
        for number in first..first + *batch {
            let comma = if number == first { "" } else { "," };
            let user = emits[number as usize].user;
            // Writing to a string cannot fail.
            let _ = write!(
                body,
                "{comma}{{\"user\":\"u{user}\",\"event\":\"e\",\"data\":\"{number:0NUMBER_DIGITS$}{padding}\"}}"
            );
        }
        if *batch > 1 {
            body.push(']');
        }
    }

    fn on_message(&mut self, index: u32, message: &[u8]) {
        let digits = message.get(PREFIX.len()..PREFIX.len() + NUMBER_DIGITS);
        let number = digits.and_then(|digits| std::str::from_utf8(digits).ok()?.parse::<u32>().ok());
        let Some((number, emit)) = number.and_then(|number| Some((number, self.emits.get_mut(number as usize)?)))
        else {
            self.wrong += 1;
            return;
        };
        if emit.received || emit.user != index {
            self.wrong += 1;
            return;
        }
        emit.received = true;
        self.received += 1;
        if number >= self.measured_from {
            self.latencies.record(now_ns().saturating_sub(emit.due_ns));
        }
    }
}

impl Handler for ToUser {
    fn handle(&mut self, event: Event<'_>, todo: &mut Todo) {
        match event {
            Event::Message(index, message) if message.starts_with(PREFIX) => self.on_message(index, message),
            Event::Answered(index, status, after) => {
                self.answers.record(now_ns().saturating_sub(self.asked_at_ns[(index - self.users) as usize]));
                if status != STATUS_OK {
                    self.refused += 1;
                }
                if after == AfterAnswer::KeepAlive {
                    self.free.push(index);
                    self.emit(todo);
                }
            }
            // The server ends a connection after so many requests; another one takes its place.
            Event::Closed(index) if index >= self.users => {
                todo.open(index, Role::Api);
                self.free.push(index);
                self.emit(todo);
            }
            Event::Ended(index) if index < self.users => self.ended += 1,
            _ => {}
        }
    }
}

pub fn run(run: &mut Run, report: &mut Report) -> Result<(), Box<dyn Error>> {
    if run.flags.secret.is_none() {
        return Err("touser needs --secret: users are known by their tokens".into());
    }
    run.gather(|_| Role::Client)?;
    run.settle()?;
    let users = run.flags.connections;
    for index in users..users + run.flags.api_connections {
        run.swarm.open(index, Role::Api)?;
    }
    let rate = run.flags.rate.unwrap_or(DEFAULT_RATE);
    let mut state = prepare(run, rate)?;
    run.watchdog.stage("emitting to users", 0, run.warmup() + run.seconds() + run.margin());
    let every_ns = 1e9 / rate * f64::from(state.batch);
    let mut next_ns = emit_until(run, &mut state, now_ns() as f64, every_ns, run.warmup())?;
    state.measured_from = u32::try_from(state.emits.len())?;
    let (begun, received_before) = (run.mark()?, state.received);
    state.answers.clear();
    next_ns = emit_until(run, &mut state, next_ns, every_ns, run.seconds())?;
    let window = run.window(&begun)?;
    let received = state.received - received_before;
    let behind =
        (now_ns() as f64 - next_ns).max(0.0) / 1e9 * rate + state.waiting.len() as f64 * f64::from(state.batch);
    read_out(run, &mut state)?;
    let emitted = state.emits.len() as u64 - u64::from(state.measured_from);
    window.report(report);
    report.number("rate_wanted_per_second", rate);
    report.put("emits", emitted);
    report.ratio("received_per_second", received as f64, window.seconds);
    report.ratio("per_cpu_second", received as f64, window.server.seconds());
    report.latencies(&state.latencies);
    report.number("answer_p50_us", state.answers.quantile_us(0.5));
    report.number("answer_p99_us", state.answers.quantile_us(0.99));
    report.put("behind_at_end", behind as u64);
    report.put("lost", state.emits.iter().filter(|emit| !emit.received).count());
    report.put("wrong", state.wrong);
    report.put("refused_requests", state.refused);
    report.put("closed_clients", state.ended);
    Ok(())
}

fn prepare(run: &Run, rate: f64) -> Result<ToUser, Box<dyn Error>> {
    let batch = run.flags.batch.max(1);
    let users = run.flags.connections;
    let expected = rate * (run.flags.warmup + run.flags.seconds) * 1.1;
    let suffix = if batch > 1 { "/batch" } else { "" };
    Ok(ToUser {
        requests: Requests::new(&run.flags.target()?.to_string(), run.flags.api_key.as_deref()),
        path: format!("{}{suffix}", run.flags.api_path),
        padding: "x".repeat(run.flags.payload.saturating_sub(NUMBER_DIGITS)),
        batch,
        users,
        random: run.flags.seed | 1 << 32,
        emits: Vec::with_capacity(expected as usize),
        waiting: VecDeque::new(),
        free: (users..users + run.flags.api_connections).collect(),
        body: String::new(),
        latencies: Histogram::default(),
        answers: Histogram::default(),
        asked_at_ns: vec![0; run.flags.api_connections as usize],
        received: 0,
        measured_from: 0,
        wrong: 0,
        refused: 0,
        ended: 0,
    })
}

/// Emits at the rate for this long; says when the next one is due.
fn emit_until(
    run: &mut Run,
    state: &mut ToUser,
    mut next_ns: f64,
    every_ns: f64,
    duration: Duration,
) -> Result<f64, Box<dyn Error>> {
    let until = now_ns() + nanos(duration);
    let mut todo = Todo::default();
    loop {
        let now = now_ns();
        if now >= until {
            return Ok(next_ns);
        }
        while next_ns <= now as f64 {
            state.schedule(next_ns as u64);
            next_ns += every_ns;
        }
        state.emit(&mut todo);
        run.swarm.perform_all(&mut todo)?;
        let left = (next_ns as u64).saturating_sub(now_ns());
        let asleep = Duration::from_nanos(left.saturating_sub(AWAKE_NS));
        run.swarm.turn(asleep.min(TURN), state)?;
        run.watchdog.done(state.received);
    }
}

/// Waits for what is still on its way, while anything comes.
fn read_out(run: &mut Run, state: &mut ToUser) -> Result<(), Box<dyn Error>> {
    const QUIET: Duration = Duration::from_secs(1);
    let mut todo = Todo::default();
    loop {
        let before = state.received;
        state.emit(&mut todo);
        run.swarm.perform_all(&mut todo)?;
        run.turn_for(QUIET.min(Duration::from_millis(200)), state)?;
        let all = state.received == state.emits.len() as u64;
        if all {
            return Ok(());
        }
        if state.received == before {
            run.turn_for(QUIET, state)?;
            if state.received == before {
                return Ok(());
            }
        }
    }
}
