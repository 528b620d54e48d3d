//! The sockring server: reads its settings, starts a worker per shard, and ends when it is told to.

mod check;
mod flags;
mod serve;

use std::process::ExitCode;

use flags::{Command, Invocation};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let Invocation { command, settings } = flags::parse();
    let result = match (command, settings) {
        (Command::Events, _) => flags::print_events(),
        (Command::Check, settings) => check::run(settings),
        (Command::Serve, Ok(settings)) => serve::run(settings),
        (Command::Token { user, ttl }, Ok(settings)) => flags::print_token(&settings, &user, ttl),
        (_, Err(error)) => Err(error.into()),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("sockring: {error}");
            ExitCode::FAILURE
        }
    }
}
