//! The bus in a simulated world: instances as they are, servers of Node as they behave, and one Redis, in one thread on virtual
//! time out of a seed. What each client gets is held against one server that does everything in its order.
//!
//! `SIM_SEEDS=n` runs that many seeds, `SIM_SEED=n` one of them, and `SIM_TRACE=1` says what happens in it. `SIM_ADAPTER=streams`
//! (or `classic`, `sharded`): in other worlds, all of this adapter.

mod around;
mod check;
mod client;
mod faults;
mod instance;
mod node;
mod pipe;
#[path = "../sim/random.rs"]
#[allow(dead_code, reason = "shared with the other simulation")]
mod random;
mod redis;
mod relays;
mod resp;
mod sender;
#[path = "../sim/wire.rs"]
#[allow(dead_code, reason = "shared with the other simulation")]
mod wire;
mod world;

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::num::NonZero;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use sockring::cluster::{Address, ClusterSettings, HeardRooms, KeptSettings, Readiness, StreamSettings};
use sockring::shard::{EngineSettings, Instance as InstanceId, Instances, TurnLimits};
use sockring_protocol::adapter::{Adapter, SubscriptionMode};
use tokio::sync::mpsc;
use tokio::task::LocalSet;
use tokio::time::{Instant, sleep, timeout};

use check::Feats;
use instance::{Instance, InstanceParts};
use node::{Emitter, Node};
use pipe::Delays;
use random::Random;
use redis::Redis;
use sender::{Sender, Taste};
use world::{Beginning, By, Server, World, channels};

const SEEDS: u64 = 120;
/// Milliseconds between a connection's ends, each time one of them.
const DISTANCES: [Delays; 5] = [&[0], &[0, 1, 1, 2], &[0, 1, 5, 20], &[5], &[1, 20, 40]];
/// One seed in so many has a storm of questions.
const STORMS_ONE_IN: u64 = 8;
/// Whatever goes wrong, senders have done their things by then.
const LONGEST: Duration = Duration::from_secs(600);
/// Until everything has come that will.
const SETTLED: Duration = Duration::from_secs(30);

/// What differs from seed to seed.
struct Plan {
    adapter: Adapter,
    heard_rooms: HeardRooms,
    mode: SubscriptionMode,
    shards: Vec<u16>,
    nodes: usize,
    users: usize,
    senders: Vec<(By, Taste)>,
    operations: u64,
    pace_ms: u64,
    silence_timeout: Duration,
    acks_max: usize,
    turn: TurnLimits,
    storm: u64,
}

fn plan(random: &mut Random) -> Plan {
    let adapters: &[Adapter] = match std::env::var("SIM_ADAPTER").as_deref() {
        Ok("classic") => &[Adapter::Classic],
        Ok("sharded") => &[Adapter::Sharded],
        Ok("streams") => &[Adapter::Streams],
        _ => &[
            Adapter::Classic,
            Adapter::Classic,
            Adapter::Classic,
            Adapter::Sharded,
            Adapter::Streams,
            Adapter::Streams,
        ],
    };
    let adapter = random.pick(adapters);
    let shards: Vec<u16> = (0..random.pick(&[1, 2, 2])).map(|_| random.pick(&[1, 2, 2, 3, 4])).collect();
    let nodes = random.pick(&[1, 1, 2]);
    let mut by = vec![By::Node(shards.len()), By::Api(random.index(shards.len()))];
    for _ in 0..random.below(3) {
        by.push(match random.below(3) {
            0 => By::Api(random.index(shards.len())),
            1 if adapter == Adapter::Classic => By::Emitter,
            _ => By::Node(shards.len() + random.index(nodes)),
        });
    }
    let mut senders: Vec<_> = by.into_iter().map(|by| (by, Taste::Mixed)).collect();
    if random.one_in(4) {
        senders.push((By::Node(shards.len()), Taste::Asking));
    }
    let small =
        TurnLimits { messages_max: 2, backlog_messages_max: 4, backlog_broadcasts_max: 2, ..TurnLimits::default() };
    Plan {
        adapter,
        heard_rooms: random.pick(&[HeardRooms::All, HeardRooms::All, HeardRooms::Members]),
        mode: random.pick(&[
            SubscriptionMode::Dynamic,
            SubscriptionMode::Dynamic,
            SubscriptionMode::DynamicPrivate,
            SubscriptionMode::Static,
        ]),
        shards,
        nodes,
        users: random.index(5) + 3,
        senders,
        operations: random.within(40..=120),
        pace_ms: random.pick(&[5, 30, 200]),
        silence_timeout: Duration::from_millis(random.pick(&[3_000, 10_000])),
        acks_max: random.pick(&[16, 16_384]),
        turn: if random.one_in(3) { small } else { TurnLimits::default() },
        storm: if random.one_in(STORMS_ONE_IN) { 700 } else { 0 },
    }
}

fn engine(plan: &Plan, site: usize) -> EngineSettings {
    let is_by_sid = plan.adapter == Adapter::Sharded && plan.mode == SubscriptionMode::DynamicPrivate;
    EngineSettings {
        instances: if is_by_sid { Instances::OverBusBySid } else { Instances::OverBus },
        instance: InstanceId::new(0x2_3456 + u32::try_from(site).expect("few")),
        path: wire::PATH.to_owned(),
        rooms_per_socket_max: 100_000,
        turn: plan.turn,
        ..EngineSettings::default()
    }
}

fn settings(plan: &Plan) -> ClusterSettings {
    ClusterSettings {
        address: Address { host: "redis".to_owned(), port: 6379 },
        sentinels: None,
        user: None,
        password: None,
        database: 0,
        tls: None,
        prefix: "socket.io".to_owned(),
        adapter: plan.adapter,
        heard_rooms: plan.heard_rooms,
        mode: plan.mode,
        streams: StreamSettings { name: "socket.io".to_owned(), count: 1, entries_max: 10_000, sessions: None },
        kept: KeptSettings { events_per_user_max: 128, idempotency_window_ms: 300_000 },
        queue_bytes_max: 8 << 20,
        silence_timeout: plan.silence_timeout,
        requests_max: 16_384,
        request_rooms_max: 10_000,
        acks_max: plan.acks_max,
        questions_max: 1_024,
        answers_bytes_max: 64 << 20,
        readiness: Readiness::WithoutRedis,
        tunnels: sockring::cluster::TunnelSettings::default(),
    }
}

/// Everything that there is at first: servers that are up, with clients that are connected.
async fn begin(plan: &Plan, random: &mut Random) -> Rc<World> {
    let distances = (0..random.within(1..=3)).map(|_| random.pick(&DISTANCES)).collect();
    let redis = Redis::new(random.fork(), distances);
    let (dials, coming) = mpsc::unbounded_channel();
    tokio::task::spawn_local(redis.clone().listen(coming));
    let clients = Rc::new(RefCell::new(Vec::new()));
    let begun = Instant::now();
    let mut servers = Vec::new();
    for (site, shards) in plan.shards.iter().enumerate() {
        servers.push(Server::Instance(Instance::start(InstanceParts {
            site,
            shards: *shards,
            engine: engine(plan, site),
            cluster: settings(plan),
            dials: dials.clone(),
            clients: Rc::clone(&clients),
            random: random.fork(),
            begun,
        })));
    }
    let channels = channels(plan.adapter, plan.mode);
    for site in plan.shards.len()..plan.shards.len() + plan.nodes {
        servers.push(Server::Node(Node::start(&redis, site, channels.clone(), Rc::clone(&clients), random.fork())));
    }
    let emitter = Emitter::open(&redis, usize::MAX, channels);
    let Plan { adapter, heard_rooms, mode, senders, .. } = plan;
    let (adapter, heard_rooms, mode) = (*adapter, *heard_rooms, *mode);
    let senders = senders.iter().map(|(by, _)| *by).collect();
    let world = World::new(Beginning {
        adapter,
        heard_rooms,
        mode,
        redis,
        clients,
        servers,
        emitter,
        senders,
        silence_timeout: plan.silence_timeout,
    });
    sleep(Duration::from_secs(1)).await;
    (0..world.servers.len()).for_each(|site| assert!(world.is_up(site), "server {site} does not come up"));
    world
}

/// One or two clients of a user.
fn connect(world: &World, random: &mut Random, user: &str) {
    for _ in 0..random.within(1..=2) {
        let site = random.index(world.servers.len());
        match &world.servers[site] {
            Server::Instance(instance) => drop(instance.connect(user, random.index(instance.shards()))),
            Server::Node(node) => drop(node.connect(user)),
        }
    }
}

async fn until_connected(world: &World) {
    for _ in 0..200 {
        if world.clients.borrow().iter().all(|client| client.told_at.is_some()) {
            return;
        }
        sleep(Duration::from_millis(100)).await;
    }
    panic!("not all clients are connected");
}

/// Users come while others are sent to.
async fn newcomers(world: Rc<World>, mut random: Random) {
    for number in 0..random.below(4) {
        sleep(Duration::from_millis(random.below(1_500))).await;
        let user = format!("late{number}");
        connect(&world, &mut random, &user);
        until_connected(&world).await;
        world.users.borrow_mut().push(user);
    }
}

async fn live(seed: u64) -> Rc<World> {
    let mut random = Random::new(seed.wrapping_mul(0x0100_0193));
    let plan = plan(&mut random);
    let world = begin(&plan, &mut random).await;
    let users: Vec<_> = (0..plan.users).map(|number| format!("u{number}")).collect();
    users.iter().for_each(|user| connect(&world, &mut random, user));
    let mut senders = Vec::new();
    for (number, (by, taste)) in plan.senders.iter().enumerate() {
        let victims: Vec<_> = (0..random.below(4)).map(|victim| format!("v{number}-{victim}")).collect();
        victims.iter().for_each(|user| connect(&world, &mut random, user));
        let (world, random) = (Rc::clone(&world), random.fork());
        senders.push(Sender {
            world,
            number,
            by: *by,
            taste: *taste,
            random,
            victims,
            pace_ms: plan.pace_ms,
            joined: BTreeSet::new(),
            left: BTreeSet::new(),
            next: VecDeque::new(),
        });
    }
    until_connected(&world).await;
    sleep(world::SLACK).await;
    *world.users.borrow_mut() = users;
    let mut tasks = vec![
        tokio::task::spawn_local(newcomers(Rc::clone(&world), random.fork())),
        tokio::task::spawn_local(sender::storm(Rc::clone(&world), random.fork(), plan.storm)),
        tokio::task::spawn_local(faults::happen(Rc::clone(&world), random.fork())),
    ];
    for sender in senders {
        tasks.push(tokio::task::spawn_local(sender.run(plan.operations)));
    }
    for task in tasks {
        let task = timeout(LONGEST, task).await;
        task.expect("it ends").expect("it does not panic");
    }
    sleep(SETTLED).await;
    world
}

/// One world out of a seed: what happened, and a digest of it.
fn simulate(seed: u64) -> (Feats, u64) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    let runtime = runtime.expect("a runtime");
    LocalSet::new().block_on(&runtime, async {
        let world = live(seed).await;
        let (feats, violations) = check::check(&world);
        assert!(
            violations.is_empty(),
            "{} violations: {}",
            violations.len(),
            violations[..violations.len().min(4)].join("\n    ")
        );
        (feats, world.digest())
    })
}

fn environment(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

#[test]
fn seeds() {
    let begun = std::time::Instant::now();
    let seeds = match environment("SIM_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..environment("SIM_SEEDS").unwrap_or(SEEDS),
    };
    let next = AtomicU64::new(seeds.start);
    let results = Mutex::new((Feats::default(), BTreeMap::<u64, String>::new()));
    let work = || {
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= seeds.end {
                return;
            }
            let result = catch_unwind(AssertUnwindSafe(|| simulate(seed)));
            let (feats, failures) = &mut *results.lock().expect("nobody panics with it");
            match result {
                Ok((done, _)) => feats.add(&done),
                Err(panic) => {
                    let words = panic.downcast_ref::<String>().cloned();
                    let words = words.or_else(|| panic.downcast_ref::<&str>().map(|words| (*words).to_owned()));
                    failures.insert(seed, words.unwrap_or_default());
                }
            }
        }
    };
    thread::scope(|scope| {
        let threads = thread::available_parallelism().map_or(1, NonZero::get);
        (0..threads).for_each(|_| drop(scope.spawn(work)));
    });
    let (feats, failures) = results.into_inner().expect("nobody panicked with it");
    let count = seeds.end - seeds.start;
    println!("{count} seeds, {:.1} s, {feats:?}", begun.elapsed().as_secs_f64());
    let list: Vec<_> = failures
        .iter()
        .take(5)
        .map(|(seed, words)| format!("SIM_SEED={seed} cargo test --test bussim -- seeds\n    {words}"))
        .collect();
    assert!(list.is_empty(), "{} of {count} seeds fail: {:?}\n{}", failures.len(), failures.keys(), list.join("\n"));
}

#[test]
fn a_seed_is_always_the_same_world() {
    for seed in 0..5 {
        assert_eq!(simulate(seed).1, simulate(seed).1, "seed {seed}");
    }
}
