//! The network: TCP connections as byte streams with latency, cuts, receive windows, FIN and RST, on an agenda of events.

use std::collections::{BTreeMap, VecDeque};

use sockring::shard::{ConnectionKey, Destination, Parcel};

use super::random::Random;

/// Names a connection of the simulation; never reused.
pub type TcpId = usize;
/// Names an actor.
pub type ActorId = usize;

/// What happens at a point in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// The server's kernel has a new connection.
    Accept(TcpId),
    /// The next segment from the client arrives.
    Arrive(TcpId),
    /// A receive may find something.
    Readable(TcpId),
    /// A look at what has come runs.
    Looked(TcpId),
    /// The send in flight is complete, or has failed.
    Sent(TcpId),
    /// A connection that the shard closed is gone.
    Closed(TcpId),
    /// Nothing is under way any more on a connection that the shard gave away.
    Released(TcpId),
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
    /// How the server's side ended, as the client sees it.
    pub server_end: Option<End>,
    /// The client has ended its side.
    pub client_end: Option<End>,
    pub server: ServerSide,
}

/// A connection as the server's kernel and worker keep it.
#[derive(Debug, Default)]
pub struct ServerSide {
    /// Who accepted it, or got it since.
    pub shard: usize,
    pub key: Option<ConnectionKey>,
    /// Arrived and not read.
    pub arrived: Vec<u8>,
    pub end: Option<End>,
    /// A read was asked for.
    pub is_reading: bool,
    /// How often it was looked at, while a look is under way.
    pub looks: u32,
    /// Settle was asked for; done when no send is in flight.
    pub settles: bool,
    pub is_settled: bool,
    /// The shard was told that the peer's side ended.
    pub is_hung_up: bool,
    /// What of the send in flight has not left yet.
    pub sending: Option<Vec<u8>>,
    pub is_shut: bool,
    pub is_closing: bool,
    /// Given away, as soon as nothing is under way.
    pub departing: Option<(Destination, Parcel)>,
    /// With the API: how many requests it has had, and its bytes.
    pub at_api: Option<(u32, Vec<u8>)>,
}

impl ServerSide {
    /// Bytes, or the peer's end, that the shard was not told of.
    pub fn has_news(&self) -> bool {
        !self.arrived.is_empty() || (self.end.is_some() && !self.is_hung_up)
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

    /// Whether something has come to this shard that it has still to read, or to pass on.
    pub fn is_unread(&self, shard: usize) -> bool {
        let servers = self.tcps.iter().map(|tcp| &tcp.server).filter(|server| server.shard == shard);
        let mut open = servers.filter(|server| server.key.is_some() && !server.is_closing);
        open.any(|server| server.departing.is_some() || server.is_reading && server.has_news())
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
            server_end: None,
            client_end: None,
            server: ServerSide { shard, ..ServerSide::default() },
        });
        self.at(at, Event::Accept(id));
        id
    }

    /// Writes, cut anywhere.
    pub fn write(&mut self, id: TcpId, bytes: &[u8]) {
        if self.tcps[id].client_end.is_some() {
            return;
        }
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
            self.pump(id);
        }
        bytes
    }

    /// Whether the server's side has ended and everything before that was read.
    pub fn is_ended(&self, id: TcpId) -> bool {
        self.tcps[id].server_end.is_some() && self.tcps[id].unread.is_empty()
    }

    pub fn end(&mut self, id: TcpId, end: End) {
        if self.tcps[id].client_end.is_some() {
            return;
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
            Some(Segment::Bytes(bytes)) if !tcp.server.is_closing => tcp.server.arrived.extend_from_slice(&bytes),
            Some(Segment::Bytes(_)) => self.reset_client(id),
            Some(Segment::End(end)) => {
                tcp.server.end = Some(end);
                // Who has closed answers further bytes with RST.
                let delay = if end == End::Reset { 0 } else { tcp.latency * 2 };
                if end == End::Reset {
                    tcp.server.arrived.clear();
                }
                if tcp.server.sending.is_some() {
                    self.at(self.now + delay, Event::Sent(id));
                }
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

    /// Moves as much of the send in flight as there is space for; `Sent` follows when all of it has left.
    pub fn pump(&mut self, id: TcpId) {
        let cut = self.random.within(1..=2);
        let delay = self.random.below(2);
        let tcp = &mut self.tcps[id];
        let Some(sending) = &mut tcp.server.sending else { return };
        if tcp.server.end == Some(End::Reset) || sending.is_empty() {
            return;
        }
        let space = tcp.window.saturating_sub(tcp.held).min(sending.len());
        let bytes: Vec<u8> = sending.drain(..space).collect();
        let is_empty = sending.is_empty();
        tcp.held += space;
        let piece = bytes.len().div_ceil(usize::try_from(cut).expect("small")).max(1);
        let pieces: Vec<_> = bytes.chunks(piece).map(|piece| Segment::Bytes(piece.to_vec())).collect();
        for piece in pieces {
            self.send_down(id, piece);
        }
        if is_empty {
            self.at(self.now + delay, Event::Sent(id));
        }
    }

    /// The API sends something of its own, beside the shard.
    pub fn send_elsewhere(&mut self, id: TcpId, bytes: &[u8]) {
        self.tcps[id].held += bytes.len();
        self.send_down(id, Segment::Bytes(bytes.to_vec()));
    }

    /// The server's FIN.
    pub fn shut(&mut self, id: TcpId) {
        self.tcps[id].server.is_shut = true;
        self.send_down(id, Segment::End(End::Fin));
    }

    /// The server's kernel closes: with bytes unread, what is on its way to the client is destroyed.
    pub fn close(&mut self, id: TcpId) {
        let server = &mut self.tcps[id].server;
        server.is_closing = true;
        server.sending = None;
        if !server.arrived.is_empty() {
            server.arrived.clear();
            self.reset_client(id);
        } else if !server.is_shut {
            self.send_down(id, Segment::End(End::Fin));
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
