//! `World`: one shard, its network and its clients on virtual time; performs effects as a worker does, and checks after
//! every turn what must always hold.

mod kernel;

use std::cell::RefCell;
use std::collections::{HashMap, VecDeque};
use std::ops::RangeInclusive;
use std::rc::Rc;
use std::sync::Arc;

use sockring::broadcast::Delivery;
use sockring::shard::{ConnectionKey, Effect, EngineSettings, Mail, Now, Reply, Shard, Ticket};
use sockring_protocol::Millis;

use super::desk::Desk;
use super::network::{Event, Network, TcpId};
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
