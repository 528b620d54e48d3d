//! Open files: too few at the start, and too few while it runs.

use std::net::TcpStream;

use rustix::process::{Pid, Resource, Rlimit, getrlimit, prlimit};

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
