//! Limits of a client: how many there may be, how fast they have to be, and what they may send and have.

use serde_json::{Value, json};
use sockring_protocol::websocket::{Fin, Opcode, encode_client_frame};

use super::LimitScene;
use crate::client::{Client, MASK, POLLING, Poller, WEBSOCKET, WebSocket, frame, upgrade_request};
use crate::http::request;
use crate::server::token_for;

/// A CONNECT with a worthless token, and its answer.
const WORTHLESS: &str = r#"40{"token":"wrong"}"#;
const REFUSED: &str = r#"44{"message":"Authentication failed","data":{"code":"token_invalid"}}"#;

/// A binary event whose attachments are announced.
fn binary_event(attachments: usize) -> String {
    let places: Vec<Value> = (0..attachments).map(|number| json!({"_placeholder": true, "num": number})).collect();
    let args: Vec<Value> = [vec![Value::from("e")], places].concat();
    format!("45{attachments}-{}", Value::from(args))
}

#[test]
pub fn clients_max() {
    let mut scene = LimitScene::new("clients_max", "2", &[]);
    let alice = scene.server.client("alice");
    for handshake in [request("GET", POLLING, &[], ""), upgrade_request(WEBSOCKET)] {
        let mut connection = scene.server.connect();
        connection.send(handshake);
        let answer = connection.answer();
        assert_eq!((answer.status, answer.header("retry-after")), (503, Some("5")), "{answer:?}");
        connection.assert_ends();
    }
    assert_eq!(scene.server.connect().get("/ready").status, 503);
    scene.assert_hits(2);
    // There is room again when one has left.
    alice.leave();
    assert_eq!(scene.server.connect().get("/ready").status, 200);
    scene.server.client("bob").leave();
    scene.assert_hits(2);
}

#[test]
pub fn user_connections_max() {
    for shards in ["1", "3"] {
        let others = [("SOCKRING_NAMESPACES", "/,/admin"), ("SOCKRING_SHARDS", shards)];
        let mut scene = LimitScene::new("user_connections_max", "2", &others);
        let connect = |namespace: &str| format!(r#"40{namespace}{{"token":"{}"}}"#, token_for("alice"));
        let mut first = scene.server.client("alice");
        let second = Poller::connect(scene.server.address(), &token_for("alice"));
        for _ in 0..2 {
            let mut third = WebSocket::open(scene.server.address());
            third.send(&connect(""));
            assert_eq!(third.text(), r#"44{"message":"Too many connections","data":{"code":"too_many"}}"#);
            // Its session goes on, and another user is another matter.
            Client::greeted(third, &token_for("carol")).leave();
        }
        // In another namespace they are counted by themselves.
        first.send(&connect("/admin,"));
        assert!(first.socket.text().starts_with("40/admin,{"));
        assert!(first.socket.text().starts_with(r#"42/admin,["connected","#));
        assert_eq!(scene.server.emit_to("alice", "to both"), 2);
        assert_eq!(first.event().0, "to both");
        scene.assert_hits(2);
        first.leave();
        scene.server.client("alice").leave();
        scene.assert_hits(2);
        drop(second);
    }
}

#[test]
pub fn connect_timeout_ms() {
    let mut scene = LimitScene::new("connect_timeout_ms", "700", &[]);
    let mut socket = WebSocket::open(scene.server.address());
    let poller = Poller::open(scene.server.address());
    // A CONNECT that is refused is none.
    socket.send(WORTHLESS);
    assert_eq!(socket.text(), REFUSED);
    let mut alice = scene.server.client("alice");
    socket.close_code();
    scene.assert_hits(2);
    assert_eq!(scene.server.metrics().closed("connect_timeout"), 2);
    assert_eq!(scene.server.connect().get(&poller.target).text(), "1");
    poller.assert_gone(scene.server.address());
    // Who has said it may stay.
    alice.socket.round_trip();
}

#[test]
pub fn upgrade_timeout_ms() {
    let mut scene = LimitScene::new("upgrade_timeout_ms", "150", &[]);
    let mut poller = Poller::connect(scene.server.address(), &token_for("alice"));
    let target = poller.target.replace("polling", "websocket");
    let mut probe = WebSocket::upgrade(scene.server.connect(), &target).expect("101");
    probe.send("2probe");
    assert_eq!(probe.text(), "3probe");
    probe.close_code();
    // Polling goes on, and so may another attempt.
    assert_eq!(scene.server.emit_to("alice", "e"), 1);
    let payload = poller.poll();
    assert!(payload == r#"42["e"]"# || (payload == "6" && poller.poll() == r#"42["e"]"#), "{payload}");
    let mut probe = WebSocket::upgrade(scene.server.connect(), &target).expect("101");
    probe.send("2probe");
    assert_eq!(probe.text(), "3probe");
    probe.send("5");
    probe.round_trip();
    assert_eq!(scene.server.emit_to("alice", "by websocket"), 1);
    assert_eq!(probe.text(), r#"42["by websocket"]"#);
    scene.assert_hits(1);
}

#[test]
pub fn message_timeout_ms() {
    let mut scene = LimitScene::new("message_timeout_ms", "200", &[]);
    let mut half_a_frame = scene.server.client("alice");
    half_a_frame.socket.connection.send(&frame(Opcode::Text, b"42[\"a\"]")[..8]);
    let mut a_fragment = scene.server.client("alice");
    let mut bytes = Vec::new();
    encode_client_frame(Opcode::Text, Fin::More, MASK, b"42[", &mut bytes);
    a_fragment.socket.connection.send(&bytes);
    let mut no_attachment = scene.server.client("alice");
    no_attachment.send(&binary_event(2));
    no_attachment.socket.connection.send(frame(Opcode::Binary, b"one"));
    assert_eq!(half_a_frame.socket.close_code(), Some(1008));
    assert_eq!(a_fragment.socket.close_code(), Some(1008));
    no_attachment.socket.close_code();
    let mut in_time = scene.server.client("alice");
    in_time.send(&binary_event(1));
    in_time.socket.connection.send(frame(Opcode::Binary, b"one"));
    scene.assert_hits(3);
    assert_eq!(scene.server.metrics().closed("message_timeout"), 3);
    in_time.socket.round_trip();
}

#[test]
pub fn payload_bytes_max() {
    let mut scene = LimitScene::new("payload_bytes_max", "2000", &[]);
    let event = |bytes: usize| format!(r#"42["e","{}"]"#, "x".repeat(bytes - r#"42["e",""]"#.len()));
    let mut client = scene.server.client("alice");
    client.send(&event(2000));
    client.socket.round_trip();
    client.send(&event(2001));
    assert_eq!(client.socket.close_code(), Some(1009));

    // An attachment may not do what its message may not; nor may all of them together.
    let mut client = scene.server.client("alice");
    client.send(&binary_event(3));
    client.socket.connection.send(frame(Opcode::Binary, &[0; 1000]).repeat(3));
    client.socket.close_code();

    let mut poller = Poller::connect(scene.server.address(), &token_for("alice"));
    assert_eq!(poller.post(&event(2000)).text(), "ok");
    assert_eq!(poller.post(&event(2001)).status, 413);
    poller.assert_gone(scene.server.address());
    let mut poller = Poller::connect(scene.server.address(), &token_for("alice"));
    let chunked = request("GET", &poller.target, &["Transfer-Encoding: chunked"], "").replacen("GET", "POST", 1);
    poller.connection.send_what_is_taken(format!("{chunked}7d1\r\n{}\r\n0\r\n\r\n", event(2001)).as_bytes());
    assert_eq!(poller.connection.answer().status, 413);
    poller.assert_gone(scene.server.address());
    scene.assert_hits(4);
    assert_eq!(scene.server.metrics().closed("payload_too_big"), 2);
}

#[test]
pub fn payload_packets_max() {
    let mut scene = LimitScene::new("payload_packets_max", "3", &[]);
    let mut poller = Poller::connect(scene.server.address(), &token_for("alice"));
    assert_eq!(poller.post("42[\"a\"]\u{1e}42[\"b\"]\u{1e}42[\"c\"]").text(), "ok");
    assert_eq!(poller.post("42[\"a\"]\u{1e}42[\"b\"]\u{1e}42[\"c\"]\u{1e}42[\"d\"]").status, 400);
    poller.assert_gone(scene.server.address());
    scene.assert_hits(1);
}

#[test]
pub fn fragments_max() {
    let mut scene = LimitScene::new("fragments_max", "3", &[]);
    let message = |fragments: usize| {
        let mut bytes = Vec::new();
        for number in 0..fragments {
            let opcode = if number == 0 { Opcode::Text } else { Opcode::Continuation };
            let fin = if number + 1 == fragments { Fin::Last } else { Fin::More };
            let text: &[u8] = if number == 0 { b"42[\"a\"]" } else { b" " };
            encode_client_frame(opcode, fin, MASK, text, &mut bytes);
        }
        bytes
    };
    let mut client = scene.server.client("alice");
    client.socket.connection.send(message(3));
    client.socket.round_trip();
    client.socket.connection.send(message(4));
    assert_eq!(client.socket.close_code(), Some(1008));
    scene.assert_hits(1);
}

#[test]
pub fn attachments_max() {
    let mut scene = LimitScene::new("attachments_max", "2", &[]);
    let mut client = scene.server.client("alice");
    client.send(&binary_event(2));
    client.socket.connection.send(frame(Opcode::Binary, b"x").repeat(2));
    client.socket.round_trip();
    client.send(&binary_event(3));
    client.socket.close_code();
    let mut poller = Poller::connect(scene.server.address(), &token_for("alice"));
    poller.post(&binary_event(3));
    assert_eq!(scene.server.connect().get(&poller.target).text(), "1");
    poller.assert_gone(scene.server.address());
    scene.assert_hits(2);
}

#[test]
pub fn namespaces_per_client_max() {
    let mut scene = LimitScene::new("namespaces_per_client_max", "2", &[("SOCKRING_NAMESPACES", "/,/a,/b,/c")]);
    let mut client = scene.server.client("alice");
    let connect = |namespace: &str| format!(r#"40{namespace},{{"token":"{}"}}"#, token_for("alice"));
    client.send(&connect("/a"));
    assert!(client.socket.text().starts_with("40/a,{"));
    assert!(client.socket.text().starts_with(r#"42/a,["connected","#));
    client.send(&connect("/b"));
    assert_eq!(client.socket.text(), r#"44/b,{"message":"Too many namespaces","data":{"code":"too_many"}}"#);
    // The session goes on; and when one is left, another may be joined.
    client.send("41/a,");
    client.send(&connect("/c"));
    assert!(client.socket.text().starts_with("40/c,{"));
    scene.assert_hits(1);
}

#[test]
pub fn rooms_per_socket_max() {
    // The user's own room is one of them.
    let mut scene = LimitScene::new("rooms_per_socket_max", "3", &[]);
    let mut alice = scene.server.client("alice");
    let change = |route: &str, room: &str| {
        let changed = scene.server.post(route, &json!({"user": "alice", "room": room}));
        changed["sockets"].as_u64().expect("a count")
    };
    let emit = |room: &str| scene.server.emit(&json!({"room": room, "event": format!("to {room}")}));
    assert_eq!((change("rooms/join", "a"), change("rooms/join", "b"), change("rooms/join", "c")), (1, 1, 0));
    assert_eq!((emit("a"), emit("b"), emit("c"), scene.server.emit_to("alice", "to alice")), (1, 1, 0, 1));
    // Being in it already takes no room.
    assert_eq!((change("rooms/join", "b"), change("rooms/leave", "a"), change("rooms/join", "c")), (1, 1, 1));
    assert_eq!((emit("a"), emit("c")), (0, 1));
    for event in ["to a", "to b", "to alice", "to c"] {
        assert_eq!(alice.event().0, event);
    }
    scene.assert_hits(1);
}

#[test]
pub fn events_per_second_max() {
    let mut scene = LimitScene::new("events_per_second_max", "20", &[]);
    // Twice as many and two more: at most one second ends between them.
    let flood = frame(Opcode::Text, b"42[\"joinRoom\",{}]").repeat(42);
    let noops = frame(Opcode::Text, b"6").repeat(42);
    for bytes in [flood, noops] {
        let mut client = scene.server.client("alice");
        client.socket.connection.send(&bytes);
        client.socket.close_code();
    }
    let mut poller = Poller::connect(scene.server.address(), &token_for("alice"));
    let status = poller.post(&["42[\"joinRoom\",{}]"; 42].join("\u{1e}")).status;
    assert!(status == 200 || status == 400, "{status}");
    assert_eq!(scene.server.connect().get(&poller.target).text(), "1");
    poller.assert_gone(scene.server.address());
    scene.assert_hits(3);
    assert_eq!(scene.server.metrics().closed("too_many_events"), 3);
    // As many as may be.
    let mut client = scene.server.client("alice");
    client.socket.connection.send(frame(Opcode::Text, b"42[\"joinRoom\",{}]").repeat(19));
    client.socket.round_trip();
    scene.assert_hits(3);
}

#[test]
pub fn connect_refusals_max() {
    let mut scene = LimitScene::new("connect_refusals_max", "3", &[]);
    let refuse = |socket: &mut WebSocket| {
        socket.send(WORTHLESS);
        assert_eq!(socket.text(), REFUSED);
    };
    let mut socket = WebSocket::open(scene.server.address());
    (0..2).for_each(|_| refuse(&mut socket));
    // To ask for a namespace that there is not is another matter, and one that is accepted begins the count anew.
    for _ in 0..5 {
        socket.send("40/none,");
        assert_eq!(socket.text(), r#"44/none,{"message":"Invalid namespace"}"#);
    }
    let mut client = Client::greeted(socket, &token_for("alice"));
    client.send("41");
    (0..3).for_each(|_| refuse(&mut client.socket));
    client.socket.close_code();

    let mut poller = Poller::open(scene.server.address());
    let packets = [WORTHLESS, WORTHLESS, WORTHLESS, &format!(r#"40{{"token":"{}"}}"#, token_for("alice"))];
    assert_eq!(poller.post(&packets.join("\u{1e}")).text(), "ok");
    assert_eq!(poller.poll(), [REFUSED; 3].join("\u{1e}"));
    assert_eq!(poller.poll(), "1");
    poller.assert_gone(scene.server.address());
    scene.assert_hits(2);
    let metrics = scene.server.metrics();
    assert_eq!(metrics.closed("too_many_refusals"), 2);
    let refused = |reason: &str| metrics.sum("sockring_connects_refused_total", &format!("reason=\"{reason}\""));
    assert_eq!((refused("token_invalid"), refused("unknown_namespace"), refused("token_missing")), (8, 5, 0));
}

#[test]
fn a_client_may_ask_for_all_namespaces_with_the_same_worthless_token() {
    let mut scene = LimitScene::new("connect_refusals_max", "2", &[("SOCKRING_NAMESPACES", "/,/a")]);
    let mut socket = WebSocket::open(scene.server.address());
    for _ in 0..2 {
        for namespace in ["", "/a,"] {
            socket.send(&format!(r#"40{namespace}{{"token":"wrong"}}"#));
            assert!(socket.text().starts_with(&format!(r#"44{namespace}{{"message""#)));
        }
    }
    socket.close_code();
    scene.assert_hits(1);
}
