//! Tries whether all shards could have the address space that they reserve, and says in one sentence why not.

use std::io::{self, ErrorKind};
use std::iter::repeat_n;
use std::sync::mpsc;
use std::thread;

use rustix::process::{Resource, getrlimit};
use sockring::capacity::CapacityLimits;
use sockring::config::Settings;
use sockring::worker;

use crate::budget::{GUESTS_MOST, descriptors_allowed, ring_options};

/// Of each thread what comes from the kernel alone: its stack, its rings and their receive buffers.
const THREAD_BYTES: usize = 8 << 20;
/// What the C library reserves for each thread that asks it for memory once.
const THREAD_HEAP_BYTES: usize = 64 << 20;
/// What has to be left when all have theirs: others take some of it before the last worker stands.
const SPARE_BYTES: usize = 192 << 20;
/// The program, and what is lost between blocks.
const OWN_BYTES: usize = 64 << 20;
/// What the allocator may take at once, and leave unused.
const STEP_BYTES: usize = 1 << 30;

/// Takes what all workers reserve, in the order in which they do, and drops it. Whoever has had it once has it again: so no
/// worker finds out in the middle of its start. Returns what that is, in words.
pub(crate) fn try_all(settings: &Settings) -> Result<String, String> {
    let blocks = blocks(settings);
    let is_enough = |allowed| {
        // A first step that fails is made a smaller one.
        let step_bytes = if allowed > STEP_BYTES { STEP_BYTES } else { 0 };
        need(settings, step_bytes) <= allowed
    };
    let is_free = !worker::is_space_limited();
    if is_free || allowed().is_none_or(is_enough) && try_blocks(settings.shards, &blocks) {
        return Ok(reserving(settings, need(settings, 0)));
    }
    Err(shortage(settings).unwrap_or_else(|| {
        format!(
            "{}, and this machine refuses it: raise RLIMIT_DATA (ulimit -d, or LimitDATA= in systemd), set \
             vm.overcommit_memory to 0 or 1, or lower {}",
            reserving(settings, need(settings, 0)),
            lower(settings)
        )
    }))
}

/// What to say where the limit of address space is below what certainly does.
pub(crate) fn shortage(settings: &Settings) -> Option<String> {
    let need = need(settings, 0);
    // Between the two it depends on how the allocator's steps fall.
    let certain = need.saturating_add(STEP_BYTES);
    let allowed = allowed().filter(|allowed| *allowed < certain)?;
    Some(format!(
        "{}, and RLIMIT_AS allows {}: raise it (ulimit -v, or LimitAS= in systemd), or lower {}",
        reserving(settings, if allowed < need { need } else { certain }),
        tenths(allowed.saturating_mul(10) >> 30),
        lower(settings)
    ))
}

/// Why a thread could not be started: for want of room for its stack, as a rule.
pub(crate) fn explain(error: &io::Error, settings: &Settings) -> String {
    let shortage = if error.kind() == ErrorKind::WouldBlock { shortage(settings) } else { None };
    shortage.unwrap_or_else(|| format!("a thread could not be started: {error}"))
}

fn allowed() -> Option<usize> {
    getrlimit(Resource::As).current.map(|allowed| usize::try_from(allowed).unwrap_or(usize::MAX))
}

/// What each shard has of the allocator.
fn blocks(settings: &Settings) -> Vec<usize> {
    let limits = CapacityLimits { guests_max: GUESTS_MOST, ..settings.capacity };
    worker::reserved(&limits)
}

/// What all shards and their threads take, where the allocator begins with this much.
fn need(settings: &Settings, step_bytes: usize) -> usize {
    let shards = usize::from(settings.shards);
    let tables = blocks(settings).iter().sum::<usize>().saturating_mul(shards).max(step_bytes);
    let lanes = ring_options(settings, descriptors_allowed()).later_bytes().saturating_mul(shards);
    tables.saturating_add(lanes).saturating_add((THREAD_BYTES + THREAD_HEAP_BYTES) * shards + OWN_BYTES + SPARE_BYTES)
}

fn reserving(settings: &Settings, bytes: usize) -> String {
    let bytes = tenths(bytes.saturating_mul(10).div_ceil(1 << 30));
    match settings.shards {
        1 => format!("1 shard reserves {bytes} of address space"),
        shards => format!("{shards} shards reserve {bytes} of address space"),
    }
}

fn lower(settings: &Settings) -> &'static str {
    if settings.shards == 1 { "clients_max or connections_max" } else { "shards, clients_max or connections_max" }
}

/// Whether each of so many threads could have these blocks, all at once.
fn try_blocks(shards: u16, blocks: &[usize]) -> bool {
    thread::scope(|scope| {
        let (word, outcomes) = mpsc::channel();
        let mut gates = Vec::new();
        let workers = repeat_n((THREAD_BYTES, blocks), usize::from(shards));
        for (stack_bytes, blocks) in workers.chain([(SPARE_BYTES, &[][..])]) {
            let (gate, entry) = mpsc::channel::<()>();
            let word = word.clone();
            let trial = move || {
                // Once all threads are there: the allocator leaves nothing for those that come behind it.
                if entry.recv().is_ok() {
                    let taken = worker::reserve(blocks);
                    let _ = word.send(taken.is_some());
                    // Ends when the other side is dropped.
                    let _ = entry.recv();
                }
            };
            let builder = thread::Builder::new().name("trial".to_owned()).stack_size(stack_bytes);
            if builder.spawn_scoped(scope, trial).is_err() {
                return false;
            }
            gates.push(gate);
        }
        for gate in &gates {
            let _ = gate.send(());
        }
        outcomes.iter().take(gates.len()).all(|has_all| has_all)
    })
}

/// What is needed is rounded up before, and what there is down.
fn tenths(of_gibibytes: usize) -> String {
    format!("{}.{} GiB", of_gibibytes / 10, of_gibibytes % 10)
}
