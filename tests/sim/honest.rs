//! `Honest`: a client that keeps to the protocols, over long-polling, a WebSocket, or first one and then the other, as the
//! stock client does. Everything that it gets has to be the next packet of its stream.

use std::collections::{BTreeMap, VecDeque};

use sockring_protocol::engineio::{self, Data, Packet};
use sockring_protocol::websocket::Opcode;

use super::desk::payload_of;
use super::network::{End, Event, TcpId};
use super::random::Random;
use super::record::{KnownTransport, Record, place_of};
use super::wire;
use super::world::{Actor, Context};

/// A packet that waits longer than this for a client that reads is lost, as far as its user can tell.
const DELIVERY_MS_MAX: u64 = 700;

/// How a client carries its packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Style {
    WebSocket,
    Polling,
    Upgrade,
}

/// How a client leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Leaving {
    /// An Engine.IO close packet.
    ClosePacket,
    /// A WebSocket close frame.
    CloseFrame,
    End(End),
    /// It says nothing any more, and its connections stay.
    Silence,
}

/// What a client is going to do.
#[derive(Clone, Debug)]
pub struct Plan {
    pub style: Style,
    pub user: String,
    pub namespaces: Vec<&'static str>,
    /// Milliseconds between two of its actions, on average.
    pub pace_ms: u64,
    pub leaves_at: u64,
    pub leaving: Leaving,
    /// Probes that it gives up before the one that succeeds.
    pub failed_probes: u64,
}

/// One HTTP connection, and whether a request waits for its answer.
#[derive(Debug, Default)]
struct Exchange {
    tcp: Option<TcpId>,
    input: Vec<u8>,
    is_busy: bool,
}

#[derive(Debug)]
struct WebSocket {
    tcp: TcpId,
    input: Vec<u8>,
    is_open: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Upgrade {
    /// Not yet, or no more.
    Idle,
    Probing,
    /// `3probe` came: requests are finished first.
    Pausing,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Opening,
    Open,
    /// It has left. Its sockets have to be gone this long after its last bytes were read.
    Left {
        grace_ms: u64,
        seen_at: u64,
    },
}

enum Out {
    Text(String),
    Binary(Vec<u8>),
}

/// One honest client.
pub struct Honest {
    id: usize,
    plan: Plan,
    phase: Phase,
    sid: String,
    get: Exchange,
    post: Exchange,
    websocket: Option<WebSocket>,
    is_upgraded: bool,
    upgrade: Upgrade,
    upgrade_at: u64,
    abandon_probe_at: u64,
    outbox: VecDeque<Out>,
    /// Socket.IO sids by namespace, also of sockets that are over and may still get what was queued.
    sockets: BTreeMap<String, (String, Socket)>,
    incoming: Option<(String, usize, Vec<Vec<u8>>)>,
    next_act: u64,
    acts: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Socket {
    Connected,
    Over,
    /// Over, and there is another CONNECT on its way.
    Reconnecting,
}

impl Honest {
    pub fn new(plan: Plan) -> Honest {
        Honest {
            id: usize::MAX,
            plan,
            phase: Phase::Opening,
            sid: String::new(),
            get: Exchange::default(),
            post: Exchange::default(),
            websocket: None,
            is_upgraded: false,
            upgrade: Upgrade::Idle,
            upgrade_at: u64::MAX,
            abandon_probe_at: u64::MAX,
            outbox: VecDeque::new(),
            sockets: BTreeMap::new(),
            incoming: None,
            next_act: 0,
            acts: 0,
        }
    }

    fn has_left(&self) -> bool {
        matches!(self.phase, Phase::Left { .. })
    }

    fn carries_websocket(&self) -> bool {
        self.plan.style == Style::WebSocket || self.is_upgraded
    }

    // Reading.

    fn read(&mut self, context: &mut Context<'_>) {
        for is_get in [true, false] {
            let exchange = if is_get { &mut self.get } else { &mut self.post };
            let Some(tcp) = exchange.tcp else { continue };
            exchange.input.extend(context.network.read(tcp));
            if let Some(answer) = wire::take_answer(&mut exchange.input) {
                assert!(exchange.is_busy || self.has_left(), "an answer that nobody asked for: {answer:?}");
                let exchange = if is_get { &mut self.get } else { &mut self.post };
                exchange.is_busy = false;
                if answer.closes {
                    // The last request that this connection may carry.
                    context.network.end(tcp, End::Fin);
                    *exchange = Exchange::default();
                }
                self.on_answer(context, is_get, &answer);
            }
            let exchange = if is_get { &mut self.get } else { &mut self.post };
            if exchange.tcp == Some(tcp) && context.network.is_ended(tcp) {
                context.network.end(tcp, End::Fin);
                exchange.tcp = None;
                let is_busy = exchange.is_busy;
                assert!(!is_busy || self.has_left(), "the server closed a connection before it had answered");
            }
        }
        let Some(websocket) = &mut self.websocket else { return };
        let tcp = websocket.tcp;
        websocket.input.extend(context.network.read(tcp));
        if !websocket.is_open {
            let Some(answer) = wire::take_answer(&mut websocket.input) else { return };
            assert_eq!(answer.status, 101, "{answer:?}");
            websocket.is_open = true;
            if self.plan.style == Style::Upgrade {
                self.write_frame(context, "2probe");
            }
        }
        let Some(websocket) = &mut self.websocket else { return };
        for (opcode, data) in wire::take_frames(&mut websocket.input) {
            self.on_frame(context, opcode, &data);
        }
        if context.network.is_ended(tcp) {
            context.network.end(tcp, End::Fin);
            assert!(self.has_left(), "the server ended an honest WebSocket");
            self.websocket = None;
        }
    }

    fn on_answer(&mut self, context: &mut Context<'_>, is_get: bool, answer: &wire::Answer) {
        if self.has_left() {
            return;
        }
        assert_eq!(answer.status, 200, "an honest request was refused: {answer:?}");
        if !is_get {
            return assert_eq!(answer.body, "ok");
        }
        if self.sid.is_empty() {
            return self.on_open(context, wire::sid_in(&answer.body).expect("an open packet"));
        }
        for packet in engineio::decode_payload(&answer.body, usize::MAX) {
            self.on_packet(context, packet.expect("the server encodes packets"));
        }
    }

    fn on_frame(&mut self, context: &mut Context<'_>, opcode: Opcode, data: &[u8]) {
        match opcode {
            Opcode::Text => {
                let text = std::str::from_utf8(data).expect("text frames are UTF-8");
                if self.sid.is_empty() {
                    return self.on_open(context, wire::sid_in(text).expect("an open packet"));
                }
                let packet = engineio::decode_text(text).expect("the server encodes packets");
                if self.plan.style == Style::Upgrade && !self.is_upgraded {
                    assert_eq!(packet, Packet::Pong("probe"), "a probe gets its answer only");
                    self.upgrade = Upgrade::Pausing;
                    return;
                }
                self.on_packet(context, packet);
            }
            Opcode::Binary => self.on_packet(context, Packet::Message(Data::Binary(data.into()))),
            Opcode::Close => assert!(self.has_left(), "the server closed an honest WebSocket"),
            other => panic!("a frame that nobody asked for: {other:?}"),
        }
    }

    fn on_packet(&mut self, context: &mut Context<'_>, packet: Packet<'_>) {
        if self.carries_websocket() && !self.sid.is_empty() {
            self.know(context.record, KnownTransport::WebSocket);
        }
        match packet {
            Packet::Ping(_) => self.outbox.push_back(Out::Text("3".to_owned())),
            Packet::Noop => {}
            Packet::Close => assert!(self.has_left(), "the server closed an honest session"),
            Packet::Message(Data::Text(text)) => self.on_message(context, text),
            Packet::Message(Data::Binary(data)) => {
                let (_, missing, attachments) = self.incoming.as_mut().expect("attachments follow a header");
                attachments.push(data.into_owned());
                *missing -= 1;
                if *missing == 0 {
                    let (text, _, attachments) = self.incoming.take().expect("just looked at");
                    self.on_socket_packet(context, &text, &attachments);
                }
            }
            other => panic!("a packet that a server does not send here: {other:?}"),
        }
    }

    fn on_message(&mut self, context: &mut Context<'_>, text: &str) {
        assert!(self.incoming.is_none(), "attachments are missing before {text}");
        if let ("5" | "6", rest) = text.split_at(1) {
            let (count, _) = rest.split_once('-').expect("a count of attachments");
            self.incoming = Some((text.to_owned(), count.parse().expect("a number"), Vec::new()));
            return;
        }
        self.on_socket_packet(context, text, &[]);
    }

    fn on_socket_packet(&mut self, context: &mut Context<'_>, text: &str, attachments: &[Vec<u8>]) {
        let namespace = match text.find('/') {
            Some(at) if at <= 3 => text[at..].split(',').next().unwrap_or_default(),
            _ => "/",
        };
        if text.starts_with('4') {
            assert!(text.contains("no user"), "an honest CONNECT was refused: {text}");
            return;
        }
        if text.starts_with('0') {
            let sid = wire::sid_in(text).expect("a CONNECT reply has a sid");
            if let Some((old, state)) = self.sockets.insert(namespace.to_owned(), (sid, Socket::Connected)) {
                assert_eq!(state, Socket::Reconnecting, "connected twice");
                let waiting = context.record.waiting_since(&old);
                assert!(waiting.is_none(), "lost on disconnecting: {waiting:?}");
            }
        }
        let Some((sid, state)) = self.sockets.get_mut(namespace) else { panic!("{text} before CONNECT") };
        if text.starts_with('1') {
            *state = Socket::Over;
        }
        context.record.on_received(sid, text, attachments);
    }

    // Acting.

    fn act(&mut self, context: &mut Context<'_>) {
        self.next_act = context.now + 1 + context.random.below(self.plan.pace_ms * 2);
        self.acts += 1;
        let Some(namespace) = pick(context.random, &self.plan.namespaces) else { return };
        let prefix = if namespace == "/" { String::new() } else { format!("{namespace},") };
        match self.sockets.get_mut(namespace) {
            Some((_, Socket::Connected)) => {}
            Some((sid, state @ Socket::Over)) => {
                // Not before the old socket's last packets are here.
                if context.record.waiting_since(sid).is_none() && !context.record.is_live(sid) {
                    *state = Socket::Reconnecting;
                    self.say(format!("0{prefix}{}", payload_of(&self.plan.user)));
                }
                return;
            }
            // The first CONNECT was sent when the session opened.
            Some((_, Socket::Reconnecting)) | None => return,
        }
        let (id, room) = (self.acts, context.random.below(4));
        match context.random.below(16) {
            0..=2 => self.say(format!("2{prefix}[\"echo\",{id}]")),
            3..=4 => self.say(format!("2{prefix}{id}[\"echo\",{id},\"\u{fc}\u{1F600}\"]")),
            5 => {
                self.say(format!("51-{prefix}[\"echo\",{{\"_placeholder\":true,\"num\":0}}]"));
                self.outbox.push_back(Out::Binary(vec![7; context.random.index(300)]));
            }
            6..=8 => self.say(format!("2{prefix}{id}[\"join\",\"room{room}\"]")),
            9..=10 => self.say(format!("2{prefix}{id}[\"leave\",\"room{room}\"]")),
            11 => self.say(format!("2{prefix}[\"echo\",\"{}\"]", "long ".repeat(context.random.index(400)))),
            12 if context.random.one_in(4) => {
                self.say(format!("1{prefix}"));
                self.sockets.entry(namespace.to_owned()).and_modify(|(_, state)| *state = Socket::Over);
            }
            13 if context.random.one_in(4) => {
                self.say(format!("2{prefix}[\"bye\",1]"));
                // What it says behind that would end its session.
                self.next_act += 500;
            }
            _ => {}
        }
    }

    fn say(&mut self, packet: String) {
        self.outbox.push_back(Out::Text(format!("4{packet}")));
    }

    fn begin_upgrade(&mut self, context: &mut Context<'_>) {
        let tcp = context.network.connect(context.id);
        context.network.write(tcp, &wire::websocket(Some(&self.sid)));
        self.websocket = Some(WebSocket { tcp, input: Vec::new(), is_open: false });
        self.upgrade = Upgrade::Probing;
        self.upgrade_at = u64::MAX;
        if self.plan.failed_probes > 0 {
            self.plan.failed_probes -= 1;
            self.abandon_probe_at = context.now + context.random.below(60);
            context.network.at(self.abandon_probe_at, Event::Wake(context.id));
        }
    }

    /// The probe fails before it was answered; polling goes on, and there is another attempt.
    fn abandon_probe(&mut self, context: &mut Context<'_>) {
        self.abandon_probe_at = u64::MAX;
        let Some(websocket) = self.websocket.take_if(|_| self.upgrade == Upgrade::Probing) else { return };
        let end = context.random.pick(&[End::Fin, End::Reset]);
        context.network.end(websocket.tcp, end);
        self.upgrade = Upgrade::Idle;
        // The server has to see the end before it takes another probe.
        self.upgrade_at = context.network.arrival(websocket.tcp) + 50;
        context.network.at(self.upgrade_at, Event::Wake(context.id));
    }

    // Writing.

    fn write_frame(&mut self, context: &mut Context<'_>, text: &str) {
        let Some(websocket) = &self.websocket else { return };
        let mask = context.random.mask();
        let bytes = match context.random.below(8) {
            0 => wire::fragmented(text, mask),
            _ => wire::text_frame(text, mask),
        };
        context.network.write(websocket.tcp, &bytes);
    }

    fn write(&mut self, context: &mut Context<'_>) {
        if self.has_left() {
            return;
        }
        if self.plan.style == Style::WebSocket || self.is_upgraded {
            if self.websocket.as_ref().is_some_and(|websocket| websocket.is_open) {
                while let Some(packet) = self.outbox.pop_front() {
                    match packet {
                        Out::Text(text) => self.write_frame(context, &text),
                        Out::Binary(data) => {
                            let bytes = wire::frame(Opcode::Binary, &data, context.random.mask());
                            let tcp = self.websocket.as_ref().expect("just looked at").tcp;
                            context.network.write(tcp, &bytes);
                        }
                    }
                }
            }
            return;
        }
        if self.upgrade == Upgrade::Pausing {
            if !self.get.is_busy && !self.post.is_busy {
                self.write_frame(context, "5");
                self.is_upgraded = true;
                self.know(context.record, KnownTransport::Either);
                self.write(context);
            }
            return;
        }
        if !self.get.is_busy && (self.phase == Phase::Open || self.sid.is_empty()) {
            let request = if self.sid.is_empty() { wire::handshake() } else { wire::poll(&self.sid) };
            send_request(&mut self.get, context, &request);
        }
        if !self.post.is_busy && !self.outbox.is_empty() {
            let body = payload(&mut self.outbox);
            let request = match context.random.below(4) {
                0 => wire::post_chunked(&self.sid, &body),
                _ => wire::post(&self.sid, &body),
            };
            send_request(&mut self.post, context, &request);
        }
    }

    fn know(&self, record: &mut Record, known: KnownTransport) {
        if !self.has_left() {
            record.transports.insert(place_of(&self.sid), known);
        }
    }

    // Leaving.

    fn leave(&mut self, context: &mut Context<'_>) {
        context.record.transports.remove(&place_of(&self.sid));
        let times = &context.settings.times;
        let tcps: Vec<_> = [self.get.tcp, self.post.tcp, self.websocket.as_ref().map(|websocket| websocket.tcp)]
            .into_iter()
            .flatten()
            .collect();
        let mut seen = tcps.iter().map(|tcp| context.network.arrival(*tcp)).max().unwrap_or(context.now);
        let mut grace = times.ping_interval_ms + times.ping_timeout_ms + 20;
        match (self.plan.leaving, self.carries_websocket()) {
            (Leaving::Silence, _) => {}
            (Leaving::ClosePacket, true) => self.write_frame(context, "1"),
            (Leaving::CloseFrame, true) => {
                let tcp = self.websocket.as_ref().expect("a WebSocket").tcp;
                let frame = wire::frame(Opcode::Close, &1000u16.to_be_bytes(), context.random.mask());
                context.network.write(tcp, &frame);
            }
            (Leaving::ClosePacket | Leaving::CloseFrame, false) if !self.post.is_busy => {
                send_request(&mut self.post, context, &wire::post(&self.sid, b"1"));
                grace = if self.post.tcp.is_some() { 200 } else { grace };
            }
            (Leaving::ClosePacket | Leaving::CloseFrame, false) => {}
            (Leaving::End(end), _) => tcps.iter().for_each(|tcp| context.network.end(*tcp, end)),
        }
        if self.carries_websocket() && self.plan.leaving != Leaving::Silence {
            seen = self.websocket.as_ref().map_or(seen, |websocket| context.network.arrival(websocket.tcp));
            grace = 50;
        }
        self.phase = Phase::Left { grace_ms: grace, seen_at: seen };
    }
}

impl Actor for Honest {
    fn wake(&mut self, context: &mut Context<'_>) {
        self.id = context.id;
        self.read(context);
        if self.phase == Phase::Opening && self.sid.is_empty() && self.next_act == 0 {
            self.next_act = context.now;
            if self.plan.style == Style::WebSocket {
                let tcp = context.network.connect(context.id);
                context.network.write(tcp, &wire::websocket(None));
                self.websocket = Some(WebSocket { tcp, input: Vec::new(), is_open: false });
            }
        }
        if self.phase == Phase::Open {
            if context.now >= self.abandon_probe_at {
                self.abandon_probe(context);
            }
            if self.plan.style == Style::Upgrade && self.upgrade == Upgrade::Idle && context.now >= self.upgrade_at {
                self.begin_upgrade(context);
            }
            if context.now >= self.next_act {
                self.act(context);
                context.network.at(self.next_act, Event::Wake(context.id));
            }
            if context.now >= self.plan.leaves_at && self.upgrade_is_settled() {
                return self.leave(context);
            }
        }
        self.write(context);
    }

    fn check(&self, now: u64, record: &Record) {
        for (sid, state) in self.sockets.values() {
            match self.phase {
                Phase::Left { grace_ms, seen_at } => {
                    let by = record.heard_at(self.id).max(seen_at) + grace_ms;
                    assert!(
                        now <= by || !record.is_live(sid),
                        "a {:?} client that left by {:?} is there at {now}; it should have been gone at {by}",
                        self.plan.style,
                        self.plan.leaving
                    );
                }
                _ => {
                    let waiting = record.waiting_since(sid).filter(|waiting| waiting.at + DELIVERY_MS_MAX < now);
                    assert!(waiting.is_none(), "{:?} {state:?} did not get {waiting:?}", self.plan.style);
                }
            }
        }
    }
}

impl Honest {
    /// Whether it is not in the middle of changing its transport.
    fn upgrade_is_settled(&self) -> bool {
        self.upgrade == Upgrade::Idle || self.is_upgraded
    }

    /// The open packet came.
    fn on_open(&mut self, context: &mut Context<'_>, sid: String) {
        self.sid = sid;
        self.phase = Phase::Open;
        let known =
            if self.plan.style == Style::WebSocket { KnownTransport::WebSocket } else { KnownTransport::Polling };
        self.know(context.record, known);
        for namespace in self.plan.namespaces.clone() {
            let prefix = if namespace == "/" { String::new() } else { format!("{namespace},") };
            if context.random.one_in(6) {
                self.say(format!("0{prefix}{{\"token\":\"wrong\"}}"));
            }
            self.say(format!("0{prefix}{}", payload_of(&self.plan.user)));
        }
        self.upgrade_at = context.now + context.random.below(30);
        self.next_act = context.now + context.random.below(50);
        context.network.at(self.upgrade_at, Event::Wake(context.id));
        context.network.at(self.next_act, Event::Wake(context.id));
        context.network.at(self.plan.leaves_at, Event::Wake(context.id));
    }
}

fn send_request(exchange: &mut Exchange, context: &mut Context<'_>, request: &[u8]) {
    let tcp = *exchange.tcp.get_or_insert_with(|| context.network.connect(context.id));
    context.network.write(tcp, request);
    exchange.is_busy = true;
}

/// Everything that waits as the body of one POST.
fn payload(outbox: &mut VecDeque<Out>) -> Vec<u8> {
    let mut body = Vec::new();
    let mut encoder = engineio::PayloadEncoder::new(&mut body);
    for packet in outbox.drain(..) {
        match packet {
            Out::Text(text) => encoder.push_text(text.as_bytes()),
            Out::Binary(data) => encoder.push_binary(&data),
        }
    }
    body
}

fn pick(random: &mut Random, namespaces: &[&'static str]) -> Option<&'static str> {
    (!namespaces.is_empty()).then(|| random.pick(namespaces))
}
