//! `shard`: what several connections of one peer send, from the first byte of a request to the last effect, with a kernel
//! that has no faults.

use std::collections::VecDeque;
use std::sync::Arc;

use sockring::app::{Action, Actions, Admission, Application, ConnectRequest, ReceivedEvent, Refusal, SocketInfo};
use sockring::capacity::{Capacity, CapacityLimits};
use sockring::shard::{ConnectionKey, Effect, EngineSettings, Entropy, Now, Shard, ShardNumber, ShardParts};
use sockring_protocol::Millis;
use sockring_protocol::websocket::{Decoded, Decoder, FrameError, MessageLimits, ServerFrames};

use crate::Random;

/// What is behind this is another connection's; all are there from the beginning.
const NEXT_CONNECTION: &[u8] = b"\n--\n";
const CONNECTIONS_MAX: usize = 6;
/// Small, so that small inputs reach them.
const LIMITS: MessageLimits = MessageLimits { message_bytes_max: 2048, fragments_max: 4 };
const QUEUE_BYTES_MAX: usize = 16 << 10;
/// Turns for nothing but what the ones before have left.
const TURNS_MAX: usize = 64;
/// Times at which something is due, until a silent peer is gone.
const DEADLINES_MAX: usize = 200;

/// Takes the bytes as what one peer sends on up to six connections, one after the other.
pub fn shard(data: &[u8]) {
    let whole = run(data, |bytes| vec![bytes]);
    let mut random = Random::of(data);
    let cut = run(data, |bytes| random.cut(bytes, 64));
    for (whole, cut) in whole.iter().zip(&cut) {
        // Pollers get more or fewer packets at once, by when they ask.
        if !data.windows(4).any(|window| window == b"sid=") {
            assert_eq!(whole.escape_ascii().to_string(), cut.escape_ascii().to_string(), "by how the input was cut");
        }
        check_answers(whole);
        check_answers(cut);
    }
    if let Some(sent) = whole.first() {
        check_fragments(split(data)[0], sent);
    }
}

/// Who is told that a message has too many fragments has sent one that has.
fn check_fragments(data: &[u8], sent: &[u8]) {
    let words = FrameError::TooManyFragments.to_string();
    let is_told = sent.windows(words.len()).any(|window| window == words.as_bytes());
    let Some(end) = data.windows(4).position(|window| window == b"\r\n\r\n").filter(|_| is_told) else { return };
    let mut frames = data[end + 4..].to_vec();
    let (mut rest, mut decoder) = (frames.as_mut_slice(), Decoder::default());
    let error = loop {
        match decoder.decode(rest, &LIMITS) {
            Ok(Decoded { consumed, event: Some(_) }) => rest = &mut rest[consumed..],
            Ok(_) => break None,
            Err(error) => break Some(error),
        }
    };
    assert_eq!(error, Some(FrameError::TooManyFragments));
}

/// Answers, and after the one that changes to WebSocket frames without a mask.
fn check_answers(sent: &[u8]) {
    let mut rest = sent;
    while !rest.is_empty() {
        let end = rest.windows(4).position(|window| window == b"\r\n\r\n").expect("a whole head");
        let head = std::str::from_utf8(&rest[..end]).expect("a head is text");
        assert!(head.starts_with("HTTP/1.1 "), "{head}");
        rest = &rest[end + 4..];
        if head.starts_with("HTTP/1.1 101 ") {
            let mut frames = ServerFrames::new(rest);
            frames.by_ref().for_each(drop);
            assert!(frames.rest().is_empty(), "half a frame, or no frame: {}", frames.rest().escape_ascii());
            return;
        }
        let length = head.split("\r\n").find_map(|line| line.strip_prefix("Content-Length: "));
        let length = length.map_or(0, |length| length.parse().expect("a length"));
        // An answer to HEAD has the length of what it has not.
        rest = rest.get(length..).unwrap_or_default();
    }
}

/// What each connection was sent.
fn run<'d>(data: &'d [u8], mut cut: impl FnMut(&'d [u8]) -> Vec<&'d [u8]>) -> Vec<Vec<u8>> {
    let mut outside = Outside::new();
    for bytes in split(data) {
        let Some(number) = outside.accept() else { break };
        for piece in cut(bytes) {
            outside.input(number, piece);
        }
    }
    outside.settle();
    let shard = &outside.shard;
    let stats = shard.stats();
    assert!(stats.queued_bytes <= (stats.clients + 1) * QUEUE_BYTES_MAX as u64, "{stats:?}");
    outside.fall_silent();
    let mut sent = Vec::new();
    for connection in outside.connections {
        sent.push(connection.sent);
    }
    sent
}

fn split(data: &[u8]) -> Vec<&[u8]> {
    let mut parts = Vec::new();
    let mut rest = data;
    while parts.len() + 1 < CONNECTIONS_MAX
        && let Some(at) = rest.windows(NEXT_CONNECTION.len()).position(|window| window == NEXT_CONNECTION)
    {
        parts.push(&rest[..at]);
        rest = &rest[at + NEXT_CONNECTION.len()..];
    }
    parts.push(rest);
    parts
}

/// One connection as the kernel has it.
struct Connection {
    key: ConnectionKey,
    /// Receives once, or for ever.
    is_read: bool,
    is_settled: bool,
    is_sending: bool,
    /// The shard has let go of it.
    is_closed: bool,
    sent: Vec<u8>,
}

/// What a shard here is made of.
fn parts() -> ShardParts<Echo> {
    let limits = CapacityLimits {
        connections_max: CONNECTIONS_MAX,
        clients_max: CONNECTIONS_MAX,
        input_bytes_max: 64 << 10,
        ..CapacityLimits::UNLIMITED
    };
    let settings = EngineSettings {
        namespaces: vec!["/".to_owned(), "/admin".to_owned()],
        fragments_max: LIMITS.fragments_max,
        payload_bytes_max: LIMITS.message_bytes_max,
        queue_bytes_max: QUEUE_BYTES_MAX,
        ..EngineSettings::default()
    };
    ShardParts {
        settings: Arc::new(settings),
        capacity: Arc::new(Capacity::new(limits)),
        place: ShardNumber { number: 0, of: 1 },
        app: Echo,
        entropy: Box::new(Count(0)),
    }
}

/// What a shard is, as bytes, after what one peer has sent, whatever is left to do of it.
pub(crate) fn packed(data: &[u8]) -> Option<Vec<u8>> {
    let mut outside = Outside::new();
    for bytes in split(data) {
        let Some(number) = outside.accept() else { break };
        outside.input(number, bytes);
    }
    outside.shard.is_portable().then(|| outside.shard.pack())
}

/// A shard out of bytes, if that is what they are.
pub(crate) fn unpacked(bytes: &[u8]) -> Option<Shard<Echo>> {
    Shard::unpack(bytes, parts(), Now { at: Millis(1_000), unix_ms: 1_700_000_000_000 }).ok()
}

struct Outside {
    shard: Shard<Echo>,
    capacity: Arc<Capacity>,
    connections: Vec<Connection>,
    now: Now,
    /// What the next turn begins with.
    looks: VecDeque<Option<ConnectionKey>>,
}

impl Outside {
    fn new() -> Outside {
        let now = Now { at: Millis(1_000), unix_ms: 1_700_000_000_000 };
        let parts = parts();
        let capacity = Arc::clone(&parts.capacity);
        let looks = VecDeque::new();
        Outside { shard: Shard::new(parts, now), capacity, connections: Vec::new(), now, looks }
    }

    fn accept(&mut self) -> Option<usize> {
        let key = self.turn(|shard| shard.on_accept(None))?;
        self.connections.push(Connection {
            key,
            is_read: true,
            is_settled: false,
            is_sending: false,
            is_closed: false,
            sent: Vec::new(),
        });
        Some(self.connections.len() - 1)
    }

    /// Waits until the connection is read again; what is not read then is lost with it.
    fn input(&mut self, number: usize, bytes: &[u8]) {
        for _ in 0..TURNS_MAX {
            let connection = &mut self.connections[number];
            if connection.is_closed {
                return;
            }
            if connection.is_read || connection.is_settled {
                connection.is_read = false;
                let (key, mut bytes) = (connection.key, bytes.to_vec());
                return self.turn(|shard| shard.on_bytes(key, &mut bytes));
            }
            self.turn(|_| {});
        }
    }

    /// One turn: what was sent before is with the peer, then this happens.
    fn turn<T>(&mut self, happen: impl FnOnce(&mut Shard<Echo>) -> T) -> T {
        self.shard.on_time(self.now);
        for connection in &mut self.connections {
            if std::mem::take(&mut connection.is_sending) {
                self.shard.on_sent(connection.key, Ok(()));
            }
        }
        for look in std::mem::take(&mut self.looks) {
            match look {
                Some(key) => self.shard.on_looked(key),
                None => self.shard.on_looked_around(),
            }
        }
        let result = happen(&mut self.shard);
        self.shard.on_tick();
        let mut effects = Vec::new();
        self.shard.flush(&mut effects);
        for effect in effects {
            self.perform(effect);
        }
        result
    }

    fn perform(&mut self, effect: Effect) {
        match effect {
            Effect::Read(key) => self.with(key, |connection| connection.is_read = true),
            Effect::Settle(key) => self.with(key, |connection| connection.is_settled = true),
            Effect::Look(key) => self.looks.push_back(Some(key)),
            Effect::LookAround => self.looks.push_back(None),
            Effect::Send(key, bytes) => self.with(key, |connection| {
                assert!(!connection.is_sending, "two sends at once");
                assert!(!bytes.as_slice().is_empty(), "a send of nothing");
                connection.is_sending = true;
                connection.sent.extend_from_slice(bytes.as_slice());
            }),
            Effect::ShutDown(key) => self.with(key, |_| {}),
            Effect::Close(key) | Effect::HandOver(key, ..) => {
                self.with(key, |connection| connection.is_closed = true);
                self.shard.on_closed(key);
            }
            Effect::Mail(to, mail) => panic!("mail to shard {to}, which there is not: {mail:?}"),
            Effect::Reply(..) => panic!("nobody has asked"),
            Effect::Subscribe(..)
            | Effect::Unsubscribe(_)
            | Effect::ReadKept(_)
            | Effect::ConfirmKept(_)
            | Effect::GiveKept(_) => panic!("there is no bus"),
            Effect::Acknowledged(_) => panic!("nobody wanted an acknowledgement"),
            Effect::FindSession(_) | Effect::KeepSession(_) => panic!("there is no stream"),
        }
    }

    /// Only a connection that is there gets effects. One that was just accepted is not listed yet.
    fn with(&mut self, key: ConnectionKey, work: impl FnOnce(&mut Connection)) {
        if let Some(connection) = self.connections.iter_mut().find(|connection| connection.key == key) {
            assert!(!connection.is_closed, "an effect behind the last one");
            work(connection);
        }
    }

    /// Turns until there is nothing left to do.
    fn settle(&mut self) {
        for _ in 0..TURNS_MAX {
            let is_busy = self.shard.is_behind() || self.connections.iter().any(|connection| connection.is_sending);
            if !is_busy && self.looks.is_empty() {
                return;
            }
            self.turn(|_| {});
        }
        panic!("no end of turns at one moment");
    }

    /// The peer says nothing any more, and does not go: everything ends by the clock.
    fn fall_silent(&mut self) {
        for _ in 0..DEADLINES_MAX {
            let is_over = self.connections.iter().all(|connection| connection.is_closed);
            let (Some(deadline), false) = (self.shard.deadline(), is_over && self.capacity.clients() == 0) else {
                break;
            };
            let passed_ms = deadline.0.saturating_sub(self.now.at.0);
            self.now = Now { at: Millis(self.now.at.0 + passed_ms), unix_ms: self.now.unix_ms + passed_ms };
            self.turn(|_| {});
            self.settle();
        }
        let stats = self.shard.stats();
        let left = [stats.connections, stats.clients, stats.sockets, stats.rooms, stats.users, stats.queued_bytes];
        assert_eq!(left, [0; 6], "left by a peer that is gone: {stats:?}");
        let left = [stats.input_bytes, stats.closing_bytes, stats.sending_bytes, stats.heads, stats.bodies];
        assert_eq!(left, [0; 5], "left by a peer that is gone: {stats:?}");
        assert_eq!(self.capacity.clients(), 0);
    }
}

/// What comes goes back; every socket is in one room.
pub(crate) struct Echo;

impl Application for Echo {
    fn admit(&mut self, _: &ConnectRequest<'_>) -> Result<Admission, Refusal> {
        Ok(Admission::default())
    }

    fn connected(&mut self, _: &SocketInfo<'_>, _: &ConnectRequest<'_>, actions: &mut Actions) {
        actions.push(Action::Join("everyone".to_owned()));
    }

    fn event(&mut self, _: &SocketInfo<'_>, event: &ReceivedEvent<'_>, actions: &mut Actions) {
        let args = event.args.text().as_bytes().to_vec();
        actions.push(Action::Emit { ack: None, args, attachments: event.attachments.to_vec() });
    }
}

/// The same session ids in every run, so that seeds can name them.
struct Count(u8);

impl Entropy for Count {
    fn fill(&mut self, bytes: &mut [u8]) {
        for byte in bytes {
            self.0 = self.0.wrapping_add(1);
            *byte = self.0;
        }
    }
}
