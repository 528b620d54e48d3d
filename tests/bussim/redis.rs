//! `Redis`: as much of it as carries messages: connections that subscribe, publish, and add to a stream and read it, each with
//! a distance of its own.

use std::cell::RefCell;
use std::collections::{BTreeSet, HashMap};
use std::io;
use std::rc::Rc;
use std::time::Duration;

use tokio::io::AsyncReadExt;
use tokio::sync::{Notify, mpsc, oneshot};
use tokio::time::{Instant, sleep, sleep_until};

use super::pipe::{Delays, End, Pipe};
use super::random::Random;
use super::resp::{self, Value, fits};

/// Whose a connection is.
pub type SiteId = usize;

/// Somebody dials.
pub struct Dial {
    pub site: SiteId,
    pub answer: oneshot::Sender<io::Result<End>>,
}

/// One that was dialled.
pub struct Connection {
    pub site: SiteId,
    pub pipe: Pipe,
    channels: BTreeSet<Vec<u8>>,
    patterns: BTreeSet<Vec<u8>>,
    shard_channels: BTreeSet<Vec<u8>>,
    is_open: bool,
    /// It has asked for entries.
    is_reader: bool,
    /// It has been in use, and was asked whether Redis is there.
    was_pinged: bool,
}

impl Connection {
    pub fn is_alive(&self) -> bool {
        self.is_open && !self.pipe.is_cut()
    }

    pub fn is_reader(&self) -> bool {
        self.is_reader
    }

    pub fn is_subscriber(&self) -> bool {
        !(self.channels.is_empty() && self.patterns.is_empty() && self.shard_channels.is_empty())
    }
}

/// What was published, and to which connections it went, and where in what they read it ends.
#[derive(Clone, Debug)]
pub struct Publication {
    pub at: Instant,
    pub to: Vec<(SiteId, Pipe, u64)>,
}

/// What goes out.
pub enum Said<'a> {
    Published {
        channel: &'a [u8],
        body: &'a [u8],
    },
    /// Names and values, one behind the other.
    Added {
        fields: &'a [Vec<u8>],
    },
}

/// Is told what is published, just before.
pub type Witness = Box<dyn Fn(usize, &Said)>;

/// An entry of the stream. Its place is its number, from 1 on.
struct Entry {
    fields: Vec<Vec<u8>>,
    publication: usize,
}

struct State {
    random: Random,
    distances: Vec<Delays>,
    connections: Vec<Connection>,
    publications: Vec<Publication>,
    /// Of the one stream.
    entries: Vec<Entry>,
    added: Rc<Notify>,
    /// When each was first subscribed.
    subscribed: HashMap<(SiteId, Vec<u8>), Instant>,
    stopped_until: Option<Instant>,
    /// Told when somebody asks whether it is there.
    pinged: HashMap<SiteId, Rc<Notify>>,
    witness: Option<Witness>,
}

/// The one Redis of a world.
#[derive(Clone)]
pub struct Redis(Rc<RefCell<State>>);

impl Redis {
    /// Each connection gets one of these distances.
    pub fn new(random: Random, distances: Vec<Delays>) -> Redis {
        let (connections, publications, entries, added) = Default::default();
        let (subscribed, stopped_until, pinged, witness) = Default::default();
        let state = State {
            random,
            distances,
            connections,
            publications,
            entries,
            added,
            subscribed,
            stopped_until,
            pinged,
            witness,
        };
        Redis(Rc::new(RefCell::new(state)))
    }

    pub fn watch(&self, witness: Witness) {
        self.0.borrow_mut().witness = Some(witness);
    }

    /// Takes connections for ever.
    pub async fn listen(self, mut dials: mpsc::UnboundedReceiver<Dial>) {
        while let Some(Dial { site, answer }) = dials.recv().await {
            let (_, end) = self.connect(site);
            let delay = self.0.borrow_mut().random.below(3);
            tokio::task::spawn_local(async move {
                sleep(Duration::from_millis(delay)).await;
                // Who dialled may have given up.
                let _ = answer.send(Ok(end));
            });
        }
    }

    pub fn connect(&self, site: SiteId) -> (Pipe, End) {
        let mut state = self.0.borrow_mut();
        let State { random, distances, .. } = &mut *state;
        let distance = random.pick(distances);
        let (pipe, client, server) = Pipe::new(&mut state.random, distance);
        let number = state.connections.len();
        let (channels, patterns, shard_channels) = Default::default();
        state.connections.push(Connection {
            site,
            pipe: pipe.clone(),
            channels,
            patterns,
            shard_channels,
            is_open: true,
            is_reader: false,
            was_pinged: false,
        });
        tokio::task::spawn_local(self.clone().serve(number, server));
        (pipe, client)
    }

    async fn serve(self, number: usize, mut end: End) {
        let mut bytes = Vec::new();
        while end.read_buf(&mut bytes).await.is_ok_and(|count| count > 0) {
            while let Some(command) = resp::take(&mut bytes) {
                self.wait_until_running().await;
                let Value::List(parts) = command else { panic!("no command: {command:?}") };
                match parts[0].bytes() {
                    b"XREAD" => self.read(number, &parts).await,
                    _ => self.perform(number, &parts),
                }
            }
        }
        self.0.borrow_mut().connections[number].is_open = false;
    }

    async fn wait_until_running(&self) {
        loop {
            let until = self.0.borrow().stopped_until;
            match until.filter(|until| *until > Instant::now()) {
                Some(until) => sleep_until(until).await,
                None => return,
            }
        }
    }

    fn perform(&self, number: usize, parts: &[Value]) {
        let words: Vec<String> = parts.iter().take(2).map(|word| word.text().to_uppercase()).collect();
        let answer = match (words[0].as_str(), words.get(1).map(String::as_str)) {
            // Of itself only from 6.2 on.
            ("HELLO", Some("3")) => {
                let mut answer = b"%4\r\n".to_vec();
                for part in ["server", "redis", "version", "7.0.15", "mode", "standalone", "role", "master"] {
                    answer.extend(resp::bulk(part.as_bytes()));
                }
                answer
            }
            ("PING", _) => {
                let state = &mut *self.0.borrow_mut();
                state.connections[number].was_pinged = true;
                state.pinged.entry(state.connections[number].site).or_default().notify_waiters();
                b"+PONG\r\n".to_vec()
            }
            ("CLIENT", _) => b"+OK\r\n".to_vec(),
            ("PUBLISH" | "SPUBLISH", _) => {
                let count = self.publish(&words[0], parts[1].bytes(), parts[2].bytes());
                format!(":{count}\r\n").into_bytes()
            }
            ("PUBSUB", Some("NUMSUB" | "SHARDNUMSUB")) => {
                let count = self.subscribers(&words[1], parts[2].bytes());
                [b"*2\r\n", &*resp::bulk(parts[2].bytes()), format!(":{count}\r\n").as_bytes()].concat()
            }
            ("XADD", _) => resp::bulk(format!("{}-0", self.add(parts)).as_bytes()),
            ("XREVRANGE", _) => {
                let state = self.0.borrow();
                let last = state.entries.last().map(|entry| resp::entry(state.entries.len(), &entry.fields));
                resp::array(&last.into_iter().collect::<Vec<_>>())
            }
            (word, _) if word.ends_with("SUBSCRIBE") => self.subscribe(number, word, &parts[1..]),
            other => panic!("a command that this Redis does not know: {other:?}"),
        };
        self.0.borrow().connections[number].pipe.answer(&answer);
    }

    fn subscribe(&self, number: usize, word: &str, names: &[Value]) -> Vec<u8> {
        let state = &mut *self.0.borrow_mut();
        let connection = &mut state.connections[number];
        let set = match word {
            "PSUBSCRIBE" | "PUNSUBSCRIBE" => &mut connection.patterns,
            "SSUBSCRIBE" | "SUNSUBSCRIBE" => &mut connection.shard_channels,
            _ => &mut connection.channels,
        };
        let mut answer = Vec::new();
        for name in names {
            match word.contains("UNSUB") {
                true => {
                    set.remove(name.bytes());
                }
                false => {
                    let key = (connection.site, name.bytes().to_vec());
                    state.subscribed.entry(key).or_insert_with(Instant::now);
                    set.insert(name.bytes().to_vec());
                }
            }
            answer.extend(b">3\r\n");
            answer.extend(resp::bulk(word.to_lowercase().as_bytes()));
            answer.extend(resp::bulk(name.bytes()));
            answer.extend(format!(":{}\r\n", set.len()).as_bytes());
        }
        answer
    }

    fn subscribers(&self, word: &str, channel: &[u8]) -> usize {
        let state = self.0.borrow();
        let has = |connection: &&Connection| match word {
            "NUMSUB" => connection.channels.contains(channel),
            _ => connection.shard_channels.contains(channel),
        };
        state.connections.iter().filter(|connection| connection.is_alive()).filter(has).count()
    }

    fn tell(&self, said: &Said) {
        let number = self.0.borrow().publications.len();
        if let Some(witness) = &self.0.borrow().witness {
            witness(number, said);
        }
    }

    /// Adds an entry; says which one it is.
    fn add(&self, parts: &[Value]) -> usize {
        let id = parts.iter().position(|part| part.bytes() == b"*").expect("Redis gives ids");
        let fields: Vec<_> = parts[id + 1..].iter().map(|part| part.bytes().to_vec()).collect();
        self.tell(&Said::Added { fields: &fields });
        let state = &mut *self.0.borrow_mut();
        state.entries.push(Entry { fields, publication: state.publications.len() });
        state.publications.push(Publication { at: Instant::now(), to: Vec::new() });
        state.added.notify_waiters();
        state.entries.len()
    }

    /// `XREAD COUNT n BLOCK ms STREAMS stream id`: waits for the next entry, and lets other commands of its connection wait.
    async fn read(&self, number: usize, parts: &[Value]) {
        self.0.borrow_mut().connections[number].is_reader = true;
        let amount = |index: usize| parts[index].text().parse::<usize>().expect("a number");
        let (count, block) = (amount(2), Duration::from_millis(amount(4) as u64));
        let after = match parts[7].text().split_once('-') {
            Some((after, _)) => after.parse().expect("an id"),
            None => self.0.borrow().entries.len(),
        };
        let added = Rc::clone(&self.0.borrow().added);
        let until = Instant::now() + block;
        loop {
            let next = added.notified();
            if self.0.borrow().entries.len() > after || Instant::now() >= until {
                break;
            }
            tokio::select! {
                () = next => {}
                () = sleep_until(until) => {}
            }
            self.wait_until_running().await;
        }
        let state = &mut *self.0.borrow_mut();
        let State { connections, publications, entries, .. } = state;
        let connection = &connections[number];
        let news: Vec<_> = entries.iter().zip(1..).skip(after).take(count).collect();
        if news.is_empty() {
            return connection.pipe.answer(b"_\r\n");
        }
        let listed: Vec<_> = news.iter().map(|(entry, id)| resp::entry(*id, &entry.fields)).collect();
        let answer = [b"%1\r\n", &*resp::bulk(parts[6].bytes()), &*resp::array(&listed)].concat();
        connection.pipe.answer(&answer);
        for (entry, _) in news {
            let to = &mut publications[entry.publication].to;
            to.push((connection.site, connection.pipe.clone(), connection.pipe.written()));
        }
    }

    fn publish(&self, word: &str, channel: &[u8], body: &[u8]) -> usize {
        self.tell(&Said::Published { channel, body });
        let mut to = Vec::new();
        for connection in self.0.borrow().connections.iter().filter(|connection| connection.is_alive()) {
            let push = |to: &mut Vec<_>, parts: &[&[u8]]| {
                connection.pipe.answer(&resp::list('>', parts));
                to.push((connection.site, connection.pipe.clone(), connection.pipe.written()));
            };
            if word == "SPUBLISH" {
                if connection.shard_channels.contains(channel) {
                    push(&mut to, &[b"smessage", channel, body]);
                }
            } else {
                if connection.channels.contains(channel) {
                    push(&mut to, &[b"message", channel, body]);
                }
                for pattern in connection.patterns.iter().filter(|pattern| fits(pattern, channel)) {
                    push(&mut to, &[b"pmessage", pattern, channel, body]);
                }
            }
        }
        let count = to.len();
        self.0.borrow_mut().publications.push(Publication { at: Instant::now(), to });
        count
    }

    /// Whether a server had subscribed a channel at least once by then.
    pub fn was_subscribed(&self, site: SiteId, channel: &str, by: Instant) -> bool {
        let state = self.0.borrow();
        state.subscribed.get(&(site, channel.as_bytes().to_vec())).is_some_and(|at| *at <= by)
    }

    /// How many there were.
    pub fn publications(&self) -> usize {
        self.0.borrow().publications.len()
    }

    pub fn publication(&self, number: usize) -> Publication {
        self.0.borrow().publications[number].clone()
    }

    /// It takes no commands until then.
    pub fn stop_until(&self, until: Instant) {
        let for_so_long = until - Instant::now();
        self.alive(|_| true).iter().for_each(|pipe| pipe.hold(for_so_long));
        self.0.borrow_mut().stopped_until = Some(until);
    }

    /// Waits until a server has asked whether it is there, and has no answer yet.
    pub async fn pinged(&self, site: SiteId) {
        let pinged = Rc::clone(self.0.borrow_mut().pinged.entry(site).or_default());
        pinged.notified().await;
    }

    /// All connections that these sites ever used.
    pub fn used(&self, is_wanted: impl Fn(SiteId) -> bool) -> Vec<(SiteId, Pipe)> {
        let state = self.0.borrow();
        let connections =
            state.connections.iter().filter(|connection| connection.was_pinged && is_wanted(connection.site));
        connections.map(|connection| (connection.site, connection.pipe.clone())).collect()
    }

    /// Connections that live, of these sites.
    pub fn alive(&self, is_wanted: impl Fn(&Connection) -> bool) -> Vec<Pipe> {
        let state = self.0.borrow();
        let connections = state.connections.iter().filter(|connection| connection.is_alive() && is_wanted(connection));
        connections.map(|connection| connection.pipe.clone()).collect()
    }
}
