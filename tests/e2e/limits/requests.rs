//! Limits of connections and requests, before anybody is a client: the engine's and the API's alike.

use serde_json::Value;

use super::LimitScene;
use crate::client::{POLLING, Poller, WEBSOCKET, WebSocket, upgrade_request};
use crate::http::{Connection, request};
use crate::server::{API, token_for};
use crate::until;

const JSON: &str = "Content-Type: application/json";

#[test]
pub fn connections_max() {
    let mut scene = LimitScene::new("connections_max", "2", &[("SOCKRING_SHARDS", "1")]);
    let mut other = scene.server.client("other");
    for _ in 0..3 {
        let answer = scene.server.connect().get(POLLING);
        assert_eq!((answer.status, answer.header("connection")), (503, Some("close")), "{answer:?}");
    }
    other.socket.round_trip();
    scene.assert_hits(3);
    other.leave();
    until("there is room", || scene.server.held().connections, |connections| *connections <= 2);
    scene.server.client("another");
}

#[test]
pub fn handshakes_per_minute_max() {
    let mut scene = LimitScene::new("handshakes_per_minute_max", "3", &[("SOCKRING_TRUSTED_PROXIES", "127.0.0.1")]);
    let ask = |address: &str| {
        let mut connection = scene.server.connect();
        connection.send(request("GET", POLLING, &[&format!("X-Forwarded-For: {address}")], ""));
        connection.answer()
    };
    for _ in 0..3 {
        assert_eq!(ask("203.0.113.1").status, 200);
    }
    let answer = ask("203.0.113.1");
    assert_eq!((answer.status, answer.header("retry-after")), (429, Some("60")), "{answer:?}");
    assert_eq!(answer.header("connection"), Some("close"));
    assert_eq!(ask("203.0.113.2").status, 200);
    scene.assert_hits(1);
}

#[test]
pub fn unknown_sids_per_minute_max() {
    let mut scene = LimitScene::new("unknown_sids_per_minute_max", "3", &[("SOCKRING_TRUSTED_PROXIES", "127.0.0.1")]);
    let mut known = Poller::connect(scene.server.address(), &token_for("alice"));
    let ask = |connection: &mut Connection, target: &str, address: &str| {
        connection.send(request("GET", target, &[&format!("X-Forwarded-For: {address}")], ""));
        connection.answer()
    };
    let unknown = format!("{POLLING}&sid=AAAAAAAAAAAAAAAAAAAA");
    for _ in 0..3 {
        let answer = ask(&mut scene.server.connect(), &unknown, "203.0.113.1");
        assert_eq!((answer.status, answer.json()["code"].as_u64()), (400, Some(1)), "{answer:?}");
    }
    let answer = ask(&mut scene.server.connect(), &unknown, "203.0.113.1");
    assert_eq!((answer.status, answer.header("retry-after")), (429, Some("60")), "{answer:?}");
    let target = unknown.replace("polling", "websocket");
    let upgrade = WebSocket::upgrade(scene.server.connect(), &target).map(|_| ()).expect_err("no such session");
    assert_eq!(upgrade.status, 400, "this machine does not count: {upgrade:?}");
    assert_eq!(ask(&mut scene.server.connect(), &unknown, "203.0.113.2").status, 400);
    // Of the same address, a session that exists, and one that begins.
    assert_eq!(scene.server.emit_to("alice", "e"), 1);
    assert_eq!(ask(&mut known.connection, &known.target, "203.0.113.1").text(), r#"42["e"]"#);
    assert_eq!(ask(&mut scene.server.connect(), POLLING, "203.0.113.1").status, 200);
    scene.assert_hits(1);
}

#[test]
pub fn head_bytes_max() {
    let mut scene = LimitScene::new("head_bytes_max", "1024", &[]);
    let long = format!("Cookie: {}", "x".repeat(1024));
    for target in ["/health", POLLING] {
        let mut connection = scene.server.connect();
        assert_eq!(connection.get(target).status, 200);
        connection.send_what_is_taken(request("GET", target, &[&long], "").as_bytes());
        let answer = connection.answer();
        assert_eq!((answer.status, answer.header("connection")), (431, Some("close")), "{target}: {answer:?}");
        connection.assert_ends();
    }
    // Of what comes behind a poll that is held no more is kept than a head may have.
    let mut poller = Poller::connect(scene.server.address(), &token_for("alice"));
    poller.connection.send(request("GET", &poller.target, &[], "") + &"x".repeat(2000));
    poller.connection.assert_ends();
    scene.assert_hits(3);
}

#[test]
pub fn head_timeout_ms() {
    let mut scene = LimitScene::new("head_timeout_ms", "200", &[]);
    let mut first = scene.server.connect();
    first.send("GET /hea");
    let mut on_the_engine = scene.server.connect();
    assert_eq!(on_the_engine.get(POLLING).status, 200);
    on_the_engine.send("GET /soc");
    let mut on_the_api = scene.server.connect();
    assert_eq!(on_the_api.get("/health").status, 200);
    on_the_api.send("GET /hea");
    for connection in [&mut first, &mut on_the_engine, &mut on_the_api] {
        let answer = connection.answer();
        assert_eq!((answer.status, answer.header("connection")), (408, Some("close")), "{answer:?}");
        connection.assert_ends();
    }
    scene.assert_hits(3);
    // Who says nothing at all is late as well, and is closed without an answer.
    scene.server.connect().assert_ends();
    scene.assert_hits(4);
}

#[test]
pub fn body_timeout_ms() {
    let mut scene = LimitScene::new("body_timeout_ms", "200", &[]);
    let mut poller = Poller::connect(scene.server.address(), &token_for("alice"));
    let post = request("POST", &poller.target, &[], "42[\"a\"]");
    poller.connection.send(&post[..post.len() - 1]);
    let mut api = scene.server.connect();
    let emit = request("POST", &format!("{API}/emit"), &[JSON], r#"{"user":"nobody","event":"e"}"#);
    api.send(&emit[..emit.len() - 1]);
    for connection in [&mut poller.connection, &mut api] {
        let answer = connection.answer();
        assert_eq!((answer.status, answer.header("connection")), (408, Some("close")), "{answer:?}");
        connection.assert_ends();
    }
    poller.assert_gone(scene.server.address());
    scene.assert_hits(2);
}

#[test]
pub fn idle_timeout_ms() {
    let mut scene = LimitScene::new("idle_timeout_ms", "300", &[]);
    let mut engine = scene.server.connect();
    assert_eq!(engine.get("/socket.io/?EIO=3&transport=polling").status, 400);
    let mut api = scene.server.connect();
    assert_eq!(api.get("/health").status, 200);
    // A poll that is held is not idle.
    let mut poller = Poller::connect(scene.server.address(), &token_for("alice"));
    poller.connection.send(request("GET", &poller.target, &[], ""));
    engine.assert_ends();
    api.assert_ends();
    scene.assert_hits(2);
    assert_eq!(scene.server.emit_to("alice", "e"), 1);
    assert_eq!(poller.connection.answer().text(), r#"42["e"]"#);
}

#[test]
pub fn requests_per_connection_max() {
    let mut scene = LimitScene::new("requests_per_connection_max", "3", &[]);
    let engine = "/socket.io/?EIO=3&transport=polling";
    for targets in [[engine; 3], ["/health"; 3], [engine, "/health", engine], ["/health", engine, "/health"]] {
        let mut connection = scene.server.connect();
        for (target, header) in targets.into_iter().zip([None, None, Some("close")]) {
            let answer = connection.get(target);
            let ends = answer.header("connection").filter(|value| *value == "close");
            assert_eq!(ends, header, "{targets:?}: {answer:?}");
        }
        connection.assert_ends();
    }
    scene.assert_hits(4);
    // A connection that is sent from shard to shard keeps its count, and is counted once.
    let mut scene = LimitScene::new("requests_per_connection_max", "3", &[("SOCKRING_SHARDS", "4")]);
    let poller = Poller::open(scene.server.address());
    for _ in 0..8 {
        let mut connection = scene.server.connect();
        for header in [None, None, Some("close")] {
            connection.send(request("POST", &poller.target, &[], "6"));
            let answer = connection.answer();
            let ends = answer.header("connection").filter(|value| *value == "close");
            assert_eq!((answer.status, ends), (200, header), "{answer:?}");
        }
        connection.assert_ends();
    }
    scene.assert_hits(8);
}

#[test]
pub fn connect_refusals_per_minute_max() {
    let others = [("SOCKRING_TRUSTED_PROXIES", "127.0.0.1"), ("SOCKRING_SHARDS", "3")];
    let mut scene = LimitScene::new("connect_refusals_per_minute_max", "3", &others);
    // What a CONNECT with this token is told, on a session of this address.
    let ask = |address: &str, token: &str| {
        let upgrade = upgrade_request(WEBSOCKET);
        let mut connection = scene.server.connect();
        connection.send(upgrade.replacen("\r\n", &format!("\r\nX-Forwarded-For: {address}\r\n"), 1));
        assert_eq!(connection.answer().status, 101);
        let mut socket = WebSocket { connection };
        assert!(socket.text().starts_with("0{"));
        socket.send(&format!(r#"40{{"token":"{token}"}}"#));
        let answer = socket.text();
        if answer.starts_with("40{") {
            return "connected".to_owned();
        }
        let refusal: Value = serde_json::from_str(answer.trim_start_matches("44")).expect("JSON");
        assert_eq!(refusal["message"], "Authentication failed");
        refusal["data"]["code"].as_str().expect("a code").to_owned()
    };
    for _ in 0..3 {
        assert_eq!(ask("203.0.113.1", &token_for("alice")), "connected");
        assert_eq!(ask("203.0.113.1", "wrong"), "token_invalid");
    }
    // That was its minute's worth, on whichever shard. Now nothing of it is verified, and nobody else minds.
    assert_eq!(ask("203.0.113.1", "wrong"), "too_many");
    assert_eq!(ask("203.0.113.1", &token_for("alice")), "too_many");
    assert_eq!(ask("203.0.113.2", &token_for("alice")), "connected");
    assert_eq!(ask("127.0.0.1", "wrong"), "token_invalid");
    scene.assert_hits(2);
}
