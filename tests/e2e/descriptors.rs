//! Open files: too few at the start, and too few while it runs.

use std::net::TcpStream;

use rustix::process::{Pid, Resource, Rlimit, getrlimit, prlimit};

use crate::command::{finish, limited};
use crate::http::Connection;
use crate::server::{Metrics, Server};
use crate::until;

/// Leaves a server that runs this many descriptors; says how many it had.
fn allow(pid: Pid, descriptors: Option<u64>) -> Option<u64> {
    let limit = Rlimit { current: descriptors, maximum: getrlimit(Resource::Nofile).maximum };
    prlimit(Some(pid), Resource::Nofile, limit).expect("our child's limit can be changed").current
}

#[test]
fn connections_that_cannot_be_accepted_are_counted_by_errno_and_accepted_later() {
    let mut server = Server::start(&[("SOCKRING_SHARDS", "1"), ("SOCKRING_API_LISTEN", "127.0.0.1:0")]);
    let address = server.api_address();
    let mut alice = server.client("alice");
    let mut api = Connection::open(address);
    let label = r#"entrance="api",errno="EMFILE""#;
    let refused = |metrics: &Metrics| metrics.sum("sockring_accept_errors_total", label);
    assert_eq!(refused(&Metrics::ask(&mut api)), 0);
    let before = allow(server.pid(), Some(3));
    let waiting = TcpStream::connect(address).expect("the kernel accepts it");
    until("it is counted", || refused(&Metrics::ask(&mut api)), |count| *count > 0);
    alice.socket.round_trip();
    allow(server.pid(), before);
    assert_eq!(Connection::of(waiting).get("/health").status, 200);
    server.assert_healthy();
}

#[test]
fn too_few_at_the_start_are_told_by_check_and_by_a_server_with_how_many_would_do() {
    let environment = [("PORT", "0"), ("SOCKRING_SHARDS", "2")];
    let run = |files: u64, arguments: &[&str]| {
        finish(limited(&format!("-n {files}"), arguments, &environment).spawn().expect("the shell starts"))
    };
    let mut least = 0;
    for files in [10, 16, 40] {
        let serve = run(files, &["serve"]);
        assert_eq!((serve.code, serve.stdout.as_str(), serve.stderr.lines().count()), (Some(1), "", 1), "{serve:?}");
        let said = serve.stderr.trim_end().strip_prefix("sockring: ").unwrap_or_else(|| panic!("{serve:?}"));
        let (allowed, rest) = said.split_once(" open files are allowed, and ").unwrap_or_else(|| panic!("{said}"));
        assert_eq!(allowed, files.to_string());
        least = rest.split(' ').next().and_then(|least| least.parse().ok()).unwrap_or_else(|| panic!("{said}"));
        assert!(least > files && said.contains("LimitNOFILE=") && said.contains("lower shards"), "{said}");
        let check = run(files, &["check"]);
        assert_eq!(check.code, Some(1), "{check:?}");
        for about in ["descriptors", "shards"] {
            let line = format!("FAIL  {about}: {said}");
            assert!(check.stdout.lines().any(|other| other == line), "`{line}` in {check:?}");
        }
        assert!(!check.stdout.contains("another port"), "{check:?}");
    }
    let check = run(least, &["check"]);
    assert!(!check.stdout.contains("FAIL  shards") && !check.stdout.contains("open files are allowed"), "{check:?}");
    Server::start_with_limit(&format!("-n {least}"), &environment[1..]).assert_healthy();
}
