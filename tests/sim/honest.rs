//! `Honest`: a client that keeps to the protocols, over long-polling, a WebSocket, or first one and then the other, as the
//! stock client does. Everything that it gets has to be the next packet of its stream.

mod reading;
mod writing;

use std::collections::{BTreeMap, VecDeque};

use super::desk::payload_of;
use super::network::{End, Event, TcpId};
use super::record::{KnownTransport, Record, place_of};
use super::wire;
use super::world::{Actor, Context};

/// A packet that waits longer than this for a client that reads is lost, as far as its user can tell.
const DELIVERY_MS_MAX: u64 = 700;

/// An answer to what a client has said comes sooner than this.
const ANSWER_MS_MAX: u64 = 3_000;

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
    /// Namespaces and who it is there, in the order in which it connects.
    pub sockets: Vec<(&'static str, String)>,
    /// Milliseconds between two of its actions, on average.
    pub pace_ms: u64,
    pub leaves_at: u64,
    pub leaving: Leaving,
    /// Probes that it gives up before the one that succeeds.
    pub failed_probes: u64,
    /// It says something right behind its CONNECT.
    pub is_eager: bool,
    /// A backend emits to its user as soon as it has read that it is connected.
    pub is_expected: bool,
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
    /// The server has ended it.
    Dismissed,
}

/// Whether the end of a session was said by the packet or frame for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Word {
    Said,
    Unsaid,
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
    connect_at: u64,
    abandon_probe_at: u64,
    has_given_up_probe: bool,
    outbox: VecDeque<Out>,
    /// Socket.IO sids by namespace, also of sockets that are over and may still get what was queued.
    sockets: BTreeMap<String, (String, SocketStage)>,
    incoming: Option<(String, usize, Vec<Vec<u8>>)>,
    /// Something came by the WebSocket that it upgraded to.
    has_heard_upgraded: bool,
    /// What it has said that has an answer, and when.
    awaited: Vec<(Awaited, u64)>,
    next_act: u64,
    acts: u64,
    /// Until then one of its sockets may be ending because it asked for that; and this one until it is over.
    ends_until: u64,
    ends: Option<String>,
}

/// An answer that has to come.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Awaited {
    Open,
    /// A CONNECT answer, by namespace.
    Connect(String),
    /// A CONNECT_ERROR.
    Refusal(String),
    Ack(u64),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum SocketStage {
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
            connect_at: u64::MAX,
            abandon_probe_at: u64::MAX,
            has_given_up_probe: false,
            outbox: VecDeque::new(),
            sockets: BTreeMap::new(),
            incoming: None,
            has_heard_upgraded: false,
            awaited: Vec::new(),
            next_act: 0,
            acts: 0,
            ends_until: 0,
            ends: None,
        }
    }

    fn has_left(&self) -> bool {
        matches!(self.phase, Phase::Left { .. } | Phase::Dismissed)
    }

    fn carries_websocket(&self) -> bool {
        self.plan.style == Style::WebSocket || self.is_upgraded
    }

    // Acting.

    fn act(&mut self, context: &mut Context<'_>) {
        self.next_act = context.now + 1 + context.random.below(self.plan.pace_ms * 2);
        if self.is_ending(context.now) {
            // The server pauses, and has not read it yet.
            return;
        }
        self.acts += 1;
        let Some(place) = self.plan.sockets.len().checked_sub(1) else { return };
        let (namespace, user) = self.plan.sockets[context.random.index(place + 1)].clone();
        let prefix = if namespace == "/" { String::new() } else { format!("{namespace},") };
        match self.sockets.get_mut(namespace) {
            Some((_, SocketStage::Connected)) => {}
            Some((sid, state @ SocketStage::Over)) => {
                // Not before the old socket's last packets are here.
                if context.record.waiting_since(sid).is_none() && !context.record.is_live(sid) {
                    *state = SocketStage::Reconnecting;
                    self.awaited.push((Awaited::Connect(namespace.to_owned()), context.now));
                    self.say(format!("0{prefix}{}", payload_of(&user)));
                }
                return;
            }
            // The first CONNECT was sent when the session opened.
            Some((_, SocketStage::Reconnecting)) | None => return,
        }
        let (id, room) = (self.acts, context.random.below(4));
        let choice = context.random.below(16);
        if matches!(choice, 3 | 4 | 6..=10) {
            self.awaited.push((Awaited::Ack(id), context.now));
        }
        match choice {
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
                self.sockets.entry(namespace.to_owned()).and_modify(|(_, state)| *state = SocketStage::Over);
            }
            13 if context.random.one_in(4) => {
                self.say(format!("2{prefix}[\"bye\",1]"));
                // What it says behind that would end its session.
                self.next_act += 500;
                self.ends_until = self.next_act;
                self.ends = Some(namespace.to_owned());
            }
            _ => {}
        }
    }

    /// Whether what it says now may come behind the end of its socket.
    fn is_ending(&mut self, now: u64) -> bool {
        let is_there =
            |namespace: &String| self.sockets.get(namespace).is_some_and(|(_, at)| *at == SocketStage::Connected);
        if !self.ends.as_ref().is_some_and(is_there) {
            self.ends = None;
        }
        now < self.ends_until || self.ends.is_some()
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
        self.has_given_up_probe = true;
        let end = context.random.pick(&[End::Fin, End::Reset]);
        context.network.end(websocket.tcp, end);
        self.upgrade = Upgrade::Idle;
        // The server has to see the end before it takes another probe.
        self.upgrade_at = context.network.arrival(websocket.tcp) + 50;
        context.network.at(self.upgrade_at, Event::Wake(context.id));
    }

    /// Tells the record how the server has to see its transport, once it knows where its sockets are.
    fn know(&self, record: &mut Record) {
        let known = match (self.plan.style, self.is_upgraded, self.has_heard_upgraded) {
            (Style::WebSocket, ..) | (_, true, true) => KnownTransport::WebSocket,
            (_, true, false) => KnownTransport::Either,
            (_, false, _) => KnownTransport::Polling,
        };
        if let Some((sid, _)) = self.sockets.values().next().filter(|_| !self.has_left()) {
            record.transports.insert(place_of(sid), known);
        }
    }

    /// The server has ended the session, as it may when it drains.
    fn dismiss(&mut self, context: &mut Context<'_>, word: Word) {
        if self.has_left() {
            return;
        }
        assert!(context.record.draining_since.is_some(), "the server ended an honest session");
        self.forget(context.record);
        self.phase = Phase::Dismissed;
        let is_told = word == Word::Said && (!self.is_upgraded || self.has_heard_upgraded);
        for (sid, _) in self.sockets.values().filter(|_| is_told) {
            let waiting = context.record.waiting_since(sid);
            assert!(waiting.is_none(), "the session ended before {waiting:?} had come");
        }
        let websocket = self.websocket.as_ref().map(|websocket| websocket.tcp);
        for tcp in [self.get.tcp, self.post.tcp, websocket].into_iter().flatten() {
            context.network.end(tcp, End::Fin);
        }
    }

    fn forget(&self, record: &mut Record) {
        if let Some((sid, _)) = self.sockets.values().next() {
            record.transports.remove(&place_of(sid));
        }
    }
}

impl Actor for Honest {
    fn wake(&mut self, context: &mut Context<'_>) {
        self.id = context.id;
        self.read(context);
        if self.phase == Phase::Opening && self.sid.is_empty() && self.next_act == 0 {
            self.next_act = context.now;
            self.awaited.push((Awaited::Open, context.now));
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
            if context.now >= self.connect_at {
                self.connect(context);
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
        let overdue = self.awaited.iter().find(|(_, at)| !self.has_left() && at + ANSWER_MS_MAX + record.late_ms < now);
        assert!(overdue.is_none(), "{overdue:?} was not answered: {:?}", self.plan.style);
        for (sid, state) in self.sockets.values() {
            match self.phase {
                Phase::Left { grace_ms, seen_at } => {
                    let by = record.heard_at(self.id).max(seen_at) + grace_ms + record.late_ms;
                    assert!(
                        now <= by || !record.is_live(sid),
                        "a {:?} client that left by {:?} is there at {now}; it should have been gone at {by}",
                        self.plan.style,
                        self.plan.leaving
                    );
                }
                Phase::Dismissed => {}
                Phase::Opening | Phase::Open => {
                    let by = |at: u64| at + DELIVERY_MS_MAX + record.late_ms;
                    let waiting = record.waiting_since(sid).filter(|waiting| by(waiting.at) < now);
                    assert!(waiting.is_none(), "{:?} {state:?} did not get {waiting:?}", self.plan.style);
                }
            }
        }
    }
}

impl Honest {
    /// It says who it is, in each of its namespaces.
    fn connect(&mut self, context: &mut Context<'_>) {
        self.connect_at = u64::MAX;
        for (number, (namespace, user)) in self.plan.sockets.clone().into_iter().enumerate() {
            let prefix = if namespace == "/" { String::new() } else { format!("{namespace},") };
            if context.random.one_in(6) {
                self.say(format!("0{prefix}{{\"token\":\"wrong\"}}"));
                self.awaited.push((Awaited::Refusal(namespace.to_owned()), context.now));
            }
            self.awaited.push((Awaited::Connect(namespace.to_owned()), context.now));
            self.say(format!("0{prefix}{}", payload_of(&user)));
            // The first socket is where its user is at home, and waits for nobody.
            if number == 0 && self.plan.is_eager {
                self.say(format!("2{prefix}0[\"echo\",\"early\"]"));
                self.awaited.push((Awaited::Ack(0), context.now));
            }
        }
    }

    /// Whether an answer was awaited; it is no more.
    fn is_answered(&mut self, answer: &Awaited) -> bool {
        let before = self.awaited.len();
        self.awaited.retain(|(awaited, _)| awaited != answer);
        self.awaited.len() < before
    }

    /// Whether it is not in the middle of changing its transport.
    fn upgrade_is_settled(&self) -> bool {
        self.upgrade == Upgrade::Idle || self.is_upgraded
    }

    /// The open packet came.
    fn on_open(&mut self, context: &mut Context<'_>, sid: String) {
        self.sid = sid;
        self.phase = Phase::Open;
        self.is_answered(&Awaited::Open);
        // Who hesitates connects while it upgrades.
        self.connect_at = context.now + if context.random.one_in(2) { 0 } else { context.random.below(80) };
        context.network.at(self.connect_at, Event::Wake(context.id));
        self.upgrade_at = context.now + context.random.below(30);
        self.next_act = context.now + context.random.below(50);
        context.network.at(self.upgrade_at, Event::Wake(context.id));
        context.network.at(self.next_act, Event::Wake(context.id));
        context.network.at(self.plan.leaves_at, Event::Wake(context.id));
    }
}
