//! `Server`: TCP connections and the Engine.IO sessions on them as one object, told bytes and times, that says what came of it.
//!
//! The layers below can be used one by one; this is all of them put together, for whoever wants to feed bytes to a whole
//! server: a fuzzing harness, a simulation, an embedder with an event loop of its own. It is written to be read. The server
//! of this project puts the same parts together for speed.
//!
//! ```text
//!              accept() -> ConnectionId                   send(session, message, now)
//!                       |                                             |
//!   bytes --- receive(connection, bytes, now) ----.       .-----------'
//!   end ----- lose(connection, now) --------------+-> Server -> transmit() -> connection, bytes, what then
//!   time ---- expire(now) ------------------------'       '---> events: Opened, Message, Upgraded, Closed
//!                ^                                        '---> deadline()
//!                '---------------- when -------------------------------'
//! ```
//!
//! One session may use several connections at once (a GET that waits, a POST beside it, a WebSocket that probes), so the
//! connections are numbers and the sessions live behind them.

mod connection;
mod requests;
mod rules;
mod session;

use alloc::boxed::Box;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::string::String;
use alloc::vec::Vec;
use core::error::Error;
use core::fmt;

use self::connection::{ConnectionStage, Parsed, ServerConnection, WebSocketRole};
use self::session::ServerSession;
use crate::Millis;
use crate::engineio::{Data, EnginePacket, Input, ProbePacket, SessionEnd, SessionTimes, Transport};
use crate::http::{HeadLimits, KeepAlive};
use crate::websocket::MessageLimits;

/// Bytes of chance in a session's id, as many as the reference has: 20 characters.
const SID_BYTES: usize = 15;

/// How a [`Server`] serves. The defaults are the reference's (engine.io 6.6).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerSettings {
    /// Requests for another path are answered with 404.
    pub path: String,
    /// When clients are pinged and given up.
    pub times: SessionTimes,
    /// What the head of a request may cost.
    pub head: HeadLimits,
    /// What a message on a WebSocket may cost; its `message_bytes_max` holds for the body of a POST, too.
    pub message: MessageLimits,
    /// Packets in one POST.
    pub payload_packets_max: usize,
    /// Bytes that may wait for one client ([`SendError::QueueFull`]).
    pub queue_bytes_max: usize,
}

impl Default for ServerSettings {
    fn default() -> ServerSettings {
        ServerSettings {
            path: "/socket.io/".into(),
            times: SessionTimes::default(),
            head: HeadLimits::default(),
            message: MessageLimits::default(),
            payload_packets_max: 4096,
            queue_bytes_max: 1 << 20,
        }
    }
}

/// A TCP connection of a [`Server`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnectionId(u64);

/// An Engine.IO session of a [`Server`]. It is no secret, unlike the `sid` that its client knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionId(u64);

/// What a message carries, with its bytes.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "arbitrary", derive(arbitrary::Arbitrary))]
pub enum OwnedData {
    /// A text: most often a packet for [`SocketPacket::decode`](crate::socketio::SocketPacket::decode).
    Text(String),
    /// Bytes: most often an attachment for [`Assembler::push`](crate::socketio::Assembler::push).
    Binary(Vec<u8>),
}

impl From<String> for OwnedData {
    fn from(text: String) -> OwnedData {
        OwnedData::Text(text)
    }
}

impl From<&str> for OwnedData {
    fn from(text: &str) -> OwnedData {
        OwnedData::Text(text.into())
    }
}

impl From<Vec<u8>> for OwnedData {
    fn from(bytes: Vec<u8>) -> OwnedData {
        OwnedData::Binary(bytes)
    }
}

/// What came of bytes, or of the time.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ServerEvent {
    /// A client has opened a session.
    Opened {
        /// Whose number this is from here on.
        session: SessionId,
        /// What carries it.
        transport: Transport,
    },
    /// A client has sent a message.
    Message {
        /// Whose it is.
        session: SessionId,
        /// What it says.
        message: OwnedData,
    },
    /// A session that began by polling goes on by a WebSocket.
    Upgraded {
        /// Which.
        session: SessionId,
    },
    /// A session is over. Not told of one that [`Server::close`] ended.
    Closed {
        /// Whose number means nothing any more.
        session: SessionId,
        /// Why.
        end: SessionEnd,
    },
}

/// Why a message is not on its way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SendError {
    /// There is no such session, or no more.
    Closed,
    /// As much waits for the client already as may ([`ServerSettings::queue_bytes_max`]).
    QueueFull,
}

impl fmt::Display for SendError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            SendError::Closed => "the session is over",
            SendError::QueueFull => "too much waits for the client",
        })
    }
}

impl Error for SendError {}

/// Bytes for the network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transmit {
    /// Where they go.
    pub connection: ConnectionId,
    /// May be empty if the connection is to be closed.
    pub bytes: Vec<u8>,
    /// What to do when they are written. A connection that is to be closed is forgotten: its number means nothing any more.
    pub then: KeepAlive,
}

/// Connections, and the sessions on them.
pub struct Server {
    settings: ServerSettings,
    random: Box<dyn FnMut() -> [u8; SID_BYTES]>,
    connections: BTreeMap<ConnectionId, ServerConnection>,
    sessions: BTreeMap<SessionId, ServerSession>,
    /// The number that the next of either gets.
    next: u64,
    /// Connections that may have something to write.
    dirty: BTreeSet<ConnectionId>,
    /// Connections whose input may go on: what they waited for has been answered.
    ready: Vec<ConnectionId>,
    events: Vec<ServerEvent>,
}

impl Server {
    /// `random` gives the bytes of a session's id: from the operating system where strangers connect, from a seed in a test.
    pub fn new(settings: ServerSettings, random: impl FnMut() -> [u8; SID_BYTES] + 'static) -> Server {
        Server {
            settings,
            random: Box::new(random),
            connections: BTreeMap::new(),
            sessions: BTreeMap::new(),
            next: 0,
            dirty: BTreeSet::new(),
            ready: Vec::new(),
            events: Vec::new(),
        }
    }

    /// A TCP connection was accepted.
    pub fn accept(&mut self) -> ConnectionId {
        let id = ConnectionId(self.number());
        self.connections.insert(id, ServerConnection::new());
        id
    }

    /// Bytes came by a connection, cut anywhere.
    pub fn receive(&mut self, connection: ConnectionId, bytes: &[u8], now: Millis) -> Vec<ServerEvent> {
        if let Some(found) = self.connections.get_mut(&connection) {
            found.push(bytes);
            self.ready.push(connection);
        }
        self.work(now)
    }

    /// A connection ended, or was given up by the caller, who keeps its own times for connections that say nothing.
    pub fn lose(&mut self, connection: ConnectionId, now: Millis) -> Vec<ServerEvent> {
        self.dirty.remove(&connection);
        let Some(lost) = self.connections.remove(&connection) else { return self.work(now) };
        let (session, input) = match lost.stage {
            ConnectionStage::Body { session, .. } => (session, Input::PostLost),
            ConnectionStage::Held { session, .. } => (session, Input::PollLost),
            ConnectionStage::WebSocket { session, role: WebSocketRole::Transport, .. } => {
                (session, Input::TransportLost)
            }
            ConnectionStage::WebSocket { session, role: WebSocketRole::Probe, .. } => (session, Input::ProbeLost),
            ConnectionStage::Head { .. } | ConnectionStage::Over => return self.work(now),
        };
        if let Some(found) = self.sessions.get_mut(&session) {
            found.forget(connection);
        }
        self.step(session, input, now);
        self.work(now)
    }

    /// The time has come, or passed, that [`deadline`](Server::deadline) told.
    pub fn expire(&mut self, now: Millis) -> Vec<ServerEvent> {
        let sessions: Vec<SessionId> = self.sessions.keys().copied().collect();
        for id in sessions {
            self.expire_session(id, now);
        }
        self.work(now)
    }

    /// When [`expire`](Server::expire) will have something to do. It may be at once, after [`send`](Server::send).
    pub fn deadline(&self) -> Millis {
        // A request that waited behind a GET can go on, because of what was sent.
        if !self.ready.is_empty() {
            return Millis(0);
        }
        let deadlines = self.sessions.values().map(|session| session.machine.deadline(Millis(0)));
        deadlines.min().unwrap_or(Millis::NEVER)
    }

    /// The bytes of some connection, until there are none. Each connection is told at once.
    pub fn transmit(&mut self) -> Option<Transmit> {
        while let Some(id) = self.dirty.pop_first() {
            let Some(connection) = self.connections.get_mut(&id) else { continue };
            let bytes = core::mem::take(&mut connection.output);
            if matches!(connection.stage, ConnectionStage::Over) {
                self.connections.remove(&id);
                return Some(Transmit { connection: id, bytes, then: KeepAlive::Close });
            }
            if !bytes.is_empty() {
                return Some(Transmit { connection: id, bytes, then: KeepAlive::Keep });
            }
        }
        None
    }

    /// Sends a message to a client: at once, or with its next GET.
    pub fn send(&mut self, session: SessionId, message: impl Into<OwnedData>, now: Millis) -> Result<(), SendError> {
        let found = self.sessions.get_mut(&session).filter(|found| !found.machine.is_ending());
        let found = found.ok_or(SendError::Closed)?;
        let message = match message.into() {
            OwnedData::Text(text) => {
                let mut packet = String::with_capacity(text.len() + 1);
                packet.push('4');
                packet.push_str(&text);
                OwnedData::Text(packet)
            }
            bytes => bytes,
        };
        if !found.push(message, self.settings.queue_bytes_max) {
            return Err(SendError::QueueFull);
        }
        self.flush(session, now);
        Ok(())
    }

    /// Ends a session: its WebSocket is closed, a GET that waits gets a close packet.
    pub fn close(&mut self, session: SessionId) {
        if let Some(closed) = self.sessions.remove(&session) {
            self.dismiss(closed, b"1");
        }
    }

    fn number(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    fn connection(&mut self, id: ConnectionId) -> Option<&mut ServerConnection> {
        self.dirty.insert(id);
        self.connections.get_mut(&id)
    }

    /// Goes through what the connections have to say.
    fn work(&mut self, now: Millis) -> Vec<ServerEvent> {
        while let Some(id) = self.ready.pop() {
            self.dirty.insert(id);
            while let Some(found) = self.connections.get_mut(&id).and_then(|it| it.advance(&self.settings)) {
                self.on_found(id, found, now);
            }
        }
        core::mem::take(&mut self.events)
    }

    fn on_found(&mut self, id: ConnectionId, found: Parsed, now: Millis) {
        match found {
            Parsed::Request(request) => self.on_request(id, &request, now),
            Parsed::BadRequest(error) => self.answer(id, error.status(), error.reason(), KeepAlive::Close),
            Parsed::Body(session, body, keep_alive) => self.on_body(id, session, &body, keep_alive, now),
            Parsed::BadBody(session, error) => {
                self.answer(id, error.status(), error.reason(), KeepAlive::Close);
                self.step(session, Input::PostLost, now);
            }
            Parsed::Text(session, WebSocketRole::Transport, text) => {
                match EnginePacket::decode(&text) {
                    Ok(packet) => self.on_packet(session, packet, now),
                    Err(_) => drop(self.step(session, Input::BadPacket, now)),
                };
            }
            Parsed::Binary(session, WebSocketRole::Transport, bytes) => {
                self.on_packet(session, EnginePacket::Message(Data::Binary(bytes.into())), now);
            }
            Parsed::Text(session, WebSocketRole::Probe, text) => self.on_probe(session, ProbePacket::of(&text), now),
            Parsed::Binary(session, WebSocketRole::Probe, _) => self.on_probe(session, ProbePacket::Other, now),
            Parsed::Closed(session, role) | Parsed::BadFrame(session, role) => {
                let is_closed = matches!(found, Parsed::Closed(..));
                if let Some(session) = self.sessions.get_mut(&session) {
                    session.forget(id);
                }
                let input = match role {
                    WebSocketRole::Transport if is_closed => Input::TransportLost,
                    WebSocketRole::Transport => Input::BadPacket,
                    WebSocketRole::Probe => Input::ProbeLost,
                };
                self.step(session, input, now);
            }
        }
    }
}

/// Without the sessions' ids, which no log may show.
impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let counts = (self.connections.len(), self.sessions.len());
        f.debug_struct("Server").field("connections", &counts.0).field("sessions", &counts.1).finish_non_exhaustive()
    }
}
