//! A worker: the thread of one core. It waits, tells its shard what happened and what time it is, and carries out what the
//! shard wants.
//!
//! ```text
//!   listener --> acceptor --+                             +--> the ring: send, receive, close
//!                           v                             |
//!   ring -----> completions --+                           |
//!   mailbox --> letters ------+--> turn: its shard --> effects
//!   clock ----> on_time ------+                           |
//!                                                         +--> mailboxes of siblings, the bus, tasks that asked
//!   pace: whether to wait in the ring for more, or to sleep until its signal
//!
//!   On the same thread: the tasks of the API and of the cluster.
//! ```

mod acceptor;
mod around;
mod clock;
mod completions;
mod effects;
mod listener;
mod operations;
mod outside;
mod pace;
mod process;
mod space;
mod table;
mod turn;

use std::collections::VecDeque;
use std::io;
use std::panic::resume_unwind;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use rustix::thread::{CpuSet, sched_setaffinity};

use crate::app::Application;
use crate::bus::{Bus, NoBus};
use crate::capacity::Capacity;
use crate::mailbox::{Mailbox, Postbox};
use crate::ring::{self, Kernel, Ring, RingError, RingOptions, Signal};
use crate::shard::{EngineSettings, Entropy, Heir, Remains, ShardNumber, ShardParts};

use process::Process;

pub use clock::Clock;
pub use listener::{Listener, Sharing};
pub use outside::Outside;
pub use process::{Dispatch, Reception};
pub use space::{is_space_limited, reserve, reserved};
pub use table::Table;
pub use turn::{Then, Turned, Worker};

/// What a worker is made of, to be turned into one on its own thread.
pub struct WorkerParts<A> {
    pub settings: Arc<EngineSettings>,
    /// Shared by all workers.
    pub capacity: Arc<Capacity>,
    pub place: ShardNumber,
    pub app: A,
    pub listener: Listener,
    pub mailbox: Arc<Mailbox>,
    /// The mailboxes of all workers, by number.
    pub siblings: Vec<Postbox>,
    /// The same for all workers: times travel between them.
    pub clock: Clock,
    pub ring: RingOptions,
    /// The processor to run on.
    pub processor: Option<usize>,
    /// What shards of the process before have left, and whether this one is as they were.
    pub left: (Arc<[Remains]>, Heir),
}

/// What a worker's tasks are to it: they live on the same thread.
pub struct Surroundings {
    pub reception: Reception,
    pub dispatch: Dispatch,
    pub bus: Box<dyn Bus>,
}

impl Default for Surroundings {
    /// Nobody takes over connections, and there is no bus.
    fn default() -> Surroundings {
        Surroundings {
            reception: Box::new(|descriptor, _| drop(descriptor)),
            dispatch: Box::new(|_, descriptor, _| drop(descriptor)),
            bus: Box::new(NoBus),
        }
    }
}

/// A worker could not run.
#[derive(Debug)]
pub enum WorkerError {
    Ring(RingError),
    /// No address space for its tables.
    Memory,
    Io(io::Error),
}

impl std::fmt::Display for WorkerError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            WorkerError::Ring(error) => error.fmt(f),
            WorkerError::Memory => f.write_str("no address space for the tables of a worker"),
            WorkerError::Io(error) => write!(f, "the worker's events failed: {error}"),
        }
    }
}

impl std::error::Error for WorkerError {}

/// Entries of the ring that the runtime has for itself; nothing of ours goes through it.
const RUNTIME_ENTRIES: u32 = 256;

/// What a worker has of the kernel.
pub struct Trial {
    _ring: Ring,
    _runtime: tokio_uring::Runtime,
}

/// Sets up on this thread what a worker has, without running one.
pub fn try_out(options: &RingOptions) -> Result<Trial, WorkerError> {
    let (ring, runtime) = set_up(options)?;
    Ok(Trial { _ring: ring, _runtime: runtime })
}

/// Bytes that count against RLIMIT_MEMLOCK for each worker, on kernels that count rings.
pub fn locked_bytes(options: &RingOptions) -> u64 {
    options.locked_bytes() + ring::queue_bytes(RUNTIME_ENTRIES, 2 * RUNTIME_ENTRIES)
}

/// A process that has just ended gives its locked memory back a little later, and a kernel whose memory is full of files, or in
/// pieces, has some when it is asked again, or for less.
const MEMORY_ATTEMPTS: u32 = 10;
const MEMORY_PAUSE: Duration = Duration::from_millis(50);

fn set_up(options: &RingOptions) -> Result<(Ring, tokio_uring::Runtime), WorkerError> {
    let mut options = *options;
    for _ in 1..MEMORY_ATTEMPTS {
        match set_up_once(&options) {
            Err(WorkerError::Ring(RingError::Memory)) => thread::sleep(MEMORY_PAUSE),
            result => return result,
        }
        // Where a limit is reached, who runs it is to know: what fits below may be too little later.
        if !ring::is_memory_limited() {
            options = options.smaller();
        }
    }
    set_up_once(&options)
}

fn set_up_once(options: &RingOptions) -> Result<(Ring, tokio_uring::Runtime), WorkerError> {
    // Before the runtime, whose errors say less.
    let ring = Ring::new(options).map_err(WorkerError::Ring)?;
    let runtime = tokio_uring::Runtime::new(tokio_uring::builder().entries(RUNTIME_ENTRIES));
    Ok((ring, runtime.map_err(|error| WorkerError::Ring(ring::explain(error)))?))
}

/// Turns, and time, without a pause before the other tasks of the core get their turn.
const TURNS_IN_A_ROW: u32 = 4;
const TIME_IN_A_ROW: Duration = Duration::from_millis(1);

/// Runs a worker on this thread until its mailbox says that it is over, and says what is left of its shard. `make_surroundings` is called within the runtime.
pub fn run<A: Application + 'static>(
    parts: WorkerParts<A>,
    make_surroundings: impl FnOnce() -> Surroundings,
) -> Result<Remains, WorkerError> {
    if let Some(processor) = parts.processor {
        let mut only = CpuSet::new();
        only.set(processor);
        // Where that is not allowed, the scheduler decides as well as it can.
        let _ = sched_setaffinity(None, &only);
    }
    let (ring, runtime) = set_up(&parts.ring)?;
    runtime.block_on(async {
        let shard = ShardParts {
            settings: parts.settings,
            capacity: Arc::clone(&parts.capacity),
            place: parts.place,
            app: parts.app,
            entropy: Box::new(OsEntropy),
        };
        let (mut shard, table) = space::make(shard, parts.clock.now())?;
        let (left, heir) = &parts.left;
        shard.restore(left, *heir);
        let surroundings = make_surroundings();
        let process = Process {
            mailbox: parts.mailbox,
            letters: VecDeque::new(),
            siblings: parts.siblings,
            reception: surroundings.reception,
            dispatch: surroundings.dispatch,
            bus: surroundings.bus,
            clock: parts.clock,
        };
        let worker = Worker::new(ring, shard, table, parts.listener.into(), process, parts.capacity);
        // A task among those of the core, so that they take turns.
        let driven = tokio::task::spawn_local(drive(worker));
        driven.await.unwrap_or_else(|panicked| resume_unwind(panicked.into_panic())).map_err(WorkerError::Io)
    })
}

async fn drive<A: Application>(mut worker: Worker<A, Ring, Process>) -> io::Result<Remains> {
    let signal = Signal::new()?;
    worker.kernel.signal(&signal)?;
    worker.kernel.signal_off();
    let mut in_a_row = 0;
    let mut since = Instant::now();
    loop {
        let turned = worker.turn();
        if worker.is_done() {
            return Ok(worker.shard.remains());
        }
        let then = worker.go_on(turned);
        if turned == Turned::Busy {
            in_a_row += 1;
            if in_a_row == TURNS_IN_A_ROW || since.elapsed() > TIME_IN_A_ROW {
                in_a_row = 0;
                tokio::task::yield_now().await;
                since = Instant::now();
            }
            continue;
        }
        in_a_row = 0;
        if then == Then::Turn {
            continue;
        }
        // From here on mail and completions signal; what came before is seen by one more look.
        worker.outside.mailbox.fall_asleep();
        worker.kernel.signal_on();
        worker.kernel.enter(0, None);
        if !worker.kernel.has_work() && !worker.outside.has_mail() {
            sleep(&signal, &worker.outside.mailbox, worker.deadline()).await?;
        }
        worker.kernel.signal_off();
        worker.outside.mailbox.wake_up();
        worker.kernel.enter(0, None);
        since = Instant::now();
    }
}

/// Awaits what ends a worker's sleep: a completion, mail, or its time.
async fn sleep(signal: &Signal, mailbox: &Mailbox, deadline: Option<Instant>) -> io::Result<()> {
    let woken = async {
        tokio::select! {
            result = signal.wait() => result,
            () = mailbox.posted() => Ok(()),
        }
    };
    match deadline {
        None => woken.await,
        // Time being up is as good a reason to turn as any.
        Some(deadline) => tokio::time::timeout_at(deadline.into(), woken).await.unwrap_or(Ok(())),
    }
}

/// The operating system's randomness.
struct OsEntropy;

impl Entropy for OsEntropy {
    #[expect(clippy::expect_used, reason = "there are no ids without randomness")]
    fn fill(&mut self, bytes: &mut [u8]) {
        getrandom::fill(bytes).expect("the operating system has random bytes");
    }
}
