//! `World`: one to four workers, their kernels, network and mailboxes, and their clients, on virtual time. What must always
//! hold is checked after every step.

mod around;
mod bus;
mod check;
mod kernel;
mod office;
mod pause;
mod relay;
mod socket;
mod worker;

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use sockring::capacity::{Capacity, CapacityLimits};
use sockring::mailbox::Letter;
use sockring::shard::{CloseReason, Counters, EngineSettings, KeptEnd, Limit, Now, Shard, ShardNumber, ShardParts};
use sockring_protocol::Millis;
use sockring_protocol::adapter::Broadcast;

use super::desk::Desk;
use super::network::{Event, Network, TcpId};
use super::random::Random;
use super::record::{Counts, Record, Sender};
use super::secured;

use around::{Around, Posted};
use bus::Bus;
use kernel::SimulatedKernel;
use office::Office;
use pause::Pause;
use relay::Relays;
use socket::{Dropped, Listener};
use worker::{AtApi, Permit};

pub use kernel::Temper;
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
    /// Emits whose key was known.
    pub duplicates: u64,
    /// Kept events that a client has received, and those whose time was over.
    pub kept_received: u64,
    pub kept_expired: u64,
    /// Turns that were late, and peers that were past a deadline because of it and had done what was due.
    pub late_turns: u64,
    pub pardoned: u64,
    /// Sessions that went on over a new connection, and events that came twice because a marker was cut off.
    pub recovered: u64,
    pub repeated: u64,
    /// Shards that were replaced by their copies.
    pub relayed: u64,
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
        self.duplicates += other.duplicates;
        self.kept_received += other.kept_received;
        self.kept_expired += other.kept_expired;
        self.late_turns += other.late_turns;
        self.pardoned += other.pardoned;
        self.recovered += other.recovered;
        self.repeated += other.repeated;
        self.relayed += other.relayed;
    }
}

/// Some shards and everything around them.
pub struct World {
    pub now: u64,
    pub settings: Arc<EngineSettings>,
    network: Rc<RefCell<Network>>,
    record: Rc<RefCell<Record>>,
    capacity: Arc<Capacity>,
    seats: Vec<Permit>,
    /// Connections that the API has.
    at_api: AtApi,
    /// Connections whose sockets were dropped.
    dropped: Dropped,
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
    refuses_one_in: u64,
    /// The applications of the shards.
    desks: Vec<Desk>,
    relays: Relays,
    random: Random,
    traces: bool,
}

impl World {
    pub fn new(seed: u64, settings: EngineSettings, shards: u16, temper: Temper) -> World {
        let mut random = Random::new(seed);
        // Of a ping timeout of 200 ms, several round trips of a long answer must not use up most.
        let latency_max = if settings.times.ping_timeout_ms < 400 { 5 } else { random.pick(&[1, 5, 20]) };
        let settings = Arc::new(settings);
        let record = Rc::new(RefCell::new(Record::new(settings.rooms_per_socket_max, usize::from(shards))));
        let limits = CapacityLimits {
            connections_max: CONNECTIONS_MAX,
            clients_max: CONNECTIONS_MAX,
            descriptors_max: CONNECTIONS_MAX,
            ..CapacityLimits::UNLIMITED
        };
        let capacity = Arc::new(Capacity::new(limits));
        let now = Now { at: Millis(START_MS), unix_ms: START_MS };
        let mut network = Network::new(random.fork(), latency_max, usize::from(shards));
        network.tls = settings.tls.is_some().then(secured::client);
        network.now = START_MS;
        network.stall_max = if latency_max > 1 { latency_max * 2 } else { 0 };
        let network = Rc::new(RefCell::new(network));
        let dropped = Dropped::default();
        let desks: Vec<_> = (0..shards).map(|_| Desk::new(Rc::clone(&record))).collect();
        let seats = (0..shards).map(|number| {
            let parts = ShardParts {
                settings: Arc::clone(&settings),
                capacity: Arc::clone(&capacity),
                place: ShardNumber { number, of: shards },
                app: desks[usize::from(number)].clone(),
                entropy: Box::new(random.fork()),
            };
            let number = usize::from(number);
            let listener = Listener::new(Rc::clone(&dropped));
            let around = Around::new(
                number,
                shards,
                Arc::clone(&settings),
                Rc::clone(&record),
                Rc::clone(&network),
                random.fork(),
            );
            let kernel = SimulatedKernel::new(temper, &around, random.fork(), listener.clone());
            Permit::new(kernel, Shard::new(parts, now), listener, around, Arc::clone(&capacity))
        });
        let seats = seats.collect();
        World {
            now: START_MS,
            settings,
            network,
            record,
            capacity,
            seats,
            at_api: AtApi::new(),
            dropped,
            office: Office::default(),
            bus: None,
            calls: Vec::new(),
            counts: Default::default(),
            actors: Vec::new(),
            drains: Vec::new(),
            pauses: Vec::new(),
            handed_over: 0,
            refuses_one_in: 0,
            desks,
            relays: Relays { one_in: 0, random: Random::new(seed ^ 0x7265_6c61), count: 0 },
            random,
            traces: std::env::var_os("SIM_TRACE").is_some(),
        }
    }

    /// Adds an actor that begins at `at`, counted from the world's beginning.
    pub fn add(&mut self, at: u64, actor: impl Actor + 'static) {
        let random = self.random.fork();
        self.network.borrow_mut().at(START_MS + at, Event::Wake(self.actors.len()));
        self.actors.push((Box::new(actor), random));
    }

    /// Every emit has to be remembered for clients that are away for less than this.
    pub fn remember_for(&mut self, window_ms: u64) {
        self.record.borrow_mut().remember_for(window_ms);
    }

    /// Of some users it is not known at once whether they may come in.
    pub fn doubt(&mut self) {
        self.record.borrow_mut().has_doubts = true;
    }

    /// There is a bus, which comes and goes for this long.
    pub fn add_bus(&mut self, turns_for_ms: u64) {
        let random = self.random.fork();
        self.bus = Some(Bus::new(random, self.seats.len(), self.now, self.now + turns_for_ms));
    }

    /// One in this many mails that may be refused will be.
    pub fn refuse_one_in(&mut self, count: u64) {
        self.refuses_one_in = count;
        self.seats.iter_mut().for_each(|seat| seat.worker.outside.refuses_one_in = count);
    }

    /// All shards will be told to end their clients, a busy one later than others.
    pub fn drain_at(&mut self, at: u64, over_ms: u64) {
        for shard in 0..self.seats.len() {
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
        let sum = |of: &dyn Fn(&Counters) -> u64| self.seats.iter().map(|seat| of(seat.worker.shard.counters())).sum();
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
            duplicates: sum(&|counters| counters.duplicates),
            kept_received: sum(&|counters| counters.kept(KeptEnd::Received)),
            kept_expired: sum(&|counters| counters.kept(KeptEnd::Expired)),
            late_turns: sum(&|counters| counters.late_turns),
            pardoned: sum(&|counters| counters.pardoned),
            recovered: self.record.borrow().recovered,
            repeated: self.record.borrow().repeated,
            relayed: self.relays.count,
        }
    }

    /// What happens at the next moment at which something happens. `false`: nothing will.
    pub fn step(&mut self) -> bool {
        // A worker that has drained looks again and again.
        let bus = self.bus.as_ref().and_then(Bus::next_at);
        let network = self.network.borrow().next_at();
        if network.is_none() && bus.is_none() && self.seats.iter().all(Permit::is_over) {
            return false;
        }
        let turns = self.seats.iter().filter_map(Permit::turns_at);
        let drain = self.drains.iter().map(|(at, ..)| *at);
        let pause = self.pauses.iter().map(|pause| pause.at);
        let Some(next) = turns.chain(network).chain(bus).chain(drain).chain(pause).min() else {
            return false;
        };
        self.now = next.max(self.now);
        self.network.borrow_mut().now = self.now;
        self.record.borrow_mut().now = self.now;
        while let Some(due) = self.drains.iter().position(|(at, ..)| *at <= self.now) {
            let (_, shard, over_ms) = self.drains.swap_remove(due);
            self.begin_drain(shard, over_ms);
        }
        self.begin_pauses();
        self.turn_bus();
        self.see_to_network();
        let is_due = |seat: &Permit| seat.turns_at().is_some_and(|at| at <= self.now);
        let mut due: Vec<_> = (0..self.seats.len()).filter(|shard| is_due(&self.seats[*shard])).collect();
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

    /// All that has happened on the network by now.
    fn see_to_network(&mut self) {
        loop {
            let Some(event) = self.network.borrow_mut().pop(self.now) else { return };
            self.trace(|| format!("{event:?}"));
            match event {
                Event::Wake(actor) => self.wake(actor),
                Event::Deliver(id) => {
                    self.network.borrow_mut().deliver(id);
                    let owner = self.network.borrow().tcp(id).owner;
                    self.wake(owner);
                }
                Event::Connect(id) => self.connect(id),
                Event::Arrive(id) => {
                    self.network.borrow_mut().arrive(id);
                    self.stir(id, SimulatedKernel::on_arrived);
                }
                Event::Space(id) => self.stir(id, SimulatedKernel::on_space),
                Event::Break(id) => {
                    self.network.borrow_mut().server(id).is_broken = true;
                    self.stir(id, SimulatedKernel::on_space);
                }
                Event::Finish(shard) => {
                    if self.seats[shard].worker.kernel.on_finished() {
                        self.wake_worker(shard);
                    }
                }
                Event::Return(id) => self.take_back(id),
            }
        }
    }

    /// A connection comes to its listener, or to another one where that is closed.
    fn connect(&mut self, id: TcpId) {
        let shards = self.seats.len();
        let first = self.network.borrow_mut().server(id).shard;
        let open =
            (first..first + shards).map(|shard| shard % shards).find(|shard| self.seats[*shard].listener.is_open());
        let Some(shard) = open else { return self.network.borrow_mut().close(id) };
        self.network.borrow_mut().server(id).shard = shard;
        self.seats[shard].listener.put(id);
        if self.seats[shard].worker.kernel.on_connected() {
            self.wake_worker(shard);
        }
    }

    /// Something happened on a connection, for which its kernel may have waited.
    fn stir(&mut self, id: TcpId, happens: impl FnOnce(&mut SimulatedKernel, TcpId) -> bool) {
        let shard = self.network.borrow_mut().server(id).shard;
        if happens(&mut self.seats[shard].worker.kernel, id) {
            self.wake_worker(shard);
        }
    }

    /// A busy worker finds several things done when it comes round.
    fn wake_worker(&mut self, shard: usize) {
        let late = if self.random.one_in(3) { self.random.within(0..=LATE_MS_MAX) } else { 0 };
        self.seats[shard].turn_by(self.now + late);
    }

    fn begin_drain(&mut self, shard: usize, over_ms: u64) {
        self.trace(|| format!("{shard} is to drain"));
        let now = self.now;
        self.record.borrow_mut().draining_since.get_or_insert(now);
        let farewell = Broadcast::new("/", Vec::new(), Arc::from(b"[\"farewell\"]".as_slice()));
        self.post(shard, Posted::new(Letter::Drain(Arc::new(farewell), Duration::from_millis(over_ms))));
    }

    /// Puts a letter into a shard's mailbox, which keeps the order of all its letters.
    fn post(&mut self, shard: usize, posted: Posted) {
        let posted = self.relay_letter(posted);
        self.seats[shard].worker.outside.mailbox.push_back(posted);
        let late = self.random.pick(&[0, 0, 1, 3]);
        self.seats[shard].turn_by(self.now + late);
    }

    fn wake(&mut self, actor: usize) {
        let (who, random) = &mut self.actors[actor];
        who.wake(&mut Context {
            id: actor,
            now: self.now,
            network: &mut self.network.borrow_mut(),
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
