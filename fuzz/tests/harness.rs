//! The harnesses of the README: they stand there word for word, and the one for AFL++ takes the seeds.

use std::collections::BTreeSet;
use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use arbitrary::Unstructured;
use sockring_fuzz::Random;
use sockring_protocol::Millis;
use sockring_protocol::engineio::{Input, Session, Step};
use sockring_protocol::socketio::AckId;

fn package() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

#[test]
fn the_readme_shows_them_word_for_word() {
    let readme = fs::read_to_string(package().join("README.md")).expect("README.md");
    for name in ["cargo_fuzz.rs", "afl.rs"] {
        let source = fs::read_to_string(package().join("harness").join(name)).expect("a harness");
        assert!(readme.contains(&format!("```rust\n{source}```\n")), "the README shows another harness/{name}");
        assert!(source.lines().count() <= 40, "{name} is to be read at a glance");
    }
}

/// The feature `arbitrary`: what a fuzzer derives from bytes is what the rules of a session take.
#[test]
fn inputs_come_out_of_bytes() {
    let mut random = Random::new(1);
    let (mut inputs, mut ends) = (BTreeSet::new(), 0);
    for _ in 0..200 {
        let bytes: Vec<u8> = (0..400).map(|_| random.byte()).collect();
        let mut unstructured = Unstructured::new(&bytes);
        let (transport, times) = unstructured.arbitrary().expect("a transport and times");
        let script: Vec<(Input, u16)> = unstructured.arbitrary().expect("a script");
        let mut now = Millis(0);
        let mut session = Session::open(transport, now, &times, 0);
        for (input, pause_ms) in script {
            now = now + u64::from(pause_ms);
            inputs.insert(format!("{input:?}"));
            ends += usize::from(matches!(session.receive(input, now, &times), Step::End(_)));
        }
        let AckId(ack) = unstructured.arbitrary().expect("a number");
        assert!(ack <= AckId::MAX.0);
    }
    assert!(inputs.len() > 15 && ends > 15, "{ends} ends by {} inputs", inputs.len());
}

#[test]
fn the_one_for_afl_takes_the_seeds() {
    let entries = fs::read_dir(package().join("seeds/http")).expect("seeds");
    let mut answered = 0;
    for seed in entries.map(|entry| entry.expect("a seed").path()) {
        let output = run(&fs::read(&seed).expect("a seed"));
        answered += usize::from(!output.ends_with(" in, 0 bytes out\n"));
    }
    assert!(answered > 5, "only {answered} seeds got an answer");
    let session = b"GET /socket.io/?EIO=4&transport=polling HTTP/1.1\r\nHost: a\r\n\r\n";
    let silence = b"\n~\n".repeat(100);
    assert_ne!(run(&[&session[..], &silence].concat()), run(session), "the silence has no end");
}

fn run(input: &[u8]) -> String {
    let mut harness = Command::new(env!("CARGO_BIN_EXE_harness_afl"));
    let mut harness = harness.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("the harness");
    harness.stdin.take().expect("its input").write_all(input).expect("all of it is read");
    let output = harness.wait_with_output().expect("its end");
    assert!(output.status.success(), "{}", input.escape_ascii());
    String::from_utf8(output.stdout).expect("a line")
}
