//! What goes wrong on the way: connections that are cut or bring nothing for a while, processes that are stopped.

use std::rc::Rc;
use std::time::Duration;

use sockring_protocol::adapter::Adapter;
use tokio::time::{Instant, sleep};

use super::pipe::Pipe;
use super::random::Random;
use super::redis::{Connection, SiteId};
use super::world::World;

/// A connection is back this long after it was cut.
const BACK_AFTER: Duration = Duration::from_secs(5);

/// Some things, or nothing.
pub async fn happen(world: Rc<World>, mut random: Random) {
    for _ in 0..random.pick(&[0, 0, 1, 2, 4]) {
        sleep(Duration::from_millis(random.within(1..=1_500))).await;
        let for_ms = random.pick(&[20, 300, 1_500, 4_000, 8_000, 13_000]);
        let what = random.below(5);
        let site = random.index(world.instances().count());
        // The worst moment is that at which an answer is on its way.
        if what <= 2 && random.one_in(2) {
            world.redis.pinged(site).await;
        }
        let until = Instant::now() + Duration::from_millis(for_ms);
        world.trace(|| format!("fault {what} for {for_ms} ms"));
        match what {
            0 => {
                world.redis.stop_until(until);
                world.expect_trouble(until + BACK_AFTER);
            }
            1 => {
                let instance = world.instances().nth(site);
                instance.into_iter().for_each(|(_, instance)| instance.stop_until(until));
                world.expect_trouble(until + BACK_AFTER);
            }
            2 => {
                if let Some(pipe) = one(&world, &mut random) {
                    pipe.freeze(until);
                    world.expect_trouble(until + BACK_AFTER);
                }
            }
            3 if world.adapter == Adapter::Streams => read_nothing(&world, &mut random, site, until).await,
            _ => {
                if let Some(pipe) = one(&world, &mut random) {
                    pipe.cut();
                    world.expect_trouble(Instant::now() + BACK_AFTER);
                }
            }
        }
    }
}

/// An instance reads nothing of the stream; and a while later, perhaps, can add nothing to it.
async fn read_nothing(world: &World, random: &mut Random, site: SiteId, until: Instant) {
    world.expect_trouble(until + BACK_AFTER);
    let readers = world.redis.alive(|connection| connection.site == site && connection.is_reader());
    readers.iter().for_each(|pipe| pipe.freeze(until));
    if random.one_in(2) {
        sleep(Duration::from_millis(random.within(500..=1_500))).await;
        world.expect_trouble(Instant::now() + BACK_AFTER);
        let is_publisher = |connection: &Connection| !connection.is_reader() && !connection.is_subscriber();
        let publishers = world.redis.alive(|connection| connection.site == site && is_publisher(connection));
        publishers.iter().for_each(Pipe::cut);
    }
}

/// A connection of an instance.
fn one(world: &World, random: &mut Random) -> Option<Pipe> {
    let instances = world.instances().count();
    let pipes = world.redis.alive(|connection| connection.site < instances);
    (!pipes.is_empty()).then(|| pipes[random.index(pipes.len())].clone())
}
