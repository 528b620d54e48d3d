//! Does one operation of a shard N times, for `count` to run under callgrind: `instructions echo N`, `instructions fanout N`.
//!
//! On stdout: how many messages left. That is N for `echo`; for `fanout`, which is N emits, one per member.

use std::process::ExitCode;

use sockring_micro::Crowd;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const CLIENTS: usize = 1_000;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let Some((operation, times)) = parse(&arguments) else {
        eprintln!("usage: instructions echo|fanout N");
        return ExitCode::from(2);
    };
    let mut crowd = Crowd::new(CLIENTS);
    let (sends, expected): (usize, usize) = match operation {
        Operation::Echo => ((0..times).map(|_| crowd.echo().sends).sum(), times),
        Operation::FanOut => ((0..times).map(|_| crowd.fan_out().sends).sum(), times * CLIENTS),
    };
    if sends != expected {
        eprintln!("instructions: {sends} messages left instead of {expected}");
        return ExitCode::FAILURE;
    }
    println!("{sends}");
    ExitCode::SUCCESS
}

enum Operation {
    Echo,
    FanOut,
}

fn parse(arguments: &[String]) -> Option<(Operation, usize)> {
    let [operation, times] = arguments else { return None };
    let operation = match operation.as_str() {
        "echo" => Operation::Echo,
        "fanout" => Operation::FanOut,
        _ => return None,
    };
    Some((operation, times.parse().ok()?))
}
