//! The sockring server: reads its settings, starts a worker per shard, and ends when it is told to.

mod check;
mod flags;
mod serve;

use std::process::ExitCode;

use flags::Command;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let invocation = flags::parse();
    let result = match &invocation.command {
        Command::Events => flags::print_events(),
        Command::Check => check::run(invocation.settings()),
        Command::Serve => serve::run(invocation),
        Command::Token { user, ttl } => match invocation.settings() {
            Ok(settings) => flags::print_token(&settings, user, *ttl),
            Err(error) => Err(error.into()),
        },
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("sockring: {error}");
            ExitCode::FAILURE
        }
    }
}
