//! The worker's connections by key: descriptor, link, and what goes along when one is handed over.

use crate::ring::{Descriptor, Token};
use crate::shard::{ConnectionKey, Destination, Key, Parcel};

use super::link::{Link, Start};

/// One connection as the worker keeps it.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) key: ConnectionKey,
    pub(super) descriptor: Option<Descriptor>,
    pub(super) link: Link,
    pub(super) departure: Option<Box<Departure>>,
    /// To be settled as soon as nothing is under way.
    pub(super) settles: bool,
}

impl Entry {
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
#[derive(Debug)]
pub(super) struct Table {
    entries: Vec<Option<Entry>>,
    count: usize,
}

impl Table {
    /// Room for this many: untouched pages cost nothing, and no turn pays for a doubling.
    pub(super) fn with_capacity(connections: usize) -> Table {
        Table { entries: Vec::with_capacity(connections), count: 0 }
    }

    /// The block that room for so many reserves, in bytes.
    pub(super) fn reserved(connections: usize) -> usize {
        connections.saturating_mul(size_of::<Option<Entry>>())
    }

    pub(super) fn len(&self) -> usize {
        self.count
    }

    pub(super) fn insert(&mut self, key: ConnectionKey, descriptor: Descriptor) {
        let index = key.0.index as usize;
        if index >= self.entries.len() {
            self.entries.resize_with(index + 1, || None);
        }
        let entry = Entry { key, descriptor: Some(descriptor), link: Link::new(), departure: None, settles: false };
        debug_assert!(self.entries[index].is_none());
        self.entries[index] = Some(entry);
        self.count += 1;
    }

    pub(super) fn get_mut(&mut self, key: ConnectionKey) -> Option<&mut Entry> {
        self.entries.get_mut(key.0.index as usize)?.as_mut().filter(|entry| entry.key == key)
    }

    /// The connection that a completion is about.
    pub(super) fn find(&mut self, token: Token) -> Option<&mut Entry> {
        self.entries.get_mut(token.index as usize)?.as_mut().filter(|entry| token_of(entry.key) == token)
    }

    pub(super) fn remove(&mut self, key: ConnectionKey) -> Option<Entry> {
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

    #[test]
    fn an_entry_is_small() {
        assert!(size_of::<Option<Entry>>() <= 40, "{}", size_of::<Option<Entry>>());
    }
}
