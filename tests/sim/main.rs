//! The workers in a simulated world: kernel, network, clients and time out of a seed, checked after every turn.
//!
//! `SIM_SEEDS=n` runs that many seeds, from `SIM_FROM=n` on, `SIM_SEED=n` one of them, and `SIM_TRACE=1` says what happens in
//! it. `SIM_RELAYS=n` replaces shards by their copies, made of their bytes, after one in `n` of their turns.

mod backend;
mod browser;
mod desk;
mod doors;
mod endings;
mod honest;
mod hostile;
mod network;
mod races;
mod random;
mod record;
mod recovering;
mod remote;
mod returning;
mod secured;
mod sharing;
mod subscribing;
mod table;
mod timeouts;
mod turns;
mod wanderer;
mod wire;
mod world;

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::num::NonZero;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Instant;

use sockring::shard::{Elsewhere, EngineSettings, Instance, Instances, TurnLimits};
use sockring_protocol::engineio::SessionTimes;

use backend::Backend;
use browser::Browser;
use honest::{Honest, Leaving, Plan, Style};
use hostile::Hostile;
use network::End;
use random::Random;
use remote::Remote;
use world::{Feats, Paused, Temper, World};

const SEEDS: u64 = 1_000;
/// Of worlds whose clients come back: each takes as long as several of the others.
const RETURN_SEEDS: u64 = 100;

fn settings(random: &mut Random) -> EngineSettings {
    let (ping_interval_ms, ping_timeout_ms) = random.pick(&[(300, 200), (1_000, 500), (25_000, 20_000)]);
    let times = SessionTimes { ping_interval_ms, ping_timeout_ms, upgrade_timeout_ms: random.pick(&[500, 10_000]) };
    EngineSettings {
        elsewhere: random.pick(&[Elsewhere::HandOver, Elsewhere::NotFound]),
        instances: random.pick(&[Instances::Alone, Instances::OverBus]),
        instance: Instance::new(0x2_3456),
        path: wire::PATH.to_owned(),
        namespaces: vec!["/".to_owned(), "/custom".to_owned()],
        times,
        connect_timeout_ms: random.pick(&[400, 45_000]),
        head_timeout_ms: random.pick(&[500, 10_000]),
        body_timeout_ms: random.pick(&[1_000, 30_000]),
        message_timeout_ms: random.pick(&[500, 30_000]),
        requests_per_connection_max: random.pick(&[7, 1_000]),
        acks_pending_max: random.pick(&[3, 100_000]),
        rooms_per_socket_max: random.pick(&[3, 128]),
        queue_bytes_max: random.pick(&[32 << 10, 1 << 20]),
        turn: turn_limits(random),
        ..EngineSettings::default()
    }
}

/// Often so small that whatever is done takes several turns.
fn turn_limits(random: &mut Random) -> TurnLimits {
    if random.one_in(2) {
        return TurnLimits::default();
    }
    TurnLimits {
        messages_max: random.pick(&[1, 2, 5, 512]),
        changes_per_message: random.pick(&[1, 3, 16]),
        sent_bytes_max: random.pick(&[1, 300, 2 << 20]),
        small_bytes_max: random.pick(&[0, 50, 4 << 10]),
        piece_bytes_max: random.pick(&[20, 300, 64 << 10]),
        compressed_bytes_max: 128 << 10,
        clients_due_max: random.pick(&[1, 1_024]),
        handshake_steps_max: 1,
        connects_decided_max: 2,
        at_once_max: random.pick(&[0, 1, 3]),
        counted_per_ms: 64,
        backlog_messages_max: random.pick(&[1, 4, 1_000]),
        backlog_bytes_max: random.pick(&[1, 1 << 20]),
        backlog_broadcasts_max: random.pick(&[1, 3, 256]),
    }
}

/// A kernel that has little of everything, or enough.
fn temper(random: &mut Random) -> Temper {
    Temper {
        files: random.pick(&[0, 2, 1_000]),
        buffers: random.pick(&[1, 2, 64]),
        buffer_bytes: random.pick(&[300, 2_048, 65_536]),
        shuffles: random.one_in(2),
        runs_short: random.one_in(4),
    }
}

fn plan(random: &mut Random, number: u64, start: u64, stay_ms: u64) -> Plan {
    let mixes = random.one_in(4);
    let leaving =
        [Leaving::ClosePacket, Leaving::CloseFrame, Leaving::End(End::Fin), Leaving::End(End::Reset), Leaving::Silence];
    // Some are somebody else in each namespace, so that one of their users is at home elsewhere.
    let user = |random: &mut Random, letter| match mixes {
        true => format!("{letter}{}", random.below(4)),
        false => format!("u{}", number / 2),
    };
    let mut sockets = vec![("/", user(random, 'v'))];
    if random.one_in(3) || mixes {
        sockets.push(("/custom", user(random, 'w')));
    }
    if random.one_in(2) {
        sockets.reverse();
    }
    Plan {
        style: random.pick(&[Style::WebSocket, Style::Polling, Style::Upgrade, Style::Upgrade]),
        sockets,
        pace_ms: random.pick(&[20, 100, 1_000]),
        leaves_at: start + stay_ms / 2 + random.below(stay_ms),
        leaving: random.pick(&leaving),
        failed_probes: if random.one_in(3) { random.within(1..=2) } else { 0 },
        is_eager: random.one_in(3),
        is_expected: random.one_in(2),
    }
}

/// One world out of a seed.
fn simulate(seed: u64) -> Feats {
    let mut random = Random::new(seed.wrapping_mul(0x0100_0193));
    let mut settings = settings(&mut random);
    let shards = random.pick(&[1, 2, 3, 4]);
    let refuses_one_in = if random.one_in(4) { random.pick(&[2, 10]) } else { 0 };
    // Out of a stream of its own: the others' seeds stay what they are.
    let mut apart = Random::new(seed ^ 0x6b65_7973);
    let has_keys = apart.one_in(3);
    if has_keys {
        settings.idempotency_window_ms = apart.pick(&[1, 60, 300_000]);
        settings.idempotency_keys_max = apart.pick(&[1, 12, 100_000]);
        settings.kept_events_per_user_max = 100_000;
    }
    if apart.one_in(16) {
        settings.tls = Some(secured::server());
        settings.turn.handshake_steps_max = apart.pick(&[1, 2, 4]);
        // A handshake takes two ways there and back of the time that a head has.
        settings.head_timeout_ms = 10_000;
    }
    let mut world = World::new(seed, settings, shards, temper(&mut Random::new(seed)));
    world.refuse_one_in(refuses_one_in);
    let has_doubts = apart.one_in(4);
    if has_doubts {
        world.doubt();
    }
    let relays_one_in = if apart.one_in(8) { apart.pick(&[40, 150]) } else { 0 };
    world.relay_one_in(environment("SIM_RELAYS").unwrap_or(relays_one_in));
    let start = world.now;
    let is_alone = world.settings.instances == Instances::Alone;
    let stay_ms = if random.one_in(4) { 5_000 } else { 1_500 };
    let honest = random.within(1..=7);
    for number in 0..honest {
        // Behind a bus a CONNECT takes a while, and what comes before its answer is a parse error.
        let plan = plan(&mut random, number, start, stay_ms);
        let plan = Plan { is_eager: plan.is_eager && is_alone && !has_doubts, ..plan };
        world.add(random.below(300), Honest::new(plan));
    }
    let hostile = if random.one_in(4) { 0 } else { random.within(1..=5) };
    for number in 0..hostile {
        let actor = Hostile::new(format!("h{number}"), &mut random);
        world.add(random.below(1_000), actor);
    }
    for _ in 0..random.below(3) {
        let actor = Browser::new(random.within(2..=12), random.one_in(3));
        world.add(random.below(1_000), actor);
    }
    let names =
        |letters: &str| letters.chars().flat_map(|letter| (0..4).map(move |n| format!("{letter}{n}"))).collect();
    for _ in 0..random.within(1..=2) {
        let (users, settled_users) = (names("uuvwh"), if is_alone { names("u") } else { vec!["nobody".to_owned()] });
        let pace_ms = random.pick(&[5, 30, 200]);
        let until = start + stay_ms * 2;
        let recent = Vec::new();
        world.add(0, Backend { users, settled_users, pace_ms, until, next_call: 0, has_keys, recent });
    }
    if !is_alone {
        world.add_bus(stay_ms * 2);
        let (users, pace_ms) = (names("uuvw"), random.pick(&[3, 10, 50]));
        world.add(0, Remote { users, pace_ms, until: start + stay_ms * 2, next_call: 0 });
    }
    if random.one_in(4) {
        let at = if random.one_in(2) { random.below(400) } else { random.below(stay_ms * 2) };
        world.drain_at(at, random.pick(&[0, 50, 1_000, 5_000]));
    }
    if random.one_in(3) {
        for _ in 0..random.within(1..=3) {
            let worker = random.index(usize::from(shards));
            let who = random.pick(&[Paused::Everybody, Paused::Worker(worker), Paused::Turn(worker)]);
            let for_ms = if random.one_in(3) { random.within(20..=400) } else { random.within(1_000..=8_000) };
            world.pause_at(random.below(stay_ms * 2), for_ms, who);
        }
    }
    world.run(400_000)
}

fn environment(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

#[test]
fn seeds() {
    play("seeds", SEEDS, simulate);
}

#[test]
fn returns() {
    let feats = play("returns", RETURN_SEEDS, returning::simulate);
    assert!(environment("SIM_SEED").is_some() || feats.recovered > 0, "nobody comes back: {feats:?}");
}

/// What worlds have seen, together.
trait Seen: Default + Send + Debug {
    fn add(&mut self, other: &Self);
}

impl Seen for Feats {
    fn add(&mut self, other: &Feats) {
        Feats::add(self, other);
    }
}

/// Runs many seeds, or the one that is asked for.
fn play<T: Seen>(test: &str, usual: u64, simulate: fn(u64) -> T) -> T {
    let begun = Instant::now();
    let seeds = match environment("SIM_SEED") {
        Some(seed) => seed..seed + 1,
        None => {
            let first = environment("SIM_FROM").unwrap_or(0);
            first..first + environment("SIM_SEEDS").unwrap_or(usual)
        }
    };
    let next = AtomicU64::new(seeds.start);
    let results = Mutex::new((T::default(), BTreeMap::<String, Vec<u64>>::new()));
    let work = || {
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= seeds.end {
                return;
            }
            let result = catch_unwind(AssertUnwindSafe(|| simulate(seed)));
            let (feats, failures) = &mut *results.lock().expect("nobody panics with it");
            match result {
                Ok(done) => feats.add(&done),
                Err(panic) => {
                    let words = panic.downcast_ref::<String>().cloned();
                    let words = words.or_else(|| panic.downcast_ref::<&str>().map(|words| (*words).to_owned()));
                    failures.entry(words.unwrap_or_default()).or_default().push(seed);
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
    let failed: usize = failures.values().map(Vec::len).sum();
    println!("{count} seeds, {:.1} s, {failed} failed, {feats:?}", begun.elapsed().as_secs_f64());
    let list: Vec<_> = failures
        .iter()
        .map(|(words, seeds)| format!("{words}\n  SIM_SEED={} cargo test --test sim -- {test}  ({seeds:?})", seeds[0]))
        .collect();
    assert!(list.is_empty(), "{}", list.join("\n"));
    feats
}
