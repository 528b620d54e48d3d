//! io_uring with a safe face: accept, watch, receive, send, shut down, cancel and close, by token. All `unsafe` is in here.
//!
//! ```text
//!   worker:  accept, watch, receive, send ...             completions, by token
//!              |                                              ^
//!              v   backlog: what finds no room                |
//!            submission queue --> kernel ----------> completion queue
//!                                 |  |  |
//!                                 |  |  +-- buffers   lent for receives, back when read
//!                                 |  +----- flight    bytes lent for sends, until the last completion
//!                                 +-------- files     the table of direct descriptors
//! ```
//!
//! The invariants that the unsafe blocks lean on:
//! - R1: the io_uring is dropped before the memory that it knows (field order).
//! - R2: one thread submits (`Ring` is not `Send`), so the queues have one producer and one consumer.
//! - B1, B2: receive buffers, see `buffers`.
//! - F1: bytes under way, see `flight`.
//! - D1: a ring that is dropped ends what is under way and waits for it. What the kernel does not let go of is leaked.
//! - An operation on a wrong or closed descriptor ends in an error, never in memory: entries name no other memory than the
//!   pool, the flight and the byte that looks write.
#![allow(unsafe_code)]

mod backlog;
mod buffers;
mod files;
mod flight;
mod kernel;
mod probe;
mod sending;
mod signal;
mod token;
mod winding_up;

use std::cell::UnsafeCell;
use std::collections::{HashMap, VecDeque};
use std::io;
use std::marker::PhantomData;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, AsRawFd, FromRawFd, IntoRawFd, OwnedFd, RawFd};
use std::time::Duration;

use io_uring::{IoUring, cqueue, opcode, squeue, types};

use backlog::{Backlog, SubmissionQueue};
use buffers::Buffers;
use files::RawTarget;
use token::{Operation, pack, unpack};

pub use files::{Descriptor, Files, Slot};
pub use flight::{Flight, SendBytes, SendState};
pub use kernel::{Armed, Behind, Completion, DescriptorOf, Hit, Kernel, Patience, Peeked, Peer, ReceiveError};
pub use probe::{RingError, explain, is_memory_limited, is_new_enough, requirements};
pub use signal::Signal;
pub use token::{GENERATION_MASK, Token};

/// Sizes of one ring.
#[derive(Clone, Copy, Debug)]
pub struct RingOptions {
    /// Submission entries; more in one turn are submitted in several calls.
    pub submissions: u32,
    /// Completion entries that the kernel holds before it falls back to a slower list.
    pub completions: u32,
    /// Slots of the file table; the kernel refuses more than RLIMIT_NOFILE.
    pub files: u32,
    /// Receive buffers at the most, a power of two; few are in use until a receive finds none.
    pub buffers: u16,
    pub buffer_bytes: usize,
}

impl RingOptions {
    /// Sizes for a core with this many connections.
    pub fn for_connections(connections: usize) -> RingOptions {
        RingOptions {
            submissions: 4096,
            completions: 65_536,
            files: u32::try_from(connections).unwrap_or(u32::MAX),
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

    /// Bytes of a ring that count against RLIMIT_MEMLOCK, on kernels that count them.
    pub fn locked_bytes(&self) -> u64 {
        queue_bytes(self.submissions, self.completions) + buffers::ring_bytes(self.buffers)
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

/// One io_uring with its pool of receive buffers, its file table and its sends under way.
pub struct Ring {
    // Dropped first: R1.
    uring: IoUring,
    buffers: Buffers,
    /// A receive has found no buffer.
    is_starved: bool,
    flight: Flight<RawTarget>,
    /// Sends of it for which there is room now.
    resumed: VecDeque<u32>,
    /// What the kernel has not taken yet.
    backlog: Backlog<squeue::Entry>,
    /// Operations whose last completion has still to be taken.
    under_way: usize,
    /// Where looks put the byte that they see. Nobody reads it.
    seen: Box<UnsafeCell<u8>>,
    /// What was started since completions were last taken: sends, which as a rule complete as they are submitted, and others.
    sends_started: u32,
    others_started: u32,
    files: Files,
    /// Slots whose close is under way, by its user data. They are free when it has completed.
    closing: HashMap<u64, u32>,
    /// R2.
    not_send: PhantomData<*const ()>,
}

impl Ring {
    /// Sets up a ring for this thread.
    pub fn new(options: &RingOptions) -> Result<Ring, RingError> {
        let mut builder = IoUring::<squeue::Entry>::builder();
        builder.setup_cqsize(options.completions).setup_submit_all();
        builder.setup_single_issuer().setup_defer_taskrun().setup_taskrun_flag();
        let uring = builder.build(options.submissions).map_err(probe::explain)?;
        let at = |operation| {
            move |error: io::Error| match error.kind() {
                io::ErrorKind::OutOfMemory => RingError::Memory,
                _ => RingError::Setup(operation, error),
            }
        };
        uring.submitter().register_files_sparse(options.files).map_err(|error| match error.raw_os_error() {
            Some(libc::EMFILE) => RingError::Files,
            _ => RingError::Setup("registering the file table", error),
        })?;
        let buffers = Buffers::register(&uring, options.buffers, options.buffer_bytes)
            .map_err(at("registering the receive buffers"))?;
        Ok(Ring {
            uring,
            buffers,
            is_starved: false,
            flight: Flight::default(),
            resumed: VecDeque::new(),
            backlog: Backlog::new(),
            under_way: 0,
            seen: Box::new(UnsafeCell::new(0)),
            sends_started: 0,
            others_started: 0,
            files: Files::new(options.files),
            closing: HashMap::new(),
            not_send: PhantomData,
        })
    }

    /// Signals this eventfd when completions come while signals are on.
    pub fn signal(&mut self, event: &impl AsFd) -> io::Result<()> {
        self.uring.submitter().register_eventfd(event.as_fd().as_raw_fd())
    }

    /// What came before this call is not signalled: `enter` lets it in.
    pub fn signal_on(&mut self) {
        self.uring.completion().enable_eventfd();
        // The kernel flags what it defers, and then looks whether to signal: of the two looks one sees the other's store.
        std::sync::atomic::fence(std::sync::atomic::Ordering::SeqCst);
    }

    pub fn signal_off(&mut self) {
        self.uring.completion().disable_eventfd();
    }

    /// Whether the kernel has put work off until the next call.
    fn has_deferred(&mut self) -> bool {
        let submission = self.uring.submission();
        submission.taskrun() || submission.cq_overflow()
    }

    fn dispatch(&mut self, entry: &cqueue::Entry, handle: &mut impl FnMut(Completion<'_>)) {
        let armed = if cqueue::more(entry.flags()) { Armed::Still } else { Armed::Ended };
        self.under_way -= usize::from(armed == Armed::Ended);
        let Some((operation, token)) = unpack(entry.user_data()) else { return };
        match operation {
            Operation::Accept => handle(Completion::Accepted(accepted(entry.result()), armed)),
            Operation::CancelAccept => handle(Completion::AcceptCancelled(hit(entry.result()))),
            Operation::Watch => {
                let is_ended = entry.result() & POLL_ENDED != 0;
                handle(Completion::Readable(token, armed, if is_ended { Peer::Ended } else { Peer::Open }));
            }
            Operation::Receive => self.dispatch_receive(token, entry, handle),
            Operation::Look => {
                let found = if entry.result() < 0 { Peeked::Nothing } else { Peeked::Something };
                handle(Completion::Looked(token, found));
            }
            Operation::Send => self.on_sent(token, entry.result(), handle),
            Operation::Room => self.on_room(token, entry.result(), handle),
            Operation::Shutdown => handle(Completion::ShutDown(token)),
            Operation::Cancel => handle(Completion::Cancelled(token, hit(entry.result()))),
            Operation::Close => {
                if let Some(slot) = self.closing.remove(&entry.user_data()) {
                    self.files.give_back(slot);
                }
                handle(Completion::Closed(token));
            }
        }
    }

    fn dispatch_receive(&mut self, token: Token, entry: &cqueue::Entry, handle: &mut impl FnMut(Completion<'_>)) {
        let buffer = cqueue::buffer_select(entry.flags());
        match (usize::try_from(entry.result()), buffer) {
            (Ok(length), Some(buffer)) => {
                let full = length == self.buffers.buffer_bytes();
                let behind = if full || cqueue::sock_nonempty(entry.flags()) { Behind::More } else { Behind::Unknown };
                handle(Completion::Received(token, self.buffers.lend(buffer, length), behind));
            }
            (Ok(_), None) => handle(Completion::Received(token, &mut [], Behind::Unknown)),
            (Err(_), _) => {
                let error = receive_error(-entry.result());
                self.is_starved |= error == ReceiveError::OutOfBuffers;
                handle(Completion::ReceiveFailed(token, error));
            }
        }
        if let Some(buffer) = buffer {
            self.buffers.give_back(buffer);
        }
    }

    fn push(&mut self, entry: squeue::Entry) {
        self.others_started += 1;
        self.queue(entry);
    }

    fn queue(&mut self, entry: squeue::Entry) {
        self.under_way += 1;
        self.backlog.add(entry, &mut self.uring);
    }
}

impl Kernel for Ring {
    type Socket = OwnedFd;
    type Slot = Slot;
    type Listener = OwnedFd;

    fn accept(&mut self, listener: &OwnedFd) {
        let entry = opcode::AcceptMulti::new(types::Fd(listener.as_fd().as_raw_fd())).flags(libc::SOCK_CLOEXEC).build();
        self.push(entry.user_data(pack(Operation::Accept, Token { index: 0, generation: 0 })));
    }

    fn cancel_accept(&mut self) {
        let user_data = pack(Operation::Accept, Token { index: 0, generation: 0 });
        let entry = opcode::AsyncCancel::new(user_data).build();
        self.push(entry.user_data(pack(Operation::CancelAccept, Token { index: 0, generation: 0 })));
    }

    fn watch(&mut self, descriptor: &Descriptor, token: Token) {
        let user_data = pack(Operation::Watch, token);
        let entry = match descriptor.raw() {
            RawTarget::Plain(fd) => opcode::PollAdd::new(types::Fd(fd), POLL_READABLE).multi(true).build(),
            RawTarget::Direct(slot) => opcode::PollAdd::new(types::Fixed(slot), POLL_READABLE).multi(true).build(),
        };
        self.push(entry.user_data(user_data));
    }

    fn receive(&mut self, descriptor: &Descriptor, token: Token, patience: Patience) {
        let flags = match patience {
            Patience::Wait => 0,
            Patience::DontWait => libc::MSG_DONTWAIT,
        };
        // The kernel takes address and length from the buffer that it selects.
        let entry = match descriptor.raw() {
            RawTarget::Plain(fd) => opcode::Recv::new(types::Fd(fd), std::ptr::null_mut(), 0).flags(flags),
            RawTarget::Direct(slot) => opcode::Recv::new(types::Fixed(slot), std::ptr::null_mut(), 0).flags(flags),
        };
        let entry = entry.buf_group(buffers::GROUP).build().flags(squeue::Flags::BUFFER_SELECT);
        self.push(entry.user_data(pack(Operation::Receive, token)));
    }

    fn look(&mut self, descriptor: &Descriptor, token: Token) {
        let flags = libc::MSG_PEEK | libc::MSG_DONTWAIT;
        let seen = self.seen.get();
        let entry = match descriptor.raw() {
            RawTarget::Plain(fd) => opcode::Recv::new(types::Fd(fd), seen, 1),
            RawTarget::Direct(slot) => opcode::Recv::new(types::Fixed(slot), seen, 1),
        };
        self.push(entry.flags(flags).build().user_data(pack(Operation::Look, token)));
    }

    fn send(&mut self, descriptor: &Descriptor, token: Token, bytes: SendBytes) {
        let index = self.flight.lend(token, descriptor.raw(), bytes);
        self.begin_to_send(index);
    }

    fn shut_down(&mut self, descriptor: &Descriptor, token: Token) {
        let entry = match descriptor.raw() {
            RawTarget::Plain(fd) => opcode::Shutdown::new(types::Fd(fd), libc::SHUT_WR).build(),
            RawTarget::Direct(slot) => opcode::Shutdown::new(types::Fixed(slot), libc::SHUT_WR).build(),
        };
        self.push(entry.user_data(pack(Operation::Shutdown, token)));
    }

    fn abort(&mut self, descriptor: &Descriptor, token: Token) {
        let entry = match descriptor.raw() {
            RawTarget::Plain(fd) => opcode::Shutdown::new(types::Fd(fd), libc::SHUT_RDWR).build(),
            RawTarget::Direct(slot) => opcode::Shutdown::new(types::Fixed(slot), libc::SHUT_RDWR).build(),
        };
        self.push(entry.user_data(pack(Operation::Shutdown, token)));
    }

    fn cancel_watch(&mut self, token: Token) {
        // Looks among the polls alone, and ends it on the spot.
        let entry = opcode::PollRemove::new(pack(Operation::Watch, token)).build();
        self.push(entry.user_data(pack(Operation::Cancel, token)));
    }

    fn cancel_receive(&mut self, token: Token) {
        let entry = opcode::AsyncCancel::new(pack(Operation::Receive, token)).build();
        self.push(entry.user_data(pack(Operation::Cancel, token)));
    }

    fn close(&mut self, descriptor: Descriptor, token: Token) {
        let user_data = pack(Operation::Close, token);
        let entry = match descriptor {
            Descriptor::Plain(fd) => opcode::Close::new(types::Fd(fd.into_raw_fd())).build(),
            Descriptor::Direct(slot) => {
                self.closing.insert(user_data, slot.number());
                opcode::Close::new(types::Fixed(slot.number())).build()
            }
        };
        self.push(entry.user_data(user_data));
    }

    fn settle(&mut self, descriptor: OwnedFd) -> Result<Descriptor, OwnedFd> {
        let Some(slot) = self.files.take() else { return Err(descriptor) };
        match self.uring.submitter().register_files_update(slot.number(), &[descriptor.as_raw_fd()]) {
            Ok(_) => Ok(Descriptor::Direct(slot)),
            Err(_) => {
                self.files.give_back(slot.number());
                Err(descriptor)
            }
        }
    }

    fn enter(&mut self, want: u32, timeout: Option<Duration>) {
        // Nobody waits while there is something to send in the next call.
        let (want, timeout) = if self.resumed.is_empty() { (want, timeout) } else { (0, None) };
        self.buffers.publish();
        self.backlog.refill(&mut self.uring);
        let queued = u32::try_from(self.uring.submission().len()).unwrap_or(u32::MAX);
        if queued == 0 && want == 0 && !self.has_deferred() {
            return;
        }
        let result = match timeout {
            None => {
                // SAFETY: R2; no argument is passed, so no memory is named.
                unsafe { self.uring.submitter().enter::<libc::sigset_t>(queued, want, ENTER_GETEVENTS, None) }
            }
            Some(timeout) => {
                let time = types::Timespec::from(timeout);
                let arguments = types::SubmitArgs::new().timespec(&time);
                self.uring.submitter().submit_with_args(want as usize, &arguments)
            }
        };
        match result {
            Ok(_) => {}
            Err(error) => match error.raw_os_error() {
                // Time is up; interrupted; completions must be taken first: the next turn does all of that.
                Some(libc::ETIME | libc::EINTR | libc::EBUSY | libc::EAGAIN) => {}
                _ => cannot_enter(&error),
            },
        }
    }

    fn sends_only(&self) -> Option<u32> {
        (self.others_started == 0 && self.resumed.is_empty()).then_some(self.sends_started)
    }

    fn complete(&mut self, limit: usize, mut handle: impl FnMut(Completion<'_>)) -> usize {
        (self.sends_started, self.others_started) = (0, 0);
        let mut count = 0;
        while count < limit {
            let Some(entry) = self.uring.completion().next() else { break };
            count += 1;
            self.dispatch(&entry, &mut handle);
        }
        self.resume();
        if std::mem::take(&mut self.is_starved) {
            self.buffers.grow();
        }
        self.buffers.publish();
        count
    }

    fn has_work(&mut self) -> bool {
        let is_told = self.uring.completion().is_empty() && self.resumed.is_empty();
        let is_submitted = self.uring.submission().is_empty() && self.backlog.is_empty();
        !is_told || !is_submitted || self.has_deferred()
    }

    fn drain(listener: OwnedFd) -> Vec<OwnedFd> {
        if rustix::io::ioctl_fionbio(&listener, true).is_err() {
            return Vec::new();
        }
        let accept = || rustix::net::accept_with(&listener, rustix::net::SocketFlags::CLOEXEC).ok();
        std::iter::from_fn(accept).collect()
    }

    fn peer_of(socket: &OwnedFd) -> Option<IpAddr> {
        let address = rustix::net::getpeername(socket).ok()??;
        SocketAddr::try_from(address).ok().map(|address| address.ip())
    }
}

impl Drop for Ring {
    fn drop(&mut self) {
        if !self.wind_up() {
            self.flight.leak();
            self.buffers.leak();
        }
    }
}

impl SubmissionQueue<squeue::Entry> for IoUring {
    fn push(&mut self, entry: &squeue::Entry) -> bool {
        // SAFETY: the memory that an entry names is the pool's (B1), in `flight` until its completion (F1), or `seen` (R1).
        unsafe { self.submission().push(entry).is_ok() }
    }

    fn submit(&mut self) {
        match self.submitter().submit() {
            Ok(_) => {}
            Err(error) if matches!(error.raw_os_error(), Some(libc::EINTR | libc::EBUSY | libc::EAGAIN)) => {}
            Err(error) => cannot_enter(&error),
        }
    }
}

/// A ring that cannot be entered carries nobody's bytes any more: its worker ends, and with it the process.
#[cold]
#[expect(clippy::panic, reason = "there is nothing to go on with")]
fn cannot_enter(error: &io::Error) -> ! {
    panic!("io_uring_enter failed: {error}")
}

const POLL_READABLE: u32 = (libc::POLLIN | libc::POLLRDHUP) as u32;
const POLL_ENDED: i32 = (libc::POLLRDHUP | libc::POLLHUP | libc::POLLERR) as i32;
/// IORING_ENTER_GETEVENTS
const ENTER_GETEVENTS: u32 = 1;

fn hit(result: i32) -> Hit {
    if result == 0 { Hit::Found } else { Hit::Missed }
}

fn accepted(result: RawFd) -> io::Result<OwnedFd> {
    if result < 0 {
        return Err(io::Error::from_raw_os_error(-result));
    }
    // SAFETY: a non-negative result of an accept without direct descriptors is a new descriptor that nobody else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(result) })
}

fn receive_error(errno: i32) -> ReceiveError {
    match errno {
        libc::EAGAIN => ReceiveError::WouldBlock,
        libc::ENOBUFS => ReceiveError::OutOfBuffers,
        libc::ECANCELED => ReceiveError::Cancelled,
        _ => ReceiveError::Broken(errno),
    }
}

#[cfg(test)]
mod tests;
