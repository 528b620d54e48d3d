//! One turn of a worker: completions and mail up to the shard, its effects down to the ring.

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use slab::Slab;
use sockring_protocol::Millis;
use tokio::sync::oneshot;

use crate::app::Application;
use crate::mailbox::{Letter, Mailbox};
use crate::ring::{Armed, Behind, Completion, Descriptor, Patience, ReceiveError, Ring, SendBytes, Token};
use crate::shard::{Broken, Bytes, ConnectionKey, Destination, Effect, Now, Reply, Shard, Ticket};

use super::link::{Received, Start};
use super::listener::{Accepting, Listener};
use super::table::{Departure, Table, token_of};

/// Completions handled before other tasks of the core get their turn.
const COMPLETIONS_PER_TURN: usize = 4096;

/// Who takes over connections that the shard does not serve.
pub type Reception = Box<dyn Fn(OwnedFd, Vec<u8>)>;

/// The thread of one core: a ring, a shard, and what ties them together.
pub(super) struct Worker<A> {
    pub(super) ring: Ring,
    pub(super) shard: Shard<A>,
    pub(super) mailbox: Arc<Mailbox>,
    reception: Reception,
    listener: Listener,
    accepting: Accepting,
    table: Table,
    /// Connections that wait for a receive buffer.
    starved: Vec<Token>,
    effects: Vec<Effect>,
    starts: Vec<(ConnectionKey, Start)>,
    /// Receives started in this turn because a settled connection became readable.
    received_later: usize,
    letters: Vec<Letter>,
    answers: Slab<oneshot::Sender<Reply>>,
    clock: Clock,
    /// When to return at the latest, once asked to.
    pub(super) return_by: Option<Instant>,
}

/// The monotonic clock as milliseconds, and the wall clock.
#[derive(Clone, Copy, Debug)]
pub(super) struct Clock {
    origin: Instant,
}

impl Clock {
    pub(super) fn new() -> Clock {
        Clock { origin: Instant::now() }
    }

    pub(super) fn now(&self) -> Now {
        let unix = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Now { at: Millis(as_millis(self.origin.elapsed())), unix_ms: as_millis(unix) }
    }

    pub(super) fn instant(&self, at: Millis) -> Instant {
        self.origin + Duration::from_millis(at.0)
    }
}

fn as_millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// How long connections may take to close when the worker is asked to return.
const RETURN_AFTER: Duration = Duration::from_millis(1500);

/// What came from a connection in the HTTP stage.
enum FromHttp {
    Bytes(Vec<u8>),
    End,
}

/// Whether a turn found something to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Turned {
    Busy,
    Idle,
}

impl<A: Application> Worker<A> {
    pub(super) fn new(
        ring: Ring,
        shard: Shard<A>,
        mailbox: Arc<Mailbox>,
        listener: Listener,
        reception: Reception,
        clock: Clock,
    ) -> Worker<A> {
        let mut worker = Worker {
            ring,
            shard,
            mailbox,
            reception,
            listener,
            accepting: Accepting::Armed,
            table: Table::default(),
            starved: Vec::new(),
            effects: Vec::new(),
            starts: Vec::new(),
            received_later: 0,
            letters: Vec::new(),
            answers: Slab::new(),
            clock,
            return_by: None,
        };
        worker.ring.accept(&worker.listener);
        worker
    }

    /// Does everything that there is to do now. Leaves submissions for the next `enter`.
    pub(super) fn turn(&mut self) -> Turned {
        self.shard.on_time(self.clock.now());
        let completed = self.completions_up();
        let mailed = self.mail_up();
        self.shard.on_tick();
        self.shard.flush(&mut self.effects);
        let performed = self.effects.len();
        let mut effects = std::mem::take(&mut self.effects);
        for effect in effects.drain(..) {
            self.perform(effect);
        }
        self.effects = effects;
        self.see_to_accepting();
        if completed + mailed + performed > 0 { Turned::Busy } else { Turned::Idle }
    }

    /// When to turn again if nothing happens.
    pub(super) fn deadline(&self) -> Option<Instant> {
        let timers = self.shard.deadline().map(|at| self.clock.instant(at));
        let accepting = match self.accepting {
            Accepting::Paused(at) => Some(at),
            _ => None,
        };
        [timers, accepting, self.return_by].into_iter().flatten().min()
    }

    /// Whether the worker was asked to return and may.
    pub(super) fn is_done(&self) -> bool {
        self.return_by.is_some_and(|by| self.shard.stats().connections == 0 || Instant::now() >= by)
    }

    fn completions_up(&mut self) -> usize {
        // Receives that found no buffer go again first: their bytes have waited longest.
        for token in std::mem::take(&mut self.starved) {
            if let Some(entry) = self.table.find(token) {
                let (key, start) = (entry.key, entry.link.on_buffers());
                self.start(key, start);
            }
        }
        let mut requests = Vec::new();
        let mut count = self.reap(&mut requests);
        // A settled connection says first that it is readable, and is received from then; an HTTP request is there at
        // once. So that a frame wins over a request sent after it, what is readable is received before requests count.
        if !requests.is_empty() && self.received_later > 0 {
            self.ring.enter(0, None);
            count += self.reap(&mut requests);
        }
        self.received_later = 0;
        for (key, request) in requests {
            match request {
                FromHttp::Bytes(mut bytes) => self.shard.on_bytes(key, &mut bytes),
                FromHttp::End => self.shard.on_hangup(key),
            }
        }
        count
    }

    /// Handles the completions that are there. What came from connections in the HTTP stage is kept for later.
    fn reap(&mut self, requests: &mut Vec<(ConnectionKey, FromHttp)>) -> usize {
        // Completions borrow the ring, and starting operations needs it: what is to be started is collected.
        let mut starts = std::mem::take(&mut self.starts);
        let mut accepted: Vec<OwnedFd> = Vec::new();
        let Worker { ring, shard, table, accepting, starved, .. } = self;
        let count = ring.complete(COMPLETIONS_PER_TURN, |completion| match completion {
            Completion::Accepted(result, armed) => {
                let failed = result.is_err();
                accepted.extend(result);
                if armed == Armed::Ended && !matches!(accepting, Accepting::Stopped | Accepting::Ending(_)) {
                    let now = Instant::now();
                    *accepting = if failed { Accepting::pause(now) } else { Accepting::Paused(now) };
                }
            }
            Completion::AcceptEnded => {
                if let Accepting::Ending(until) = accepting {
                    *accepting = Accepting::Paused(*until);
                }
            }
            Completion::Readable(token, armed) => {
                if let Some(entry) = table.find(token) {
                    starts.push((entry.key, entry.link.on_readable(armed)));
                }
            }
            Completion::Received(token, bytes, behind) => {
                let Some(entry) = table.find(token) else { return };
                let received = match (bytes.is_empty(), behind) {
                    (true, _) => Received::Ended,
                    (false, Behind::More) => Received::More,
                    (false, Behind::Unknown) => Received::Some,
                };
                let key = entry.key;
                let was_open = entry.link.is_open();
                starts.push((key, entry.link.on_received(received)));
                match (&mut entry.departure, received) {
                    (Some(departure), _) => departure.bytes.extend_from_slice(bytes),
                    (None, _) if !was_open => {}
                    (None, Received::Ended) if entry.link.is_watched() => shard.on_hangup(key),
                    (None, Received::Ended) => requests.push((key, FromHttp::End)),
                    (None, _) if entry.link.is_watched() => shard.on_bytes(key, bytes),
                    (None, _) => requests.push((key, FromHttp::Bytes(bytes.to_vec()))),
                }
            }
            Completion::ReceiveFailed(token, error) => {
                let Some(entry) = table.find(token) else { return };
                let received = match error {
                    ReceiveError::WouldBlock => Received::Empty,
                    ReceiveError::OutOfBuffers => Received::Starved,
                    ReceiveError::Cancelled | ReceiveError::Broken => Received::Ended,
                };
                let key = entry.key;
                let was_open = entry.link.is_open();
                starts.push((key, entry.link.on_received(received)));
                match received {
                    Received::Starved => starved.push(token),
                    Received::Ended if was_open => requests.push((key, FromHttp::End)),
                    _ => {}
                }
            }
            Completion::Sent(token, result) => {
                let Some(entry) = table.find(token) else { return };
                let was_open = entry.link.is_open();
                starts.push((entry.key, entry.link.on_sent()));
                if was_open {
                    shard.on_sent(entry.key, result.map_err(|_| Broken));
                }
            }
            Completion::ShutDown(token) => {
                if let Some(entry) = table.find(token) {
                    starts.push((entry.key, entry.link.on_shut_down()));
                }
            }
            Completion::Cancelled(token) => {
                if let Some(entry) = table.find(token) {
                    starts.push((entry.key, entry.link.on_cancelled()));
                }
            }
            Completion::Closed(token) => {
                if let Some(key) = table.find(token).map(|entry| entry.key) {
                    table.remove(key);
                    shard.on_closed(key);
                }
            }
        });
        for (key, start) in starts.drain(..) {
            self.received_later += usize::from(start.receive);
            self.start(key, start);
            self.settle_if_due(key);
        }
        self.starts = starts;
        for descriptor in accepted {
            self.arrive(descriptor, Vec::new());
        }
        count
    }

    fn mail_up(&mut self) -> usize {
        let mut letters = std::mem::take(&mut self.letters);
        self.mailbox.collect(&mut letters);
        let count = letters.len();
        for letter in letters.drain(..) {
            match letter {
                Letter::Mail(mail, answer) => {
                    let ticket = Ticket(self.answers.insert(answer) as u64);
                    self.shard.on_mail(ticket, mail);
                }
                Letter::Arrival(descriptor, bytes) => self.arrive(descriptor, bytes),
                Letter::ShutDown(farewell) => {
                    if self.accepting == Accepting::Armed {
                        self.ring.cancel_accept();
                    }
                    self.accepting = Accepting::Stopped;
                    self.return_by = Some(Instant::now() + RETURN_AFTER);
                    self.shard.shut_down(&farewell);
                }
            }
        }
        self.letters = letters;
        count
    }

    /// A connection came, with bytes that were read from it elsewhere.
    fn arrive(&mut self, descriptor: OwnedFd, mut bytes: Vec<u8>) {
        let key = if bytes.is_empty() { self.shard.on_accept() } else { self.shard.on_arrival(&mut bytes) };
        // Without a key there is no room, and dropping the descriptor closes it.
        if let Some(key) = key {
            self.table.insert(key, Descriptor::Plain(descriptor));
        }
    }

    fn see_to_accepting(&mut self) {
        let now = Instant::now();
        match self.accepting {
            Accepting::Armed if !self.shard.has_room() => {
                self.ring.cancel_accept();
                let Accepting::Paused(until) = Accepting::pause(now) else { return };
                self.accepting = Accepting::Ending(until);
            }
            Accepting::Paused(until) if until <= now => {
                if self.shard.has_room() {
                    self.ring.accept(&self.listener);
                    self.accepting = Accepting::Armed;
                } else {
                    self.accepting = Accepting::pause(now);
                }
            }
            _ => {}
        }
    }

    fn perform(&mut self, effect: Effect) {
        match effect {
            Effect::Read(key) => {
                let Some(entry) = self.table.get_mut(key) else { return };
                let start = entry.link.read();
                self.start(key, start);
            }
            Effect::Send(key, bytes) => {
                let Some(entry) = self.table.get_mut(key) else { return };
                let Some(descriptor) = &entry.descriptor else { return };
                entry.link.send();
                let bytes = match bytes {
                    Bytes::Shared(bytes) => SendBytes::Shared(bytes),
                    Bytes::Owned(bytes) => SendBytes::Owned(bytes),
                };
                self.ring.send(descriptor, token_of(key), bytes);
            }
            Effect::Settle(key) => {
                let Some(entry) = self.table.get_mut(key) else { return };
                entry.settles = true;
                self.settle_if_due(key);
            }
            Effect::ShutDown(key) => {
                let Some(entry) = self.table.get_mut(key) else { return };
                let Some(descriptor) = &entry.descriptor else { return };
                entry.link.shut_down();
                self.ring.shut_down(descriptor, token_of(key));
            }
            Effect::Close(key) => {
                let Some(entry) = self.table.get_mut(key) else { return };
                entry.departure = None;
                let start = entry.link.end();
                self.start(key, start);
            }
            Effect::HandOver(key, destination, bytes) => {
                let Some(entry) = self.table.get_mut(key) else { return };
                entry.departure = Some(Box::new(Departure { destination, bytes }));
                let start = entry.link.leave();
                self.start(key, start);
            }
            Effect::Reply(Ticket(ticket), reply) => {
                if let Some(answer) = usize::try_from(ticket).ok().and_then(|ticket| self.answers.try_remove(ticket)) {
                    // Who asked may have gone.
                    let _ = answer.send(reply);
                }
            }
        }
    }

    /// Moves a connection into the file table once nothing is under way on its ordinary descriptor.
    fn settle_if_due(&mut self, key: ConnectionKey) {
        let Some(entry) = self.table.get_mut(key) else { return };
        if !entry.settles || !entry.link.is_idle() || !entry.link.is_open() {
            return;
        }
        entry.settles = false;
        // A full table leaves it on its ordinary descriptor, which works as well.
        entry.descriptor = match entry.descriptor.take() {
            Some(Descriptor::Plain(plain)) => Some(self.ring.settle(plain).unwrap_or_else(Descriptor::Plain)),
            other => other,
        };
        let start = entry.link.watch();
        self.start(key, start);
    }

    /// Starts the operations that a link asks for.
    fn start(&mut self, key: ConnectionKey, start: Start) {
        let Some(entry) = self.table.get_mut(key) else { return };
        let token = token_of(key);
        if let Some(descriptor) = &entry.descriptor {
            if start.watch {
                self.ring.watch(descriptor, token);
            }
            if start.receive {
                let patience = if entry.link.is_watched() { Patience::DontWait } else { Patience::Wait };
                self.ring.receive(descriptor, token, patience);
            }
            if start.cancel {
                self.ring.cancel(descriptor, token);
            }
            if start.cancel_receive {
                self.ring.cancel_receive(token);
            }
        }
        if start.release {
            self.release(key);
        }
    }

    /// Nothing is under way on the connection: close it, or give it away.
    fn release(&mut self, key: ConnectionKey) {
        let Some(entry) = self.table.get_mut(key) else { return };
        let Some(descriptor) = entry.descriptor.take() else { return };
        match (descriptor, entry.departure.take()) {
            (Descriptor::Plain(plain), Some(departure)) => {
                self.table.remove(key);
                self.shard.on_closed(key);
                match departure.destination {
                    Destination::Api => (self.reception)(plain, departure.bytes),
                }
            }
            (descriptor, _) => self.ring.close(descriptor, token_of(key)),
        }
    }
}
