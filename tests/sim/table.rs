//! `Table`: a shard whose connections are played by hand, move by move, without latency; for races that are walked through
//! exhaustively.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;

use sockring::capacity::{Capacity, CapacityLimits};
use sockring::shard::{
    BusMail, ConnectionKey, Counters, Effect, EngineSettings, Mail, Now, Reply, Shard, ShardNumber, ShardParts, Target,
    Ticket,
};
use sockring_protocol::Millis;
use sockring_protocol::adapter::{Broadcast, Ending, StoredSession};
use sockring_protocol::engineio::SessionTimes;
use sockring_protocol::websocket::Opcode;

use super::desk::{Desk, payload_of};
use super::random::Random;
use super::record::Record;
use super::wire;

/// One thing that happens.
#[derive(Clone, Debug)]
pub enum Move {
    Bytes(usize, Vec<u8>),
    /// The peer's side of a line ends.
    End(usize),
    /// The backend emits `["news"]` to everybody.
    Emit,
    /// The same under a key: a newer one replaces the one that waits.
    EmitUnder(&'static str),
    /// The same with this many bytes.
    EmitBytes(usize),
    /// The backend ends all sessions of the user.
    EndSessions,
    /// The bus says something.
    Bus(BusMail),
    /// Somebody asks something.
    Mail(fn() -> Mail),
    /// Time passes before what comes next.
    Wait(u64),
}

/// One connection.
#[derive(Debug, Default)]
struct Line {
    key: Option<ConnectionKey>,
    output: Vec<u8>,
    is_websocket: bool,
    is_sending: bool,
    /// The shard has shut or closed it.
    is_ended: bool,
    is_hung_up: bool,
    is_closing: bool,
}

/// A shard, some lines to it, and one session over them.
pub struct Table {
    shard: Shard<Desk>,
    now: u64,
    lines: Vec<Line>,
    keys: HashMap<ConnectionKey, usize>,
    pub sid: String,
    wishes: Vec<String>,
    /// What other servers were told.
    sessions: Vec<StoredSession>,
    replies: Vec<Reply>,
    effects: Vec<Effect>,
    /// To which line, and how many bytes.
    sends: Vec<(usize, usize)>,
    /// What the shard wants looked at: it has nothing there that is not read.
    looks: Vec<ConnectionKey>,
    looks_around: bool,
}

pub const USER: &str = "u0";

/// Settings with short times, for few connections.
pub fn settings() -> EngineSettings {
    EngineSettings {
        path: wire::PATH.to_owned(),
        times: SessionTimes { ping_interval_ms: 3_000, ping_timeout_ms: 2_000, upgrade_timeout_ms: 1_000 },
        connect_timeout_ms: 500,
        namespaces: vec!["/".to_owned(), "/custom".to_owned()],
        ..EngineSettings::default()
    }
}

impl Table {
    /// A polling session, nothing queued and no GET open, and this many fresh connections.
    pub fn new(lines: usize) -> Table {
        Table::with(settings(), lines)
    }

    pub fn with(settings: EngineSettings, lines: usize) -> Table {
        let record = Rc::new(RefCell::new(Record::new(settings.rooms_per_socket_max, 1)));
        let most = lines.max(15) + 1;
        let limits = CapacityLimits { connections_max: most, clients_max: most, ..CapacityLimits::UNLIMITED };
        let parts = ShardParts {
            settings: Arc::new(settings),
            capacity: Arc::new(Capacity::new(limits)),
            place: ShardNumber { number: 0, of: 1 },
            app: Desk::new(record),
            entropy: Box::new(Random::new(1)),
        };
        let now = Now { at: Millis(1_000), unix_ms: 0 };
        let mut table = Table {
            shard: Shard::new(parts, now),
            now: 1_000,
            lines: (0..=lines).map(|_| Line::default()).collect(),
            keys: HashMap::new(),
            sid: String::new(),
            wishes: Vec::new(),
            sessions: Vec::new(),
            replies: Vec::new(),
            effects: Vec::new(),
            sends: Vec::new(),
            looks: Vec::new(),
            looks_around: false,
        };
        for line in 0..=lines {
            let key = table.shard.on_accept(None).expect("room for a few connections");
            table.lines[line].key = Some(key);
            table.keys.insert(key, line);
        }
        table.turn(&[Move::Bytes(lines, wire::handshake())]);
        table.sid = wire::sid_in(&table.take(lines)).expect("an open packet");
        table
    }

    /// The same with a socket in the main namespace.
    pub fn connected(lines: usize) -> Table {
        Table::connected_with(settings(), lines)
    }

    pub fn connected_with(settings: EngineSettings, lines: usize) -> Table {
        let mut table = Table::with(settings, lines);
        let connect = format!("40{}", payload_of(USER));
        table.turn(&[Move::Bytes(lines, wire::post(&table.sid, connect.as_bytes()))]);
        table.turn(&[Move::Bytes(lines, wire::poll(&table.sid))]);
        let answers = table.take(lines);
        assert!(answers.contains("ok") && answers.contains("welcome"), "{answers}");
        table
    }

    /// The sessions that other servers were told of since.
    pub fn sessions(&mut self) -> Vec<StoredSession> {
        std::mem::take(&mut self.sessions)
    }

    /// One turn: these moves, in this order.
    pub fn turn(&mut self, moves: &[Move]) {
        self.now += 1;
        for state in &mut self.lines {
            let Some(key) = state.key else { continue };
            if state.is_closing {
                state.key = None;
                self.keys.remove(&key);
                self.shard.on_closed(key);
            } else if std::mem::take(&mut state.is_sending) {
                self.shard.on_sent(key, Ok(()));
            }
        }
        for step in moves {
            if let Move::Wait(wait_ms) = step {
                self.pass(*wait_ms);
            }
        }
        self.shard.on_time(Now { at: Millis(self.now), unix_ms: self.now });
        for step in moves {
            match step {
                Move::Bytes(line, bytes) => self.bytes(*line, bytes),
                Move::End(line) => self.hang_up(*line),
                Move::Emit => self.emit(0, None),
                Move::EmitUnder(key) => self.emit(0, Some(key)),
                Move::EmitBytes(length) => self.emit(*length, None),
                Move::EndSessions => {
                    let mail = Mail::Disconnect(Target::User(USER.into()), Ending::Session);
                    self.shard.on_mail(Ticket(1), mail);
                }
                Move::Bus(mail) => self.shard.on_bus_mail(mail.clone()),
                Move::Mail(mail) => self.shard.on_mail(Ticket(2), mail()),
                Move::Wait(_) => {}
            }
        }
        for key in std::mem::take(&mut self.looks) {
            self.shard.on_looked(key);
        }
        if std::mem::take(&mut self.looks_around) {
            self.shard.on_looked_around();
        }
        self.shard.on_tick();
        self.flush();
    }

    fn bytes(&mut self, line: usize, bytes: &[u8]) {
        let state = &self.lines[line];
        if let Some(key) = state.key
            && !state.is_closing
            && !state.is_hung_up
        {
            self.shard.on_bytes(key, &mut bytes.to_vec());
        }
    }

    fn hang_up(&mut self, line: usize) {
        let state = &mut self.lines[line];
        if let Some(key) = state.key
            && !state.is_closing
            && !state.is_hung_up
        {
            state.is_hung_up = true;
            self.shard.on_hangup(key);
        }
    }

    fn emit(&mut self, length: usize, key: Option<&str>) {
        let args = match length {
            0 => "[\"news\"]".to_owned(),
            length => format!("[\"news\",\"{}\"]", "x".repeat(length)),
        };
        let conflate = key.map(Box::from);
        let broadcast = Broadcast { conflate, ..Broadcast::new("/", Vec::new(), Arc::from(args.as_bytes())) };
        self.shard.on_mail(Ticket(1), Mail::Deliver(vec![broadcast]));
    }

    fn flush(&mut self) {
        let mut effects = std::mem::take(&mut self.effects);
        self.shard.flush(&mut effects);
        for effect in effects.drain(..) {
            let (key, bytes) = match &effect {
                Effect::Reply(ticket, reply) => {
                    if *ticket == Ticket(2) {
                        self.replies.push((**reply).clone());
                    }
                    continue;
                }
                Effect::Subscribe(room, epoch) => {
                    self.wishes.push(format!("subscribe {} {epoch}", room.name));
                    continue;
                }
                Effect::Unsubscribe(room) => {
                    self.wishes.push(format!("unsubscribe {}", room.name));
                    continue;
                }
                Effect::Acknowledged(answer) => {
                    let args = String::from_utf8_lossy(&answer.args);
                    self.wishes.push(format!("acknowledged {} {args} {:?}", answer.number, answer.attachments));
                    continue;
                }
                Effect::FindSession(question) => {
                    self.wishes.push(format!("find {} {}", question.number, question.pid));
                    continue;
                }
                Effect::KeepSession(kept) => {
                    self.sessions.push(kept.session.clone());
                    continue;
                }
                Effect::ReadKept(question) => {
                    self.wishes.push(format!("read {} {}", question.room.name, question.number));
                    continue;
                }
                Effect::ConfirmKept(received) => {
                    let ids: Vec<u64> = received.ids.iter().map(|id| id.0).collect();
                    self.wishes.push(format!("confirm {} {ids:?} {}", received.room.name, received.number));
                    continue;
                }
                Effect::GiveKept(given) => {
                    self.wishes.push(format!("give {} {} {:?}", given.room.name, given.id.0, given.by));
                    continue;
                }
                Effect::Look(key) => {
                    self.looks.push(*key);
                    continue;
                }
                Effect::LookAround => {
                    self.looks_around = true;
                    continue;
                }
                Effect::Send(key, bytes) => (*key, bytes.as_slice()),
                Effect::Read(key) | Effect::Settle(key) | Effect::ShutDown(key) | Effect::Close(key) => (*key, &[][..]),
                Effect::HandOver(..) | Effect::Mail(..) => unreachable!("there is no other shard"),
            };
            let number = self.keys[&key];
            let line = &mut self.lines[number];
            assert!(!line.is_closing, "{effect:?} after the end");
            match effect {
                Effect::Send(..) => {
                    assert!(!line.is_sending && !line.is_ended, "a second send, or one after the end");
                    line.is_sending = true;
                    self.sends.push((number, bytes.len()));
                    line.output.extend_from_slice(bytes);
                }
                Effect::Settle(_) => line.is_websocket = true,
                Effect::ShutDown(_) => line.is_ended = true,
                Effect::Close(_) => (line.is_ended, line.is_closing) = (true, true),
                _ => {}
            }
        }
        self.effects = effects;
    }

    /// Has the shard read a mail whose answer is of no interest.
    pub fn mail(&mut self, mail: Mail) {
        self.shard.on_mail(Ticket(1), mail);
    }

    /// The same; its answer is among the `replies`.
    pub fn ask(&mut self, mail: Mail) {
        self.shard.on_mail(Ticket(2), mail);
    }

    /// Lets time pass without waking the shard, whatever it wants.
    pub fn oversleep(&mut self, duration_ms: u64) {
        self.now += duration_ms;
    }

    /// Whether the shard waits for what a look finds.
    pub fn is_looking(&self) -> bool {
        self.looks_around || !self.looks.is_empty()
    }

    /// Turns until sends, closes and looks are complete.
    fn complete(&mut self) {
        let is_busy = |line: &Line| line.is_sending || line.key.is_some() && line.is_closing;
        while self.looks_around || !self.looks.is_empty() || self.lines.iter().any(is_busy) {
            self.turn(&[]);
        }
    }

    /// Lets time pass, waking the shard when it wants to be woken, and no more often.
    pub fn pass(&mut self, duration_ms: u64) {
        let until = self.now + duration_ms;
        self.complete();
        while let Some(deadline) = self.shard.deadline().map(|at| at.0).filter(|at| *at <= until) {
            self.now = deadline.max(self.now + 1) - 1;
            self.turn(&[]);
            self.turn(&[]);
            self.complete();
        }
        self.now = self.now.max(until);
    }

    /// What came on a line: answers as `status body`, frames as their text, and how it ended.
    pub fn take(&mut self, line: usize) -> String {
        let state = &mut self.lines[line];
        let mut words = Vec::new();
        while !state.output.starts_with(&[0x81]) && !state.output.starts_with(&[0x88]) {
            let Some(answer) = wire::take_answer(&mut state.output) else { break };
            match answer.status {
                101 => words.push("101".to_owned()),
                status => words.push(format!("{status} {}", answer.body)),
            }
        }
        for (opcode, data) in wire::take_frames(&mut state.output) {
            words.push(match opcode {
                Opcode::Close => "close".to_owned(),
                _ => String::from_utf8_lossy(&data).into_owned(),
            });
        }
        assert!(state.output.is_empty(), "half an answer");
        if state.is_ended {
            words.push("end".to_owned());
        }
        words.join(", ")
    }

    /// The sends since the last question: to which line, and how many bytes.
    pub fn sends(&mut self) -> Vec<(usize, usize)> {
        std::mem::take(&mut self.sends)
    }

    /// What the shard wants of the bus since the last question.
    pub fn wishes(&mut self) -> Vec<String> {
        std::mem::take(&mut self.wishes)
    }

    /// The answers to `Move::Mail` since the last question.
    pub fn replies(&mut self) -> Vec<Reply> {
        std::mem::take(&mut self.replies)
    }

    pub fn takes_mail(&self) -> bool {
        self.shard.takes_mail()
    }

    pub fn counters(&self) -> &Counters {
        self.shard.counters()
    }

    pub fn is_alive(&self) -> bool {
        self.shard.stats().clients > 0
    }

    pub fn queued_bytes(&self) -> u64 {
        self.shard.stats().queued_bytes
    }

    pub fn connected_clients(&self) -> u64 {
        self.shard.stats().connected
    }

    pub fn is_connected(&self) -> bool {
        self.shard.stats().connected > 0
    }

    /// The lines that are WebSockets and not ended.
    pub fn websockets(&self) -> Vec<usize> {
        let open = self.lines.iter().enumerate().filter(|(_, line)| line.is_websocket && !line.is_ended);
        open.map(|(line, _)| line).collect()
    }

    pub fn is_websocket_transport(&self) -> bool {
        self.shard.stats().websocket > 0
    }

    /// A line for questions afterwards.
    pub fn add_line(&mut self) -> usize {
        let key = self.shard.on_accept(None).expect("room");
        self.lines.push(Line { key: Some(key), ..Line::default() });
        self.keys.insert(key, self.lines.len() - 1);
        self.lines.len() - 1
    }

    /// With nobody saying anything more, everything has to go.
    pub fn drain(&mut self) {
        self.pass(200_000);
        self.turn(&[]);
        assert_eq!(self.shard.stats(), Default::default(), "something is left for ever");
    }
}
