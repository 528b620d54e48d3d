//! idle: what a client costs that does nothing: memory of the server, memory of the kernel, CPU time.

use std::error::Error;
use std::time::Duration;

use serde_json::{Map, Value};
use sockring_load::kernel::{Slabs, is_of_files_or_processes, pss_bytes};
use sockring_load::report::Report;

use super::connect::put_handshakes;
use crate::crowd::Role;
use crate::run::{Gathering, Run};

/// Caches below this share of the whole are not listed.
const LISTED_SHARE: f64 = 0.002;
const LOOK_EVERY: Duration = Duration::from_millis(250);
const QUIET_LOOKS: u32 = 4;
const QUIET_BYTES: i64 = 64 << 10;

pub fn run(run: &mut Run, report: &mut Report) -> Result<(), Box<dyn Error>> {
    let count = f64::from(run.flags.connections);
    let pids = run.flags.server_pid.clone();
    quiesce(run)?;
    let (pss_before, slabs_before) = (pss_bytes(&pids)?, Slabs::read());
    let connecting = run.gather(|_| Role::Client)?;
    run.watchdog.stage("settling", 0, run.warmup() + run.margin());
    let mut idle = Gathering::default();
    run.turn_for(run.warmup(), &mut idle)?;
    run.settle()?;
    let (pss_after, slabs_after) = (pss_bytes(&pids)?, Slabs::read());
    run.watchdog.stage("idling", 0, run.seconds() + run.margin());
    let begun = run.mark()?;
    run.turn_for(run.seconds(), &mut idle)?;
    let window = run.window(&begun)?;
    if idle.ended > 0 {
        return Err(format!("{} clients were closed by the server", idle.ended).into());
    }
    window.report(report);
    put_handshakes(report, &connecting, count);
    report.put("pss_before_bytes", pss_before);
    report.put("pss_after_bytes", pss_after);
    report.ratio("pss_per_client_bytes", pss_after as f64 - pss_before as f64, count);
    match (slabs_before, slabs_after) {
        (Ok(before), Ok(after)) => put_slabs(report, &before, &after, count),
        (Err(error), _) | (_, Err(error)) => eprintln!("load: /proc/slabinfo: {error}"),
    }
    Ok(())
}

/// Waits until the kernel has freed what former runs have closed.
fn quiesce(run: &mut Run) -> Result<(), Box<dyn Error>> {
    run.watchdog.stage("waiting for the kernel to be quiet", 0, run.margin());
    let mut quiet = 0;
    let mut before = 0;
    // Without the right to read it there is nothing to wait for.
    while quiet < QUIET_LOOKS
        && let Ok(slabs) = Slabs::read()
    {
        let now = slabs.connection_bytes();
        quiet = if (now - before).abs() < QUIET_BYTES { quiet + 1 } else { 0 };
        before = now;
        run.turn_for(LOOK_EVERY, &mut Gathering::default())?;
    }
    Ok(())
}

/// Both ends of the connections are in it: compare servers under the same load.
fn put_slabs(report: &mut Report, before: &Slabs, after: &Slabs, count: f64) {
    let growth = after.growth(before);
    let objects: i64 = growth.iter().map(|(_, cache)| cache.object_bytes).sum();
    let pages: i64 = growth.iter().map(|(_, cache)| cache.page_bytes).sum();
    let others = growth.iter().filter(|(name, _)| is_of_files_or_processes(name));
    let others: i64 = others.map(|(_, cache)| cache.object_bytes).sum();
    report.ratio("slab_per_connection_bytes", (objects - others) as f64, count);
    report.ratio("slab_of_files_and_processes_per_connection_bytes", others as f64, count);
    report.ratio("slab_pages_per_connection_bytes", pages as f64, count);
    let listed = growth.iter().filter(|(_, cache)| cache.object_bytes.abs() as f64 > objects as f64 * LISTED_SHARE);
    let listed: Map<String, Value> = listed
        .map(|(name, cache)| (name.clone(), ((cache.object_bytes as f64 / count).round() as i64).into()))
        .collect();
    report.put("slab_caches_per_connection_bytes", listed);
}
