//! Worlds in which connections break and clients come back to their sessions, among others that stay.

use super::backend::Backend;
use super::honest::Honest;
use super::hostile::Hostile;
use super::random::Random;
use super::wanderer::{Journey, Wanderer};
use super::world::{Feats, World};
use super::{plan, settings, temper};

use sockring::shard::{EngineSettings, Instances, OffsetForm, Positions, RecoverySecret, RecoverySettings};

/// Longer than any world's clients are away.
const WINDOW_MS: u64 = 120_000;

/// Enough for all that there is, or so little that much is forgotten too early.
fn recovery(random: &mut Random) -> (RecoverySettings, bool) {
    let is_enough = !random.one_in(4);
    let settings = RecoverySettings {
        window_ms: if is_enough { WINDOW_MS } else { random.pick(&[100, 1_000, WINDOW_MS]) },
        bytes_max: if is_enough { 64 << 20 } else { random.pick(&[500, 8_000, 64 << 20]) },
        offset: random.pick(&[OffsetForm::Packet, OffsetForm::Argument]),
        positions: Positions::Counted,
        secret: Some(RecoverySecret::new(b"the simulation's")),
    };
    (settings, is_enough)
}

/// One world out of a seed.
pub fn simulate(seed: u64) -> Feats {
    let mut random = Random::new(seed.wrapping_mul(0x0100_0193) ^ 0x5eed);
    let (recovery, is_enough) = recovery(&mut random);
    // Whose queues are short have to read at once, or come back.
    let is_slow = random.one_in(4);
    let settings = EngineSettings {
        instances: Instances::Alone,
        recovery,
        rooms_per_socket_max: 128,
        queue_bytes_max: if is_slow { random.pick(&[1_000, 4_000]) } else { 1 << 20 },
        ..settings(&mut random)
    };
    let shards = random.pick(&[1, 2, 3, 4]);
    let mut world = World::new(seed, settings, shards, temper(&mut Random::new(seed)));
    world.remember_for(if is_enough { WINDOW_MS } else { 0 });
    if seed.is_multiple_of(8) {
        world.relay_one_in(60);
    }
    let start = world.now;
    let stay_ms = random.pick(&[1_500, 3_000]);
    for number in 0..random.within(1..=4) {
        let settles_at = start + stay_ms;
        let delivery_ms_max = if is_slow { 8_000 } else { 700 };
        let journey = Journey {
            user: format!("r{}", number / 2),
            pace_ms: random.pick(&[20, 100, 400]),
            away_ms_max: random.pick(&[5, 50, 500]),
            settles_at,
            leaves_at: settles_at + 2 * delivery_ms_max + random.below(stay_ms),
            reloads_one_in: random.pick(&[0, 0, 5]),
            strays_one_in: random.pick(&[0, 4]),
            pauses_ms_max: if is_slow { 400 } else { 0 },
            delivery_ms_max,
            is_always_recovered: is_enough,
        };
        world.add(random.below(300), Wanderer::new(journey));
    }
    // Those that stay are closed where what is for them alone does not fit.
    let staying = if is_slow { 0 } else { random.below(4) };
    for number in 0..staying {
        let plan = plan(&mut random, number, start, stay_ms);
        world.add(random.below(300), Honest::new(plan));
    }
    for number in 0..random.below(3) {
        let actor = Hostile::new(format!("h{number}"), &mut random);
        world.add(random.below(1_000), actor);
    }
    let users: Vec<String> = (0..4).flat_map(|n| ["r", "r", "u"].map(|letter| format!("{letter}{}", n % 2))).collect();
    for _ in 0..random.within(1..=2) {
        let (users, settled_users) = (users.clone(), users.clone());
        let pace_ms = random.pick(&[5, 30, 100]);
        let until = start + stay_ms + 500;
        let has_keys = false;
        world.add(0, Backend { users, settled_users, pace_ms, until, next_call: 0, has_keys, recent: Vec::new() });
    }
    if random.one_in(6) {
        world.drain_at(random.below(stay_ms * 2), random.pick(&[0, 50, 1_000]));
    }
    world.run(400_000)
}
