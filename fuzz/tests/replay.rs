//! Every committed seed goes through its body, and so do changes of the seeds that follow from a number.
//!
//! `FUZZ_ROUNDS` is how many changed inputs each target gets, `FUZZ_SEED` the number of the first.

use std::fmt::Write;
use std::fs;
use std::panic;
use std::path::{Path, PathBuf};

use sockring_fuzz::{BUGS, FAULTS, Invariant, Random, TARGETS, Target};

const ROUNDS: u64 = 20_000;
/// A handshake takes as long as so many inputs of other targets.
const ROUNDS_PER_HANDSHAKE: u64 = 50;
const SEEDS_MIN: usize = 8;
/// Changes let an input grow no further than this.
const INPUT_BYTES_MAX: usize = 4096;

/// What changes put in beside pieces of other seeds: where the layers decide.
const TOKENS: [&[u8]; 44] = [
    b"\r\n",
    b"\r\n\r\n",
    b"\n",
    b"Content-Length: 5\r\n",
    b"Transfer-Encoding: chunked\r\n",
    b"0\r\n\r\n",
    b"%",
    b"&sid=",
    b"\x1e",
    b"4",
    b"b",
    b"451-",
    b"9007199254740991",
    b"{\"_placeholder\":true,\"num\":0}",
    b"[\"a\"]",
    b"[",
    b"}",
    b",",
    b"\"",
    b"\\ud800",
    b"\\",
    b"e9",
    b"\xe2\x82\xac",
    b"\x81\x80\0\0\0\0",
    b"\x89\x80\0\0\0\0",
    b"\x7f\xff",
    b"\xc0",
    b"\xc1",
    b"\xd4\x00\x00",
    b"\xd6\xff\xff\xff\xff\xff",
    b"\xd7\xff\xff\xff\xff\xff\xff\xff\xff\xff",
    b"\xc7\x0c\xff\x00\x00\x00\x00\x80\x00\x00\x00\x00\x00\x00\x00",
    b"\xcb\x7f\xf8\x00\x00\x00\x00\x00\x00",
    b"\xcf\xff\xff\xff\xff\xff\xff\xff\xff",
    b"\xdd\xff\xff\xff\xff",
    b"\xc4\x01x",
    b"\xa4opts",
    b"\xac_placeholder\xc3",
    b"null",
    b"1e999",
    b"10.0.0.1, ",
    b"::1",
    b"\n--\n",
    b"\"user\":\"a\",",
];

#[test]
fn http() {
    replay("http");
}

#[test]
fn websocket() {
    replay("websocket");
}

#[test]
fn engineio() {
    replay("engineio");
}

#[test]
fn session() {
    replay("session");
}

#[test]
fn socketio() {
    replay("socketio");
}

#[test]
fn json() {
    replay("json");
}

#[test]
fn msgpack() {
    replay("msgpack");
}

#[test]
fn adapter() {
    replay("adapter");
}

#[test]
#[cfg(feature = "server")]
fn proxies() {
    replay("proxies");
}

#[test]
#[cfg(feature = "server")]
fn tokens() {
    replay("tokens");
}

#[test]
#[cfg(feature = "server")]
fn api() {
    replay("api");
}

#[test]
#[cfg(feature = "server")]
fn shard() {
    replay("shard");
}

#[test]
#[cfg(feature = "server")]
fn tls() {
    replay("tls");
}

#[test]
#[cfg(feature = "server")]
fn relay() {
    replay("relay");
}

#[test]
fn every_target_is_replayed_and_fuzzed() {
    let source = include_str!("replay.rs");
    for Target { name, .. } in TARGETS {
        assert!(source.contains(&format!("    replay({name:?});")), "{name} has no test here");
        assert!(package().join("fuzz_targets").join(format!("{name}.rs")).exists(), "{name} has no fuzz target");
    }
    for entry in fs::read_dir(package().join("seeds")).expect("seeds/") {
        let folder = entry.expect("a folder of seeds").file_name();
        let is_known = TARGETS.iter().any(|target| *target.name == *folder);
        assert!(is_known || !cfg!(feature = "server"), "{folder:?} is no target");
    }
}

/// A bug that cannot be put in any more is none that is found.
#[test]
fn every_planted_bug_has_its_place() {
    let root = package().parent().expect("the project");
    for bug in BUGS {
        let source = fs::read_to_string(root.join(bug.path)).expect("a source");
        assert_eq!(source.matches(bug.right).count(), 1, "{}: {}", bug.path, bug.right);
        assert_ne!(bug.right, bug.wrong);
    }
    assert!(TARGETS.iter().all(|target| BUGS.iter().any(|bug| bug.target == target.name)), "no bug for a target");
}

#[test]
fn every_planted_fault_has_its_place() {
    let root = package().parent().expect("the project");
    for fault in FAULTS {
        let source = fs::read_to_string(root.join(fault.path)).expect("a source");
        assert_eq!(source.matches(fault.right).count(), 1, "{}: {}", fault.path, fault.right);
    }
    assert!(Invariant::ALL.iter().all(|one| FAULTS.iter().any(|fault| fault.invariant == *one)), "none for it");
}

fn replay(name: &str) {
    let target = *TARGETS.iter().find(|target| target.name == name).expect("a target of that name");
    let seeds = seeds(name);
    assert!(seeds.len() >= SEEDS_MIN, "{name} has {} seeds of at least {SEEDS_MIN}", seeds.len());
    for (seed, input) in &seeds {
        run(target, input, || format!("the seed {}", seed.display()));
    }
    let (first, rounds) = (number("FUZZ_SEED", 1), number("FUZZ_ROUNDS", rounds_of(name)));
    println!("{name}: {} seeds, then {rounds} changes of them from seed {first}", seeds.len());
    for seed in first..first + rounds {
        let input = change(&seeds, &mut Random::new(seed));
        run(target, &input, || {
            format!("FUZZ_SEED={seed} FUZZ_ROUNDS=1 cargo test --manifest-path fuzz/Cargo.toml --test replay {name}")
        });
    }
}

fn rounds_of(name: &str) -> u64 {
    match name {
        "tls" => ROUNDS / ROUNDS_PER_HANDSHAKE,
        // Each is a shard that is packed several times.
        "relay" => ROUNDS / 2,
        _ => ROUNDS,
    }
}

/// The inputs of a target, in the order of their names.
fn seeds(name: &str) -> Vec<(PathBuf, Vec<u8>)> {
    let folder = package().join("seeds").join(name);
    let entries = fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut paths: Vec<_> = entries.map(|entry| entry.expect("a seed").path()).collect();
    paths.sort();
    paths.into_iter().map(|path| (path.clone(), fs::read(&path).expect("a seed"))).collect()
}

/// Says which input failed, and keeps it where cargo-fuzz keeps its own.
fn run(target: Target, input: &[u8], origin: impl FnOnce() -> String) {
    let Err(failure) = panic::catch_unwind(|| (target.body)(input)) else { return };
    let mut report = format!("{} fails with {} bytes, from {}", target.name, input.len(), origin());
    let folder = package().join("artifacts").join(target.name);
    let path = folder.join("replay-failure");
    if fs::create_dir_all(&folder).and_then(|()| fs::write(&path, input)).is_ok() {
        // Writing into a String does not fail.
        let _ = write!(report, ", kept as {}", path.display());
    }
    eprintln!("{report}\n{}", input.escape_ascii());
    panic::resume_unwind(failure);
}

/// One seed with a few changes, from a random one of the seeds.
fn change(seeds: &[(PathBuf, Vec<u8>)], random: &mut Random) -> Vec<u8> {
    let mut input = seeds[random.below(seeds.len())].1.clone();
    for _ in 0..=random.below(4) {
        let at = random.below(input.len() + 1);
        let to = at + random.below((input.len() - at).min(16) + 1);
        match random.below(9) {
            0 if at < input.len() => input[at] ^= 1 << random.below(8),
            1 if at < input.len() => input[at] = random.byte(),
            2 => input.insert(at, random.byte()),
            3 => drop(input.drain(at..to)),
            4 => input.truncate(at),
            5 => insert(&mut input, at, TOKENS[random.below(TOKENS.len())]),
            6 => {
                let piece = input[at..to].to_vec();
                insert(&mut input, at, &piece.repeat(1 + random.below(8)));
            }
            7 => {
                let other = &seeds[random.below(seeds.len())].1;
                insert(&mut input, at, &other[random.below(other.len() + 1)..]);
            }
            _ => {
                let other = &seeds[random.below(seeds.len())].1;
                input.truncate(at);
                input.extend_from_slice(&other[random.below(other.len() + 1)..]);
            }
        }
    }
    input.truncate(INPUT_BYTES_MAX);
    input
}

fn insert(input: &mut Vec<u8>, at: usize, piece: &[u8]) {
    drop(input.splice(at..at, piece.iter().copied()));
}

fn number(variable: &str, default: u64) -> u64 {
    match std::env::var(variable) {
        Ok(text) => text.parse().unwrap_or_else(|_| panic!("{variable} is not a number: {text}")),
        Err(_) => default,
    }
}

fn package() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}
