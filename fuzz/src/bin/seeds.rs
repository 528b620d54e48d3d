//! Puts the faults of `sockring_fuzz::FAULTS` into a copy of the project, and counts the seeds of the simulation that find each.
//!
//! `cargo run --manifest-path fuzz/Cargo.toml --no-default-features --bin seeds [seeds [invariant]]`. All of them are built
//! together, and one at a time is chosen when the simulation runs. Fails unless each is found, and nothing where there is none.

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::{env, fs};

use sockring_fuzz::{FAULTS, Fault, Invariant};

const SEEDS: &str = "1000";
/// What the copy says in place of an expression.
const CHOICE: &str = r#"
/// Whether this fault has been chosen for this run.
pub(crate) fn is_planted(fault: usize) -> bool {
    static CHOSEN: std::sync::LazyLock<Option<usize>> =
        std::sync::LazyLock::new(|| std::env::var("FAULT").ok()?.parse().ok());
    *CHOSEN == Some(fault)
}
"#;
/// Optimised as `tests/all` has it.
const FAST: [&str; 4] = [
    "--config",
    "profile.dev.package.sockring.opt-level=1",
    "--config",
    "profile.dev.package.sockring-protocol.opt-level=1",
];

fn main() -> ExitCode {
    let seeds = env::args().nth(1).unwrap_or_else(|| SEEDS.to_owned());
    let only = env::args().nth(2);
    let is_meant = |fault: &Fault| only.as_deref().is_none_or(|only| format!("{:?}", fault.invariant) == only);
    let copy = env::temp_dir().join(format!("sockring-seeds-{}", std::process::id()));
    copy_project(&copy);
    let planted: Vec<&Fault> = FAULTS.iter().filter(|fault| is_meant(fault)).collect();
    planted.iter().enumerate().for_each(|(number, fault)| plant(&copy, number, fault));
    let simulation = build(&copy);
    let mut missed = 0;
    let mut tests: Vec<&str> = planted.iter().map(|fault| fault.test).collect();
    tests.sort_unstable();
    tests.dedup();
    for test in tests {
        let failed = play(&simulation, test, &seeds, None);
        assert_eq!(failed, Some(0), "{test} fails without a fault");
    }
    println!("| Invariant | Fault | Test | Seeds of {seeds} that find it |\n|---|---|---|---|");
    for (number, fault) in planted.iter().enumerate() {
        let found = play(&simulation, fault.test, &seeds, Some(number));
        missed += usize::from(found.is_none_or(|found| found == 0));
        let found = found.map_or("none: it did not end".to_owned(), |found| found.to_string());
        println!("| {:?} | {} | `{}` | {found} |", fault.invariant, fault.what, fault.test);
    }
    fs::remove_dir_all(&copy).expect("the copy is ours");
    let without: Vec<_> =
        Invariant::ALL.iter().filter(|invariant| !FAULTS.iter().any(|fault| fault.invariant == **invariant)).collect();
    println!("{} of {} found", planted.len() - missed, planted.len());
    if missed == 0 && without.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// The copy has either the one or the other.
fn plant(copy: &Path, number: usize, fault: &Fault) {
    let path = copy.join(fault.path);
    let source = fs::read_to_string(&path).expect("a source");
    assert_eq!(source.matches(fault.right).count(), 1, "{}: not once: {}", fault.path, fault.right);
    let choice = format!("(if crate::is_planted({number}) {{ {} }} else {{ {} }})", fault.wrong, fault.right);
    fs::write(&path, source.replacen(fault.right, &choice, 1)).expect("the copy can be written");
}

/// All that git knows of, or would.
fn copy_project(copy: &Path) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("fuzz/ is in the project");
    let arguments = ["ls-files", "--cached", "--others", "--exclude-standard"];
    let output = Command::new("git").args(arguments).current_dir(root).output().expect("git is installed");
    for path in String::from_utf8_lossy(&output.stdout).lines() {
        let (from, to) = (root.join(path), copy.join(path));
        if from.is_file() {
            fs::create_dir_all(to.parent().expect("in the copy")).expect("a folder of the copy");
            fs::copy(from, to).expect("a file of the copy");
        }
    }
    let root = copy.join("src/lib.rs");
    let source = fs::read_to_string(&root).expect("a source");
    fs::write(&root, source + CHOICE).expect("the copy can be written");
}

/// The simulation of the copy, with all faults in it.
fn build(copy: &Path) -> PathBuf {
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.args(["test", "--test", "sim", "--no-run", "--message-format", "json", "--manifest-path"]);
    command.arg(copy.join("Cargo.toml")).args(FAST).stderr(Stdio::inherit());
    let built = env::var_os("CARGO_TARGET_DIR").map_or_else(|| copy.join("target"), PathBuf::from);
    let output = command.env("CARGO_TARGET_DIR", built).output().expect("cargo is there");
    assert!(output.status.success(), "it does not build with the faults");
    let messages = String::from_utf8_lossy(&output.stdout).into_owned();
    let binary = messages.lines().find(|line| line.contains(r#""name":"sim""#)).and_then(|line| {
        let (_, rest) = line.split_once(r#""executable":""#)?;
        Some(PathBuf::from(rest.split_once('"')?.0))
    });
    let binary = binary.expect("a binary of that name");
    // The next build would be another one of the same name.
    let kept = copy.join("simulation");
    fs::copy(binary, &kept).expect("the copy can be written");
    kept
}

/// How many seeds of a test fail with a fault.
fn play(simulation: &Path, test: &str, seeds: &str, fault: Option<usize>) -> Option<u64> {
    let mut command = Command::new(simulation);
    command.args([test, "--nocapture"]).env("SIM_SEEDS", seeds).env("RUST_BACKTRACE", "0").stderr(Stdio::null());
    if let Some(fault) = fault {
        command.env("FAULT", fault.to_string());
    }
    let output = command.output().expect("it runs");
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let line = said.lines().find(|line| line.contains(" seeds, ") && line.contains(" failed"))?;
    line.split(" failed").next()?.rsplit(' ').next()?.parse().ok()
}
