//! `World`: one to four shards, their network, their mailboxes and their clients on virtual time; performs effects as
//! workers do, and checks after every step what must always hold.

mod bus;
mod check;
mod kernel;
mod office;
mod pause;
mod worker;

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;

use sockring::capacity::{Capacity, CapacityLimits};
use sockring::shard::{CloseReason, Counters, EngineSettings, Limit, Now, Place, Shard, ShardParts};
use sockring_protocol::Millis;
use sockring_protocol::adapter::Broadcast;

use super::desk::Desk;
use super::network::{Event, Network, TcpId};
use super::random::Random;
use super::record::{Counts, Record, Sender};

use bus::Bus;
use office::Office;
use pause::Pause;
use worker::{Letter, Worker};

pub use office::Call;
pub use pause::Paused;

/// Virtual time does not begin at zero: a machine that has been up for a while.
const START_MS: u64 = 1_000_000;
/// A worker is never later than this in the simulation.
const LATE_MS_MAX: u64 = 2;
/// Connections that the process may have.
const CONNECTIONS_MAX: usize = 1_024;

/// Someone who acts on the network: a client, a backend.
pub trait Actor {
    /// Something came on one of its connections, or it wanted to be woken.
    fn wake(&mut self, context: &mut Context<'_>);

    /// What must hold for it after every step.
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
    /// Calls of the API, and who makes them; the actor is woken when one was answered.
    pub calls: &'a mut Vec<(Sender, Call)>,
    /// Who waits for an answer of the API.
    pub office: &'a Office,
    pub settings: &'a EngineSettings,
}

/// What a world has seen: a simulation that does not get there tests nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct Feats {
    /// Packets that honest clients received.
    pub received: u64,
    /// Sessions.
    pub opened: u64,
    /// Sessions that moved to another shard.
    pub moved: u64,
    /// Sessions that ended because their shard drained.
    pub drained: u64,
    /// Mails of shards that were refused.
    pub refused: u64,
    /// Connections that went to another shard.
    pub handed_over: u64,
    /// Subscriptions that were confirmed, came late, and were not waited for.
    pub confirmed: u64,
    pub late: u64,
    pub unawaited: u64,
    /// Emits of other instances that came, and acknowledgements for them.
    pub brought: u64,
    pub acknowledged: u64,
    /// Turns that were late, and peers that were past a deadline because of it and had done what was due.
    pub late_turns: u64,
    pub pardoned: u64,
}

impl Feats {
    pub fn add(&mut self, other: &Feats) {
        self.received += other.received;
        self.opened += other.opened;
        self.moved += other.moved;
        self.drained += other.drained;
        self.refused += other.refused;
        self.handed_over += other.handed_over;
        self.confirmed += other.confirmed;
        self.late += other.late;
        self.unawaited += other.unawaited;
        self.brought += other.brought;
        self.acknowledged += other.acknowledged;
        self.late_turns += other.late_turns;
        self.pardoned += other.pardoned;
    }
}

/// Some shards and everything around them.
pub struct World {
    pub now: u64,
    pub settings: Arc<EngineSettings>,
    pub network: Network,
    pub record: Rc<RefCell<Record>>,
    capacity: Arc<Capacity>,
    workers: Vec<Worker>,
    office: Office,
    /// Where there are other instances.
    bus: Option<Bus>,
    calls: Vec<(Sender, Call)>,
    /// As the record counted after so many changes.
    counts: (u64, Counts),
    actors: Vec<(Box<dyn Actor>, Random)>,
    /// When to tell which shard to end its clients, and over how long.
    drains: Vec<(u64, usize, u64)>,
    pauses: Vec<Pause>,
    handed_over: u64,
    /// One in this many mails that may be refused is; 0: none.
    pub refuses_one_in: u64,
    random: Random,
    traces: bool,
}

impl World {
    pub fn new(seed: u64, settings: EngineSettings, shards: u16) -> World {
        let mut random = Random::new(seed);
        // Of a ping timeout of 200 ms, several round trips of a long answer must not use up most.
        let latency_max = if settings.times.ping_timeout_ms < 400 { 5 } else { random.pick(&[1, 5, 20]) };
        let settings = Arc::new(settings);
        let record = Rc::new(RefCell::new(Record::new(settings.rooms_per_socket_max, usize::from(shards))));
        let limits = CapacityLimits {
            connections_max: CONNECTIONS_MAX,
            clients_max: CONNECTIONS_MAX,
            ..CapacityLimits::UNLIMITED
        };
        let capacity = Arc::new(Capacity::new(limits));
        let now = Now { at: Millis(START_MS), unix_ms: START_MS };
        let workers = (0..shards).map(|number| {
            let parts = ShardParts {
                settings: Arc::clone(&settings),
                capacity: Arc::clone(&capacity),
                place: Place { number, of: shards },
                app: Desk::new(Rc::clone(&record)),
                entropy: Box::new(random.fork()),
            };
            Worker::new(Shard::new(parts, now))
        });
        let workers = workers.collect();
        let mut network = Network::new(random.fork(), latency_max, usize::from(shards));
        network.now = START_MS;
        network.stall_max = if latency_max > 1 { latency_max * 2 } else { 0 };
        World {
            now: START_MS,
            settings,
            network,
            record,
            capacity,
            workers,
            office: Office::default(),
            bus: None,
            calls: Vec::new(),
            counts: Default::default(),
            actors: Vec::new(),
            drains: Vec::new(),
            pauses: Vec::new(),
            handed_over: 0,
            refuses_one_in: 0,
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

    /// There is a bus, which comes and goes for this long.
    pub fn add_bus(&mut self, turns_for_ms: u64) {
        let random = self.random.fork();
        self.bus = Some(Bus::new(random, self.workers.len(), self.now, self.now + turns_for_ms));
    }

    /// All shards will be told to end their clients, a busy one later than others.
    pub fn drain_at(&mut self, at: u64, over_ms: u64) {
        for shard in 0..self.workers.len() {
            let late = if self.random.one_in(3) { self.random.below(100) } else { 0 };
            self.drains.push((START_MS + at + late, shard, over_ms));
        }
    }

    /// Workers will not turn for a while.
    pub fn pause_at(&mut self, at: u64, for_ms: u64, who: Paused) {
        self.pauses.push(Pause { at: START_MS + at, for_ms, who });
    }

    /// Runs until nothing is left to happen, checks that nothing is left at all, and says what has happened.
    pub fn run(&mut self, until_ms: u64) -> Feats {
        while self.now < START_MS + until_ms {
            if !self.step() {
                break;
            }
        }
        self.check_end();
        let sum = |of: &dyn Fn(&Counters) -> u64| self.workers.iter().map(|worker| of(worker.shard.counters())).sum();
        Feats {
            received: self.record.borrow().received,
            opened: sum(&|counters| counters.opened),
            moved: sum(&|counters| counters.moved_in),
            drained: sum(&|counters| counters.closed(CloseReason::Shutdown)),
            refused: sum(&|counters| counters.hits(Limit::MailBytesMax)),
            handed_over: self.handed_over,
            late: sum(&|counters| counters.subscriptions_late),
            unawaited: sum(&|counters| counters.subscriptions_unawaited),
            confirmed: self.bus.as_ref().map_or(0, |bus| bus.confirmed),
            brought: self.bus.as_ref().map_or(0, |bus| bus.brought),
            acknowledged: self.bus.as_ref().map_or(0, |bus| bus.acknowledged),
            late_turns: sum(&|counters| counters.late_turns),
            pardoned: sum(&|counters| counters.pardoned),
        }
    }

    /// What happens at the next moment at which something happens. `false`: nothing will.
    pub fn step(&mut self) -> bool {
        // A shard that is drained looks again and again.
        let bus = self.bus.as_ref().and_then(Bus::next_at);
        if self.network.next_at().is_none() && bus.is_none() && self.workers.iter().all(Worker::is_over) {
            return false;
        }
        let turns = self.workers.iter().filter_map(Worker::turns_at);
        let drain = self.drains.iter().map(|(at, ..)| *at);
        let pause = self.pauses.iter().map(|pause| pause.at);
        let Some(next) = turns.chain(self.network.next_at()).chain(bus).chain(drain).chain(pause).min() else {
            return false;
        };
        self.now = next.max(self.now);
        self.network.now = self.now;
        self.record.borrow_mut().now = self.now;
        while let Some(due) = self.drains.iter().position(|(at, ..)| *at <= self.now) {
            let (_, shard, over_ms) = self.drains.swap_remove(due);
            self.begin_drain(shard, over_ms);
        }
        self.begin_pauses();
        self.turn_bus();
        while let Some(event) = self.network.pop(self.now) {
            self.trace(|| format!("{event:?}"));
            match event {
                Event::Wake(actor) => self.wake(actor),
                Event::Deliver(id) => {
                    self.network.deliver(id);
                    self.wake(self.network.tcp(id).owner);
                }
                Event::Arrive(id) => {
                    self.network.arrive(id);
                    self.notice(id, Event::Readable(id));
                }
                Event::Return(id) => self.take_back(id),
                Event::Accept(id)
                | Event::Readable(id)
                | Event::Looked(id)
                | Event::Sent(id)
                | Event::Closed(id)
                | Event::Released(id) => self.notice(id, event),
            }
        }
        let is_due = |worker: &Worker| worker.turns_at().is_some_and(|at| at <= self.now);
        let mut due: Vec<_> = (0..self.workers.len()).filter(|shard| is_due(&self.workers[*shard])).collect();
        self.random.shuffle(&mut due);
        let is_quiet = due.is_empty();
        for shard in due {
            self.turn(shard);
        }
        if !is_quiet {
            self.check();
        }
        true
    }

    fn begin_drain(&mut self, shard: usize, over_ms: u64) {
        self.trace(|| format!("{shard} is to drain"));
        let now = self.now;
        self.record.borrow_mut().draining_since.get_or_insert(now);
        let args = Arc::from(b"[\"farewell\"]".as_slice());
        self.post(shard, Letter::Drain(Broadcast::new("/", Vec::new(), args), over_ms));
    }

    /// Something happened to a connection that its worker has to see to.
    fn notice(&mut self, id: TcpId, event: Event) {
        let shard = self.network.server(id).shard;
        self.workers[shard].happened.push(event);
        // A busy worker finds several things done when it comes round.
        let late = if self.random.one_in(3) { self.random.within(0..=LATE_MS_MAX) } else { 0 };
        self.workers[shard].turn_by(self.now + late);
    }

    /// Puts a letter into a shard's mailbox, which keeps the order of all its letters.
    fn post(&mut self, shard: usize, letter: Letter) {
        self.workers[shard].mailbox.push_back(letter);
        let late = self.random.pick(&[0, 0, 1, 3]);
        self.workers[shard].turn_by(self.now + late);
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
            calls: &mut self.calls,
            office: &self.office,
            settings: &self.settings,
        });
        for (sender, call) in std::mem::take(&mut self.calls) {
            self.begin_call(actor, sender, call);
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
        | Event::Looked(id)
        | Event::Sent(id)
        | Event::Closed(id)
        | Event::Released(id)
        | Event::Return(id)
        | Event::Deliver(id)
        | Event::Wake(id) => id,
    }
}
