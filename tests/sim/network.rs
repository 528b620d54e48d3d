//! The network: TCP connections as byte streams with latency, cuts, receive windows, FIN and RST, on an agenda of events.

use std::collections::{BTreeMap, VecDeque};
use std::io::{Read, Write};
use std::sync::Arc;

use rustls::{ClientConfig, ClientConnection};

use super::random::Random;
use super::secured;

/// Names a connection of the simulation; never reused.
pub type TcpId = usize;
/// Names an actor.
pub type ActorId = usize;

/// What happens at a point in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// A client's connection is there for a server's kernel.
    Connect(TcpId),
    /// The next segment from the client arrives.
    Arrive(TcpId),
    /// There is space for what the server sends again.
    Space(TcpId),
    /// Who has closed has answered further bytes with RST.
    Break(TcpId),
    /// What the kernel of a shard does beside its submissions is done.
    Finish(usize),
    /// The API gives a connection back.
    Return(TcpId),
    /// The next segment from the server arrives.
    Deliver(TcpId),
    /// An actor wanted to be woken.
    Wake(ActorId),
}

/// How a side of a connection ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    Fin,
    Reset,
}

#[derive(Debug)]
enum Segment {
    Bytes(Vec<u8>),
    End(End),
}

/// One direction: segments that arrive in order.
#[derive(Debug, Default)]
struct Stream {
    segments: VecDeque<Segment>,
    /// When the last of them arrives.
    last_at: u64,
}

/// One TCP connection: the client's end, the server's kernel, and the wire between them.
#[derive(Debug)]
pub struct Tcp {
    pub owner: ActorId,
    latency: u64,
    /// How much the two kernels hold for a client that does not read.
    window: usize,
    up: Stream,
    down: Stream,
    /// Down: bytes that left the server and were not read by the client.
    held: usize,
    /// Read by nobody yet, at the client.
    unread: Vec<u8>,
    /// The client's side of TLS, where it is spoken.
    tls: Option<Box<ClientConnection>>,
    /// How the server's side ended, as the client sees it.
    pub server_end: Option<End>,
    /// The client has ended its side.
    pub client_end: Option<End>,
    pub server: ServerSide,
}

/// A connection as the server's kernel keeps it.
#[derive(Debug, Default)]
pub struct ServerSide {
    /// Whose kernel has accepted it, or has got it since.
    pub shard: usize,
    /// Arrived and not received.
    pub arrived: Vec<u8>,
    pub end: Option<End>,
    /// What is sent is answered with RST.
    pub is_broken: bool,
    /// Our side has ended.
    pub is_shut: bool,
    /// Both sides have.
    pub is_aborted: bool,
    pub is_closed: bool,
}

impl ServerSide {
    /// Bytes that nobody has received, or the end.
    pub fn is_readable(&self) -> bool {
        !self.arrived.is_empty() || self.has_ended()
    }

    pub fn has_ended(&self) -> bool {
        self.end.is_some() || self.is_aborted
    }

    /// Whether what is sent fails.
    pub fn is_lost(&self) -> bool {
        self.end == Some(End::Reset) || self.is_aborted || self.is_broken
    }
}

/// All connections, and everything that is going to happen.
#[derive(Debug)]
pub struct Network {
    pub now: u64,
    tcps: Vec<Tcp>,
    agenda: BTreeMap<(u64, u64), Event>,
    sequence: u64,
    random: Random,
    /// Latencies are up to this; a hop also varies by a few milliseconds.
    latency_max: u64,
    /// At times a segment from a client comes later by up to this.
    pub stall_max: u64,
    /// Between which the kernel spreads connections.
    shards: usize,
    /// What clients begin TLS with; `None`: they speak plain text.
    pub tls: Option<Arc<ClientConfig>>,
}

impl Network {
    pub fn new(random: Random, latency_max: u64, shards: usize) -> Network {
        Network {
            now: 0,
            tcps: Vec::new(),
            agenda: BTreeMap::new(),
            sequence: 0,
            random,
            latency_max,
            stall_max: 0,
            shards,
            tls: None,
        }
    }

    pub fn at(&mut self, at: u64, event: Event) {
        self.sequence += 1;
        self.agenda.insert((at.max(self.now), self.sequence), event);
    }

    pub fn next_at(&self) -> Option<u64> {
        self.agenda.first_key_value().map(|((at, _), _)| *at)
    }

    /// Takes the next event if it is due by then.
    pub fn pop(&mut self, until: u64) -> Option<Event> {
        let entry = self.agenda.first_entry().filter(|entry| entry.key().0 <= until)?;
        Some(entry.remove())
    }

    pub fn tcp(&self, id: TcpId) -> &Tcp {
        &self.tcps[id]
    }

    pub fn server(&mut self, id: TcpId) -> &mut ServerSide {
        &mut self.tcps[id].server
    }

    /// When everything that the client has written will have arrived.
    pub fn arrival(&self, id: TcpId) -> u64 {
        self.tcps[id].up.last_at.max(self.now)
    }

    // What a client does.

    pub fn connect(&mut self, owner: ActorId) -> TcpId {
        let latency = self.random.within(1..=self.latency_max);
        let window = self.random.pick(&[600, 4_096, 65_536]);
        let shard = self.random.index(self.shards);
        let id = self.tcps.len();
        let at = self.now + latency;
        self.tcps.push(Tcp {
            owner,
            latency,
            window,
            up: Stream { segments: VecDeque::new(), last_at: at },
            down: Stream::default(),
            held: 0,
            unread: Vec::new(),
            tls: None,
            server_end: None,
            client_end: None,
            server: ServerSide { shard, ..ServerSide::default() },
        });
        self.at(at, Event::Connect(id));
        if let Some(config) = &self.tls {
            let name = secured::NAME.try_into().expect("a name");
            let client = ClientConnection::new(Arc::clone(config), name).expect("a client");
            self.tcps[id].tls = Some(Box::new(client));
            self.write_sealed(id);
        }
        id
    }

    /// Writes, cut anywhere.
    pub fn write(&mut self, id: TcpId, bytes: &[u8]) {
        if self.tcps[id].client_end.is_some() {
            return;
        }
        match &mut self.tcps[id].tls {
            None => self.write_raw(id, bytes),
            Some(tls) => {
                // What waits for the handshake has no bound here.
                tls.set_buffer_limit(None);
                tls.writer().write_all(bytes).expect("it takes all");
                self.write_sealed(id);
            }
        }
    }

    /// Writes what TLS makes of what is to be said, and what it says of its own.
    fn write_sealed(&mut self, id: TcpId) {
        let mut sealed = Vec::new();
        if let Some(tls) = &mut self.tcps[id].tls {
            while tls.wants_write() {
                tls.write_tls(&mut sealed).expect("a vector takes all");
            }
        }
        if self.tcps[id].client_end.is_none() {
            self.write_raw(id, &sealed);
        }
    }

    fn write_raw(&mut self, id: TcpId, bytes: &[u8]) {
        let mut rest = bytes;
        while !rest.is_empty() {
            let cut = if self.random.one_in(4) { 1 + self.random.index(rest.len()) } else { rest.len() };
            let (piece, after) = rest.split_at(cut);
            rest = after;
            self.send_up(id, Segment::Bytes(piece.to_vec()));
        }
    }

    /// Reads what has come; the server may send on into the space.
    pub fn read(&mut self, id: TcpId) -> Vec<u8> {
        let bytes = std::mem::take(&mut self.tcps[id].unread);
        self.tcps[id].held -= bytes.len();
        if !bytes.is_empty() {
            let delay = self.random.below(2);
            self.at(self.now + delay, Event::Space(id));
        }
        self.opened(id, bytes)
    }

    /// What sealed bytes say.
    fn opened(&mut self, id: TcpId, bytes: Vec<u8>) -> Vec<u8> {
        let Some(tls) = &mut self.tcps[id].tls else { return bytes };
        let (mut sealed, mut plain) = (bytes.as_slice(), Vec::new());
        while !sealed.is_empty() && tls.read_tls(&mut sealed).expect("a slice can be read") > 0 {
            let state = tls.process_new_packets().expect("the server keeps to the rules of TLS");
            let from = plain.len();
            plain.resize(from + state.plaintext_bytes_to_read(), 0);
            tls.reader().read_exact(&mut plain[from..]).expect("what there is can be read");
        }
        self.write_sealed(id);
        plain
    }

    /// Whether the server's side has ended and everything before that was read.
    pub fn is_ended(&self, id: TcpId) -> bool {
        self.tcps[id].server_end.is_some() && self.tcps[id].unread.is_empty()
    }

    pub fn end(&mut self, id: TcpId, end: End) {
        if self.tcps[id].client_end.is_some() {
            return;
        }
        if let (Some(tls), End::Fin) = (&mut self.tcps[id].tls, end)
            && !tls.is_handshaking()
        {
            tls.send_close_notify();
            self.write_sealed(id);
        }
        self.tcps[id].client_end = Some(end);
        self.send_up(id, Segment::End(end));
    }

    fn send_up(&mut self, id: TcpId, segment: Segment) {
        let mut jitter = if self.random.one_in(3) { self.random.below(4) } else { 0 };
        if self.random.one_in(12) {
            jitter += self.random.below(self.stall_max);
        }
        let tcp = &mut self.tcps[id];
        let at = tcp.up.last_at.max(self.now + tcp.latency + jitter);
        tcp.up.last_at = at;
        tcp.up.segments.push_back(segment);
        self.at(at, Event::Arrive(id));
    }

    // What the wire and the kernels do.

    /// The next segment from the client is in the server's kernel.
    pub fn arrive(&mut self, id: TcpId) {
        let tcp = &mut self.tcps[id];
        match tcp.up.segments.pop_front() {
            Some(Segment::Bytes(bytes)) if !tcp.server.is_closed => tcp.server.arrived.extend_from_slice(&bytes),
            Some(Segment::Bytes(_)) => self.reset_client(id),
            Some(Segment::End(end)) => {
                tcp.server.end = Some(end);
                if end == End::Reset {
                    tcp.server.arrived.clear();
                }
                let at = self.now + tcp.latency * 2;
                self.at(at, Event::Break(id));
            }
            None => {}
        }
    }

    /// The next segment from the server is at the client.
    pub fn deliver(&mut self, id: TcpId) {
        let tcp = &mut self.tcps[id];
        match tcp.down.segments.pop_front() {
            Some(Segment::Bytes(bytes)) => tcp.unread.extend_from_slice(&bytes),
            Some(Segment::End(end)) => tcp.server_end = Some(end),
            None => {}
        }
    }

    /// How much the kernels take of what is sent to a client now.
    pub fn space(&self, id: TcpId) -> usize {
        let tcp = &self.tcps[id];
        tcp.window.saturating_sub(tcp.held)
    }

    /// Sends these bytes, cut into one or two pieces.
    pub fn send(&mut self, id: TcpId, bytes: &[u8]) {
        let cut = if self.random.one_in(2) { bytes.len() } else { bytes.len().div_ceil(2) };
        self.tcps[id].held += bytes.len();
        for piece in bytes.chunks(cut.max(1)) {
            self.send_down(id, Segment::Bytes(piece.to_vec()));
        }
    }

    /// The server's FIN.
    pub fn shut(&mut self, id: TcpId) {
        if !std::mem::replace(&mut self.tcps[id].server.is_shut, true) {
            self.send_down(id, Segment::End(End::Fin));
        }
    }

    /// The server ends both sides.
    pub fn abort(&mut self, id: TcpId) {
        self.tcps[id].server.is_aborted = true;
        self.shut(id);
    }

    /// The server's kernel closes: with bytes unread, what is on its way to the client is destroyed.
    pub fn close(&mut self, id: TcpId) {
        let server = &mut self.tcps[id].server;
        assert!(!std::mem::replace(&mut server.is_closed, true), "closed twice");
        if !server.arrived.is_empty() {
            server.arrived.clear();
            self.reset_client(id);
        } else {
            self.shut(id);
        }
    }

    fn reset_client(&mut self, id: TcpId) {
        let tcp = &mut self.tcps[id];
        tcp.down.segments.clear();
        tcp.held = tcp.unread.len();
        self.send_down(id, Segment::End(End::Reset));
    }

    fn send_down(&mut self, id: TcpId, segment: Segment) {
        let jitter = if self.random.one_in(3) { self.random.below(4) } else { 0 };
        let tcp = &mut self.tcps[id];
        let at = tcp.down.last_at.max(self.now + tcp.latency + jitter);
        tcp.down.last_at = at;
        tcp.down.segments.push_back(segment);
        self.at(at, Event::Deliver(id));
    }
}
