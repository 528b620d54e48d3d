//! io_uring with a safe face: accept, watch, receive, send, shut down, cancel and close, by token. All `unsafe` is in here.
//!
//! ```text
//!   worker:  accept, watch, receive, send ...             completions, by token
//!              |                                              ^
//!   lanes:     v   backlog: what finds no room                |        each with
//!            submission queue --> kernel ----------> completion queue
//!                                 |  |  |
//!                                 |  |  +-- buffers   lent for receives, back when read
//!                                 |  +----- files     the table of direct descriptors
//!   all lanes:                    +-------- flight    bytes lent for sends, until the last completion
//! ```
//!
//! The kernel lets a file table be as long as RLIMIT_NOFILE, and a socket's operations go through the io_uring whose table it is
//! in. So a ring has lanes: an io_uring each, one to begin with, and another when all tables are full. Their completions ring
//! one bell, and a lane is entered only if it has something to submit, or says in the memory that it shares with the kernel that
//! the kernel has something for it.
//!
//! The invariants that the unsafe blocks lean on:
//! - R1: the io_urings are dropped before the memory that they know (field order, of `Lane` and of `Ring`).
//! - R2: one thread submits (`Ring` is not `Send`), so the queues have one producer and one consumer.
//! - B1, B2: receive buffers, see `buffers`. A buffer's number means one of the lane whose completion names it.
//! - F1: bytes under way, see `flight`.
//! - D1: a ring that is dropped ends what is under way in all lanes and waits for it. What the kernel does not let go of is leaked.
//! - An operation on a wrong or closed descriptor ends in an error, never in memory: entries name no other memory than the
//!   pool, the flight and the byte that looks write.
#![allow(unsafe_code)]

mod backlog;
mod buffers;
mod files;
mod flight;
mod kernel;
mod lane;
mod options;
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
use std::os::fd::{AsFd, AsRawFd, IntoRawFd, OwnedFd};
use std::time::Duration;

use io_uring::{cqueue, opcode, squeue, types};

use files::{RawSlot, RawTarget};
use lane::{Lane, accepted};
use token::{Operation, pack, unpack};

pub use files::{Descriptor, Files, Slot};
pub use flight::{Flight, SendBytes, SendState};
pub use kernel::{Armed, Behind, Completion, DescriptorOf, Hit, Kernel, Patience, Peeked, Peer, ReceiveError};
pub use options::{RingOptions, queue_bytes};
pub use probe::{RingError, explain, is_memory_limited, is_new_enough, requirements};
pub use signal::Signal;
pub use token::{GENERATION_MASK, Token};

/// Lanes, the file tables of which are one to who settles a connection, and the sends under way.
pub struct Ring {
    // Dropped first: R1. At least one; the first is also of all that is in no file table.
    lanes: Vec<Lane>,
    flight: Flight<RawTarget>,
    /// Sends of it for which there is room now.
    resumed: VecDeque<u32>,
    /// Where looks put the byte that they see. Nobody reads it.
    seen: Box<UnsafeCell<u8>>,
    /// What was started since completions were last taken: sends, which as a rule complete as they are submitted, and others.
    sends_started: u32,
    others_started: u32,
    /// Slots whose close is under way, by its user data. They are free when it has completed.
    closing: HashMap<u64, RawSlot>,
    /// The first lane that may have a free slot.
    vacant: usize,
    /// Connections that go without a slot before another lane is tried, since the last one could not be set up.
    unsettled: u32,
    /// At which lane behind the first the next look at completions begins.
    next_lane: usize,
    options: RingOptions,
    /// What all lanes signal.
    event: Option<OwnedFd>,
    /// R2.
    not_send: PhantomData<*const ()>,
}

/// After a lane could not be set up, so many connections keep their descriptors before it is tried again.
const UNSETTLED: u32 = 1024;
/// Of the completions that are handed out at once, one in so many at least is left to the first lane.
const FIRST_LANE_SHARE: usize = 4;

impl Ring {
    /// Sets up a ring for this thread, with its first lane.
    pub fn new(options: &RingOptions) -> Result<Ring, RingError> {
        Ok(Ring {
            lanes: vec![Lane::new(options, 0)?],
            flight: Flight::default(),
            resumed: VecDeque::new(),
            seen: Box::new(UnsafeCell::new(0)),
            sends_started: 0,
            others_started: 0,
            closing: HashMap::new(),
            vacant: 0,
            unsettled: 0,
            next_lane: 0,
            options: *options,
            event: None,
            not_send: PhantomData,
        })
    }

    /// Signals this eventfd when completions come while signals are on.
    pub fn signal(&mut self, event: &impl AsFd) -> io::Result<()> {
        let event = event.as_fd().try_clone_to_owned()?;
        self.lanes.iter().try_for_each(|lane| lane.signal(event.as_raw_fd()))?;
        self.event = Some(event);
        Ok(())
    }

    /// What came before this call is not signalled: `enter` lets it in.
    pub fn signal_on(&mut self) {
        self.lanes.iter_mut().for_each(Lane::signal_on);
        // The kernel flags what it defers, and then looks whether to signal: of the two looks one sees the other's store.
        std::sync::atomic::fence(std::sync::atomic::Ordering::SeqCst);
    }

    pub fn signal_off(&mut self) {
        self.lanes.iter_mut().for_each(Lane::signal_off);
    }

    /// `false`: there are as many as there may be.
    fn add_lane(&mut self) -> Result<bool, RingError> {
        let number = u32::try_from(self.lanes.len()).unwrap_or(u32::MAX);
        if number >= self.options.tables_max.min(files::LANES_MOST) {
            return Ok(false);
        }
        let mut options = self.options.of_later_lane();
        let mut lane = loop {
            match (Lane::new(&options, number), options.smaller_lane()) {
                // Short queues are slower than long ones, and both than no table.
                (Err(RingError::Memory), Some(smaller)) => options = smaller,
                (result, _) => break result?,
            }
        };
        if let Some(event) = &self.event {
            lane.signal(event.as_raw_fd()).map_err(|error| RingError::Setup("registering the event", error))?;
            // It is a turn that settles: nobody sleeps.
            lane.signal_off();
        }
        self.lanes.push(lane);
        Ok(true)
    }

    /// A free slot of the first lane that has one.
    fn take_slot(&mut self) -> Option<Slot> {
        loop {
            while let Some(lane) = self.lanes.get_mut(self.vacant) {
                if let Some(slot) = lane.files.take() {
                    return Some(slot);
                }
                self.vacant += 1;
            }
            if self.unsettled > 0 {
                self.unsettled -= 1;
                return None;
            }
            match self.add_lane() {
                Ok(true) => {}
                Ok(false) => return None,
                Err(_) => {
                    self.unsettled = UNSETTLED;
                    return None;
                }
            }
        }
    }

    fn give_slot_back(&mut self, slot: RawSlot) {
        self.lane(slot.lane()).files.give_back(slot.number());
        self.vacant = self.vacant.min(slot.lane());
    }

    fn lane(&mut self, number: usize) -> &mut Lane {
        let Some(lane) = self.lanes.get_mut(number) else { unreachable!("slots are of lanes that there are") };
        lane
    }

    fn dispatch(&mut self, lane: usize, entry: &cqueue::Entry, handle: &mut impl FnMut(Completion<'_>)) {
        let armed = if cqueue::more(entry.flags()) { Armed::Still } else { Armed::Ended };
        let Some((operation, token)) = unpack(entry.user_data()) else { return };
        match operation {
            Operation::Accept => handle(Completion::Accepted(accepted(entry.result()), armed)),
            Operation::CancelAccept => handle(Completion::AcceptCancelled(hit(entry.result()))),
            Operation::Watch => {
                let is_ended = entry.result() & POLL_ENDED != 0;
                handle(Completion::Readable(token, armed, if is_ended { Peer::Ended } else { Peer::Open }));
            }
            Operation::Receive => self.dispatch_receive(lane, token, entry, handle),
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
                    self.give_slot_back(slot);
                }
                handle(Completion::Closed(token));
            }
        }
    }

    fn dispatch_receive(
        &mut self,
        lane: usize,
        token: Token,
        entry: &cqueue::Entry,
        handle: &mut impl FnMut(Completion<'_>),
    ) {
        let lane = self.lane(lane);
        let buffer = cqueue::buffer_select(entry.flags());
        match (usize::try_from(entry.result()), buffer) {
            (Ok(length), Some(buffer)) => {
                let full = length == lane.buffers.buffer_bytes();
                let behind = if full || cqueue::sock_nonempty(entry.flags()) { Behind::More } else { Behind::Unknown };
                handle(Completion::Received(token, lane.buffers.lend(buffer, length), behind));
            }
            (Ok(_), None) => handle(Completion::Received(token, &mut [], Behind::Unknown)),
            (Err(_), _) => {
                let error = receive_error(-entry.result());
                lane.is_starved |= error == ReceiveError::OutOfBuffers;
                handle(Completion::ReceiveFailed(token, error));
            }
        }
        if let Some(buffer) = buffer {
            lane.buffers.give_back(buffer);
        }
    }

    fn push(&mut self, lane: usize, entry: squeue::Entry) {
        self.others_started += 1;
        self.queue(lane, entry);
    }

    fn queue(&mut self, lane: usize, entry: squeue::Entry) {
        self.lane(lane).queue(entry);
    }

    /// Hands out up to `limit` completions of one lane.
    fn reap(&mut self, lane: usize, limit: usize, handle: &mut impl FnMut(Completion<'_>)) -> usize {
        let mut count = 0;
        while count < limit
            && let Some(entry) = self.lane(lane).next()
        {
            count += 1;
            self.dispatch(lane, &entry, handle);
        }
        let came = &mut self.lane(lane).came;
        *came = *came / 2 + u32::try_from(count).unwrap_or(u32::MAX / 2);
        count
    }

    /// Enters all lanes, and waits in that one through which most came lately for its share of what is wanted of all.
    fn enter_lanes(&mut self, want: u32, timeout: Option<Duration>) {
        let busiest = self.lanes.iter().enumerate().max_by_key(|(_, lane)| lane.came).map(|(number, _)| number);
        let busiest = busiest.filter(|_| want > 0);
        let (mut left, mut came) = (want, 0);
        // The first before all others: what came through them before a request did is let in as well.
        for (number, lane) in self.lanes.iter_mut().enumerate() {
            came += lane.came;
            if Some(number) != busiest {
                lane.enter(0, None);
                left = left.saturating_sub(lane.there());
            }
        }
        let Some(lane) = busiest.and_then(|busiest| self.lanes.get_mut(busiest)) else { return };
        // What is there, and what its sends bring as they are submitted, counts as it is; of the arrivals it has a share.
        let own = left.min(lane.at_once());
        let share = u64::from(left - own) * u64::from(lane.came.max(1)) / u64::from(came.max(1));
        let share = u32::try_from(share).unwrap_or(u32::MAX);
        let want = if left == own { own } else { own + share.max(1) };
        lane.enter(want, timeout);
    }
}

impl Kernel for Ring {
    type Socket = OwnedFd;
    type Slot = Slot;
    type Listener = OwnedFd;

    fn accept(&mut self, listener: &OwnedFd) {
        let entry = opcode::AcceptMulti::new(types::Fd(listener.as_fd().as_raw_fd())).flags(libc::SOCK_CLOEXEC).build();
        self.push(0, entry.user_data(pack(Operation::Accept, Token { index: 0, generation: 0 })));
    }

    fn cancel_accept(&mut self) {
        let user_data = pack(Operation::Accept, Token { index: 0, generation: 0 });
        let entry = opcode::AsyncCancel::new(user_data).build();
        self.push(0, entry.user_data(pack(Operation::CancelAccept, Token { index: 0, generation: 0 })));
    }

    fn watch(&mut self, descriptor: &Descriptor, token: Token) {
        let user_data = pack(Operation::Watch, token);
        let entry = match descriptor.raw() {
            RawTarget::Plain(fd) => opcode::PollAdd::new(types::Fd(fd), POLL_READABLE).multi(true).build(),
            RawTarget::Direct(slot) => {
                opcode::PollAdd::new(types::Fixed(slot.index()), POLL_READABLE).multi(true).build()
            }
        };
        self.push(descriptor.raw().lane(), entry.user_data(user_data));
    }

    fn receive(&mut self, descriptor: &Descriptor, token: Token, patience: Patience) {
        let flags = match patience {
            Patience::Wait => 0,
            Patience::DontWait => libc::MSG_DONTWAIT,
        };
        // The kernel takes address and length from the buffer that it selects.
        let entry = match descriptor.raw() {
            RawTarget::Plain(fd) => opcode::Recv::new(types::Fd(fd), std::ptr::null_mut(), 0).flags(flags),
            RawTarget::Direct(slot) => {
                opcode::Recv::new(types::Fixed(slot.index()), std::ptr::null_mut(), 0).flags(flags)
            }
        };
        let entry = entry.buf_group(buffers::GROUP).build().flags(squeue::Flags::BUFFER_SELECT);
        self.push(descriptor.raw().lane(), entry.user_data(pack(Operation::Receive, token)));
    }

    fn look(&mut self, descriptor: &Descriptor, token: Token) {
        let flags = libc::MSG_PEEK | libc::MSG_DONTWAIT;
        let seen = self.seen.get();
        let entry = match descriptor.raw() {
            RawTarget::Plain(fd) => opcode::Recv::new(types::Fd(fd), seen, 1),
            RawTarget::Direct(slot) => opcode::Recv::new(types::Fixed(slot.index()), seen, 1),
        };
        self.push(descriptor.raw().lane(), entry.flags(flags).build().user_data(pack(Operation::Look, token)));
    }

    fn send(&mut self, descriptor: &Descriptor, token: Token, bytes: SendBytes) {
        let index = self.flight.lend(token, descriptor.raw(), bytes);
        self.begin_to_send(index);
    }

    fn shut_down(&mut self, descriptor: &Descriptor, token: Token) {
        let entry = match descriptor.raw() {
            RawTarget::Plain(fd) => opcode::Shutdown::new(types::Fd(fd), libc::SHUT_WR).build(),
            RawTarget::Direct(slot) => opcode::Shutdown::new(types::Fixed(slot.index()), libc::SHUT_WR).build(),
        };
        self.push(descriptor.raw().lane(), entry.user_data(pack(Operation::Shutdown, token)));
    }

    fn abort(&mut self, descriptor: &Descriptor, token: Token) {
        let entry = match descriptor.raw() {
            RawTarget::Plain(fd) => opcode::Shutdown::new(types::Fd(fd), libc::SHUT_RDWR).build(),
            RawTarget::Direct(slot) => opcode::Shutdown::new(types::Fixed(slot.index()), libc::SHUT_RDWR).build(),
        };
        self.push(descriptor.raw().lane(), entry.user_data(pack(Operation::Shutdown, token)));
    }

    fn cancel_watch(&mut self, descriptor: &Descriptor, token: Token) {
        // Looks among the polls alone, and ends it on the spot.
        let entry = opcode::PollRemove::new(pack(Operation::Watch, token)).build();
        self.push(descriptor.raw().lane(), entry.user_data(pack(Operation::Cancel, token)));
    }

    fn cancel_receive(&mut self, descriptor: &Descriptor, token: Token) {
        let entry = opcode::AsyncCancel::new(pack(Operation::Receive, token)).build();
        self.push(descriptor.raw().lane(), entry.user_data(pack(Operation::Cancel, token)));
    }

    fn close(&mut self, descriptor: Descriptor, token: Token) {
        let user_data = pack(Operation::Close, token);
        let lane = descriptor.raw().lane();
        let entry = match descriptor {
            Descriptor::Plain(fd) => opcode::Close::new(types::Fd(fd.into_raw_fd())).build(),
            Descriptor::Direct(slot) => {
                self.closing.insert(user_data, slot.raw());
                opcode::Close::new(types::Fixed(slot.raw().index())).build()
            }
        };
        self.push(lane, entry.user_data(user_data));
    }

    fn settle(&mut self, descriptor: OwnedFd) -> Result<Descriptor, OwnedFd> {
        let Some(slot) = self.take_slot() else { return Err(descriptor) };
        let raw = slot.raw();
        match self.lane(raw.lane()).fill(raw.index(), descriptor.as_raw_fd()) {
            Ok(()) => Ok(Descriptor::Direct(slot)),
            Err(_) => {
                self.give_slot_back(raw);
                Err(descriptor)
            }
        }
    }

    fn enter(&mut self, want: u32, timeout: Option<Duration>) {
        // Nobody waits while there is something to send in the next call.
        let (want, timeout) = if self.resumed.is_empty() { (want, timeout) } else { (0, None) };
        match &mut *self.lanes {
            [lane] => lane.enter(want, timeout),
            _ => self.enter_lanes(want, timeout),
        }
    }

    fn sends_only(&self) -> Option<u32> {
        (self.others_started == 0 && self.resumed.is_empty()).then_some(self.sends_started)
    }

    fn complete(&mut self, limit: usize, mut handle: impl FnMut(Completion<'_>)) -> usize {
        (self.sends_started, self.others_started) = (0, 0);
        let mut count = 0;
        let later = self.lanes.len() - 1;
        // In turn, so that none waits for the others. The first lane comes last: requests come through it, and behind what came
        // on the connections that they are about.
        for offset in 0..later {
            let lane = 1 + (self.next_lane + offset) % later;
            let left = (limit - limit / FIRST_LANE_SHARE).saturating_sub(count);
            count += self.reap(lane, left, &mut handle);
        }
        self.next_lane += 1;
        count += self.reap(0, limit - count, &mut handle);
        self.resume();
        for lane in &mut self.lanes {
            if std::mem::take(&mut lane.is_starved) {
                lane.buffers.grow();
            }
            lane.buffers.publish();
        }
        count
    }

    fn has_work(&mut self) -> bool {
        !self.resumed.is_empty() || self.lanes.iter_mut().any(Lane::has_work)
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

const POLL_READABLE: u32 = (libc::POLLIN | libc::POLLRDHUP) as u32;
const POLL_ENDED: i32 = (libc::POLLRDHUP | libc::POLLHUP | libc::POLLERR) as i32;

fn hit(result: i32) -> Hit {
    if result == 0 { Hit::Found } else { Hit::Missed }
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
