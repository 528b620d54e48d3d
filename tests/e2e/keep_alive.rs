//! One TCP connection for everything: the page, polling and the API in turn, pipelined, with bodies of all framings, and
//! with peers that take their time.

use std::io::Write;
use std::net::SocketAddr;
use std::time::Duration;

use serde_json::Value;
use socket2::{Domain, Socket, Type};

use crate::client::{WebSocket, upgrade_request};
use crate::http::{Connection, request};
use crate::server::{API, Server, data, token_for};
use crate::until;

const JSON: &str = "Content-Type: application/json";
const HANDSHAKE: &str = "/socket.io/?EIO=4&transport=polling";

fn post(target: &str, headers: &[&str], body: &str) -> String {
    request("POST", target, &[&[JSON], headers].concat(), body)
}

/// The sid in a polling handshake's answer.
fn sid_of(body: &[u8]) -> String {
    let open: Value = serde_json::from_slice(&body[1..]).expect("an open packet");
    open["sid"].as_str().expect("a sid").to_owned()
}

/// A polling session of this user on this connection, greeted; its requests' target.
fn session(connection: &mut Connection, user: &str) -> String {
    let target = format!("{HANDSHAKE}&sid={}", sid_of(&connection.get(HANDSHAKE).body));
    connection.send(request("POST", &target, &[], &format!(r#"40{{"token":"{}"}}"#, token_for(user))));
    assert_eq!(connection.answer().text(), "ok");
    let greeting = connection.get(&target).text();
    assert!(greeting.starts_with("40{\"sid\":") && greeting.contains("42[\"connected\","), "{greeting}");
    target
}

#[test]
fn a_connection_changes_between_page_polling_and_api_as_often_as_it_likes() {
    let server = Server::start(&[]);
    let mut connection = server.connect();
    assert_eq!(connection.get("/").status, 200);
    let target = session(&mut connection, "alice");
    for round in 0..20 {
        let emit = format!(r#"{{"user":"alice","event":"e{round}"}}"#);
        let answer = connection.post(&format!("{API}/emit"), &emit);
        assert_eq!(data(&answer.json())["delivered"], 1);
        assert_eq!(connection.get(&target).text(), format!(r#"42["e{round}"]"#));
        assert_eq!(connection.get("/health").status, 200);
        connection.send(request("POST", &target, &[], "42[\"hello\"]"));
        assert_eq!(connection.answer().text(), "ok");
    }
    // At last it becomes a WebSocket: another client's.
    let socket = WebSocket::upgrade(connection, "/socket.io/?EIO=4&transport=websocket");
    assert!(socket.expect("101").text().starts_with("0{"));
}

#[test]
fn pipelined_requests_are_answered_in_order_whoever_serves_them() {
    let server = Server::start(&[]);
    let mut connection = server.connect();
    let target = session(&mut connection, "alice");
    let emit = |event: &str| post(&format!("{API}/emit"), &[], &format!(r#"{{"user":"alice","event":"{event}"}}"#));
    let requests = [
        emit("one"),
        request("GET", &target, &[], ""),
        request("GET", "/health", &[], ""),
        request("GET", HANDSHAKE, &[], ""),
        request("GET", "/socket.io/?EIO=3&transport=polling", &[], ""),
        emit("two"),
        request("HEAD", "/ready", &[], ""),
        request("GET", &target, &[], ""),
        request("POST", &target, &[], "42[\"x\"]"),
        request("GET", "/nothing", &[], ""),
        upgrade_request("/socket.io/?EIO=4&transport=websocket"),
    ];
    connection.send(requests.concat());
    assert_eq!(connection.answer().status, 200);
    assert_eq!(connection.answer().text(), r#"42["one"]"#);
    assert_eq!(connection.answer().text(), r#"{"status":"ok"}"#);
    assert!(connection.answer().text().starts_with("0{"));
    assert_eq!(connection.answer().text(), r#"{"code":5,"message":"Unsupported protocol version"}"#);
    assert_eq!(connection.answer().status, 200);
    assert_eq!(connection.answer_to_head().status, 200);
    assert_eq!(connection.answer().text(), r#"42["two"]"#);
    assert_eq!(connection.answer().text(), "ok");
    assert_eq!(connection.answer().status, 404);
    assert_eq!(connection.answer().status, 101);
    assert!(WebSocket { connection }.text().starts_with("0{"));
}

#[test]
fn pipelined_requests_in_single_bytes_are_answered_too() {
    let server = Server::start(&[]);
    let mut connection = server.connect();
    let requests = [
        request("GET", "/health", &[], ""),
        post(&format!("{API}/emit"), &[], r#"{"user":"nobody","event":"e"}"#),
        request("GET", HANDSHAKE, &[], ""),
        request("GET", "/health", &[], ""),
    ];
    requests.concat().bytes().for_each(|byte| connection.send([byte]));
    for _ in 0..4 {
        assert_eq!(connection.answer().status, 200);
    }
}

/// A connection whose peer takes little at a time and has little on its way.
fn narrow(address: SocketAddr) -> Connection {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None).expect("a socket");
    socket.set_recv_buffer_size(4096).expect("a small window");
    socket.set_send_buffer_size(64 << 10).expect("a small buffer");
    socket.connect(&address.into()).expect("the server accepts");
    Connection::of(socket.into())
}

#[test]
fn answers_behind_one_that_is_still_being_sent_are_not_lost() {
    // More than the kernel takes off our hands for one socket.
    const LARGE: usize = 8 << 20;
    let server =
        Server::start(&[("SOCKRING_QUEUE_BYTES_MAX", "20000000"), ("SOCKRING_API_BODY_BYTES_MAX", "20000000")]);
    let mut connection = narrow(server.address());
    let target = session(&mut connection, "alice");
    let large = format!(r#"{{"user":"alice","event":"e","data":"{}"}}"#, "x".repeat(LARGE));
    assert_eq!(server.connect().post(&format!("{API}/emit"), &large).status, 200);
    // Nothing is read meanwhile, so the answer to this one is on its way for as long as the test likes.
    connection.send(request("GET", &target, &[], ""));
    until("the answer is being sent", || server.held().queued_bytes, |bytes| *bytes == 0);
    connection.send([request("GET", HANDSHAKE, &[], ""), request("GET", "/health", &[], "")].concat());
    // The worker has turned since, so it has seen these, whether it answers them now or when it can.
    for _ in 0..3 {
        server.held();
    }
    assert_eq!(connection.answer().body.len(), LARGE + r#"42["e",""]"#.len());
    assert!(connection.answer().text().starts_with("0{"));
    assert_eq!(connection.answer().text(), r#"{"status":"ok"}"#);
}

#[test]
fn who_pipelines_and_does_not_read_is_not_read_any_further() {
    // What the kernel holds on its way is less: at most 6 MiB for the receiver unless it is told otherwise.
    const TAKEN_MAX: usize = 16 << 20;
    let server = Server::start(&[]);
    for target in ["/socket.io/?EIO=4", "/health"] {
        let mut connection = narrow(server.address());
        connection.stream.set_write_timeout(Some(Duration::from_secs(2))).expect("a timeout can be set");
        let requests = request("GET", target, &[], "").repeat(1000);
        let mut taken = 0;
        while let Ok(count @ 1..) = connection.stream.write(requests.as_bytes()) {
            taken += count;
            assert!(
                taken < TAKEN_MAX,
                "{taken} bytes of requests for {target} were taken without an answer being read"
            );
        }
    }
}

#[test]
fn bodies_of_every_framing() {
    let server = Server::start(&[]);
    let mut alice = server.client("alice");
    let mut connection = server.connect();
    let target = format!("{API}/emit");
    let body = r#"{"user":"alice","event":"e"}"#;
    let (first, rest) = body.split_at(5);
    let chunks = format!("5\r\n{first}\r\n{:X};ext=1\r\n{rest}\r\n0\r\n\r\n", rest.len());
    let chunked = |headers: &[&str]| {
        let headers = [&[JSON, "Transfer-Encoding: chunked"], headers].concat();
        request("GET", &target, &headers, "").replacen("GET", "POST", 1)
    };
    connection.send([chunked(&[]).as_str(), chunks.as_str()].concat());
    assert_eq!(connection.answer().status, 200);

    // The body comes only once it is asked for.
    let expecting = post(&target, &["Expect: 100-continue"], body);
    let (head, body) = expecting.split_at(expecting.len() - body.len());
    connection.send(head);
    assert_eq!(connection.answer().status, 100);
    connection.send(body);
    assert_eq!(connection.answer().status, 200);

    connection.send(chunked(&["Expect: 100-continue"]));
    assert_eq!(connection.answer().status, 100);
    connection.send(chunks);
    assert_eq!(connection.answer().status, 200);

    for _ in 0..3 {
        assert_eq!(alice.event().0, "e");
    }
}

#[test]
fn a_body_over_the_limit_is_413_whatever_of_it_is_sent() {
    let server = Server::start(&[("SOCKRING_API_BODY_BYTES_MAX", "1024"), ("SOCKRING_PAYLOAD_BYTES_MAX", "1024")]);
    let to_api = || format!("{API}/emit");
    let to_session = || format!("{HANDSHAKE}&sid={}", sid_of(&server.connect().get(HANDSHAKE).body));
    let long = "x".repeat(200_000);
    for target in [&to_api as &dyn Fn() -> String, &to_session] {
        for (headers, body) in [
            (&["Content-Length: 999999"][..], ""),
            // Nobody is asked for what is refused already.
            (&["Content-Length: 999999", "Expect: 100-continue"], ""),
            (&["Content-Length: 999999"], &long),
            (&["Transfer-Encoding: chunked"], &format!("{:x}\r\n{long}\r\n0\r\n\r\n", long.len())),
        ] {
            let mut connection = server.connect();
            let head = request("GET", &target(), &[&[JSON], headers].concat(), "").replacen("GET", "POST", 1);
            connection.send_what_is_taken(head.as_bytes());
            connection.send_what_is_taken(body.as_bytes());
            let answer = connection.answer();
            assert_eq!((answer.status, answer.header("connection")), (413, Some("close")), "{headers:?}: {answer:?}");
            connection.assert_ends();
        }
    }
    // The limit itself is allowed.
    let event = format!(r#"{{"user":"nobody","event":"e","data":"{}"}}"#, "x".repeat(1024 - 39));
    assert_eq!(event.len(), 1024);
    assert_eq!(server.connect().post(&format!("{API}/emit"), &event).status, 200);
    assert_eq!(server.connect().post(&format!("{API}/emit"), &format!("{event} ")).status, 413);
}

#[test]
fn who_takes_too_long_is_closed() {
    let server = Server::start(&[
        ("SOCKRING_HEAD_TIMEOUT_MS", "150"),
        ("SOCKRING_BODY_TIMEOUT_MS", "150"),
        ("SOCKRING_IDLE_TIMEOUT_MS", "1500"),
    ]);
    let descriptors = server.idle_descriptors();
    let mut head = server.connect();
    head.send("GET /hea");
    let answer = head.answer();
    assert_eq!((answer.status, answer.header("connection")), (408, Some("close")), "{answer:?}");
    head.assert_ends();

    // The same behind a request that the API has answered, and for a body: an answer or none, but the end.
    let mut later = server.connect();
    assert_eq!(later.get("/health").status, 200);
    later.send("GET /hea");
    assert!(later.answer_or_end().is_none_or(|answer| answer.status == 408));
    later.assert_ends();
    let mut body = server.connect();
    let whole = post(&format!("{API}/emit"), &[], r#"{"user":"alice"}"#);
    body.send(&whole[..whole.len() - 1]);
    assert!(body.answer_or_end().is_none_or(|answer| answer.status == 408));
    body.assert_ends();

    // Between requests there is more time, before the first one too.
    for mut idle in [server.connect(), server.connect()] {
        idle.assert_ends();
    }
    drop((head, later, body));
    server.assert_empties_to(&descriptors);
}
