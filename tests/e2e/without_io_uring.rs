//! Under seccomp filters, as container runtimes have them: one that makes the setup of io_uring fail, and ours for Docker.

use std::collections::BTreeMap;
use std::env::consts::ARCH;
use std::path::Path;
use std::process::{Child, Command};
use std::time::{Duration, Instant};
use std::{fs, thread};

use seccompiler::{BpfProgram, SeccompAction, SeccompFilter};
use serde_json::{Value, json};

use crate::command::{Ended, finish, sockring};
use crate::server::{SECRET, Server};

/// Runs the binary where `io_uring_setup` fails with this error.
fn run_without_io_uring(errno: i32, arguments: &[&str]) -> Ended {
    let error = SeccompAction::Errno(errno.unsigned_abs());
    let rules = BTreeMap::from([(libc::SYS_io_uring_setup, Vec::new())]);
    let architecture = ARCH.try_into().expect("seccompiler knows this processor");
    let filter = SeccompFilter::new(rules, SeccompAction::Allow, error, architecture).expect("a filter");
    finish(spawn_under(vec![filter.try_into().expect("a short program")], sockring(arguments, &[("PORT", "0")])))
}

/// Starts it under all of these filters.
fn spawn_under(filters: Vec<BpfProgram>, mut command: Command) -> Child {
    // A filter is for good, and children have it too: it is put on a thread that does nothing else.
    let thread = thread::spawn(move || {
        for filter in filters {
            seccompiler::apply_filter(&filter).expect("a thread may filter itself");
        }
        command.spawn().expect("the binary starts")
    });
    thread.join().expect("the binary starts")
}

/// One rule of Docker's form in seccompiler's: all calls of it that this processor has.
fn rules_of(rule: &Value) -> Vec<Value> {
    let op = |arg: &Value| match arg["op"].as_str() {
        Some("SCMP_CMP_EQ") => json!({"index": arg["index"], "type": "dword", "op": "eq", "val": arg["value"]}),
        // The bits, and what they have to be.
        Some("SCMP_CMP_MASKED_EQ") => {
            json!({"index": arg["index"], "type": "qword", "op": {"masked_eq": arg["value"]}, "val": arg["valueTwo"]})
        }
        other => panic!("{other:?} of {rule}"),
    };
    let args: Option<Vec<_>> = rule["args"].as_array().map(|args| args.iter().map(op).collect());
    let names = rule["names"].as_array().expect("names").iter();
    let rules = names.map(|name| json!({"syscall": name, "args": args}));
    // As libseccomp does, calls of other processors are passed over.
    rules.filter(|rule| compiled(&json!("allow"), &json!("trap"), std::slice::from_ref(rule)).is_some()).collect()
}

fn compiled(matched: &Value, otherwise: &Value, rules: &[Value]) -> Option<BpfProgram> {
    let filter = json!({"one": {"match_action": matched, "mismatch_action": otherwise, "filter": rules}});
    let architecture = ARCH.try_into().expect("seccompiler knows this processor");
    seccompiler::compile_from_json(filter.to_string().as_bytes(), architecture).ok()?.remove("one")
}

/// deploy/seccomp.json without some calls. Of several filters the kernel takes the strictest answer, so each answer of the
/// profile that is not `allow` is one of its own, before those that are.
fn profile_without(calls: &[&str]) -> Vec<BpfProgram> {
    let text = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/deploy/seccomp.json")).expect("the profile");
    let profile: Value = serde_json::from_str(&text).expect("JSON");
    let (mut filters, mut allowed) = (Vec::new(), Vec::new());
    for rule in profile["syscalls"].as_array().expect("rules") {
        let rules = rules_of(rule);
        if rule["action"] == "SCMP_ACT_ERRNO" {
            filters.push(compiled(&json!({"errno": rule["errnoRet"]}), &json!("allow"), &rules).expect("a filter"));
        }
        allowed.extend(rules);
    }
    assert!(allowed.len() > 200, "{} calls are known here", allowed.len());
    allowed.retain(|rule| !calls.iter().any(|call| rule["syscall"] == *call));
    assert_eq!(profile["defaultAction"], "SCMP_ACT_ERRNO");
    filters.push(compiled(&json!("allow"), &json!({"errno": profile["defaultErrnoRet"]}), &allowed).expect("a filter"));
    filters
}

#[test]
fn our_profile_for_docker_lets_it_serve() {
    let environment = [("PORT", "0"), ("ACCESS_TOKEN_SECRET", SECRET), ("SOCKRING_SHARDS", "2")];
    let server = Server::start_from(spawn_under(profile_without(&[]), sockring(&["serve"], &environment)));
    let _client = server.client("alice");
    assert_eq!(server.emit_to("alice", "report:updated"), 1);
    let check = finish(spawn_under(profile_without(&[]), sockring(&["check"], &environment)));
    assert_eq!(check.code, Some(0), "{check:?}");
}

#[test]
fn our_profile_allows_nothing_of_io_uring_in_vain() {
    for call in ["io_uring_setup", "io_uring_enter", "io_uring_register"] {
        let ended = finish(spawn_under(profile_without(&[call]), sockring(&["serve"], &[("PORT", "0")])));
        assert_eq!((ended.code, ended.stdout.as_str()), (Some(1), ""), "without {call}: {ended:?}");
        assert!(ended.stderr.contains("a seccomp filter"), "without {call}: {ended:?}");
        let check = finish(spawn_under(profile_without(&[call]), sockring(&["check"], &[("PORT", "0")])));
        assert!(check.stdout.lines().any(|line| line.starts_with("FAIL  io_uring: ")), "without {call}: {check:?}");
    }
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
