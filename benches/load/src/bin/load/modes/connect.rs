//! connect: what a handshake costs, from the first SYN to the answer to CONNECT.

use std::error::Error;

use sockring_load::report::Report;

use crate::crowd::Role;
use crate::run::{Run, Window};

pub fn run(run: &mut Run, report: &mut Report) -> Result<(), Box<dyn Error>> {
    let begun = run.mark()?;
    let connecting = run.gather(|_| Role::Client)?;
    run.settle()?;
    let all = run.window(&begun)?;
    // The time until the last one joined, and all of the CPU, greetings that followed included.
    let window = Window { seconds: connecting.seconds, ..all };
    window.report(report);
    put_handshakes(report, &window, f64::from(run.flags.connections));
    Ok(())
}

/// Rate and cost of this many handshakes.
pub fn put_handshakes(report: &mut Report, window: &Window, count: f64) {
    report.put("handshakes", count as u64);
    report.ratio("handshakes_per_second", count, window.seconds);
    report.ratio("handshakes_per_cpu_second", count, window.server.seconds());
    let (us, user) = (window.server.seconds() * 1e6, window.server.user_share());
    report.ratio("handshake_cpu_us", us, count);
    report.ratio("handshake_cpu_user_us", us * user, count);
    report.ratio("handshake_cpu_system_us", us * (1.0 - user), count);
}
