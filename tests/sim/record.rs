//! `Record`: the oracle. What the application saw and asked for, and so what every socket has to get, in order.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::ops::RangeInclusive;
use std::sync::Arc;

use sockring::broadcast::{Broadcast, Delivery};
use sockring::shard::{Ending, Mail, Target, USER_PREFIX};
use sockring_protocol::socketio::{self, AckId};

use super::network::ActorId;

/// A socket that is connected now.
#[derive(Clone, Debug)]
pub struct LiveSocket {
    pub namespace: String,
    pub user: String,
    pub rooms: BTreeSet<String>,
}

/// One Socket.IO packet that a socket has to get.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Expected {
    pub at: u64,
    pub text: String,
    pub attachments: Vec<Vec<u8>>,
    pub delivery: Delivery,
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
    pub rooms_per_socket_max: usize,
    live: BTreeMap<String, LiveSocket>,
    /// By Socket.IO sid, also of sockets that are gone: what was queued before still has to come.
    streams: HashMap<String, VecDeque<Expected>>,
    /// Sessions with a socket: how many sockets, by shard and slot.
    sessions: BTreeMap<String, u64>,
    /// What actors know about the transport of their sessions, by shard and slot.
    pub transports: BTreeMap<String, KnownTransport>,
    /// When the shard last read something that an actor wrote.
    heard: HashMap<ActorId, u64>,
    /// What every new socket gets behind its greeting.
    pub standing: Option<Arc<[u8]>>,
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

/// The part of a sid that names shard and slot: the same for a session and its sockets.
pub fn place_of(sid: &str) -> String {
    sid[..8].to_owned()
}

impl Record {
    pub fn new(rooms_per_socket_max: usize) -> Record {
        Record {
            now: 0,
            rooms_per_socket_max,
            live: BTreeMap::new(),
            streams: HashMap::new(),
            sessions: BTreeMap::new(),
            transports: BTreeMap::new(),
            heard: HashMap::new(),
            standing: None,
            received: 0,
            largest_message: 256,
        }
    }

    // What the application tells.

    pub fn on_connected(&mut self, sid: &str, namespace: &str, user: &str) {
        let rooms = BTreeSet::from([format!("{USER_PREFIX}{user}")]);
        let socket = LiveSocket { namespace: namespace.to_owned(), user: user.to_owned(), rooms };
        assert!(self.live.insert(sid.to_owned(), socket).is_none(), "a sid came twice");
        *self.sessions.entry(place_of(sid)).or_default() += 1;
        let mut text = Vec::new();
        socketio::encode_connect(namespace, sid, &mut text);
        self.streams.insert(sid.to_owned(), VecDeque::new());
        self.expect::<Vec<u8>>(sid, text, &[], Delivery::Queue);
    }

    pub fn on_disconnected(&mut self, sid: &str) {
        assert!(self.live.remove(sid).is_some(), "disconnected twice, or never connected");
        let sockets = self.sessions.get_mut(&place_of(sid)).expect("its session has a socket");
        *sockets -= 1;
        if *sockets == 0 {
            self.sessions.remove(&place_of(sid));
            self.transports.remove(&place_of(sid));
        }
    }

    pub fn on_join(&mut self, sid: &str, room: &str) {
        let max = self.rooms_per_socket_max;
        let socket = self.live.get_mut(sid).expect("a socket that joins is live");
        if socket.rooms.len() < max {
            socket.rooms.insert(room.to_owned());
        }
    }

    pub fn on_leave(&mut self, sid: &str, room: &str) {
        let socket = self.live.get_mut(sid).expect("a socket that leaves is live");
        if room != format!("{USER_PREFIX}{}", socket.user) {
            socket.rooms.remove(room);
        }
    }

    pub fn on_event_sent(&mut self, sid: &str, ack: Option<AckId>, args: &[u8], attachments: &[Box<[u8]>]) {
        let mut text = Vec::new();
        let namespace = self.live[sid].namespace.clone();
        socketio::encode_event(&namespace, ack, attachments.len(), args, &mut text);
        self.expect(sid, text, attachments, Delivery::Queue);
    }

    pub fn on_ack_sent(&mut self, sid: &str, ack: AckId, args: &[u8], attachments: &[Box<[u8]>]) {
        let mut text = Vec::new();
        let namespace = self.live[sid].namespace.clone();
        socketio::encode_ack(&namespace, ack, attachments.len(), args, &mut text);
        self.expect(sid, text, attachments, Delivery::Queue);
    }

    pub fn on_disconnect_sent(&mut self, sid: &str) {
        let mut text = Vec::new();
        socketio::encode_disconnect(&self.live[sid].namespace, &mut text);
        self.expect::<Vec<u8>>(sid, text, &[], Delivery::Queue);
    }

    fn expect<B: AsRef<[u8]>>(&mut self, sid: &str, text: Vec<u8>, attachments: &[B], delivery: Delivery) {
        let text = String::from_utf8(text).expect("packets are text");
        let attachments: Vec<_> = attachments.iter().map(|data| data.as_ref().to_vec()).collect();
        let bytes = text.len() + 12 + attachments.iter().map(|data| data.len() + 10).sum::<usize>();
        self.largest_message = self.largest_message.max(bytes);
        let expected = Expected { at: self.now, text, attachments, delivery };
        self.streams.get_mut(sid).expect("a stream since CONNECT").push_back(expected);
    }

    pub fn on_heard(&mut self, actor: ActorId) {
        self.heard.insert(actor, self.now);
    }

    pub fn heard_at(&self, actor: ActorId) -> u64 {
        self.heard.get(&actor).copied().unwrap_or_default()
    }

    // Broadcasts.

    /// The sids of the sockets that a broadcast names.
    pub fn targets(&self, broadcast: &Broadcast) -> Vec<String> {
        let is_in = |sid: &str, socket: &LiveSocket, rooms: &[Box<str>]| {
            rooms.iter().any(|room| &**room == sid || socket.rooms.contains(&**room))
        };
        let targets = self.live.iter().filter(|(sid, socket)| {
            socket.namespace == *broadcast.namespace
                && (broadcast.rooms.is_empty() || is_in(sid, socket, &broadcast.rooms))
                && !is_in(sid, socket, &broadcast.except)
        });
        targets.map(|(sid, _)| sid.clone()).collect()
    }

    /// A broadcast was delivered to these sockets. Those that are gone by now did not take it.
    pub fn on_broadcast(&mut self, broadcast: &Broadcast, mut targets: Vec<String>) -> u64 {
        targets.retain(|sid| self.live.contains_key(sid));
        let mut text = Vec::new();
        socketio::encode_event(&broadcast.namespace, None, broadcast.attachments.len(), &broadcast.args, &mut text);
        for sid in &targets {
            self.expect(sid, text.clone(), &broadcast.attachments, broadcast.delivery);
        }
        targets.len() as u64
    }

    // What a backend does to sockets.

    /// Puts a mail that is no broadcast on the record; says for how many sockets it counts.
    pub fn on_mail(&mut self, mail: &Mail) -> RangeInclusive<u64> {
        let count = match mail {
            Mail::Join(target, room) => self.count(target, |record, sid| {
                record.on_join(sid, room);
                record.live[sid].rooms.contains(&**room)
            }),
            Mail::Leave(target, room) => self.count(target, |record, sid| {
                let was_in = record.live[sid].rooms.contains(&**room);
                record.on_leave(sid, room);
                was_in && !record.live[sid].rooms.contains(&**room)
            }),
            Mail::Disconnect(target, Ending::Socket) => self.count(target, |record, sid| {
                record.on_disconnect_sent(sid);
                true
            }),
            Mail::Disconnect(target, Ending::Session) => {
                let sids = self.sids_of(target);
                let sessions: BTreeSet<_> = sids.iter().map(|sid| place_of(sid)).collect();
                return sessions.len() as u64..=sids.len() as u64;
            }
            Mail::Stand(event) => {
                self.standing.clone_from(event);
                0
            }
            Mail::UserStatus(user) => self.sockets_of(user),
            // The world sees to emits and statistics; others count nothing.
            _ => return 0..=u64::MAX,
        };
        count..=count
    }

    fn count(&mut self, target: &Target, mut does: impl FnMut(&mut Record, &str) -> bool) -> u64 {
        self.sids_of(target).iter().filter(|sid| does(self, sid)).count() as u64
    }

    fn sids_of(&self, target: &Target) -> Vec<String> {
        let is_meant = |sid: &str, socket: &LiveSocket| match target {
            Target::User(user) => socket.rooms.contains(&format!("{USER_PREFIX}{user}")),
            Target::Socket(wanted) => sid == &**wanted,
        };
        self.live.iter().filter(|(sid, socket)| is_meant(sid, socket)).map(|(sid, _)| sid.clone()).collect()
    }

    // What clients got.

    /// A client got a packet for its socket: the next one of its stream, or behind volatile ones.
    pub fn on_received(&mut self, sid: &str, text: &str, attachments: &[Vec<u8>]) {
        let stream = self.streams.get_mut(sid).unwrap_or_else(|| panic!("a packet for a socket unknown: {text}"));
        while let Some(next) = stream.pop_front() {
            if next.text == text && next.attachments == attachments {
                self.received += 1;
                return;
            }
            assert!(
                next.delivery == Delivery::Volatile,
                "a socket got {text} before, or instead of, {} (queued at {} ms)",
                next.text,
                next.at
            );
        }
        panic!("a socket got {text}, which was not for it, or came twice");
    }

    /// Since when the oldest packet waits that has to come.
    pub fn waiting_since(&self, sid: &str) -> Option<&Expected> {
        self.streams.get(sid)?.iter().find(|expected| expected.delivery == Delivery::Queue)
    }

    pub fn is_live(&self, sid: &str) -> bool {
        self.live.contains_key(sid)
    }

    pub fn live(&self) -> impl Iterator<Item = (&String, &LiveSocket)> {
        self.live.iter()
    }

    /// Sockets of a user in the main namespace.
    pub fn sockets_of(&self, user: &str) -> u64 {
        let room = format!("{USER_PREFIX}{user}");
        self.live.values().filter(|socket| socket.namespace == "/" && socket.rooms.contains(&room)).count() as u64
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
            connected: self.sessions.len() as u64,
            sockets: self.live.len() as u64,
            // Someone with sockets in several namespaces is one user.
            users: users.len() as u64,
            rooms: rooms.len() as u64,
        }
    }

    /// The least and the most connected clients whose transport can be a WebSocket.
    pub fn websockets(&self) -> (u64, u64) {
        let known = |place: &String| self.transports.get(place).copied().unwrap_or(KnownTransport::Either);
        let least = self.sessions.keys().filter(|place| known(place) == KnownTransport::WebSocket).count();
        let most = self.sessions.keys().filter(|place| known(place) != KnownTransport::Polling).count();
        (least as u64, most as u64)
    }
}
