//! Limits of the API and of what emits may leave waiting.

use serde_json::{Value, json};
use sockring::shard::home_of;

use super::{LimitScene, reached};
use crate::client::Poller;
use crate::http::{Connection, request};
use crate::server::{API, data, token_for};
use crate::slow::{LARGE_BODIES, stalled};
use crate::until;

const JSON: &str = "Content-Type: application/json";

#[test]
pub fn api_connections_max() {
    let mut scene = LimitScene::new("api_connections_max", "2", &[]);
    let whole = request("POST", &format!("{API}/emit"), &[JSON], r#"{"user":"nobody","event":"e"}"#);
    let (begun, rest) = whole.split_at(whole.len() - 1);
    let mut busy = [scene.server.connect(), scene.server.connect()];
    for connection in &mut busy {
        // A connection that asks to be told goes on has arrived where it is served.
        connection.send(begun.replacen("\r\n", "\r\nExpect: 100-continue\r\n", 1));
        assert_eq!(connection.answer().status, 100);
    }
    for _ in 0..2 {
        let answer = scene.server.connect().post(&format!("{API}/emit"), r#"{"user":"nobody","event":"e"}"#);
        assert_eq!((answer.status, answer.header("retry-after")), (503, Some("1")), "{answer:?}");
    }
    // Whoever looks after the server finds it alive.
    for target in ["/health", "/ready", "/metrics", "/"] {
        assert_eq!(scene.server.connect().get(target).status, 200, "{target}");
    }
    // Clients are served by others.
    scene.server.connect().get("/socket.io/?EIO=4&transport=polling");
    scene.bystander.socket.round_trip();
    for mut connection in busy {
        connection.send(rest);
        assert_eq!(connection.answer().status, 200);
        connection.leave();
    }
    scene.assert_hits(2);
}

#[test]
pub fn api_body_bytes_max() {
    let mut scene = LimitScene::new("api_body_bytes_max", "1024", &[]);
    let body = |bytes: usize| {
        let padding = "x".repeat(bytes - r#"{"user":"bystander","event":"e","data":""}"#.len());
        format!(r#"{{"user":"bystander","event":"e","data":"{padding}"}}"#)
    };
    let target = format!("{API}/emit");
    assert_eq!(scene.server.connect().post(&target, &body(1024)).status, 200);
    assert_eq!(scene.bystander.event().0, "e");
    let chunked = request("GET", &target, &[JSON, "Transfer-Encoding: chunked"], "").replacen("GET", "POST", 1);
    for text in [request("POST", &target, &[JSON], &body(1025)), format!("{chunked}401\r\n{}\r\n0\r\n\r\n", body(1025))]
    {
        let mut connection = scene.server.connect();
        connection.send_what_is_taken(text.as_bytes());
        let answer = connection.answer();
        assert_eq!((answer.status, answer.header("connection")), (413, Some("close")), "{answer:?}");
        connection.assert_ends();
    }
    scene.assert_hits(2);
}

#[test]
pub fn ack_responses_bytes_max() {
    let mut scene = LimitScene::new("ack_responses_bytes_max", "10", &[("SOCKRING_SHARDS", "1")]);
    let mut clients = [(); 3].map(|()| scene.server.client("alice"));
    let body = json!({"user": "alice", "event": "e", "ack": {"timeoutMs": 30_000, "responses": true}}).to_string();
    let mut backend = scene.server.connect();
    backend.send(request("POST", &format!("{API}/emit"), &[JSON], &body));
    for (client, says) in clients.iter_mut().zip(["\"1234\"", "\"56789\"", "1234"]) {
        let question = client.socket.text();
        let id = question.strip_prefix("42").and_then(|text| text.split_once('[')).expect("a question").0;
        client.send(&format!("43{id}[{says}]"));
        // In this order.
        client.socket.round_trip();
    }
    let answer = backend.answer().json();
    assert_eq!((&data(&answer)["acked"], &data(&answer)["responses"]), (&json!(3), &json!(["1234", 1234])), "{answer}");
    scene.assert_hits(1);
}

#[test]
pub fn queue_bytes_max() {
    let mut scene = LimitScene::new("queue_bytes_max", "20000", &[LARGE_BODIES]);
    let mut slow = stalled(&scene.server, "slow");
    let poller = Poller::connect(scene.server.address(), &token_for("poller"));
    for user in ["slow", "poller"] {
        let event = json!({"user": user, "event": "e", "data": "x".repeat(1000)});
        let taken = (0..100).take_while(|_| scene.server.emit(&event) == 1).count();
        assert!((18..=20).contains(&taken), "20,000 bytes hold fewer than 20 of these: {taken}");
        assert_eq!(scene.server.emit(&event), 0, "{user} is gone");
    }
    slow.socket.connection.rest();
    poller.assert_gone(scene.server.address());
    scene.assert_hits(2);
    assert_eq!(scene.server.metrics().closed("queue_full"), 2);
    assert_eq!(scene.server.held().queued_bytes, 0);
}

#[test]
pub fn mail_bytes_max() {
    let mut scene = LimitScene::new("mail_bytes_max", "1024", &[("SOCKRING_SHARDS", "2"), LARGE_BODIES]);
    // The room's home has to send all of it on to the shard of its member.
    let room_home = home_of("news", 2);
    let member = (0..).map(|number| format!("user-{number}"));
    let member = member.into_iter().find(|user| home_of(&format!("user:{user}"), 2) != room_home).expect("one of two");
    let mut client = scene.server.client(&member);
    assert_eq!(scene.server.post("rooms/join", &json!({"user": member, "room": "news"}))["sockets"], 1);
    let batch: Vec<Value> =
        (0..500).map(|number| json!({"room": "news", "event": "e", "args": [number, "x".repeat(600)]})).collect();
    let mut delivered = Vec::new();
    for result in scene.server.post("emit/batch", &Value::from(batch)).as_array().expect("a list") {
        delivered.push(result["delivered"].as_u64().expect("a count"));
    }
    assert!(delivered.contains(&0), "more than can wait was delivered");
    // Exactly what was said to be delivered comes, in order.
    for number in (0..).zip(&delivered).filter(|(_, delivered)| **delivered == 1).map(|(number, _)| number) {
        assert_eq!(client.event(), ("e".to_owned(), Value::from(number)));
    }
    client.socket.round_trip();
    let refused = delivered.iter().filter(|delivered| **delivered == 0).count();
    scene.assert_hits(refused as u64);
}

/// Whether events of so many bytes are kept, and why not.
fn keep(scene: &LimitScene, user: &str, bytes: usize) -> Value {
    let body = json!({"user": user, "event": "e", "data": "x".repeat(bytes), "ttl": 60});
    let answer = scene.server.post("emit", &body);
    if answer["kept"] == "memory" { json!(true) } else { answer["keptReason"].clone() }
}

#[test]
pub fn kept_events_per_user_max() {
    let mut scene = LimitScene::new("kept_events_per_user_max", "2", &[]);
    let kept: Vec<Value> = ["a", "a", "a", "b", "a"].iter().map(|user| keep(&scene, user, 1)).collect();
    assert_eq!(kept, [json!(true), json!(true), json!("user_full"), json!(true), json!("user_full")]);
    scene.assert_hits(2);
}

#[test]
pub fn kept_bytes_max() {
    let mut scene = LimitScene::new("kept_bytes_max", "65536", &[("SOCKRING_SHARDS", "1")]);
    let kept: Vec<Value> = [("a", 30_000), ("b", 30_000), ("c", 30_000), ("a", 1)]
        .iter()
        .map(|(user, bytes)| keep(&scene, user, *bytes))
        .collect();
    assert_eq!(kept, [json!(true), json!(true), json!("memory_full"), json!(true)]);
    scene.assert_hits(1);
}

#[test]
pub fn idempotency_keys_max() {
    let mut scene = LimitScene::new("idempotency_keys_max", "2", &[("SOCKRING_SHARDS", "1")]);
    let emit = |key: &str| {
        let answer = scene.server.post("emit", &json!({"user": "nobody", "event": "e", "idempotencyKey": key}));
        answer["duplicate"].as_bool().expect("true or false")
    };
    let known: Vec<bool> = ["1", "2", "2", "3", "2", "1"].iter().map(|key| emit(key)).collect();
    assert_eq!(known, [false, false, true, false, true, false], "the oldest are forgotten");
    assert_eq!(scene.server.metrics().sum("sockring_idempotency_keys", ""), 2);
    scene.assert_hits(2);
}

#[test]
fn emits_that_find_too_many_others_waiting_are_refused_and_counted() {
    let mut scene = LimitScene::new("mail_bytes_max", "1024", &[("SOCKRING_SHARDS", "1")]);
    let emit = json!({"user": "nobody", "event": "e", "data": "x".repeat(900)}).to_string();
    let emit = request("POST", &format!("{API}/emit"), &[JSON], &emit);
    let mut connections: Vec<Connection> = (0..32).map(|_| scene.server.connect()).collect();
    let mut refused = 0;
    until(
        "of emits at the same time some are refused",
        || {
            connections.iter_mut().for_each(|connection| connection.send(&emit));
            for connection in &mut connections {
                let answer = connection.answer();
                assert!(answer.status == 200 || answer.status == 503, "{answer:?}");
                refused += u64::from(answer.status == 503);
            }
            refused
        },
        |refused| *refused > 0,
    );
    assert_eq!(reached(&scene.server.metrics()).get("mail_bytes_max"), Some(&refused));
    scene.assert_hits(refused);
}
