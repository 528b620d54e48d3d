//! What is known of an end: the errno of a connection that broke, and the line that the log has for it.

use std::time::Duration;

use socket2::SockRef;

use crate::client::{Client, Poller};
use crate::server::{Server, token_for};
use crate::until;

/// Ends the connection by a reset.
fn reset(client: Client) {
    let stream = client.socket.connection.stream;
    SockRef::from(&stream).set_linger(Some(Duration::ZERO)).expect("lingering can be set");
}

#[test]
fn a_connection_that_breaks_is_counted_by_its_errno() {
    let server = Server::start(&[]);
    let broken = || server.metrics().sum("sockring_connections_broken_total", "errno=\"ECONNRESET\"");
    let leaving = server.client("alice");
    reset(server.client("alice"));
    until("the reset is counted", broken, |count| *count == 1);
    leaving.leave();
    let metrics = server.metrics();
    assert_eq!((metrics.closed("transport_close"), metrics.closed("client_close")), (1, 1));
    assert_eq!(metrics.sum("sockring_connections_broken_total", ""), 1, "who says good-bye breaks nothing");
}

/// The log's line with these words, once it is there.
#[track_caller]
fn line_with(server: &Server, words: &[&str]) -> String {
    let find = || {
        let log = server.log();
        let whole = log.rsplit_once('\n').map_or("", |(whole, _)| whole);
        whole.lines().find(|line| words.iter().all(|word| line.contains(word))).map(str::to_owned)
    };
    until(&format!("the log has a line with {words:?}"), find, Option::is_some).unwrap_or_default()
}

/// The number behind a name in a line.
#[track_caller]
fn number(line: &str, name: &str) -> u64 {
    let value = line.split_once(&format!("{name}=")).and_then(|(_, rest)| rest.split(' ').next()?.parse().ok());
    value.unwrap_or_else(|| panic!("{name} in {line}"))
}

#[test]
fn each_end_has_its_line_where_the_log_goes_that_far() {
    // Users of both shards, so that clients move, and their lines with them.
    let server = Server::start(&[("SOCKRING_LOG", "info,sockring::shard=debug"), ("SOCKRING_SHARDS", "2")]);
    let quiet = Server::start(&[]);
    for user in ["alice", "bob", "carol", "dave"] {
        let name = format!("user=\"{user}\"");
        let client = server.client(user);
        let sid = client.sid.clone();
        reset(client);
        let line = line_with(&server, &["a client has ended", &name]);
        for word in ["address=127.0.0.1", "transport=\"websocket\"", "reason=\"transport_close\"", "detail=ECONNRESET"]
        {
            assert!(line.contains(word), "{word} in {line}");
        }
        // A CONNECT with its token; the open packet, the answer and the greeting.
        assert!(number(&line, "received_bytes") > 100 && number(&line, "sent_bytes") > 200, "{line}");
        assert!(number(&line, "ms") < 10_000 && number(&line, "sockets") == 1, "{line}");
        assert!(!server.log().contains(&sid), "{line}");
    }
    let mut breaker = server.client("eve");
    breaker.send("42{}");
    breaker.socket.close_code();
    let line = line_with(&server, &["a client has ended", "user=\"eve\""]);
    assert!(line.contains("reason=\"parse_error\" detail=socketio: not_an_array"), "{line}");
    let mut poller = Poller::connect(server.address(), &token_for("frank"));
    assert_eq!(poller.post("1").text(), "ok");
    let line = line_with(&server, &["a client has ended", "user=\"frank\""]);
    assert!(line.contains("transport=\"polling\" reason=\"client_close\" ms="), "{line}");
    drop(poller);
    let line = line_with(&server, &["a connection has ended", "transport=\"http\""]);
    assert!(line.contains("reason=\"peer\"") && number(&line, "received_bytes") > 0, "{line}");
    line_with(&server, &["a connection has ended", "transport=\"websocket\"", "reason=\"ECONNRESET\""]);

    reset(quiet.client("alice"));
    until("it is over", || quiet.held().clients, |clients| *clients == 0);
    assert_eq!(quiet.log().lines().count(), 1, "that it has started: {}", quiet.log());
}
