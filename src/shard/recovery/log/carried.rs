//! A log goes on in another one, as the bytes of a shard bring it.

use std::collections::VecDeque;

use sockring_protocol::Millis;
use sockring_protocol::portable::{Packer, Portable, Unpacker, Unreadable};

use crate::shard::relay::{Carried, slabs};

use super::{Chain, Entry, Log};
use crate::shard::recovery::position::Position;

/// Dropped, bytes and evicted; head, told and floor; when it grew and was born.
type Numbers = ((u64, usize, u64), (Position, Position, Position), (Millis, Millis));

impl Carried for Log {
    const FORM: u64 = <(VecDeque<Entry>, Vec<Option<Chain>>, Numbers)>::FORM;

    fn pack_state(&self, out: &mut Packer) {
        // The index follows, by a hasher of its own, and how much it keeps is a setting.
        let Log { index: _, hasher: _, bytes_max: _, keep_ms: _, .. } = self;
        let Log { entries, dropped, chains, head, told, floor, grown_at, bytes, born, evicted, .. } = self;
        entries.pack(out);
        slabs::pack(chains, out);
        let numbers: Numbers = ((*dropped, *bytes, *evicted), (*head, *told, *floor), (*grown_at, *born));
        numbers.pack(out);
    }

    fn unpack_state(&mut self, from: &mut Unpacker<'_>) -> Result<(), Unreadable> {
        self.entries = Portable::unpack(from)?;
        self.chains = slabs::unpack(from)?;
        let numbers: Numbers = Portable::unpack(from)?;
        ((self.dropped, self.bytes, self.evicted), (self.head, self.told, self.floor), (self.grown_at, self.born)) =
            numbers;
        let Log { chains, hasher, index, .. } = self;
        let hash_of = |chain: &u32| chains.get(*chain as usize).map_or(0, |chain| chain.hash(hasher));
        for (number, chain) in chains.iter() {
            index.insert_unique(chain.hash(hasher), u32::try_from(number).map_err(|_| Unreadable)?, hash_of);
        }
        Ok(())
    }
}
