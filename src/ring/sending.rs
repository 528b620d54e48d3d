//! Sends: what is short the kernel goes on with by itself, what is long in calls that carry so many bytes each.
//!
//! The kernel copies what it sends within the call that lets it. A send that finds no room would be gone on with as soon as
//! there is some, in whichever call is next, and so would those of all others who have made room meanwhile: a piece of 64 KiB
//! for each of a thousand clients. So a long send does not wait within the kernel. Where it finds no room the ring is told when
//! there is some, and then it waits for its turn.

use std::io;

use io_uring::{opcode, types};

use super::files::RawTarget;
use super::token::{Operation, pack};
use super::{Completion, Ring, SendState, Token};

/// A send up to this length waits within the kernel.
const SHORT_BYTES_MAX: usize = 4 << 10;
/// So much of sends that found no room before goes on in one call; and no send carries more at once.
pub(super) const RESUMED_BYTES_MAX: usize = 512 << 10;

/// How often what is left of a send has been tried; the generation of its completion's token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Attempt {
    First = 0,
    /// There was to be room.
    Again = 1,
    /// There was none: a machine that is short of memory for sockets says so. The kernel sees to it.
    Last = 2,
}

impl Ring {
    pub(super) fn begin_to_send(&mut self, index: u32) {
        self.send_rest(index, Attempt::First);
    }

    /// Submits what is left of a send.
    fn send_rest(&mut self, index: u32, attempt: Attempt) -> usize {
        let (raw, rest) = self.flight.rest(index);
        let count = rest.len().min(RESUMED_BYTES_MAX);
        let Ok(length) = u32::try_from(count) else { unreachable!("what one call carries is short enough") };
        let entry = match raw {
            RawTarget::Plain(fd) => opcode::Send::new(types::Fd(fd), rest.as_ptr(), length),
            RawTarget::Direct(slot) => opcode::Send::new(types::Fixed(slot.index()), rest.as_ptr(), length),
        };
        let waits = count <= SHORT_BYTES_MAX || attempt == Attempt::Last;
        let patience = if waits { 0 } else { libc::MSG_DONTWAIT };
        let entry = entry.flags(libc::MSG_NOSIGNAL | patience).build();
        self.sends_started += 1;
        self.queue(raw.lane(), entry.user_data(pack(Operation::Send, Token { index, generation: attempt as u32 })));
        count
    }

    pub(super) fn on_sent(&mut self, sent: Token, result: i32, handle: &mut impl FnMut(Completion<'_>)) {
        let Token { index, generation } = sent;
        if result == -libc::EAGAIN {
            match generation == Attempt::Again as u32 {
                true => _ = self.send_rest(index, Attempt::Last),
                false => self.await_room(index),
            }
            return;
        }
        match self.flight.complete(index, result) {
            SendState::Partial => self.await_room(index),
            SendState::Done(token) => handle(Completion::Sent(token, Ok(()))),
            SendState::Failed(token, errno) => {
                handle(Completion::Sent(token, Err(io::Error::from_raw_os_error(errno))));
            }
        }
    }

    /// There is room for more of a send, or none will ever be, as it will find.
    pub(super) fn on_room(&mut self, sent: Token, result: i32, handle: &mut impl FnMut(Completion<'_>)) {
        match result < 0 {
            true => self.on_sent(sent, result, handle),
            false => self.resumed.push_back(sent.index),
        }
    }

    fn await_room(&mut self, index: u32) {
        let raw = self.flight.rest(index).0;
        let entry = match raw {
            RawTarget::Plain(fd) => opcode::PollAdd::new(types::Fd(fd), POLL_WRITABLE).build(),
            RawTarget::Direct(slot) => opcode::PollAdd::new(types::Fixed(slot.index()), POLL_WRITABLE).build(),
        };
        self.queue(raw.lane(), entry.user_data(pack(Operation::Room, Token { index, generation: 0 })));
    }

    /// Goes on with sends for which there is room, as far as the next call may.
    pub(super) fn resume(&mut self) {
        let mut left = RESUMED_BYTES_MAX;
        while left > 0
            && let Some(index) = self.resumed.pop_front()
        {
            left = left.saturating_sub(self.send_rest(index, Attempt::Again));
        }
    }
}

const POLL_WRITABLE: u32 = libc::POLLOUT as u32;
