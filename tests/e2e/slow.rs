//! Clients that do not read: what waits for them, what replaces what there, and when they are closed.

use serde_json::{Value, json};

use crate::client::{Client, Poller, WebSocket};
use crate::http::Connection;
use crate::server::{API, Server, token_for};
use crate::until;

/// More than the kernel takes off our hands for one connection.
const LARGE: usize = 5 << 20;
/// What lets an event of that size in.
pub const LARGE_BODIES: (&str, &str) = ("SOCKRING_API_BODY_BYTES_MAX", "20000000");

/// A client of this user, greeted, that has stopped reading in the middle of a large event: what is emitted to it from
/// now on waits behind that. The server has to be started with `LARGE_BODIES`.
pub fn stalled(server: &Server, user: &str) -> Client {
    let socket = WebSocket::open_on(Connection::narrow(server.address()));
    let client = Client::greeted(socket, &token_for(user));
    assert_eq!(server.emit(&json!({"user": user, "event": "large", "args": ["x".repeat(LARGE)]})), 1);
    // It is with the kernel then, which cannot get rid of it.
    until("the large event is being sent", || server.held().queued_bytes, |bytes| *bytes == 0);
    client
}

/// Emits an event with this key, if any; says how many sockets have it queued.
fn emit(server: &Server, user: &str, event: &str, key: Option<&str>) -> u64 {
    server.emit(&json!({"user": user, "event": event, "conflateKey": key}))
}

/// Reads on up to this event; the names of all before it but the large one.
fn events_before(client: &mut Client, last: &str) -> Vec<String> {
    assert_eq!(client.event().0, "large");
    std::iter::from_fn(|| Some(client.event().0).filter(|event| event != last)).collect()
}

#[test]
fn what_waits_comes_in_order_once_the_client_reads_on() {
    let server = Server::start(&[LARGE_BODIES]);
    let mut slow = stalled(&server, "slow");
    let mut other = server.client("other");
    let names: Vec<String> = (0..50).map(|number| format!("e{number}")).collect();
    for name in &names {
        assert_eq!(emit(&server, "slow", name, None), 1);
        assert_eq!(emit(&server, "other", name, None), 1);
        assert_eq!(&other.event().0, name);
    }
    let waiting = server.held().queued_bytes;
    assert!((500..5000).contains(&waiting), "{waiting}");
    assert_eq!(emit(&server, "slow", "last", None), 1);
    assert_eq!(events_before(&mut slow, "last"), names);
    slow.socket.round_trip();
    assert_eq!(server.held().queued_bytes, 0);
}

#[test]
fn volatile_events_are_dropped_while_others_wait() {
    let server = Server::start(&[LARGE_BODIES]);
    let mut slow = stalled(&server, "slow");
    let mut other = server.client("other");
    let volatile = |event: &str| server.emit(&json!({"broadcast": true, "event": event, "volatile": true}));
    assert_eq!(emit(&server, "slow", "waits", None), 1);
    for name in ["v1", "v2"] {
        // The one who reads gets it.
        assert_eq!(volatile(name), 1);
        assert_eq!(other.event().0, name);
    }
    assert_eq!(server.metrics().sum("sockring_volatile_dropped_total", ""), 2);
    assert_eq!(emit(&server, "slow", "last", None), 1);
    assert_eq!(events_before(&mut slow, "last"), ["waits"]);
    // It can take them again.
    slow.socket.round_trip();
    assert_eq!(volatile("v3"), 2);
    assert_eq!((slow.event().0.as_str(), other.event().0.as_str()), ("v3", "v3"));

    // By polling: between two polls there is nobody to take it.
    let mut poller = Poller::connect(server.address(), &token_for("poller"));
    assert_eq!(server.emit(&json!({"user": "poller", "event": "v4", "volatile": true})), 0);
    assert_eq!(emit(&server, "poller", "e", None), 1);
    assert_eq!(poller.poll(), r#"42["e"]"#);
    assert_eq!(server.metrics().sum("sockring_volatile_dropped_total", ""), 3);
}

#[test]
fn the_newest_event_of_a_key_goes_to_the_back_and_the_one_that_waits_is_dropped() {
    let server = Server::start(&[LARGE_BODIES, ("SOCKRING_NAMESPACES", "/,/admin")]);
    let mut slow = stalled(&server, "slow");
    slow.send(&format!(r#"40/admin,{{"token":"{}"}}"#, token_for("slow")));
    until("both sockets are there", || server.held().sockets, |sockets| *sockets == 2);
    for (event, key) in [
        ("a1", Some("k")),
        ("plain-1", None),
        ("b1", Some("other")),
        ("a2", Some("k")),
        ("plain-2", None),
        ("b2", Some("other")),
        ("a3", Some("k")),
        ("c1", Some("third")),
    ] {
        assert_eq!(emit(&server, "slow", event, key), 1, "{event}");
    }
    // In another namespace the same key is another one.
    let admin = json!({"user": "slow", "event": "admin", "namespace": "/admin", "conflateKey": "k"});
    assert_eq!(server.emit(&admin), 1);
    assert_eq!(emit(&server, "slow", "last", None), 1);
    assert_eq!(slow.event().0, "large");
    let connected = slow.socket.text();
    assert!(connected.starts_with("40/admin,"), "{connected}");
    assert!(slow.socket.text().starts_with(r#"42/admin,["connected","#));
    for expected in ["plain-1", "plain-2", "b2", "a3", "c1"] {
        assert_eq!(slow.event().0, expected);
    }
    assert_eq!(slow.socket.text(), r#"42/admin,["admin"]"#);
    assert_eq!(slow.event().0, "last");

    // What does not wait is not replaced.
    let mut reader = server.client("reader");
    for event in ["r1", "r2"] {
        assert_eq!(emit(&server, "reader", event, Some("k")), 1);
        assert_eq!(reader.event().0, event);
    }
}

#[test]
fn an_event_that_is_being_sent_is_not_replaced() {
    let server = Server::start(&[LARGE_BODIES]);
    let socket = WebSocket::open_on(Connection::narrow(server.address()));
    let mut slow = Client::greeted(socket, &token_for("slow"));
    let large = json!({"user": "slow", "event": "large", "args": ["x".repeat(LARGE)], "conflateKey": "k"});
    assert_eq!(server.emit(&large), 1);
    until("the large event is being sent", || server.held().queued_bytes, |bytes| *bytes == 0);
    for event in ["second", "third"] {
        assert_eq!(emit(&server, "slow", event, Some("k")), 1);
    }
    assert_eq!(emit(&server, "slow", "last", None), 1);
    assert_eq!(events_before(&mut slow, "last"), ["third"]);
}

#[test]
fn between_two_polls_the_newest_of_a_key_waits() {
    let server = Server::start(&[]);
    let mut poller = Poller::connect(server.address(), &token_for("poller"));
    for (event, key) in [("a1", Some("k")), ("b", None), ("a2", Some("k")), ("c", None), ("a3", Some("k"))] {
        assert_eq!(emit(&server, "poller", event, key), 1);
    }
    assert_eq!(poller.poll(), "42[\"b\"]\u{1e}42[\"c\"]\u{1e}42[\"a3\"]");
    // The next poll begins anew.
    assert_eq!(emit(&server, "poller", "a4", Some("k")), 1);
    assert_eq!(poller.poll(), r#"42["a4"]"#);
}

#[test]
fn events_of_one_key_do_not_fill_a_queue() {
    let server = Server::start(&[LARGE_BODIES, ("SOCKRING_QUEUE_BYTES_MAX", "4000")]);
    let mut slow = stalled(&server, "slow");
    assert_eq!(emit(&server, "slow", "first", None), 1);
    let progress = |number: usize, key: Option<&str>| {
        let padding = "x".repeat(900 + number);
        json!({"user": "slow", "event": "progress", "args": [number, padding], "conflateKey": key})
    };
    let batch: Vec<Value> = (0..100).map(|number| progress(number, Some("job"))).collect();
    let results = server.post("emit/batch", &Value::from(batch));
    assert!(results.as_array().expect("a list").iter().all(|result| result["delivered"] == 1), "{results}");
    let waiting = server.held().queued_bytes;
    assert!((1000..1400).contains(&waiting), "the first and the newest wait: {waiting}");
    assert_eq!((slow.event().0.as_str(), slow.event().0.as_str()), ("large", "first"));
    assert_eq!(slow.event(), ("progress".to_owned(), Value::from(99)));
    slow.socket.round_trip();
    assert_eq!(server.metrics().hits()["queue_bytes_max"], 0);

    // Without a key they do.
    let slow = stalled(&server, "too-slow");
    let delivered = (0..10).map(|_| emit(&server, "too-slow", &"e".repeat(256), None)).sum::<u64>();
    assert!(delivered == 10, "{delivered}");
    let rest: u64 = (0..10).map(|_| emit(&server, "too-slow", &"f".repeat(256), None)).sum();
    assert!((2..5).contains(&rest), "4,000 bytes hold 13 of these, and what is kept about them: {rest}");
    assert_eq!(server.metrics().closed("queue_full"), 1);
    drop(slow);
}

#[test]
fn a_key_that_makes_no_sense_is_named() {
    let server = Server::start(&[]);
    for (fields, status) in [
        (json!({"conflateKey": "k"}), 200),
        (json!({"conflateKey": null}), 200),
        (json!({"conflateKey": ""}), 422),
        (json!({"conflateKey": 7}), 422),
        (json!({"conflateKey": "k".repeat(257)}), 422),
        (json!({"conflateKey": "k", "volatile": true}), 422),
    ] {
        let mut body = json!({"user": "nobody", "event": "e"});
        body.as_object_mut().expect("an object").extend(fields.as_object().expect("an object").clone());
        let answer = server.connect().post(&format!("{API}/emit"), &body.to_string());
        assert_eq!(answer.status, status, "{fields}: {answer:?}");
        if status != 200 {
            assert_eq!(answer.json()["errors"][0]["path"], "conflateKey", "{fields}: {answer:?}");
        }
    }
}
