//! `Slots`: a slab whose keys know the generation of their slot, so that a key of something gone finds nothing.

use super::relay::{Carried, slabs};
use sockring_protocol::portable;
use sockring_protocol::portable::{Packer, Portable, Unpacker, Unreadable};
use std::num::NonZeroU32;

use slab::Slab;

/// Names an entry: its slot and the generation that the slot had.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key {
    pub index: u32,
    pub generation: NonZeroU32,
}

portable!(struct Key { index, generation });

/// Generations that travel through the ring have 24 bits; they wrap there.
const GENERATION_MAX: u32 = 0x00ff_ffff;

/// A slab with a generation per slot and a fixed capacity.
pub(super) struct Slots<T> {
    slab: Slab<T>,
    generations: Vec<NonZeroU32>,
    capacity: usize,
}

impl<T: Portable> Carried for Slots<T> {
    const FORM: u64 = <(Vec<NonZeroU32>, Vec<Option<T>>)>::FORM;

    fn pack_state(&self, out: &mut Packer) {
        let Slots { slab, generations, capacity: _ } = self;
        generations.pack(out);
        slabs::pack(slab, out);
    }

    fn unpack_state(&mut self, from: &mut Unpacker<'_>) -> Result<(), Unreadable> {
        self.generations.clear();
        for _ in 0..from.count()? {
            self.generations.push(Portable::unpack(from)?);
        }
        slabs::refill(&mut self.slab, from)?;
        let slots = self.slab.iter().last().map_or(0, |(last, _)| last + 1);
        let is_whole = slots <= self.generations.len() && self.generations.len() <= self.capacity;
        if is_whole { Ok(()) } else { Err(Unreadable) }
    }
}

impl<T> Slots<T> {
    /// Reserves the full capacity at once: untouched pages cost nothing, and no turn pays for a doubling.
    pub(super) fn with_capacity(capacity: usize) -> Slots<T> {
        assert!(u32::try_from(capacity).is_ok());
        Slots { slab: Slab::with_capacity(capacity), generations: Vec::with_capacity(capacity), capacity }
    }

    /// The blocks that a capacity reserves, in bytes: an entry of a slab has at most a tag beside its value.
    pub(super) fn reserved(capacity: usize) -> [usize; 2] {
        let entry = size_of::<T>() + size_of::<usize>();
        [capacity.saturating_mul(entry), capacity.saturating_mul(size_of::<NonZeroU32>())]
    }

    /// The key that the next `insert` will return; `None` when full.
    pub(super) fn next_key(&self) -> Option<Key> {
        let index = self.slab.vacant_key();
        if index >= self.capacity {
            return None;
        }
        let generation = self.generations.get(index).copied().unwrap_or(NonZeroU32::MIN);
        Some(Key { index: u32::try_from(index).ok()?, generation })
    }

    /// `None`, and the value dropped, when full.
    pub(super) fn insert(&mut self, value: T) -> Option<Key> {
        let key = self.next_key()?;
        let index = self.slab.insert(value);
        if index == self.generations.len() {
            self.generations.push(key.generation);
        }
        Some(key)
    }

    pub(super) fn get(&self, key: Key) -> Option<&T> {
        if *self.generations.get(key.index as usize)? != key.generation {
            return None;
        }
        self.slab.get(key.index as usize)
    }

    pub(super) fn get_mut(&mut self, key: Key) -> Option<&mut T> {
        if *self.generations.get(key.index as usize)? != key.generation {
            return None;
        }
        self.slab.get_mut(key.index as usize)
    }

    /// The entry that is in this slot now, whatever its generation.
    pub(super) fn at(&self, index: u32) -> Option<(Key, &T)> {
        let value = self.slab.get(index as usize)?;
        Some((Key { index, generation: *self.generations.get(index as usize)? }, value))
    }

    pub(super) fn at_mut(&mut self, index: u32) -> Option<(Key, &mut T)> {
        let value = self.slab.get_mut(index as usize)?;
        Some((Key { index, generation: *self.generations.get(index as usize)? }, value))
    }

    pub(super) fn remove(&mut self, key: Key) -> Option<T> {
        self.get(key)?;
        let value = self.slab.remove(key.index as usize);
        if let Some(generation) = self.generations.get_mut(key.index as usize) {
            *generation = NonZeroU32::new(generation.get() % GENERATION_MAX + 1).unwrap_or(NonZeroU32::MIN);
        }
        Some(value)
    }

    pub(super) fn len(&self) -> usize {
        self.slab.len()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (Key, &T)> {
        self.slab.iter().filter_map(|(index, value)| {
            let generation = *self.generations.get(index)?;
            Some((Key { index: u32::try_from(index).ok()?, generation }, value))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_of_something_gone_finds_nothing() {
        let mut slots = Slots::with_capacity(1);
        let first = slots.insert('a').unwrap();
        assert_eq!(slots.insert('b'), None);
        assert_eq!(slots.remove(first), Some('a'));
        let second = slots.insert('c').unwrap();
        assert_eq!(second.index, first.index);
        assert_eq!((slots.get(first), slots.get(second)), (None, Some(&'c')));
        assert_eq!(slots.remove(first), None);
        assert_eq!(slots.len(), 1);
    }

    #[test]
    fn generations_wrap_without_becoming_zero() {
        let mut slots = Slots::with_capacity(1);
        let key = slots.insert(()).unwrap();
        slots.generations[0] = NonZeroU32::new(GENERATION_MAX).unwrap();
        slots.remove(Key { generation: NonZeroU32::new(GENERATION_MAX).unwrap(), ..key });
        assert_eq!(slots.insert(()).unwrap().generation.get(), 1);
    }
}
