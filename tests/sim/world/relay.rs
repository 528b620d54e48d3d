//! Shards that are replaced by their copies between two turns, and letters by theirs: all that they are goes through bytes.

use std::sync::Arc;

use sockring::mailbox::Letter;
use sockring::shard::{Now, Shard, ShardNumber, ShardParts, SiblingMail};
use sockring_protocol::Millis;
use sockring_protocol::portable::{Packer, Portable, Unpacker};

use super::super::random::Random;
use super::World;
use super::around::Posted;

/// How often that is, and its own chance: worlds without it stay what they are.
pub(super) struct Relays {
    pub(super) one_in: u64,
    pub(super) random: Random,
    /// Shards that were replaced.
    pub(super) count: u64,
}

impl World {
    /// One in so many turns of a shard is followed by another shard's, which is made of its bytes.
    pub fn relay_one_in(&mut self, count: u64) {
        self.relays.one_in = count;
    }

    /// Replaces a shard now and then.
    pub(super) fn relay(&mut self, shard: usize) {
        let Relays { one_in, random, count } = &mut self.relays;
        let worker = &mut self.seats[shard].worker;
        if *one_in == 0 || !random.one_in(*one_in) || !worker.shard.is_portable() {
            return;
        }
        *count += 1;
        let number = u16::try_from(shard).expect("few shards");
        let of = u16::try_from(self.desks.len()).expect("few shards");
        let parts = || ShardParts {
            settings: Arc::clone(&self.settings),
            capacity: Arc::clone(&self.capacity),
            place: ShardNumber { number, of },
            app: self.desks[shard].clone(),
            entropy: Box::new(random.clone()),
        };
        let now = Now { at: Millis(self.now), unix_ms: self.now };
        let bytes = worker.shard.pack();
        let copy = Shard::unpack(&bytes, parts(), now).expect("it is whole");
        let again = copy.pack();
        let differs_at = bytes.iter().zip(&again).position(|(one, other)| one != other);
        assert!(again == bytes, "what was read is not what was written: {} bytes, from {differs_at:?} on", bytes.len());
        worker.shard = copy;
        random.next();
    }

    /// A letter between shards arrives as a copy of itself.
    pub(super) fn relay_letter(&mut self, posted: Posted) -> Posted {
        let Posted { letter: Letter::Sibling(mail), ticket, generation } = posted else { return posted };
        let now = Millis(self.now);
        let mut out = Packer::new(now);
        mail.pack(&mut out);
        let bytes = out.into_bytes();
        let mut from = Unpacker::new(&bytes, now);
        let mail = SiblingMail::unpack(&mut from).expect("it is whole");
        from.finish().expect("it is all of it");
        Posted { letter: Letter::Sibling(mail), ticket, generation }
    }
}
