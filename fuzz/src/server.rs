//! The scripts of `session` once more, as bytes on the connections of a whole server, which its client reads with the crate's
//! own client side.

use std::collections::BTreeMap;

use sockring_protocol::Millis;
use sockring_protocol::engineio::{
    CLOSE_GRACE_MS, Data, EnginePacket, OpenPacket, Payload, SessionEnd, SessionTimes, Transport,
};
use sockring_protocol::http::{BodyDecoder, BodyState, ClientRequest, HeadLimits, KeepAlive, ResponseHead};
use sockring_protocol::server::{ConnectionId, OwnedData, Server, ServerEvent, ServerSettings};
use sockring_protocol::websocket::{Event, Fin, Handshake, MessageLimits, Opcode, ServerDecoder, encode_client_frame};

const MASK: [u8; 4] = [0x5c, 0x01, 0xe7, 0x30];
const NONCE: [u8; 16] = [9; 16];
/// More answers of its own than this cannot come out of one thing that happens.
const DEADLINES_MAX: usize = 64;

/// Plays a script: the transport and the times as `session` chose them, then one byte for each thing that happens.
pub fn play(transport: Transport, times: SessionTimes, script: &[u8]) {
    let mut stage = Stage::open(transport, times);
    for byte in script {
        stage.act(*byte);
        stage.check();
    }
    stage.fall_silent();
}

/// What a connection of the client's is for, and what has come by it.
struct Lane {
    input: Vec<u8>,
    /// Requests that are not answered yet.
    owed: usize,
    /// Of a WebSocket whose handshake is answered.
    frames: Option<ServerDecoder>,
    /// The server has said its last.
    is_over: bool,
}

struct Stage {
    server: Server,
    now: Millis,
    sid: String,
    lanes: BTreeMap<ConnectionId, Lane>,
    get: Option<ConnectionId>,
    post: Option<ConnectionId>,
    /// The body of the POST is not complete.
    is_posting: bool,
    socket: Option<ConnectionId>,
    probe: Option<ConnectionId>,
    end: Option<SessionEnd>,
    is_upgraded: bool,
    said: usize,
    heard: usize,
    echoed: usize,
}

impl Stage {
    fn open(transport: Transport, times: SessionTimes) -> Stage {
        let settings = ServerSettings { times, ..ServerSettings::default() };
        let mut stage = Stage {
            server: Server::new(settings, || [7; 15]),
            now: Millis(1_000),
            sid: String::new(),
            lanes: BTreeMap::new(),
            get: None,
            post: None,
            is_posting: false,
            socket: None,
            probe: None,
            end: None,
            is_upgraded: transport == Transport::WebSocket,
            said: 0,
            heard: 0,
            echoed: 0,
        };
        match transport {
            Transport::Polling => {
                let lane = stage.connect();
                stage.request(lane, "GET", None);
                stage.get = Some(lane);
            }
            Transport::WebSocket => stage.socket = Some(stage.handshake()),
        }
        assert!(!stage.sid.is_empty(), "no session was opened");
        assert_eq!(stage.server.deadline(), stage.now + times.ping_interval_ms);
        stage
    }

    fn connect(&mut self) -> ConnectionId {
        let id = self.server.accept();
        let lane = Lane { input: Vec::new(), owed: 0, frames: None, is_over: false };
        self.lanes.insert(id, lane);
        id
    }

    fn target(&self, transport: &str) -> String {
        let sid = if self.sid.is_empty() { String::new() } else { format!("&sid={}", self.sid) };
        format!("/socket.io/?EIO=4&transport={transport}{sid}")
    }

    fn handshake(&mut self) -> ConnectionId {
        let id = self.connect();
        let mut bytes = Vec::new();
        Handshake::new(NONCE).encode(&self.target("websocket"), "a", &[], &mut bytes);
        self.owe(id);
        self.send(id, &bytes);
        id
    }

    fn request(&mut self, id: ConnectionId, method: &str, body: Option<&[u8]>) {
        let mut bytes = Vec::new();
        ClientRequest { method, target: &self.target("polling"), host: "a", headers: &[], body }.encode(&mut bytes);
        self.owe(id);
        self.send(id, &bytes);
    }

    fn owe(&mut self, id: ConnectionId) {
        if let Some(lane) = self.lanes.get_mut(&id) {
            lane.owed += 1;
        }
    }

    /// Bytes go to the server, cut in two.
    fn send(&mut self, id: ConnectionId, bytes: &[u8]) {
        let (first, second) = bytes.split_at(bytes.len() / 2);
        for piece in [first, second] {
            let events = self.server.receive(id, piece, self.now);
            self.hear(events);
        }
    }

    fn frame(&mut self, id: Option<ConnectionId>, text: &str) {
        let Some(id) = id.filter(|id| self.lanes.get(id).is_some_and(|lane| lane.frames.is_some())) else { return };
        let mut bytes = Vec::new();
        encode_client_frame(Opcode::Text, Fin::Last, MASK, text.as_bytes(), &mut bytes);
        self.send(id, &bytes);
    }

    fn lose(&mut self, id: Option<ConnectionId>) {
        let Some(id) = id else { return };
        self.lanes.remove(&id);
        let events = self.server.lose(id, self.now);
        self.hear(events);
    }

    /// A connection of its own for each, but for one that waits for nothing.
    fn idle(&mut self, id: Option<ConnectionId>) -> ConnectionId {
        let is_idle = |lane: &Lane| lane.owed == 0 && !lane.is_over;
        match id.filter(|id| self.lanes.get(id).is_some_and(is_idle)) {
            Some(id) => id,
            None => self.connect(),
        }
    }

    fn act(&mut self, byte: u8) {
        match byte {
            b'g' => {
                let id = self.idle(self.get);
                self.get = Some(id);
                self.request(id, "GET", None);
            }
            b'l' => {
                let id = self.get.take();
                self.lose(id);
            }
            b'p' if !self.is_posting => {
                let id = self.idle(self.post);
                (self.post, self.is_posting) = (Some(id), true);
                let head = format!("POST {} HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\n", self.target("polling"));
                self.owe(id);
                self.send(id, head.as_bytes());
            }
            b'c' if self.is_posting => {
                self.is_posting = false;
                if let Some(id) = self.post {
                    self.send(id, b"6");
                }
            }
            b'x' => {
                self.is_posting = false;
                let id = self.post.take();
                self.lose(id);
            }
            b'w' => self.probe = Some(self.handshake()),
            b'r' => self.frame(self.probe, "2probe"),
            b'u' => self.frame(self.probe, "5"),
            b'o' => self.frame(self.probe, "6"),
            b'd' => {
                let id = self.probe.take();
                self.lose(id);
            }
            b't' => {
                let id = self.socket.take();
                self.lose(id);
            }
            b'0'..=b'6' | b'b' => self.packet(byte),
            byte => self.pass_time(byte),
        }
    }

    /// By the session's transport; `b` is bytes that are no packet.
    fn packet(&mut self, byte: u8) {
        let text = if byte == b'b' { "x".to_owned() } else { char::from(byte).to_string() };
        if self.is_upgraded {
            self.said += usize::from(byte == b'4');
            return self.frame(self.socket, &text);
        }
        if !self.is_posting {
            self.said += usize::from(byte == b'4');
            let id = self.idle(self.post);
            self.post = Some(id);
            self.request(id, "POST", Some(text.as_bytes()));
        }
    }

    /// As in `session`; time that the owner was late does not exist for a server that is told of all bytes.
    fn pass_time(&mut self, byte: u8) {
        let deadline = self.server.deadline();
        let deadline = if deadline == Millis::NEVER { self.now } else { deadline };
        let to = match byte {
            b'.' => self.now + 1,
            b'-' => Millis(deadline.0.saturating_sub(1)),
            b'+' => deadline,
            b'~' | b'z' => deadline + 60_000,
            0x80.. => self.now + 7 * u64::from(byte & 0x7f),
            _ => return,
        };
        self.expire(to.max(self.now));
    }

    fn expire(&mut self, now: Millis) {
        self.now = now;
        let events = self.server.expire(now);
        self.hear(events);
        // With times of 0 the next is due at once; a ping waits for its pong all the same.
        for _ in 0..DEADLINES_MAX {
            if self.server.deadline() > self.now {
                return;
            }
            let events = self.server.expire(now);
            self.hear(events);
        }
        panic!("there is always something to do at {now:?}");
    }

    fn hear(&mut self, events: Vec<ServerEvent>) {
        self.hear_once(events);
        // What was sent has made way for what waited.
        while self.server.deadline() < self.now {
            let events = self.server.expire(self.now);
            self.hear_once(events);
        }
    }

    fn hear_once(&mut self, events: Vec<ServerEvent>) {
        for event in events {
            assert_eq!(self.end, None, "{event:?} after the end");
            match event {
                ServerEvent::Opened { .. } => assert!(self.sid.is_empty(), "a second session"),
                ServerEvent::Message { session, message } => {
                    assert_eq!(message, OwnedData::Text(String::new()));
                    self.heard += 1;
                    // It may be over by the same bytes.
                    let _ = self.server.send(session, OwnedData::Text("echo".into()), self.now);
                }
                ServerEvent::Upgraded { .. } => {
                    assert!(!self.is_upgraded, "upgraded twice");
                    self.is_upgraded = true;
                    self.socket = self.probe.take();
                }
                ServerEvent::Closed { end, .. } => self.end = Some(end),
                other => panic!("{other:?}"),
            }
        }
        while let Some(sent) = self.server.transmit() {
            let Some(mut lane) = self.lanes.remove(&sent.connection) else { continue };
            assert!(!lane.is_over, "bytes behind the end");
            lane.is_over = sent.then == KeepAlive::Close;
            lane.input.extend_from_slice(&sent.bytes);
            self.read(&mut lane);
            self.lanes.insert(sent.connection, lane);
        }
    }

    /// What a client makes of the bytes: whole answers to what it asked, or frames with packets.
    fn read(&mut self, lane: &mut Lane) {
        while lane.frames.is_none() && !lane.input.is_empty() {
            let head = ResponseHead::decode(&lane.input, &mut 0, &HeadLimits::default()).expect("an answer");
            let (head, length) = head.expect("a whole head");
            lane.owed = lane.owed.checked_sub(1).expect("an answer that nobody asked for");
            assert!(matches!(head.status, 101 | 200 | 400), "{}", head.status);
            assert_eq!(head.keep_alive == KeepAlive::Close, lane.is_over && head.status != 101);
            if head.status == 101 {
                assert_eq!(Handshake::new(NONCE).check(&head), Ok(()));
                lane.frames = Some(ServerDecoder::default());
                lane.input.drain(..length);
                continue;
            }
            let mut body = Vec::new();
            let mut decoder = BodyDecoder::new(head.framing.expect("a length"), 1 << 20).expect("not too long");
            let (consumed, state) = decoder.decode(&lane.input[length..], &mut body).expect("a body");
            assert_eq!(state, BodyState::Complete, "answers come whole");
            let (is_payload, taken) = (head.status == 200 && body != b"ok", length + consumed);
            lane.input.drain(..taken);
            if is_payload {
                for packet in Payload::decode(std::str::from_utf8(&body).expect("text"), usize::MAX) {
                    self.on_packet(packet.expect("a packet"), std::str::from_utf8(&body).expect("text"));
                }
            }
        }
        let Some(mut decoder) = lane.frames.take() else { return };
        let mut at = 0;
        loop {
            let decoded = decoder.decode(&mut lane.input[at..], &MessageLimits::default()).expect("frames of a server");
            at += decoded.consumed;
            match decoded.event {
                None => break,
                Some(Event::Text(text)) => self.on_packet(EnginePacket::decode(text).expect("a packet"), text),
                Some(Event::Close(_)) => assert!(lane.is_over, "a close frame and no end"),
                Some(event) => panic!("{event:?}"),
            }
        }
        assert!(!decoder.has_partial(), "frames come whole");
        lane.input.clear();
        lane.frames = Some(decoder);
    }

    fn on_packet(&mut self, packet: EnginePacket<'_>, text: &str) {
        match packet {
            EnginePacket::Open => {
                let open = OpenPacket::decode(text).expect("an open packet");
                assert!(self.sid.is_empty(), "a second session");
                self.sid = open.sid.into();
            }
            EnginePacket::Message(Data::Text("echo")) => self.echoed += 1,
            EnginePacket::Ping("") | EnginePacket::Pong("probe") | EnginePacket::Noop => {}
            EnginePacket::Close => assert!(self.end.is_some(), "a close packet before the end"),
            packet => panic!("{packet:?} of a server"),
        }
    }

    fn check(&self) {
        assert!(self.heard <= self.said && self.echoed <= self.heard);
        assert!(self.server.deadline() >= self.now);
        assert_eq!(self.server.deadline() == Millis::NEVER, self.end.is_some(), "nothing to wait for");
    }

    /// Without another byte the session ends in time, and everything that was asked is answered.
    fn fall_silent(&mut self) {
        for _ in 0..DEADLINES_MAX {
            if self.end.is_some() {
                break;
            }
            self.expire(self.server.deadline());
        }
        assert!(self.end.is_some(), "a silent client is gone");
        self.expire(self.now + CLOSE_GRACE_MS);
        assert_eq!(self.server.deadline(), Millis::NEVER);
        for lane in self.lanes.values() {
            assert_eq!(lane.owed, 0, "a request without an answer");
            assert!(lane.frames.is_none() || lane.is_over, "a WebSocket that is open for nothing");
        }
        let late = self.server.accept();
        self.lanes.insert(late, Lane { input: Vec::new(), owed: 0, frames: None, is_over: false });
        self.request(late, "GET", None);
        assert_eq!(self.lanes[&late].owed, 0, "the session is unknown now");
    }
}
