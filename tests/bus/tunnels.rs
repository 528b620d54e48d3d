//! Sessions that are served at any instance: what comes to another one is brought to theirs, over Redis or by TCP.

use std::thread;

use crate::client::{Poller, WEBSOCKET, WebSocket};
use crate::http::Connection;
use crate::instance::{emit_to, instance_with, metric};
use crate::redis_server::RedisServer;
use crate::server::{Metrics, Server, token_for};
use crate::until;

const LISTEN: [(&str, &str); 2] = [
    ("SOCKRING_CLUSTER_LISTEN", "127.0.0.1:0"),
    ("SOCKRING_CLUSTER_SECRET", "a secret of more than 32 bytes, for tests"),
];

/// Two instances that know of each other.
fn pair(redis: &RedisServer, environment: &[(&str, &str)]) -> [Server; 2] {
    let servers = [instance_with(redis, environment), instance_with(redis, environment)];
    for server in &servers {
        until_neighbours(server, 1);
    }
    servers
}

#[track_caller]
fn until_neighbours(server: &Server, count: u64) {
    until("it has heard of the others", || metric(server, "sockring_neighbours"), |known| *known == count);
}

fn labelled(server: &Server, name: &str, label: &str) -> u64 {
    Metrics::ask(&mut server.connect()).sum(name, label)
}

/// A session of the first server that only ever asks the second one for it.
#[track_caller]
fn astray(servers: &[Server; 2]) -> Poller {
    let opened = Poller::open(servers[0].address());
    Poller { connection: servers[1].connect(), target: opened.target }
}

#[track_caller]
fn connect(poller: &mut Poller, user: &str) {
    assert_eq!(poller.post(&format!(r#"40{{"token":"{}"}}"#, token_for(user))).text(), "ok");
    let mut greeting = poller.poll();
    if !greeting.contains(r#"42["connected","#) {
        greeting += &poller.poll();
    }
    assert!(greeting.contains(r#"42["connected","#), "{greeting}");
}

/// Goes on as a WebSocket at this server.
#[track_caller]
fn upgrade(poller: &mut Poller, at: &Server) -> WebSocket {
    let sid = poller.target.split("sid=").nth(1).expect("a sid").to_owned();
    let mut socket = WebSocket::upgrade(at.connect(), &format!("{WEBSOCKET}&sid={sid}")).expect("101");
    socket.send("2probe");
    assert_eq!(socket.text(), "3probe");
    assert_eq!(poller.poll(), "6");
    socket.send("5");
    socket
}

/// Everything that a client does, at the instance that has not its session.
fn assert_served_elsewhere(servers: &[Server; 2]) {
    let mut poller = astray(servers);
    connect(&mut poller, "alice");
    let sid = poller.target.clone();
    assert_eq!(emit_to(&servers[0], "alice", "one"), (1, true));
    assert_eq!(poller.poll(), r#"42["one"]"#);
    // A GET that is held, and a POST meanwhile on another connection.
    let held = thread::spawn(move || {
        let text = poller.poll();
        (poller, text)
    });
    let mut other = Poller { connection: servers[1].connect(), target: sid.clone() };
    assert_eq!(other.post(r#"42["ping:check"]"#).text(), "ok");
    emit_to(&servers[0], "alice", "two");
    let (mut poller, text) = held.join().expect("it polls");
    assert!(text.contains(r#"42["two"]"#), "{text}");
    // The same connection serves requests of the instance's own.
    assert_eq!(poller.connection.get("/health").status, 200);
    let mut socket = upgrade(&mut poller, &servers[1]);
    assert_eq!(labelled(&servers[1], "sockring_tunnels", r#"carries="websocket""#), 1);
    emit_to(&servers[1], "alice", "three");
    assert_eq!(socket.text(), r#"42["three"]"#);
    let large = "x".repeat(300_000);
    socket.send(&format!(r#"420["nobody:hears",{{"text":"{large}"}}]"#));
    servers[0].post("emit", &serde_json::json!({"user": "alice", "event": "large", "data": {"text": large}}));
    assert!(socket.text().contains(&large));
    socket.round_trip();
    socket.connection.leave();
    until(
        "its session has ended with it",
        || Connection::open(servers[0].address()).get(&sid).status,
        |status| *status == 400,
    );
}

#[test]
fn a_session_is_served_at_every_instance_over_redis() {
    let redis = RedisServer::start(&[]);
    for adapter in ["classic", "sharded", "streams"] {
        let servers = pair(&redis, &[("SOCKRING_REDIS_ADAPTER", adapter)]);
        assert_served_elsewhere(&servers);
        assert_eq!(labelled(&servers[1], "sockring_tunnelled_requests_total", r#"over="tcp""#), 0);
    }
}

#[test]
fn a_session_is_served_at_every_instance_by_tcp() {
    let redis = RedisServer::start(&[]);
    let servers = pair(&redis, &LISTEN);
    assert_served_elsewhere(&servers);
    assert_eq!(labelled(&servers[1], "sockring_tunnelled_requests_total", r#"over="redis""#), 0);
    assert!(labelled(&servers[1], "sockring_tunnelled_requests_total", r#"over="tcp""#) > 5);
}
