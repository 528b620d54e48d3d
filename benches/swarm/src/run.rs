//! One run: its phases one after another, and the line that says what came of them.

use std::collections::BTreeMap;

use serde_json::json;

use crate::api::PORT;
use crate::clock;
use crate::fault::Fate;
use crate::flags::Flags;
use crate::kernel::{Cpu, Slabs, pss_bytes};
use crate::namespace;
use crate::packet::Place;
use crate::phases;
use crate::report::Report;
use crate::server::{Metrics, SECRET, Server};
use crate::speech::Speech;
use crate::stress;
use crate::swarm::Swarm;
use crate::telling;

/// What the phases share.
pub struct Run {
    pub flags: Flags,
    pub swarm: Swarm,
    pub server: Server,
    pub report: Report,
    /// What should not have happened.
    pub faults: Vec<String>,
}

/// All of it; what should not have happened.
pub fn run(flags: &Flags) -> Result<Vec<String>, String> {
    if let Some(core) = flags.core {
        clock::pin(core).map_err(|error| format!("--core {core}: {error}"))?;
    }
    let tun = namespace::device(flags.queue)?;
    let server = Server::start(flags)?;
    let unix = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    let speech = Speech::new(&format!("{}:{PORT}", namespace::SERVER), SECRET, unix.as_secs());
    let place = Place { address: namespace::SERVER.to_bits(), port: PORT };
    let swarm = Swarm::new(tun, place, speech, flags.clients, flags.faulty, flags.parallel);
    let (flags, report) = (flags.clone(), Report::default());
    let mut run = Run { flags, swarm, server, report, faults: Vec::new() };
    run.begin_report();
    eprintln!("swarm: all connect");
    phases::connect(&mut run)?;
    eprintln!("swarm: they are held");
    phases::hold(&mut run)?;
    eprintln!("swarm: they are told something");
    telling::tell(&mut run)?;
    stress::run(&mut run)?;
    eprintln!("swarm: those that misbehave end");
    phases::wait_for_ends(&mut run)?;
    run.judge()?;
    eprintln!("swarm: all leave");
    phases::leave(&mut run)?;
    let end = run.server.stop();
    run.report.put("server_end", end.as_str());
    if end != "exit status: 0" {
        run.faults.push(format!("the server's end: {end}"));
    }
    run.report.put("faults", run.faults.clone());
    run.report.print();
    Ok(run.faults)
}

/// What everything had cost by now.
pub struct Costs {
    pub server: Cpu,
    pub swarm: Cpu,
}

impl Run {
    pub fn costs(&self) -> Result<Costs, String> {
        let of = |pid| Cpu::of(&[pid]).map_err(|error| format!("the time of process {pid}: {error}"));
        Ok(Costs { server: of(self.server.pid())?, swarm: of(std::process::id())? })
    }

    /// Bytes of the server's memory; of the kernel's, `None` without the right to look.
    pub fn memory(&self) -> Result<(u64, Option<Slabs>), String> {
        let pss = pss_bytes(&[self.server.pid()]).map_err(|error| format!("the server's memory: {error}"))?;
        Ok((pss, Slabs::read().ok()))
    }

    fn begin_report(&mut self) {
        let flags = &self.flags;
        self.report.put("mode", "swarm");
        self.report.put("label", flags.label.clone());
        self.report.put("clients", flags.clients);
        self.report.put("faulty", flags.faulty);
        self.report.put("shards", flags.shards);
        self.report.put("settings", flags.set.clone());
    }

    /// What clients and server say of those that have ended, before all leave.
    fn judge(&mut self) -> Result<(), String> {
        let metrics = Metrics::read()?;
        let counts = &self.swarm.counts;
        let closed = metrics.by_reason("sockring_sessions_closed_total");
        let report = &mut self.report;
        report.put("ended", json!(counts.ends));
        report.put("server_closed", json!(closed));
        report.put("pardoned", metrics.count("sockring_pardoned_total"));
        report.put("late_turns", metrics.count("sockring_late_turns_total"));
        report.number("lag_s_max", counts.lags.max_us() / 1e6);
        report.put("out_of_turn", counts.out_of_turn);
        report.put("packets_in", counts.packets_in);
        report.put("packets_out", counts.packets_out);
        report.put("packets_refused", counts.packets_refused);
        report.put("packets_dropped", namespace::dropped_packets());
        report.put("segments_missing", counts.gaps);
        report.put("segments_repeated", counts.repeated);
        report.put("retries", counts.retries);
        let clients = metrics.count("sockring_clients_connected");
        if counts.ended() > 0 {
            self.faults.push(format!("clients that behave well were ended: {:?}", counts.ends));
        }
        if counts.out_of_turn > 0 {
            self.faults.push(format!("{} events to all came out of turn", counts.out_of_turn));
        }
        let staying = self.swarm.faulty_of(Fate::Stays);
        if clients != u64::from(counts.joined + staying) {
            self.faults.push(format!("{clients} clients at the server, of {} here", counts.joined + staying));
        }
        self.judge_faulty(&closed);
        Ok(())
    }

    fn judge_faulty(&mut self, closed: &BTreeMap<String, u64>) {
        if self.flags.faulty == 0 {
            return;
        }
        self.report.put("faulty_ended", json!(self.swarm.counts.faulty_ends));
        // At least, and at most.
        let mut expected: BTreeMap<String, (u64, u64)> = BTreeMap::new();
        for fault in (self.flags.clients..self.swarm.count()).filter_map(|index| self.swarm.fault(index)) {
            let (Fate::Closed(reason) | Fate::Perhaps(reason)) = fault.fate() else { continue };
            let (least, most) = expected.entry(reason.to_owned()).or_default();
            *least += u64::from(matches!(fault.fate(), Fate::Closed(_)));
            *most += 1;
        }
        let is_expected = |(reason, count): (&String, &u64)| {
            expected.get(reason).is_some_and(|(least, most)| (least..=most).contains(&count))
        };
        if closed.len() != expected.len() || !closed.iter().all(is_expected) {
            self.faults.push(format!("the server has closed {closed:?}, and it should be {expected:?}"));
        }
        let (staying, with) = self.swarm.faulty_with(self.flags.fanouts);
        if staying != with {
            self.faults.push(format!("{with} of {staying} that misbehave and stay have all events"));
        }
    }
}
