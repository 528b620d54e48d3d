//! Direct descriptors: which slots of the file tables are free, and what a connection's descriptor is.

use std::os::fd::{AsRawFd, OwnedFd};

/// What operations of one connection go to. Only `Kernel::settle` makes `Direct` ones, and only `Kernel::close` ends them.
#[derive(Debug)]
pub enum Descriptor<S = OwnedFd, T = Slot> {
    /// An ordinary file descriptor.
    Plain(S),
    /// A slot of a file table: no file descriptor, and less work for the kernel per operation.
    Direct(T),
}

/// How many bits of a slot's number are its place in the table; the others are the lane that the table is of. The kernel has no
/// longer tables (IORING_MAX_FIXED_FILES).
const INDEX_BITS: u32 = 20;
/// Slots of a table, and tables of a ring, that numbers can tell apart.
pub(super) const FILES_MOST: u32 = 1 << INDEX_BITS;
pub(super) const LANES_MOST: u32 = 1 << (u32::BITS - INDEX_BITS);

/// A slot of a file table. Not `Clone`: who holds it owns the slot.
#[derive(Debug, PartialEq, Eq)]
pub struct Slot(u32);

/// The same as a number, for an entry of the submission queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RawTarget {
    Plain(i32),
    Direct(RawSlot),
}

/// The number of a slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct RawSlot(u32);

impl Descriptor {
    pub(super) fn raw(&self) -> RawTarget {
        match self {
            Descriptor::Plain(descriptor) => RawTarget::Plain(descriptor.as_raw_fd()),
            Descriptor::Direct(slot) => RawTarget::Direct(slot.raw()),
        }
    }
}

impl RawTarget {
    /// The lane that its operations go through.
    pub(super) fn lane(self) -> usize {
        match self {
            RawTarget::Plain(_) => 0,
            RawTarget::Direct(slot) => slot.lane(),
        }
    }
}

impl RawSlot {
    pub(super) fn lane(self) -> usize {
        (self.0 >> INDEX_BITS) as usize
    }

    pub(super) fn number(self) -> u32 {
        self.0
    }

    /// Its place in the table of its lane.
    pub(super) fn index(self) -> u32 {
        self.0 & (FILES_MOST - 1)
    }
}

/// The free slots of a file table: those never used yet, and those given back.
#[derive(Debug)]
pub struct Files {
    /// The number of the first one.
    first: u32,
    unused: u32,
    capacity: u32,
    freed: Vec<u32>,
}

impl Files {
    pub fn new(capacity: u32) -> Files {
        Files::of_lane(0, capacity)
    }

    /// Those of the lane with this number.
    pub(super) fn of_lane(lane: u32, capacity: u32) -> Files {
        assert!(lane < LANES_MOST && capacity <= FILES_MOST, "a slot's number tells its lane and its place");
        Files { first: lane << INDEX_BITS, unused: 0, capacity, freed: Vec::new() }
    }

    /// A free slot; the one given back last comes first, so the table stays dense.
    pub fn take(&mut self) -> Option<Slot> {
        if let Some(index) = self.freed.pop() {
            return Some(Slot(self.first | index));
        }
        if self.unused == self.capacity {
            return None;
        }
        self.unused += 1;
        Some(Slot(self.first | (self.unused - 1)))
    }

    /// The slot is empty in the kernel's table again.
    pub fn give_back(&mut self, slot: u32) {
        let index = RawSlot(slot).index();
        debug_assert!(self.first == slot - index && index < self.unused && !self.freed.contains(&index));
        self.freed.push(index);
    }
}

impl Slot {
    pub fn number(&self) -> u32 {
        self.0
    }

    pub(super) fn raw(&self) -> RawSlot {
        RawSlot(self.0)
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

    #[test]
    fn a_slot_tells_its_lane_and_its_place_there() {
        for lane in [0, 1, 2, LANES_MOST - 1] {
            let mut files = Files::of_lane(lane, 3);
            let slots: Vec<_> = std::iter::from_fn(|| files.take()).collect();
            let places: Vec<_> = slots.iter().map(|slot| (slot.raw().lane() as u32, slot.raw().index())).collect();
            assert_eq!(places, [(lane, 0), (lane, 1), (lane, 2)]);
            files.give_back(slots[1].number());
            assert_eq!(files.take().as_ref(), Some(&slots[1]));
        }
        let last = RawSlot(u32::MAX);
        assert_eq!((last.lane() as u32, last.index()), (LANES_MOST - 1, FILES_MOST - 1));
        assert_eq!(RawTarget::Plain(7).lane(), 0);
    }

    #[test]
    #[should_panic(expected = "a slot's number tells its lane")]
    fn there_are_no_more_lanes_than_numbers_can_tell_apart() {
        Files::of_lane(LANES_MOST, 1);
    }
}
