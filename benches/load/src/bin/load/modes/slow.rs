//! slow: one emit to all, again and again, while a share of the clients reads nothing.

use std::error::Error;
use std::time::Duration;

use sockring_load::clock::now_ns;
use sockring_load::kernel::pss_bytes;
use sockring_load::report::Report;

use super::fanout::{Fanout, drive, put_deliveries};
use crate::crowd::{Event, Handler, Role, Todo};
use crate::run::Run;

const SAMPLE_EVERY_NS: u64 = 200_000_000;
/// At the end, how long the slow ones read what is left for them.
const READ_OUT: Duration = Duration::from_secs(2);

/// Counts the slow ones that find their connection closed.
#[derive(Default)]
struct ReadOut {
    closed: u32,
    messages: u64,
}

impl Handler for ReadOut {
    fn handle(&mut self, event: Event<'_>, _: &mut Todo) {
        match event {
            Event::Ended(_) => self.closed += 1,
            Event::Message(..) => self.messages += 1,
            _ => {}
        }
    }
}

pub fn run(run: &mut Run, report: &mut Report) -> Result<(), Box<dyn Error>> {
    let count = run.flags.connections;
    let slow = (f64::from(count) * run.flags.slow_share).round() as u32;
    // The last ones are slow.
    run.gather(|index| if index < count - slow { Role::Client } else { Role::Mute })?;
    run.settle()?;
    let pids = run.flags.server_pid.clone();
    let before = pss_bytes(&pids)?;
    let (mut peak, mut sampled_at) = (before, now_ns());
    let mut fanout = Fanout::new(run, count - slow);
    let window = drive(run, &mut fanout, |_| {
        if now_ns() - sampled_at > SAMPLE_EVERY_NS {
            sampled_at = now_ns();
            peak = peak.max(pss_bytes(&pids).unwrap_or(0));
        }
    })?;
    let after = pss_bytes(&pids)?;
    run.watchdog.stage("reading what is left for the slow", slow.into(), READ_OUT + run.margin());
    let mut read_out = ReadOut::default();
    run.swarm.unmute()?;
    run.turn_for(READ_OUT, &mut read_out)?;
    window.report(report);
    put_deliveries(report, &window, &fanout);
    report.put("slow_clients", slow);
    report.put("slow_closed", read_out.closed);
    report.put("slow_messages_read_late", read_out.messages);
    report.put("pss_before_bytes", before);
    report.put("pss_peak_bytes", peak.max(after));
    report.put("pss_after_bytes", after);
    report.ratio("pss_per_slow_client_bytes", peak.max(after) as f64 - before as f64, f64::from(slow));
    Ok(())
}
