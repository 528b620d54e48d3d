//! `RingOptions`: the sizes of a ring and of each of its lanes.

use super::buffers;
use super::files::{FILES_MOST, LANES_MOST};

/// Sizes of one ring.
#[derive(Clone, Copy, Debug)]
pub struct RingOptions {
    /// Submission entries; more in one turn are submitted in several calls.
    pub submissions: u32,
    /// Completion entries that the kernel holds before it falls back to a slower list.
    pub completions: u32,
    /// Slots of each file table; the kernel refuses more than RLIMIT_NOFILE.
    pub files: u32,
    /// File tables at the most, the first one included: another one is set up when all are full.
    pub tables_max: u32,
    /// Receive buffers at the most, a power of two; few are in use until a receive finds none.
    pub buffers: u16,
    pub buffer_bytes: usize,
}

/// Receive buffers of a lane behind the first at the most.
const LATER_BUFFERS_MAX: u16 = 128;

impl RingOptions {
    /// Sizes for a core with this many connections, where a table may have so many slots, and there may be so many tables.
    pub fn for_connections(connections: usize, files_max: usize, tables_max: usize) -> RingOptions {
        let small = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
        let files = small(connections.min(files_max)).clamp(1, FILES_MOST);
        RingOptions {
            submissions: 4096,
            completions: 65_536,
            files,
            tables_max: small(connections).div_ceil(files).min(small(tables_max)).clamp(1, LANES_MOST),
            buffers: 512,
            buffer_bytes: 2048,
        }
    }

    /// The next smaller ring, for a machine whose memory is in pieces: the kernel wants the queue of completions in one, and its
    /// slower list holds what finds no room there.
    pub fn smaller(self) -> RingOptions {
        let least = self.completions.min(2 * self.submissions);
        RingOptions { completions: (self.completions / 2).max(least), ..self }
    }

    /// Sizes of a lane behind the first, through which nothing goes but what comes and leaves on the settled connections of its
    /// table: queues for a fraction of them at once. Some kernels count them against RLIMIT_MEMLOCK.
    pub(super) fn of_later_lane(self) -> RingOptions {
        let completions = (self.files / 8).next_power_of_two().clamp(256, 65_536).min(self.completions);
        let submissions = (completions / 8).clamp(64, 4096).min(self.submissions);
        // The allocator may give memory that was in use: then a pool is paid for as it is made.
        RingOptions { submissions, completions, buffers: self.buffers.min(LATER_BUFFERS_MAX), ..self }
    }

    /// The next smaller sizes of a lane behind the first; `None`: there are none that would do.
    pub(super) fn smaller_lane(self) -> Option<RingOptions> {
        let (submissions, completions) = (self.submissions / 2, self.completions / 2);
        (submissions >= 32).then_some(RingOptions { submissions, completions, ..self })
    }

    /// Slots of all tables.
    pub fn slots(&self) -> u64 {
        u64::from(self.files) * u64::from(self.tables_max)
    }

    /// Bytes of a ring that count against RLIMIT_MEMLOCK, on kernels that count them.
    pub fn locked_bytes(&self) -> u64 {
        let lane = |options: &RingOptions| {
            queue_bytes(options.submissions, options.completions) + buffers::ring_bytes(options.buffers)
        };
        lane(self) + u64::from(self.tables_max - 1) * lane(&self.of_later_lane())
    }

    /// Address space of what lanes behind the first add to it.
    pub fn later_bytes(&self) -> usize {
        let later = self.of_later_lane();
        let queues = usize::try_from(queue_bytes(later.submissions, later.completions)).unwrap_or(usize::MAX);
        let lane = queues.saturating_add(usize::from(later.buffers) * later.buffer_bytes);
        lane.saturating_mul(self.tables_max as usize - 1)
    }
}

/// Bytes of the two queues of a ring, in whole pages each: `struct io_rings` with completions and an index of submissions,
/// and the submissions.
pub fn queue_bytes(submissions: u32, completions: u32) -> u64 {
    const HEADER_BYTES: u64 = 320;
    let (submissions, completions) = (u64::from(submissions), u64::from(completions));
    let pages = |bytes: u64| bytes.next_multiple_of(buffers::PAGE_BYTES as u64);
    pages(HEADER_BYTES + completions * 16 + submissions * 4) + pages(submissions * 64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_a_table_holds_all_there_is_one_and_else_as_many_as_it_takes() {
        let sizes = |connections, files_max, tables_max| {
            let options = RingOptions::for_connections(connections, files_max, tables_max);
            (options.files, options.tables_max)
        };
        assert_eq!(sizes(16, 20_000, 99), (16, 1));
        assert_eq!(sizes(20_000, 20_000, 99), (20_000, 1));
        assert_eq!(sizes(20_001, 20_000, 99), (20_000, 2));
        assert_eq!(sizes(1_000_000, 1_048_576, 99), (1_000_000, 1));
        assert_eq!(sizes(4_000_000, 20_000, 999), (20_000, 200));
        assert_eq!(sizes(4_000_000, 20_000, 9), (20_000, 9));
        // The kernel has no longer tables, whatever the limit is, and numbers no more.
        assert_eq!(sizes(4_000_000, usize::MAX, 99), (1 << 20, 4));
        assert_eq!(sizes(usize::MAX, 1, usize::MAX), (1, LANES_MOST));
        assert_eq!(sizes(0, 0, 0), (1, 1));
    }

    #[test]
    fn later_lanes_are_as_small_as_their_tables() {
        let later = |files_max| {
            let later = RingOptions::for_connections(4_000_000, files_max, 4096).of_later_lane();
            (later.submissions, later.completions, later.files)
        };
        assert_eq!(later(512), (64, 256, 512));
        assert_eq!(later(20_000), (512, 4096, 20_000));
        assert_eq!(later(1 << 20), (4096, 65_536, 1 << 20));
    }
}
