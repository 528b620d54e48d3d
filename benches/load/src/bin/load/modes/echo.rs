//! echo: every connection sends a message and waits for it to come back; one is under way per connection.

use std::error::Error;
use std::sync::Arc;

use sockring::ring::SendBytes;
use sockring_load::clock::now_ns;
use sockring_load::frames::masked_text;
use sockring_load::histogram::Histogram;
use sockring_load::report::Report;

use crate::crowd::{Event, Handler, Role, Todo};
use crate::flags::Protocol;
use crate::run::Run;

struct Echo {
    request: Arc<[u8]>,
    /// How a message begins that is counted.
    prefix: &'static [u8],
    sent_at_ns: Vec<u64>,
    latencies: Histogram,
    ended: u32,
}

impl Handler for Echo {
    fn handle(&mut self, event: Event<'_>, todo: &mut Todo) {
        match event {
            Event::Message(index, message) if message.starts_with(self.prefix) => {
                let now = now_ns();
                let sent_at = &mut self.sent_at_ns[index as usize];
                self.latencies.record(now - *sent_at);
                *sent_at = now;
                todo.send(index, SendBytes::Shared(Arc::clone(&self.request)));
            }
            Event::Ended(_) => self.ended += 1,
            _ => {}
        }
    }
}

pub fn run(run: &mut Run, report: &mut Report) -> Result<(), Box<dyn Error>> {
    run.gather(|_| Role::Client)?;
    run.settle()?;
    let request = format!("42[\"message\",\"{}\"]", "x".repeat(run.flags.payload));
    let mut echo = Echo {
        request: masked_text(request.as_bytes()).into(),
        prefix: match run.flags.protocol {
            Protocol::Socketio => b"42[\"message-back\",",
            Protocol::Websocket => b"",
        },
        sent_at_ns: vec![now_ns(); run.flags.connections as usize],
        latencies: Histogram::default(),
        ended: 0,
    };
    run.watchdog.stage("echoing", 0, run.warmup() + run.seconds() + run.margin());
    for index in 0..run.flags.connections {
        run.swarm.send(index, SendBytes::Shared(Arc::clone(&echo.request)));
    }
    run.turn_for(run.warmup(), &mut echo)?;
    echo.latencies.clear();
    let begun = run.mark()?;
    run.turn_for(run.seconds(), &mut echo)?;
    let window = run.window(&begun)?;
    let oldest = echo.sent_at_ns.iter().min().copied().unwrap_or(0);
    if echo.ended > 0 {
        return Err(format!("{} connections were closed by the server", echo.ended).into());
    }
    let messages = echo.latencies.count() as f64;
    if messages == 0.0 {
        return Err("no message came back".into());
    }
    window.report(report);
    report.put("messages", echo.latencies.count());
    report.ratio("messages_per_second", messages, window.seconds);
    report.ratio("per_cpu_second", messages, window.server.seconds());
    report.latencies(&echo.latencies);
    report.number("longest_waiting_us", now_ns().saturating_sub(oldest) as f64 / 1000.0);
    report.put("starved", run.swarm.starved());
    Ok(())
}
