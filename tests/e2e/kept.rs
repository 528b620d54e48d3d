//! Kept events: they come to who was not there, once, and wait no longer than they may.

use serde_json::{Value, json};

use crate::client::{Client, Poller};
use crate::http::request;
use crate::server::{API, Metrics, Server, data, token_for};
use crate::until;

fn server(environment: &[(&str, &str)]) -> Server {
    Server::start(&[&[("SOCKRING_SHARDS", "2")], environment].concat())
}

/// Keeps an event that carries this number for a user.
#[track_caller]
fn keep(server: &Server, user: &str, number: u64) -> Value {
    let answer = server.post("emit", &json!({"user": user, "event": "kept", "data": [number], "ttl": 60}));
    assert_eq!(answer["kept"], "memory", "{answer}");
    answer
}

/// The next event is a kept one, and carries this number.
#[track_caller]
fn assert_kept(client: &mut Client, number: u64) {
    assert_eq!(client.event(), ("kept".to_owned(), json!([number])));
}

/// Answers the ping that has to come next.
#[track_caller]
fn answer_ping(client: &mut Client) {
    assert_eq!(client.socket.text(), "2");
    client.socket.send("3");
}

#[track_caller]
fn call(server: &Server, method: &str, route: &str) -> (u16, Value) {
    let mut connection = server.connect();
    connection.send(request(method, &format!("{API}/{route}"), &["Content-Type: application/json"], ""));
    let answer = connection.answer();
    (answer.status, answer.json())
}

#[track_caller]
fn list(server: &Server, user: &str) -> Vec<Value> {
    let (status, answer) = call(server, "GET", &format!("user/{user}/kept"));
    assert_eq!(status, 200, "{answer}");
    data(&answer)["events"].as_array().expect("a list").clone()
}

fn ended(metrics: &Metrics, end: &str) -> u64 {
    metrics.sum("sockring_kept_total", &format!("end=\"{end}\""))
}

#[track_caller]
fn until_kept(server: &Server, user: &str, count: usize) {
    until(&format!("{count} are kept for {user}"), || list(server, user).len(), |left| *left == count);
}

#[test]
fn who_was_away_gets_what_was_kept_in_order_behind_the_greeting_and_once() {
    let server = server(&[]);
    let first = keep(&server, "alice", 1);
    assert_eq!((&first["delivered"], &first["id"]), (&json!(0), &list(&server, "alice")[0]["id"]));
    for number in 2..=20 {
        keep(&server, "alice", number);
    }
    assert_eq!(list(&server, "alice").len(), 20);
    let mut alice = server.client("alice");
    for number in 1..=20 {
        assert_kept(&mut alice, number);
    }
    // Until it says that it has them, they may have been lost.
    assert!(list(&server, "alice").iter().all(|event| event["sent"] == true));
    answer_ping(&mut alice);
    until_kept(&server, "alice", 0);
    let metrics = server.metrics();
    assert_eq!((ended(&metrics, "received"), metrics.sum("sockring_kept_bytes", "")), (20, 0));
    assert_eq!(metrics.sum("sockring_receipt_seconds_count", ""), 20);
    server.client("alice").socket.round_trip();
    alice.socket.round_trip();
}

#[test]
fn who_is_there_gets_it_at_once_and_again_if_nothing_was_heard_of_it() {
    let server = server(&[]);
    let mut alice = server.client("alice");
    keep(&server, "alice", 1);
    assert_kept(&mut alice, 1);
    keep(&server, "alice", 2);
    drop(alice);
    until("she is gone", || server.held().sockets, |sockets| *sockets == 0);
    assert!(list(&server, "alice").iter().all(|event| event["sent"] == false), "nobody has them");
    let mut alice = server.client("alice");
    assert_kept(&mut alice, 1);
    assert_kept(&mut alice, 2);
    answer_ping(&mut alice);
    until_kept(&server, "alice", 0);
    // A ping that is on its way says nothing of what follows it.
    keep(&server, "alice", 3);
    assert_kept(&mut alice, 3);
    assert_eq!(alice.socket.text(), "2");
    keep(&server, "alice", 4);
    assert_kept(&mut alice, 4);
    alice.socket.send("3");
    until_kept(&server, "alice", 1);
    answer_ping(&mut alice);
    until_kept(&server, "alice", 0);
}

#[test]
fn a_client_that_polls_gets_and_confirms_it_too() {
    let server = server(&[]);
    keep(&server, "poller", 1);
    let mut poller = Poller::open(server.address());
    assert_eq!(poller.post(&format!("40{{\"token\":\"{}\"}}", token_for("poller"))).status, 200);
    let mut heard = String::new();
    while !heard.contains("[\"kept\",[1]]") || !heard.ends_with('2') {
        heard.push_str(&poller.poll());
    }
    assert_eq!(list(&server, "poller").len(), 1);
    assert_eq!(poller.post("3").status, 200);
    until_kept(&server, "poller", 0);
}

#[test]
fn of_a_key_the_newest_is_kept_and_each_user_and_namespace_has_its_own() {
    let server = server(&[("SOCKRING_NAMESPACES", "/,/admin")]);
    for number in 1..=3 {
        let body =
            json!({"users": ["alice", "bob"], "event": "kept", "data": [number], "ttl": 60, "conflateKey": "progress"});
        assert_eq!(server.post("emit", &body)["kept"], "memory");
    }
    keep(&server, "bob", 4);
    let elsewhere = json!({"user": "alice", "event": "kept", "data": [5], "ttl": 60, "namespace": "/admin"});
    assert_eq!(server.post("emit", &elsewhere)["kept"], "memory");
    assert_eq!(ended(&server.metrics(), "replaced"), 4);
    for (user, numbers) in [("alice", &[3][..]), ("bob", &[3, 4])] {
        let mut client = server.client(user);
        numbers.iter().for_each(|number| assert_kept(&mut client, *number));
        answer_ping(&mut client);
        client.socket.round_trip();
    }
    assert_eq!(list(&server, "alice")[0]["namespace"], "/admin");
    // One event for several users has one id, and each has it until he has received it.
    assert!(list(&server, "bob").is_empty());
}

#[test]
fn nobody_gets_what_is_kept_behind_a_newer_one_of_its_key() {
    let server = server(&[]);
    let progress = |target: &str, id: Value, number: u64, ttl: Option<u64>| {
        let mut body = json!({"event": "kept", "data": [number], "conflateKey": "progress", "ttl": ttl});
        body[target] = id;
        server.post("emit", &body)
    };
    let mut alice = server.client("alice");
    progress("user", json!("alice"), 1, Some(60));
    assert_kept(&mut alice, 1);
    assert_eq!(alice.socket.text(), "2");
    progress("user", json!("alice"), 2, None);
    assert_kept(&mut alice, 2);
    // Her page is loaded anew before it has said that it has anything: what it has shown last stays the last.
    drop(alice);
    assert_eq!((list(&server, "alice").len(), ended(&server.metrics(), "replaced")), (0, 1));
    let mut alice = server.client("alice");
    alice.socket.round_trip();
    // The same for each of several; other keys stay, and what others are sent says nothing.
    for user in ["bob", "carol"] {
        progress("user", json!(user), 3, Some(60));
        keep(&server, user, 4);
    }
    progress("user", json!("dave"), 5, None);
    assert_eq!((list(&server, "bob").len(), list(&server, "carol").len()), (2, 2));
    progress("users", json!(["bob", "carol"]), 6, None);
    for user in ["bob", "carol"] {
        let mut client = server.client(user);
        assert_kept(&mut client, 4);
        answer_ping(&mut client);
        client.socket.round_trip();
    }
}

#[test]
fn what_is_kept_is_listed_and_taken_back() {
    let server = server(&[]);
    let ids: Vec<Value> = (0..5).map(|number| keep(&server, "alice", number)["id"].clone()).collect();
    keep(&server, "bob", 7);
    let page = |query: &str| {
        let (_, answer) = call(&server, "GET", &format!("user/alice/kept?{query}"));
        let events = data(&answer)["events"].as_array().expect("a list").clone();
        (events.iter().map(|event| event["id"].clone()).collect::<Vec<_>>(), data(&answer)["more"] == true)
    };
    assert_eq!(page("limit=2"), (ids[..2].to_vec(), true));
    assert_eq!(page(&format!("after={}", ids[2].as_str().expect("an id"))), (ids[3..].to_vec(), false));
    let event = list(&server, "alice")[0].clone();
    assert_eq!((&event["event"], &event["args"], &event["sent"]), (&json!("kept"), &json!([[0]]), &json!(false)));
    let times = [&event["emittedAt"], &event["expiresAt"]].map(|at| at.as_str().expect("a time").to_owned());
    assert!(times[0] < times[1], "{times:?}");
    let (_, status) = call(&server, "GET", "user/alice/status");
    assert_eq!((&data(&status)["kept"], &data(&status)["connected"]), (&json!(5), &json!(false)));
    let (_, stats) = call(&server, "GET", "stats");
    assert_eq!((&data(&stats)["kept"]["events"], &data(&stats)["kept"]["users"]), (&json!(6), &json!(2)));
    let one = format!("user/alice/kept/{}", ids[1].as_str().expect("an id"));
    for (route, taken) in [(one.as_str(), 1), (one.as_str(), 0), ("user/alice/kept", 4), ("user/alice/kept", 0)] {
        let (status, answer) = call(&server, "DELETE", route);
        assert_eq!((status, &data(&answer)["events"]), (200, &json!(taken)), "{route}");
    }
    for (method, route, status) in [
        ("GET", "user/alice/kept?limit=0", 422),
        ("GET", "user/alice/kept?limit=1001", 422),
        ("GET", "user/alice/kept?after=nonsense", 422),
        ("DELETE", "user/alice/kept/nonsense", 422),
        ("POST", "user/alice/kept", 405),
        ("GET", "user/alice/kept/AAAAAAAAAAA", 405),
        ("GET", "user/%ff/kept", 422),
    ] {
        assert_eq!(call(&server, method, route).0, status, "{method} {route}");
    }
    let mut alice = server.client("alice");
    alice.socket.round_trip();
    assert_eq!((ended(&server.metrics(), "deleted"), list(&server, "bob").len()), (5, 1));
}

#[test]
fn nothing_comes_after_its_time() {
    let server = server(&[("SOCKRING_KEPT_DEFAULT_S", "1")]);
    let answer = server.post("emit", &json!({"user": "alice", "event": "kept", "data": [1]}));
    assert_eq!((&answer["kept"], &answer["delivered"]), (&json!("memory"), &json!(0)));
    keep(&server, "alice", 2);
    assert_eq!(server.post("emit", &json!({"user": "alice", "event": "e", "volatile": true}))["kept"], Value::Null);
    until("the first is over", || list(&server, "alice").len(), |left| *left == 1);
    until("it is dropped", || ended(&server.metrics(), "expired"), |expired| *expired == 1);
    assert_kept(&mut server.client("alice"), 2);
}

#[test]
fn more_than_may_wait_for_a_client_comes_as_it_takes_it() {
    let server = server(&[("SOCKRING_QUEUE_BYTES_MAX", "20000")]);
    let text = "x".repeat(3_000);
    for number in 0..30 {
        let body = json!({"user": "alice", "event": "large", "data": [number, text], "ttl": 60});
        assert_eq!(server.post("emit", &body)["kept"], "memory");
    }
    let mut alice = server.client("alice");
    for number in 0..=30 {
        if number == 10 {
            // It comes behind what was kept before.
            let body = json!({"user": "alice", "event": "large", "data": [30, text], "ttl": 60});
            assert_eq!(server.post("emit", &body)["kept"], "memory");
        }
        loop {
            let packet = alice.socket.text();
            if packet == "2" {
                alice.socket.send("3");
                continue;
            }
            assert!(packet.starts_with(&format!("42[\"large\",[{number},")), "{number}: {}", &packet[..30]);
            break;
        }
    }
    answer_ping(&mut alice);
    until_kept(&server, "alice", 0);
    alice.socket.round_trip();
}
