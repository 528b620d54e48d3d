//! A server that is full, of connections or of open files: whoever comes is answered, and who is there is served.

use std::time::{Duration, Instant};

use serde_json::json;
use sockring_protocol::engineio::OpenPacket;

use crate::client::{Client, POLLING, Poller, WEBSOCKET, upgrade_request};
use crate::http::{Connection, request};
use crate::server::{Metrics, Server, token_for};
use crate::until;

/// Everybody gets a word while nobody else can be let in: `members` of a room are there.
#[track_caller]
fn assert_full_and_alive(server: &Server, members: &mut [Client]) {
    for handshake in [request("GET", POLLING, &[], ""), upgrade_request(WEBSOCKET)] {
        let mut connection = server.connect();
        connection.send(handshake);
        let answer = connection.answer();
        assert_eq!((answer.status, answer.header("retry-after")), (503, Some("5")), "{answer:?}");
        connection.assert_ends();
    }
    assert_eq!(server.connect().get("/health").status, 200);
    let ready = server.connect().get("/ready");
    assert_eq!((ready.status, ready.json()["reason"].as_str()), (503, Some("there is no room for another client")));
    assert_eq!(server.connect().get("/metrics").status, 200);
    for round in 0..5 {
        let count = server.emit(&json!({"broadcast": true, "event": format!("e{round}")}));
        assert_eq!(count, members.len() as u64);
        for member in &mut *members {
            assert_eq!(member.event().0, format!("e{round}"));
        }
    }
}

#[test]
fn with_all_connections_taken_everybody_is_answered() {
    for shards in ["1", "3"] {
        let server = Server::start(&[
            ("SOCKRING_CONNECTIONS_MAX", "12"),
            ("SOCKRING_CLIENTS_MAX", "12"),
            ("SOCKRING_SHARDS", shards),
            ("SOCKRING_API_LISTEN", "127.0.0.1:0"),
        ]);
        let api = server.api_address();
        let mut members: Vec<Client> = (0..11).map(|number| server.client(&format!("user-{number}"))).collect();
        let mut poller = Poller::connect(server.address(), &token_for("poller"));
        // Its session goes on by connections for which there is no room.
        poller.connection.send(request("GET", &poller.target, &[], ""));
        let mut other = server.connect();
        other.send(request("POST", &poller.target, &[], "3"));
        let answer = other.answer();
        assert_eq!((answer.status, answer.header("connection")), (200, Some("close")), "{answer:?}");
        for (door, status) in [(server.address(), 503), (api, 503)] {
            assert_eq!(Connection::open(door).get("/health").status, 200);
            assert_eq!(Connection::open(door).get("/ready").status, status);
        }
        let mut emits = Connection::open(api);
        let answer = emits.post("/api/v1/websocket/emit", r#"{"broadcast":true,"event":"e"}"#);
        assert_eq!(answer.json()["data"]["delivered"], 12, "{answer:?}");
        members.iter_mut().for_each(|member| assert_eq!(member.event().0, "e"));
        assert_eq!(poller.connection.answer().text(), r#"42["e"]"#);
        members.pop().expect("one of many").leave();
        until("there is room", || Connection::open(api).get("/ready").status, |status| *status == 200);
        server.client("another");
    }
}

#[test]
fn with_all_open_files_taken_everybody_is_answered() {
    let server = Server::start_with_limit("-n 200", &[("SOCKRING_SHARDS", "1")]);
    // More than one of the ring's tables holds, whom no file is left to.
    let mut members: Vec<Client> = (0..250).map(|_| server.client("alice")).collect();
    // Those who poll have one each, and while a poll is held nobody takes it away.
    let mut strangers = Vec::new();
    loop {
        assert!(strangers.len() < 200, "200 open files do not do for so many");
        let mut connection = server.connect();
        let answer = connection.get(POLLING);
        if answer.status == 503 {
            break;
        }
        let text = answer.text();
        let open = OpenPacket::decode(&text).unwrap_or_else(|error| panic!("{error}: {text}"));
        connection.send(request("GET", &format!("{POLLING}&sid={}", open.sid), &[], ""));
        strangers.push(connection);
    }
    assert!(strangers.len() > 80, "all files but the server's own: {}", strangers.len());
    assert_full_and_alive(&server, &mut members);
    assert!(server.metrics().sum("sockring_descriptors_short_total", "") >= 3);
    strangers.truncate(strangers.len() - 10);
    until("there is room", || server.connect().get("/ready").status, |status| *status == 200);
    server.client("another");
}

#[test]
fn who_says_nothing_does_not_keep_others_out() {
    // As many as there may be, all of whom have asked for something and keep their connections.
    let server = Server::start(&[("SOCKRING_CONNECTIONS_MAX", "300"), ("SOCKRING_SHARDS", "2")]);
    let mut poller = Poller::connect(server.address(), &token_for("alice"));
    // A poll that is held is not idle.
    poller.connection.send(request("GET", &poller.target, &[], ""));
    let mut idle: Vec<Connection> = (0..400)
        .map(|_| {
            let mut connection = server.connect();
            connection.send(request("GET", "/socket.io/?EIO=3&transport=polling", &[], ""));
            connection
        })
        .collect();
    for connection in idle.iter_mut().take(290) {
        assert_eq!(connection.answer().status, 400);
    }
    let begun = Instant::now();
    let waiting = |metrics: &Metrics| metrics.sum("sockring_connections_idle", "");
    until("they have idled long enough", || waiting(&server.metrics()), |count| *count > 150);
    assert_eq!(server.connect().get("/ready").status, 200, "there is room for who comes");
    let mut members: Vec<Client> = (0..50).map(|number| server.client(&format!("user-{number}"))).collect();
    assert!(begun.elapsed() < Duration::from_secs(8), "nobody's idle timeout made room");
    assert_eq!(server.emit(&json!({"user": "user-49", "event": "e"})), 1);
    assert_eq!(members[49].event().0, "e");
    assert_eq!(server.emit(&json!({"user": "alice", "event": "e"})), 1);
    assert_eq!(poller.connection.answer().text(), r#"42["e"]"#);
    assert!(server.metrics().sum("sockring_idle_connections_closed_total", "") >= 40);
    // Silence and half heads go as well.
    let mute: Vec<Connection> = (0..400).map(|_| server.connect()).collect();
    assert_eq!(server.connect().get("/health").status, 200);
    until("they have been silent for long enough", || server.connect().get(POLLING).status, |status| *status == 200);
    drop(mute);
}
