//! The harnesses of the README: they stand there word for word, and the one for AFL++ takes the seeds.

use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

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
