//! `SimulatedKernel`: the kernel below one worker. It carries out what is submitted on simulated connections: at once, later,
//! in part or not at all, as its seed says, and completes in any order that io_uring allows.

mod carrying_out;

use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::io;
use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use sockring::ring::{
    Armed, Behind, Completion, Descriptor, Files, Flight, Hit, Kernel, Patience, Peeked, Peer, ReceiveError, SendBytes,
    SendState, Token,
};
use sockring::shard::EngineSettings;

use super::super::network::{Event, Network, TcpId};
use super::super::random::Random;
use super::super::record::Record;
use super::START_MS;
use super::around::Around;
use super::socket::{Listener, Slot, Socket};

/// What a connection may have to send besides its client's messages: control frames, answers.
const OWN_BYTES_MAX: usize = (64 << 10) + 1_024;

/// Clients who answer within this time can wait for a descriptor.
const PATIENT_MS: u64 = 1_000;
/// And again after this time.
const SHORT_AGAIN_MS: u64 = 3_000;

/// How a kernel is, for all of a world.
#[derive(Clone, Copy, Debug)]
pub struct Temper {
    /// Slots of the file table, receive buffers and their bytes.
    pub files: u32,
    pub buffers: usize,
    pub buffer_bytes: usize,
    /// Whether completions of one turn change places.
    pub shuffles: bool,
    /// Whether descriptors run short at times, for those who can wait.
    pub runs_short: bool,
}

/// An operation that is to be carried out.
#[derive(Debug)]
enum Submission {
    Accept,
    CancelAccept,
    Watch(TcpId, Token),
    Receive(TcpId, Token, Patience),
    Look(TcpId, Token),
    Send(u32),
    ShutDown(TcpId, Token),
    Abort(TcpId, Token),
    CancelWatch(Token),
    CancelReceive(Token),
    Close(TcpId, Option<u32>, Token),
}

/// What has been carried out, and was not told yet.
#[derive(Debug)]
enum Completed {
    Accepted(io::Result<Socket>, Armed),
    AcceptCancelled(Hit),
    Readable(Token, Armed, Peer),
    Received(TcpId, Token, Vec<u8>, Behind),
    ReceiveFailed(Token, ReceiveError),
    Looked(Token, Peeked),
    Sent(u32, i32),
    ShutDown(Token),
    Cancelled(Token, Hit),
    Closed(Token, Option<u32>),
}

/// What waits on one connection for something to happen there.
#[derive(Debug, Default)]
struct Armings {
    watch: Option<Token>,
    receive: Option<Token>,
    send: Option<u32>,
    /// It has happened: these are about to run.
    watch_stirred: bool,
    receive_stirred: bool,
    send_stirred: bool,
}

impl Armings {
    fn is_none(&self) -> bool {
        self.watch.is_none() && self.receive.is_none() && self.send.is_none()
    }
}

/// Accepting, while it is armed.
#[derive(Debug)]
struct Accepting {
    is_stirred: bool,
}

/// The kernel below the worker of one shard.
pub struct SimulatedKernel {
    shard: usize,
    temper: Temper,
    settings: Arc<EngineSettings>,
    random: Random,
    network: Rc<RefCell<Network>>,
    record: Rc<RefCell<Record>>,
    listener: Listener,
    queue: Vec<Submission>,
    completed: VecDeque<Completed>,
    /// Done beside the submissions, by the time at which it is and a number.
    later: BTreeMap<(u64, u64), Completed>,
    numbers: u64,
    armed: HashMap<TcpId, Armings>,
    /// By the index of its token: the connection that has it, or had it last.
    named: HashMap<u32, TcpId>,
    /// Connections of which something is about to run.
    stirred: Vec<TcpId>,
    accepting: Option<Accepting>,
    /// When descriptors may run short again.
    short_again_at: u64,
    buffers_free: usize,
    flight: Flight<TcpId>,
    files: Files,
    files_taken: usize,
    sends_started: u32,
    others_started: u32,
    traces: bool,
}

impl SimulatedKernel {
    pub fn new(temper: Temper, around: &Around, random: Random, listener: Listener) -> SimulatedKernel {
        SimulatedKernel {
            shard: around.shard,
            temper,
            settings: Arc::clone(&around.settings),
            random,
            network: Rc::clone(&around.network),
            record: Rc::clone(&around.record),
            listener,
            queue: Vec::new(),
            completed: VecDeque::new(),
            later: BTreeMap::new(),
            numbers: 0,
            armed: HashMap::new(),
            named: HashMap::new(),
            stirred: Vec::new(),
            accepting: None,
            short_again_at: 0,
            buffers_free: temper.buffers,
            flight: Flight::default(),
            files: Files::new(temper.files),
            files_taken: 0,
            sends_started: 0,
            others_started: 0,
            traces: around.traces,
        }
    }

    /// Whether something was submitted and not carried out.
    pub fn has_queued(&self) -> bool {
        !self.queue.is_empty()
    }

    /// Whether nothing is under way but, perhaps, an accept.
    pub fn is_idle(&self) -> bool {
        let is_told = self.queue.is_empty() && self.completed.is_empty() && self.later.is_empty();
        let is_given_back = self.files_taken == 0 && self.buffers_free == self.temper.buffers;
        is_told && is_given_back && self.armed.values().all(Armings::is_none) && self.flight.is_empty()
    }

    // What happens to a kernel. Says whether the worker has to be woken.

    /// A connection has come to the listener.
    pub fn on_connected(&mut self) -> bool {
        self.accepting.as_mut().is_some_and(|accepting| !std::mem::replace(&mut accepting.is_stirred, true))
    }

    /// Bytes or the end have come to a connection.
    pub fn on_arrived(&mut self, id: TcpId) -> bool {
        let is_lost = self.network.borrow_mut().server(id).is_lost();
        let Some(armings) = self.armed.get_mut(&id) else { return false };
        let mut is_new = armings.watch.is_some() && !std::mem::replace(&mut armings.watch_stirred, true);
        is_new |= armings.receive.is_some() && !std::mem::replace(&mut armings.receive_stirred, true);
        is_new |= is_lost && armings.send.is_some() && !std::mem::replace(&mut armings.send_stirred, true);
        if is_new && !self.stirred.contains(&id) {
            self.stirred.push(id);
        }
        is_new
    }

    /// There is space for what is sent, or none will ever be.
    pub fn on_space(&mut self, id: TcpId) -> bool {
        let Some(armings) = self.armed.get_mut(&id) else { return false };
        let is_new = armings.send.is_some() && !std::mem::replace(&mut armings.send_stirred, true);
        if is_new && !self.stirred.contains(&id) {
            self.stirred.push(id);
        }
        is_new
    }

    /// What is done beside the submissions by now is.
    pub fn on_finished(&mut self) -> bool {
        let now = self.network.borrow().now;
        while self.later.first_key_value().is_some_and(|((at, _), _)| *at <= now) {
            if let Some((_, completed)) = self.later.pop_first() {
                self.completed.push_back(completed);
            }
        }
        !self.completed.is_empty()
    }

    // Carrying out.

    fn start(&mut self, submission: Submission) {
        self.others_started += 1;
        self.queue.push(submission);
    }

    /// The connection that a descriptor is of.
    fn id_of(&self, descriptor: &Descriptor<Socket, Slot>) -> TcpId {
        let id = match descriptor {
            Descriptor::Plain(socket) => socket.id(),
            Descriptor::Direct(slot) => slot.id(),
        };
        let mut network = self.network.borrow_mut();
        let server = network.server(id);
        assert!(server.shard == self.shard && !server.is_closed, "an operation on a connection that is not there");
        id
    }

    fn named(&mut self, descriptor: &Descriptor<Socket, Slot>, token: Token) -> TcpId {
        let id = self.id_of(descriptor);
        // What had the name before was given away, if it was not closed, and may have come back.
        let before = self.named.insert(token.index, id).filter(|before| *before != id);
        let of_before = before.and_then(|before| self.armed.get(&before)).is_some_and(|armings| {
            [armings.watch, armings.receive].into_iter().flatten().any(|armed| armed.index == token.index)
        });
        assert!(!of_before, "two connections of one name: {token:?}");
        id
    }

    /// Tells what was done: behind what must come before it, and at times before other things.
    fn tell(&mut self, completed: Completed) {
        let order = order_of(&completed);
        let last = self.completed.iter().rposition(|earlier| order.is_some() && order_of(earlier) == order);
        let length = self.completed.len();
        let first = last.map_or(0, |last| last + 1);
        let at = if self.temper.shuffles { first + self.random.index(length - first + 1) } else { length };
        self.completed.insert(at, completed);
    }

    /// The same, of what is not done when it is submitted.
    fn tell_later(&mut self, completed: Completed) {
        let delay = self.random.within(0..=3);
        if delay == 0 {
            return self.tell(completed);
        }
        self.numbers += 1;
        let mut network = self.network.borrow_mut();
        let at = network.now + delay;
        self.later.insert((at, self.numbers), completed);
        network.at(at, Event::Finish(self.shard));
    }

    fn trace(&self, what: impl FnOnce() -> String) {
        if self.traces {
            eprintln!("{:>7}   {} {}", self.network.borrow().now - START_MS, self.shard, what());
        }
    }

    fn check_send(&self, bytes: &SendBytes) {
        let length = bytes.as_slice().len();
        let largest = self.record.borrow().largest_message;
        let bound = self.settings.queue_bytes_max * 2 + largest + OWN_BYTES_MAX;
        assert!(length > 0, "a send of nothing");
        assert!(length <= bound, "{length} bytes waited for one connection; the limits allow {bound}");
    }
}

impl Kernel for SimulatedKernel {
    type Socket = Socket;
    type Slot = Slot;
    type Listener = Listener;

    fn accept(&mut self, _: &Listener) {
        self.start(Submission::Accept);
    }

    fn cancel_accept(&mut self) {
        self.start(Submission::CancelAccept);
    }

    fn drain(listener: Listener) -> Vec<Socket> {
        listener.close()
    }

    fn peer_of(_: &Socket) -> Option<IpAddr> {
        None
    }

    fn watch(&mut self, descriptor: &Descriptor<Socket, Slot>, token: Token) {
        let id = self.named(descriptor, token);
        self.start(Submission::Watch(id, token));
    }

    fn receive(&mut self, descriptor: &Descriptor<Socket, Slot>, token: Token, patience: Patience) {
        let id = self.named(descriptor, token);
        self.start(Submission::Receive(id, token, patience));
    }

    fn look(&mut self, descriptor: &Descriptor<Socket, Slot>, token: Token) {
        let id = self.named(descriptor, token);
        self.start(Submission::Look(id, token));
    }

    fn send(&mut self, descriptor: &Descriptor<Socket, Slot>, token: Token, bytes: SendBytes) {
        let id = self.named(descriptor, token);
        assert!(!self.network.borrow_mut().server(id).is_shut, "a send after the shutdown");
        self.check_send(&bytes);
        let index = self.flight.lend(token, id, bytes);
        self.sends_started += 1;
        self.queue.push(Submission::Send(index));
    }

    fn shut_down(&mut self, descriptor: &Descriptor<Socket, Slot>, token: Token) {
        let id = self.named(descriptor, token);
        self.start(Submission::ShutDown(id, token));
    }

    fn abort(&mut self, descriptor: &Descriptor<Socket, Slot>, token: Token) {
        let id = self.named(descriptor, token);
        self.start(Submission::Abort(id, token));
    }

    fn cancel_watch(&mut self, descriptor: &Descriptor<Socket, Slot>, token: Token) {
        self.named(descriptor, token);
        self.start(Submission::CancelWatch(token));
    }

    fn cancel_receive(&mut self, descriptor: &Descriptor<Socket, Slot>, token: Token) {
        self.named(descriptor, token);
        self.start(Submission::CancelReceive(token));
    }

    fn close(&mut self, descriptor: Descriptor<Socket, Slot>, token: Token) {
        let id = self.named(&descriptor, token);
        let slot = match descriptor {
            Descriptor::Plain(socket) => {
                socket.into_id();
                None
            }
            Descriptor::Direct(slot) => Some(slot.into_number()),
        };
        self.start(Submission::Close(id, slot, token));
    }

    fn settle(&mut self, socket: Socket) -> Result<Descriptor<Socket, Slot>, Socket> {
        let armings = self.armed.get(&socket.id());
        assert!(armings.is_none_or(Armings::is_none), "settled while something is under way on it");
        let Some(slot) = self.files.take() else { return Err(socket) };
        self.files_taken += 1;
        Ok(Descriptor::Direct(Slot::new(socket.into_id(), slot.number())))
    }

    fn enter(&mut self, _: u32, _: Option<Duration>) {
        let is_let_in_first = self.random.one_in(4);
        if is_let_in_first {
            self.let_in();
        }
        for submission in std::mem::take(&mut self.queue) {
            self.carry_out(submission);
        }
        if !is_let_in_first {
            self.let_in();
        }
    }

    fn sends_only(&self) -> Option<u32> {
        (self.others_started == 0).then_some(self.sends_started)
    }

    fn complete(&mut self, limit: usize, mut handle: impl FnMut(Completion<'_, Socket>)) -> usize {
        (self.sends_started, self.others_started) = (0, 0);
        let mut count = 0;
        while count < limit {
            let Some(completed) = self.completed.pop_front() else { break };
            count += 1;
            self.trace(|| format!("-> {completed:?}"));
            match completed {
                Completed::Accepted(result, armed) => handle(Completion::Accepted(result, armed)),
                Completed::AcceptCancelled(hit) => handle(Completion::AcceptCancelled(hit)),
                Completed::Readable(token, armed, peer) => handle(Completion::Readable(token, armed, peer)),
                Completed::Received(id, token, mut bytes, behind) => {
                    let owner = self.network.borrow().tcp(id).owner;
                    self.record.borrow_mut().on_heard(owner);
                    handle(Completion::Received(token, &mut bytes, behind));
                    self.buffers_free += 1;
                }
                Completed::ReceiveFailed(token, error) => handle(Completion::ReceiveFailed(token, error)),
                Completed::Looked(token, found) => handle(Completion::Looked(token, found)),
                Completed::Sent(index, result) => match self.flight.complete(index, result) {
                    SendState::Partial => {
                        self.sends_started += 1;
                        self.queue.push(Submission::Send(index));
                    }
                    SendState::Done(token) => handle(Completion::Sent(token, Ok(()))),
                    SendState::Failed(token, number) => handle(Completion::Sent(token, Err(errno(number)))),
                },
                Completed::ShutDown(token) => handle(Completion::ShutDown(token)),
                Completed::Cancelled(token, hit) => handle(Completion::Cancelled(token, hit)),
                Completed::Closed(token, slot) => {
                    if let Some(slot) = slot {
                        self.files.give_back(slot);
                        self.files_taken -= 1;
                    }
                    handle(Completion::Closed(token));
                }
            }
        }
        count
    }

    fn has_work(&mut self) -> bool {
        let is_stirred = self.accepting.as_ref().is_some_and(|accepting| accepting.is_stirred);
        is_stirred || !(self.completed.is_empty() && self.queue.is_empty() && self.stirred.is_empty())
    }
}

/// What has an order of its own: what is received from one connection and looked at there, the edges of one, what is accepted.
fn order_of(completed: &Completed) -> Option<(u8, u32)> {
    match completed {
        Completed::Accepted(..) => Some((0, 0)),
        Completed::Readable(token, ..) => Some((1, token.index)),
        Completed::Received(_, token, ..) | Completed::ReceiveFailed(token, _) | Completed::Looked(token, _) => {
            Some((2, token.index))
        }
        _ => None,
    }
}

fn errno(number: i32) -> io::Error {
    io::Error::from_raw_os_error(number)
}
