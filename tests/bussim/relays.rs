//! Shards that are replaced by their copies now and then, which are made of their bytes.

use std::sync::Arc;

use sockring::app::Application;
use sockring::capacity::Capacity;
use sockring::shard::{EngineSettings, Now, Shard, ShardNumber, ShardParts};

use super::random::Random;

/// One in so many turns is followed by another shard's.
const ONE_IN: u64 = 150;

/// What the copies of one shard are made of besides.
pub struct Relays {
    pub settings: Arc<EngineSettings>,
    pub capacity: Arc<Capacity>,
    pub place: ShardNumber,
    pub random: Random,
}

impl Relays {
    /// The shard has turned at this time.
    pub fn turned<A: Application>(&mut self, shard: &mut Shard<A>, app: A, now: Now) {
        if !self.random.one_in(ONE_IN) || !shard.is_portable() {
            return;
        }
        let parts = ShardParts {
            settings: Arc::clone(&self.settings),
            capacity: Arc::clone(&self.capacity),
            place: self.place,
            app,
            entropy: Box::new(self.random.fork()),
        };
        *shard = Shard::unpack(&shard.pack(), parts, now).expect("it is whole");
    }
}
