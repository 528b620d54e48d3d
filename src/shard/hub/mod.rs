//! `Hub`: the clients and rooms of a shard: how a client begins and ends, and what is queued for it.
//!
//! The hub knows connections by key only. What it wants of them goes on `orders`, which `flush` works off.

mod deliver;
mod manage;
mod packets;
mod polling;
mod probe;

use std::collections::VecDeque;
use std::sync::Arc;

use sockring_protocol::Millis;
use sockring_protocol::engineio::{
    self, Input, OpenPacket, PacketType, Session, SessionEnd, Step, Transport, Upgrades,
};

use crate::app::{Actions, Application, SocketInfo};
use crate::broadcast::Delivery;

use super::client::{Client, ClientKey, CloseReason, ConnectionKey, Handshake, Phase};
use super::effects::Bytes;
use super::encode;
use super::metrics::Counters;
use super::outbox::{Frames, Outbox, encode_for_polling};
use super::rooms::{RoomId, Rooms, USER_PREFIX};
use super::settings::{EngineSettings, Layer};
use super::sid::{RandomPool, Sid};
use super::slots::Slots;
use super::sockets::Sockets;
use super::timers::Timers;

pub(super) use deliver::ConnectionCounts;
pub(super) use polling::{PollOutcome, PostOutcome};
pub(super) use probe::{ProbeAdmission, ProbeOutcome};

/// How long a polling client that was ended by us may take to fetch its last packets.
const FAREWELL_MS: u64 = 10_000;
/// The first ping comes early by a 32nd of the interval and up to a 16th more: early at all, so that a session that stays
/// silent is gone when the interval and the timeout have passed, however late a timer is by a millisecond or two.
const EARLY_SHARE: u64 = 32;
const JITTER_SHARE: u64 = 16;

/// Refused origins that are logged, and how long they may be.
const ORIGINS_LOGGED_MAX: usize = 64;
const ORIGIN_BYTES_MAX: usize = 256;

/// What the hub wants of a connection.
pub(super) enum Order {
    /// Answer the held GET with this payload.
    AnswerPoll(ConnectionKey, Vec<u8>),
    /// Answer the held GET with 400 code 3.
    RefusePoll(ConnectionKey),
    /// Send what is queued, then a close frame with this code, then close.
    CloseWebSocket(ConnectionKey, Outbox, Option<u16>),
    /// Close without sending what is queued: the peer does not read.
    Abort(ConnectionKey),
}

/// The clock as a shard sees it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Now {
    /// Monotonic.
    pub at: Millis,
    /// Unix time in milliseconds.
    pub unix_ms: u64,
}

/// Clients, sockets and rooms of one shard, and the application on top of them.
pub(super) struct Hub<A> {
    pub(super) settings: Arc<EngineSettings>,
    pub(super) shard: u16,
    pub(super) now: Now,
    pub(super) app: A,
    pub(super) clients: Slots<Client>,
    pub(super) rooms: Rooms,
    pub(super) timers: Timers<ClientKey>,
    pub(super) random: RandomPool,
    pub(super) orders: Vec<Order>,
    /// Clients that something was queued for in this turn.
    pub(super) dirty: Vec<ClientKey>,
    pub(super) counters: Counters,
    pub(super) actions: Actions,
    /// Where packets are put together before they are framed.
    pub(super) scratch: Vec<u8>,
    greetings: VecDeque<packets::Greeting>,
    /// An event that every new socket gets behind its greeting: a JSON array.
    standing: Option<Arc<[u8]>>,
    /// Those that were logged.
    refused_origins: Vec<Box<str>>,
    ping: Frames,
    due: Vec<ClientKey>,
}

impl<A: Application> Hub<A> {
    pub(super) fn new(settings: Arc<EngineSettings>, shard: u16, app: A, random: RandomPool, now: Now) -> Hub<A> {
        Hub {
            clients: Slots::with_capacity(settings.clients_max),
            rooms: Rooms::new(u16::try_from(settings.namespaces.len()).unwrap_or(u16::MAX)),
            timers: Timers::new(now.at),
            settings,
            shard,
            now,
            app,
            random,
            orders: Vec::new(),
            dirty: Vec::new(),
            counters: Counters::default(),
            actions: Actions::default(),
            scratch: Vec::new(),
            greetings: VecDeque::new(),
            standing: None,
            refused_origins: Vec::new(),
            ping: encode::text_packet(b"2"),
            due: Vec::new(),
        }
    }

    /// Opens a session; `None` when the shard is full.
    pub(super) fn open(
        &mut self,
        transport: Transport,
        connection: Option<ConnectionKey>,
        handshake: Option<Box<Handshake>>,
    ) -> Option<ClientKey> {
        let now = self.now.at;
        let slot = self.clients.next_key()?;
        let sid = Sid { shard: self.shard, slot: slot.index, random: self.random.take() };
        let interval_ms = self.settings.times.ping_interval_ms;
        let early_ms = interval_ms / EARLY_SHARE + self.random.below(interval_ms / JITTER_SHARE);
        let half_open_by = match self.settings.layer {
            Layer::SocketIo => now + self.settings.connect_timeout_ms,
            Layer::EngineIo | Layer::WebSocket => Millis::NEVER,
        };
        let key = ClientKey(self.clients.insert(Client {
            sid,
            session: Session::open(transport, now, &self.settings.times, early_ms),
            connection,
            probe: None,
            sockets: Sockets::None,
            outbox: Outbox::Empty,
            queued_bytes: 0,
            assembler: None,
            handshake,
            half_open_by,
            timer_at: Millis::NEVER,
            phase: Phase::Unclaimed,
            is_dirty: false,
        })?);
        self.counters.opened += 1;
        self.arm(key);
        Some(key)
    }

    /// The open packet of a client: `0{...}`.
    pub(super) fn open_packet(&self, key: ClientKey, upgrades: Upgrades, out: &mut Vec<u8>) {
        let Some(client) = self.clients.get(key.0) else { return };
        let times = &self.settings.times;
        OpenPacket {
            sid: client.sid.text().as_str(),
            upgrades,
            ping_interval_ms: times.ping_interval_ms,
            ping_timeout_ms: times.ping_timeout_ms,
            payload_bytes_max: self.settings.payload_bytes_max as u64,
        }
        .encode(out);
    }

    /// Counts an origin that is not allowed. The operator reads about each once, up to a number of them.
    pub(super) fn refuse_origin(&mut self, origin: &str) {
        self.counters.origins_refused += 1;
        let is_known = self.refused_origins.iter().any(|known| **known == *origin);
        if !is_known && self.refused_origins.len() < ORIGINS_LOGGED_MAX && origin.len() <= ORIGIN_BYTES_MAX {
            self.refused_origins.push(origin.into());
            tracing::warn!(
                ?origin,
                "a page of this origin was refused; if it is yours, add it to cors_origin (CORS_ORIGIN)"
            );
        }
    }

    /// The client with this Engine.IO sid.
    pub(super) fn find(&self, sid: &str) -> Option<ClientKey> {
        let sid = Sid::parse(sid)?;
        let (key, client) = self.clients.at(sid.slot)?;
        (client.sid == sid).then_some(ClientKey(key))
    }

    pub(super) fn is_alive(&self, key: ClientKey) -> bool {
        self.clients.get(key.0).is_some_and(|client| client.phase != Phase::Farewell)
    }

    /// The transport that carries a client now; `None` if it is gone.
    pub(super) fn transport(&self, key: ClientKey) -> Option<Transport> {
        Some(self.clients.get(key.0)?.session.transport())
    }

    /// One text frame came by the client's WebSocket.
    pub(super) fn on_text(&mut self, key: ClientKey, text: &str) {
        if self.settings.layer == Layer::WebSocket {
            return self.on_message(key, engineio::Data::Text(text));
        }
        match engineio::decode_text(text) {
            Ok(packet) => self.on_packet(key, packet),
            Err(_) => self.on_session_input(key, Input::BadPacket),
        }
    }

    /// One binary frame came by the client's WebSocket.
    pub(super) fn on_binary(&mut self, key: ClientKey, data: &[u8]) {
        self.on_packet(key, engineio::Packet::Message(engineio::Data::Binary(data.into())));
    }

    /// One Engine.IO packet came by the client's transport.
    fn on_packet(&mut self, key: ClientKey, packet: engineio::Packet<'_>) {
        let kind = match packet {
            engineio::Packet::Message(data) => {
                if self.step(key, Input::Packet(PacketType::Message)) == Step::Deliver {
                    self.on_message(key, data);
                }
                return;
            }
            engineio::Packet::Open => PacketType::Open,
            engineio::Packet::Close => PacketType::Close,
            engineio::Packet::Ping(_) => PacketType::Ping,
            engineio::Packet::Pong(_) => PacketType::Pong,
            engineio::Packet::Upgrade => PacketType::Upgrade,
            engineio::Packet::Noop => PacketType::Noop,
        };
        self.on_session_input(key, Input::Packet(kind));
    }

    /// The client's WebSocket ended, or has to end with this close code.
    pub(super) fn on_transport_end(
        &mut self,
        key: ClientKey,
        connection: ConnectionKey,
        reason: CloseReason,
        code: Option<u16>,
    ) {
        if self.clients.get(key.0).is_some_and(|client| client.connection == Some(connection)) {
            self.drop_client(key, reason, code, Farewell::Now);
        }
    }

    /// Feeds an input whose only possible outcome besides nothing is the session's end.
    fn on_session_input(&mut self, key: ClientKey, input: Input) {
        if let Step::End(end) = self.step(key, input) {
            self.end_session(key, end);
        }
    }

    /// Feeds the session and sees to its timer.
    fn step(&mut self, key: ClientKey, input: Input) -> Step {
        let Some(client) = self.clients.get_mut(key.0) else { return Step::Refuse };
        let step = client.session.receive(input, self.now.at, &self.settings.times);
        self.arm(key);
        step
    }

    fn end_session(&mut self, key: ClientKey, end: SessionEnd) {
        let reason = match end {
            SessionEnd::PingTimeout => CloseReason::PingTimeout,
            SessionEnd::TransportClose => CloseReason::TransportClose,
            SessionEnd::TransportError => CloseReason::TransportError,
            SessionEnd::ClientClose => CloseReason::ClientClose,
            SessionEnd::ParseError => CloseReason::ParseError,
        };
        self.drop_client(key, reason, None, Farewell::Now);
    }

    /// Fires what has become due.
    pub(super) fn expire(&mut self) {
        let now = self.now.at;
        let mut due = std::mem::take(&mut self.due);
        self.timers.advance(now, |key| due.push(key));
        for key in due.drain(..) {
            self.expire_client(key);
        }
        self.due = due;
        self.greet();
    }

    /// When something will be due.
    pub(super) fn deadline(&self) -> Option<Millis> {
        let greeting = self.greetings.front().map(|greeting| greeting.at);
        [self.timers.deadline(), greeting].into_iter().flatten().min()
    }

    fn expire_client(&mut self, key: ClientKey) {
        let now = self.now.at;
        let Some(client) = self.clients.get_mut(key.0) else { return };
        // A hint that is older than the one armed now.
        if client.timer_at > now {
            return;
        }
        client.timer_at = Millis::NEVER;
        if client.half_open_by <= now {
            let reason = match (client.phase, &client.assembler) {
                (Phase::Unclaimed, _) => CloseReason::ConnectTimeout,
                (Phase::Farewell, _) => return self.forget(key),
                (Phase::Claimed, _) => CloseReason::MessageTimeout,
            };
            return self.drop_client(key, reason, None, Farewell::NextPoll);
        }
        loop {
            let Some(client) = self.clients.get_mut(key.0) else { return };
            match client.session.expire(now, &self.settings.times) {
                Step::SendPing => self.push(key, Arc::clone(&self.ping), Delivery::Queue),
                Step::ReleasePoll => self.release_poll(key),
                Step::DropProbe => self.drop_probe(key),
                Step::End(end) => return self.end_session(key, end),
                _ => break,
            }
        }
        self.arm(key);
    }

    /// Makes sure that the timer wheel asks this client in time.
    fn arm(&mut self, key: ClientKey) {
        let Some(client) = self.clients.get_mut(key.0) else { return };
        let deadline = client.deadline();
        if deadline < client.timer_at {
            client.timer_at = self.timers.put(deadline, key, self.now.at);
        }
    }

    /// Queues a message for one client. A client whose queue is full is closed.
    fn push(&mut self, key: ClientKey, frames: Frames, delivery: Delivery) {
        let Some(client) = self.clients.get_mut(key.0) else { return };
        match enqueue(client, frames, delivery, self.settings.queue_bytes_max) {
            Queued::Yes => {
                if !client.is_dirty {
                    client.is_dirty = true;
                    self.dirty.push(key);
                }
            }
            Queued::Dropped => self.counters.volatile_dropped += 1,
            Queued::Full => self.drop_client(key, CloseReason::QueueFull, None, Farewell::Now),
        }
    }

    /// Everything that waits for a client, for a connection that is about to close.
    pub(super) fn take_outbox(&mut self, key: ClientKey) -> Outbox {
        let Some(client) = self.clients.get_mut(key.0) else { return Outbox::Empty };
        client.queued_bytes = 0;
        std::mem::take(&mut client.outbox)
    }

    /// The next bytes for a client's WebSocket, behind those that are the connection's own. A single message is shared.
    pub(super) fn take_frames(&mut self, key: ClientKey, mut own: Vec<u8>, bytes_max: usize) -> Option<Bytes> {
        let client = self.clients.get_mut(key.0)?;
        let Some(first) = client.outbox.pop() else {
            return (!own.is_empty()).then_some(Bytes::Owned(own));
        };
        let mut taken = first.len();
        let bytes = if own.is_empty() && client.outbox.is_empty() {
            Bytes::Shared(first)
        } else {
            own.extend_from_slice(&first);
            while taken + client.outbox.first_bytes() <= bytes_max
                && let Some(frames) = client.outbox.pop()
            {
                taken += frames.len();
                own.extend_from_slice(&frames);
            }
            Bytes::Owned(own)
        };
        client.queued_bytes = client.queued_bytes.saturating_sub(u32::try_from(taken).unwrap_or(u32::MAX));
        Some(bytes)
    }

    /// The one place where a client ends: its sockets leave, its connections are told, its slot becomes free.
    pub(super) fn drop_client(&mut self, key: ClientKey, reason: CloseReason, code: Option<u16>, farewell: Farewell) {
        self.leave_all(key);
        let Some(client) = self.clients.get_mut(key.0) else { return };
        // Its last packets wait for its next poll, or for their own deadline.
        if client.phase == Phase::Farewell {
            return;
        }
        self.counters.count_close(reason);
        client.session.close();
        if let Some(probe) = client.probe.take() {
            self.orders.push(Order::CloseWebSocket(probe, Outbox::Empty, None));
        }
        let outbox = std::mem::take(&mut client.outbox);
        client.queued_bytes = 0;
        match (client.session.transport(), client.connection.take()) {
            (_, Some(connection)) if reason == CloseReason::QueueFull => {
                self.orders.push(Order::Abort(connection));
            }
            (Transport::WebSocket, Some(connection)) => {
                self.orders.push(Order::CloseWebSocket(connection, outbox, code));
            }
            // The stock client loses an event that comes in one payload with the close packet: that is for the next poll.
            (Transport::Polling, connection)
                if farewell == Farewell::NextPoll && (connection.is_none() || !outbox.is_empty()) =>
            {
                match connection {
                    Some(connection) => {
                        self.orders.push(Order::AnswerPoll(connection, polling_payload(outbox, None)));
                    }
                    None => client.outbox = outbox,
                }
                client.phase = Phase::Farewell;
                client.assembler = None;
                client.half_open_by = self.now.at + FAREWELL_MS;
                return self.arm(key);
            }
            (Transport::Polling, Some(connection)) => {
                let last = last_packet(reason);
                self.orders.push(Order::AnswerPoll(connection, polling_payload(outbox, Some(last))));
            }
            (_, None) => {}
        }
        self.forget(key);
    }

    /// Ends every client.
    pub(super) fn shut_down(&mut self) {
        let keys: Vec<_> = self.clients.iter().map(|(key, _)| ClientKey(key)).collect();
        for key in keys {
            self.drop_client(key, CloseReason::Shutdown, None, Farewell::NextPoll);
        }
    }

    /// Frees the slot of a client that nothing refers to any more.
    fn forget(&mut self, key: ClientKey) {
        self.clients.remove(key.0);
    }

    /// Takes all sockets of a client out of their rooms and tells the application.
    fn leave_all(&mut self, key: ClientKey) {
        let Some(client) = self.clients.get(key.0) else { return };
        let places: Vec<u16> = client.sockets.iter().map(|(place, _)| place).collect();
        for place in places {
            self.drop_socket(key, place);
        }
    }

    /// The one place where a socket ends.
    fn drop_socket(&mut self, key: ClientKey, place: u16) {
        // One that the application was never told of is not told gone, and its greeting goes with it.
        match self.take_greeting(key, place) {
            Some(_) => {}
            None => self.call_app(key, place, |app, info| app.disconnected(info)),
        }
        while self.leave_at(key, place, 0).is_some() {}
        if let Some(client) = self.clients.get_mut(key.0) {
            client.sockets.remove(place);
        }
    }

    /// Calls the application about a socket, if it exists.
    fn call_app(&mut self, key: ClientKey, place: u16, call: impl FnOnce(&mut A, &SocketInfo<'_>)) {
        let Some(client) = self.clients.get(key.0) else { return };
        let Some(socket) = client.sockets.get(place) else { return };
        let sid = Sid { random: socket.random, ..client.sid }.text();
        let info = SocketInfo {
            namespace: self.settings.namespace_name(socket.namespace),
            sid: sid.as_str(),
            user: socket.user.and_then(|user| self.rooms.name(user.room()).strip_prefix(USER_PREFIX)),
            now_unix_ms: self.now.unix_ms,
        };
        call(&mut self.app, &info);
    }

    /// Leaves the room that a link of a socket leads to, and keeps all ways between rooms and sockets right.
    fn leave_at(&mut self, key: ClientKey, place: u16, link: usize) -> Option<RoomId> {
        let client = self.clients.get_mut(key.0)?;
        let socket = client.sockets.get_mut(place)?;
        if link >= socket.links.as_slice().len() {
            return None;
        }
        let left = socket.links.swap_remove(link);
        if let Some(moved) = socket.links.as_slice().get(link) {
            self.rooms.relink(*moved, u16::try_from(link).unwrap_or(u16::MAX));
        }
        if let Some(member) = self.rooms.leave(left) {
            let moved =
                self.clients.at_mut(member.client).and_then(|(_, client)| client.sockets.get_mut(member.socket));
            if let Some(link) = moved.and_then(|socket| socket.links.as_mut_slice().get_mut(usize::from(member.link))) {
                link.position = left.position;
            }
        }
        Some(left.room)
    }
}

/// Whether a polling client that has no GET open may still fetch how it ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Farewell {
    Now,
    NextPoll,
}

/// What became of a message for one client.
pub(super) enum Queued {
    Yes,
    Dropped,
    Full,
}

/// Puts a message into a client's outbox if its delivery and the limit allow.
pub(super) fn enqueue(client: &mut Client, frames: Frames, delivery: Delivery, queue_bytes_max: usize) -> Queued {
    if client.phase == Phase::Farewell {
        return Queued::Dropped;
    }
    let waiting = client.queued_bytes as usize;
    if delivery == Delivery::Volatile && (waiting > 0 || client.connection.is_none()) {
        return Queued::Dropped;
    }
    // A single message may be larger than the limit: it was let in by a limit of its own.
    if waiting > 0 && waiting + frames.len() > queue_bytes_max {
        return Queued::Full;
    }
    client.queued_bytes = u32::try_from(waiting + frames.len()).unwrap_or(u32::MAX);
    client.outbox.push(frames);
    Queued::Yes
}

/// All of an outbox and perhaps one more packet as one polling payload.
pub(super) fn polling_payload(mut outbox: Outbox, last: Option<&[u8]>) -> Vec<u8> {
    let mut payload = Vec::new();
    let mut encoder = engineio::PayloadEncoder::new(&mut payload);
    while let Some(frames) = outbox.pop() {
        encode_for_polling(&frames, &mut encoder);
    }
    if let Some(last) = last {
        encoder.push_text(last);
    }
    payload
}

/// The packet that ends a polling session: a noop for a client that asked for it, else a close packet.
fn last_packet(reason: CloseReason) -> &'static [u8] {
    match reason {
        CloseReason::ClientClose => b"6",
        _ => b"1",
    }
}
