//! `Hub`: the clients and rooms of a shard, and the application on top of them.
//!
//! The hub knows connections by key only. What it wants of them goes on `orders`, which `flush` works off.

mod mailing;
mod stats;

use std::collections::VecDeque;
use std::sync::Arc;

use crate::shard::moving::moves::{Departed, Moves};
use crate::shard::rooms::acks::Acks;
use crate::shard::rooms::deliver::FanOuts;
use crate::shard::rooms::homes::{Announced, Homes, Waiting};
use crate::shard::rooms::subscriptions::Subscriptions;
use mailing::Pending;
use slab::Slab;
use sockring_protocol::Millis;
use sockring_protocol::adapter::Delivery;

use crate::app::{Actions, Application, SocketInfo};
use crate::capacity::Capacity;
use crate::shard::clients::client::Farewell;
use crate::shard::clients::draining::Draining;
use crate::shard::clients::packets::Greeting;
use crate::shard::clients::silence::Around;

use super::clients::client::{Client, ClientKey, CloseReason, ConnectionKey, Phase};
use super::clients::encode;
use super::clients::outbox::{ConflateKey, Frames, Outbox, weight};
use super::effects::Effect;
use super::limit::Limit;
use super::mail::{Reply, SiblingMail, Ticket};
use super::metrics::Counters;
use super::moving::placement::Place;
use super::moving::sid::{RandomPool, Sid};
use super::rooms::sockets::RoomId;
use super::rooms::table::{Rooms, USER_PREFIX};
use super::settings::{EngineSettings, Layer};
use super::slots::Slots;
use super::timers::Timers;

pub(super) use crate::shard::clients::polling::{PollOutcome, PostOutcome};
pub(super) use crate::shard::clients::probe::{ProbeAdmission, ProbeOutcome};
pub(super) use crate::shard::moving::moves::Found;
pub(super) use stats::ConnectionCounts;

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
    /// The peer is silent: a close frame is all that it is sent, and not even that if it takes nothing.
    GiveUp(ConnectionKey),
    /// Close without sending what is queued: the peer does not read.
    Abort(ConnectionKey),
}

/// The clock as a shard sees it. All shards of a process have the same origin.
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
    pub(super) capacity: Arc<Capacity>,
    pub(super) shard: Place,
    pub(super) now: Now,
    /// For how long this shard was late in all: this does not count against peers.
    pub(super) late_ms: u64,
    pub(super) app: A,
    pub(super) clients: Slots<Client>,
    pub(super) rooms: Rooms,
    pub(super) timers: Timers<ClientKey>,
    pub(super) random: RandomPool,
    pub(super) orders: Vec<Order>,
    /// Connections to look at, for what has come and is not read.
    pub(super) looks: Vec<ConnectionKey>,
    pub(super) around: Around,
    /// Clients that something was queued for in this turn.
    pub(super) dirty: Vec<ClientKey>,
    /// For other shards, in order.
    pub(super) mails: Vec<(u16, SiblingMail)>,
    pub(super) replies: Vec<(Ticket, Reply)>,
    /// What the bus is wanted to do, in order.
    pub(super) for_bus: Vec<Effect>,
    /// A client that has just moved to another shard; its connections are still here.
    pub(super) departed: Option<Departed>,
    pub(super) counters: Counters,
    pub(super) actions: Actions,
    /// Where packets are put together before they are framed.
    pub(super) scratch: Vec<u8>,
    /// Of what peers have begun, here.
    pub(super) input_bytes: usize,
    pub(super) moves: Moves,
    pub(super) homes: Homes,
    pub(super) announced: Announced,
    pub(super) subscriptions: Subscriptions<Waiting>,
    pub(super) acks: Acks,
    pub(super) fan_outs: FanOuts,
    pub(super) pending: Slab<Pending>,
    pub(super) draining: Option<Draining>,
    pub(super) greetings: VecDeque<Greeting>,
    /// An event that every new socket gets behind its greeting: a JSON array.
    pub(super) standing: Option<Arc<[u8]>>,
    /// Those that were logged.
    pub(super) refused_origins: Vec<Box<str>>,
    pub(super) ping: Frames,
    /// Those whose time has come, and who have not been seen to.
    pub(super) due: VecDeque<ClientKey>,
}

impl<A: Application> Hub<A> {
    pub(super) fn new(
        settings: Arc<EngineSettings>,
        capacity: Arc<Capacity>,
        shard: Place,
        app: A,
        random: RandomPool,
        now: Now,
    ) -> Hub<A> {
        let namespaces = u16::try_from(settings.namespaces.len()).unwrap_or(u16::MAX);
        Hub {
            clients: Slots::with_capacity(capacity.limits().clients_max),
            rooms: Rooms::new(namespaces, shard, capacity.limits().clients_max),
            homes: Homes::new(namespaces),
            subscriptions: Subscriptions::new(namespaces),
            acks: Acks::default(),
            fan_outs: FanOuts::default(),
            timers: Timers::new(now.at, shard),
            settings,
            capacity,
            shard,
            now,
            late_ms: 0,
            app,
            random,
            orders: Vec::new(),
            looks: Vec::new(),
            around: Around::default(),
            dirty: Vec::new(),
            mails: Vec::new(),
            replies: Vec::new(),
            for_bus: Vec::new(),
            departed: None,
            counters: Counters::default(),
            actions: Actions::default(),
            scratch: Vec::new(),
            input_bytes: 0,
            moves: Moves::default(),
            announced: Announced::default(),
            pending: Slab::new(),
            draining: None,
            greetings: VecDeque::new(),
            standing: None,
            refused_origins: Vec::new(),
            ping: encode::text_packet(&mut Vec::new(), b"2"),
            due: VecDeque::new(),
        }
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

    /// Fires what has become due.
    pub(super) fn expire(&mut self) {
        let now = self.now.at;
        let Hub { timers, due, .. } = self;
        timers.advance(now, |key| due.push_back(key));
        for _ in 0..self.settings.turn.clients_due_max {
            let Some(key) = self.due.pop_front() else { break };
            self.expire_client(key);
        }
        self.expire_subscriptions();
        self.acks.expire(now);
        self.expire_round();
        self.greet();
        self.drain();
        self.fan_out();
    }

    /// Whether this turn has left something to the next one.
    pub(super) fn is_behind(&self) -> bool {
        let drains_late = self.draining.as_ref().is_some_and(|draining| draining.is_behind(self.now.at));
        !self.due.is_empty() || !self.fan_outs.is_empty() || drains_late
    }

    /// When something will be due.
    pub(super) fn deadline(&self) -> Option<Millis> {
        let greeting = self.greetings.front().map(|greeting| greeting.at);
        let draining = self.draining.as_ref().map(Draining::next_at);
        let (subscriptions, acks, around) =
            (self.subscriptions.deadline(), self.acks.deadline(), self.around.deadline());
        [self.timers.deadline(), greeting, draining, subscriptions, acks, around].into_iter().flatten().min()
    }

    /// Makes sure that the timer wheel asks this client in time.
    pub(super) fn arm(&mut self, key: ClientKey) {
        let moment = self.moment();
        let Some(client) = self.clients.get_mut(key.0) else { return };
        let deadline = client.deadline(moment);
        if deadline < client.timer_at {
            client.timer_at = self.timers.put(deadline, key, self.now.at);
        }
    }

    /// Queues a message for one client. A client whose queue is full is closed.
    pub(super) fn push(&mut self, key: ClientKey, frames: Frames, delivery: Delivery) {
        self.catch_up(key.0.index);
        let Some(client) = self.clients.get_mut(key.0) else { return };
        match enqueue(client, frames, None, delivery, self.settings.queue_bytes_max) {
            Queued::Yes => self.mark_dirty(key),
            Queued::Dropped => self.counters.volatile_dropped += 1,
            Queued::Full => self.drop_client(key, CloseReason::QueueFull, None, Farewell::Now),
        }
    }

    /// Puts a client on the list of those that are flushed.
    pub(super) fn mark_dirty(&mut self, key: ClientKey) {
        if let Some(client) = self.clients.get_mut(key.0)
            && !client.is_dirty
        {
            client.is_dirty = true;
            self.dirty.push(key);
        }
    }

    /// Everything that waits for a client, for a connection that is about to close.
    pub(super) fn take_outbox(&mut self, key: ClientKey) -> Outbox {
        self.outbox(key).map(std::mem::take).unwrap_or_default()
    }

    /// How many bytes one message or body of a client may have now, and the limit that says so. Without an accepted CONNECT
    /// there is nothing to say but that.
    pub(super) fn message_limit(&self, key: ClientKey) -> (usize, Limit) {
        let EngineSettings { layer, payload_bytes_max, connect_bytes_max, .. } = *self.settings;
        let is_unclaimed = || self.clients.get(key.0).is_some_and(|client| client.phase == Phase::Unclaimed);
        match layer == Layer::SocketIo && connect_bytes_max < payload_bytes_max && is_unclaimed() {
            true => (connect_bytes_max, Limit::ConnectBytesMax),
            false => (payload_bytes_max, Limit::PayloadBytesMax),
        }
    }

    /// Counts bytes of what a peer has begun; `false`: there is no room for them in the process.
    pub(super) fn take_input(&mut self, bytes: usize) -> bool {
        let has_room = self.capacity.take_input(bytes);
        if has_room {
            self.input_bytes += bytes;
        }
        has_room
    }

    /// They are not held any more.
    pub(super) fn give_back_input(&mut self, bytes: usize) {
        if bytes > 0 {
            self.input_bytes -= bytes;
            self.capacity.give_back_input(bytes);
        }
    }

    /// What waits for a client.
    pub(super) fn outbox(&mut self, key: ClientKey) -> Option<&mut Outbox> {
        self.clients.get_mut(key.0).map(|client| &mut client.outbox)
    }

    /// The Socket.IO sid of a socket: it says where its client is, which the Engine.IO sid of one that moved does not.
    pub(super) fn sid_of(&self, key: ClientKey, random: [u8; super::moving::sid::RANDOM_BYTES]) -> Sid {
        Sid::new(self.settings.instance, self.shard.number, key.0.index, random)
    }

    /// Calls the application about a socket, if it exists.
    pub(super) fn call_app(&mut self, key: ClientKey, place: u16, call: impl FnOnce(&mut A, &SocketInfo<'_>)) {
        let Some(client) = self.clients.get(key.0) else { return };
        let Some(socket) = client.sockets.get(place) else { return };
        let sid = self.sid_of(key, socket.random).text();
        let info = SocketInfo {
            namespace: self.settings.namespace_name(socket.namespace),
            sid: sid.as_str(),
            user: socket.user.and_then(|user| self.rooms.name(user.room()).strip_prefix(USER_PREFIX)),
            now_unix_ms: self.now.unix_ms,
        };
        call(&mut self.app, &info);
    }

    /// Leaves the room that a link of a socket leads to, and keeps all ways between rooms and sockets right.
    pub(super) fn leave_at(&mut self, key: ClientKey, place: u16, link: usize) -> Option<RoomId> {
        let client = self.clients.get_mut(key.0)?;
        let socket = client.sockets.get_mut(place)?;
        if link >= socket.links.as_slice().len() {
            return None;
        }
        let left = socket.links.swap_remove(link);
        if let Some(moved) = socket.links.as_slice().get(link) {
            self.rooms.relink(*moved, u16::try_from(link).unwrap_or(u16::MAX));
        }
        self.before_leave(left);
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

/// What became of a message for one client.
pub(super) enum Queued {
    Yes,
    Dropped,
    Full,
}

/// Puts a message into a client's outbox if its delivery and the limit allow. With a key it replaces the one that waits
/// under that key.
pub(super) fn enqueue(
    client: &mut Client,
    frames: Frames,
    key: Option<&ConflateKey>,
    delivery: Delivery,
    queue_bytes_max: usize,
) -> Queued {
    if client.phase == Phase::Farewell {
        return Queued::Dropped;
    }
    if delivery == Delivery::Volatile && (!client.outbox.is_empty() || client.connection.is_none()) {
        return Queued::Dropped;
    }
    if client.outbox.is_empty() && key.is_none() {
        // The usual case. A single message may be larger than the limit: it was let in by a limit of its own.
        client.outbox.push(frames);
        return Queued::Yes;
    }
    let replaced = key.map_or(0, |key| client.outbox.bytes_under(key));
    let waiting = client.outbox.bytes() - replaced;
    if waiting > 0 && waiting + weight(&frames, key) > queue_bytes_max {
        return Queued::Full;
    }
    match key {
        Some(key) => client.outbox.push_under(key, frames),
        None => client.outbox.push(frames),
    }
    Queued::Yes
}
