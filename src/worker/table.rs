//! The worker's connections by key: descriptor, operations, and what goes along when one is handed over.

use crate::ring::{DescriptorOf, Kernel, Token};
use crate::shard::{ConnectionKey, Destination, Key, Parcel};

use super::operations::{Operations, Start};

/// One connection as the worker keeps it.
pub(super) struct TableEntry<K: Kernel> {
    pub(super) key: ConnectionKey,
    pub(super) descriptor: Option<DescriptorOf<K>>,
    pub(super) operations: Operations,
    /// To be settled as soon as nothing is under way.
    pub(super) settles: bool,
}

impl<K: Kernel> TableEntry<K> {
    /// Puts down what to start after a completion, and who may settle now.
    pub(super) fn note(&self, start: Start, starts: &mut Vec<(ConnectionKey, Start)>) {
        if start != Start::default() || self.settles {
            starts.push((self.key, start));
        }
    }
}

/// A connection that is about to be handed over.
#[derive(Debug)]
pub(super) struct Departure {
    pub(super) destination: Destination,
    pub(super) parcel: Parcel,
}

/// All connections of a worker. A place is reused only after `remove`.
pub struct Table<K: Kernel> {
    entries: Vec<Option<TableEntry<K>>>,
    count: usize,
}

impl<K: Kernel> Table<K> {
    /// Room for this many: untouched pages cost nothing, and no turn pays for a doubling.
    pub fn with_capacity(connections: usize) -> Table<K> {
        Table { entries: Vec::with_capacity(connections), count: 0 }
    }

    /// The block that room for so many reserves, in bytes.
    pub(super) fn reserved(connections: usize) -> usize {
        connections.saturating_mul(size_of::<Option<TableEntry<K>>>())
    }

    pub(super) fn len(&self) -> usize {
        self.count
    }

    pub(super) fn insert(&mut self, key: ConnectionKey, descriptor: DescriptorOf<K>) {
        let index = key.0.index as usize;
        if index >= self.entries.len() {
            self.entries.resize_with(index + 1, || None);
        }
        let entry = TableEntry { key, descriptor: Some(descriptor), operations: Operations::new(), settles: false };
        let Some(place) = self.entries.get_mut(index) else { return };
        debug_assert!(place.is_none());
        *place = Some(entry);
        self.count += 1;
    }

    pub(super) fn get_mut(&mut self, key: ConnectionKey) -> Option<&mut TableEntry<K>> {
        self.entries.get_mut(key.0.index as usize)?.as_mut().filter(|entry| entry.key == key)
    }

    /// The connection that an effect names: the shard names none that it has ended or given away.
    pub(super) fn open(&mut self, key: ConnectionKey) -> Option<&mut TableEntry<K>> {
        let entry = self.get_mut(key);
        debug_assert!(entry.as_ref().is_some_and(|entry| entry.operations.is_open()), "an effect for what has ended");
        entry
    }

    /// The connection that a completion is about.
    pub(super) fn find(&mut self, token: Token) -> Option<&mut TableEntry<K>> {
        self.entries.get_mut(token.index as usize)?.as_mut().filter(|entry| token_of(entry.key) == token)
    }

    pub(super) fn remove(&mut self, key: ConnectionKey) -> Option<TableEntry<K>> {
        self.get_mut(key)?;
        self.count -= 1;
        self.entries.get_mut(key.0.index as usize)?.take()
    }
}

/// How a connection is called in the ring.
pub(super) fn token_of(ConnectionKey(Key { index, generation }): ConnectionKey) -> Token {
    Token { index, generation: generation.get() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ring::Ring;

    #[test]
    fn an_entry_is_small() {
        assert!(size_of::<Option<TableEntry<Ring>>>() <= 32, "{}", size_of::<Option<TableEntry<Ring>>>());
    }
}
