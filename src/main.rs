//! The sockring server: reads its settings, starts a worker per shard, and ends when it is told to.
// As in the library.
#![deny(
    unreachable_pub,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::cast_possible_truncation
)]
#![cfg_attr(
    test,
    allow(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::indexing_slicing,
        clippy::panic,
        clippy::cast_possible_truncation,
        reason = "a test that fails says where"
    )
)]

mod asking;
mod authorities;
mod budget;
mod certificates;
mod check;
mod collector;
mod flags;
mod jwks;
mod limits;
mod listen;
mod logs;
mod others;
mod out;
mod reload;
mod rings;
mod serve;
mod show;
mod space;
mod state;
mod supervisor;
mod tail;
mod token;

use std::error::Error;
use std::io::Write;
use std::process::ExitCode;

use flags::{Command, Invocation};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    match run(flags::parse()) {
        Ok(status) => status,
        Err(error) => {
            for line in error.to_string().lines() {
                // Where nobody reads it, the status has to do.
                let _ = writeln!(std::io::stderr(), "sockring: {line}");
            }
            ExitCode::FAILURE
        }
    }
}

fn run(invocation: Invocation) -> Result<ExitCode, Box<dyn Error>> {
    let settings = || invocation.settings();
    match &invocation.command {
        Command::Serve => serve::run(invocation).map(|()| ExitCode::SUCCESS),
        Command::Check(form) => check::run(settings(), *form).map(|()| ExitCode::SUCCESS),
        Command::MintToken { user, ttl } => token::mint(&settings()?, user, *ttl),
        Command::CheckToken(text) => token::check(&settings()?, text),
        Command::Emit(whom, emit) => asking::emit(&settings()?, whom, emit.clone()),
        Command::Stats(whom) => asking::stats(&settings()?, whom),
        Command::Tail(tail) => tail::run(&settings()?, tail),
        Command::ShowConfig => show::in_force(&settings()?),
        Command::DefaultConfig => show::defaults(),
        Command::Events => printed(serde_json::to_string_pretty(&sockring::events::constants())?),
        Command::Completions(shell) => {
            let mut script = Vec::new();
            clap_complete::generate(*shell, &mut flags::for_readers(), "sockring", &mut script);
            printed(String::from_utf8(script)?)
        }
        Command::ManPage => {
            let mut page = Vec::new();
            clap_mangen::Man::new(flags::for_readers()).render(&mut page)?;
            printed(String::from_utf8(page)?)
        }
    }
}

fn printed(text: String) -> Result<ExitCode, Box<dyn Error>> {
    out::line(text)?;
    Ok(ExitCode::SUCCESS)
}
