//! Direct descriptors: which slots of the ring's file table are free, and what a connection's descriptor is.

use std::os::fd::{AsRawFd, OwnedFd};

/// What operations of one connection go to. Only `Kernel::settle` makes `Direct` ones, and only `Kernel::close` ends them.
#[derive(Debug)]
pub enum Descriptor<S = OwnedFd, T = Slot> {
    /// An ordinary file descriptor.
    Plain(S),
    /// A slot of the file table: no file descriptor, and less work for the kernel per operation.
    Direct(T),
}

/// A slot of the file table. Not `Clone`: who holds it owns the slot.
#[derive(Debug, PartialEq, Eq)]
pub struct Slot(u32);

/// The same as a number, for an entry of the submission queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RawTarget {
    Plain(i32),
    Direct(u32),
}

impl Descriptor {
    pub(super) fn raw(&self) -> RawTarget {
        match self {
            Descriptor::Plain(descriptor) => RawTarget::Plain(descriptor.as_raw_fd()),
            Descriptor::Direct(slot) => RawTarget::Direct(slot.0),
        }
    }
}

/// The free slots of a file table: those never used yet, and those given back.
#[derive(Debug)]
pub struct Files {
    unused: u32,
    capacity: u32,
    freed: Vec<u32>,
}

impl Files {
    pub fn new(capacity: u32) -> Files {
        Files { unused: 0, capacity, freed: Vec::new() }
    }

    /// A free slot; the one given back last comes first, so the table stays dense.
    pub fn take(&mut self) -> Option<Slot> {
        if let Some(slot) = self.freed.pop() {
            return Some(Slot(slot));
        }
        if self.unused == self.capacity {
            return None;
        }
        self.unused += 1;
        Some(Slot(self.unused - 1))
    }

    /// The slot is empty in the kernel's table again.
    pub fn give_back(&mut self, slot: u32) {
        debug_assert!(slot < self.unused && !self.freed.contains(&slot));
        self.freed.push(slot);
    }
}

impl Slot {
    pub fn number(&self) -> u32 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_are_handed_out_once_and_reused() {
        let mut files = Files::new(2);
        let (first, second) = (files.take().unwrap(), files.take().unwrap());
        assert_eq!((first.number(), second.number(), files.take()), (0, 1, None));
        files.give_back(first.number());
        assert_eq!(files.take(), Some(Slot(0)));
        assert_eq!(files.take(), None);
    }
}
