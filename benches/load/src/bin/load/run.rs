//! `Run`: what all modes share: connecting all, measuring a window of time, and the first lines of the report.

use std::error::Error;
use std::io;
use std::time::Duration;

use sockring_load::clock::now_ns;
use sockring_load::kernel::Cpu;
use sockring_load::report::Report;

use crate::crowd::{Event, Handler, Role, Todo};
use crate::flags::{Flags, Mode};
use crate::swarm::Swarm;
use crate::watchdog::Watchdog;

/// Connections opened before completions are looked at again.
const OPENED_PER_TURN: u32 = 16;
/// The longest wait for completions, so that a window ends in time.
pub const TURN: Duration = Duration::from_millis(20);
/// How long a server may be busy with the end of what came before.
const SETTLE: Duration = Duration::from_millis(100);

pub struct Run {
    pub flags: Flags,
    pub swarm: Swarm,
    pub watchdog: Watchdog,
}

/// What a stretch of time has cost.
#[derive(Clone, Copy, Debug)]
pub struct Window {
    pub seconds: f64,
    pub server: Cpu,
    pub load: Cpu,
}

/// The beginning of a window.
#[derive(Clone, Copy, Debug)]
pub struct Mark {
    at_ns: u64,
    server: Cpu,
    load: Cpu,
}

impl Run {
    pub fn new(flags: Flags) -> Result<Run, Box<dyn Error>> {
        raise_descriptor_limit();
        let watchdog = Watchdog::start(margin(&flags));
        let swarm = Swarm::new(&flags, flags.connections as usize + flags.beside() as usize)?;
        Ok(Run { flags, swarm, watchdog })
    }

    pub fn report(&self) -> Report {
        let mut report = Report::default();
        if let Some(label) = &self.flags.label {
            report.put("label", label.as_str());
        }
        report.put("mode", format!("{:?}", self.flags.mode).to_lowercase());
        report.put("protocol", format!("{:?}", self.flags.protocol).to_lowercase());
        report.put("connections", self.flags.connections);
        if matches!(self.flags.mode, Mode::Echo | Mode::Fanout | Mode::Touser | Mode::Slow) {
            report.put("payload_bytes", self.flags.payload);
        }
        report.put("rings", self.swarm.rings());
        report
    }

    pub fn margin(&self) -> Duration {
        margin(&self.flags)
    }

    pub fn warmup(&self) -> Duration {
        Duration::from_secs_f64(self.flags.warmup)
    }

    pub fn seconds(&self) -> Duration {
        Duration::from_secs_f64(self.flags.seconds)
    }

    pub fn mark(&self) -> io::Result<Mark> {
        let (server, load) = (Cpu::of(&self.flags.server_pid)?, Cpu::of(&[std::process::id()])?);
        Ok(Mark { at_ns: now_ns(), server, load })
    }

    pub fn window(&self, begun: &Mark) -> io::Result<Window> {
        let end = self.mark()?;
        Ok(Window {
            seconds: (end.at_ns - begun.at_ns) as f64 / 1e9,
            server: end.server.since(&begun.server),
            load: end.load.since(&begun.load),
        })
    }

    /// Opens all clients; those that `role` makes mute stop reading when they have joined.
    pub fn gather(&mut self, role: impl Fn(u32) -> Role) -> Result<Window, Box<dyn Error>> {
        let wanted = self.flags.connections;
        self.watchdog.stage("connecting", wanted.into(), self.margin());
        let begun = self.mark()?;
        let mut gathering = Gathering::default();
        let mut opened = 0;
        while gathering.joined < wanted {
            for _ in 0..OPENED_PER_TURN {
                if opened < wanted && opened - gathering.joined < self.flags.parallel {
                    self.swarm.open(opened, role(opened)).map_err(|error| format!("connection {opened}: {error}"))?;
                    opened += 1;
                }
            }
            let has_more = opened < wanted && opened - gathering.joined < self.flags.parallel;
            self.swarm.turn(if has_more { Duration::ZERO } else { TURN }, &mut gathering)?;
            self.watchdog.done(gathering.joined.into());
            if gathering.ended > 0 {
                return Err(
                    format!("a connection ended during its handshake, after {} joined", gathering.joined).into()
                );
            }
        }
        Ok(self.window(&begun)?)
    }

    /// Turns for this long.
    pub fn turn_for(&mut self, duration: Duration, handler: &mut impl Handler) -> io::Result<()> {
        let until = now_ns() + nanos(duration);
        loop {
            let left = until.saturating_sub(now_ns());
            if left == 0 {
                return Ok(());
            }
            self.swarm.turn(Duration::from_nanos(left).min(TURN), handler)?;
        }
    }

    /// Lets what is under way after connecting come to its end.
    pub fn settle(&mut self) -> io::Result<()> {
        self.turn_for(SETTLE, &mut Gathering::default())
    }
}

impl Window {
    /// What every mode reports of its window.
    pub fn report(&self, report: &mut Report) {
        report.number("seconds", self.seconds);
        report.number("server_cpu_seconds", self.server.seconds());
        report.ratio("server_cpu_share", self.server.seconds(), self.seconds);
        report.number("server_user_share", self.server.user_share());
        report.ratio("load_cpu_share", self.load.seconds(), self.seconds);
    }
}

pub fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

fn margin(flags: &Flags) -> Duration {
    Duration::from_secs_f64(flags.margin)
}

/// A ring's file table may be as large as the limit.
fn raise_descriptor_limit() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    // What cannot be raised shows when a ring is made.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum });
}

/// Counts, and does nothing else.
#[derive(Clone, Copy, Debug, Default)]
pub struct Gathering {
    pub joined: u32,
    pub ended: u32,
}

impl Handler for Gathering {
    fn handle(&mut self, event: Event<'_>, _: &mut Todo) {
        match event {
            Event::Joined(_) => self.joined += 1,
            Event::Ended(_) => self.ended += 1,
            Event::Message(..) | Event::Answered(..) | Event::Closed(_) => {}
        }
    }
}
