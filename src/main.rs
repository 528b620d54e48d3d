//! The sockring server: reads its settings, starts a worker per shard, and ends when it is told to.

mod budget;
mod check;
mod flags;
mod listen;
mod out;
mod rings;
mod serve;
mod space;
mod supervisor;

use std::io::Write;
use std::process::ExitCode;

use flags::Command;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let invocation = flags::parse();
    let result = match &invocation.command {
        Command::Events => flags::print_events(),
        Command::Check(form) => check::run(invocation.settings(), *form),
        Command::Serve => serve::run(invocation),
        Command::Token { user, ttl } => match invocation.settings() {
            Ok(settings) => flags::print_token(&settings, user, *ttl),
            Err(error) => Err(error.into()),
        },
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            for line in error.to_string().lines() {
                // Where nobody reads it, the status has to do.
                let _ = writeln!(std::io::stderr(), "sockring: {line}");
            }
            ExitCode::FAILURE
        }
    }
}
