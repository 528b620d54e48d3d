//! A ring with nothing around it: multishot accept into direct descriptors, multishot receive or poll, sends. The only unsafe
//! code.
//!
//! The invariants that the unsafe blocks lean on:
//! - M1: the receive buffers and their ring are leaked, so they live as long as the kernel knows them.
//! - M2: a buffer is either the kernel's or ours. It is ours from the completion that names it to `give_back`.
//! - M3: bytes that are sent are static, or those of a buffer that is ours until the send has completed.
//! - M4: one thread owns the ring, so its queues have one producer and one consumer.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use clap::ValueEnum;
use io_uring::types::BufRingEntry;
use io_uring::{IoUring, cqueue, opcode, squeue, types};

const GROUP: u16 = 0;
const BUFFERS: u16 = 4096;
pub const BUFFER_BYTES: usize = 1024;
const SUBMISSIONS: u32 = 4096;
const COMPLETIONS: u32 = 65_536;
const PAGE_BYTES: usize = 4096;
const POLL_READABLE: u32 = (libc::POLLIN | libc::POLLRDHUP) as u32;

const ACCEPT: u8 = 1;
const RECEIVE: u8 = 2;
const SEND: u8 = 3;
const CLOSE: u8 = 4;
const POLL: u8 = 5;
const NO_BUFFER: u16 = u16::MAX;

/// A receive buffer that is ours (M2). Whoever holds it gives it back, or sends it.
#[derive(Debug)]
pub struct Buffer {
    number: u16,
    pub length: usize,
}

/// What the kernel has done, by the slot of the connection.
#[derive(Debug)]
pub enum Done {
    Received(u32, Buffer),
    /// The peer has gone, or a send has failed.
    Ended(u32),
}

/// What the kernel keeps of a connection that is silent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Armed {
    /// A multishot receive: one completion per message, and the most memory.
    Receive,
    /// A multishot poll: a receive follows each edge. What comes while it runs has to wait for the next.
    Poll,
}

pub struct Bare {
    uring: IoUring,
    listener: i32,
    armed: Armed,
    entries: *mut BufRingEntry,
    memory: *mut u8,
    tail: u16,
    pending: Vec<cqueue::Entry>,
}

impl Bare {
    pub fn new(listener: &OwnedFd, files: u32, armed: Armed) -> io::Result<Bare> {
        let mut builder = IoUring::<squeue::Entry>::builder();
        builder.setup_cqsize(COMPLETIONS).setup_submit_all().setup_single_issuer().setup_defer_taskrun();
        let uring = builder.build(SUBMISSIONS)?;
        uring.submitter().register_files_sparse(files)?;
        let entries = leak_pages(usize::from(BUFFERS) * size_of::<BufRingEntry>()).cast::<BufRingEntry>();
        let memory = leak_pages(usize::from(BUFFERS) * BUFFER_BYTES);
        // SAFETY: M1; `entries` is page-aligned, zeroed, and `BUFFERS` entries long.
        unsafe { uring.submitter().register_buf_ring_with_flags(entries as u64, BUFFERS, GROUP, 0)? };
        let pending = Vec::with_capacity(COMPLETIONS as usize);
        let mut bare = Bare { uring, listener: listener.as_raw_fd(), armed, entries, memory, tail: 0, pending };
        for number in 0..BUFFERS {
            bare.give_back(Buffer { number, length: 0 });
        }
        bare.accept();
        Ok(bare)
    }

    fn accept(&mut self) {
        let entry = opcode::AcceptMulti::new(types::Fd(self.listener)).allocate_file_index(true).build();
        self.push(entry.user_data(pack(ACCEPT, NO_BUFFER, 0)));
    }

    fn arm(&mut self, slot: u32) {
        match self.armed {
            Armed::Receive => {
                let entry = opcode::RecvMulti::new(types::Fixed(slot), GROUP).build();
                self.push(entry.user_data(pack(RECEIVE, NO_BUFFER, slot)));
            }
            Armed::Poll => {
                let entry = opcode::PollAdd::new(types::Fixed(slot), POLL_READABLE).multi(true).build();
                self.push(entry.user_data(pack(POLL, NO_BUFFER, slot)));
            }
        }
    }

    fn receive_once(&mut self, slot: u32) {
        let entry = opcode::Recv::new(types::Fixed(slot), std::ptr::null_mut(), 0).flags(libc::MSG_DONTWAIT);
        let entry = entry.buf_group(GROUP).build().flags(squeue::Flags::BUFFER_SELECT);
        self.push(entry.user_data(pack(RECEIVE, NO_BUFFER, slot)));
    }

    pub fn send_static(&mut self, slot: u32, bytes: &'static [u8]) {
        self.send(slot, bytes.as_ptr(), bytes.len(), NO_BUFFER);
    }

    /// Sends the first bytes of a buffer; it is the kernel's again when that is done.
    pub fn send_buffer(&mut self, slot: u32, buffer: Buffer) {
        assert!(buffer.length <= BUFFER_BYTES);
        self.send(slot, self.address(buffer.number), buffer.length, buffer.number);
    }

    /// M3 is kept by the two callers.
    fn send(&mut self, slot: u32, pointer: *const u8, length: usize, buffer: u16) {
        let length = u32::try_from(length).unwrap_or(u32::MAX);
        // All or an error: these floors do not keep track of what is left.
        let flags = libc::MSG_NOSIGNAL | libc::MSG_WAITALL;
        let entry = opcode::Send::new(types::Fixed(slot), pointer, length).flags(flags).build();
        self.push(entry.user_data(pack(SEND, buffer, slot)));
    }

    pub fn close(&mut self, slot: u32) {
        self.push(opcode::Close::new(types::Fixed(slot)).build().user_data(pack(CLOSE, NO_BUFFER, slot)));
    }

    pub fn bytes(&mut self, buffer: &Buffer) -> &mut [u8] {
        assert!(buffer.length <= BUFFER_BYTES);
        // SAFETY: M1, M2: the buffer is ours, and the borrow of `self` keeps it so. Its number came from `new` or from a
        // completion, and is below `BUFFERS`.
        unsafe { std::slice::from_raw_parts_mut(self.address(buffer.number), buffer.length) }
    }

    pub fn give_back(&mut self, buffer: Buffer) {
        let at = usize::from(self.tail % BUFFERS);
        let address = self.address(buffer.number) as u64;
        // SAFETY: M1; `at` is below `BUFFERS`. The kernel reads entries up to the published tail only, and this one is
        // behind it, because this buffer was ours (M2).
        let entry = unsafe { &mut *self.entries.add(at) };
        entry.set_addr(address);
        entry.set_len(u32::try_from(BUFFER_BYTES).unwrap_or(u32::MAX));
        entry.set_bid(buffer.number);
        self.tail = self.tail.wrapping_add(1);
    }

    fn address(&self, number: u16) -> *mut u8 {
        assert!(number < BUFFERS);
        // SAFETY: M1; the offset lies within `memory` by the assertion.
        unsafe { self.memory.add(usize::from(number) * BUFFER_BYTES) }
    }

    /// Waits for completions, and hands them out. Receives and accepting go on by themselves.
    pub fn turn(&mut self, done: &mut Vec<Done>) -> io::Result<()> {
        self.turn_within(None, done)
    }

    /// The same, but returns when this much time has passed.
    pub fn turn_within(&mut self, timeout: Option<Duration>, done: &mut Vec<Done>) -> io::Result<()> {
        self.publish();
        let waited = match timeout.map(types::Timespec::from) {
            None => self.uring.submit_and_wait(1),
            Some(time) => self.uring.submitter().submit_with_args(1, &types::SubmitArgs::new().timespec(&time)),
        };
        match waited {
            Ok(_) => {}
            Err(error)
                if matches!(error.raw_os_error(), Some(libc::ETIME | libc::EINTR | libc::EBUSY | libc::EAGAIN)) => {}
            Err(error) => return Err(error),
        }
        let mut pending = std::mem::take(&mut self.pending);
        pending.extend(self.uring.completion());
        for entry in pending.drain(..) {
            self.on_completion(&entry, done)?;
        }
        self.pending = pending;
        Ok(())
    }

    fn on_completion(&mut self, entry: &cqueue::Entry, done: &mut Vec<Done>) -> io::Result<()> {
        let (operation, lent, slot) = unpack(entry.user_data());
        let has_ended = !cqueue::more(entry.flags());
        match operation {
            ACCEPT => {
                let slot = u32::try_from(entry.result()).map_err(|_| error_of(entry))?;
                self.arm(slot);
                if has_ended {
                    self.accept();
                }
            }
            POLL => {
                self.receive_once(slot);
                if has_ended {
                    self.arm(slot);
                }
            }
            RECEIVE => match (usize::try_from(entry.result()), cqueue::buffer_select(entry.flags())) {
                (Ok(length), Some(number)) if length > 0 => {
                    done.push(Done::Received(slot, Buffer { number, length }));
                    if has_ended && self.armed == Armed::Receive {
                        self.arm(slot);
                    }
                }
                (Err(_), None) if entry.result() == -libc::ENOBUFS => match self.armed {
                    Armed::Receive => self.arm(slot),
                    Armed::Poll => self.receive_once(slot),
                },
                (Err(_), None) if entry.result() == -libc::EAGAIN => {}
                (_, buffer) => {
                    if let Some(number) = buffer {
                        self.give_back(Buffer { number, length: 0 });
                    }
                    done.push(Done::Ended(slot));
                }
            },
            SEND if lent != NO_BUFFER => self.give_back(Buffer { number: lent, length: 0 }),
            _ => {}
        }
        Ok(())
    }

    fn publish(&mut self) {
        // SAFETY: M1; the tail lies in a reserved field of the first entry, aligned for u16; the kernel only reads it.
        let tail = unsafe { &*BufRingEntry::tail(self.entries).cast::<AtomicU16>() };
        tail.store(self.tail, Ordering::Release);
    }

    fn push(&mut self, entry: squeue::Entry) {
        // SAFETY: M3 for what is sent, M1 for what is received into; M4.
        while unsafe { self.uring.submission().push(&entry).is_err() } {
            // A full completion queue is emptied by the next turn; until then the kernel keeps the rest.
            let _ = self.uring.submit();
        }
    }
}

fn error_of(entry: &cqueue::Entry) -> io::Error {
    io::Error::from_raw_os_error(-entry.result())
}

fn pack(operation: u8, buffer: u16, slot: u32) -> u64 {
    u64::from(operation) << 56 | u64::from(buffer) << 32 | u64::from(slot)
}

fn unpack(user_data: u64) -> (u8, u16, u32) {
    let [operation, _, high, low, slot @ ..] = user_data.to_be_bytes();
    (operation, u16::from_be_bytes([high, low]), u32::from_be_bytes(slot))
}

/// Zeroed pages that are never freed.
fn leak_pages(bytes: usize) -> *mut u8 {
    #[repr(C, align(4096))]
    #[derive(Clone)]
    struct Page([u8; PAGE_BYTES]);
    let pages = vec![Page([0; PAGE_BYTES]); bytes.div_ceil(PAGE_BYTES)];
    Vec::leak(pages).as_mut_ptr().cast()
}
