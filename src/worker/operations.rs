//! `Operations`: what is under way on one connection, and what has to be started next. No kernel in here.
//!
//! ```text
//!   Open, on request                Open, watched
//!   read: receive --> bytes         watch --> edge --> receive, until it is empty
//!       |        \                      |
//!       |         +------ watch ------->|
//!       | leave                         | end
//!       v                               v
//!   Leaving -------- end ---------->  Ending
//!   cancels its receive,            cancels what waits, cuts off what is sent
//!   sends the rest                      |
//!       |                               |
//!       +---- all has come back --------+
//!                     v
//!                 Released: given away, or closed
//! ```
//!
//! A connection in the HTTP stage is read when the shard says so. A settled one is watched by an edge-triggered poll, and
//! each edge leads to receives until the socket is known to be empty. At most one receive is under way; an edge that comes
//! meanwhile is remembered. A connection closes when everything under way has come back.

use crate::ring::{Armed, Hit, Peeked, Peer};

/// What to start now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Start {
    pub(super) receive: bool,
    /// Behind the receive.
    pub(super) look: bool,
    pub(super) watch: bool,
    pub(super) cancel_watch: bool,
    pub(super) cancel_receive: bool,
    /// Ends both sides of the connection, so that a send completes.
    pub(super) abort: bool,
    /// Nothing is under way any more: the descriptor may be closed or given away.
    pub(super) release: bool,
}

/// How a receive ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Received {
    /// Bytes, and the socket holds more.
    More,
    /// Bytes; perhaps more.
    Some,
    /// The socket was empty.
    Empty,
    /// The pool of buffers was empty: try again when buffers are back.
    Starved,
    /// The end of the stream, an error, or a cancelled receive.
    Ended,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    /// Read when asked to.
    OnRequest,
    /// Read whenever it has bytes.
    Watched,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Life {
    Open,
    /// About to be given away: nothing is started any more, what is under way may end by itself.
    Leaving,
    /// Everything is being cancelled.
    Ending,
    /// `release` was said.
    Released,
}

/// The operations of one connection.
#[derive(Debug)]
pub(super) struct Operations {
    mode: Mode,
    phase: Life,
    receiving: bool,
    /// An edge came while a receive was under way.
    again: bool,
    /// Waits for a buffer.
    starved: bool,
    watching: bool,
    /// No more bytes will come.
    ended: bool,
    sending: bool,
    is_aborted: bool,
    /// Looks since it was asked for one; 0: none is under way.
    looks: u8,
    /// It was asked again meanwhile: what that one finds was there too early.
    looks_again: bool,
    /// Shutdowns and cancellations under way.
    shutting: u8,
    cancelling: u8,
    /// One of them did not find what it was for.
    has_missed: bool,
}

/// A look is repeated so often at the most: some hundred kilobytes are received meanwhile.
const LOOKS_MAX: u8 = 200;

const NOTHING: Start = Start {
    receive: false,
    look: false,
    watch: false,
    cancel_watch: false,
    cancel_receive: false,
    abort: false,
    release: false,
};

impl Operations {
    pub(super) fn new() -> Operations {
        Operations {
            mode: Mode::OnRequest,
            phase: Life::Open,
            receiving: false,
            again: false,
            starved: false,
            watching: false,
            ended: false,
            sending: false,
            is_aborted: false,
            looks: 0,
            looks_again: false,
            shutting: 0,
            cancelling: 0,
            has_missed: false,
        }
    }

    pub(super) fn is_watched(&self) -> bool {
        self.mode == Mode::Watched
    }

    /// Whether the descriptor may be exchanged for another one of the same socket now.
    pub(super) fn is_idle(&self) -> bool {
        !(self.receiving || self.looks > 0 || self.watching || self.sending || self.shutting > 0 || self.cancelling > 0)
    }

    pub(super) fn is_open(&self) -> bool {
        self.phase == Life::Open
    }

    /// Whether its end has begun, and not only its departure.
    pub(super) fn is_ending(&self) -> bool {
        matches!(self.phase, Life::Ending | Life::Released)
    }

    /// The shard wants bytes.
    pub(super) fn read(&mut self) -> Start {
        if self.mode == Mode::Watched { NOTHING } else { self.start_receive() }
    }

    /// From now on the connection is read whenever it has bytes.
    pub(super) fn watch(&mut self) -> Start {
        if self.phase != Life::Open || self.mode == Mode::Watched {
            return NOTHING;
        }
        self.mode = Mode::Watched;
        self.watching = true;
        // Arming reports what is readable already.
        Start { watch: true, ..NOTHING }
    }

    pub(super) fn on_readable(&mut self, poll: Armed, peer: Peer) -> Start {
        self.watching = poll == Armed::Still;
        if self.phase != Life::Open {
            return self.settle_ending();
        }
        if self.ended {
            return NOTHING;
        }
        let mut start = self.start_receive();
        // The end may have come together with the last bytes, by one edge.
        self.again |= peer == Peer::Ended;
        if poll == Armed::Ended {
            self.watching = true;
            start.watch = true;
        }
        start
    }

    pub(super) fn on_received(&mut self, received: Received) -> Start {
        self.receiving = false;
        self.starved = received == Received::Starved;
        self.ended |= received == Received::Ended;
        if self.phase != Life::Open {
            return self.settle_ending();
        }
        match (self.mode, received) {
            (Mode::OnRequest, _) | (_, Received::Ended) => NOTHING,
            // Retried by `on_buffers`; an edge that came meanwhile counts behind the retry.
            (Mode::Watched, Received::Starved) => NOTHING,
            (Mode::Watched, Received::More) => self.start_receive(),
            (Mode::Watched, Received::Some | Received::Empty) if std::mem::take(&mut self.again) => {
                self.start_receive()
            }
            (Mode::Watched, Received::Some | Received::Empty) => NOTHING,
        }
    }

    /// Buffers are back in the pool.
    pub(super) fn on_buffers(&mut self) -> Start {
        if self.starved && self.phase == Life::Open { self.start_receive() } else { NOTHING }
    }

    /// Finds out when all that has come by now is received.
    pub(super) fn look(&mut self) -> Start {
        if self.phase != Life::Open {
            return NOTHING;
        }
        if self.looks > 0 {
            self.looks_again = true;
            return NOTHING;
        }
        self.looks = 1;
        Start { look: true, ..NOTHING }
    }

    /// A look has run; says too whether all that had come when it was asked for is received.
    pub(super) fn on_looked(&mut self, found: Peeked) -> (Start, bool) {
        if self.phase != Life::Open {
            self.looks = 0;
            return (self.settle_ending(), false);
        }
        let again = std::mem::take(&mut self.looks_again);
        // Bytes that nobody will receive are not waited for, nor those of a peer that sends on and on.
        let is_left = found == Peeked::Something && !self.ended && self.looks < LOOKS_MAX;
        if !again && !is_left {
            self.looks = 0;
            return (NOTHING, true);
        }
        self.looks = if again { 1 } else { self.looks + 1 };
        let start = if is_left && self.mode == Mode::Watched { self.start_receive() } else { NOTHING };
        (Start { look: true, ..start }, false)
    }

    pub(super) fn send(&mut self) {
        debug_assert!(!self.sending, "a second send while one is under way");
        self.sending = true;
    }

    pub(super) fn on_sent(&mut self) -> Start {
        self.sending = false;
        self.settle_ending()
    }

    pub(super) fn shut_down(&mut self) {
        debug_assert!(!self.sending && self.shutting == 0, "shut down twice, or before all is sent");
        self.shutting += 1;
    }

    pub(super) fn on_shut_down(&mut self) -> Start {
        self.shutting -= 1;
        self.settle_ending()
    }

    /// Ends everything: what is under way is cancelled.
    pub(super) fn end(&mut self) -> Start {
        if !matches!(self.phase, Life::Open | Life::Leaving) {
            return NOTHING;
        }
        self.phase = Life::Ending;
        self.cancel_or_settle()
    }

    fn cancel_or_settle(&mut self) -> Start {
        if self.is_idle() {
            return self.settle_ending();
        }
        let abort = self.sending && !self.is_aborted;
        self.is_aborted |= abort;
        self.shutting += u8::from(abort);
        // What is being looked for is not looked for twice at once.
        if self.cancelling > 0 {
            return Start { abort, ..NOTHING };
        }
        self.cancelling = u8::from(self.watching) + u8::from(self.receiving);
        self.has_missed = false;
        Start { cancel_watch: self.watching, cancel_receive: self.receiving, abort, ..NOTHING }
    }

    /// Ends receiving only: what is being sent goes out first. For connections that are read on request.
    pub(super) fn leave(&mut self) -> Start {
        if self.phase != Life::Open {
            return NOTHING;
        }
        self.phase = Life::Leaving;
        self.cancel_receive_or_settle()
    }

    fn cancel_receive_or_settle(&mut self) -> Start {
        if !self.receiving || self.cancelling > 0 {
            return self.settle_ending();
        }
        self.cancelling = 1;
        self.has_missed = false;
        Start { cancel_receive: true, ..NOTHING }
    }

    pub(super) fn on_cancelled(&mut self, hit: Hit) -> Start {
        self.cancelling -= 1;
        self.has_missed |= hit == Hit::Missed;
        match self.phase {
            // It may have been about to be armed again when it was looked for. What was found is not looked for once more:
            // the kernel would walk past many others in vain.
            Life::Ending if self.has_missed => self.cancel_or_settle(),
            Life::Leaving if self.has_missed => self.cancel_receive_or_settle(),
            _ => self.settle_ending(),
        }
    }

    fn start_receive(&mut self) -> Start {
        if self.receiving {
            self.again = true;
            return NOTHING;
        }
        if self.ended || self.phase != Life::Open {
            return NOTHING;
        }
        self.receiving = true;
        self.starved = false;
        Start { receive: true, ..NOTHING }
    }

    fn settle_ending(&mut self) -> Start {
        if !matches!(self.phase, Life::Ending | Life::Leaving) || !self.is_idle() {
            return NOTHING;
        }
        self.phase = Life::Released;
        Start { release: true, ..NOTHING }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RECEIVE: Start = Start { receive: true, ..NOTHING };
    const WATCH: Start = Start { watch: true, ..NOTHING };
    const RELEASE: Start = Start { release: true, ..NOTHING };

    fn watched() -> Operations {
        let mut operations = Operations::new();
        assert_eq!(operations.watch(), WATCH);
        operations
    }

    #[test]
    fn an_edge_during_a_receive_is_not_lost() {
        let mut operations = watched();
        assert_eq!(operations.on_readable(Armed::Still, Peer::Open), RECEIVE);
        assert_eq!(operations.on_readable(Armed::Still, Peer::Open), NOTHING);
        assert_eq!(operations.on_received(Received::Some), RECEIVE);
        assert_eq!(operations.on_received(Received::Empty), NOTHING);
        assert_eq!(operations.on_readable(Armed::Still, Peer::Open), RECEIVE);
    }

    #[test]
    fn a_full_buffer_means_receive_again() {
        let mut operations = watched();
        operations.on_readable(Armed::Still, Peer::Open);
        assert_eq!(operations.on_received(Received::More), RECEIVE);
        assert_eq!(operations.on_received(Received::More), RECEIVE);
        assert_eq!(operations.on_received(Received::Some), NOTHING);
    }

    #[test]
    fn the_end_is_read_behind_bytes_that_came_with_it_by_one_edge() {
        let mut operations = watched();
        assert_eq!(operations.on_readable(Armed::Still, Peer::Ended), RECEIVE);
        assert_eq!(operations.on_received(Received::Some), RECEIVE);
        assert_eq!(operations.on_received(Received::Ended), NOTHING);
        // Also if they fill several buffers.
        let mut operations = watched();
        assert_eq!(operations.on_readable(Armed::Still, Peer::Ended), RECEIVE);
        assert_eq!(operations.on_received(Received::More), RECEIVE);
        assert_eq!(operations.on_received(Received::Some), RECEIVE);
        // Also if there was no buffer at first, and the end came meanwhile.
        let mut operations = watched();
        assert_eq!(operations.on_readable(Armed::Still, Peer::Open), RECEIVE);
        assert_eq!(operations.on_readable(Armed::Still, Peer::Ended), NOTHING);
        assert_eq!(operations.on_received(Received::Starved), NOTHING);
        assert_eq!(operations.on_buffers(), RECEIVE);
        assert_eq!(operations.on_received(Received::Some), RECEIVE);
    }

    #[test]
    fn a_starved_receive_is_retried_when_buffers_are_back() {
        let mut operations = watched();
        operations.on_readable(Armed::Still, Peer::Open);
        assert_eq!(operations.on_received(Received::Starved), NOTHING);
        assert_eq!(operations.on_buffers(), RECEIVE);
        assert_eq!(operations.on_buffers(), NOTHING);
        assert_eq!(operations.on_received(Received::Some), NOTHING);
    }

    #[test]
    fn a_poll_that_ended_is_armed_again_and_followed_by_a_receive() {
        let mut operations = watched();
        assert_eq!(operations.on_readable(Armed::Ended, Peer::Open), Start { receive: true, watch: true, ..NOTHING });
    }

    #[test]
    fn nothing_is_read_behind_the_end() {
        let mut operations = watched();
        operations.on_readable(Armed::Still, Peer::Open);
        assert_eq!(operations.on_received(Received::Ended), NOTHING);
        assert_eq!(operations.on_readable(Armed::Still, Peer::Open), NOTHING);
        assert_eq!(operations.on_readable(Armed::Ended, Peer::Open), NOTHING);
    }

    #[test]
    fn a_descriptor_is_released_once_and_only_when_all_came_back() {
        // Orders in which the completions may come: of the receive, the watch, the send, the shutdown, and the cancellations.
        for order in
            [[0, 1, 2, 3, 4, 4], [4, 4, 3, 2, 1, 0], [4, 1, 3, 0, 2, 4], [2, 0, 4, 3, 1, 4], [3, 4, 0, 4, 1, 2]]
        {
            let mut operations = watched();
            operations.on_readable(Armed::Still, Peer::Open);
            operations.send();
            let ending = Start { cancel_watch: true, cancel_receive: true, abort: true, ..NOTHING };
            assert_eq!((operations.end(), operations.end()), (ending, NOTHING));
            let mut cancelling = 0;
            let mut released = 0;
            let mut note = |start: Start| {
                assert!(!start.abort && !start.receive && !start.watch, "{order:?}");
                cancelling += usize::from(start.cancel_watch) + usize::from(start.cancel_receive);
                released += usize::from(start.release);
            };
            for which in order {
                note(match which {
                    0 => operations.on_received(Received::Ended),
                    1 => operations.on_readable(Armed::Ended, Peer::Open),
                    2 => operations.on_sent(),
                    3 => operations.on_shut_down(),
                    _ => operations.on_cancelled(Hit::Found),
                });
            }
            assert_eq!((released, cancelling), (1, 0), "{order:?}");
        }
        assert_eq!(Operations::new().end(), RELEASE);
    }

    #[test]
    fn leaving_waits_for_what_is_being_sent() {
        let mut operations = Operations::new();
        operations.send();
        assert_eq!(operations.leave(), NOTHING);
        assert_eq!(operations.on_sent(), RELEASE);
        // Unless the peer does not take it.
        let mut operations = Operations::new();
        operations.send();
        operations.leave();
        assert_eq!(operations.end(), Start { abort: true, ..NOTHING });
        assert_eq!(operations.on_sent(), NOTHING);
        assert_eq!(operations.on_shut_down(), RELEASE);
        // A receive under way is cancelled first, and may still bring bytes.
        let mut operations = Operations::new();
        assert_eq!(operations.read(), RECEIVE);
        assert_eq!(operations.leave(), Start { cancel_receive: true, ..NOTHING });
        assert_eq!(operations.on_received(Received::Some), NOTHING);
        assert_eq!(operations.on_cancelled(Hit::Found), RELEASE);
    }

    #[test]
    fn what_a_cancellation_missed_is_cancelled_again() {
        let mut operations = watched();
        assert_eq!(operations.on_readable(Armed::Still, Peer::Open), RECEIVE);
        assert_eq!(operations.end(), Start { cancel_watch: true, cancel_receive: true, ..NOTHING });
        assert_eq!(operations.on_cancelled(Hit::Found), NOTHING);
        assert_eq!(operations.on_readable(Armed::Ended, Peer::Open), NOTHING);
        assert_eq!(operations.on_cancelled(Hit::Missed), Start { cancel_receive: true, ..NOTHING });
        // It was missed because it had completed.
        assert_eq!(operations.on_received(Received::Ended), NOTHING);
        assert_eq!(operations.on_cancelled(Hit::Missed), RELEASE);
    }

    #[test]
    fn leaving_looks_again_for_a_receive_that_was_missed() {
        let mut operations = Operations::new();
        operations.send();
        assert_eq!(operations.read(), RECEIVE);
        let cancel = Start { cancel_receive: true, ..NOTHING };
        assert_eq!(operations.leave(), cancel);
        // It is still under way: a peer that says nothing would never end it.
        assert_eq!(operations.on_cancelled(Hit::Missed), cancel);
        assert_eq!(operations.on_cancelled(Hit::Found), NOTHING);
        assert_eq!(operations.on_received(Received::Ended), NOTHING);
        assert_eq!(operations.on_sent(), RELEASE);
        // It was missed because it had completed.
        let mut operations = Operations::new();
        assert_eq!((operations.read(), operations.leave()), (RECEIVE, cancel));
        assert_eq!(operations.on_received(Received::Some), NOTHING);
        assert_eq!(operations.on_cancelled(Hit::Missed), RELEASE);
    }

    #[test]
    fn who_ends_while_leaving_does_not_wait_for_what_the_peer_does_not_take() {
        let mut operations = Operations::new();
        operations.send();
        assert_eq!(operations.read(), RECEIVE);
        assert_eq!(operations.leave(), Start { cancel_receive: true, ..NOTHING });
        assert_eq!(operations.end(), Start { abort: true, ..NOTHING });
        assert_eq!(operations.on_cancelled(Hit::Missed), Start { cancel_receive: true, ..NOTHING });
        assert_eq!(operations.on_received(Received::Ended), NOTHING);
        assert_eq!(operations.on_cancelled(Hit::Found), NOTHING);
        assert_eq!(operations.on_sent(), NOTHING);
        assert_eq!(operations.on_shut_down(), RELEASE);
    }

    #[test]
    fn a_look_ends_when_all_that_had_come_is_received() {
        const LOOK: Start = Start { look: true, ..NOTHING };
        let mut operations = watched();
        assert_eq!(operations.look(), LOOK);
        assert!(!operations.is_idle());
        // The edge of these bytes has still to be told.
        assert_eq!(operations.on_looked(Peeked::Something), (Start { receive: true, ..LOOK }, false));
        assert_eq!(operations.on_readable(Armed::Still, Peer::Open), NOTHING);
        assert_eq!(operations.on_received(Received::Some), RECEIVE);
        assert_eq!(operations.on_received(Received::Empty), NOTHING);
        assert_eq!(operations.on_looked(Peeked::Nothing), (NOTHING, true));
        // One that was asked for while another was under way begins behind it.
        assert_eq!((operations.look(), operations.look()), (LOOK, NOTHING));
        assert_eq!(operations.on_looked(Peeked::Nothing), (LOOK, false));
        assert_eq!(operations.on_looked(Peeked::Nothing), (NOTHING, true));
        // In the HTTP stage a receive waits already.
        let mut operations = Operations::new();
        assert_eq!((operations.read(), operations.look()), (RECEIVE, LOOK));
        assert_eq!(operations.on_looked(Peeked::Something), (LOOK, false));
        assert_eq!(operations.on_received(Received::Some), NOTHING);
        assert_eq!(operations.on_looked(Peeked::Nothing), (NOTHING, true));
    }

    #[test]
    fn a_look_ends_although_the_peer_sends_on_and_on() {
        let mut operations = Operations::new();
        operations.look();
        let looks = (1..).find(|_| operations.on_looked(Peeked::Something).1);
        assert_eq!(looks, Some(u32::from(LOOKS_MAX)));
        // And a descriptor is not given up under it.
        operations.look();
        assert_eq!(operations.end(), NOTHING);
        assert_eq!(operations.on_looked(Peeked::Something), (RELEASE, false));
    }

    #[test]
    fn on_request_reads_once_per_request() {
        let mut operations = Operations::new();
        assert_eq!(operations.read(), RECEIVE);
        assert_eq!(operations.read(), NOTHING);
        assert_eq!(operations.on_received(Received::Some), NOTHING);
        assert_eq!(operations.read(), RECEIVE);
    }
}
