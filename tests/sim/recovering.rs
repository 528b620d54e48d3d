//! Recovery: shards whose clients break off anywhere, hang, read slowly and come back, against the list of all that was
//! emitted. A client that is told that it is recovered has to have all of it, in order, once.

mod client;
mod lobby;
mod model;

use std::cell::RefCell;
use std::collections::{HashMap, VecDeque};
use std::rc::Rc;
use std::sync::Arc;

use sockring::capacity::{Capacity, CapacityLimits};
use sockring::shard::{
    ConnectionKey, Destination, Effect, EngineSettings, EventId, Instance, Keep, KeptBy, Mail, Now, OffsetForm,
    Positions, Recovered, RecoverySettings, Remembered, Reply, Shard, ShardNumber, ShardParts, ShardStats, SiblingMail,
    Target, Ticket, TurnLimits, home_of,
};
use sockring_protocol::Millis;
use sockring_protocol::adapter::{Broadcast, Delivery, Ending};
use sockring_protocol::engineio::SessionTimes;

use super::Seen;
use super::random::Random;
use super::wire;
use client::{Client, Said};
use lobby::{Lobby, Welcome};
use model::{EmitKeeping, Emitted, Model};

const ROOMS: [&str; 3] = ["news", "mods", "room-7"];
const SEEDS: u64 = 1_000;
/// What a connection's kernel takes before the peer has read it.
const KERNEL_BYTES: usize = 2_000;

/// One connection of a client, as the server sees it.
#[derive(Default)]
pub(crate) struct BrowserLine {
    seat: Option<(usize, ConnectionKey)>,
    /// What the server has sent and the client has not read.
    pub(crate) output: Vec<u8>,
    is_sending: bool,
    /// Nothing that is said on it is heard any more.
    pub(crate) hangs: bool,
    /// The server has ended it.
    pub(crate) is_ended: bool,
}

struct RecoveryWorld {
    random: Random,
    now: u64,
    settings: EngineSettings,
    shards: Vec<Shard<Lobby>>,
    lines: Vec<BrowserLine>,
    keys: HashMap<(usize, ConnectionKey), usize>,
    mails: VecDeque<(usize, SiblingMail)>,
    looks: Vec<(usize, Option<ConnectionKey>)>,
    reply: Option<Reply>,
    welcomes: Rc<RefCell<Vec<Welcome>>>,
    capacity: Arc<Capacity>,
    /// Where shards are replaced by their copies.
    relays: Option<Random>,
    clients: Vec<Client>,
    /// Some come back as pages that know nothing of what they were.
    reloads: bool,
    model: Model,
}

impl RecoveryWorld {
    fn new(seed: u64) -> RecoveryWorld {
        let mut random = Random::new(seed);
        let settings = settings(&mut random);
        let shards = random.pick(&[1u16, 2, 4]);
        let capacity = Arc::new(Capacity::new(CapacityLimits {
            connections_max: 1_024,
            clients_max: 256,
            ..CapacityLimits::UNLIMITED
        }));
        let welcomes = Rc::new(RefCell::new(Vec::new()));
        let shard = |number| {
            let parts = ShardParts {
                settings: Arc::new(settings.clone()),
                capacity: Arc::clone(&capacity),
                place: ShardNumber { number, of: shards },
                app: Lobby(Rc::clone(&welcomes)),
                entropy: Box::new(Random::new(seed + u64::from(number) + 1)),
            };
            Shard::new(parts, Now { at: Millis(1_000), unix_ms: 0 })
        };
        let users = random.within(1..=4);
        let clients = (0..random.within(1..=6)).map(|id| Client::new(id, format!("u{}", id % users))).collect();
        RecoveryWorld {
            now: 1_000,
            shards: (0..shards).map(shard).collect(),
            lines: Vec::new(),
            keys: HashMap::new(),
            mails: VecDeque::new(),
            looks: Vec::new(),
            reply: None,
            welcomes,
            capacity,
            relays: seed.is_multiple_of(8).then(|| Random::new(seed ^ 0x7265_6c61)),
            clients,
            reloads: random.one_in(2),
            model: Model::new(&settings.recovery),
            settings,
            random,
        }
    }

    /// One turn of a shard with what follows from it at all of them.
    fn turn(&mut self, shard: usize, act: impl FnOnce(&mut Shard<Lobby>)) {
        self.turn_of(shard, act);
        while let Some((to, mail)) = self.mails.pop_front() {
            self.turn_of(to, |shard| shard.on_sibling_mail(mail));
        }
        for (shard, key) in std::mem::take(&mut self.looks) {
            self.turn_of(shard, |shard| match key {
                Some(key) => shard.on_looked(key),
                None => shard.on_looked_around(),
            });
        }
        while let Some((to, mail)) = self.mails.pop_front() {
            self.turn_of(to, |shard| shard.on_sibling_mail(mail));
        }
    }

    fn turn_of(&mut self, number: usize, act: impl FnOnce(&mut Shard<Lobby>)) {
        let mut effects = Vec::new();
        let shard = &mut self.shards[number];
        shard.on_time(Now { at: Millis(self.now), unix_ms: self.now });
        act(shard);
        shard.on_tick();
        shard.flush(&mut effects);
        let welcomes = std::mem::take(&mut *self.welcomes.borrow_mut());
        welcomes.into_iter().for_each(|welcome| self.model.on_welcome(welcome, &self.clients, self.now));
        effects.into_iter().for_each(|effect| self.perform(number, effect));
        self.relay(number);
    }

    /// Now and then a shard goes on as another one, which is made of its bytes.
    fn relay(&mut self, number: usize) {
        let Some(random) = self.relays.as_mut().and_then(|random| random.one_in(150).then(|| random.fork())) else {
            return;
        };
        let of = u16::try_from(self.shards.len()).expect("few shards");
        let shard = &mut self.shards[number];
        if !shard.is_portable() {
            return;
        }
        let parts = ShardParts {
            settings: Arc::new(self.settings.clone()),
            capacity: Arc::clone(&self.capacity),
            place: ShardNumber { number: u16::try_from(number).expect("few shards"), of },
            app: Lobby(Rc::clone(&self.welcomes)),
            entropy: Box::new(random),
        };
        let now = Now { at: Millis(self.now), unix_ms: self.now };
        *shard = Shard::unpack(&shard.pack(), parts, now).expect("it is whole");
    }

    fn perform(&mut self, shard: usize, effect: Effect) {
        match effect {
            Effect::Send(key, bytes) => {
                let line = &mut self.lines[self.keys[&(shard, key)]];
                assert!(!line.is_sending, "a second send");
                line.is_sending = true;
                line.output.extend_from_slice(bytes.as_slice());
            }
            Effect::ShutDown(key) => self.lines[self.keys[&(shard, key)]].is_ended = true,
            Effect::Close(key) => {
                let line = self.keys.remove(&(shard, key)).expect("a connection");
                (self.lines[line].is_ended, self.lines[line].seat) = (true, None);
                self.turn_of(shard, |shard| shard.on_closed(key));
            }
            Effect::HandOver(key, Destination::Shard(to), parcel) => {
                let line = self.keys.remove(&(shard, key)).expect("a connection");
                self.turn_of(shard, |shard| shard.on_closed(key));
                while let Some((to, mail)) = self.mails.pop_front() {
                    self.turn_of(to, |shard| shard.on_sibling_mail(mail));
                }
                let (to, mut arrived) = (usize::from(to), None);
                // Its key has to be known before anything is sent by it.
                let mut effects = Vec::new();
                let at = &mut self.shards[to];
                at.on_time(Now { at: Millis(self.now), unix_ms: self.now });
                arrived = at.on_arrival(None, *parcel).or(arrived);
                let key = arrived.expect("room for a connection");
                self.lines[line].seat = Some((to, key));
                self.keys.insert((to, key), line);
                at.on_tick();
                at.flush(&mut effects);
                let welcomes = std::mem::take(&mut *self.welcomes.borrow_mut());
                welcomes.into_iter().for_each(|welcome| self.model.on_welcome(welcome, &self.clients, self.now));
                effects.into_iter().for_each(|effect| self.perform(to, effect));
            }
            Effect::Mail(to, mail) => self.mails.push_back((usize::from(to), *mail)),
            Effect::Reply(Ticket(2), reply) => self.reply = Some(*reply),
            Effect::Look(key) => self.looks.push((shard, Some(key))),
            Effect::LookAround => self.looks.push((shard, None)),
            _ => {}
        }
    }

    /// Time passes, and everybody does something.
    fn step(&mut self) {
        self.now += self.random.within(1..=20);
        for line in 0..self.lines.len() {
            let state = &mut self.lines[line];
            let is_taken = state.output.len() < KERNEL_BYTES;
            if let (Some((shard, key)), true, true) = (state.seat, state.is_sending, is_taken) {
                state.is_sending = false;
                self.turn(shard, |shard| shard.on_sent(key, Ok(())));
            }
        }
        for shard in 0..self.shards.len() {
            self.turn(shard, |_| {});
        }
        for client in 0..self.clients.len() {
            self.play(client);
        }
        self.check();
    }

    /// A client reads, answers, and comes back if it has to.
    fn play(&mut self, number: usize) {
        let client = &mut self.clients[number];
        let Some(line) = client.line else {
            if client.returns_at <= self.now {
                let shard = self.random.index(self.shards.len());
                self.open(number, shard);
            }
            return;
        };
        let said = client.read(&mut self.lines[line], &mut self.model, self.now);
        let mask = self.random.mask();
        for said in said {
            match said {
                Said::Text(text) => self.say(line, &wire::text_frame(&text, mask)),
                Said::End => self.hang_up(number),
            }
        }
    }

    fn open(&mut self, number: usize, shard: usize) {
        let line = self.lines.len();
        self.lines.push(BrowserLine::default());
        let client = &mut self.clients[number];
        client.begin(line);
        client.reads_bytes = if self.random.one_in(2) { usize::MAX } else { self.random.index(6_000) };
        let mut key = None;
        self.turn_of(shard, |shard| key = shard.on_accept(None));
        let key = key.expect("room for a connection");
        self.lines[line].seat = Some((shard, key));
        self.keys.insert((shard, key), line);
        self.say(line, &wire::websocket(None));
    }

    fn say(&mut self, line: usize, bytes: &[u8]) {
        if let Some((shard, key)) = self.lines[line].seat.filter(|_| !self.lines[line].hangs) {
            self.turn(shard, |shard| shard.on_bytes(key, &mut bytes.to_vec()));
        }
    }

    /// A client's connection ends for the client: the server notices, or the line hangs.
    fn hang_up(&mut self, number: usize) {
        let away_ms = self.random.pick(&[0, 5, 100, 700, 2_000]);
        let Some(line) = self.clients[number].leave(self.now, self.now + away_ms) else { return };
        if self.reloads && self.random.one_in(3) {
            self.clients[number].reload();
        }
        let hangs = self.random.one_in(3);
        let state = &mut self.lines[line];
        // What was on its way is lost.
        state.output.clear();
        state.hangs = true;
        if let (Some((shard, key)), false) = (state.seat, hangs) {
            state.is_sending = false;
            self.turn(shard, |shard| {
                shard.on_hangup(key);
                shard.on_sent(key, Ok(()));
            });
        }
    }

    /// A backend does something.
    fn act(&mut self) {
        let number = self.model.next();
        let user = format!("user:u{}", self.random.below(4));
        let room = self.random.pick(&ROOMS);
        let rooms: Vec<Box<str>> = match self.random.below(6) {
            0 => Vec::new(),
            1 | 2 => vec![room.into()],
            3 => vec![room.into(), user.as_str().into()],
            _ => vec![user.as_str().into()],
        };
        let except: Vec<Box<str>> = match self.random.below(5) {
            0 => vec![self.random.pick(&ROOMS).into()],
            1 => vec![format!("user:u{}", self.random.below(4)).into()],
            _ => Vec::new(),
        };
        let is_volatile = self.random.one_in(6);
        let conflate = self.random.one_in(8).then(|| Box::from(self.random.pick(&["k", "l"])));
        let filler = "x".repeat(self.random.index(300));
        let args = match is_volatile {
            // It ends as an offset might.
            true => format!("[\"v\",\"~{filler}\"]"),
            false => format!("[\"n\",\"{filler}\",{number}]"),
        };
        let delivery = if is_volatile { Delivery::Volatile } else { Delivery::Queue };
        let broadcast =
            Broadcast { except, delivery, conflate, ..Broadcast::new("/", rooms, Arc::from(args.as_bytes())) };
        let is_to_user = matches!(&*broadcast.rooms, [room] if room.starts_with("user:"));
        let keeping =
            if is_to_user && !is_volatile && self.random.one_in(2) { EmitKeeping::Yes } else { EmitKeeping::No };
        if !is_volatile {
            self.model.on_emit(&Emitted::new(number, &broadcast, keeping), self.now);
        }
        match &*broadcast.rooms {
            [room] => {
                let home = usize::from(home_of(room, u16::try_from(self.shards.len()).expect("few")));
                let mail = match keeping {
                    EmitKeeping::No => Mail::Emit(vec![broadcast]),
                    EmitKeeping::Yes => {
                        let keep = Keep { emitted_unix_ms: self.now, expires_unix_ms: self.now + 1_000_000 };
                        let (broadcast, id) = (Arc::new(broadcast), EventId(number));
                        Mail::EmitRemembered(vec![Remembered {
                            broadcast,
                            id,
                            key: None,
                            keep: Some(keep),
                            inquiries: Vec::new(),
                            by: KeptBy::Us,
                        }])
                    }
                };
                self.turn(home, |shard| shard.on_mail(Ticket(1), mail));
            }
            _ => (0..self.shards.len()).for_each(|shard| {
                let broadcast = broadcast.clone();
                self.turn(shard, |shard| shard.on_mail(Ticket(1), Mail::Deliver(vec![broadcast])));
            }),
        }
    }

    /// A backend puts a socket into a room, or takes it out, or out of its namespace.
    fn manage(&mut self) {
        let Some(sid) = self.clients[self.random.index(self.clients.len())].sid.clone() else { return };
        let room: Box<str> = self.random.pick(&ROOMS).into();
        let home = usize::from(home_of(&sid, u16::try_from(self.shards.len()).expect("few")));
        let target = Target::Socket(sid.as_str().into());
        let (joins, leaves) = (self.random.one_in(2), !self.random.one_in(8));
        let mail = match (joins, leaves) {
            (true, _) => Mail::Join(target, room.clone()),
            (false, true) => Mail::Leave(target, room.clone()),
            (false, false) => Mail::Disconnect(target, Ending::Socket),
        };
        self.reply = None;
        self.turn(home, |shard| shard.on_mail(Ticket(2), mail));
        // A change to many sockets may take several turns.
        while self.reply.is_none() {
            self.turn(home, |_| {});
        }
        let is_done = matches!(self.reply, Some(Reply::Changed(1)));
        match (joins, leaves) {
            _ if !is_done => {}
            (true, _) => self.model.on_join(&sid, &room),
            (false, true) => self.model.on_leave(&sid, &room),
            (false, false) => self.model.on_disconnect(&sid),
        }
    }

    fn check(&self) {
        let bytes_max = (self.settings.recovery.bytes_max / self.shards.len()) as u64;
        for shard in &self.shards {
            let stats = shard.stats();
            assert!(stats.recovery_bytes <= bytes_max, "{} bytes are remembered", stats.recovery_bytes);
            assert!(stats.behind <= stats.sockets && stats.lingering_rooms <= 64 + 128, "{stats:?}");
        }
        self.model.check_takeovers(self.shards.iter().map(|shard| shard.stats().sockets).sum());
    }

    /// Nobody breaks off any more: all are told everything, then all leave, and everything is forgotten.
    fn end(&mut self) {
        for client in 0..self.clients.len() {
            self.clients[client].reads_bytes = usize::MAX;
            self.clients[client].stalls_until = 0;
            self.clients[client].returns_at = self.clients[client].returns_at.min(self.now);
        }
        for _ in 0..400 {
            self.step();
            self.clients.iter_mut().for_each(|client| client.reads_bytes = usize::MAX);
        }
        for client in &self.clients {
            assert!(client.is_connected(), "{} is not back", client.user);
            self.model.check_complete(client);
        }
        self.model.check_kept(&self.clients);
        for client in 0..self.clients.len() {
            self.clients[client].stays_away();
            self.hang_up(client);
            self.clients[client].returns_at = u64::MAX;
        }
        for _ in 0..60 {
            self.now += 500;
            (0..self.shards.len()).for_each(|shard| self.turn(shard, |_| {}));
            for line in 0..self.lines.len() {
                let state = &mut self.lines[line];
                if let (Some((shard, key)), true) = (state.seat, state.is_sending) {
                    state.is_sending = false;
                    self.turn(shard, |shard| shard.on_sent(key, Ok(())));
                }
            }
        }
        for shard in &self.shards {
            let ShardStats { recovery_events, recovery_bytes, lingering_rooms, behind, rooms, .. } = shard.stats();
            assert_eq!([recovery_events, recovery_bytes, lingering_rooms, behind, rooms], [0; 5], "something is left");
        }
    }
}

fn settings(random: &mut Random) -> EngineSettings {
    EngineSettings {
        instance: Instance::new(0x2_3456),
        path: wire::PATH.to_owned(),
        times: SessionTimes { ping_interval_ms: 300, ping_timeout_ms: 200, upgrade_timeout_ms: 500 },
        queue_bytes_max: random.pick(&[1_500, 6_000, 1 << 20]),
        recovery: RecoverySettings {
            window_ms: 1_500,
            bytes_max: random.pick(&[20_000, 1 << 20]),
            offset: random.pick(&[OffsetForm::Packet, OffsetForm::Argument]),
            positions: Positions::Counted,
            secret: None,
        },
        turn: TurnLimits {
            at_once_max: random.pick(&[0, 64]),
            messages_max: random.pick(&[1, 128]),
            ..TurnLimits::default()
        },
        ..EngineSettings::default()
    }
}

/// What worlds have seen.
#[derive(Debug, Default)]
struct Returns {
    received: u64,
    /// By `Recovered::ALL`.
    results: [u64; 4],
}

impl Seen for Returns {
    fn add(&mut self, other: &Returns) {
        self.received += other.received;
        self.results.iter_mut().zip(other.results).for_each(|(sum, result)| *sum += result);
    }
}

fn simulate(seed: u64) -> Returns {
    let mut world = RecoveryWorld::new(seed);
    for _ in 0..world.random.within(100..=500) {
        world.step();
        if world.random.one_in(2) {
            world.act();
        }
        if world.random.one_in(25) {
            // More than some take at once.
            (0..world.random.within(4..=16)).for_each(|_| world.act());
        }
        if world.random.one_in(6) {
            world.manage();
        }
        if world.random.one_in(20) {
            let client = world.random.index(world.clients.len());
            world.clients[client].stalls_until = world.now + world.random.below(150);
        }
        if world.random.one_in(40) {
            let client = world.random.index(world.clients.len());
            world.hang_up(client);
        }
    }
    world.end();
    let of = |result| world.shards.iter().map(|shard| shard.counters().recoveries(result)).sum();
    Returns { received: world.model.received(), results: Recovered::ALL.map(of) }
}

#[test]
fn who_is_recovered_has_missed_nothing() {
    let Returns { results: [recovered, too_old, _, without_rooms], .. } =
        super::play("who_is_recovered", SEEDS, simulate);
    let are_few =
        super::environment("SIM_SEED").is_some() || super::environment("SIM_SEEDS").is_some_and(|seeds| seeds < 100);
    assert!(are_few || recovered > 0 && too_old > 0 && without_rooms > 0, "something never happened");
}
