//! Changes of the captured messages that follow from a number, as the bodies in `fuzz/` get them: nothing panics, and what
//! is read can be written.
//!
//! `FUZZ_ROUNDS` is how many changed messages there are, `FUZZ_SEED` the number of the first.

use super::VECTORS;
use super::hostile::survive;
use super::random::Random;

const ROUNDS: u64 = 20_000;

/// What changes put in beside pieces of other messages: where readers decide.
const TOKENS: [&[u8]; 22] = [
    b"\xc0",
    b"\xc1",
    b"\xd4\x00\x00",
    b"\xd6\xff\xff\xff\xff\xff",
    b"\xd7\xff\xff\xff\xff\xff\xff\xff\xff\xff",
    b"\xc7\x0c\xff\x00\x00\x00\x00\x80\x00\x00\x00\x00\x00\x00\x00",
    b"\xcb\x7f\xf8\x00\x00\x00\x00\x00\x00",
    b"\xcf\xff\xff\xff\xff\xff\xff\xff\xff",
    b"\xd3\x80\x00\x00\x00\x00\x00\x00\x00",
    b"\xdd\xff\xff\xff\xff",
    b"\x91",
    b"\x80",
    b"\xc4\x01x",
    b"\xa4opts",
    b"\xac_placeholder\xc3",
    b"{\"_placeholder\":true,\"num\":0}",
    b"null",
    b"[",
    b"}",
    b"1e999",
    b"\\ud800",
    b"\"type\":6,",
];

#[test]
fn no_change_of_a_message_makes_anything_panic() {
    let first = number("FUZZ_SEED", 1);
    for seed in first..first + number("FUZZ_ROUNDS", ROUNDS) {
        let body = change(&mut Random(seed));
        if std::panic::catch_unwind(|| survive(&body)).is_err() {
            panic!("FUZZ_SEED={seed} FUZZ_ROUNDS=1 fails with {}", body.escape_ascii());
        }
    }
}

/// One message with a few changes.
fn change(random: &mut Random) -> Vec<u8> {
    let mut body = VECTORS[random.below(VECTORS.len())].body.clone();
    for _ in 0..=random.below(4) {
        let at = random.below(body.len() + 1);
        let to = at + random.below((body.len() - at).min(16) + 1);
        match random.below(7) {
            0 if at < body.len() => body[at] ^= 1 << random.below(8),
            1 if at < body.len() => body[at] = random.number().to_le_bytes()[0],
            2 => drop(body.drain(at..to)),
            3 => body.truncate(at),
            4 => {
                let piece = body[at..to].repeat(1 + random.below(8));
                drop(body.splice(at..at, piece));
            }
            5 => {
                let other = &VECTORS[random.below(VECTORS.len())].body;
                let from = random.below(other.len() + 1);
                let piece = other[from..].iter().copied().take(32);
                drop(body.splice(at..at, piece));
            }
            _ => drop(body.splice(at..to, TOKENS[random.below(TOKENS.len())].iter().copied())),
        }
    }
    body
}

fn number(variable: &str, default: u64) -> u64 {
    match std::env::var(variable) {
        Ok(text) => text.parse().unwrap_or_else(|_| panic!("{variable} is not a number: {text}")),
        Err(_) => default,
    }
}
