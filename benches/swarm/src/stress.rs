//! What a server has to survive: it stands still, has too little of the processor or of memory, or far too much to do.

use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::api::Api;
use crate::clock::now_ns;
use crate::emitter::{Emitter, Plan, Receivers};
use crate::group::Quota;
use crate::phases::{live_for, lost_device};
use crate::reading::TO_ONE;
use crate::run::Run;
use crate::server::Metrics;
use crate::speech::Speech;
use crate::telling;

/// What is a moment to a server that has all it needs.
const NORMAL: Duration = Duration::from_millis(250);
/// Such moments in a row.
const NORMAL_TIMES: u32 = 5;
const PEAK_CONNECTIONS: u32 = 8;
const PEAK: Duration = Duration::from_secs(10);
const PEAK_TIMES_MAX: u32 = 4;
/// As many as are under way when each answer takes the second that it may take.
const LOAD_CONNECTIONS: u32 = 64;
const OVERLOAD: f64 = 3.0;
const MEGABYTE: u64 = 1 << 20;

/// Those that the flags ask for, one after the other.
pub fn run(run: &mut Run) -> Result<(), String> {
    if run.flags.stop > 0.0 {
        eprintln!("swarm: stop");
        stop(run)?;
    }
    if run.flags.quota > 0.0 {
        eprintln!("swarm: quota");
        quota(run)?;
    }
    if run.flags.overload > 0.0 {
        eprintln!("swarm: overload");
        overload(run)?;
    }
    if run.flags.memory_spare > 0 {
        eprintln!("swarm: memory");
        memory(run)?;
    }
    Ok(())
}

/// The server does not run at all for a while.
fn stop(run: &mut Run) -> Result<(), String> {
    run.server.signal(Signal::STOP);
    live_for(run, Duration::from_secs_f64(run.flags.stop))?;
    run.server.signal(Signal::CONT);
    let said = aftermath(run, json!({"seconds": run.flags.stop}))?;
    run.report.put("stop", said);
    Ok(())
}

/// It has a part of one core, while something goes to all every second.
fn quota(run: &mut Run) -> Result<(), String> {
    let emitter = Emitter::start(&load(run, 1.0));
    run.server.set_quota(Quota::OfCore(run.flags.quota / 100.0))?;
    live_for(run, Duration::from_secs_f64(run.flags.quota_seconds))?;
    run.server.set_quota(Quota::Unlimited)?;
    let emits = telling::stop(run, emitter)?;
    let known = json!({"percent": run.flags.quota, "seconds": run.flags.quota_seconds, "taken": emits.taken,
        "unanswered": emits.unanswered, "refused": emits.refused});
    let said = aftermath(run, known)?;
    run.report.put("quota", said);
    Ok(())
}

/// Events to all, three times as many as it can deliver.
fn overload(run: &mut Run) -> Result<(), String> {
    let all = f64::from(run.swarm.counts.joined);
    // As many as it can: some that wait for their answers, and are emitted again.
    let plan = Plan { rate: 1e6, connections: PEAK_CONNECTIONS, ..load(run, 1.0) };
    let (mut peak, _) = deliveries_per_second(run, &plan, PEAK)?;
    // More than that has to be offered, to know that it could not do more.
    for _ in 0..PEAK_TIMES_MAX {
        let offered = OVERLOAD * peak;
        let (reached, _) = deliveries_per_second(run, &load(run, offered / all), PEAK)?;
        peak = peak.max(reached);
        if reached < offered * 0.5 {
            break;
        }
    }
    let offered = OVERLOAD * peak;
    let duration = Duration::from_secs_f64(run.flags.overload);
    let (reached, emits) = deliveries_per_second(run, &load(run, offered / all), duration)?;
    let known = json!({
        "seconds": run.flags.overload,
        "peak_per_second": peak.round(),
        "offered_per_second": offered.round(),
        "reached_per_second": reached.round(),
        "of_peak": (reached / peak * 1000.0).round() / 1000.0,
        "emits": emits,
    });
    let said = aftermath(run, known)?;
    run.report.put("overload", said);
    Ok(())
}

fn deliveries_per_second(run: &mut Run, plan: &Plan, duration: Duration) -> Result<(f64, Value), String> {
    let emitter = Emitter::start(plan);
    let (begun, before) = (Instant::now(), run.swarm.counts.loads);
    live_for(run, duration)?;
    let rate = (run.swarm.counts.loads - before) as f64 / begun.elapsed().as_secs_f64();
    let emits = telling::stop(run, emitter)?;
    Ok((rate, json!({"taken": emits.taken, "unanswered": emits.unanswered, "refused": emits.refused})))
}

/// Its memory is limited to a little more than it has, while large events go to all.
fn memory(run: &mut Run) -> Result<(), String> {
    let limit = run.server.memory_bytes()? + run.flags.memory_spare * MEGABYTE;
    run.server.set_memory_max(limit)?;
    let plan = Plan { rate: 1e6, payload: run.flags.memory_payload, connections: 3, ..load(run, 1.0) };
    let (rate, emits) = deliveries_per_second(run, &plan, Duration::from_secs_f64(run.flags.memory_seconds))?;
    let at_limit = run.server.times_at_memory_max()?;
    let known = json!({"limit": limit, "spare_mb": run.flags.memory_spare, "times_at_limit": at_limit, "deliveries_per_second": rate.round(),
        "emits": emits});
    let said = aftermath(run, known)?;
    run.report.put("memory", said);
    Ok(())
}

fn load(run: &Run, rate: f64) -> Plan {
    Plan { to: Receivers::All, payload: run.flags.payload, rate, connections: LOAD_CONNECTIONS }
}

/// How long it takes until an event to one is there in a moment again, and who was closed.
fn aftermath(run: &mut Run, mut said: Value) -> Result<Value, String> {
    let (begun, mut back, mut times) = (Instant::now(), None, 0);
    while times < NORMAL_TIMES {
        let asked = Instant::now();
        if !one_event(run)? {
            run.faults.push(format!("an event to one does not come within {} s", run.flags.margin));
            break;
        }
        let is_normal = asked.elapsed() < NORMAL;
        times = if is_normal { times + 1 } else { 0 };
        back = if times == 0 { None } else { back.or(Some(asked.duration_since(begun))) };
        live_for(run, Duration::from_millis(20))?;
    }
    live_for(run, Duration::from_secs_f64(run.flags.after))?;
    let metrics = Metrics::read()?;
    said["back_s"] = json!(back.map(|back| (back.as_secs_f64() * 1000.0).round() / 1000.0));
    said["lag_s_max"] = json!((run.swarm.counts.lags.max_us() / 1e3).round() / 1e3);
    said["ended"] = json!(run.swarm.counts.ends);
    said["server_closed"] = json!(metrics.by_reason("sockring_sessions_closed_total"));
    said["pardoned"] = json!(metrics.count("sockring_pardoned_total"));
    Ok(said)
}

/// Whether an event to the first client arrives.
fn one_event(run: &mut Run) -> Result<bool, String> {
    let wanted = run.swarm.counts.to_one + 1;
    let asked: JoinHandle<std::io::Result<u16>> = thread::spawn(|| {
        let emit = json!({"user": Speech::user(0), "event": TO_ONE, "data": {"number": now_ns()}});
        Api::default().post("/emit", &emit).map(|answer| answer.status)
    });
    let until = Instant::now() + Duration::from_secs_f64(run.flags.margin);
    run.swarm
        .live(until, |swarm| swarm.counts.to_one >= wanted || (asked.is_finished() && swarm.counts.ended() > 0))
        .map_err(lost_device)
}
