//! Emits under a key: whoever repeats one emits it once.

use serde_json::{Value, json};

use crate::client::Client;
use crate::http::{Connection, request};
use crate::server::{API, Server};
use crate::until;

const JSON: &str = "Content-Type: application/json";

fn server(environment: &[(&str, &str)]) -> Server {
    Server::start(&[&[("SOCKRING_SHARDS", "2")], environment].concat())
}

/// Posts an emit, whatever comes of it: the status, and the whole answer.
fn post(server: &Server, body: &Value) -> (u16, Value) {
    let answer = server.connect().post(&format!("{API}/emit"), &body.to_string());
    (answer.status, answer.json())
}

/// The same of one that is accepted: its id, whether it had come before, and to how many it was delivered.
#[track_caller]
fn emit(server: &Server, body: &Value) -> (String, bool, u64) {
    let (status, answer) = post(server, body);
    assert_eq!(status, 200, "{answer}");
    let data = &answer["data"];
    let id = data["id"].as_str().expect("an id").to_owned();
    assert_eq!(id.len(), 11);
    (id, data["duplicate"].as_bool().expect("true or false"), data["delivered"].as_u64().expect("a count"))
}

/// Nothing is on its way to it.
#[track_caller]
fn assert_silent(client: &mut Client) {
    client.socket.round_trip();
}

#[test]
fn an_emit_that_is_repeated_is_one_event_for_whomever_it_is() {
    let server = server(&[]);
    let names = ["alice", "bob", "carol", "dave"];
    let mut clients = names.map(|name| server.client(name));
    for name in names {
        server.post("rooms/join", &json!({"user": name, "room": "news"}));
    }
    for (target, receivers) in [
        (json!({"user": "alice"}), 1),
        (json!({"users": names}), 4),
        (json!({"room": "news"}), 4),
        (json!({"rooms": ["news", "user:bob"]}), 4),
        (json!({"broadcast": true, "except": ["user:alice"]}), 3),
    ] {
        let mut body = json!({"event": "e", "data": {"step": target}, "idempotencyKey": target.to_string()});
        body.as_object_mut().expect("an object").extend(target.as_object().expect("an object").clone());
        let (id, duplicate, delivered) = emit(&server, &body);
        assert_eq!((duplicate, delivered), (false, receivers), "{body}");
        for _ in 0..2 {
            assert_eq!(emit(&server, &body), (id.clone(), true, 0), "{body}");
        }
        let is_for = |name: &str| receivers == 4 || (receivers == 1) == (name == "alice");
        for (client, _) in clients.iter_mut().zip(names).filter(|(_, name)| is_for(name)) {
            let (event, data) = client.event();
            assert_eq!((event.as_str(), &data["step"]), ("e", &target));
        }
        clients.iter_mut().for_each(assert_silent);
    }
    assert_eq!(
        server.metrics().sum("sockring_duplicates_total", ""),
        2 * (1 + 4 + 1 + 1 + 1),
        "of each user by itself"
    );
    assert_eq!(server.metrics().sum("sockring_idempotency_keys", ""), 1 + 4 + 1 + 1 + 1);
    // Who repeats an emit for more users reaches those to whom it is new.
    let (one, both) = (json!({"user": "alice"}), json!({"users": ["alice", "bob"]}));
    let body = |target: &Value| json!({"user": target["user"], "users": target["users"], "event": "e", "idempotencyKey": "more"});
    let (id, ..) = emit(&server, &body(&one));
    assert_eq!(emit(&server, &body(&both)), (id.clone(), false, 1));
    assert_eq!(emit(&server, &body(&both)), (id, true, 0));
    assert_eq!([clients[0].event().0, clients[1].event().0], ["e", "e"]);
    clients.iter_mut().for_each(assert_silent);
}

#[test]
fn another_event_under_a_key_is_refused_and_other_targets_and_namespaces_have_keys_of_their_own() {
    let server = server(&[("SOCKRING_NAMESPACES", "/,/admin")]);
    let first = json!({"user": "alice", "event": "e", "data": [1], "idempotencyKey": "k"});
    let (id, ..) = emit(&server, &first);
    for (field, value) in
        [("event", json!("f")), ("data", json!([2])), ("data", json!("[1]")), ("except", json!(["news"]))]
    {
        let mut other = first.clone();
        other[field] = value;
        let (status, answer) = post(&server, &other);
        assert_eq!((status, &answer["errors"][0]["path"]), (422, &json!("idempotencyKey")), "{answer}");
        assert_eq!(answer["message"], "idempotencyKey: was used for another event");
    }
    for (field, value) in [("user", json!("bob")), ("namespace", json!("/admin")), ("idempotencyKey", json!("l"))] {
        let mut other = first.clone();
        other[field] = value;
        let (another, duplicate, _) = emit(&server, &other);
        assert!(another != id && !duplicate, "{other}");
    }
    assert_eq!(emit(&server, &first), (id, true, 0));
    // Of those who emit to several rooms the list counts too.
    let rooms = |rooms: Value| json!({"rooms": rooms, "event": "e", "idempotencyKey": "k"});
    emit(&server, &rooms(json!(["a", "b"])));
    assert!(emit(&server, &rooms(json!(["b", "a"]))).1, "the same rooms");
    assert_eq!(post(&server, &rooms(json!(["a", "c"]))).0, 422);
}

#[test]
fn what_is_refused_uses_no_key_and_a_batch_has_them_too() {
    let mut server = server(&[]);
    let mut alice = server.client("alice");
    let entry = |event: &str, key: &str| json!({"user": "alice", "event": event, "idempotencyKey": key});
    for (wrong, status) in [
        (json!({"user": "alice", "event": "connect", "idempotencyKey": "1"}), 422),
        (json!({"user": "alice", "event": "e", "namespace": "/none", "idempotencyKey": "1"}), 422),
        (entry("e", ""), 422),
        (entry("e", &"k".repeat(256)), 422),
        (json!({"user": "alice", "event": "e", "idempotencyKey": 1}), 422),
    ] {
        assert_eq!(post(&server, &wrong).0, status, "{wrong}");
    }
    emit(&server, &entry("e", &"k".repeat(255)));
    let batch = json!([
        entry("one", "1"),
        {"user": "alice", "event": "plain"},
        entry("one", "1"),
        entry("two", "1"),
        {"user": "alice", "event": "three", "colour": 1, "idempotencyKey": "3"},
        entry("three", "3"),
    ]);
    let results = server.post("emit/batch", &batch);
    let of = |index: usize, field: &str| results[index][field].clone();
    assert_eq!((of(0, "duplicate"), of(0, "delivered")), (json!(false), json!(1)));
    assert_eq!(results[1], json!({"delivered": 1, "published": false}));
    assert_eq!((of(2, "duplicate"), of(2, "id")), (json!(true), of(0, "id")));
    assert_eq!((of(3, "statusCode"), &results[3]["errors"][0]["path"]), (json!(422), &json!("[3].idempotencyKey")));
    assert_eq!(of(4, "statusCode"), 422);
    assert_eq!((of(5, "duplicate"), of(5, "delivered")), (json!(false), json!(1)));
    for event in ["e", "one", "plain", "three"] {
        assert_eq!(alice.event().0, event);
    }
    assert_silent(&mut alice);
    server.assert_healthy();
}

#[test]
fn one_that_found_no_room_may_be_repeated() {
    let server = Server::start(&[("SOCKRING_SHARDS", "1"), ("SOCKRING_MAIL_BYTES_MAX", "1024")]);
    let mut alice = server.client("alice");
    let mut connections: Vec<Connection> = (0..32).map(|_| server.connect()).collect();
    let (mut round, mut refused) = (0, 0);
    until(
        "of emits at the same time some are refused",
        || {
            round += 1;
            let body = |number| {
                let body = json!({"user": "alice", "event": "e", "data": [number, "x".repeat(900)],
                    "idempotencyKey": format!("{round}-{number}")});
                request("POST", &format!("{API}/emit"), &[JSON], &body.to_string())
            };
            connections.iter_mut().enumerate().for_each(|(number, connection)| connection.send(body(number)));
            let statuses: Vec<u16> = connections.iter_mut().map(|connection| connection.answer().status).collect();
            // All of them again: those that were refused are new, and no others.
            for (number, status) in statuses.iter().enumerate() {
                connections[0].send(body(number));
                let answer = connections[0].answer().json();
                assert_eq!(answer["data"]["duplicate"], (*status == 200), "{status}, then {answer}");
            }
            let mut numbers: Vec<u64> = (0..32).map(|_| alice.event().1[0].as_u64().expect("its number")).collect();
            numbers.sort_unstable();
            assert!(numbers.into_iter().eq(0..32), "each once");
            refused += statuses.iter().filter(|status| **status == 503).count();
            refused
        },
        |refused| *refused > 0,
    );
    assert_silent(&mut alice);
}
