//! `load`: drives a Socket.IO server with thousands of connections and reports what each thing cost it.
#![forbid(unsafe_code)]

mod crowd;
mod flags;
mod http;
mod modes;
mod run;
mod swarm;
mod watchdog;

use std::process::ExitCode;

use clap::Parser;

use flags::{Flags, Mode};
use run::Run;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    match measure(Flags::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("load: {error}");
            ExitCode::FAILURE
        }
    }
}

fn measure(flags: Flags) -> Result<(), Box<dyn std::error::Error>> {
    if let Some(core) = flags.core {
        sockring_load::clock::pin(core)?;
    }
    let mode = flags.mode;
    let mut run = Run::new(flags)?;
    let mut report = run.report();
    match mode {
        Mode::Connect => modes::connect::run(&mut run, &mut report)?,
        Mode::Idle => modes::idle::run(&mut run, &mut report)?,
        Mode::Echo => modes::echo::run(&mut run, &mut report)?,
        Mode::Fanout => modes::fanout::run(&mut run, &mut report)?,
        Mode::Touser => modes::touser::run(&mut run, &mut report)?,
        Mode::Churn => modes::churn::run(&mut run, &mut report)?,
        Mode::Return => modes::coming_back::run(&mut run, &mut report)?,
        Mode::Slow => modes::slow::run(&mut run, &mut report)?,
    }
    report.print();
    // Thousands of connections are closed by the kernel, not one after the other by us.
    std::process::exit(0)
}
