//! `Client` and `Server`, byte by byte and on virtual time: what one says the other hears, and how either gives up.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

use sockring_protocol::Millis;
use sockring_protocol::client::{Client, ClientEnd, ClientEvent, ClientSettings};
use sockring_protocol::engineio::{SessionEnd, SessionTimes, Transport};
use sockring_protocol::http::{ClientRequest, KeepAlive, RequestError};
use sockring_protocol::server::{ConnectionId, OwnedData, SendError, Server, ServerEvent, ServerSettings, SessionId};
use sockring_protocol::websocket::{FrameError, HandshakeError, MessageLimits};

const START: Millis = Millis(5_000);

struct Pair {
    server: Server,
    client: Client,
    connection: ConnectionId,
    now: Millis,
    at_server: Vec<ServerEvent>,
    at_client: Vec<ClientEvent>,
    is_cut: bool,
}

impl Pair {
    fn new(server: ServerSettings, client: ClientSettings) -> Pair {
        let mut server = Server::new(server, || [3; 15]);
        let connection = server.accept();
        let client = Client::connect(client, [8; 16]);
        let mut pair =
            Pair { server, client, connection, now: START, at_server: vec![], at_client: vec![], is_cut: false };
        pair.exchange();
        pair
    }

    /// Bytes go both ways, one at a time, until nobody has any.
    fn exchange(&mut self) {
        loop {
            let from_client = self.client.transmit();
            for byte in &from_client {
                self.at_server.extend(self.server.receive(self.connection, &[*byte], self.now));
            }
            let from_server = self.server.transmit();
            if from_server.is_none() && from_client.is_empty() {
                return;
            }
            if let Some(sent) = from_server {
                assert_eq!(sent.connection, self.connection);
                for byte in &sent.bytes {
                    self.at_client.extend(self.client.receive(&[*byte], self.now));
                }
                self.is_cut |= sent.then == KeepAlive::Close;
            }
        }
    }

    fn pass(&mut self, to: Millis) {
        self.now = to;
        self.at_server.extend(self.server.expire(to));
        self.exchange();
        self.at_client.extend(self.client.expire(to));
    }

    fn session(&mut self) -> SessionId {
        match self.at_server.drain(..).next() {
            Some(ServerEvent::Opened { session, transport: Transport::WebSocket }) => session,
            other => panic!("{other:?}"),
        }
    }
}

fn text(text: &str) -> OwnedData {
    OwnedData::Text(text.into())
}

#[test]
fn messages_go_both_ways_as_they_are() {
    let mut pair = Pair::new(ServerSettings::default(), ClientSettings::default());
    let session = pair.session();
    let opened = ClientEvent::Opened {
        sid: "AwMDAwMDAwMDAwMDAwMD".into(),
        ping_interval_ms: 25_000,
        ping_timeout_ms: 20_000,
        payload_bytes_max: 1_000_000,
    };
    assert_eq!(std::mem::take(&mut pair.at_client), [opened]);
    for message in [text("0"), text("2[\"µ\"]"), OwnedData::Binary(vec![0, 0xff, 4]), text(&"x".repeat(70_000))] {
        pair.client.send(message.clone()).unwrap();
        pair.exchange();
        assert_eq!(
            pair.at_server.drain(..).collect::<Vec<_>>(),
            [ServerEvent::Message { session, message: message.clone() }]
        );
        pair.server.send(session, message.clone(), pair.now).unwrap();
        pair.exchange();
        assert_eq!(pair.at_client.drain(..).collect::<Vec<_>>(), [ClientEvent::Message(message)]);
    }
}

#[test]
fn a_session_lives_by_its_pings() {
    let mut pair = Pair::new(ServerSettings::default(), ClientSettings::default());
    assert_eq!((pair.server.deadline(), pair.client.deadline()), (START + 25_000, START + 45_000));
    for round in 1..=100 {
        let at = pair.server.deadline();
        assert_eq!(at, START + round * 25_000);
        pair.pass(at);
        // The pong has come in the same moment, and the client's patience begins anew.
        assert_eq!((pair.server.deadline(), pair.client.deadline()), (at + 25_000, at + 45_000));
    }
    assert_eq!((pair.at_server.len(), pair.at_client.len()), (1, 1), "nothing but the opening was told");
}

#[test]
fn each_gives_up_one_that_is_silent() {
    let mut pair = Pair::new(ServerSettings::default(), ClientSettings::default());
    let session = pair.session();
    pair.at_client.clear();
    assert_eq!(pair.client.expire(START + 44_999), []);
    assert_eq!(pair.client.expire(START + 45_000), [ClientEvent::Closed(ClientEnd::PingTimeout)]);
    assert_eq!((pair.client.deadline(), pair.client.send("a")), (Millis::NEVER, Err(SendError::Closed)));
    // Its pings are not answered now.
    assert_eq!(pair.server.expire(START + 25_000), []);
    assert_eq!(pair.server.deadline(), START + 45_000);
    let end = ServerEvent::Closed { session, end: SessionEnd::PingTimeout };
    assert_eq!(pair.server.expire(START + 45_000), [end]);
    assert_eq!(pair.server.send(session, text("a"), START + 45_000), Err(SendError::Closed));
    assert_eq!(pair.server.transmit().map(|sent| sent.then), Some(KeepAlive::Close));
    assert_eq!((pair.server.transmit(), pair.server.deadline()), (None, Millis::NEVER));
}

#[test]
fn either_may_close() {
    let mut pair = Pair::new(ServerSettings::default(), ClientSettings::default());
    let session = pair.session();
    pair.at_client.clear();
    pair.server.close(session);
    pair.exchange();
    assert_eq!((pair.at_client, pair.at_server), (vec![ClientEvent::Closed(ClientEnd::CloseFrame(None))], vec![]));
    assert!(pair.is_cut);

    let mut pair = Pair::new(ServerSettings::default(), ClientSettings::default());
    let session = pair.session();
    pair.client.close();
    pair.exchange();
    assert_eq!(pair.at_server, [ServerEvent::Closed { session, end: SessionEnd::TransportClose }]);
    assert!(pair.is_cut);
}

#[test]
fn the_end_of_tcp_is_the_end() {
    let mut pair = Pair::new(ServerSettings::default(), ClientSettings::default());
    let session = pair.session();
    let end = ServerEvent::Closed { session, end: SessionEnd::TransportClose };
    assert_eq!(pair.server.lose(pair.connection, START + 1), [end]);
    assert_eq!((pair.server.transmit(), pair.server.deadline()), (None, Millis::NEVER));
    assert_eq!(pair.server.receive(pair.connection, b"GET", START + 2), [], "it means nothing any more");
}

#[test]
fn limits_end_what_exceeds_them() {
    let small = MessageLimits { message_bytes_max: 200, ..MessageLimits::default() };
    let mut pair = Pair::new(ServerSettings { message: small, ..ServerSettings::default() }, ClientSettings::default());
    let session = pair.session();
    pair.at_client.clear();
    pair.client.send("x".repeat(200)).unwrap();
    pair.exchange();
    assert_eq!(pair.at_server, [ServerEvent::Closed { session, end: SessionEnd::ParseError }]);
    assert_eq!(pair.at_client, [ClientEvent::Closed(ClientEnd::CloseFrame(Some(1009)))]);

    let mut pair = Pair::new(ServerSettings::default(), ClientSettings { message: small, ..ClientSettings::default() });
    let session = pair.session();
    pair.at_client.clear();
    pair.server.send(session, text(&"x".repeat(200)), START).unwrap();
    pair.exchange();
    assert_eq!(pair.at_client, [ClientEvent::Closed(ClientEnd::Frame(FrameError::MessageTooBig))]);
    assert_eq!(pair.at_server, [ServerEvent::Closed { session, end: SessionEnd::TransportClose }]);

    // One that polls and does not come: what waits is bounded.
    let settings = ServerSettings { queue_bytes_max: 10, ..ServerSettings::default() };
    let mut server = Server::new(settings, || [3; 15]);
    let connection = server.accept();
    let request = b"GET /socket.io/?EIO=4&transport=polling HTTP/1.1\r\nHost: a\r\n\r\n";
    let events = server.receive(connection, request, START);
    let [ServerEvent::Opened { session, .. }] = events[..] else { panic!("{events:?}") };
    assert_eq!(server.send(session, text("12345"), START), Ok(()));
    assert_eq!(server.send(session, text("1234"), START), Err(SendError::QueueFull));
    assert_eq!(server.send(session, text("123"), START), Ok(()));
}

#[test]
fn a_client_is_told_why_it_is_not_let_in() {
    let rows = [
        ("/elsewhere", ClientEnd::Handshake(HandshakeError::Status(404))),
        ("/socket.io/?EIO=4&transport=polling", ClientEnd::Handshake(HandshakeError::Status(400))),
        ("/socket.io/?EIO=3&transport=websocket", ClientEnd::Handshake(HandshakeError::Status(400))),
        ("/socket.io/?EIO=4&transport=websocket&sid=none", ClientEnd::Handshake(HandshakeError::Status(400))),
    ];
    for (target, expected) in rows {
        let client = ClientSettings { target: target.into(), ..ClientSettings::default() };
        let pair = Pair::new(ServerSettings::default(), client);
        assert_eq!((pair.at_client, pair.at_server), (vec![ClientEvent::Closed(expected)], vec![]), "{target}");
    }
    let mut client = Client::connect(ClientSettings::default(), [8; 16]);
    let end = ClientEvent::Closed(ClientEnd::Http(RequestError::VersionUnsupported));
    assert_eq!(client.receive(b"SSH-2.0-OpenSSH\r\n\r\n", START), [end]);
}

/// The reference's refusals, code by code (engine.io 6.6, `Server.errors`).
#[test]
fn requests_are_refused_as_by_the_reference() {
    let rows = [
        ("GET", "/socket.io/?EIO=4", 0),
        ("GET", "/socket.io/?EIO=4&transport=tcp", 0),
        ("GET", "/socket.io/?EIO=4&transport=polling&sid=none", 1),
        ("POST", "/socket.io/?EIO=4&transport=polling", 2),
        ("GET", "/socket.io/?EIO=4&transport=websocket", 3),
        ("GET", "/socket.io/?EIO=3&transport=polling", 5),
    ];
    for (method, target, code) in rows {
        let mut server = Server::new(ServerSettings::default(), || [3; 15]);
        let connection = server.accept();
        let mut request = Vec::new();
        ClientRequest { method, target, host: "a", headers: &[], body: None }.encode(&mut request);
        assert_eq!(server.receive(connection, &request, START), []);
        let answer = String::from_utf8(server.transmit().unwrap().bytes).unwrap();
        assert!(answer.starts_with("HTTP/1.1 400 "), "{target}: {answer}");
        assert!(answer.contains(&format!("\r\n\r\n{{\"code\":{code},")), "{target}: {answer}");
    }
}

/// GETs, a POST and a probe on connections of their own, and what waits meanwhile.
#[test]
fn a_session_moves_from_polling_to_a_websocket() {
    let times = SessionTimes::default();
    let mut server = Server::new(ServerSettings { times, ..ServerSettings::default() }, || [3; 15]);
    let (get, socket) = (server.accept(), server.accept());
    let request = b"GET /socket.io/?EIO=4&transport=polling HTTP/1.1\r\nHost: a\r\n\r\n";
    let events = server.receive(get, request, START);
    let [ServerEvent::Opened { session, .. }] = events[..] else { panic!("{events:?}") };
    server.transmit();
    let sid = "EIO=4&sid=AwMDAwMDAwMDAwMDAwMD&transport=";
    let poll = format!("GET /socket.io/?{sid}polling HTTP/1.1\r\nHost: a\r\n\r\n");
    server.receive(get, poll.as_bytes(), START);
    assert_eq!(server.transmit(), None, "it is held");

    // The same client, to whom the answer to the upgrade is the answer to a handshake.
    let target = format!("/socket.io/?{sid}websocket");
    let mut client = Client::connect(ClientSettings { target, ..ClientSettings::default() }, [8; 16]);
    server.receive(socket, &client.transmit(), START);
    assert_eq!(client.receive(&server.transmit().unwrap().bytes, START), []);
    let frame = |text: &str| {
        let mut bytes = Vec::new();
        let fin = sockring_protocol::websocket::Fin::Last;
        let opcode = sockring_protocol::websocket::Opcode::Text;
        sockring_protocol::websocket::encode_client_frame(opcode, fin, [1, 2, 3, 4], text.as_bytes(), &mut bytes);
        bytes
    };
    assert_eq!(server.receive(socket, &frame("2probe"), START + 1), []);
    let sent = [server.transmit().unwrap(), server.transmit().unwrap()];
    assert!(sent[0].connection == get && sent[0].bytes.ends_with(b"\r\n\r\n6"), "the poll is released");
    assert_eq!((sent[1].connection, sent[1].bytes.as_slice()), (socket, b"\x81\x063probe".as_slice()));
    assert_eq!(server.send(session, text("waits"), START + 2), Ok(()));
    assert_eq!(server.transmit(), None);
    assert_eq!(server.receive(socket, &frame("5"), START + 3), [ServerEvent::Upgraded { session }]);
    assert_eq!(server.transmit().unwrap().bytes, b"\x81\x064waits");
}
