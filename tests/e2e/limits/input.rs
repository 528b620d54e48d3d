//! Limits of what peers have begun: before a client has shown who it is, and of all of them together.

use serde_json::json;
use sockring_protocol::websocket::Opcode;

use super::LimitScene;
use crate::client::{Client, Poller, WEBSOCKET, WebSocket, frame, upgrade_request};
use crate::server::{SECRET, Server, signed, token_for, unix_ms};
use crate::until;

/// A text of this many bytes that begins like this.
fn long(begin: &str, bytes: usize) -> String {
    format!("{begin}{}", "x".repeat(bytes - begin.len()))
}

#[test]
pub fn connect_bytes_max() {
    let mut scene = LimitScene::new("connect_bytes_max", "2000", &[("SOCKRING_NAMESPACES", "/,/admin")]);
    let token = token_for("alice");
    // A message that is only announced holds nothing, and ends its client at once.
    let mut nobody = WebSocket::open(scene.server.address());
    nobody.connection.send(&frame(Opcode::Text, &vec![b'x'; 2001])[..8]);
    assert_eq!(nobody.close_code(), Some(1009));
    let mut nobody = Poller::open(scene.server.address());
    assert_eq!(nobody.post(&long("40", 2001)).status, 413);
    nobody.assert_gone(scene.server.address());
    let padded = |namespace: &str, bytes: usize| {
        let empty = format!(r#"40{namespace}{{"token":"{token}","padding":""}}"#);
        format!(r#"40{namespace}{{"token":"{token}","padding":"{}"}}"#, "x".repeat(bytes - empty.len()))
    };
    // Up to the limit it may connect, and then say more.
    let mut alice = WebSocket::open(scene.server.address());
    alice.send(&padded("", 2000));
    assert!(alice.text().starts_with("40{"));
    assert!(alice.text().starts_with(r#"42["connected","#));
    drop(alice);
    let mut alice = Client::connect(scene.server.address(), &token);
    let event = format!(r#"42["e","{}"]"#, "x".repeat(900_000));
    alice.send(&event);
    alice.socket.round_trip();
    // Who it is it says no longer than that in any namespace.
    alice.send(&padded("/admin,", 2100));
    alice.socket.close_code();
    let mut poller = Poller::connect(scene.server.address(), &token);
    assert_eq!(poller.post(&event).text(), "ok");
    scene.assert_hits(3);
    assert_eq!(scene.server.metrics().closed("payload_too_big"), 2);
}

#[test]
pub fn input_bytes_max() {
    // Memory is taken in powers of two, and a little is needed besides.
    let mut scene = LimitScene::new("input_bytes_max", "120000", &[("SOCKRING_SHARDS", "1")]);
    let address = scene.server.address();
    let event = frame(Opcode::Text, format!(r#"42["e","{}"]"#, "x".repeat(32_000)).as_bytes());
    let held = |scene: &LimitScene| scene.server.metrics().sum("sockring_input_bytes", "");
    let begin = |scene: &LimitScene, name: &str| {
        let mut client = scene.server.client(name);
        client.socket.connection.send(&event[..30_000]);
        client
    };
    let mut clients: Vec<_> = (0..3).map(|number| begin(&scene, &format!("user-{number}"))).collect();
    until("three have begun", || held(&scene), |bytes| (90_000..110_000).contains(bytes));
    // A fourth is one too many, by whichever way.
    let mut fourth = begin(&scene, "fourth");
    assert_eq!(fourth.socket.close_code(), Some(1013));
    let mut fourth = scene.server.client("fourth");
    let attachment = frame(Opcode::Binary, &vec![0; 33_000]);
    fourth.send(r#"452-["e",{"_placeholder":true,"num":0},{"_placeholder":true,"num":1}]"#);
    fourth.socket.connection.send_what_is_taken(&attachment);
    fourth.socket.close_code();
    let mut fourth = Poller::connect(address, &token_for("fourth"));
    let head = format!("POST {} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 50000\r\n\r\n", fourth.target);
    fourth.connection.send_what_is_taken(format!("{head}{}", "x".repeat(40_000)).as_bytes());
    assert_eq!(fourth.connection.answer().status, 503);
    fourth.assert_gone(address);
    // Those who had begun go on, and what was held is held no longer.
    for client in &mut clients {
        client.socket.connection.send(&event[30_000..]);
        client.socket.round_trip();
    }
    until("nothing is held", || held(&scene), |bytes| *bytes == 0);
    let mut connection = scene.server.connect();
    connection.send(&upgrade_request(WEBSOCKET)[..100]);
    until("a head has begun", || held(&scene), |bytes| (100..1000).contains(bytes));
    scene.assert_hits(3);
    assert!(scene.server.metrics().closed("input_full") >= 2);
}

#[test]
fn a_token_of_the_handshake_goes_when_it_has_been_used() {
    for (namespaces, length, outcome) in [
        ("/", 100, r#"44{"message":"Authentication token required""#),
        ("/,/admin", 100, r#"40{"sid":""#),
        ("/,/admin", 5_000, r#"44{"message":"Authentication token required""#),
    ] {
        let server = Server::start(&[("SOCKRING_NAMESPACES", namespaces)]);
        let now = unix_ms() / 1000;
        let claims = json!({"_id": "alice", "exp": now + 3600, "more": "x".repeat(length)});
        let token = signed(SECRET, &claims);
        let handshake = upgrade_request(WEBSOCKET);
        let handshake = handshake.replacen("\r\n", &format!("\r\nAuthorization: Bearer {token}\r\n"), 1);
        let mut connection = server.connect();
        connection.send(handshake);
        assert_eq!(connection.answer().status, 101);
        let mut socket = WebSocket { connection };
        assert!(socket.text().starts_with("0{"));
        // Until one was accepted it is there.
        socket.send(r#"40{"token":"wrong"}"#);
        assert!(socket.text().starts_with("44{"));
        socket.send("40");
        let text = socket.text();
        assert!(text.starts_with("40{"), "{text}");
        assert!(socket.text().starts_with(r#"42["connected","#));
        socket.send("41");
        socket.send("40");
        let text = socket.text();
        assert!(text.starts_with(outcome), "{namespaces} {length}: {text}");
    }
}
