//! `World`: one shard, its network and its clients on virtual time; performs effects as a worker does, and checks after
//! every turn what must always hold.

use std::cell::RefCell;
use std::collections::{HashMap, VecDeque};
use std::ops::RangeInclusive;
use std::rc::Rc;
use std::sync::Arc;

use sockring::broadcast::Delivery;
use sockring::shard::{Broken, Bytes, ConnectionKey, Effect, EngineSettings, Mail, Now, Reply, Shard, Ticket};
use sockring_protocol::Millis;

use super::desk::Desk;
use super::network::{End, Event, Network, TcpId};
use super::random::Random;
use super::record::Record;

/// Virtual time does not begin at zero: a machine that has been up for a while.
const START_MS: u64 = 1_000_000;
/// A worker is never later than this in the simulation.
const LATE_MS_MAX: u64 = 2;
/// What a connection may have to send besides its client's messages: control frames, answers.
const OWN_BYTES_MAX: usize = (64 << 10) + 1_024;

/// Someone who acts on the network: a client, a backend.
pub trait Actor {
    /// Something came on one of its connections, or it wanted to be woken.
    fn wake(&mut self, context: &mut Context<'_>);

    /// What must hold for it after every turn.
    fn check(&self, now: u64, record: &Record) {
        let _ = (now, record);
    }
}

/// What an actor can reach.
pub struct Context<'a> {
    pub id: usize,
    pub now: u64,
    pub network: &'a mut Network,
    pub record: &'a mut Record,
    pub random: &'a mut Random,
    pub mails: &'a mut Vec<Mail>,
    pub settings: &'a EngineSettings,
}

/// A shard and everything around it.
pub struct World {
    pub now: u64,
    pub settings: Arc<EngineSettings>,
    pub network: Network,
    pub record: Rc<RefCell<Record>>,
    shard: Shard<Desk>,
    actors: Vec<(Box<dyn Actor>, Random)>,
    keys: HashMap<ConnectionKey, TcpId>,
    mails: Vec<Mail>,
    /// What the next replies have to be.
    replies: VecDeque<(Ticket, RangeInclusive<u64>)>,
    tickets: u64,
    effects: Vec<Effect>,
    random: Random,
    traces: bool,
}

impl World {
    pub fn new(seed: u64, settings: EngineSettings) -> World {
        let mut random = Random::new(seed);
        // Of a ping timeout of 200 ms, several round trips of a long answer must not use up most.
        let latency_max = if settings.times.ping_timeout_ms < 400 { 5 } else { random.pick(&[1, 5, 20]) };
        let settings = Arc::new(settings);
        let record = Rc::new(RefCell::new(Record::new(settings.rooms_per_socket_max)));
        let now = Now { at: Millis(START_MS), unix_ms: START_MS };
        let desk = Desk::new(Rc::clone(&record));
        let shard = Shard::new(Arc::clone(&settings), 0, desk, Box::new(random.fork()), now);
        let mut network = Network::new(random.fork(), latency_max);
        network.now = START_MS;
        World {
            now: START_MS,
            settings,
            network,
            record,
            shard,
            actors: Vec::new(),
            keys: HashMap::new(),
            mails: Vec::new(),
            replies: VecDeque::new(),
            tickets: 0,
            effects: Vec::new(),
            random,
            traces: std::env::var_os("SIM_TRACE").is_some(),
        }
    }

    /// Adds an actor that begins at `at`, counted from the world's beginning.
    pub fn add(&mut self, at: u64, actor: impl Actor + 'static) {
        let random = self.random.fork();
        self.network.at(START_MS + at, Event::Wake(self.actors.len()));
        self.actors.push((Box::new(actor), random));
    }

    /// Runs until nothing is left to happen, and checks that nothing is left at all.
    pub fn run(&mut self, until_ms: u64) {
        while self.now < START_MS + until_ms {
            if !self.step() {
                break;
            }
        }
        let stats = self.shard.stats();
        assert_eq!(stats, Default::default(), "something is left: connections {:?}", self.keys);
        let deadline = self.shard.deadline();
        assert!(deadline.is_none_or(|at| at.0 > self.now), "an overdue deadline is left: {deadline:?}");
        assert!(self.keys.is_empty(), "the shard forgot connections");
    }

    /// One turn of the worker, at the next moment at which something happens. `false`: nothing will.
    pub fn step(&mut self) -> bool {
        let deadline = self.shard.deadline().map(|at| at.0);
        let Some(next) = [self.network.next_at(), deadline].into_iter().flatten().min() else { return false };
        // A busy worker finds several things done when it comes round.
        let late = if self.random.one_in(3) { self.random.within(0..=LATE_MS_MAX) } else { 0 };
        self.now = next.max(self.now) + late;
        self.network.now = self.now;
        self.record.borrow_mut().now = self.now;
        let mut happened = Vec::new();
        while let Some(event) = self.network.pop(self.now) {
            self.trace(|| format!("{event:?}"));
            match event {
                Event::Wake(actor) => self.wake(actor),
                Event::Deliver(id) => {
                    self.network.deliver(id);
                    self.wake(self.network.tcp(id).owner);
                }
                event => happened.push(event),
            }
        }
        if self.random.one_in(2) {
            self.shuffle(&mut happened);
        }
        self.turn(happened);
        true
    }

    /// Completions come in any order, but in order for one connection.
    fn shuffle(&mut self, events: &mut [Event]) {
        let mut order: Vec<_> = events.to_vec();
        self.random.shuffle(&mut order);
        let mut queues: HashMap<TcpId, Vec<Event>> = HashMap::new();
        for event in events.iter().rev() {
            queues.entry(subject(*event)).or_default().push(*event);
        }
        for (place, event) in events.iter_mut().zip(order) {
            *place = queues.get_mut(&subject(event)).and_then(Vec::pop).expect("as many as before");
        }
    }

    fn wake(&mut self, actor: usize) {
        let (who, random) = &mut self.actors[actor];
        who.wake(&mut Context {
            id: actor,
            now: self.now,
            network: &mut self.network,
            record: &mut self.record.borrow_mut(),
            random,
            mails: &mut self.mails,
            settings: &self.settings,
        });
    }

    fn turn(&mut self, happened: Vec<Event>) {
        self.shard.on_time(Now { at: Millis(self.now), unix_ms: self.now });
        let mut returning = Vec::new();
        for event in happened {
            match event {
                Event::Accept(id) => self.accept(id, Vec::new()),
                Event::Arrive(id) => {
                    self.network.arrive(id);
                    self.receive(id);
                }
                Event::Readable(id) => self.receive(id),
                Event::Sent(id) => self.sent(id),
                Event::Closed(id) => self.closed(id),
                Event::Return(id) => returning.push(id),
                Event::Deliver(_) | Event::Wake(_) => {}
            }
        }
        for id in returning {
            self.take_back(id);
        }
        for mail in std::mem::take(&mut self.mails) {
            self.mail(mail);
        }
        self.shard.on_tick();
        let mut effects = std::mem::take(&mut self.effects);
        self.shard.flush(&mut effects);
        for effect in effects.drain(..) {
            self.perform(effect);
        }
        self.effects = effects;
        assert!(self.replies.is_empty(), "a mail without an answer");
        self.check();
    }

    fn accept(&mut self, id: TcpId, mut bytes: Vec<u8>) {
        let key = if bytes.is_empty() { self.shard.on_accept() } else { self.shard.on_arrival(&mut bytes) };
        match key {
            Some(key) => {
                let server = self.network.server(id);
                server.key = Some(key);
                assert!(self.keys.insert(key, id).is_none(), "a key was given twice");
            }
            None => self.network.close(id),
        }
    }

    /// A receive completes, if one is under way and there is something.
    fn receive(&mut self, id: TcpId) {
        let chunk = self.random.pick(&[7, 300, 4_096, 65_536]);
        let server = self.network.server(id);
        let Some(key) = server.key else { return };
        if server.is_closing || server.departing.is_some() || !(server.is_reading || server.is_settled) {
            return;
        }
        if !server.arrived.is_empty() {
            let length = server.arrived.len().min(chunk);
            let mut bytes: Vec<u8> = server.arrived.drain(..length).collect();
            server.is_reading = false;
            if server.is_settled {
                self.network.at(self.now, Event::Readable(id));
            }
            self.record.borrow_mut().on_heard(self.network.tcp(id).owner);
            self.shard.on_bytes(key, &mut bytes);
        } else if server.end.is_some() && !server.is_hung_up {
            server.is_hung_up = true;
            server.is_reading = false;
            self.shard.on_hangup(key);
        }
    }

    fn sent(&mut self, id: TcpId) {
        let server = self.network.server(id);
        let Some(key) = server.key else { return };
        let Some(sending) = &server.sending else { return };
        let result = match (sending.is_empty(), server.end) {
            (true, None | Some(End::Fin)) => Ok(()),
            (_, Some(_)) => Err(Broken),
            (false, None) => return,
        };
        server.sending = None;
        if server.departing.is_some() {
            return self.network.at(self.now, Event::Closed(id));
        }
        if server.is_closing {
            return;
        }
        self.shard.on_sent(key, result);
        self.settle_if_due(id);
    }

    fn closed(&mut self, id: TcpId) {
        let departing = self.network.server(id).departing.is_some();
        let Some(key) = self.network.server(id).key.take() else { return };
        self.keys.remove(&key);
        self.shard.on_closed(key);
        if departing {
            let delay = self.random.below(5);
            self.network.at(self.now + delay, Event::Return(id));
        }
    }

    /// The API has answered one request with 404 and keeps the connection no longer.
    fn take_back(&mut self, id: TcpId) {
        let server = self.network.server(id);
        if server.end == Some(End::Reset) {
            return self.network.close(id);
        }
        // What a pending receive still returned goes along with the bytes that the shard had not used.
        let mut bytes = server.departing.take().unwrap_or_default();
        bytes.append(&mut server.arrived);
        let head = bytes.windows(4).position(|window| window == b"\r\n\r\n").map(|at| at + 4);
        if head.is_none() && server.end.is_some() {
            return self.network.close(id);
        }
        let Some(head) = head else {
            server.departing = Some(bytes);
            return self.network.at(self.now + 1, Event::Return(id));
        };
        bytes.drain(..head);
        *server = super::network::ServerSide { end: server.end, ..Default::default() };
        self.network.send_elsewhere(id, b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n");
        self.accept(id, bytes);
    }

    fn settle_if_due(&mut self, id: TcpId) {
        let server = self.network.server(id);
        if server.settles && server.sending.is_none() && !server.is_closing {
            server.settles = false;
            server.is_settled = true;
            self.network.at(self.now, Event::Readable(id));
        }
    }

    fn open(&mut self, key: ConnectionKey, what: &str) -> TcpId {
        let Some(id) = self.keys.get(&key).copied() else { panic!("{what} for a connection that is gone") };
        let server = self.network.server(id);
        assert!(!server.is_closing && server.departing.is_none(), "{what} for a connection after its end");
        id
    }

    fn perform(&mut self, effect: Effect) {
        self.trace(|| trace_of(&effect));
        match effect {
            Effect::Read(key) => {
                // The shard may ask for bytes and then, in the same turn, end the connection; never the other way round.
                let id = self.open(key, "Read");
                self.network.server(id).is_reading = true;
                let delay = self.random.below(2);
                self.network.at(self.now + delay, Event::Readable(id));
            }
            Effect::Send(key, bytes) => {
                let id = self.open(key, "Send");
                self.check_send(&bytes);
                let server = self.network.server(id);
                assert!(server.sending.is_none(), "a second send while one is in flight");
                assert!(!server.is_shut, "a send after the shutdown");
                server.sending = Some(bytes.as_slice().to_vec());
                if server.end == Some(End::Reset) {
                    self.network.at(self.now, Event::Sent(id));
                } else {
                    self.network.pump(id);
                }
            }
            Effect::Settle(key) => {
                let id = self.open(key, "Settle");
                let server = self.network.server(id);
                assert!(!server.settles && !server.is_settled, "settled twice");
                server.settles = true;
                self.settle_if_due(id);
            }
            Effect::ShutDown(key) => {
                let id = self.open(key, "ShutDown");
                let server = self.network.server(id);
                assert!(server.sending.is_none() && !server.is_shut, "shut down twice, or before all is sent");
                self.network.shut(id);
            }
            Effect::Close(key) => {
                // What was given away may be closed while its last bytes have still to go out.
                let Some(id) = self.keys.get(&key).copied() else { panic!("Close for a connection that is gone") };
                let server = self.network.server(id);
                assert!(!server.is_closing, "closed twice");
                server.departing = None;
                self.network.close(id);
                let delay = self.random.within(0..=3);
                self.network.at(self.now + delay, Event::Closed(id));
            }
            Effect::HandOver(key, _, bytes) => {
                let id = self.open(key, "HandOver");
                let server = self.network.server(id);
                server.departing = Some(bytes);
                if server.sending.is_none() {
                    self.network.at(self.now, Event::Closed(id));
                }
            }
            Effect::Reply(ticket, reply) => self.on_reply(ticket, &reply),
        }
    }

    fn check_send(&self, bytes: &Bytes) {
        let length = bytes.as_slice().len();
        let largest = self.record.borrow().largest_message;
        let bound = self.settings.queue_bytes_max * 2 + largest + OWN_BYTES_MAX;
        assert!(length > 0, "a send of nothing");
        assert!(length <= bound, "{length} bytes waited for one connection; the limits allow {bound}");
    }

    /// A mail, and how many its answer has to name.
    fn mail(&mut self, mail: Mail) {
        self.trace(|| format!("{mail:?}"));
        self.tickets += 1;
        let ticket = Ticket(self.tickets);
        let emit = match &mail {
            Mail::Emit(broadcast) => Some((broadcast.clone(), self.record.borrow().targets(broadcast))),
            _ => None,
        };
        let count = match &mail {
            Mail::Emit(_) => 0..=0,
            Mail::Stats => self.shard.stats().clients..=self.shard.stats().clients,
            other => self.record.borrow_mut().on_mail(other),
        };
        self.shard.on_mail(ticket, mail);
        let count = match emit {
            Some((broadcast, targets)) => {
                let reached = self.record.borrow_mut().on_broadcast(&broadcast, targets);
                if broadcast.delivery == Delivery::Volatile { 0..=reached } else { reached..=reached }
            }
            None => count,
        };
        self.replies.push_back((ticket, count));
    }

    fn on_reply(&mut self, ticket: Ticket, reply: &Reply) {
        let Some((asked, expected)) = self.replies.pop_front() else { panic!("an answer that nobody asked for") };
        assert_eq!(ticket, asked);
        let count = match reply {
            Reply::Delivered(count) | Reply::Changed(count) | Reply::Sockets(count) => *count,
            Reply::Stats(stats) => stats.clients,
            _ => return,
        };
        assert!(expected.contains(&count), "{reply:?} where {expected:?} was right");
    }

    /// What must hold after every turn.
    fn check(&mut self) {
        let record = self.record.borrow();
        let (stats, counts) = (self.shard.stats(), record.counts());
        assert_eq!(stats.connections, self.keys.len() as u64, "connections");
        assert_eq!(
            (stats.connected, stats.sockets, stats.users, stats.rooms),
            (counts.connected, counts.sockets, counts.users, counts.rooms),
            "connected clients, sockets, users, rooms: the shard's, and the record's"
        );
        assert!(stats.unclaimed + stats.connected + stats.leaving <= stats.clients, "phases of clients: {stats:?}");
        assert!(stats.closing <= stats.connections && stats.probing <= stats.clients, "half open: {stats:?}");
        assert_eq!(stats.websocket + stats.polling, stats.connected, "transports of the connected clients");
        let (least, most) = record.websockets();
        assert!((least..=most).contains(&stats.websocket), "{} WebSockets of {least} to {most}", stats.websocket);
        let queue_max = (self.settings.queue_bytes_max + record.largest_message) as u64;
        assert!(stats.queued_bytes <= stats.clients * queue_max, "{} bytes are queued", stats.queued_bytes);
        for (actor, _) in &self.actors {
            actor.check(self.now, &record);
        }
        if let Some(deadline) = self.shard.deadline() {
            assert!(deadline.0 > self.now, "a turn at {} left a deadline at {}", self.now, deadline.0);
        }
    }

    fn trace(&self, what: impl FnOnce() -> String) {
        if self.traces {
            eprintln!("{:>7} {}", self.now - START_MS, what());
        }
    }
}

fn subject(event: Event) -> TcpId {
    match event {
        Event::Accept(id)
        | Event::Arrive(id)
        | Event::Readable(id)
        | Event::Sent(id)
        | Event::Closed(id)
        | Event::Return(id)
        | Event::Deliver(id)
        | Event::Wake(id) => id,
    }
}

fn trace_of(effect: &Effect) -> String {
    match effect {
        Effect::Send(key, bytes) => {
            let text = String::from_utf8_lossy(bytes.as_slice()).escape_debug().to_string();
            let tail: String = text.chars().rev().take(160).collect();
            format!("  Send({}) ...{}", key.0.index, tail.chars().rev().collect::<String>())
        }
        effect => format!("  {effect:?}"),
    }
}
