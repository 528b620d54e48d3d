//! How it ends for clients: when their token expires, and when the server shuts down.

use std::net::TcpStream;
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::json;

use crate::client::{Client, Frame, POLLING, Poller, WEBSOCKET, WebSocket, frame, upgrade_request};
use crate::http::{Connection, request};
use crate::server::{API, SECRET, Server, data, signed, token_for, unix_ms};
use crate::until;
use sockring_protocol::engineio::OpenPacket;
use sockring_protocol::websocket::Opcode;

/// A token with this end, in Unix seconds.
fn token_until(user: &str, exp: u64) -> String {
    signed(SECRET, &json!({"_id": user, "exp": exp}))
}

/// What a CONNECT with this token gets.
fn answer_to(server: &Server, token: &str) -> String {
    let mut socket = WebSocket::open(server.address());
    socket.send(&format!(r#"40{{"token":"{token}"}}"#));
    socket.text()
}

/// Another socket of a client, with a token of its own.
#[track_caller]
fn join_admin(client: &mut Client, token: &str) {
    client.send(&format!(r#"40/admin,{{"token":"{token}"}}"#));
    assert!(client.socket.text().starts_with("40/admin,{"));
    assert!(client.socket.text().starts_with(r#"42/admin,["connected","#));
}

/// Everything up to the end, which has to come at the engine's level: no DISCONNECT, which would keep a client from coming
/// back by itself.
#[track_caller]
fn texts_until_close(socket: &mut WebSocket) -> Vec<String> {
    let mut texts = Vec::new();
    loop {
        match socket.frame() {
            Frame::Text(text) => {
                assert!(!text.starts_with("41"), "a DISCONNECT");
                texts.push(text);
            }
            Frame::Close(_) => {
                socket.connection.assert_ends();
                return texts;
            }
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn a_socket_ends_with_its_token_where_that_is_asked_for() {
    let closing = ("SOCKRING_EXPIRE_SOCKETS", "true");
    let server = Server::start(&[closing, ("SOCKRING_SHARDS", "2"), ("SOCKRING_NAMESPACES", "/,/admin")]);
    let by_default = Server::start(&[]);
    let with_leeway = Server::start(&[closing, ("SOCKRING_TOKEN_LEEWAY_S", "3600")]);
    let exp = unix_ms() / 1000 + 3;
    let token = token_until("alice", exp);
    let mut expiring = Client::connect(server.address(), &token);
    let mut polling = Poller::connect(server.address(), &token);
    let mut held = Poller::connect(server.address(), &token);
    held.connection.send(request("GET", &held.target, &[], ""));
    // The first of a client's tokens ends it.
    let mut two_tokens = server.client("alice");
    join_admin(&mut two_tokens, &token);
    // One that has left with the socket whose token expires has nothing to fear.
    let mut left = server.client("alice");
    join_admin(&mut left, &token);
    left.send("41/admin,");
    // Nor has one that has joined again with a fresh one.
    let mut renewed = server.client("alice");
    join_admin(&mut renewed, &token);
    renewed.send("41/admin,");
    join_admin(&mut renewed, &token_for("alice"));
    let mut without_exp = Client::connect(server.address(), &signed(SECRET, &json!({"_id": "alice"})));
    let mut longer = server.client("alice");
    let mut staying = [Client::connect(by_default.address(), &token), Client::connect(with_leeway.address(), &token)];

    assert_eq!(texts_until_close(&mut expiring.socket), [""; 0]);
    let closed_at = unix_ms();
    // A timer may be early by a rounding, and the machine slow.
    assert!((exp * 1000..exp * 1000 + 1500).contains(&(closed_at + 20)), "{closed_at} for a token until {exp}");
    assert_eq!(texts_until_close(&mut two_tokens.socket), [""; 0]);
    assert_eq!(held.connection.answer().text(), "1");
    assert_eq!(polling.poll(), "1");
    for poller in [&polling, &held] {
        poller.assert_gone(server.address());
    }
    assert_eq!(server.metrics().closed("token_expired"), 4);
    assert_eq!(answer_to(&server, &token), r#"44{"message":"Authentication failed","data":{"code":"token_expired"}}"#);
    assert_eq!(
        answer_to(&by_default, &token),
        r#"44{"message":"Authentication failed","data":{"code":"token_expired"}}"#
    );
    Client::connect(with_leeway.address(), &token).leave();

    assert_eq!(server.emit_to("alice", "e"), 4);
    for client in [&mut left, &mut renewed, &mut without_exp, &mut longer] {
        assert_eq!(client.event().0, "e");
    }
    assert_eq!(by_default.emit_to("alice", "e"), 1);
    assert_eq!(with_leeway.emit_to("alice", "e"), 1);
    for client in &mut staying {
        assert_eq!(client.event().0, "e");
    }
    assert_eq!(by_default.metrics().closed("token_expired"), 0);
}

#[test]
fn leeway_is_for_clocks_that_differ() {
    let strict = Server::start(&[]);
    let lenient = Server::start(&[("SOCKRING_TOKEN_LEEWAY_S", "60")]);
    let now = unix_ms() / 1000;
    let claims = |exp: u64, nbf: u64| signed(SECRET, &json!({"_id": "alice", "exp": exp, "nbf": nbf}));
    for (token, accepted) in [
        (claims(now + 100, now - 100), [true, true]),
        (claims(now - 10, now - 100), [false, true]),
        (claims(now + 100, now + 50), [false, true]),
        (claims(now - 90, now - 100), [false, false]),
        (claims(now + 900, now + 600), [false, false]),
    ] {
        let answers = [&strict, &lenient].map(|server| answer_to(server, &token).starts_with("40{"));
        assert_eq!(answers, accepted, "{token}");
    }
}

/// A server that takes this long to shut down, and the address of its API.
fn draining(seconds: &str, shards: &str) -> (Server, std::net::SocketAddr) {
    let server = Server::start(&[
        ("SOCKRING_DRAIN", seconds),
        ("SOCKRING_SHARDS", shards),
        ("SOCKRING_API_LISTEN", "127.0.0.1:0"),
    ]);
    let api = server.api_address();
    (server, api)
}

#[test]
fn while_it_drains_it_takes_nobody_and_still_delivers() {
    let (server, api) = draining("30", "2");
    // Two on each shard at least: the first of a shard is closed at once.
    let mut clients: Vec<Client> = (0..12).map(|number| server.client(&format!("user-{number}"))).collect();
    let mut engine = server.connect();
    assert_eq!(engine.get("/socket.io/?EIO=3&transport=polling").status, 400);
    let half_open = WebSocket::open(server.address());
    let mut at_clients_port = server.connect();
    assert_eq!(at_clients_port.get("/ready").status, 200);
    assert_eq!(Connection::open(api).get("/ready").status, 200);

    server.signal(Signal::TERM);
    let ready = || Connection::open(api).get("/ready");
    let answer = until("it is not ready any more", ready, |answer| answer.status != 200);
    assert_eq!((answer.status, answer.json()["status"].as_str()), (503, Some("not ready")), "{answer:?}");
    assert_eq!(Connection::open(api).get("/health").status, 200);
    // A balancer that asks at the clients' port has a connection at best.
    if let Some(answer) = {
        at_clients_port.send_what_is_taken(request("GET", "/ready", &[], "").as_bytes());
        at_clients_port.answer_or_end()
    } {
        assert_eq!(answer.status, 503);
    }
    until("no connection is accepted", || TcpStream::connect(server.address()).is_err(), |refused| *refused);
    engine.send(request("GET", POLLING, &[], ""));
    let answer = engine.answer();
    assert_eq!((answer.status, answer.header("connection")), (503, Some("close")), "{answer:?}");
    assert!(answer.header("retry-after").is_some(), "{answer:?}");

    // All are told, and those who are still there get what is sent to them.
    for client in &mut clients {
        let (event, payload) = client.event();
        assert_eq!((event.as_str(), payload["reconnectInMs"].is_u64()), ("server:shutdown", true), "{payload}");
        assert!(payload["timestamp"].is_string() && payload["server"] == "development", "{payload}");
    }
    let emit = r#"{"broadcast":true,"event":"still here"}"#;
    let delivered = data(&Connection::open(api).post(&format!("{API}/emit"), emit).json())["delivered"].as_u64();
    assert!(delivered.is_some_and(|count| (8..=12).contains(&count)), "{delivered:?}");
    // Who has not said CONNECT yet does so elsewhere.
    let mut half_open = half_open;
    half_open.send(&format!(r#"40{{"token":"{}"}}"#, token_for("late")));
    assert_eq!(texts_until_close(&mut half_open), [""; 0]);

    server.signal(Signal::HUP);
    assert_eq!(Connection::open(api).get("/health").status, 200, "a reload does not end it");
    let begun = Instant::now();
    server.signal(Signal::TERM);
    let ended = server.finish();
    assert!(begun.elapsed() < Duration::from_secs(3), "the second signal ends it at once");
    assert_eq!(ended.code, Some(1), "{ended:?}");
}

#[test]
fn clients_are_closed_evenly_and_the_process_ends_well() {
    for shards in ["1", "2"] {
        let (server, _) = draining("1.5", shards);
        let clients: Vec<Client> = (0..30).map(|number| server.client(&format!("user-{number}"))).collect();
        let begun = Instant::now();
        let readers: Vec<_> = clients
            .into_iter()
            .map(|mut client| {
                thread::spawn(move || {
                    let texts = texts_until_close(&mut client.socket);
                    (texts, begun.elapsed())
                })
            })
            .collect();
        server.signal(Signal::TERM);
        let mut ends = Vec::new();
        for reader in readers {
            let (texts, end) = reader.join().expect("it reads");
            assert!(matches!(&texts[..], [text] if text.starts_with(r#"42["server:shutdown",{"#)), "{texts:?}");
            ends.push(end);
        }
        ends.sort_unstable();
        let ended = server.finish();
        assert_eq!(ended.code, Some(0), "{ended:?}");
        assert!(begun.elapsed() < Duration::from_secs(4), "{:?}", begun.elapsed());
        // In each third of the time about a third: 10 of 30.
        for third in 0..3 {
            let within = |end: &&Duration| (end.as_secs_f64() / 0.5) as usize == third;
            let count = ends.iter().filter(within).count();
            assert!((4..=16).contains(&count), "{count} in third {third} of {ends:?}");
        }
    }
}

#[test]
fn a_polling_client_is_told_and_closed_by_its_polls() {
    for shards in ["1", "2"] {
        let (server, _) = draining("0.4", shards);
        let mut between = Poller::connect(server.address(), &token_for("between"));
        let mut held = Poller::connect(server.address(), &token_for("held"));
        held.connection.send(request("GET", &held.target, &[], ""));
        // So that the others are not the first ones, which are closed at once.
        let others: Vec<Client> = (0..4).map(|number| server.client(&format!("user-{number}"))).collect();
        server.signal(Signal::TERM);
        let told = r#"42["server:shutdown",{"#;
        let first = [held.connection.answer().text(), between.poll()];
        // The stock client drops an event that comes with the close packet: that has a poll of its own.
        let last = [held.poll(), between.poll()];
        for (first, last) in first.iter().zip(&last) {
            assert!(first.starts_with(told) && !first.contains('\u{1e}'), "{first}");
            assert_eq!(last, "1");
        }
        held.connection.assert_ends();
        between.connection.assert_ends();
        let ended = server.finish();
        assert_eq!(ended.code, Some(0), "{ended:?}");
        drop(others);
    }
}

#[test]
fn without_time_to_drain_all_are_closed_at_once() {
    let (server, _) = draining("0", "2");
    let mut clients: Vec<Client> = (0..10).map(|number| server.client(&format!("user-{number}"))).collect();
    let mut poller = Poller::connect(server.address(), &token_for("poller"));
    poller.connection.send(request("GET", &poller.target, &[], ""));
    let begun = Instant::now();
    server.signal(Signal::INT);
    for client in &mut clients {
        let texts = texts_until_close(&mut client.socket);
        assert!(matches!(&texts[..], [text] if text.starts_with(r#"42["server:shutdown",{"#)), "{texts:?}");
    }
    assert!(poller.connection.answer().text().starts_with(r#"42["server:shutdown",{"#));
    assert_eq!(poller.poll(), "1");
    assert_eq!(server.finish().code, Some(0));
    assert!(begun.elapsed() < Duration::from_secs(3), "{:?}", begun.elapsed());
}

#[test]
fn who_leaves_early_or_does_not_read_does_not_keep_it() {
    let (server, _) = draining("1", "1");
    let leaving: Vec<Client> = (0..5).map(|number| server.client(&format!("user-{number}"))).collect();
    // One never polls, one never reads, one has never sent a byte, one has begun a head.
    let _silent_poller = Poller::connect(server.address(), &token_for("poller"));
    let _silent = server.client("silent");
    let _nothing = server.connect();
    let mut begun_head = server.connect();
    begun_head.send("GET /socket.io/");
    let begun = Instant::now();
    server.signal(Signal::TERM);
    for mut client in leaving {
        client.socket.connection.send_what_is_taken(&frame(Opcode::Close, &1001_u16.to_be_bytes()));
    }
    let ended = server.finish();
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
}

#[test]
fn the_second_signal_may_be_either() {
    for (first, second) in [(Signal::INT, Signal::TERM), (Signal::TERM, Signal::INT)] {
        let (server, api) = draining("30", "1");
        let _clients = [server.client("alice"), server.client("bob")];
        server.signal(first);
        let ready = || Connection::open(api).get("/ready").status;
        until("it drains", ready, |status| *status == 503);
        let begun = Instant::now();
        server.signal(second);
        assert_eq!(server.finish().code, Some(1));
        assert!(begun.elapsed() < Duration::from_secs(3), "{:?}", begun.elapsed());
    }
}

#[test]
fn a_port_that_is_shared_goes_to_the_next_instance_while_the_first_drains() {
    let shared = |name| [("SOCKRING_INSTANCE", name), ("SOCKRING_REUSE_PORT", "true"), ("SOCKRING_SHARDS", "2")];
    let first = Server::start(&[&shared("AAA")[..], &[("SOCKRING_DRAIN", "30")]].concat());
    let _staying = [first.client("a"), first.client("b"), first.client("c"), first.client("d")];
    let port = first.port().to_string();
    // The later one of two variables counts.
    let second = Server::start(&[&shared("BBB")[..], &[("PORT", &*port)]].concat());
    assert_eq!(second.port(), first.port());
    first.signal(Signal::TERM);
    // Those who connect from now on find the second one, at the latest when the first has closed its listeners.
    until("the first takes nobody", || first.log(), |log| log.contains("closing all clients"));
    let mut came: Vec<Client> = Vec::new();
    while came.len() < 20 {
        let mut connection = Connection::open(second.address());
        connection.send_what_is_taken(upgrade_request(WEBSOCKET).as_bytes());
        match connection.answer_or_end() {
            Some(answer) if answer.status == 101 => {
                let mut socket = WebSocket { connection };
                let open = socket.text();
                if OpenPacket::decode(&open).expect("an open packet").sid.starts_with("AAA") {
                    // A shard of the first one had not heard yet that it takes nobody.
                    continue;
                }
                came.push(Client::greeted(socket, &token_for("mover")));
            }
            // The first one has said that it takes nobody.
            Some(answer) => assert_eq!(answer.status, 503, "{answer:?}"),
            None => {}
        }
    }
    assert_eq!(second.emit_to("mover", "e"), 20);
    for client in &mut came {
        assert_eq!(client.event().0, "e");
    }
    first.signal(Signal::TERM);
    assert_eq!(first.finish().code, Some(1));
}
