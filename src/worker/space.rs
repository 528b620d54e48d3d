//! The address space that a worker reserves, and what comes of there being too little of it.

use std::hint::black_box;
use std::sync::{Mutex, PoisonError};

use rustix::process::{Resource, getrlimit};

use crate::app::Application;
use crate::capacity::CapacityLimits;
use crate::shard::{self, Now, Shard, ShardParts};

use super::WorkerError;
use super::table::Table;
use crate::ring::Ring;

/// Of each worker what grows with its work, to begin with.
const WORK_BYTES: usize = 8 << 20;

/// The blocks of address space that each worker reserves within these limits, in bytes.
pub fn reserved(limits: &CapacityLimits) -> Vec<usize> {
    let mut blocks = shard::reserved(limits);
    blocks.extend([Table::<Ring>::reserved(limits.all_connections_max()), WORK_BYTES]);
    blocks
}

/// Takes such blocks, which nobody touches. `None`: there is no room for all of them.
pub fn reserve(blocks: &[usize]) -> Option<Vec<Vec<u8>>> {
    let reserve = |bytes: &usize| {
        let mut block = Vec::new();
        block.try_reserve_exact(*bytes).ok()?;
        // Else it might be seen that nobody does anything with it.
        Some(black_box(block))
    };
    blocks.iter().map(reserve).collect()
}

/// Whether anything on this machine refuses what is only reserved. Where nothing does, the pages that a trial leaves behind
/// are saved.
pub fn is_space_limited() -> bool {
    let overcommit = std::fs::read_to_string("/proc/sys/vm/overcommit_memory");
    let is_strict = overcommit.is_ok_and(|mode| mode.trim() == "2");
    is_strict || [Resource::As, Resource::Data].into_iter().any(|limit| getrlimit(limit).current.is_some())
}

/// One worker makes its tables at a time: what it has just found room for, no other one takes.
static TABLES: Mutex<()> = Mutex::new(());

/// A shard and the worker's table. Where there is no room for them that is an error, and not, as in the midst of either, the
/// end of the process.
pub(super) fn make<A: Application>(parts: ShardParts<A>, now: Now) -> Result<(Shard<A>, Table<Ring>), WorkerError> {
    let _turn = TABLES.lock().unwrap_or_else(PoisonError::into_inner);
    let limits = *parts.capacity.limits();
    if is_space_limited() {
        reserve(&reserved(&limits)).ok_or(WorkerError::Memory)?;
    }
    Ok((Shard::new(parts, now), Table::with_capacity(limits.all_connections_max())))
}
