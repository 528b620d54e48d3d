//! Plants each bug of `sockring_fuzz::BUGS` in a copy of the project, and counts those that the replay finds.
//!
//! `cargo run --manifest-path fuzz/Cargo.toml --bin plant [target]`. Fails unless all are found.

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Output};
use std::{env, fs};

use sockring_fuzz::{BUGS, Bug};

/// Enough for those that are found at all, most of them with the seeds alone.
const ROUNDS: &str = "4000";

fn main() -> ExitCode {
    let only = env::args().nth(1);
    let bugs: Vec<&Bug> = BUGS.iter().filter(|bug| only.as_deref().is_none_or(|only| only == bug.target)).collect();
    let copy = env::temp_dir().join(format!("sockring-plant-{}", std::process::id()));
    copy_project(&copy);
    let mut found = 0;
    for target in targets(&bugs) {
        let output = replay(&copy, target);
        assert!(output.status.success(), "{target} fails without a bug:\n{}", text(&output));
    }
    for bug in &bugs {
        let path = copy.join(bug.path);
        let source = fs::read_to_string(&path).expect("a source");
        assert_eq!(source.matches(bug.right).count(), 1, "{}: not once: {}", bug.path, bug.right);
        fs::write(&path, source.replacen(bug.right, bug.wrong, 1)).expect("the copy can be written");
        let output = replay(&copy, bug.target);
        fs::write(&path, source).expect("the copy can be written");
        let report = text(&output);
        let is_built = report.contains("running 1 test");
        let is_found = is_built && !output.status.success();
        found += usize::from(is_found);
        let verdict = if is_found { "found" } else { "NOT FOUND" };
        println!("{verdict:9} {:9} {}", bug.target, bug.what);
        if !is_built {
            println!("it does not build:\n{report}");
        }
    }
    fs::remove_dir_all(&copy).expect("the copy is ours");
    println!("{found} of {} found", bugs.len());
    if found == bugs.len() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn targets(bugs: &[&Bug]) -> Vec<&'static str> {
    let mut targets: Vec<_> = bugs.iter().map(|bug| bug.target).collect();
    targets.dedup();
    targets
}

/// All that git knows of, or would.
fn copy_project(copy: &Path) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("fuzz/ is in the project");
    let arguments = ["ls-files", "--cached", "--others", "--exclude-standard"];
    let output = Command::new("git").args(arguments).current_dir(root).output().expect("git is installed");
    for path in text(&output).lines() {
        let (from, to) = (root.join(path), copy.join(path));
        if from.is_file() {
            fs::create_dir_all(to.parent().expect("in the copy")).expect("a folder of the copy");
            fs::copy(from, to).expect("a file of the copy");
        }
    }
}

/// Runs one target's test in the copy, whose dependencies are built once for all.
fn replay(copy: &Path, target: &str) -> Output {
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.args(["test", "--quiet", "--manifest-path"]).arg(copy.join("fuzz/Cargo.toml")).args(["--test", "replay"]);
    let needs_server = BUGS.iter().any(|bug| bug.target == target && bug.path.starts_with("src/"));
    if !needs_server {
        command.arg("--no-default-features");
    }
    command.args(["--", "--exact", target]);
    let built = env::var_os("CARGO_TARGET_DIR").map_or_else(|| copy.join("target"), PathBuf::from);
    command.env("CARGO_TARGET_DIR", built).env("FUZZ_ROUNDS", ROUNDS).env("RUST_BACKTRACE", "0");
    command.output().expect("cargo is there")
}

fn text(output: &Output) -> String {
    [&*String::from_utf8_lossy(&output.stdout), &*String::from_utf8_lossy(&output.stderr)].concat()
}
