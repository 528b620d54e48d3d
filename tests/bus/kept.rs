//! Kept events and keys of emits in Redis: any instance gives a user what any instance has kept, once, whatever goes down.

use serde_json::{Value, json};

use crate::client::Client;
use crate::http::request;
use crate::instance::{get, instance, instance_with, metric, until_redis_is};
use crate::redis_server::{RedisCluster, RedisServer};
use crate::server::{API, Server, data, token_for};
use crate::until;

const SHARDED: (&str, &str) = ("SOCKRING_REDIS_ADAPTER", "sharded");
const STREAMS: (&str, &str) = ("SOCKRING_REDIS_ADAPTER", "streams");
/// Who comes back gets what was missed; without it, events come from mailboxes alone.
const RECOVERY: (&str, &str) = ("SOCKRING_RECOVERY_WINDOW_S", "120");

/// Keeps an event that carries this number for a user.
#[track_caller]
fn keep(server: &Server, user: &str, number: u64) -> Value {
    server.post("emit", &json!({"user": user, "event": "kept", "data": number, "ttl": 60}))
}

#[track_caller]
fn keep_in_redis(server: &Server, user: &str, number: u64) -> Value {
    let answer = keep(server, user, number);
    assert_eq!((&answer["kept"], &answer["published"]), (&json!("redis"), &json!(true)), "{answer}");
    answer
}

/// The next event is a kept one, and carries this number.
#[track_caller]
fn assert_kept(client: &mut Client, number: u64) {
    assert_eq!(event(client), ("kept".to_owned(), json!(number)));
}

/// The next event that is no marker. Pings are answered.
#[track_caller]
fn event(client: &mut Client) -> (String, Value) {
    loop {
        let text = client.socket.text();
        if text == "2" {
            client.socket.send("3");
            continue;
        }
        let args = text.strip_prefix("42").unwrap_or_else(|| panic!("an event expected: {text}"));
        let mut args: Vec<Value> = serde_json::from_str(args).expect("a JSON array");
        let name = args.remove(0).as_str().expect("a name").to_owned();
        if name.starts_with(|first: char| first.is_ascii_alphabetic()) {
            return (name, args.into_iter().next().unwrap_or(Value::Null));
        }
    }
}

/// Says that it has everything.
#[track_caller]
fn answer_ping(client: &mut Client) {
    while client.socket.text() != "2" {}
    client.socket.send("3");
}

#[track_caller]
fn list(server: &Server, user: &str) -> Vec<Value> {
    get(server, &format!("user/{user}/kept"))["events"].as_array().expect("a list").clone()
}

#[track_caller]
fn until_kept(server: &Server, user: &str, count: usize) {
    until(&format!("{count} are kept for {user}"), || list(server, user).len(), |left| *left == count);
}

#[track_caller]
fn take_back(server: &Server, route: &str) -> u64 {
    let mut connection = server.connect();
    connection.send(request("DELETE", &format!("{API}/{route}"), &["Content-Type: application/json"], ""));
    data(&connection.answer().json())["events"].as_u64().expect("a count")
}

/// Nothing more comes: what is emitted now comes next.
#[track_caller]
fn assert_nothing_more(server: &Server, user: &str, client: &mut Client) {
    server.post("emit", &json!({"user": user, "event": "last"}));
    assert_eq!(event(client).0, "last");
}

/// What is kept at one instance comes at the other one, in order, and is gone for both when it was received.
fn assert_shared(servers: &[Server; 2]) {
    for number in 1..=20 {
        assert_eq!(keep_in_redis(&servers[0], "alice", number)["delivered"], 0);
    }
    for server in servers {
        let listed: Vec<_> = list(server, "alice").iter().map(|event| event["args"][0].clone()).collect();
        assert_eq!(listed, (1..=20).map(|number| json!(number)).collect::<Vec<_>>());
    }
    assert_eq!(get(&servers[1], "user/alice/status")["kept"], 20);
    let mut alice = servers[1].client("alice");
    (1..=20).for_each(|number| assert_kept(&mut alice, number));
    // One that comes while she is there, by Redis and by herself.
    answer_ping(&mut alice);
    until_kept(&servers[0], "alice", 0);
    for (from, number) in servers.iter().zip([21, 22]) {
        keep_in_redis(from, "alice", number);
        assert_kept(&mut alice, number);
    }
    answer_ping(&mut alice);
    servers.iter().for_each(|server| until_kept(server, "alice", 0));
    let mut other = servers[0].client("alice");
    assert_nothing_more(&servers[0], "alice", &mut other);
    assert_eq!(event(&mut alice).0, "last");
    // Both get one, and it is kept until one of them says that it has it.
    keep_in_redis(&servers[0], "alice", 23);
    assert_kept(&mut alice, 23);
    assert_kept(&mut other, 23);
    assert_eq!(list(&servers[1], "alice")[0]["sent"], true);
    answer_ping(&mut alice);
    until_kept(&servers[0], "alice", 0);
    // It may be taken back, wherever.
    let ids: Vec<_> = (24..=26).map(|number| keep_in_redis(&servers[0], "bob", number)["id"].clone()).collect();
    let second = format!("user/bob/kept/{}", ids[1].as_str().expect("an id"));
    assert_eq!((take_back(&servers[1], &second), take_back(&servers[1], &second)), (1, 0));
    assert_eq!(take_back(&servers[1], "user/bob/kept"), 2);
    let mut bob = servers[0].client("bob");
    assert_nothing_more(&servers[1], "bob", &mut bob);
}

#[test]
fn any_instance_gives_what_another_one_has_kept_in_order_and_once() {
    let redis = RedisServer::start(&[]);
    let servers = [instance(&redis), instance(&redis)];
    assert_shared(&servers);
    assert_eq!(metric(&servers[0], "sockring_bus_kept_events_total"), 25);
    assert_eq!(redis.run::<Vec<String>>("KEYS sockring:*:kept*"), Vec::<String>::new(), "nothing is left");
}

#[test]
fn so_it_is_with_recovery() {
    let redis = RedisServer::start(&[]);
    assert_shared(&[instance_with(&redis, &[RECOVERY]), instance_with(&redis, &[RECOVERY])]);
}

#[test]
fn so_it_is_with_the_sharded_adapter() {
    let redis = RedisServer::start(&[]);
    assert_shared(&[instance_with(&redis, &[SHARDED]), instance_with(&redis, &[SHARDED])]);
}

#[test]
fn so_it_is_with_the_streams_adapter() {
    let redis = RedisServer::start(&[]);
    assert_shared(&[instance_with(&redis, &[STREAMS, RECOVERY]), instance_with(&redis, &[STREAMS, RECOVERY])]);
}

#[test]
fn so_it_is_on_a_redis_cluster_by_each_adapter() {
    let cluster = RedisCluster::start();
    for (prefix, adapter) in [("a", "classic"), ("b", "sharded"), ("c", "streams")] {
        let settings = [("SOCKRING_REDIS_ADAPTER", adapter), ("SOCKRING_REDIS_PREFIX", prefix)];
        let settings =
            [&settings[..], &[("SOCKRING_REDIS_STREAM_NAME", prefix)][..usize::from(adapter == "streams")]].concat();
        assert_shared(&[instance_with(&cluster.nodes[0], &settings), instance_with(&cluster.nodes[1], &settings)]);
    }
}

/// One key is one event for each user, at whichever instance it comes, and another event under it is an error.
fn assert_keys_are_shared(servers: &[Server; 2]) {
    let mut clients = [servers[0].client("alice"), servers[1].client("alice")];
    let emit = |server: &Server, body: &Value| {
        let mut connection = server.connect();
        let text = body.to_string();
        let length = format!("Content-Length: {}", text.len());
        connection.send(request("POST", &format!("{API}/emit"), &["Content-Type: application/json", &length], &text));
        let answer = connection.answer();
        (answer.status, answer.json()["data"].clone())
    };
    for (number, body) in [
        json!({"user": "alice", "event": "e", "idempotencyKey": "job-1"}),
        json!({"user": "alice", "event": "e", "idempotencyKey": "job-2", "ttl": 60}),
        json!({"users": ["alice", "bob"], "event": "e", "idempotencyKey": "job-3", "ttl": 60}),
        json!({"broadcast": true, "event": "e", "idempotencyKey": "job-4"}),
        json!({"rooms": ["user:alice", "user:bob"], "event": "e", "idempotencyKey": "job-5"}),
        json!({"room": "user:alice", "event": "e", "idempotencyKey": "job-6", "ack": {"timeoutMs": 100}}),
    ]
    .iter()
    .enumerate()
    {
        let mut body = body.clone();
        body["data"] = json!(number);
        let (status, first) = emit(&servers[0], &body);
        assert_eq!((status, &first["duplicate"], &first["published"]), (200, &json!(false), &json!(true)), "{first}");
        for server in [1, 0, 1] {
            let (status, again) = emit(&servers[server], &body);
            assert_eq!((status, &again["duplicate"], &again["id"]), (200, &json!(true), &first["id"]), "{body}");
            assert_eq!((&again["delivered"], &again["published"]), (&json!(0), &json!(false)), "{body}");
        }
        body["data"] = json!("another");
        assert_eq!(emit(&servers[1], &body).0, 422, "{body}");
    }
    for client in &mut clients {
        for number in 0..6 {
            // What wants an answer ends in a number that is no text.
            let text = loop {
                let text = client.socket.text();
                match text.as_str() {
                    "2" => client.socket.send("3"),
                    text if !text.contains("[\"~") => break text.to_owned(),
                    _ => {}
                }
            };
            assert!(text.ends_with(&format!("[\"e\",{number}]")), "{number}: {text}");
        }
    }
}

#[test]
fn a_key_is_one_event_at_all_instances() {
    let redis = RedisServer::start(&[]);
    assert_keys_are_shared(&[instance(&redis), instance(&redis)]);
}

#[test]
fn a_key_is_one_event_with_the_sharded_adapter_and_on_a_redis_cluster() {
    let cluster = RedisCluster::start();
    assert_keys_are_shared(&[
        instance_with(&cluster.nodes[0], &[SHARDED]),
        instance_with(&cluster.nodes[2], &[SHARDED]),
    ]);
}

#[test]
fn a_mailbox_has_a_bound_and_what_is_over_does_not_count() {
    let redis = RedisServer::start(&[]);
    let server = instance_with(&redis, &[("SOCKRING_KEPT_EVENTS_PER_USER_MAX", "2")]);
    let short = json!({"user": "alice", "event": "kept", "data": 0, "ttl": 1});
    assert_eq!(server.post("emit", &short)["kept"], "redis");
    keep_in_redis(&server, "alice", 1);
    let answer = keep(&server, "alice", 2);
    assert_eq!((&answer["kept"], &answer["keptReason"]), (&json!(false), &json!("user_full")));
    until_kept(&server, "alice", 1);
    keep_in_redis(&server, "alice", 3);
    let newest =
        |number: u64| json!({"user": "bob", "event": "kept", "data": number, "ttl": 60, "conflateKey": "progress"});
    for number in 1..=3 {
        assert_eq!(server.post("emit", &newest(number))["kept"], "redis");
    }
    let (mut alice, mut bob) = (server.client("alice"), server.client("bob"));
    [1, 3].iter().for_each(|number| assert_kept(&mut alice, *number));
    assert_kept(&mut bob, 3);
    assert_nothing_more(&server, "bob", &mut bob);
}

#[test]
fn while_redis_is_away_memory_keeps_it_and_gives_it_back() {
    let mut redis = RedisServer::start(&[]);
    let servers = [instance(&redis), instance(&redis)];
    let mut here = servers[0].client("alice");
    let mut there = servers[1].client("alice");
    redis.stop();
    servers.iter().for_each(|server| until_redis_is(server, "down"));
    let answer = keep(&servers[0], "alice", 1);
    assert_eq!((&answer["kept"], &answer["published"]), (&json!("memory"), &json!(false)));
    assert_kept(&mut here, 1);
    keep(&servers[0], "bob", 2);
    let mut bob = servers[1].client("bob");
    redis.start_again();
    servers.iter().for_each(|server| until_redis_is(server, "up"));
    // She has said here that she has it, or will: there she may hear of it as well, and no more than once.
    assert_kept(&mut bob, 2);
    answer_ping(&mut bob);
    servers.iter().for_each(|server| until_kept(server, "bob", 0));
    assert_kept(&mut there, 1);
    answer_ping(&mut there);
    servers.iter().for_each(|server| until_kept(server, "alice", 0));
    for (server, client) in servers.iter().zip([&mut here, &mut there]) {
        server.post("emit", &json!({"room": client.sid.clone(), "event": "last"}));
        assert_eq!(event(client).0, "last");
    }
    until("Redis has none", || redis.run::<Vec<String>>("KEYS sockring:*:kept*"), Vec::is_empty);
}

#[test]
fn a_redis_that_is_silent_holds_nobody_up_and_doubles_nothing() {
    let redis = RedisServer::start(&[]);
    let servers = [instance(&redis), instance(&redis)];
    let mut here = servers[0].client("alice");
    let mut there = servers[1].client("alice");
    redis.freeze();
    let answer = keep(&servers[0], "alice", 1);
    assert_eq!((&answer["kept"], &answer["published"]), (&json!("memory"), &json!(false)), "{answer}");
    assert_kept(&mut here, 1);
    // Nothing is known of what she has.
    let mut bob = servers[1].client("bob");
    redis.thaw();
    servers.iter().for_each(|server| until_redis_is(server, "up"));
    assert_kept(&mut there, 1);
    until("Redis keeps for bob", || keep(&servers[0], "bob", 2)["kept"].clone(), |kept| *kept == "redis");
    while event(&mut bob) != ("kept".to_owned(), json!(2)) {}
    for client in [&mut here, &mut there] {
        answer_ping(client);
    }
    servers.iter().for_each(|server| until_kept(server, "alice", 0));
    assert_nothing_more(&servers[0], "alice", &mut here);
    assert_eq!(event(&mut there).0, "last");
}

#[test]
fn what_an_instance_has_answered_outlives_it() {
    let redis = RedisServer::start(&[]);
    let [first, second] = [instance(&redis), instance(&redis)];
    let mut alice = Some(first.client("alice"));
    for number in 1..=3 {
        keep_in_redis(&first, "alice", number);
        assert_kept(alice.as_mut().expect("she is there"), number);
        // She says that she has the first two.
        if number < 3 {
            answer_ping(alice.as_mut().expect("she is there"));
            until_kept(&second, "alice", 0);
        }
    }
    // As by `kill -9`.
    drop(first);
    drop(alice.take());
    let mut alice = Client::connect(second.address(), &token_for("alice"));
    assert_kept(&mut alice, 3);
    assert_nothing_more(&second, "alice", &mut alice);
}

#[test]
fn a_redis_that_forgets_its_scripts_is_told_them_again() {
    let redis = RedisServer::start(&[]);
    let server = instance(&redis);
    keep_in_redis(&server, "alice", 1);
    redis.run::<()>("SCRIPT FLUSH");
    keep_in_redis(&server, "alice", 2);
    redis.run::<()>("SCRIPT FLUSH");
    let mut alice = server.client("alice");
    (1..=2).for_each(|number| assert_kept(&mut alice, number));
    answer_ping(&mut alice);
    until_kept(&server, "alice", 0);
}

#[test]
fn what_two_instances_let_in_under_one_key_while_redis_is_silent_comes_once() {
    let redis = RedisServer::start(&[]);
    let servers = [instance(&redis), instance(&redis)];
    let mut clients = [servers[0].client("alice"), servers[1].client("alice")];
    redis.freeze();
    let bodies = [
        json!({"user": "alice", "event": "kept", "data": 1, "ttl": 60, "idempotencyKey": "job-1"}),
        json!({"user": "alice", "event": "kept", "data": 2, "idempotencyKey": "job-2"}),
    ];
    for (server, client) in servers.iter().zip(&mut clients) {
        for (number, body) in (1..).zip(&bodies) {
            let first = server.post("emit", body);
            assert_eq!((&first["duplicate"], &first["published"]), (&json!(false), &json!(false)), "{first}");
            assert_eq!(server.post("emit", body)["duplicate"], true);
            assert_kept(client, number);
        }
    }
    redis.thaw();
    for server in &servers {
        until_redis_is(server, "up");
        assert_eq!(server.post("emit", &bodies[1])["duplicate"], true);
    }
    servers.iter().for_each(|server| until_kept(server, "alice", 0));
    until("Redis has none", || redis.run::<Vec<String>>("KEYS sockring:*:kept*"), Vec::is_empty);
    assert_nothing_more(&servers[0], "alice", &mut clients[0]);
    assert_eq!(event(&mut clients[1]).0, "last");
    let mut late = servers[0].client("alice");
    assert_nothing_more(&servers[1], "alice", &mut late);
}
