//! `swarm`: a million Socket.IO clients without a socket of their own, and what each of them costs a server.

mod api;
mod client;
mod counts;
mod emitter;
mod fault;
mod flags;
mod group;
mod namespace;
mod packet;
mod phases;
mod reading;
mod run;
mod server;
mod speech;
mod stress;
mod swarm;
mod telling;
mod tun;
mod wire;

// What the other load generator has too. It is built with the whole server, which this one is not.
#[allow(dead_code)]
#[path = "../../load/src/clock.rs"]
mod clock;
#[allow(dead_code)]
#[path = "../../load/src/histogram.rs"]
mod histogram;
#[allow(dead_code)]
#[path = "../../load/src/kernel.rs"]
mod kernel;
#[allow(dead_code)]
#[path = "../../load/src/report.rs"]
mod report;

use std::process::ExitCode;

use flags::Flags;

/// It cannot run here at all.
const EXIT_NOT_HERE: u8 = 2;

fn main() -> ExitCode {
    let flags = match Flags::parse(std::env::args_os().skip(1)) {
        Ok(flags) => flags,
        Err(said) => {
            eprintln!("{said}");
            return ExitCode::FAILURE;
        }
    };
    if let Err(error) = namespace::enter() {
        eprintln!("swarm: {error}");
        return ExitCode::from(EXIT_NOT_HERE);
    }
    match run::run(&flags) {
        Ok(faults) if faults.is_empty() => ExitCode::SUCCESS,
        Ok(faults) => {
            faults.iter().for_each(|fault| eprintln!("swarm: {fault}"));
            ExitCode::FAILURE
        }
        Err(error) => {
            eprintln!("swarm: {error}");
            ExitCode::FAILURE
        }
    }
}
