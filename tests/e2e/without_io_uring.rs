//! Where io_uring may not be used: a seccomp filter, as container runtimes have one, makes its setup fail.

use std::collections::BTreeMap;
use std::env::consts::ARCH;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use seccompiler::{BpfProgram, SeccompAction, SeccompFilter};

use crate::command::{Ended, finish, sockring};

/// Runs the binary where `io_uring_setup` fails with this error.
fn run_without_io_uring(errno: i32, arguments: &[&str]) -> Ended {
    let mut command = sockring(arguments, &[("PORT", "0")]);
    // A filter is for good, and children have it too: it is put on a thread that does nothing else.
    let child = thread::spawn(move || {
        let error = SeccompAction::Errno(errno.unsigned_abs());
        let rules = BTreeMap::from([(libc::SYS_io_uring_setup, Vec::new())]);
        let architecture = ARCH.try_into().expect("seccompiler knows this processor");
        let filter = SeccompFilter::new(rules, SeccompAction::Allow, error, architecture).expect("a filter");
        let program: BpfProgram = filter.try_into().expect("a short program");
        seccompiler::apply_filter(&program).expect("a thread may filter itself");
        command.spawn().expect("the binary starts")
    });
    finish(child.join().expect("the binary starts"))
}

/// What the sentence has to mention. A kernel that is too old for the switch may lack io_uring altogether.
fn reason(errno: i32) -> &'static str {
    let has_switch = Path::new("/proc/sys/kernel/io_uring_disabled").exists();
    if errno == libc::EPERM || has_switch { "seccomp" } else { "io_uring" }
}

#[test]
fn serve_says_in_one_sentence_what_forbids_it() {
    for errno in [libc::EPERM, libc::ENOSYS] {
        let begun = Instant::now();
        let ended = run_without_io_uring(errno, &["serve"]);
        assert_eq!((ended.code, ended.stdout.as_str()), (Some(1), ""), "{ended:?}");
        assert_eq!(ended.stderr.lines().count(), 1, "{ended:?}");
        assert!(ended.stderr.contains(reason(errno)), "{ended:?}");
        assert!(begun.elapsed() < Duration::from_secs(3), "at once, not after {:?}", begun.elapsed());
    }
}

#[test]
fn check_fails_on_it() {
    for errno in [libc::EPERM, libc::ENOSYS] {
        let ended = run_without_io_uring(errno, &["check"]);
        assert_eq!(ended.code, Some(1), "{ended:?}");
        let line = ended.stdout.lines().find(|line| line.contains("io_uring: ")).expect("a line about it");
        assert!(line.starts_with("FAIL  io_uring: ") && line.contains(reason(errno)), "{ended:?}");
    }
}
