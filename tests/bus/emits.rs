//! Emits: each reaches the right clients of all instances, once, and only instances that have some hear of it.

use serde_json::json;

use crate::instance::{emit_to, get, instance, instance_with, ready};
use crate::peer::{Peer, broadcast};
use crate::redis_server::RedisServer;
use crate::until;

#[test]
fn emits_reach_the_clients_of_both_instances_once() {
    let redis = RedisServer::start(&[]);
    let servers = [instance(&redis), instance(&redis)];
    let mut alice = [servers[0].client("alice"), servers[1].client("alice")];
    let mut bob = servers[1].client("bob");
    assert_eq!(emit_to(&servers[0], "alice", "one"), (1, true));
    assert_eq!(emit_to(&servers[1], "alice", "two"), (1, true));
    assert_eq!(emit_to(&servers[0], "bob", "for-bob"), (0, true));
    assert_eq!(bob.event().0, "for-bob");
    for client in &mut alice {
        let mut names = [client.event().0, client.event().0];
        names.sort();
        assert_eq!(names, ["one", "two"]);
    }
    let everybody = servers[0].post("emit", &json!({"broadcast": true, "event": "all", "except": ["user:bob"]}));
    assert_eq!(everybody, json!({"delivered": 1, "published": true}));
    let several =
        servers[0].post("emit", &json!({"users": ["alice", "bob"], "event": "several", "args": [{"a": 1.5}, null]}));
    assert_eq!(several, json!({"delivered": 1, "published": true}));
    for client in &mut alice {
        assert_eq!(client.event().0, "all");
        assert_eq!(client.event(), ("several".to_owned(), json!({"a": 1.5})));
        client.socket.round_trip();
    }
    assert_eq!(bob.event().0, "several");
    bob.socket.round_trip();
    assert_eq!(get(&servers[0], "stats")["instances"], 2);
    assert_eq!(ready(&servers[0]), (200, "up".to_owned()));
}

#[test]
fn shards_that_are_behind_lose_nothing_of_what_redis_can_keep() {
    let redis = RedisServer::start(&[]);
    let limits = [("SOCKRING_MAIL_BYTES_MAX", "20000"), ("SOCKRING_QUEUE_BYTES_MAX", "100000000")];
    let server = instance_with(&redis, &limits);
    // So many that a few messages are the work of a turn.
    let mut alice: Vec<_> = (0..80).map(|_| server.client("alice")).collect();
    let mut peer = Peer::listening(&redis, &[]);
    let text = "x".repeat(200);
    let burst = 2_000;
    peer.publish_all((0..burst).map(|number| {
        let body = broadcast("/", Some("user:alice"), "e", &format!("{number} {text}"));
        ("socket.io#/#user:alice#".to_owned(), body)
    }));
    for number in 0..burst {
        let (_, data) = alice[0].event();
        let data = data.as_str().expect("a text");
        assert_eq!(data.split(' ').next(), Some(&*number.to_string()), "in order, and none missing");
    }
}

#[test]
fn a_batch_and_a_room_by_the_api_reach_the_other_instance() {
    let redis = RedisServer::start(&[]);
    let servers = [(); 2].map(|()| instance_with(&redis, &[("SOCKRING_REDIS_ROOMS", "users")]));
    let mut alice = servers[1].client("alice");
    let joined = servers[0].post("rooms/join", &json!({"user": "alice", "room": "news"}));
    assert_eq!(joined, json!({"room": "news", "sockets": 0, "published": true, "confirmed": true}));
    assert_eq!(redis.subscribers("socket.io#/#news#"), 1);
    let batch = json!([
        {"room": "news", "event": "first"},
        {"room": "news", "event": "second", "colour": 1},
        {"broadcast": true, "event": "third"},
    ]);
    let results = servers[0].post("emit/batch", &batch);
    assert_eq!((&results[0]["published"], &results[1]["statusCode"]), (&json!(true), &json!(422)));
    assert_eq!([alice.event().0, alice.event().0], ["first", "third"]);
    servers[0].post("rooms/leave", &json!({"user": "alice", "room": "news"}));
    // Nobody is in it any more: after a while the channel is given up, not at once.
    assert_eq!(redis.subscribers("socket.io#/#news#"), 1);
    until("the room is given up", || redis.subscribers("socket.io#/#news#"), |count| *count == 0);
    servers[0].post("disconnect", &json!({"user": "alice"}));
    assert_eq!(alice.socket.text(), "41");
}

#[test]
fn a_socket_of_the_other_instance_is_reached_by_its_sid() {
    let redis = RedisServer::start(&[]);
    let servers = [instance(&redis), instance(&redis)];
    let mut clients = [servers[1].client("alice"), servers[1].client("alice")];
    let sid = clients[0].sid.clone();
    assert_eq!(servers[0].post("emit", &json!({"room": sid, "event": "you"}))["published"], true);
    assert_eq!(clients[0].event().0, "you");
    assert_eq!(servers[1].emit(&json!({"room": sid, "event": "you-again"})), 1);
    assert_eq!(clients[0].event().0, "you-again");
    clients[0].socket.round_trip();
    emit_to(&servers[1], "alice", "both");
    assert_eq!(clients[1].event().0, "both");
}

#[test]
fn only_who_has_members_of_a_room_hears_of_it() {
    let redis = RedisServer::start(&[]);
    let servers = [instance(&redis), instance(&redis)];
    let mut alice = servers[1].client("alice");
    let mut peer = Peer::listening(&redis, &[]);
    // One connection of one core of one instance.
    assert_eq!(peer.publish("socket.io#/#user:alice#", broadcast("/", Some("user:alice"), "e", "x")), 1);
    assert_eq!(alice.event(), ("e".to_owned(), json!("x")));
    assert_eq!(peer.publish("socket.io#/#user:nobody#", broadcast("/", Some("user:nobody"), "e", "x")), 0);
    // Both instances, once each, and they count as two servers.
    assert_eq!(peer.publish("socket.io#/#", broadcast("/", None, "all", "y")), 2);
    assert_eq!(alice.event(), ("all".to_owned(), json!("y")));
    assert_eq!(redis.subscribers("socket.io-request#/#"), 2);
    drop(servers);
    until("no connection is left behind", || redis.subscribers("socket.io-request#/#"), |count| *count == 0);
}

#[test]
fn rooms_are_heard_by_all_or_by_who_has_members() {
    let redis = RedisServer::start(&[]);
    let hears = |rooms| instance_with(&redis, &[("SOCKRING_REDIS_ROOMS", rooms)]);
    let servers = [hears("all"), hears("all"), hears("users")];
    let mut clients = [servers[0].client("alice"), servers[2].client("carol")];
    let mut peer = Peer::listening(&redis, &[]);
    assert_eq!(peer.publish("socket.io#/#news#", broadcast("/", Some("news"), "e", "nobody")), 2);
    // Whoever has what was published behind it has let it pass: only then does anybody join.
    for (client, user) in clients.iter_mut().zip(["alice", "carol"]) {
        let room = format!("user:{user}");
        assert_eq!(peer.publish(&format!("socket.io#/#{room}#"), broadcast("/", Some(&room), "e", "first")), 1);
        assert_eq!(client.event(), ("e".to_owned(), json!("first")));
    }
    for (server, user) in [(&servers[0], "alice"), (&servers[2], "carol")] {
        let joined = server.post("rooms/join", &json!({"user": user, "room": "news"}));
        assert_eq!((&joined["sockets"], &joined["confirmed"]), (&json!(1), &json!(true)));
    }
    assert_eq!(peer.publish("socket.io#/#news#", broadcast("/", Some("news"), "e", "members")), 3);
    for client in &mut clients {
        assert_eq!(client.event(), ("e".to_owned(), json!("members")));
    }
    // A user's messages come to who has the user, and a socket's too where not all is heard.
    assert_eq!(peer.publish("socket.io#/#user:alice#", broadcast("/", Some("user:alice"), "e", "alice")), 1);
    let sid = clients[1].sid.clone();
    assert_eq!(peer.publish(&format!("socket.io#/#{sid}#"), broadcast("/", Some(&sid), "e", "carol")), 3);
    for (client, text) in clients.iter_mut().zip(["alice", "carol"]) {
        assert_eq!(client.event(), ("e".to_owned(), json!(text)));
        client.socket.round_trip();
    }
}

#[test]
fn a_prefix_and_namespaces_are_kept_apart() {
    let redis = RedisServer::start(&[]);
    let own = [("SOCKRING_REDIS_PREFIX", "mine"), ("SOCKRING_NAMESPACES", "/,/admin[1]")];
    let servers = [instance_with(&redis, &own), instance_with(&redis, &own), instance(&redis)];
    let mut clients = [servers[1].client("alice"), servers[2].client("alice")];
    clients[0].send("40/admin[1],{\"token\":\"x\"}");
    assert!(clients[0].socket.text().starts_with("44/admin[1],"));
    assert_eq!(emit_to(&servers[0], "alice", "mine"), (0, true));
    assert_eq!(emit_to(&servers[2], "alice", "other"), (1, true));
    assert_eq!((clients[0].event().0.as_str(), clients[1].event().0.as_str()), ("mine", "other"));
    assert_eq!(redis.subscribers("mine-request#/admin[1]#"), 2);
}

#[test]
fn a_repeated_emit_is_published_once_at_whichever_instance_it_comes() {
    let redis = RedisServer::start(&[]);
    let servers = [instance(&redis), instance(&redis)];
    let mut alice = [servers[0].client("alice"), servers[1].client("alice")];
    let mut bob = servers[1].client("bob");
    let body = |event: &str, users: &[&str]| json!({"users": users, "event": event, "idempotencyKey": event});
    let first = servers[0].post("emit", &body("one", &["alice"]));
    assert_eq!(
        (&first["delivered"], &first["published"], &first["duplicate"]),
        (&json!(1), &json!(true), &json!(false))
    );
    let again = servers[0].post("emit", &body("one", &["alice"]));
    assert_eq!(again, json!({"id": first["id"], "duplicate": true, "delivered": 0, "published": false}));
    // Of two users it is new to one.
    let more = servers[0].post("emit", &body("one", &["alice", "bob"]));
    assert_eq!((&more["published"], &more["duplicate"]), (&json!(true), &json!(false)));
    assert_eq!(bob.event().0, "one");
    let everybody = json!({"broadcast": true, "event": "all", "idempotencyKey": "one"});
    assert_eq!(servers[0].post("emit", &everybody)["duplicate"], false);
    assert_eq!(servers[0].post("emit", &everybody)["duplicate"], true);
    for client in &mut alice {
        assert_eq!([client.event().0, client.event().0], ["one", "all"]);
    }
    assert_eq!(bob.event().0, "all");
    assert_eq!(servers[1].post("emit", &body("one", &["alice"]))["duplicate"], true);
    alice.iter_mut().for_each(|client| client.socket.round_trip());
}
