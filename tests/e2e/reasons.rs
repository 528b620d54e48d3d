//! What is known of an end: the errno of a connection that broke, and the line that the log has for it.

use std::time::Duration;

use socket2::SockRef;

use crate::client::Client;
use crate::server::Server;
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
