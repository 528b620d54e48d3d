//! `World`: the servers on one Redis, the clients on the servers, and everything that was sent, ordered and asked.

use std::cell::RefCell;
use std::collections::HashMap;
use std::hash::{Hash, Hasher};
use std::rc::Rc;
use std::time::Duration;

use sockring::cluster::HeardRooms;
use sockring_protocol::adapter::{
    Adapter, Channels, Envelope, Message, SocketDescription, SubscriptionMode, decode, decode_entry,
};

use tokio::time::Instant;

use super::client::{OpId, op_of};
use super::instance::{Clients, Instance};
use super::node::{Emitter, Node};
use super::redis::{Redis, Said, SiteId};

/// One of the servers.
pub enum Server {
    Instance(Instance),
    Node(Rc<Node>),
}

/// Who sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum By {
    /// A server's own code.
    Node(SiteId),
    Emitter,
    /// A caller of this instance's API, who waits for each answer.
    Api(SiteId),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Emit,
    /// An emit whose receivers are to acknowledge it.
    EmitWithAck,
    Join,
    Leave,
    End,
    Fetch,
}

/// What came of an operation, as its sender was told.
#[derive(Clone, Debug)]
pub enum Outcome {
    Api { status: u16, is_published: bool, is_confirmed: Option<bool> },
    Fetched(Result<Vec<SocketDescription>, String>),
    Acknowledged(Result<Vec<String>, String>),
}

/// One thing that somebody sends, orders or asks.
#[derive(Clone, Debug)]
pub struct Op {
    pub kind: Kind,
    /// The rooms that it is for; none: all.
    pub rooms: Vec<String>,
    pub except: Vec<String>,
    /// The rooms to be joined or left.
    pub changed: Vec<String>,
    pub begun: Instant,
    pub ended: Option<Instant>,
    pub outcome: Option<Outcome>,
    /// Its number among all that was published.
    pub publication: Option<usize>,
    /// Which servers had all their subscriptions when it was published.
    pub was_up: Vec<bool>,
}

/// Something that keeps a server, or all of them, from being in time.
#[derive(Clone, Copy, Debug)]
struct Trouble {
    from: Instant,
    until: Instant,
}

pub struct World {
    pub adapter: Adapter,
    pub heard_rooms: HeardRooms,
    pub channels: Channels,
    pub redis: Redis,
    pub clients: Clients,
    pub servers: Vec<Server>,
    pub emitter: Emitter,
    pub senders: Vec<By>,
    pub ops: RefCell<Vec<Vec<Op>>>,
    /// Operations whose messages do not say which one they are.
    pub named: RefCell<HashMap<String, OpId>>,
    /// Users that are there.
    pub users: RefCell<Vec<String>>,
    /// The most connections that each server has ever heard by.
    pub lines: RefCell<Vec<usize>>,
    troubles: RefCell<Vec<Trouble>>,
    /// What went wrong with questions of a storm.
    pub unanswered: RefCell<Vec<String>>,
    /// Redis may leave a question open for so long.
    pub silence_timeout: Duration,
    pub traces: bool,
}

/// What is known of a world before it begins.
pub struct Beginning {
    pub adapter: Adapter,
    pub heard_rooms: HeardRooms,
    pub mode: SubscriptionMode,
    pub redis: Redis,
    pub clients: Clients,
    pub servers: Vec<Server>,
    pub emitter: Emitter,
    pub senders: Vec<By>,
    pub silence_timeout: Duration,
}

impl World {
    pub fn new(parts: Beginning) -> Rc<World> {
        let Beginning { adapter, heard_rooms, mode, redis, clients, servers, emitter, senders, silence_timeout } =
            parts;
        let world = Rc::new(World {
            adapter,
            heard_rooms,
            channels: channels(adapter, mode),
            redis,
            clients,
            lines: RefCell::new(vec![0; servers.len()]),
            servers,
            emitter,
            ops: RefCell::new(vec![Vec::new(); senders.len()]),
            senders,
            named: RefCell::default(),
            users: RefCell::default(),
            troubles: RefCell::default(),
            unanswered: RefCell::default(),
            silence_timeout,
            traces: std::env::var_os("SIM_TRACE").is_some(),
        });
        let witness = Rc::downgrade(&world);
        world.redis.watch(Box::new(move |number, said| {
            if let Some(world) = witness.upgrade() {
                world.on_publish(number, said);
            }
        }));
        world
    }

    pub fn trace(&self, what: impl FnOnce() -> String) {
        if self.traces {
            println!("{:?} {}", Instant::now(), what());
        }
    }

    pub fn instances(&self) -> impl Iterator<Item = (SiteId, &Instance)> {
        self.servers.iter().enumerate().filter_map(|(site, server)| match server {
            Server::Instance(instance) => Some((site, instance)),
            Server::Node(_) => None,
        })
    }

    /// Whether a server says that it hears all that it has to, and has as many connections to hear by as it ever had.
    pub fn is_up(&self, site: SiteId) -> bool {
        let count = self.redis.alive(|connection| connection.site == site && connection.is_subscriber()).len();
        let lines = &mut self.lines.borrow_mut()[site];
        *lines = count.max(*lines);
        let says_so = match &self.servers[site] {
            Server::Instance(instance) => {
                let metrics = instance.cluster.metrics();
                let reads = self.adapter != Adapter::Streams || metrics.streams_read == 1;
                metrics.subscriber_is_up == 1 && reads
            }
            Server::Node(_) => true,
        };
        says_so && count == *lines
    }

    /// What everybody got, in one number.
    pub fn digest(&self) -> u64 {
        let mut hasher = std::hash::DefaultHasher::new();
        for client in self.clients.borrow().iter() {
            (&client.sid, client.site, &client.got).hash(&mut hasher);
        }
        self.redis.publications().hash(&mut hasher);
        hasher.finish()
    }

    fn on_publish(&self, number: usize, said: &Said) {
        let envelope = match said {
            Said::Published { channel, body } => decode(&self.channels, channel, body),
            Said::Added { fields } => {
                decode_entry(fields.chunks(2).map(|pair| (&*pair[0], &*pair[1]))).map(|entry| entry.envelope)
            }
        };
        let Ok(envelope) = envelope else { return };
        let op = self.op_of(&envelope);
        self.trace(|| format!("published {op:?} {envelope:?}"));
        let Some((sender, op)) = op else { return };
        let was_up = (0..self.servers.len()).map(|site| self.is_up(site)).collect();
        let op = &mut self.ops.borrow_mut()[sender][op];
        assert!(op.publication.is_none(), "published twice: {op:?}");
        op.publication = Some(number);
        op.was_up = was_up;
    }

    fn op_of(&self, Envelope { message, .. }: &Envelope) -> Option<OpId> {
        let named = |word: &str, room: Option<&Box<str>>, changed: Option<&Box<str>>| {
            let name = name_of(word, room.map_or("", |room| room), changed.map_or("", |room| room));
            self.named.borrow().get(&name).copied()
        };
        match message {
            Message::Broadcast(broadcast) | Message::BroadcastForAck { broadcast, .. } => {
                op_of(std::str::from_utf8(&broadcast.args).expect("JSON"))
            }
            Message::Join { selection, rooms, .. } => rooms
                .iter()
                .find_map(|room| of_mark(room))
                .or_else(|| named("join", selection.rooms.first(), rooms.first())),
            Message::Leave { selection, rooms, .. } => {
                let marked = rooms.iter().find_map(|room| of_mark(room));
                marked.or_else(|| named("leave", selection.rooms.first(), rooms.first()))
            }
            Message::Disconnect { selection, .. } => named("end", selection.rooms.first(), None),
            Message::Fetch { selection, .. } => selection.except.iter().find_map(|room| of_mark(room)),
            _ => None,
        }
    }

    pub fn begin(&self, kind: Kind) -> Op {
        let (rooms, except, changed) = Default::default();
        let (ended, outcome, publication) = Default::default();
        Op { kind, rooms, except, changed, begun: Instant::now(), ended, outcome, publication, was_up: Vec::new() }
    }

    /// Something will not be in time until then.
    pub fn expect_trouble(&self, until: Instant) {
        self.troubles.borrow_mut().push(Trouble { from: Instant::now(), until });
    }

    /// Whether all was well from one moment to another.
    pub fn was_calm(&self, from: Instant, until: Instant) -> bool {
        !self.troubles.borrow().iter().any(|trouble| trouble.from <= until && trouble.until >= from)
    }

    /// Whether anything was not well.
    pub fn had_trouble(&self) -> bool {
        !self.troubles.borrow().is_empty()
    }

    /// When a server has heard an operation's message; `None`: it has not.
    pub fn heard_at(&self, op: &Op, site: SiteId) -> Heard {
        let Some(number) = op.publication else { return Heard::NotSent };
        let publication = self.redis.publication(number);
        let to: Vec<_> = publication.to.iter().filter(|(to, ..)| *to == site).collect();
        let times: Vec<_> = to.iter().filter_map(|(_, pipe, offset)| pipe.read_at(*offset)).collect();
        match (to.len(), times.iter().max()) {
            (0, _) => Heard::NotSent,
            (_, None) => Heard::Lost,
            // An entry is sent again where the connection was lost that it was on.
            (sent, Some(at)) => Heard::At { at: *at, by_all: self.is_entry(op) || times.len() == sent },
        }
    }

    /// Whether an operation's message stands in the stream.
    pub fn is_entry(&self, op: &Op) -> bool {
        self.adapter == Adapter::Streams && !matches!(op.kind, Kind::EmitWithAck | Kind::Fetch)
    }

    pub fn published_at(&self, op: &Op) -> Option<Instant> {
        op.publication.map(|number| self.redis.publication(number).at)
    }
}

/// Whether a server has heard something.
#[derive(Clone, Copy, Debug)]
pub enum Heard {
    /// None of its connections had subscribed it.
    NotSent,
    /// It was on its way when its connection was cut.
    Lost,
    At {
        at: Instant,
        /// By each connection to which it was sent.
        by_all: bool,
    },
}

pub fn channels(adapter: Adapter, mode: SubscriptionMode) -> Channels {
    Channels::new(adapter, "socket.io", &["/"]).with_mode(mode)
}

/// What an operation of the API is known by.
pub fn name_of(word: &str, room: &str, changed: &str) -> String {
    format!("{word} {room} {changed}")
}

/// A room of no use but to say which operation an order is.
pub fn mark((sender, number): OpId) -> String {
    format!("mark:{sender}:{number}")
}

fn of_mark(room: &str) -> Option<OpId> {
    let (sender, number) = room.strip_prefix("mark:")?.split_once(':')?;
    Some((sender.parse().ok()?, number.parse().ok()?))
}

/// A time that covers what messages and turns take when nothing is wrong.
pub const SLACK: Duration = Duration::from_millis(600);
