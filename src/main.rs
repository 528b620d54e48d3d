//! The sockring server: reads its settings, starts a worker per shard, and ends when it is told to.

mod check;
mod flags;
mod serve;

use std::process::ExitCode;

use flags::{Command, Invocation};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let result = match flags::parse() {
        Ok(Invocation { command: Command::Serve, settings }) => serve::run(settings),
        Ok(Invocation { command: Command::Token { user, ttl }, settings }) => flags::print_token(&settings, &user, ttl),
        Ok(Invocation { command: Command::Check, settings }) => check::run(&settings),
        Ok(Invocation { command: Command::Events, .. }) => flags::print_events(),
        Err(error) => Err(error),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("sockring: {error}");
            ExitCode::FAILURE
        }
    }
}
