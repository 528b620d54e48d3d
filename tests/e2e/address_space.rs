//! Address space: too little of it at the start, and what is said to be enough.

use crate::command::{Ended, finish, limited};
use crate::operator::starts;
use crate::server::Server;

const ENVIRONMENT: [(&str, &str); 2] = [("PORT", "0"), ("SOCKRING_SHARDS", "16")];

/// What a command does under so many KiB of address space.
fn run_within(kib: u64, arguments: &[&str]) -> Ended {
    finish(limited(&format!("-v {kib}"), arguments, &ENVIRONMENT).spawn().expect("the shell starts"))
}

/// What a sentence says that is reserved, in KiB.
fn reserved_kib(said: &str) -> u64 {
    let (_, rest) = said.split_once("16 shards reserve ").unwrap_or_else(|| panic!("what is reserved: {said}"));
    let (whole, tenths) = rest.split(' ').next().and_then(|number| number.split_once('.')).expect("a number");
    let number = |text: &str| text.parse::<u64>().expect("digits");
    (number(whole) << 20) + (number(tenths) << 20).div_ceil(10)
}

#[test]
fn too_little_is_told_by_check_and_by_a_server_with_what_would_do() {
    for kib in [300_000, 1_000_000, 1_500_000, 2_500_000] {
        let serve = run_within(kib, &["serve"]);
        assert_eq!((serve.code, serve.stdout.as_str(), serve.stderr.lines().count()), (Some(1), "", 1), "{serve:?}");
        let said = serve.stderr.trim_end().strip_prefix("sockring: ").unwrap_or_else(|| panic!("{serve:?}"));
        for words in ["RLIMIT_AS allows", "ulimit -v", "LimitAS=", "lower shards, clients_max or connections_max"] {
            assert!(said.contains(words), "`{words}` in {said}");
        }
        assert!(reserved_kib(said) > kib, "{kib}: {said}");
        let check = run_within(kib, &["check"]);
        assert_eq!(check.code, Some(1), "{check:?}");
        assert!(check.stdout.lines().any(|line| line == format!("FAIL  memory: {said}")), "{said}: {check:?}");
    }
}

#[test]
fn near_what_is_needed_it_starts_or_says_what_certainly_does() {
    // Where it depends on the steps in which memory is taken, nobody is left with a backtrace.
    for kib in [2_800_000, 2_900_000, 3_000_000, 3_100_000, 3_200_000, 3_300_000, 3_600_000] {
        let check = run_within(kib, &["check"]);
        let failed = check.stdout.lines().find(|line| line.starts_with("FAIL  "));
        assert_eq!(check.code, Some(i32::from(failed.is_some())), "{check:?}");
        let serve = starts(limited(&format!("-v {kib}"), &["serve"], &ENVIRONMENT)).err();
        for said in failed.into_iter().chain(serve.as_ref().map(|ended| ended.stderr.as_str())) {
            assert!(said.contains("RLIMIT_AS allows") && said.lines().count() == 1, "{kib}: {said}");
            assert!(reserved_kib(said) > kib, "{kib}: {said}");
        }
        assert!(serve.is_none_or(|ended| ended.code == Some(1)));
    }
    let need = reserved_kib(&run_within(1_000_000, &["check"]).stdout);
    let step = 1 << 20;
    let mut server = Server::start_with_limit(&format!("-v {}", need + step), &ENVIRONMENT[1..]);
    server.assert_healthy();
}
