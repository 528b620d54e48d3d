//! `WebSocket` and `Client`: frames as exactly as a test wants, and a Socket.IO client on top of them.

use std::net::SocketAddr;

use serde_json::Value;
use sockring_protocol::engineio::OpenPacket;
use sockring_protocol::socketio::{PacketLimits, SocketPacket};
use sockring_protocol::websocket::{CloseFrame, Fin, Handshake, Opcode, encode_client_frame};

use crate::http::{Answer, Connection, request};

/// Where handshakes go.
pub const WEBSOCKET: &str = "/socket.io/?EIO=4&transport=websocket";
pub const POLLING: &str = "/socket.io/?EIO=4&transport=polling";

pub const MASK: [u8; 4] = [0x1f, 0x80, 0x07, 0xe3];

/// A WebSocket; what is sent is up to the test.
pub struct WebSocket {
    pub connection: Connection,
}

/// One frame of the server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Frame {
    Text(String),
    Binary(Vec<u8>),
    Pong(Vec<u8>),
    /// With its code, if it has one.
    Close(Option<u16>),
}

impl WebSocket {
    /// Asks for an upgrade on this connection.
    pub fn upgrade(mut connection: Connection, target: &str) -> Result<WebSocket, Answer> {
        connection.send(upgrade_request(target));
        let answer = connection.answer();
        if answer.status == 101 { Ok(WebSocket { connection }) } else { Err(answer) }
    }

    /// A WebSocket with an Engine.IO session, its open packet read.
    pub fn open(address: SocketAddr) -> WebSocket {
        WebSocket::open_on(Connection::open(address))
    }

    /// The same on a connection that is there.
    #[track_caller]
    pub fn open_on(connection: Connection) -> WebSocket {
        let mut socket = WebSocket::upgrade(connection, WEBSOCKET).expect("101");
        let open = socket.text();
        OpenPacket::decode(&open).unwrap_or_else(|error| panic!("{error}: {open}"));
        socket
    }

    #[track_caller]
    pub fn send(&mut self, text: &str) {
        self.connection.send(frame(Opcode::Text, text.as_bytes()));
    }

    #[track_caller]
    pub fn frame(&mut self) -> Frame {
        match self.connection.frame() {
            (Opcode::Text, payload) => Frame::Text(String::from_utf8(payload).expect("text is UTF-8")),
            (Opcode::Binary, payload) => Frame::Binary(payload),
            (Opcode::Pong, payload) => Frame::Pong(payload),
            (Opcode::Close, payload) => {
                Frame::Close(CloseFrame::decode(&payload).expect("what a close frame may say").map(|frame| frame.code))
            }
            (opcode, _) => panic!("{opcode:?} of a server"),
        }
    }

    #[track_caller]
    pub fn text(&mut self) -> String {
        match self.frame() {
            Frame::Text(text) => text,
            other => panic!("text expected, got {other:?}"),
        }
    }

    /// A WebSocket ping and its pong: the server has seen everything that was sent before.
    #[track_caller]
    pub fn round_trip(&mut self) {
        self.connection.send(frame(Opcode::Ping, b"are you there"));
        assert_eq!(self.frame(), Frame::Pong(b"are you there".to_vec()));
    }

    /// Reads up to the close frame and the end behind it; the code.
    #[track_caller]
    pub fn close_code(&mut self) -> Option<u16> {
        loop {
            if let Frame::Close(code) = self.frame() {
                self.connection.assert_ends();
                return code;
            }
        }
    }
}

/// A Socket.IO client on a WebSocket, connected to `/` and greeted.
pub struct Client {
    pub socket: WebSocket,
    /// Of its Socket.IO socket.
    pub sid: String,
    /// The payload of the `connected` event.
    pub greeting: Value,
}

impl Client {
    pub fn connect(address: SocketAddr, token: &str) -> Client {
        Client::greeted(WebSocket::open(address), token)
    }

    /// A session that has said nothing yet says CONNECT.
    #[track_caller]
    pub fn greeted(mut socket: WebSocket, token: &str) -> Client {
        socket.send(&format!(r#"40{{"token":"{token}"}}"#));
        let connected = socket.text();
        let packet = SocketPacket::decode(&connected[1..], &PacketLimits::default());
        let Ok(SocketPacket::Connect { namespace: "/", payload: Some(payload) }) = packet else {
            panic!("CONNECT expected: {connected}")
        };
        let payload: Value = serde_json::from_str(payload).expect("JSON");
        let sid = payload["sid"].as_str().expect("a sid").to_owned();
        let mut client = Client { socket, sid, greeting: Value::Null };
        let (event, greeting) = client.event();
        assert_eq!(event, "connected");
        client.greeting = greeting;
        client
    }

    /// The next event: its name and its first argument.
    #[track_caller]
    pub fn event(&mut self) -> (String, Value) {
        let text = self.socket.text();
        let args = text.strip_prefix("42").unwrap_or_else(|| panic!("an event expected: {text}"));
        let mut args: Vec<Value> = serde_json::from_str(args).expect("a JSON array");
        let name = args[0].as_str().expect("a name").to_owned();
        (name, args.drain(1..).next().unwrap_or(Value::Null))
    }

    #[track_caller]
    pub fn send(&mut self, packet: &str) {
        self.socket.send(packet);
    }

    /// Says good-bye as a browser does when its page is closed, and waits for the answer.
    #[track_caller]
    pub fn leave(mut self) {
        self.socket.connection.send(frame(Opcode::Close, &1001_u16.to_be_bytes()));
        assert_eq!(self.socket.close_code(), Some(1001));
    }
}

/// A client by long-polling, on one connection.
pub struct Poller {
    pub connection: Connection,
    /// Where its requests go.
    pub target: String,
}

impl Poller {
    /// A session that has said nothing yet.
    #[track_caller]
    pub fn open(address: SocketAddr) -> Poller {
        let mut connection = Connection::open(address);
        let answer = connection.get(POLLING);
        assert_eq!(answer.status, 200, "{answer:?}");
        let text = answer.text();
        let open = OpenPacket::decode(&text).unwrap_or_else(|error| panic!("{error}: {text}"));
        Poller { connection, target: format!("{POLLING}&sid={}", open.sid) }
    }

    /// One that is connected to `/` and greeted.
    #[track_caller]
    pub fn connect(address: SocketAddr, token: &str) -> Poller {
        let mut poller = Poller::open(address);
        assert_eq!(poller.post(&format!(r#"40{{"token":"{token}"}}"#)).text(), "ok");
        let mut greeting = poller.poll();
        if !greeting.contains(r#"42["connected","#) {
            greeting = poller.poll();
        }
        assert!(greeting.contains(r#"42["connected","#), "{greeting}");
        poller
    }

    #[track_caller]
    pub fn post(&mut self, body: &str) -> Answer {
        self.connection.send(request("POST", &self.target, &["Content-Type: text/plain;charset=UTF-8"], body));
        self.connection.answer()
    }

    /// The payload of the next poll.
    #[track_caller]
    pub fn poll(&mut self) -> String {
        let answer = self.connection.get(&self.target);
        assert_eq!(answer.status, 200, "{answer:?}");
        answer.text()
    }

    /// Its session is unknown: on a connection of its own, because the client's may be closed.
    #[track_caller]
    pub fn assert_gone(&self, address: SocketAddr) {
        let answer = Connection::open(address).get(&self.target);
        assert_eq!((answer.status, &answer.json()["code"]), (400, &Value::from(1)), "{answer:?}");
    }
}

/// One whole frame as a client sends it.
pub fn frame(opcode: Opcode, payload: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    encode_client_frame(opcode, Fin::Last, MASK, payload, &mut bytes);
    bytes
}

pub fn upgrade_request(target: &str) -> String {
    let mut bytes = Vec::new();
    Handshake::new(*b"the sample nonce").encode(target, "localhost", &[], &mut bytes);
    String::from_utf8(bytes).expect("it was made of text")
}
