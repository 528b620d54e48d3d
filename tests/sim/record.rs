//! `Record`: the oracle. What the application saw and asked for, and so what every socket has to get, in order.

mod asks;
mod emits;
mod kept;
mod keys;
mod manage;
mod sessions;

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::Arc;

use sockring::shard::{Sid, USER_PREFIX};
use sockring_protocol::adapter::Delivery;
use sockring_protocol::socketio::{self, AckId};

use super::network::ActorId;

use asks::Asks;
use emits::Emits;
use kept::Kept;
use keys::Keys;
use sessions::{Sessions, is_wanderer};

pub use asks::without_ask;
pub use emits::{Sender, number_of};
pub use keys::KeyRules;

/// A socket that is connected now.
#[derive(Clone, Debug)]
pub struct LiveSocket {
    pub shard: usize,
    pub namespace: String,
    pub user: String,
    pub rooms: BTreeSet<String>,
    /// How often it has left a room.
    pub leaves: u64,
}

/// One Socket.IO packet that a socket has to get.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Expected {
    pub at: u64,
    pub text: String,
    pub attachments: Vec<Vec<u8>>,
    pub delivery: Delivery,
    /// A newer one under the same key may have replaced it, from the end of the stream.
    pub conflate: Option<Box<str>>,
}

/// Counts as the shard should report them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    pub connected: u64,
    pub sockets: u64,
    pub users: u64,
    pub rooms: u64,
}

/// Everything that the simulation knows better than the shard.
#[derive(Debug)]
pub struct Record {
    pub now: u64,
    /// For how long workers have paused in all, or will have when they go on: so much later than usual may things be.
    pub late_ms: u64,
    pub rooms_per_socket_max: usize,
    /// Some users are not let in at once.
    pub has_doubts: bool,
    live: BTreeMap<String, LiveSocket>,
    /// By Socket.IO sid, also of sockets that are gone: what was queued before still has to come.
    streams: HashMap<String, VecDeque<Expected>>,
    /// Sessions with a socket: how many sockets, by shard and slot.
    clients: BTreeMap<String, u64>,
    /// What actors know about the transport of their sessions, by shard and slot of their sockets.
    pub transports: BTreeMap<String, KnownTransport>,
    /// When the shard last read something that an actor wrote.
    heard: HashMap<ActorId, u64>,
    /// What every new socket gets behind its greeting, by shard.
    standing: Vec<Option<Arc<[u8]>>>,
    /// Sockets that were admitted and not connected yet, by user; some of them never will be.
    joining: HashMap<String, u64>,
    /// What sockets have joined in a turn that is not over: nobody outside of their shard has been told.
    untold: BTreeSet<(String, String)>,
    /// Of sockets, and of the rooms that they are in.
    pub changes: u64,
    emits: Emits,
    keys: Keys,
    kept: Kept,
    asks: Asks,
    sessions: Sessions,
    /// Sessions that went on, and events that came again because a marker was cut off.
    pub recovered: u64,
    pub repeated: u64,
    /// When the first shard was asked to drain.
    pub draining_since: Option<u64>,
    pub received: u64,
    pub largest_message: usize,
}

/// What an actor can say about the transport that the server has for its session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KnownTransport {
    Polling,
    WebSocket,
    /// An upgrade is on its way.
    Either,
}

/// The part of a socket's sid that names its session's shard and slot. The session's own sid names where it began.
pub fn place_of(sid: &str) -> String {
    sid[..8].to_owned()
}

/// What names the client of a socket. One that has come back is not where its sid says, and has one socket.
fn client_of(sid: &str, user: &str) -> String {
    if is_wanderer(user) { sid.to_owned() } else { place_of(sid) }
}

/// The shard that a socket's sid names.
pub fn shard_of(sid: &str) -> usize {
    usize::from(Sid::parse(sid).expect("a sid of the server").shard())
}

impl Record {
    pub fn new(rooms_per_socket_max: usize, shards: usize) -> Record {
        Record {
            now: 0,
            late_ms: 0,
            rooms_per_socket_max,
            has_doubts: false,
            live: BTreeMap::new(),
            streams: HashMap::new(),
            clients: BTreeMap::new(),
            transports: BTreeMap::new(),
            heard: HashMap::new(),
            standing: vec![None; shards],
            joining: HashMap::new(),
            untold: BTreeSet::new(),
            changes: 0,
            emits: Emits::default(),
            keys: Keys::default(),
            kept: Kept::default(),
            asks: Asks::default(),
            sessions: Sessions::default(),
            recovered: 0,
            repeated: 0,
            draining_since: None,
            received: 0,
            largest_message: 256,
        }
    }

    // What the application tells.

    pub fn on_admitted(&mut self, user: &str) {
        *self.joining.entry(user.to_owned()).or_default() += 1;
    }

    pub fn on_connected(&mut self, sid: &str, namespace: &str, user: &str) {
        let shard = shard_of(sid);
        let rooms = self.begin_session(sid, shard, namespace, user);
        self.untold.extend(rooms.iter().map(|room| (sid.to_owned(), room.clone())));
        let socket = LiveSocket { shard, namespace: namespace.to_owned(), user: user.to_owned(), rooms, leaves: 0 };
        assert!(self.live.insert(sid.to_owned(), socket).is_none(), "a sid came twice");
        self.changes += 1;
        *self.joining.get_mut(user).expect("it was admitted") -= 1;
        *self.clients.entry(client_of(sid, user)).or_default() += 1;
        let mut text = Vec::new();
        socketio::encode_connect(namespace, sid, &mut text);
        self.streams.insert(sid.to_owned(), VecDeque::new());
        self.expect::<Vec<u8>>(sid, text, &[]);
    }

    pub fn on_disconnected(&mut self, sid: &str) {
        self.emits.excuse(sid);
        self.changes += 1;
        let socket = self.live.remove(sid).expect("disconnected twice, or never connected");
        self.leave_session(sid, &socket.rooms);
        let client = client_of(sid, &socket.user);
        let sockets = self.clients.get_mut(&client).expect("its session has a socket");
        *sockets -= 1;
        if *sockets == 0 {
            self.clients.remove(&client);
            self.transports.remove(&client);
        }
    }

    pub fn on_join(&mut self, sid: &str, room: &str) {
        let max = self.rooms_per_socket_max;
        self.changes += 1;
        let socket = self.live.get_mut(sid).expect("a socket that joins is live");
        if socket.rooms.len() < max {
            socket.rooms.insert(room.to_owned());
            self.untold.insert((sid.to_owned(), room.to_owned()));
            self.emits.excuse_from(sid, room);
        }
    }

    /// A turn of a shard is over, and what it has to say is on its way.
    pub fn on_told(&mut self, shard: usize) {
        self.untold.retain(|(sid, _)| shard_of(sid) != shard);
    }

    pub fn on_leave(&mut self, sid: &str, room: &str) {
        self.changes += 1;
        let socket = self.live.get_mut(sid).expect("a socket that leaves is live");
        if room != format!("{USER_PREFIX}{}", socket.user) {
            socket.leaves += u64::from(socket.rooms.remove(room));
            self.emits.excuse_in(sid, room);
        }
    }

    pub fn on_event_sent(&mut self, sid: &str, ack: Option<AckId>, args: &[u8], attachments: &[Box<[u8]>]) {
        let mut text = Vec::new();
        let namespace = self.live[sid].namespace.clone();
        socketio::encode_event(&namespace, ack, attachments.len(), args, &mut text);
        self.expect(sid, text, attachments);
    }

    pub fn on_ack_sent(&mut self, sid: &str, ack: AckId, args: &[u8], attachments: &[Box<[u8]>]) {
        let mut text = Vec::new();
        let namespace = self.live[sid].namespace.clone();
        socketio::encode_ack(&namespace, ack, attachments.len(), args, &mut text);
        self.expect(sid, text, attachments);
    }

    pub fn on_disconnect_sent(&mut self, sid: &str) {
        let mut text = Vec::new();
        socketio::encode_disconnect(&self.live[sid].namespace, &mut text);
        self.expect::<Vec<u8>>(sid, text, &[]);
    }

    fn expect<B: AsRef<[u8]>>(&mut self, sid: &str, text: Vec<u8>, attachments: &[B]) {
        self.expect_as(sid, text, attachments, Delivery::Queue, None);
    }

    fn expect_as<B: AsRef<[u8]>>(
        &mut self,
        sid: &str,
        text: Vec<u8>,
        attachments: &[B],
        delivery: Delivery,
        conflate: Option<Box<str>>,
    ) {
        let text = String::from_utf8(text).expect("packets are text");
        let attachments: Vec<_> = attachments.iter().map(|data| data.as_ref().to_vec()).collect();
        let bytes = text.len() + 12 + attachments.iter().map(|data| data.len() + 10).sum::<usize>();
        self.largest_message = self.largest_message.max(bytes);
        let expected = Expected { at: self.now, text, attachments, delivery, conflate };
        self.streams.get_mut(sid).expect("a stream since CONNECT").push_back(expected);
    }

    pub fn on_heard(&mut self, actor: ActorId) {
        self.heard.insert(actor, self.now);
    }

    pub fn heard_at(&self, actor: ActorId) -> u64 {
        self.heard.get(&actor).copied().unwrap_or_default()
    }

    // What clients got.

    /// A client got a packet for its socket: the next one of its stream, or one behind some that did not have to come.
    pub fn on_received(&mut self, sid: &str, text: &str, attachments: &[Vec<u8>]) {
        let stream = self.streams.get_mut(sid).unwrap_or_else(|| panic!("a packet for a socket unknown: {text}"));
        let is_it = |expected: &Expected| expected.text == text && expected.attachments == attachments;
        let Some(at) = stream.iter().position(is_it) else {
            panic!("a socket got {text}, which was not for it, or came twice; {:?} was next", stream.front());
        };
        let skipped = (0..at).find(|place| has_to_come(stream, *place)).map(|place| &stream[place]);
        assert!(skipped.is_none(), "a socket got {text} before, or instead of, {skipped:?}");
        stream.drain(..=at);
        self.received += 1;
        self.on_kept_received(text);
    }

    /// Since when the oldest packet waits that has to come.
    pub fn waiting_since(&self, sid: &str) -> Option<&Expected> {
        let stream = self.streams.get(sid)?;
        (0..stream.len()).find(|place| has_to_come(stream, *place)).map(|place| &stream[place])
    }

    pub fn is_live(&self, sid: &str) -> bool {
        self.live.contains_key(sid)
    }

    pub fn live(&self) -> impl Iterator<Item = (&String, &LiveSocket)> {
        self.live.iter()
    }

    pub fn counts(&self) -> Counts {
        let rooms: BTreeSet<(&str, &str)> = self
            .live
            .values()
            .flat_map(|socket| socket.rooms.iter().map(|room| (socket.namespace.as_str(), room.as_str())))
            .collect();
        let users: BTreeSet<_> =
            rooms.iter().map(|(_, room)| room).filter(|room| room.starts_with(USER_PREFIX)).collect();
        Counts {
            connected: self.clients.len() as u64,
            sockets: self.live.len() as u64,
            // Someone with sockets in several namespaces is one user.
            users: users.len() as u64,
            rooms: rooms.len() as u64,
        }
    }

    /// The least and the most connected clients whose transport can be a WebSocket.
    pub fn websockets(&self) -> (u64, u64) {
        let known = |place: &String| self.transports.get(place).copied().unwrap_or(KnownTransport::Either);
        let least = self.clients.keys().filter(|place| known(place) == KnownTransport::WebSocket).count();
        let most = self.clients.keys().filter(|place| known(place) != KnownTransport::Polling).count();
        (least as u64, most as u64)
    }
}

/// Whether a packet of a stream is neither volatile nor under the key of a newer one.
fn has_to_come(stream: &VecDeque<Expected>, place: usize) -> bool {
    let Expected { delivery, conflate, .. } = &stream[place];
    let is_replaced = conflate.is_some() && stream.iter().skip(place + 1).any(|newer| newer.conflate == *conflate);
    *delivery == Delivery::Queue && !is_replaced
}
