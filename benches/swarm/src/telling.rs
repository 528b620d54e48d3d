//! Events to all, alone, and with events to single users beside them.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::clock::now_ns;
use crate::emitter::{self, Emits, Emitter, Plan, Receivers};
use crate::fault::Fate;
use crate::histogram::Histogram;
use crate::phases::{live_for, lost_device};
use crate::run::Run;

/// For so long clients that misbehave may lack an event that all others have.
const FAULTY_MAX: Duration = Duration::from_secs(10);
const CONNECTIONS: u32 = 8;

/// Events to single users for a while, then events to all beside them.
pub fn tell(run: &mut Run) -> Result<(), String> {
    let (rate, clients, payload) = (run.flags.rate, run.flags.clients, run.flags.payload);
    let plan = Plan { to: Receivers::One(clients), payload, rate, connections: CONNECTIONS };
    let emitter = (rate > 0.0).then(|| Emitter::start(&plan));
    if emitter.is_some() {
        live_for(run, Duration::from_secs_f64(run.flags.rate_seconds))?;
        run.report.put("to_one", latencies(&std::mem::take(&mut run.swarm.counts.latencies)));
    }
    let mut fanouts = Vec::new();
    for number in 1..=run.flags.fanouts {
        fanouts.push(fan_out(run, number)?);
    }
    run.report.put("fanouts", fanouts);
    let Some(emitter) = emitter else { return Ok(()) };
    let emits = stop(run, emitter)?;
    let expected = emits.taken - emits.undelivered;
    let until = Instant::now() + Duration::from_secs_f64(run.flags.margin);
    run.swarm.live(until, |swarm| swarm.counts.to_one >= expected).map_err(lost_device)?;
    let (report, counts) = (&mut run.report, &run.swarm.counts);
    report.put("to_one_beside", latencies(&counts.latencies));
    report.put("to_one_taken", emits.taken);
    report.put("to_one_refused", emits.refused);
    report.put("to_one_unanswered", emits.unanswered);
    report.put("to_one_lost", expected.saturating_sub(counts.to_one));
    if counts.to_one < emits.taken {
        run.faults.push(format!("{} of {} events to single users arrived", counts.to_one, emits.taken));
    }
    Ok(())
}

fn latencies(histogram: &Histogram) -> Value {
    let ms = |share| (histogram.quantile_us(share)).round() / 1000.0;
    json!({
        "count": histogram.count(),
        "p50_ms": ms(0.5),
        "p99_ms": ms(0.99),
        "p99_9_ms": ms(0.999),
        "max_ms": histogram.max_us().round() / 1000.0,
    })
}

/// Ends an emitter while the clients go on.
pub fn stop(run: &mut Run, emitter: Emitter) -> Result<Emits, String> {
    let stopped = emitter.stop();
    let until = Instant::now() + Duration::from_secs_f64(run.flags.margin);
    if !run.swarm.live(until, |_| stopped.is_finished()).map_err(lost_device)? {
        return Err("emits are not answered".into());
    }
    stopped.join().map_err(|_| "the emitters panicked")?
}

fn fan_out(run: &mut Run, number: u16) -> Result<Value, String> {
    let before = run.costs()?;
    let ended_before = run.swarm.counts.ended();
    let wanted = u64::from(run.swarm.counts.joined) - ended_before;
    run.swarm.counts.arrived = 0;
    let begun_ns = now_ns();
    let emit = emitter::to_all(number, run.flags.payload);
    let until = Instant::now() + Duration::from_secs_f64(run.flags.margin);
    let mut first_ns = None;
    let is_whole = run.swarm.live(until, |swarm| {
        if swarm.counts.arrived > 0 {
            first_ns.get_or_insert_with(now_ns);
        }
        u64::from(swarm.counts.arrived) + swarm.counts.ended() - ended_before >= wanted
    });
    is_whole.map_err(lost_device)?;
    let seconds = |until_ns: u64| (until_ns - begun_ns) as f64 / 1e9;
    let taken = seconds(now_ns());
    // Those that misbehave may take longer, and the answer may come after the event.
    let staying = run.swarm.faulty_of(Fate::Stays);
    run.swarm
        .live(Instant::now() + FAULTY_MAX, |swarm| staying == 0 || swarm.faulty_with(number).1 == staying)
        .map_err(lost_device)?;
    run.swarm.live(until, |_| emit.is_finished()).map_err(lost_device)?;
    if !emit.is_finished() {
        return Err("an emit to all is not answered".into());
    }
    let after = run.costs()?;
    let (status, said) = emit.join().map_err(|_| "the emitter panicked")??;
    let arrived = u64::from(run.swarm.counts.arrived);
    if arrived != wanted {
        run.faults.push(format!("event {number} to all: {arrived} of {wanted} got it, status {status}"));
    }
    let rounded = |number: f64| (number * 1000.0).round() / 1000.0;
    Ok(json!({
        "wanted": wanted,
        "arrived": arrived,
        "seconds": rounded(taken),
        "first_s": first_ns.map(|at| rounded(seconds(at))),
        "status": status,
        "delivered": said["delivered"],
        "server_cpu_s": rounded(after.server.since(&before.server).seconds()),
        "swarm_cpu_s": rounded(after.swarm.since(&before.swarm).seconds()),
    }))
}
