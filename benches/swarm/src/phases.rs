//! The phases of a run that each has: all connect, are held, and leave.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::fault::Fate;
use crate::histogram::Histogram;
use crate::kernel::Slabs;
use crate::run::Run;
use crate::server::Metrics;

/// What has just happened leaves traces for so long: delayed acknowledgements, memory that is given back.
const SETTLE: Duration = Duration::from_millis(1500);
const TENTHS: u32 = 10;
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// Connections that are reset between two looks at packets.
const RESETS_PER_TURN: u32 = 128;

/// All connect: what a handshake costs, and what a client that is there takes.
pub fn connect(run: &mut Run) -> Result<(), String> {
    let (pss_before, slabs_before) = run.memory()?;
    let (before, begun) = (run.costs()?, Instant::now());
    let (all, server_pid) = (run.swarm.count(), run.server.pid());
    let mut tenths = vec![before.server];
    let mut moved = (begun, 0);
    let margin = Duration::from_secs_f64(run.flags.margin);
    loop {
        let is_done = run.swarm.live(Instant::now() + Duration::from_millis(500), |swarm| {
            let settled = swarm.counts.settled;
            if u64::from(settled) * u64::from(TENTHS) >= tenths.len() as u64 * u64::from(all) {
                tenths.extend(crate::kernel::Cpu::of(&[server_pid]));
            }
            settled == all
        });
        let settled = run.swarm.counts.settled;
        if is_done.map_err(lost_device)? {
            break;
        }
        if settled > moved.1 {
            moved = (Instant::now(), settled);
        } else if moved.0.elapsed() > margin {
            return Err(format!(
                "{settled} of {all} handshakes, and no further for {margin:?}; ended: {:?}",
                run.swarm.counts.ends
            ));
        }
    }
    let (seconds, after) = (begun.elapsed().as_secs_f64(), run.costs()?);
    live_for(run, SETTLE)?;
    let (pss_after, slabs_after) = run.memory()?;
    let each = f64::from(all);
    let report = &mut run.report;
    report.put("joined", run.swarm.counts.joined);
    report.number("connect_s", seconds);
    report.number("connects_per_second", each / seconds);
    report.number("handshake_cpu_us", after.server.since(&before.server).seconds() * 1e6 / each);
    let of_tenth = |pair: &[crate::kernel::Cpu]| {
        (pair[1].since(&pair[0]).seconds() * 1e6 * f64::from(TENTHS) / each * 10.0).round() / 10.0
    };
    report.put("handshake_cpu_us_by_tenth", tenths.windows(2).map(of_tenth).collect::<Vec<f64>>());
    report.number("handshake_swarm_cpu_us", after.swarm.since(&before.swarm).seconds() * 1e6 / each);
    report.number("user_bytes_per_client", (pss_after as f64 - pss_before as f64) / each);
    match (slabs_before, slabs_after) {
        (Some(before), Some(after)) => put_slabs(run, &after, &before),
        _ => run.report.put("kernel_bytes_per_client", serde_json::Value::Null),
    }
    Ok(())
}

/// Caches of which a client has a part: an object for each fourth at least, so that what the machine does beside is not counted.
fn put_slabs(run: &mut Run, after: &Slabs, before: &Slabs) {
    let all = f64::from(run.swarm.count());
    let caches = after.growth(before).into_iter().filter(|(name, cache)| {
        cache.object_bytes as f64 > 8.0 * all && !crate::kernel::is_of_files_or_processes(name)
    });
    let bytes: Vec<(String, f64)> =
        caches.map(|(name, cache)| (name, (cache.page_bytes as f64 / all).round())).collect();
    run.report.number("kernel_bytes_per_client", bytes.iter().map(|(_, bytes)| bytes).sum());
    run.report.put("kernel_caches", json!(bytes.into_iter().collect::<std::collections::BTreeMap<_, _>>()));
}

/// Nothing is sent but heartbeats.
pub fn hold(run: &mut Run) -> Result<(), String> {
    let (before, begun, pings) = (run.costs()?, Instant::now(), run.swarm.counts.pings);
    run.swarm.counts.ping_gaps = Histogram::default();
    live_for(run, Duration::from_secs_f64(run.flags.hold))?;
    let (after, seconds) = (run.costs()?, begun.elapsed().as_secs_f64());
    let counts = &run.swarm.counts;
    let pings = (counts.pings - pings) as f64;
    let report = &mut run.report;
    let (server, swarm) = (after.server.since(&before.server).seconds(), after.swarm.since(&before.swarm).seconds());
    report.number("hold_s", seconds);
    report.number("heartbeats", pings);
    report.number("heartbeats_per_second", pings / seconds);
    report.ratio("heartbeat_cpu_us", server * 1e6, pings);
    report.ratio("heartbeat_swarm_cpu_us", swarm * 1e6, pings);
    report.number("hold_server_cores", server / seconds);
    report.number("hold_swarm_cores", swarm / seconds);
    report.number("ping_gap_s_p99_9", counts.ping_gaps.quantile_us(0.999) / 1e6);
    report.number("ping_gap_s_max", counts.ping_gaps.max_us() / 1e6);
    report.put("ended_while_held", counts.ended());
    Ok(())
}

/// The server ends those of the clients that misbehave whom it has to end.
pub fn wait_for_ends(run: &mut Run) -> Result<(), String> {
    let begun = Instant::now();
    let expected = u64::from(run.swarm.counts.joined + run.swarm.faulty_of(Fate::Stays)) - run.swarm.counts.ended();
    while run.flags.faulty > 0 && Metrics::read()?.count("sockring_clients") > expected {
        if begun.elapsed().as_secs_f64() > run.flags.margin {
            run.faults.push("the server has not ended all who misbehave".into());
            break;
        }
        live_for(run, LOOK_EVERY)?;
    }
    Ok(())
}

/// All reset their connections, so that nothing of them is left in the kernel: and nothing must be left in the server.
pub fn leave(run: &mut Run) -> Result<(), String> {
    let begun = Instant::now();
    let mut next = 0;
    let margin = Duration::from_secs_f64(run.flags.margin);
    let all = run.swarm.count();
    run.swarm
        .live(begun + margin * 10, |swarm| {
            next = swarm.reset_from(next, RESETS_PER_TURN);
            next == all
        })
        .map_err(lost_device)?;
    let mut left = u64::MAX;
    while left > 0 && begun.elapsed() < margin * 10 {
        live_for(run, LOOK_EVERY)?;
        let metrics = Metrics::read()?;
        left = metrics.count("sockring_clients") + metrics.count("sockring_sockets") + metrics.count("sockring_users");
        // The one that asks is a connection of the API.
        left += metrics.count("sockring_connections").saturating_sub(1);
    }
    run.report.number("leave_s", begun.elapsed().as_secs_f64());
    if left > 0 {
        run.faults.push(format!("{left} clients, sockets, users and connections are left at the server"));
    }
    Ok(())
}

pub fn live_for(run: &mut Run, duration: Duration) -> Result<(), String> {
    run.swarm.live(Instant::now() + duration, |_| false).map_err(lost_device)?;
    if run.server.is_alive() { Ok(()) } else { Err("the server has ended".into()) }
}

pub fn lost_device(error: std::io::Error) -> String {
    format!("the TUN device: {error}")
}
