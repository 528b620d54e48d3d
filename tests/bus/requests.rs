//! Requests: what Node servers ask is answered, what they order is done, and what is asked of them comes together.

use std::collections::BTreeSet;
use std::thread;

use serde_json::{Value, json};

use crate::command::run;
use crate::instance::{get, instance, instance_with, metric};
use crate::peer::{Peer, broadcast};
use crate::redis_server::RedisServer;
use crate::server::{API, SECRET};
use crate::until;

const REQUESTS: &str = "socket.io-request#/#";
const ANSWERS: &str = "socket.io-response#/#";

/// What is answered to a request.
#[track_caller]
fn ask(peer: &mut Peer, request: &Value) -> Value {
    peer.publish(REQUESTS, request.to_string());
    let (channel, answer) = hear_answer(peer);
    assert_eq!((channel.as_str(), &answer["requestId"]), (ANSWERS, &request["requestId"]));
    answer
}

/// The next answer, without what Node servers do not say: who gives it.
#[track_caller]
fn hear_answer(peer: &mut Peer) -> (String, Value) {
    let (channel, mut answer) = peer.hear_json();
    let uid = answer.as_object_mut().and_then(|answer| answer.remove("uid"));
    assert!(uid.as_ref().and_then(Value::as_str).is_some_and(|uid| uid.len() == 6), "{uid:?} in {answer}");
    (channel, answer)
}

#[test]
fn what_a_node_server_asks_is_answered() {
    let redis = RedisServer::start(&[]);
    let server = instance(&redis);
    let clients = [server.client("alice"), server.client("bob")];
    let mut peer = Peer::listening(&redis, &[ANSWERS]);
    let all = json!({"rooms": [], "except": []});
    let answer = ask(&mut peer, &json!({"uid": "nodeAA", "requestId": "r1", "type": 5, "opts": all}));
    let sockets = answer["sockets"].as_array().expect("a list");
    assert_eq!(sockets.len(), 2);
    for part in ["headers", "time", "address", "xdomain", "secure", "issued", "url", "query", "auth"] {
        assert!(!sockets[0]["handshake"][part].is_null(), "{part} in {answer}");
    }
    let one = json!({"rooms": ["user:alice"], "except": []});
    let answer = ask(&mut peer, &json!({"uid": "nodeAA", "requestId": "r2", "type": 5, "opts": one}));
    assert_eq!(answer["sockets"][0]["id"], clients[0].sid);
    assert_eq!(answer["sockets"][0]["rooms"], json!([clients[0].sid, "user:alice"]));
    let answer = ask(&mut peer, &json!({"uid": "nodeAA", "requestId": "r3", "type": 1}));
    let rooms: Vec<_> = answer["rooms"].as_array().expect("a list").iter().filter_map(Value::as_str).collect();
    assert!(rooms.contains(&"user:alice") && rooms.contains(&clients[1].sid.as_str()), "{rooms:?}");
    let answer = ask(&mut peer, &json!({"uid": "nodeAA", "requestId": "r4", "type": 0, "rooms": ["user:bob"]}));
    assert_eq!(answer["sockets"], json!([clients[1].sid]));
    let answer = ask(&mut peer, &json!({"uid": "nodeAA", "requestId": "r5", "type": 6, "data": ["ping"]}));
    assert_eq!(answer, json!({"type": 6, "requestId": "r5", "data": null}));
    let answer = ask(&mut peer, &json!({"uid": "nodeAA", "requestId": "r6", "type": 6, "data": ["sockring:numbers"]}));
    assert_eq!((&answer["data"]["connected"], &answer["data"]["users"]), (&json!(2), &json!(2)), "{answer}");
}

#[test]
fn what_a_node_server_orders_is_done() {
    let redis = RedisServer::start(&[]);
    let server = instance(&redis);
    let mut alice = server.client("alice");
    let mut bob = server.client("bob");
    let mut peer = Peer::listening(&redis, &[ANSWERS]);
    let of = |rooms: &[&str]| json!({"rooms": rooms, "except": []});
    // The emitter says no uid.
    peer.publish(REQUESTS, json!({"type": 2, "opts": of(&["user:alice"]), "rooms": ["news"]}).to_string());
    peer.publish("socket.io#/#news#", broadcast("/", Some("news"), "e", "x"));
    assert_eq!(alice.event().0, "e");
    // Old servers name a socket, and want to know.
    let join = json!({"uid": "nodeAA", "requestId": "r1", "type": 2, "sid": bob.sid, "room": "news"});
    assert_eq!(ask(&mut peer, &join), json!({"requestId": "r1"}));
    peer.publish(
        REQUESTS,
        json!({"uid": "nodeAA", "type": 3, "opts": of(&["user:alice"]), "rooms": ["news"]}).to_string(),
    );
    peer.publish(REQUESTS, json!({"uid": "nodeAA", "requestId": "r2", "type": 6, "data": ["done"]}).to_string());
    peer.hear();
    peer.publish("socket.io#/#news#", broadcast("/", Some("news"), "for-bob", "x"));
    assert_eq!(bob.event().0, "for-bob");
    alice.socket.round_trip();
    peer.publish(
        REQUESTS,
        json!({"uid": "nodeAA", "type": 4, "opts": of(&["user:alice"]), "close": false}).to_string(),
    );
    assert_eq!(alice.socket.text(), "41");
    peer.publish(REQUESTS, json!({"uid": "nodeAA", "type": 4, "opts": of(&["user:bob"]), "close": true}).to_string());
    // The whole session.
    bob.socket.close_code();
}

#[test]
fn guests_in_a_users_room_get_all_in_one_order() {
    let redis = RedisServer::start(&[]);
    let server = instance_with(&redis, &[("SOCKRING_SHARDS", "4")]);
    let mut host = server.client("host");
    // On whichever shard.
    let mut guests: Vec<_> = (0..6).map(|number| server.client(&format!("guest-{number}"))).collect();
    let mut peer = Peer::listening(&redis, &[]);
    for number in 0..guests.len() {
        let of_guest = json!({"rooms": [format!("user:guest-{number}")], "except": []});
        peer.publish(REQUESTS, json!({"type": 2, "opts": of_guest, "rooms": ["user:host"]}).to_string());
    }
    for number in 0..50 {
        let text = number.to_string();
        match number % 2 {
            0 => peer.publish("socket.io#/#user:host#", broadcast("/", Some("user:host"), "e", &text)),
            _ => peer.publish("socket.io#/#", broadcast("/", None, "e", &text)),
        };
    }
    for client in guests.iter_mut().chain([&mut host]) {
        for number in 0..50 {
            assert_eq!(client.event(), ("e".to_owned(), json!(number.to_string())));
        }
    }
}

#[test]
fn a_join_is_confirmed_when_the_other_instances_say_so() {
    let redis = RedisServer::start(&[]);
    let servers = [instance(&redis), instance(&redis)];
    let mut alice = servers[1].client("alice");
    let join = |room: &str| servers[0].post("rooms/join", &json!({"user": "alice", "room": room}));
    assert_eq!(join("news"), json!({"room": "news", "sockets": 0, "published": true, "confirmed": true}));
    servers[0].post("emit", &json!({"room": "news", "event": "e"}));
    assert_eq!(alice.event().0, "e");
    // One that listens and does not answer.
    let silent = Peer::listening(&redis, &[REQUESTS]);
    assert_eq!(join("more"), json!({"room": "more", "sockets": 0, "published": true, "confirmed": false}));
    drop(silent);
    // What was ordered is done all the same.
    servers[0].post("emit", &json!({"room": "more", "event": "e"}));
    assert_eq!(alice.event().0, "e");
}

/// So the answer takes no longer, and no less may be missing, where there are more namespaces.
#[test]
fn a_join_is_asked_about_in_all_namespaces_at_once() {
    let redis = RedisServer::start(&[]);
    let server = instance_with(&redis, &[("SOCKRING_NAMESPACES", "/,/a,/b")]);
    let mut peer = Peer::listening(&redis, &[REQUESTS, "socket.io-request#/a#", "socket.io-request#/b#"]);
    // It answers nothing before it has been asked everything.
    let answering = thread::spawn(move || {
        let mut asked = Vec::new();
        while asked.len() < 3 {
            let (channel, request) = peer.hear_json();
            if request["type"] == 5 {
                asked.push((channel.replace("request", "response"), request["requestId"].clone()));
            }
        }
        for (channel, request) in asked {
            peer.publish(&channel, json!({"requestId": request, "sockets": []}).to_string());
        }
    });
    let joined = server.post("rooms/join", &json!({"user": "alice", "room": "news"}));
    assert_eq!(joined, json!({"room": "news", "sockets": 0, "published": true, "confirmed": true}));
    answering.join().expect("it is asked");
}

#[test]
fn acknowledgements_come_after_their_number() {
    let redis = RedisServer::start(&[]);
    let server = instance(&redis);
    let mut clients = [server.client("alice"), server.client("bob")];
    let mut peer = Peer::listening(&redis, &[ANSWERS]);
    let request = json!({
        "uid": "nodeAA", "requestId": "ack1", "type": 7,
        "packet": {"type": 2, "data": ["question", 5], "nsp": "/"},
        "opts": {"rooms": [], "except": [], "flags": {"timeout": 5000}},
    });
    peer.publish(REQUESTS, request.to_string());
    assert_eq!(hear_answer(&mut peer).1, json!({"type": 8, "requestId": "ack1", "clientCount": 2}));
    for client in &mut clients {
        let text = client.socket.text();
        let id = text.strip_prefix("42").and_then(|rest| rest.strip_suffix(r#"["question",5]"#)).expect(&text);
        client.send(&format!(r#"43{id}["yes",1]"#));
        let (_, answer) = peer.hear();
        // msgpack: {type: 9, requestId: "ack1", packet: "yes"} and who says it, in whichever order.
        assert_eq!(answer.first(), Some(&0x84));
        for part in [&b"\xa4type\x09"[..], b"\xa9requestId\xa4ack1", b"\xa6packet\xa3yes"] {
            assert!(answer.windows(part.len()).any(|window| window == part), "{answer:?}");
        }
    }
}

/// A request for acknowledgements of what a room gets.
fn ask_room(request: &str, room: &str, timeout_ms: u64) -> String {
    json!({
        "uid": "nodeAA", "requestId": request, "type": 7,
        "packet": {"type": 2, "data": ["question"], "nsp": "/"},
        "opts": {"rooms": [room], "except": [], "flags": {"timeout": timeout_ms}},
    })
    .to_string()
}

#[test]
fn nothing_is_kept_of_emits_that_all_have_acknowledged() {
    let redis = RedisServer::start(&[]);
    let server = instance_with(&redis, &[("SOCKRING_REDIS_ACKS_MAX", "50")]);
    let mut alice = server.client("alice");
    let mut peer = Peer::listening(&redis, &[ANSWERS]);
    // Many more than there is room for, within the time of each.
    for number in 0..200 {
        let (request, room) = (format!("r{number}"), if number % 2 == 0 { "user:nobody" } else { "user:alice" });
        peer.publish(REQUESTS, ask_room(&request, room, 600_000));
        let answer = hear_answer(&mut peer).1;
        assert_eq!(answer, json!({"type": 8, "requestId": request, "clientCount": number % 2}));
        if number % 2 == 1 {
            let text = alice.socket.text();
            let id = text.strip_prefix("42").and_then(|rest| rest.strip_suffix(r#"["question"]"#)).expect(&text);
            alice.send(&format!("43{id}[1]"));
            peer.hear();
        }
    }
    assert_eq!((metric(&server, "sockring_bus_acks_awaited"), server.metrics().hits()["redis_acks_max"]), (0, 0));
}

#[test]
fn emits_beyond_the_limit_are_delivered_and_answered_with_nobody() {
    let redis = RedisServer::start(&[]);
    let server = instance_with(&redis, &[("SOCKRING_REDIS_ACKS_MAX", "2")]);
    let mut alice = server.client("alice");
    let mut peer = Peer::listening(&redis, &[ANSWERS]);
    for (request, count) in [("r1", 1), ("r2", 1), ("r3", 0)] {
        peer.publish(REQUESTS, ask_room(request, "user:alice", 1_000));
        assert_eq!(hear_answer(&mut peer).1, json!({"type": 8, "requestId": request, "clientCount": count}));
        assert!(alice.socket.text().ends_with(r#"["question"]"#));
    }
    assert_eq!((metric(&server, "sockring_bus_acks_awaited"), server.metrics().hits()["redis_acks_max"]), (2, 1));
    until("their time is over", || metric(&server, "sockring_bus_acks_awaited"), |count| *count == 0);
}

#[test]
fn an_answer_of_too_many_bytes_is_that_of_nobody() {
    let redis = RedisServer::start(&[]);
    let server = instance_with(&redis, &[("SOCKRING_SHARDS", "1"), ("SOCKRING_REDIS_ANSWERS_BYTES_MAX", "2000")]);
    let clients: Vec<_> = (0..4).map(|number| server.client(&format!("user-{number}"))).collect();
    let mut peer = Peer::listening(&redis, &[ANSWERS]);
    let fetch = json!({"uid": "nodeAA", "requestId": "r1", "type": 5, "opts": {"rooms": [], "except": []}});
    assert_eq!(ask(&mut peer, &fetch)["sockets"].as_array().map(Vec::len), Some(4));
    let more: Vec<_> = (4..40).map(|number| server.client(&format!("user-{number}"))).collect();
    assert_eq!(ask(&mut peer, &fetch)["sockets"], json!([]));
    let rooms = json!({"uid": "nodeAA", "requestId": "r2", "type": 1});
    assert_eq!(ask(&mut peer, &rooms)["rooms"], json!([]));
    // The question itself is one.
    let long = json!({"rooms": ["r".repeat(2000)], "except": []});
    let long = json!({"uid": "nodeAA", "requestId": "r3", "type": 5, "opts": long});
    assert_eq!(ask(&mut peer, &long)["sockets"], json!([]));
    assert_eq!(server.metrics().hits()["redis_answers_bytes_max"], 3);
    assert_eq!(metric(&server, "sockring_bus_answers_bytes"), 0);
    drop((clients, more));
}

#[test]
fn questions_beyond_the_limits_are_answered_with_nobody() {
    let redis = RedisServer::start(&[]);
    let limits = [("SOCKRING_REDIS_REQUESTS_MAX", "1"), ("SOCKRING_REDIS_REQUEST_ROOMS_MAX", "2")];
    let server = instance_with(&redis, &limits);
    let mut alice = server.client("alice");
    let mut peer = Peer::listening(&redis, &[ANSWERS]);
    let rooms = json!({"rooms": ["user:alice", "a"], "except": ["b"]});
    let fetch = json!({"uid": "nodeAA", "requestId": "r1", "type": 5, "opts": rooms});
    assert_eq!(ask(&mut peer, &fetch)["sockets"], json!([]));
    let old = json!({"uid": "nodeAA", "requestId": "r2", "type": 0, "rooms": ["user:alice", "a", "b"]});
    assert_eq!(ask(&mut peer, &old)["sockets"], json!([]));
    let packet = json!({"type": 2, "data": ["question"], "nsp": "/"});
    let emit = json!({"uid": "nodeAA", "requestId": "r3", "type": 7, "packet": packet, "opts": rooms});
    assert_eq!(ask(&mut peer, &emit)["clientCount"], 0);
    alice.socket.round_trip();
    // What comes at once is more than one.
    let one = json!({"rooms": ["user:alice"], "except": []});
    let mut burst = redis::pipe();
    for number in 0..300 {
        let fetch = json!({"uid": "nodeAA", "requestId": format!("b{number}"), "type": 5, "opts": one});
        burst.cmd("PUBLISH").arg(REQUESTS).arg(fetch.to_string()).ignore();
    }
    burst.query::<()>(&mut redis.connect()).expect("Redis takes it");
    let answers: Vec<Value> = (0..300).map(|_| hear_answer(&mut peer).1).collect();
    let full = answers.iter().filter(|answer| answer["sockets"][0]["id"] == json!(alice.sid)).count();
    let hits = server.metrics().hits();
    assert_eq!((hits["redis_request_rooms_max"], hits["redis_requests_max"]), (3, 300 - full as u64));
    assert!((1..300).contains(&full), "{full}");
    assert_eq!(metric(&server, "sockring_bus_requests_refused_total"), 303 - full as u64);
}

#[test]
fn thousands_of_questions_at_once_are_all_answered() {
    let redis = RedisServer::start(&[]);
    let server = instance(&redis);
    let clients: Vec<_> = (0..50).map(|number| server.client(&format!("user-{number}"))).collect();
    let mut peer = Peer::listening(&redis, &[ANSWERS]);
    let mut burst = redis::pipe();
    for number in 0..3_000 {
        let rooms = if number % 3 == 0 { vec![] } else { vec![format!("user:user-{}", number % 50)] };
        let opts = json!({"rooms": rooms, "except": []});
        let fetch = json!({"uid": "nodeAA", "requestId": number.to_string(), "type": 5, "opts": opts});
        burst.cmd("PUBLISH").arg(REQUESTS).arg(fetch.to_string()).ignore();
    }
    burst.query::<()>(&mut redis.connect()).expect("Redis takes it");
    let mut answered = std::collections::BTreeSet::new();
    for _ in 0..3_000 {
        let answer = hear_answer(&mut peer).1;
        let number: usize = answer["requestId"].as_str().and_then(|id| id.parse().ok()).expect("one of ours");
        let sockets = answer["sockets"].as_array().expect("a list");
        match number % 3 {
            0 => assert_eq!(sockets.len(), 50),
            _ => assert_eq!((sockets.len(), &sockets[0]["id"]), (1, &json!(clients[number % 50].sid))),
        }
        answered.insert(number);
    }
    assert_eq!(answered.len(), 3_000);
}

#[test]
fn acknowledgements_beyond_the_limit_are_not_awaited() {
    let redis = RedisServer::start(&[]);
    let server = instance_with(&redis, &[("SOCKRING_SHARDS", "1"), ("SOCKRING_ACKS_PENDING_MAX", "1")]);
    let mut clients = [server.client("alice"), server.client("bob")];
    let mut peer = Peer::listening(&redis, &[ANSWERS]);
    let request = json!({
        "uid": "nodeAA", "requestId": "ack1", "type": 7,
        "packet": {"type": 2, "data": ["question"], "nsp": "/"},
        "opts": {"rooms": [], "except": [], "flags": {"timeout": 5000}},
    });
    peer.publish(REQUESTS, request.to_string());
    // Who asks waits for as many answers as this says.
    assert_eq!(hear_answer(&mut peer).1["clientCount"], 1);
    for client in &mut clients {
        assert!(client.socket.text().ends_with(r#"["question"]"#));
    }
    assert_eq!(server.metrics().hits()["acks_pending_max"], 1);
}

#[test]
fn the_status_of_a_user_comes_from_all_and_says_who_is_missing() {
    let redis = RedisServer::start(&[]);
    let servers = [instance(&redis), instance(&redis)];
    let _clients = [servers[0].client("alice"), servers[1].client("alice"), servers[1].client("alice")];
    let status = get(&servers[0], "user/alice/status");
    assert_eq!(
        status,
        json!({"userId": "alice", "connected": true, "sockets": 3, "instances": 2, "missing": 0, "kept": 0})
    );
    // One that listens and does not answer.
    let mut peer = Peer::listening(&redis, &[REQUESTS]);
    peer.publish(REQUESTS, json!({"uid": "silent", "requestId": "x", "type": 6, "data": ["hello"]}).to_string());
    peer.hear();
    let status = get(&servers[0], "user/alice/status");
    assert_eq!((&status["sockets"], &status["missing"]), (&json!(3), &json!(1)));
    assert_eq!(status["missingInstances"], json!(["silent"]));
    let (_, request) = peer.hear_json();
    assert_eq!(request["type"], 5);
    // One that answers as Node does.
    let answering = thread::spawn(move || {
        let (_, request) = peer.hear_json();
        let socket = json!({"id": "nodesocket", "handshake": {}, "rooms": ["nodesocket", "user:alice"], "data": {}});
        let answer = json!({"requestId": request["requestId"], "sockets": [socket]});
        peer.publish(ANSWERS, answer.to_string());
    });
    let status = get(&servers[0], "user/alice/status");
    answering.join().expect("the peer answers");
    assert_eq!((&status["sockets"], &status["instances"], &status["missing"]), (&json!(4), &json!(3), &json!(0)));
}

#[test]
fn the_numbers_of_all_instances_come_from_each_of_them() {
    for adapter in ["classic", "sharded", "streams"] {
        let redis = RedisServer::start(&[]);
        let [here, there] = [(); 2].map(|()| instance_with(&redis, &[("SOCKRING_REDIS_ADAPTER", adapter)]));
        let _clients = [here.client("alice"), there.client("alice"), there.client("bob")];
        let answer = get(&here, "instances");
        assert_eq!((&answer["missing"], answer.get("missingInstances")), (&json!(0), None), "{adapter}: {answer}");
        let numbers = |number: usize| {
            let instance = &answer["instances"][number];
            ["connected", "users", "websocket", "shards"].map(|name| instance[name].as_u64().expect(name))
        };
        assert_eq!((numbers(0), numbers(1)), ([1, 1, 1, 2], [2, 2, 2, 2]), "{adapter}: {answer}");
        let name = answer["instances"][1]["name"].as_str().expect("a name");
        assert!(name.ends_with(&format!(":{}", there.port())), "{name}");
        // Each names the other as the other names itself.
        let id = |answer: &Value, number: usize| answer["instances"][number]["id"].clone();
        let other = get(&there, "instances");
        assert_eq!((id(&answer, 0), id(&answer, 1)), (id(&other, 1), id(&other, 0)), "{adapter}");
    }
}

#[test]
fn who_has_no_numbers_is_missing_among_the_instances() {
    let redis = RedisServer::start(&[]);
    let server = instance(&redis);
    let mut peer = Peer::listening(&redis, &[REQUESTS]);
    let answering = thread::spawn(move || {
        let (_, request) = peer.hear_json();
        // As an instance of an older version, to which this is some server's own event.
        peer.publish(ANSWERS, json!({"type": 6, "requestId": request["requestId"], "data": null}).to_string());
        peer
    });
    let answer = get(&server, "instances");
    let _silent = answering.join().expect("the peer answers");
    assert_eq!((&answer["missing"], answer["instances"].as_array().map(Vec::len)), (&json!(0), Some(1)), "{answer}");
    let answer = get(&server, "instances");
    assert_eq!((&answer["missing"], &answer["missingInstances"]), (&json!(1), &json!([])), "{answer}");
}

#[test]
fn a_shell_is_told_when_no_instance_has_the_user_and_what_each_of_them_does() {
    let redis = RedisServer::start(&[]);
    let [here, there] = [instance(&redis), instance(&redis)];
    let mut alice = there.client("alice/\u{e9}");
    let ask =
        |arguments: &[&str]| run(arguments, &[("PORT", &here.port().to_string()), ("ACCESS_TOKEN_SECRET", SECRET)]);
    let emitted = ask(&["emit", "--user", "alice/\u{e9}", "news"]);
    assert_eq!((emitted.code, alice.event().0.as_str()), (Some(0), "news"), "{emitted:?}");
    let emitted = ask(&["emit", "--user", "bob", "news"]);
    assert_eq!(emitted.code, Some(3), "{emitted:?}");
    assert!(emitted.stdout.ends_with("the user is connected to no instance\n"), "{emitted:?}");
    // Of a room nobody knows.
    assert_eq!(ask(&["emit", "--room", "empty", "news"]).code, Some(0));
    let stats = ask(&["stats"]);
    let lines: Vec<_> = stats.stdout.lines().filter(|line| line.starts_with("instance ")).collect();
    assert!(lines.len() == 2 && lines[1].contains("  1 clients, 1 users"), "{stats:?}");
}

#[test]
fn the_users_of_another_instance_are_listed_a_part_at_a_time() {
    for adapter in ["classic", "sharded", "streams"] {
        let redis = RedisServer::start(&[]);
        let [here, there] = [(); 2].map(|()| instance_with(&redis, &[("SOCKRING_REDIS_ADAPTER", adapter)]));
        let _clients: Vec<_> = (0..12).map(|number| there.client(&format!("user {number}"))).collect();
        let _own = here.client("own");
        let instances = get(&here, "instances");
        let id = |number: usize| instances["instances"][number]["id"].as_str().expect("an id").to_owned();
        let mut users = BTreeSet::new();
        let (mut from, mut answers) = (String::new(), 0);
        loop {
            let answer = get(&here, &format!("users?limit=5&instance={}{from}", id(1)));
            let some = answer["users"].as_array().expect("a list");
            assert!(some.len() <= 5, "{answer}");
            for user in some {
                assert_eq!(user["sockets"], 1);
                assert!(
                    users.insert(user["userId"].as_str().expect("an id").to_owned()),
                    "{adapter}: {user} comes once"
                );
            }
            answers += 1;
            let Some(next) = answer["next"].as_str() else { break };
            from = format!("&from={next}");
        }
        assert_eq!(users, (0..12).map(|number| format!("user {number}")).collect());
        assert_eq!(answers, 3, "{adapter}");
        for own in ["users".to_owned(), format!("users?instance={}", id(0))] {
            let answer = get(&here, &own);
            assert_eq!(answer, json!({"users": [{"userId": "own", "sockets": 1}], "next": null}), "{adapter}");
        }
        let answer = here.connect().get(&format!("{API}/users?instance=nobody"));
        assert_eq!(answer.status, 404, "{adapter}");
    }
}
