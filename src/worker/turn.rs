//! One turn of a worker: completions and mail up to the shard, its effects down to the ring.

use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use slab::Slab;
use tokio::sync::oneshot;

use crate::app::Application;
use crate::capacity::{AcceptError, Capacity, Door};
use crate::mailbox::{Letter, Mailbox, Postbox};
use crate::ring::{Behind, Completion, Descriptor, Patience, ReceiveError, Ring, SendBytes, Token};
use crate::shard::{
    Broken, Bytes, ConnectionKey, Destination, Effect, Parcel, Reply, Shard, SiblingMail, Ticket, Turn,
};

use super::acceptor::{Acceptor, Next, Room};
use super::bus::Bus;
use super::clock::{Clock, as_micros, as_millis, thread_time};
use super::link::{Received, Start};
use super::listener::Listener;
use super::pace::{Pace, Wait};
use super::table::{Departure, Table, token_of};

/// Completions handled before other tasks of the core get their turn, and letters.
pub(super) const COMPLETIONS_PER_TURN: usize = 4096;
const LETTERS_PER_TURN: usize = 4096;

/// Who takes over connections that the shard does not serve.
pub type Reception = Box<dyn Fn(OwnedFd, Parcel)>;

/// The thread of one core: a ring, a shard, and what ties them together.
pub(super) struct Worker<A> {
    pub(super) ring: Ring,
    pub(super) shard: Shard<A>,
    pub(super) outside: Outside,
    /// Gone when no connections are accepted any more.
    listener: Option<Listener>,
    acceptor: Acceptor,
    /// Accepted, and not let in yet.
    waiting: VecDeque<OwnedFd>,
    table: Table,
    /// Connections that wait for a receive buffer.
    starved: Vec<Token>,
    effects: Vec<Effect>,
    starts: Vec<(ConnectionKey, Start)>,
    /// Connections of which all that had come when they were looked at is received.
    looked: Vec<ConnectionKey>,
    /// Turns since the shard asked to look around, while that is under way.
    pub(super) around: Option<u32>,
    /// Completions of this turn that others brought about: bytes and connections that came.
    arrived: usize,
    /// Receives started in this turn because a settled connection became readable.
    received_later: usize,
    /// Letters that have been taken out of the mailbox, and since when some of them could not be read.
    pub(super) letters: VecDeque<Letter>,
    letters_since: Option<Instant>,
    /// When the last turn began, if the worker has not rested since, and what had been completed for it.
    turned: Option<(Instant, usize)>,
    answers: Slab<oneshot::Sender<Reply>>,
    pub(super) pace: Pace,
    /// When to return at the latest, once asked to.
    pub(super) return_by: Option<Instant>,
}

/// What a worker shares with others.
pub(super) struct Outside {
    pub(super) mailbox: Arc<Mailbox>,
    pub(super) siblings: Vec<Postbox>,
    pub(super) reception: Reception,
    pub(super) bus: Box<dyn Bus>,
    pub(super) capacity: Arc<Capacity>,
    pub(super) clock: Clock,
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
    pub(super) fn new(ring: Ring, shard: Shard<A>, table: Table, listener: Listener, outside: Outside) -> Worker<A> {
        Worker {
            ring,
            shard,
            outside,
            listener: Some(listener),
            acceptor: Acceptor::new(),
            waiting: VecDeque::new(),
            table,
            starved: Vec::new(),
            effects: Vec::new(),
            starts: Vec::new(),
            looked: Vec::new(),
            around: None,
            arrived: 0,
            received_later: 0,
            letters: VecDeque::new(),
            letters_since: None,
            turned: None,
            answers: Slab::new(),
            pace: Pace::new(Instant::now()),
            return_by: None,
        }
    }

    /// Does everything that there is to do now. Leaves submissions for the next `enter`.
    pub(super) fn turn(&mut self) -> Turned {
        let begun = Instant::now();
        self.report(begun);
        self.shard.on_time(self.outside.clock.now());
        let completed = self.completions_up();
        let mailed = self.mail_up();
        self.see_to_accepting();
        self.look_around(completed + mailed);
        self.shard.on_tick();
        self.shard.flush(&mut self.effects);
        let performed = self.effects.len();
        let mut effects = std::mem::take(&mut self.effects);
        for effect in effects.drain(..) {
            self.perform(effect);
        }
        self.effects = effects;
        if completed + mailed + performed == 0 && !self.shard.is_behind() && self.letters.is_empty() {
            return Turned::Idle;
        }
        self.turned = Some((begun, completed));
        self.pace.on_turn(Instant::now(), std::mem::take(&mut self.arrived), mailed, thread_time);
        Turned::Busy
    }

    /// What came since the last turn began has waited until now, for as long as that turn took, what the kernel did of it
    /// included, and what the tasks of the core did.
    fn report(&mut self, now: Instant) {
        let Some((since, completed)) = self.turned.take() else { return };
        let waited = self.letters_since.map_or(Duration::ZERO, |since| now - since);
        let turn =
            Turn { micros: as_micros(now - since), mail_micros: as_micros(waited), completions: completed as u64 };
        self.shard.on_turned(turn);
    }

    /// When to turn again if nothing happens.
    pub(super) fn deadline(&self) -> Option<Instant> {
        if !self.letters.is_empty() {
            return Some(Instant::now());
        }
        let timers = self.shard.deadline().map(|at| self.outside.clock.instant(at));
        let around = self.around.map(|_| Instant::now());
        [timers, self.acceptor.resumes_at(), around, self.return_by].into_iter().flatten().min()
    }

    /// The wait within the ring that pays now.
    pub(super) fn wait(&self) -> Option<Wait> {
        self.pace.wait(Instant::now(), self.deadline(), self.table.len())
    }

    /// Whether the worker was asked to return and may.
    pub(super) fn is_done(&mut self) -> bool {
        self.return_by.is_some_and(|by| self.shard.is_drained() || Instant::now() >= by)
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
        for key in self.looked.drain(..) {
            self.shard.on_looked(key);
        }
        count
    }

    /// Handles the completions that are there. What came from connections in the HTTP stage is kept for later.
    fn reap(&mut self, requests: &mut Vec<(ConnectionKey, FromHttp)>) -> usize {
        // Completions borrow the ring, and starting operations needs it: what is to be started is collected.
        let mut starts = std::mem::take(&mut self.starts);
        let mut accepted: Vec<OwnedFd> = Vec::new();
        let Worker { ring, shard, table, outside, acceptor, starved, looked, arrived, .. } = self;
        let count = ring.complete(COMPLETIONS_PER_TURN, |completion| match completion {
            Completion::Accepted(result, armed) => {
                *arrived += 1;
                acceptor.on_accepted(armed);
                match result {
                    Ok(descriptor) => accepted.push(descriptor),
                    Err(error) => match outside.capacity.accept_errors.count(Door::Clients, &error) {
                        // As it was asked to; or nobody is there any more.
                        None | Some(AcceptError::ConnectionAborted) => {}
                        Some(_) => acceptor.pause(Instant::now()),
                    },
                }
            }
            Completion::AcceptCancelled(hit) => acceptor.on_cancelled(hit),
            Completion::Readable(token, armed, peer) => {
                *arrived += 1;
                if let Some(entry) = table.find(token) {
                    let start = entry.link.on_readable(armed, peer);
                    entry.note(start, &mut starts);
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
                let start = entry.link.on_received(received);
                entry.note(start, &mut starts);
                match (&mut entry.departure, received) {
                    (Some(departure), _) => departure.parcel.append(bytes),
                    (None, _) if !was_open => {}
                    (None, Received::Ended) if entry.link.is_watched() => shard.on_hangup(key),
                    (None, Received::Ended) => requests.push((key, FromHttp::End)),
                    (None, _) if entry.link.is_watched() => shard.on_bytes(key, bytes),
                    (None, _) => {
                        *arrived += 1;
                        requests.push((key, FromHttp::Bytes(bytes.to_vec())));
                    }
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
                let start = entry.link.on_received(received);
                entry.note(start, &mut starts);
                match received {
                    Received::Starved => starved.push(token),
                    Received::Ended if was_open => requests.push((key, FromHttp::End)),
                    _ => {}
                }
            }
            Completion::Looked(token, found) => {
                let Some(entry) = table.find(token) else { return };
                let (start, is_done) = entry.link.on_looked(found);
                entry.note(start, &mut starts);
                if is_done {
                    looked.push(entry.key);
                }
            }
            Completion::Sent(token, result) => {
                let Some(entry) = table.find(token) else { return };
                let was_open = entry.link.is_open();
                let start = entry.link.on_sent();
                entry.note(start, &mut starts);
                if was_open {
                    shard.on_sent(entry.key, result.map_err(|_| Broken));
                }
            }
            Completion::ShutDown(token) => {
                if let Some(entry) = table.find(token) {
                    let start = entry.link.on_shut_down();
                    entry.note(start, &mut starts);
                }
            }
            Completion::Cancelled(token, hit) => {
                if let Some(entry) = table.find(token) {
                    let start = entry.link.on_cancelled(hit);
                    entry.note(start, &mut starts);
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
        // Let in when what came from others has been seen: who idles goes for them.
        self.waiting.extend(accepted);
        count
    }

    fn mail_up(&mut self) -> usize {
        if self.letters.is_empty() {
            self.outside.mailbox.collect(&mut self.letters);
        }
        let mut count = 0;
        while count < LETTERS_PER_TURN
            && self.shard.takes_mail()
            && let Some(letter) = self.letters.pop_front()
        {
            count += 1;
            match letter {
                Letter::Mail(mail, answer) => {
                    let ticket = Ticket(self.answers.insert(answer) as u64);
                    self.shard.on_mail(ticket, mail);
                }
                Letter::Sibling(mail) => self.shard.on_sibling_mail(mail),
                Letter::Bus(mail) => self.shard.on_bus_mail(mail),
                Letter::Arrival(descriptor, parcel) => {
                    let key = self.shard.on_arrival(peer_of(&descriptor), *parcel);
                    self.keep(key, descriptor);
                }
                Letter::Drain(farewell, over) => {
                    self.return_by.get_or_insert(Instant::now() + over + RETURN_AFTER);
                    self.acceptor.stop();
                    self.shard.begin_drain(&farewell, as_millis(over));
                }
            }
        }
        self.letters_since = match self.letters.is_empty() {
            true => None,
            false => self.letters_since.or_else(|| Some(Instant::now())),
        };
        count
    }

    /// A connection that finds no room waits as it would have done in the listener's queue.
    fn accept(&mut self, descriptor: OwnedFd) {
        match self.shard.has_room() {
            true => {
                let key = self.shard.on_accept(peer_of(&descriptor));
                self.keep(key, descriptor);
            }
            false => self.waiting.push_back(descriptor),
        }
    }

    /// Without a key there is no room, and dropping the descriptor closes it.
    fn keep(&mut self, key: Option<ConnectionKey>, descriptor: OwnedFd) {
        if let Some(key) = key {
            self.outside.capacity.add_descriptor();
            self.table.insert(key, Descriptor::Plain(descriptor));
        }
    }

    fn see_to_accepting(&mut self) {
        let now = Instant::now();
        while self.shard.has_room()
            && let Some(descriptor) = self.waiting.pop_front()
        {
            self.accept(descriptor);
        }
        if self.shard.has_room() {
            self.acceptor.resume_if_due(now, Room::Some);
        } else {
            if self.acceptor.is_accepting() {
                self.shard.on_full();
            }
            self.shard.make_room();
            self.acceptor.resume_if_due(now, Room::None);
        }
        match self.acceptor.next() {
            Next::Nothing => {}
            Next::Arm => {
                if let Some(listener) = &self.listener {
                    self.ring.accept(listener);
                }
            }
            Next::Cancel => self.ring.cancel_accept(),
            Next::Drain => {
                // Who has connected already is answered; who comes now is refused by the kernel, and may find another.
                let listener = self.listener.take();
                for descriptor in listener.into_iter().flat_map(Listener::drain) {
                    self.accept(descriptor);
                }
            }
        }
    }

    fn perform(&mut self, effect: Effect) {
        match effect {
            Effect::Read(key) => {
                let Some(entry) = self.table.get_mut(key) else { return };
                let start = entry.link.read();
                self.start(key, start);
            }
            Effect::Look(key) => {
                let Some(entry) = self.table.get_mut(key) else { return };
                let start = entry.link.look();
                self.start(key, start);
            }
            Effect::LookAround => self.around = Some(0),
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
            Effect::HandOver(key, destination, parcel) => {
                let Some(entry) = self.table.get_mut(key) else { return };
                entry.departure = Some(Box::new(Departure { destination, parcel: *parcel }));
                let start = entry.link.leave();
                self.start(key, start);
            }
            Effect::Mail(shard, mail) => self.post(shard, *mail),
            Effect::Subscribe(room, epoch) => self.outside.bus.subscribe(*room, epoch),
            Effect::Unsubscribe(room) => self.outside.bus.unsubscribe(*room),
            Effect::Acknowledged(answer) => self.outside.bus.acknowledge(*answer),
            Effect::Reply(Ticket(ticket), reply) => {
                if let Some(answer) = usize::try_from(ticket).ok().and_then(|ticket| self.answers.try_remove(ticket)) {
                    // Who asked may have gone.
                    let _ = answer.send(*reply);
                }
            }
        }
    }

    fn post(&mut self, shard: u16, mail: SiblingMail) {
        let Some(sibling) = self.outside.siblings.get(usize::from(shard)) else { return };
        match mail.refusable_bytes() {
            None => sibling.post(Letter::Sibling(mail)),
            Some(bytes) => {
                if let Err(Letter::Sibling(mail)) = sibling.offer(Letter::Sibling(mail), bytes) {
                    self.shard.on_refused_mail(&mail);
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
            Some(Descriptor::Plain(plain)) => Some(match self.ring.settle(plain) {
                Ok(direct) => {
                    self.outside.capacity.give_back_descriptor();
                    direct
                }
                Err(plain) => Descriptor::Plain(plain),
            }),
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
            if start.look {
                self.ring.look(descriptor, token);
            }
            if start.abort {
                self.ring.abort(descriptor, token);
            }
            if start.cancel_watch {
                self.ring.cancel_watch(token);
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
        let capacity = &self.outside.capacity;
        match (descriptor, entry.departure.take()) {
            (Descriptor::Plain(plain), Some(departure)) => {
                self.table.remove(key);
                self.shard.on_closed(key);
                let Departure { destination, mut parcel } = *departure;
                match destination {
                    Destination::Api => {
                        parcel.keep_descriptor();
                        (self.outside.reception)(plain, parcel);
                    }
                    Destination::Shard(shard) => {
                        capacity.give_back_descriptor();
                        if let Some(sibling) = self.outside.siblings.get(usize::from(shard)) {
                            sibling.post(Letter::Arrival(plain, Box::new(parcel)));
                        }
                    }
                }
            }
            (descriptor, _) => {
                if matches!(descriptor, Descriptor::Plain(_)) {
                    capacity.give_back_descriptor();
                }
                self.ring.close(descriptor, token_of(key));
            }
        }
    }
}

/// The address at the other end.
fn peer_of(descriptor: &OwnedFd) -> Option<IpAddr> {
    let address = rustix::net::getpeername(descriptor).ok()??;
    SocketAddr::try_from(address).ok().map(|address| address.ip())
}
