//! `Node`: a Socket.IO server of Node, as its Redis adapters make it behave: one connection to hear by, what comes over it done at
//! once and in its order. `Emitter`: a process that only sends.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::rc::Rc;
use std::time::Duration;

use sockring_protocol::adapter::{
    Adapter, Answer, Broadcast, ChannelKind, Channels, Envelope, Message, Selection, SocketDescription, StreamEntry,
    decode, decode_entry, encode, encode_entry,
};
use tokio::io::AsyncReadExt;
use tokio::sync::{Notify, oneshot};
use tokio::time::timeout;

use super::client::Client;
use super::instance::Clients;
use super::pipe::{End, Pipe};
use super::random::Random;
use super::redis::{Redis, SiteId};
use super::resp::{self, Value};

/// As its adapters have it.
const REQUESTS_TIMEOUT: Duration = Duration::from_secs(5);
pub const ACK_TIMEOUT: Duration = Duration::from_secs(10);
const NAMESPACE: &str = "/";
const STREAM: &[u8] = b"socket.io";
/// How long its question for entries stays open.
const BLOCK_MS: &[u8] = b"5000";

/// A connection by which commands go.
struct Publisher {
    pipe: Pipe,
    /// Who waits for the next answers.
    waiting: Rc<RefCell<VecDeque<Option<oneshot::Sender<Value>>>>>,
}

impl Publisher {
    fn open(redis: &Redis, site: SiteId) -> Publisher {
        let (pipe, mut end) = redis.connect(site);
        let waiting = Rc::<RefCell<VecDeque<Option<oneshot::Sender<Value>>>>>::default();
        let answers = Rc::clone(&waiting);
        tokio::task::spawn_local(async move {
            let mut bytes = Vec::new();
            while end.read_buf(&mut bytes).await.is_ok_and(|count| count > 0) {
                while let Some(value) = resp::take(&mut bytes) {
                    if let Some(answer) = answers.borrow_mut().pop_front().expect("it was asked for") {
                        let _ = answer.send(value);
                    }
                }
            }
        });
        Publisher { pipe, waiting }
    }

    fn publish(&self, channels: &Channels, uid: &str, message: &Message) {
        if channels.adapter() == Adapter::Streams
            && let Some(fields) = encode_entry(uid, NAMESPACE, message, None)
        {
            let mut words: Vec<&[u8]> = vec![b"XADD", STREAM, b"MAXLEN", b"~", b"10000", b"*"];
            fields.iter().for_each(|(name, value)| words.extend([name.as_bytes(), value]));
            self.waiting.borrow_mut().push_back(None);
            return self.pipe.ask(&resp::command(&words));
        }
        let outgoing = encode(channels, uid, NAMESPACE, message).expect("all adapters have it");
        let word: &[u8] = if channels.adapter() == Adapter::Sharded { b"SPUBLISH" } else { b"PUBLISH" };
        self.waiting.borrow_mut().push_back(None);
        self.pipe.ask(&resp::command(&[word, outgoing.channel.as_bytes(), &outgoing.body]));
    }

    async fn count(&self, channels: &Channels) -> usize {
        let word: &[u8] = if channels.adapter() == Adapter::Sharded { b"SHARDNUMSUB" } else { b"NUMSUB" };
        let (answer, answered) = oneshot::channel();
        self.waiting.borrow_mut().push_back(Some(answer));
        self.pipe.ask(&resp::command(&[b"PUBSUB", word, channels.counted(NAMESPACE).as_bytes()]));
        match answered.await {
            Ok(Value::List(parts)) => match parts[1] {
                Value::Integer(count) => usize::try_from(count).expect("a count"),
                _ => panic!("no count"),
            },
            other => panic!("no count: {other:?}"),
        }
    }
}

/// A process with `@socket.io/redis-emitter`.
pub struct Emitter {
    channels: Channels,
    publisher: Publisher,
}

impl Emitter {
    pub fn open(redis: &Redis, site: SiteId, channels: Channels) -> Emitter {
        Emitter { channels, publisher: Publisher::open(redis, site) }
    }

    pub fn send(&self, message: &Message) {
        self.publisher.publish(&self.channels, "emitter", message);
    }
}

/// What other servers have answered to a request.
#[derive(Default)]
struct Request {
    answers: Vec<Answer>,
    came: Rc<Notify>,
}

/// A server of Node.
pub struct Node {
    channels: Channels,
    uid: String,
    publisher: Publisher,
    /// The one that hears.
    subscriber: Pipe,
    clients: Clients,
    site: SiteId,
    /// The rooms of its clients that are connected, by their numbers.
    sockets: RefCell<BTreeMap<usize, BTreeSet<String>>>,
    requests: RefCell<HashMap<String, Request>>,
    asked: Cell<u64>,
}

impl Node {
    /// Starts it, within the local tasks of a runtime.
    pub fn start(redis: &Redis, site: SiteId, channels: Channels, clients: Clients, mut random: Random) -> Rc<Node> {
        let uid = match channels.adapter() {
            Adapter::Classic => format!("node{site:02}"),
            Adapter::Sharded | Adapter::Streams => format!("{:016x}", random.next()),
        };
        let (subscriber, end) = redis.connect(site);
        let publisher = Publisher::open(redis, site);
        let (sockets, requests, asked) = Default::default();
        let node = Node { channels, uid, publisher, subscriber, clients, site, sockets, requests, asked };
        let node = Rc::new(node);
        let own = node.channels.of_instance(NAMESPACE, &node.uid);
        match node.channels.adapter() {
            Adapter::Classic => {
                let pattern = format!("{}*", node.channels.of_namespace(NAMESPACE));
                node.subscriber.ask(&resp::command(&[b"PSUBSCRIBE", pattern.as_bytes()]));
                // The first one fits the pattern.
                let own = own.iter().skip(1).map(String::as_bytes);
                let words: Vec<&[u8]> = std::iter::once(b"SUBSCRIBE".as_slice()).chain(own).collect();
                node.subscriber.ask(&resp::command(&words));
            }
            Adapter::Sharded => own.iter().for_each(|channel| node.shard_channel(b"SSUBSCRIBE", channel)),
            Adapter::Streams => {
                own.iter().for_each(|channel| node.shard_channel(b"SUBSCRIBE", channel));
                let (pipe, end) = redis.connect(site);
                tokio::task::spawn_local(Rc::clone(&node).read(pipe, end));
            }
        }
        tokio::task::spawn_local(Rc::clone(&node).hear(end));
        node
    }

    fn shard_channel(&self, word: &[u8], channel: &str) {
        self.subscriber.ask(&resp::command(&[word, channel.as_bytes()]));
    }

    /// A client connects; its number.
    pub fn connect(&self, user: &str) -> usize {
        let mut clients = self.clients.borrow_mut();
        let number = clients.len();
        let mut client = Client::new(self.site, user.to_owned());
        client.sid = format!("nodesid{number:013}");
        client.take_event("[\"connected\"]");
        let rooms = [client.sid.clone(), client.room()];
        clients.push(client);
        drop(clients);
        self.sockets.borrow_mut().insert(number, BTreeSet::new());
        rooms.into_iter().for_each(|room| self.join(number, room));
        number
    }

    fn join(&self, socket: usize, room: String) {
        let mut sockets = self.sockets.borrow_mut();
        let is_first = !sockets.values().any(|rooms| rooms.contains(&room));
        sockets.get_mut(&socket).expect("it is connected").insert(room.clone());
        self.subscribe_room(b"SSUBSCRIBE", &room, is_first);
    }

    fn leave(&self, socket: usize, room: &str) {
        let mut sockets = self.sockets.borrow_mut();
        let was_there = sockets.get_mut(&socket).is_some_and(|rooms| rooms.remove(room));
        let is_last = was_there && !sockets.values().any(|rooms| rooms.contains(room));
        self.subscribe_room(b"SUNSUBSCRIBE", room, is_last);
    }

    fn subscribe_room(&self, word: &[u8], room: &str, is_due: bool) {
        if self.channels.adapter() == Adapter::Sharded
            && is_due
            && let Some(channel) = self.channels.of_room(NAMESPACE, room)
        {
            self.shard_channel(word, &channel);
        }
    }

    async fn hear(self: Rc<Self>, mut end: End) {
        let mut bytes = Vec::new();
        while end.read_buf(&mut bytes).await.is_ok_and(|count| count > 0) {
            while let Some(value) = resp::take(&mut bytes) {
                let Value::List(parts) = value else { panic!("no push: {value:?}") };
                match parts[0].bytes() {
                    b"message" | b"smessage" => self.take(parts[1].bytes(), parts[2].bytes()),
                    b"pmessage" => self.take(parts[2].bytes(), parts[3].bytes()),
                    _ => {}
                }
            }
        }
    }

    /// Reads the stream from its end on.
    async fn read(self: Rc<Self>, pipe: Pipe, mut end: End) {
        let ask = |after: &[u8]| {
            let words = [b"XREAD", b"COUNT".as_slice(), b"100", b"BLOCK", BLOCK_MS, b"STREAMS", STREAM, after];
            pipe.ask(&resp::command(&words));
        };
        let (mut bytes, mut after) = (Vec::new(), b"$".to_vec());
        ask(&after);
        while end.read_buf(&mut bytes).await.is_ok_and(|count| count > 0) {
            while let Some(value) = resp::take(&mut bytes) {
                let Value::List(streams) = value else { panic!("no entries: {value:?}") };
                if let [_, Value::List(entries)] = &*streams {
                    for entry in entries {
                        let Value::List(parts) = entry else { panic!("no entry: {entry:?}") };
                        let [id, Value::List(fields)] = &**parts else { panic!("no entry: {parts:?}") };
                        after = id.bytes().to_vec();
                        let pairs = fields.chunks(2).map(|pair| (pair[0].bytes(), pair[1].bytes()));
                        let StreamEntry { envelope, .. } = decode_entry(pairs).expect("all servers write alike");
                        if envelope.uid.as_deref() != Some(&*self.uid) {
                            self.act(envelope);
                        }
                    }
                }
                ask(&after);
            }
        }
    }

    fn take(&self, channel: &[u8], body: &[u8]) {
        let place = self.channels.places(channel).next().expect("it subscribes its own channels only");
        if let ChannelKind::Room(room) = place.kind
            && self.channels.adapter() == Adapter::Classic
            && !self.sockets.borrow().values().any(|rooms| rooms.contains(room))
        {
            return;
        }
        let envelope = decode(&self.channels, channel, body).expect("all servers speak alike");
        let is_own = envelope.uid.as_deref() == Some(&*self.uid);
        let is_order =
            matches!(envelope.message, Message::Join { .. } | Message::Leave { .. } | Message::Disconnect { .. });
        // The classic adapter does its own orders when they come back.
        if is_own && !(is_order && self.channels.adapter() == Adapter::Classic) {
            return;
        }
        self.act(envelope);
    }

    fn act(&self, Envelope { uid, message, .. }: Envelope) {
        match message {
            Message::Broadcast(broadcast) => drop(self.deliver(&broadcast)),
            Message::BroadcastForAck { request, broadcast, .. } => {
                let receivers = self.deliver(&broadcast);
                self.answer(&uid, &request, Answer::Receivers(receivers.len() as u64));
                for socket in receivers {
                    let sid = self.clients.borrow()[socket].sid.clone();
                    self.answer(&uid, &request, acknowledgement(&sid));
                }
            }
            Message::Join { selection, rooms, .. } => {
                for socket in self.selected(&selection.rooms, &selection.except) {
                    rooms.iter().for_each(|room| self.join(socket, room.to_string()));
                }
            }
            Message::Leave { selection, rooms, .. } => {
                for socket in self.selected(&selection.rooms, &selection.except) {
                    rooms.iter().for_each(|room| self.leave(socket, room));
                }
            }
            Message::Disconnect { selection, .. } => {
                for socket in self.selected(&selection.rooms, &selection.except) {
                    let rooms = self.sockets.borrow()[&socket].clone();
                    rooms.iter().for_each(|room| self.leave(socket, room));
                    self.sockets.borrow_mut().remove(&socket);
                    self.clients.borrow_mut()[socket].end();
                }
            }
            Message::Fetch { request, selection } => {
                let sockets = self.describe(&selection);
                self.answer(&uid, &request, Answer::Sockets(sockets));
            }
            Message::Answer { request, answer, .. } => {
                if let Some(request) = self.requests.borrow_mut().get_mut(&*request) {
                    request.answers.push(answer);
                    request.came.notify_one();
                }
            }
            other => panic!("nobody sends this here: {other:?}"),
        }
    }

    fn answer(&self, asker: &Option<Box<str>>, request: &str, answer: Answer) {
        let asker = asker.clone().filter(|_| self.channels.adapter() != Adapter::Classic);
        self.publisher.publish(&self.channels, &self.uid, &Message::Answer { asker, request: request.into(), answer });
    }

    fn selected(&self, rooms: &[Box<str>], except: &[Box<str>]) -> Vec<usize> {
        let is_in_any = |own: &BTreeSet<String>, rooms: &[Box<str>]| rooms.iter().any(|room| own.contains(&**room));
        let sockets = self.sockets.borrow();
        let selected =
            sockets.iter().filter(|(_, own)| (rooms.is_empty() || is_in_any(own, rooms)) && !is_in_any(own, except));
        selected.map(|(socket, _)| *socket).collect()
    }

    fn deliver(&self, broadcast: &Broadcast) -> Vec<usize> {
        let receivers = self.selected(&broadcast.rooms, &broadcast.except);
        let args = std::str::from_utf8(&broadcast.args).expect("JSON");
        receivers.iter().for_each(|socket| self.clients.borrow_mut()[*socket].take_event(args));
        receivers
    }

    fn describe(&self, selection: &Selection) -> Vec<SocketDescription> {
        let selected = self.selected(&selection.rooms, &selection.except).into_iter();
        let (clients, sockets) = (self.clients.borrow(), self.sockets.borrow());
        let describe = |socket: usize| SocketDescription {
            id: (&*clients[socket].sid).into(),
            rooms: sockets[&socket].iter().map(|room| (&**room).into()).collect(),
            user: Some((&*clients[socket].user).into()),
        };
        selected.map(describe).collect()
    }

    /// Emits, or orders something. The classic adapter does an order when it comes back.
    pub fn send(&self, message: Message) {
        self.publisher.publish(&self.channels, &self.uid, &message);
        if self.channels.adapter() != Adapter::Classic || matches!(message, Message::Broadcast(_)) {
            self.act(Envelope { uid: None, namespace: NAMESPACE.into(), message });
        }
    }

    fn begin(&self) -> (String, Rc<Notify>) {
        let number = self.asked.get();
        self.asked.set(number + 1);
        let id = match self.channels.adapter() {
            Adapter::Classic => format!("{number:06}"),
            Adapter::Sharded | Adapter::Streams => format!("{number:016x}"),
        };
        let id = format!("{}{}", self.site, &id[1..]);
        let request = Request::default();
        let came = Rc::clone(&request.came);
        assert!(self.requests.borrow_mut().insert(id.clone(), request).is_none(), "two of one name");
        (id, came)
    }

    /// Waits until the answers are complete, and says what has come; an error: not all in time.
    async fn gather(
        &self,
        id: &str,
        came: &Notify,
        within: Duration,
        is_complete: impl Fn(&[Answer]) -> bool,
    ) -> Result<Vec<Answer>, Vec<Answer>> {
        let complete = async {
            while !is_complete(&self.requests.borrow()[id].answers) {
                came.notified().await;
            }
        };
        let result = timeout(within, complete).await;
        let answers = self.requests.borrow_mut().remove(id).expect("it was begun").answers;
        result.map_or(Err(answers.clone()), |()| Ok(answers))
    }

    /// `fetchSockets`; an error: its timeout.
    pub async fn fetch(&self, selection: Selection) -> Result<Vec<SocketDescription>, String> {
        let servers = self.publisher.count(&self.channels).await;
        let mut found = self.describe(&selection);
        let (id, came) = self.begin();
        let message = Message::Fetch { request: (&*id).into(), selection };
        self.publisher.publish(&self.channels, &self.uid, &message);
        let complete = |answers: &[Answer]| answers.len() + 1 >= servers;
        match self.gather(&id, &came, REQUESTS_TIMEOUT, complete).await {
            Err(answers) => Err(format!("fetchSockets: {} of {servers} servers", answers.len() + 1)),
            Ok(answers) => {
                for answer in answers {
                    match answer {
                        Answer::Sockets(sockets) => found.extend(sockets),
                        Answer::Ids(ids) if ids.is_empty() => {}
                        other => panic!("no answer to fetchSockets: {other:?}"),
                    }
                }
                Ok(found)
            }
        }
    }

    /// `emitWithAck`: the sids that have answered; an error: not all of them in time.
    pub async fn emit_with_ack(&self, broadcast: Broadcast) -> Result<Vec<String>, String> {
        let (id, came) = self.begin();
        let timeout_ms = u64::try_from(ACK_TIMEOUT.as_millis()).expect("not so long");
        let message = Message::BroadcastForAck { request: (&*id).into(), broadcast: broadcast.clone(), timeout_ms };
        self.publisher.publish(&self.channels, &self.uid, &message);
        let own = self.deliver(&broadcast);
        let mut acknowledged: Vec<String> =
            own.into_iter().map(|socket| self.clients.borrow()[socket].sid.clone()).collect();
        let servers = self.publisher.count(&self.channels).await;
        let complete = |answers: &[Answer]| {
            let counts = answers.iter().filter_map(|answer| match answer {
                Answer::Receivers(count) => Some(*count),
                _ => None,
            });
            let (counted, receivers) = counts.fold((0, 0), |(counted, sum), count| (counted + 1, sum + count));
            counted + 1 >= servers && answers.len() as u64 >= receivers + counted as u64
        };
        let result = self.gather(&id, &came, ACK_TIMEOUT, complete).await;
        let is_complete = result.is_ok();
        let answers = result.unwrap_or_else(|answers| answers);
        for answer in &answers {
            if let Answer::Acknowledgement { value: Some(value), .. } = answer {
                acknowledged.push(String::from_utf8_lossy(value).trim_matches('"').to_owned());
            }
        }
        if is_complete { Ok(acknowledged) } else { Err(format!("emitWithAck: {answers:?} of {servers} servers")) }
    }
}

fn acknowledgement(sid: &str) -> Answer {
    Answer::Acknowledgement { value: Some(format!("\"{sid}\"").into_bytes().into()), attachments: Vec::new() }
}
