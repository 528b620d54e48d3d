//! The cluster: other instances and Node servers on the same Redis, as tasks of the cores.
//!
//! ```text
//!   cores: shards and API                                          Redis: one, a Cluster, or behind sentinels
//!     emits, orders, questions ---> publisher -------------------->  channels
//!     rooms that are wanted ------> subscriptions --> subscriber -->     |
//!                                                         |<-------------+
//!     mail, a shard at a time <---- inbox <--- decoded ---+
//!     answers <-------------------- asking, acking  (ours: how many, how long)
//!                                   answering, awaiting  (questions and acknowledged emits of others)
//!
//!   link: one connection to a Redis     pulse, health: whether it stands     nodes, topology, sentinels: to which
//! ```
//!
//! Channels and bytes on one side, broadcasts and mail on the other; it does not touch clients.

mod acking;
mod answering;
mod asking;
mod awaiting;
mod bus;
mod claim;
mod counters;
mod echoes;
mod flow;
mod health;
mod held;
mod inbox;
mod joins;
mod kept;
mod line;
mod lines;
mod link;
mod listing;
mod neighbours;
mod nodes;
mod numbers;
mod outside;
mod probe;
mod publisher;
mod pulse;
mod reader;
mod recalling;
mod scripts;
mod segment;
mod seldom;
mod sentinels;
mod sessions;
mod settings;
mod streaming;
mod subscriber;
mod subscribing;
mod subscriptions;
mod topology;
mod traced;

use std::iter;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use redis::{Cmd, Value, cmd};
use sockring_protocol::adapter::{
    self, Adapter, ChannelKind, ChannelName, Channels, Envelope, Message, Outgoing, RequestId, namesake_of,
};
use tokio::sync::{Notify, mpsc, oneshot, watch};
use tokio::time::{Instant, timeout_at};

use crate::mailbox::Postbox;
use crate::shard::{Instance, NamespaceId, RoomName, USER_PREFIX, home_of};
use crate::spans::{Span, Spans};

use acking::AckQuestions;
use asking::{Peers, Questions};
use awaiting::Awaiting;
use counters::BusCounters;
use echoes::{Echoes, Number};
use health::{Health, Node, Presence, RedisConnectionId};
use held::Held;
use joins::Joins;
use lines::Lines;
use link::Dialler;
use neighbours::Neighbours;
use publisher::{Job, PublishQueue, To};
use subscriber::Instruction;
use topology::Topology;

pub use acking::{AckGathering, AckedElsewhere};
pub use asking::Gathered;
pub use bus::CoreBus;
pub use claim::Claimed;
pub use counters::ClusterMetrics;
pub use health::Condition;
pub use kept::{EmitToKeep, KeepError, KeptAnswer, Publishing};
pub use lines::{Host, Refused};
pub use link::{LinkError, RedisMode, RedisRole, ServerInfo};
pub use listing::{ListedUsers, UsersPart};
pub use neighbours::Neighbour;
pub use numbers::InstanceNumbers;
pub use outside::{Dialled, OperatingSystem, OutsideWorld, Stream};
pub use publisher::PublishError;
pub use segment::Visitor;
pub use settings::{
    Address, ClientCertificate, ClusterSettings, HeardRooms, KeptSettings, Readiness, Secret, SentinelSettings,
    SharedSessions, StreamSettings, TlsSettings, TunnelSettings,
};
pub use streaming::InOrder;

/// How long Redis may take to say that it has a message.
const PUBLISHED_WITHIN: Duration = Duration::from_millis(500);
/// The core whose tasks act for the whole instance.
const FIRST_CORE: usize = 0;
/// Characters of an uid or request id of the classic adapter, and bytes of one of the other adapters, in hexadecimal.
const CLASSIC_ID_CHARS: usize = 6;
const OTHER_ID_BYTES: usize = 8;

/// What all cores share.
#[derive(Debug)]
pub struct Cluster {
    settings: ClusterSettings,
    outside: Arc<dyn OutsideWorld>,
    /// `None`: nobody collects them.
    spans: Option<Arc<Spans>>,
    dialler: Dialler,
    channels: Channels,
    /// By the number that shards know them by.
    namespaces: Vec<String>,
    /// This instance's, for each namespace.
    uids: Vec<Box<str>>,
    instance: Instance,
    /// By which this start is told apart from others of the same name.
    run: Box<str>,
    /// For people.
    name: Box<str>,
    neighbours: Neighbours,
    lines: Lines,
    started: Instant,
    /// The shards' mailboxes, as the tasks that act for the instance write to them.
    postboxes: Vec<Postbox>,
    presence: Presence,
    health: Health,
    counters: BusCounters,
    backlog: PublishQueue,
    questions: Questions,
    acking: AckQuestions,
    peers: Peers,
    awaiting: Awaiting,
    held: Held,
    joins: Joins,
    echoes: Echoes,
    /// What all cores want subscribed.
    instructions: mpsc::UnboundedSender<Instruction>,
    requests: mpsc::Sender<Envelope>,
    topology: watch::Sender<Topology>,
    topology_is_stale: Notify,
    /// As the sentinels say; stays `None` without them.
    master: watch::Sender<Option<Address>>,
    master_is_stale: Notify,
    /// Taken by the first core when it starts.
    receivers: Mutex<Option<Receivers>>,
}

#[derive(Debug)]
struct Receivers {
    jobs: mpsc::UnboundedReceiver<Job>,
    instructions: mpsc::UnboundedReceiver<Instruction>,
    requests: mpsc::Receiver<Envelope>,
}

/// What a cluster is made of.
#[derive(Debug)]
pub struct ClusterParts {
    pub settings: ClusterSettings,
    /// `/` first, as shards number them.
    pub namespaces: Vec<String>,
    /// What the sids of this instance begin with.
    pub instance: Instance,
    /// By which this start is told apart from others.
    pub run: Box<str>,
    /// Where it runs, for people.
    pub name: Box<str>,
    /// The shards' mailboxes, as the tasks that act for the instance write to them.
    pub postboxes: Vec<Postbox>,
    pub outside: Arc<dyn OutsideWorld>,
    /// `None`: nobody collects them.
    pub spans: Option<Arc<Spans>>,
}

impl Cluster {
    /// Fails where no connection could ever be opened.
    pub fn new(parts: ClusterParts) -> Result<Arc<Cluster>, LinkError> {
        let ClusterParts { settings, namespaces, instance, run, name, postboxes, outside, spans } = parts;
        let (backlog, jobs) = PublishQueue::new(settings.queue_bytes_max);
        let (requests, requests_in) = mpsc::channel(settings.requests_max);
        let (instructions, instructions_in) = mpsc::unbounded_channel();
        let health = Health::default();
        health.expect(RedisConnectionId::Publisher(Node::Any));
        health.expect(RedisConnectionId::Subscriber(Node::Any));
        let cluster = Cluster {
            dialler: Dialler::new(Arc::clone(&outside), &settings)?,
            channels: Channels::new(settings.adapter, &settings.prefix, &namespaces).with_mode(settings.mode),
            uids: namespaces.iter().map(|_| new_id(&*outside, settings.adapter)).collect(),
            outside,
            spans,
            presence: Presence::new(postboxes.clone()),
            counters: BusCounters::default(),
            awaiting: Awaiting::new(settings.acks_max),
            questions: Questions::new(settings.questions_max),
            acking: AckQuestions::new(settings.questions_max),
            held: Held::new(settings.answers_bytes_max),
            echoes: Echoes::new(settings.queue_bytes_max),
            settings,
            namespaces,
            instance,
            run,
            name,
            neighbours: Neighbours::default(),
            lines: Lines::default(),
            started: Instant::now(),
            postboxes,
            health,
            backlog,
            peers: Peers::default(),
            joins: Joins::default(),
            instructions,
            requests,
            topology: watch::Sender::new(Topology::Unknown),
            topology_is_stale: Notify::new(),
            master: watch::Sender::new(None),
            master_is_stale: Notify::new(),
            receivers: Mutex::new(Some(Receivers { jobs, instructions: instructions_in, requests: requests_in })),
        };
        cluster.streams().into_iter().for_each(|stream| cluster.health.expect(RedisConnectionId::Reader(stream)));
        Ok(Arc::new(cluster))
    }

    /// The number of the shard that knows where a room's members are.
    fn home_of(&self, room: &str) -> usize {
        usize::from(home_of(room, self.shards()))
    }

    /// Starts the tasks of a core, which end with its runtime. Has to be called within it.
    pub fn start(self: &Arc<Self>, core: usize) -> CoreBus {
        if core == FIRST_CORE
            && let Some(receivers) = self.receivers.lock().unwrap_or_else(PoisonError::into_inner).take()
        {
            bus::listen(Arc::clone(self), receivers.instructions);
            tokio::task::spawn_local(publisher::run(Arc::clone(self), receivers.jobs));
            tokio::task::spawn_local(answering::run(Arc::clone(self), receivers.requests));
            tokio::task::spawn_local(awaiting::expire(Arc::clone(self)));
            tokio::task::spawn_local(nodes::watch(Arc::clone(self)));
            if self.has_tunnels() {
                tokio::task::spawn_local(neighbours::keep(Arc::clone(self)));
            }
            if let Some(sentinels) = self.settings.sentinels.clone() {
                tokio::task::spawn_local(sentinels::follow(Arc::clone(self), sentinels));
            }
        }
        CoreBus::new(Arc::clone(self), core)
    }

    pub fn readiness(&self) -> Readiness {
        self.settings.readiness
    }

    /// How all connections together are.
    pub fn condition(&self) -> Condition {
        self.health.condition()
    }

    /// Waits, at most this long, until all connections stand.
    pub fn wait_until_up(&self, at_most: Duration) -> bool {
        self.health.wait(at_most)
    }

    /// What was counted so far.
    pub fn metrics(&self) -> ClusterMetrics {
        let (queue_bytes, acks_awaited) = (self.backlog.waiting_bytes() as u64, self.awaiting.len() as u64);
        let (answers_bytes, silent) = (self.held.bytes() as u64, self.health.silent() as u64);
        let unread = self.echoes.len() as u64;
        ClusterMetrics { queue_bytes, answers_bytes, acks_awaited, silent, unread, ..self.counters.snapshot() }
    }

    /// Publishes, and waits until Redis has it.
    pub async fn publish(&self, namespace: &str, message: &Message) -> Result<(), PublishError> {
        let sent = self.send(namespace, message)?;
        self.taken(sent, self.deadline()).await.map(drop)
    }

    /// Publishes several together, in their order; says of each what came of it.
    pub async fn publish_all(&self, messages: &[(&str, Message)]) -> Vec<Result<(), PublishError>> {
        let deadline = self.deadline();
        let sent: Vec<_> = messages.iter().map(|(namespace, message)| self.send(namespace, message)).collect();
        let mut results = Vec::with_capacity(sent.len());
        for sent in sent {
            results.push(match sent {
                Ok(sent) => self.taken(sent, deadline).await.map(drop),
                Err(error) => Err(error),
            });
        }
        results
    }

    /// Puts a message where Redis' connection takes it from.
    fn send(&self, namespace: &str, message: &Message) -> Result<Sent, PublishError> {
        self.send_by(Sending::Usual, namespace, message)
    }

    /// The same, another way than such a message goes.
    fn send_by(&self, way: Sending, namespace: &str, message: &Message) -> Result<Sent, PublishError> {
        let uid = self.namespace(namespace).and_then(|index| self.uids.get(index)).ok_or(PublishError::Refused)?;
        let sent = match self.backlog.is_up() {
            false => Err(PublishError::Down),
            true => match self.outbound(way, uid, namespace, message) {
                None => Err(PublishError::Refused),
                Some((command, to, bytes)) => {
                    let answer = self.backlog.send(command, to, bytes);
                    let span = self.begin_publishing(message);
                    answer.map(|answer| Sent { answer, bytes, at: Instant::now(), span })
                }
            },
        };
        sent.inspect_err(|error| self.count_loss(*error))
    }

    /// `None`: the adapter has no such message.
    fn outbound(&self, way: Sending, uid: &str, namespace: &str, message: &Message) -> Option<OutboundCommand> {
        let (channel, number) = match way {
            Sending::Usual => (None, None),
            Sending::On(channel) => (Some(channel), None),
            Sending::Numbered(number) => (None, Some(number)),
        };
        if let Some(entry) = self.entry(uid, namespace, message, number) {
            return Some(entry);
        }
        let Outgoing { channel: usual, body } = adapter::encode(&self.channels, uid, namespace, message)?;
        let channel = channel.unwrap_or(usual);
        let bytes = channel.len() + body.len();
        let verb = if self.adapter() == Adapter::Sharded { "SPUBLISH" } else { "PUBLISH" };
        let command = cmd(verb).arg(&channel).arg(body).take();
        let to = if self.adapter() == Adapter::Sharded { To::OwnerOf(channel) } else { To::Anybody };
        Some((command, to, bytes))
    }

    /// Until when Redis may say that it has something. While it is silent nobody is held up by that.
    fn deadline(&self) -> Instant {
        let within = if self.backlog.is_silent() { Duration::ZERO } else { PUBLISHED_WITHIN };
        Instant::now() + within
    }

    /// What Redis says to something, if it does in time.
    async fn taken(&self, sent: Sent, deadline: Instant) -> Result<Value, PublishError> {
        let result = match timeout_at(deadline, sent.answer).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(_)) => Err(PublishError::Down),
            Err(_) => Err(PublishError::TimedOut),
        };
        self.end_publishing(sent.span, &result);
        match result {
            Ok(answer) => {
                self.counters.published(sent.bytes, sent.at.elapsed());
                Ok(answer)
            }
            Err(error) => {
                self.count_loss(error);
                Err(error)
            }
        }
    }

    fn count_loss(&self, error: PublishError) {
        self.counters.lost(error.into(), 1);
    }

    fn adapter(&self) -> Adapter {
        self.settings.adapter
    }

    fn namespace(&self, name: &str) -> Option<usize> {
        self.namespaces.iter().position(|namespace| namespace == name)
    }

    /// A room of a namespace that this instance has.
    fn room(&self, namespace: &str, name: &str) -> Option<RoomName> {
        let namespace = NamespaceId(u16::try_from(self.namespace(namespace)?).ok()?);
        Some(RoomName { namespace, name: name.into() })
    }

    /// The rooms whose messages come on a channel.
    fn rooms_of<'a>(&'a self, channel: &'a [u8]) -> impl Iterator<Item = RoomName> + 'a {
        self.channels.places(channel).flat_map(|place| self.rooms_at(place))
    }

    /// Those of one namespace: channels do not tell a room that is a number from the one of its digits.
    fn rooms_at<'a>(&'a self, place: ChannelName<'a>) -> impl Iterator<Item = RoomName> + 'a {
        let name = if let ChannelKind::Room(name) = place.kind { Some(name) } else { None };
        let names = name.into_iter().flat_map(|name| iter::once(name.into()).chain(namesake_of(name)));
        names.filter_map(move |name: Box<str>| self.room(place.namespace, &name))
    }

    fn shards(&self) -> u16 {
        u16::try_from(self.postboxes.len()).unwrap_or(u16::MAX)
    }

    /// Whether all messages to a room come by a pattern.
    fn is_heard_by_pattern(&self, room: &str) -> bool {
        let all = self.adapter() == Adapter::Classic && self.settings.heard_rooms == HeardRooms::All;
        all && !room.starts_with(USER_PREFIX)
    }

    /// The channel to subscribe for a room; `None`: its messages come anyway.
    fn channel_of(&self, room: &RoomName) -> Option<String> {
        if self.is_heard_by_pattern(&room.name) {
            return None;
        }
        let namespace = self.namespaces.get(usize::from(room.namespace.0))?;
        self.channels.of_room(namespace, &room.name)
    }

    /// What operators see in `CLIENT LIST`.
    fn client_name(&self) -> String {
        format!("sockring-{}", self.uids.first().map_or("", |uid| uid))
    }

    fn request_id(&self) -> RequestId {
        new_id(&*self.outside, self.adapter())
    }

    /// A random number.
    fn chance(&self) -> u32 {
        let mut bytes = [0; 4];
        self.outside.fill(&mut bytes);
        u32::from_ne_bytes(bytes)
    }
}

/// How a message goes.
enum Sending {
    Usual,
    /// On this channel.
    On(String),
    /// Under this number, which tells when it is read here again.
    Numbered(Number),
}

/// A command, who gets it, and about how many bytes it has.
type OutboundCommand = (Cmd, To, usize);

/// A message on its way to Redis.
#[derive(Debug)]
struct Sent {
    answer: oneshot::Receiver<Result<Value, PublishError>>,
    bytes: usize,
    at: Instant,
    /// Of an event that is traced.
    span: Option<Span>,
}

/// A random id as Node's adapter makes them.
fn new_id(outside: &dyn OutsideWorld, adapter: Adapter) -> Box<str> {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let mut bytes = [0; OTHER_ID_BYTES];
    outside.fill(&mut bytes);
    match adapter {
        Adapter::Classic => {
            let character = |byte: &u8| ALPHABET.get(usize::from(byte % 64)).copied().map(char::from);
            bytes.iter().take(CLASSIC_ID_CHARS).filter_map(character).collect()
        }
        Adapter::Sharded | Adapter::Streams => bytes.iter().map(|byte| format!("{byte:02x}")).collect(),
    }
}
