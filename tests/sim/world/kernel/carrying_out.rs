//! How a simulated kernel carries out what is submitted, and what was put off.

use sockring::ring::{Armed, Behind, Hit, Patience, Peeked, Peer, ReceiveError, Token};

use super::super::super::network::{End, TcpId};
use super::{Accepting, Armings, Completed, PATIENT_MS, SHORT_AGAIN_MS, SimulatedKernel, Submission, errno};

impl SimulatedKernel {
    pub(super) fn carry_out(&mut self, submission: Submission) {
        self.trace(|| format!("{submission:?}"));
        match submission {
            Submission::Accept => {
                assert!(self.accepting.is_none(), "accepting twice");
                self.accepting = Some(Accepting { is_stirred: false });
                self.run_accept();
            }
            Submission::CancelAccept => self.carry_out_cancel_accept(),
            Submission::Watch(id, token) => self.watch_from_now(id, token),
            Submission::Receive(id, token, patience) => self.receive_once(id, token, patience),
            Submission::Look(id, token) => {
                let is_readable = self.network.borrow_mut().server(id).is_readable();
                self.tell(Completed::Looked(token, if is_readable { Peeked::Something } else { Peeked::Nothing }));
            }
            Submission::Send(index) => self.send_some(index),
            Submission::ShutDown(id, token) => {
                assert!(!self.network.borrow_mut().server(id).is_shut, "shut down twice");
                self.network.borrow_mut().shut(id);
                self.tell_later(Completed::ShutDown(token));
            }
            Submission::Abort(id, token) => {
                self.network.borrow_mut().abort(id);
                self.on_arrived(id);
                self.tell_later(Completed::ShutDown(token));
            }
            Submission::CancelWatch(token) => self.carry_out_cancel_watch(token),
            Submission::CancelReceive(token) => self.carry_out_cancel_receive(token),
            Submission::Close(id, slot, token) => {
                assert!(self.armed.get(&id).is_none_or(Armings::is_none), "closed while something is under way on it");
                self.armed.remove(&id);
                self.named.remove(&token.index);
                self.network.borrow_mut().close(id);
                self.tell_later(Completed::Closed(token, slot));
            }
        }
    }

    fn watch_from_now(&mut self, id: TcpId, token: Token) {
        let is_readable = self.network.borrow_mut().server(id).is_readable();
        let armings = self.armed.entry(id).or_default();
        assert!(armings.watch.replace(token).is_none(), "watched twice");
        if is_readable {
            self.run_watch(id);
        }
    }

    fn receive_once(&mut self, id: TcpId, token: Token, patience: Patience) {
        assert!(self.armed.entry(id).or_default().receive.is_none(), "two receives at once");
        if self.receive_some(id, token) {
            return;
        }
        match patience {
            Patience::Wait => self.armed.entry(id).or_default().receive = Some(token),
            Patience::DontWait => self.tell(Completed::ReceiveFailed(token, ReceiveError::WouldBlock)),
        }
    }

    fn carry_out_cancel_accept(&mut self) {
        let hit = match self.accepting.take_if(|accepting| !accepting.is_stirred) {
            Some(_) => {
                self.tell(Completed::Accepted(Err(errno(libc::ECANCELED)), Armed::Ended));
                Hit::Found
            }
            None => Hit::Missed,
        };
        self.tell(Completed::AcceptCancelled(hit));
    }

    /// What is about to run is not found.
    fn carry_out_cancel_watch(&mut self, token: Token) {
        let armings = self.named.get(&token.index).and_then(|id| self.armed.get_mut(id));
        let is_found = armings
            .is_some_and(|armings| !armings.watch_stirred && armings.watch.take_if(|watch| *watch == token).is_some());
        if is_found {
            self.tell(Completed::Readable(token, Armed::Ended, Peer::Open));
        }
        self.tell(Completed::Cancelled(token, if is_found { Hit::Found } else { Hit::Missed }));
    }

    fn carry_out_cancel_receive(&mut self, token: Token) {
        let armings = self.named.get(&token.index).and_then(|id| self.armed.get_mut(id));
        let is_found = armings.is_some_and(|armings| {
            !armings.receive_stirred && armings.receive.take_if(|receive| *receive == token).is_some()
        });
        if is_found {
            self.tell(Completed::ReceiveFailed(token, ReceiveError::Cancelled));
        }
        self.tell(Completed::Cancelled(token, if is_found { Hit::Found } else { Hit::Missed }));
    }

    /// Whether there is no descriptor for the next connection. Clients wait for one, but not again and again.
    fn runs_short(&mut self) -> bool {
        let now = self.network.borrow().now;
        let can_wait = self.settings.times.ping_timeout_ms >= PATIENT_MS && now >= self.short_again_at;
        let runs_short = can_wait && self.temper.runs_short && self.random.one_in(8);
        if runs_short {
            self.short_again_at = now + SHORT_AGAIN_MS;
        }
        runs_short
    }

    /// Accepts all that have connected.
    fn run_accept(&mut self) {
        let Some(accepting) = &mut self.accepting else { return };
        accepting.is_stirred = false;
        while let Some(socket) = self.listener.take() {
            if self.runs_short() {
                // There is no descriptor for it now.
                self.record.borrow_mut().late_ms += 100;
                self.listener.put_back(socket);
                self.accepting = None;
                return self.tell(Completed::Accepted(Err(errno(libc::EMFILE)), Armed::Ended));
            }
            if self.random.one_in(16) {
                self.accepting = None;
                return self.tell(Completed::Accepted(Ok(socket), Armed::Ended));
            }
            self.tell(Completed::Accepted(Ok(socket), Armed::Still));
        }
    }

    fn run_watch(&mut self, id: TcpId) {
        let has_ended = self.network.borrow_mut().server(id).has_ended();
        let Some(armings) = self.armed.get_mut(&id) else { return };
        armings.watch_stirred = false;
        let Some(token) = armings.watch else { return };
        let peer = if has_ended { Peer::Ended } else { Peer::Open };
        let armed = if self.random.one_in(16) {
            armings.watch = None;
            Armed::Ended
        } else {
            Armed::Still
        };
        self.tell(Completed::Readable(token, armed, peer));
    }

    fn run_receive(&mut self, id: TcpId) {
        let Some(armings) = self.armed.get_mut(&id) else { return };
        armings.receive_stirred = false;
        let Some(token) = armings.receive.take() else { return };
        if !self.receive_some(id, token) {
            self.armed.entry(id).or_default().receive = Some(token);
        }
    }

    fn run_send(&mut self, id: TcpId) {
        let Some(armings) = self.armed.get_mut(&id) else { return };
        armings.send_stirred = false;
        if let Some(index) = armings.send.take() {
            self.send_some(index);
        }
    }

    /// Receives what is there. `false`: there is nothing.
    fn receive_some(&mut self, id: TcpId, token: Token) -> bool {
        if self.buffers_free == 0 {
            self.tell(Completed::ReceiveFailed(token, ReceiveError::OutOfBuffers));
            return true;
        }
        let is_short = self.random.one_in(8);
        let mut network = self.network.borrow_mut();
        let server = network.server(id);
        if !server.arrived.is_empty() && !server.is_aborted {
            let most = if is_short { 7 } else { self.temper.buffer_bytes };
            let bytes: Vec<u8> = server.arrived.drain(..server.arrived.len().min(most)).collect();
            let is_full = bytes.len() == self.temper.buffer_bytes;
            let behind = if is_full || !server.arrived.is_empty() { Behind::More } else { Behind::Unknown };
            self.buffers_free -= 1;
            drop(network);
            self.tell(Completed::Received(id, token, bytes, behind));
            return true;
        }
        let (has_ended, end) = (server.has_ended(), server.end);
        drop(network);
        match end {
            Some(End::Reset) => self.tell(Completed::ReceiveFailed(token, ReceiveError::Broken(libc::ECONNRESET))),
            _ if has_ended => {
                self.buffers_free -= 1;
                self.tell(Completed::Received(id, token, Vec::new(), Behind::Unknown));
            }
            _ => return false,
        }
        true
    }

    /// Sends what there is space for; where there is none, that is waited for.
    fn send_some(&mut self, index: u32) {
        let (id, rest) = self.flight.rest(index);
        let mut network = self.network.borrow_mut();
        let is_lost = network.server(id).is_lost();
        let mut count = network.space(id).min(rest.len());
        if is_lost || count == 0 {
            drop(network);
            if is_lost {
                return self.tell(Completed::Sent(index, -libc::EPIPE));
            }
            let armings = self.armed.entry(id).or_default();
            assert!(armings.send.replace(index).is_none(), "two sends at once");
            return;
        }
        if self.random.one_in(4) {
            count = 1 + self.random.index(count);
        }
        network.send(id, &rest[..count]);
        drop(network);
        self.tell(Completed::Sent(index, i32::try_from(count).expect("a send is short")));
    }

    /// Runs what was put off until now.
    pub(super) fn let_in(&mut self) {
        if self.accepting.as_ref().is_some_and(|accepting| accepting.is_stirred) {
            self.run_accept();
        }
        let mut stirred = std::mem::take(&mut self.stirred);
        if self.temper.shuffles {
            self.random.shuffle(&mut stirred);
        }
        for id in stirred {
            let Some(armings) = self.armed.get(&id) else { continue };
            let mut runs = [(0, armings.watch_stirred), (1, armings.receive_stirred), (2, armings.send_stirred)];
            self.random.shuffle(&mut runs);
            for (which, _) in runs.into_iter().filter(|(_, is_stirred)| *is_stirred) {
                match which {
                    0 => self.run_watch(id),
                    1 => self.run_receive(id),
                    _ => self.run_send(id),
                }
            }
        }
    }
}
