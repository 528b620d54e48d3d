//! return: all clients come, go, and come back at once to their sessions, if the server has given them any.

use std::error::Error;

use sockring_load::report::Report;

use super::connect::put_handshakes;
use crate::crowd::{Event, Handler, Role, Todo};
use crate::run::{Gathering, Run, TURN, Window};

pub fn run(run: &mut Run, report: &mut Report) -> Result<(), Box<dyn Error>> {
    run.swarm.remember_sessions(run.flags.connections);
    run.gather(|_| Role::Client)?;
    // Markers come behind the greetings.
    run.turn_for(run.warmup(), &mut Gathering::default())?;
    leave(run)?;
    let begun = run.mark()?;
    let connecting = run.gather(|_| Role::Client)?;
    run.settle()?;
    let window = Window { seconds: connecting.seconds, ..run.window(&begun)? };
    window.report(report);
    put_handshakes(report, &window, f64::from(run.flags.connections));
    report.put("recovered", run.swarm.recovered());
    Ok(())
}

#[derive(Default)]
struct Leaving {
    left: u32,
}

impl Handler for Leaving {
    fn handle(&mut self, event: Event<'_>, _: &mut Todo) {
        if let Event::Closed(_) = event {
            self.left += 1;
        }
    }
}

/// All go, and the server has seen that.
fn leave(run: &mut Run) -> Result<(), Box<dyn Error>> {
    let count = run.flags.connections;
    run.watchdog.stage("leaving", count.into(), run.margin());
    let mut leaving = Leaving::default();
    let mut told = 0;
    while leaving.left < count {
        // No more at once than come at once.
        let until = count.min(leaving.left + run.flags.parallel);
        run.swarm.leave_all(told..until.max(told));
        told = until.max(told);
        run.swarm.turn(TURN, &mut leaving)?;
        run.watchdog.done(leaving.left.into());
    }
    run.settle()?;
    Ok(())
}
