//! The receive buffers of one ring: a pool that the kernel takes from and we give back to.

use std::alloc::{Layout, alloc_zeroed, dealloc};
use std::io;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU16, Ordering};

use io_uring::types::BufRingEntry;

/// The only buffer group that a ring has.
pub(super) const GROUP: u16 = 0;
pub(super) const PAGE_BYTES: usize = 4096;

/// A provided-buffer ring and the memory that it describes.
///
/// Invariant B1: both allocations live until the ring that they are registered with is gone.
/// Invariant B2: a buffer is either the kernel's (its entry lies between head and tail) or ours; `lend` takes one that a
/// completion named, and nobody touches it otherwise.
pub(super) struct Buffers {
    entries: NonNull<BufRingEntry>,
    memory: NonNull<u8>,
    count: u16,
    buffer_bytes: usize,
    tail: u16,
    /// How many are in use, the kernel's or ours; the others have never been touched.
    circulating: u16,
    is_leaked: bool,
}

/// Buffers that are in use from the start. The kernel takes them in turn, so that all of them are paid for soon.
const CIRCULATING_MIN: u16 = 64;

impl Buffers {
    /// Allocates and registers `count` buffers (a power of two) of `buffer_bytes` each.
    pub(super) fn register(ring: &io_uring::IoUring, count: u16, buffer_bytes: usize) -> io::Result<Buffers> {
        let mut buffers = Buffers::new(count, buffer_bytes)?;
        let entries = buffers.entries;
        // SAFETY: B1. `entries` is page-aligned, zeroed and `count` entries long; `Ring` drops the io_uring first.
        unsafe { ring.submitter().register_buf_ring_with_flags(entries.as_ptr() as u64, count, GROUP, 0)? };
        buffers.circulate(CIRCULATING_MIN);
        buffers.publish();
        Ok(buffers)
    }

    /// A pool that no ring knows, with nothing in it.
    fn new(count: u16, buffer_bytes: usize) -> io::Result<Buffers> {
        assert!(count.is_power_of_two() && count <= 32768 && buffer_bytes > 0 && u32::try_from(buffer_bytes).is_ok());
        let entries = allocate(entries_layout(count))?.cast::<BufRingEntry>();
        let memory = allocate(memory_layout(count, buffer_bytes))?;
        Ok(Buffers { entries, memory, count, buffer_bytes, tail: 0, circulating: 0, is_leaked: false })
    }

    /// The pool was found empty: from now on there are twice as many in use, if there are so many.
    pub(super) fn grow(&mut self) {
        self.circulate(self.circulating.saturating_mul(2));
    }

    /// Gives up the memory without freeing it, because the kernel may still write to it.
    pub(super) fn leak(&mut self) {
        self.is_leaked = true;
    }

    fn circulate(&mut self, wanted: u16) {
        let wanted = wanted.min(self.count);
        for buffer in self.circulating..wanted {
            self.give_back(buffer);
        }
        self.circulating = self.circulating.max(wanted);
    }

    pub(super) fn buffer_bytes(&self) -> usize {
        self.buffer_bytes
    }

    /// The first `length` bytes of a buffer that a completion has just named.
    pub(super) fn lend(&mut self, buffer: u16, length: usize) -> &mut [u8] {
        assert!(buffer < self.count && length <= self.buffer_bytes);
        // SAFETY: B2. The kernel has consumed the entry of this buffer and will not write to it before `give_back`; the
        // borrow of `self` keeps `give_back` away. The range lies within `memory` by the assertion.
        unsafe {
            std::slice::from_raw_parts_mut(self.memory.as_ptr().add(usize::from(buffer) * self.buffer_bytes), length)
        }
    }

    /// Puts a buffer back into the kernel's pool; it sees it after `publish`.
    pub(super) fn give_back(&mut self, buffer: u16) {
        assert!(buffer < self.count);
        let slot = usize::from(slot_of(self.tail, self.count));
        // SAFETY: B2. `slot` is below `count`; the kernel reads entries only up to the published tail, which is before
        // this one, because at most `count` buffers exist and this one was ours.
        unsafe {
            let entry = &mut *self.entries.as_ptr().add(slot);
            entry.set_addr(self.memory.as_ptr().add(usize::from(buffer) * self.buffer_bytes) as u64);
            entry.set_len(u32::try_from(self.buffer_bytes).unwrap_or(u32::MAX));
            entry.set_bid(buffer);
        }
        self.tail = self.tail.wrapping_add(1);
    }

    /// Makes all buffers given back visible to the kernel.
    pub(super) fn publish(&mut self) {
        // SAFETY: B1. The tail lies in the first entry's reserved field, which is aligned for u16 and valid for as long
        // as `entries` is; the kernel only reads it.
        let tail = unsafe { &*BufRingEntry::tail(self.entries.as_ptr()).cast::<AtomicU16>() };
        tail.store(self.tail, Ordering::Release);
    }
}

impl Drop for Buffers {
    fn drop(&mut self) {
        if self.is_leaked {
            return;
        }
        // SAFETY: B1. `Ring` has dropped its io_uring before its buffers, and no operation is under way (D1), so the kernel
        // no longer knows them; the layouts are those of `register`.
        unsafe {
            dealloc(self.entries.as_ptr().cast(), entries_layout(self.count));
            dealloc(self.memory.as_ptr(), memory_layout(self.count, self.buffer_bytes));
        }
    }
}

/// Bytes that a pool of `count` buffers pins.
pub(super) fn ring_bytes(count: u16) -> u64 {
    (usize::from(count) * size_of::<BufRingEntry>()).next_multiple_of(PAGE_BYTES) as u64
}

fn slot_of(tail: u16, count: u16) -> u16 {
    tail & (count - 1)
}

fn entries_layout(count: u16) -> Layout {
    page_aligned(usize::from(count) * size_of::<BufRingEntry>())
}

fn memory_layout(count: u16, buffer_bytes: usize) -> Layout {
    page_aligned(usize::from(count) * buffer_bytes)
}

fn page_aligned(bytes: usize) -> Layout {
    let Ok(layout) = Layout::from_size_align(bytes, PAGE_BYTES) else {
        unreachable!("a pool of at most 32768 buffers fits the address space")
    };
    layout
}

fn allocate(layout: Layout) -> io::Result<NonNull<u8>> {
    // SAFETY: the layout is not empty, `register` asserts that count and size are not 0.
    let memory = unsafe { alloc_zeroed(layout) };
    NonNull::new(memory).ok_or(io::ErrorKind::OutOfMemory.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the kernel would find in the ring from `head` on, up to the tail that it can see: buffers, by their addresses.
    fn visible(buffers: &Buffers, head: u16) -> Vec<u16> {
        // SAFETY: B1. An entry below `count` lies within the allocation, and nobody else touches it.
        let entry_at = |slot: u16| unsafe { &*buffers.entries.as_ptr().add(usize::from(slot)) };
        // SAFETY: B1. So does the tail.
        let tail = unsafe { &*BufRingEntry::tail(buffers.entries.as_ptr()).cast::<AtomicU16>() };
        let mut found = Vec::new();
        let mut at = head;
        while at != tail.load(Ordering::Acquire) {
            let entry = entry_at(slot_of(at, buffers.count));
            let offset = entry.addr() as usize - buffers.memory.as_ptr() as usize;
            assert_eq!((offset / buffers.buffer_bytes, offset % buffers.buffer_bytes), (usize::from(entry.bid()), 0));
            assert_eq!(entry.len() as usize, buffers.buffer_bytes);
            found.push(entry.bid());
            at = at.wrapping_add(1);
        }
        found
    }

    #[test]
    fn buffers_go_round_without_touching_each_other() {
        let mut buffers = Buffers::new(4, 24).unwrap();
        buffers.circulate(2);
        assert_eq!(visible(&buffers, 0), [0; 0], "nothing is given before it is published");
        buffers.publish();
        assert_eq!(visible(&buffers, 0), [0, 1]);
        buffers.lend(1, 24).fill(1);
        buffers.lend(0, 24).fill(7);
        assert!(buffers.lend(1, 24).iter().all(|byte| *byte == 1));
        buffers.give_back(1);
        buffers.grow();
        buffers.publish();
        assert_eq!(visible(&buffers, 2), [1, 2, 3]);
    }

    #[test]
    fn buffers_go_round_over_the_end_of_what_a_tail_counts() {
        let mut buffers = Buffers::new(4, 24).unwrap();
        buffers.tail = u16::MAX - 1;
        buffers.circulate(4);
        buffers.publish();
        assert_eq!(visible(&buffers, u16::MAX - 1), [0, 1, 2, 3]);
        buffers.lend(0, 3).fill(9);
        buffers.give_back(0);
        buffers.publish();
        assert_eq!((visible(&buffers, u16::MAX), buffers.lend(0, 4)), (vec![1, 2, 3, 0], &mut [9, 9, 9, 0][..]));
    }

    #[test]
    fn the_tail_wraps_over_the_ring() {
        assert_eq!([0, 1, 3, 4, 7, u16::MAX].map(|tail| slot_of(tail, 4)), [0, 1, 3, 0, 3, 3]);
    }
}
