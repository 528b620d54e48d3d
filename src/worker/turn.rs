//! One turn of a worker: completions and mail up to the shard, its effects down to the kernel.
//!
//! ```text
//!   kernel                                       mailbox
//!     |  complete                                   |  collect
//!     |     what was accepted, received, sent       |     letters of siblings, API, bus
//!     v                                             v
//!   +-----------------------------------------------------+
//!   |  shard     on_time, on_bytes, on_mail ..., on_tick  |
//!   +-----------------------------------------------------+
//!     |  flush: effects
//!     +--> read, send, close ...  -->  what each connection has to start  -->  kernel: enter
//!     +--> mail, connections, answers, subscriptions  -->  siblings, API, bus
//! ```
//!
//! `enter` is outside of the turn, in `go_on`: it lets the kernel do what was started, and what it had put off.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use slab::Slab;
use tokio::sync::oneshot;

use crate::app::Application;
use crate::capacity::Capacity;
use crate::mailbox::Letter;
use crate::ring::{Descriptor, Kernel, Token};
use crate::shard::{ConnectionKey, Effect, Reply, Shard, Ticket, Turn};

use super::acceptor::{Acceptor, Arming, Vacancy};
use super::clock::{as_micros, as_millis};
use super::operations::Start;
use super::outside::Outside;
use super::pace::{Pace, Wait};
use super::table::{Departure, Table};

/// Completions handled before other tasks of the core get their turn, and letters.
pub(super) const COMPLETIONS_PER_TURN: usize = 4096;
const LETTERS_PER_TURN: usize = 4096;

/// The thread of one core: a kernel, a shard, and what ties them together.
pub struct Worker<A, K: Kernel, O> {
    pub kernel: K,
    pub shard: Shard<A>,
    pub outside: O,
    pub(super) capacity: Arc<Capacity>,
    /// Gone when no connections are accepted any more.
    listener: Option<K::Listener>,
    pub(super) acceptor: Acceptor,
    /// Accepted, and not let in yet.
    pub(super) waiting: VecDeque<K::Socket>,
    pub(super) table: Table<K>,
    /// Connections of it that are about to be handed over.
    pub(super) departures: HashMap<ConnectionKey, Departure>,
    /// Connections that wait for a receive buffer.
    pub(super) starved: Vec<Token>,
    effects: Vec<Effect>,
    pub(super) starts: Vec<(ConnectionKey, Start)>,
    /// Connections of which all that had come when they were looked at is received.
    pub(super) looked: Vec<ConnectionKey>,
    /// Turns since the shard asked to look around, while that is under way.
    pub(super) around: Option<u32>,
    /// Completions of this turn that others brought about: bytes and connections that came.
    pub(super) arrived: usize,
    /// Receives started in this turn because a settled connection became readable.
    pub(super) received_later: usize,
    /// Since when some letters could not be read.
    letters_since: Option<Instant>,
    /// When the last turn began, if the worker has not rested since, and what had been completed for it.
    turned: Option<(Instant, usize)>,
    pub(super) answers: Slab<oneshot::Sender<Reply>>,
    pace: Pace,
    /// When to return at the latest, once asked to.
    return_by: Option<Instant>,
}

/// How long connections may take to close when the worker is asked to return.
const RETURN_AFTER: Duration = Duration::from_millis(1500);

/// Whether a turn found something to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turned {
    Busy,
    Idle,
}

/// What comes after a turn and what the kernel did of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Then {
    /// Another turn.
    Turn,
    /// A rest: until something happens, or the worker's deadline.
    Rest,
}

impl<A: Application, K: Kernel, O: Outside<Socket = K::Socket>> Worker<A, K, O> {
    pub fn new(
        kernel: K,
        shard: Shard<A>,
        table: Table<K>,
        listener: K::Listener,
        outside: O,
        capacity: Arc<Capacity>,
    ) -> Worker<A, K, O> {
        Worker {
            pace: Pace::new(outside.instant()),
            capacity,
            kernel,
            shard,
            outside,
            listener: Some(listener),
            acceptor: Acceptor::new(),
            waiting: VecDeque::new(),
            table,
            departures: HashMap::new(),
            starved: Vec::new(),
            effects: Vec::new(),
            starts: Vec::new(),
            looked: Vec::new(),
            around: None,
            arrived: 0,
            received_later: 0,
            letters_since: None,
            turned: None,
            answers: Slab::new(),
            return_by: None,
        }
    }

    /// Does everything that there is to do now. Leaves submissions for `go_on`.
    pub fn turn(&mut self) -> Turned {
        let begun = self.outside.instant();
        self.report(begun);
        self.shard.on_time(self.outside.now());
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
        if completed + mailed + performed == 0 && !self.shard.is_behind() && !self.outside.has_letters() {
            return Turned::Idle;
        }
        self.turned = Some((begun, completed));
        let (now, arrived) = (self.outside.instant(), std::mem::take(&mut self.arrived));
        self.pace.on_turn(now, arrived, mailed, || self.outside.worked());
        Turned::Busy
    }

    /// Lets the kernel do its part of a turn, and what it has put off; waits within it where that pays.
    pub fn go_on(&mut self, turned: Turned) -> Then {
        if turned == Turned::Busy {
            // Where nothing but sends was started, what comes next is others' doing: more of it may share the next turn.
            let sends = self.kernel.sends_only();
            match sends.zip(self.wait()) {
                Some((sends, wait)) => self.kernel.enter(sends + wait.want, Some(wait.timeout)),
                None => self.kernel.enter(0, None),
            }
            return Then::Turn;
        }
        if let Some(wait) = self.wait() {
            self.kernel.enter(wait.want, Some(wait.timeout));
            if self.kernel.has_work() {
                return Then::Turn;
            }
        }
        Then::Rest
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

    /// How many connections it has.
    pub fn connections(&self) -> usize {
        self.table.len()
    }

    /// When to turn again if nothing happens.
    pub fn deadline(&self) -> Option<Instant> {
        if self.outside.has_letters() {
            return Some(self.outside.instant());
        }
        let timers = self.shard.deadline().map(|at| self.outside.instant_at(at));
        let around = self.around.map(|_| self.outside.instant());
        [timers, self.acceptor.resumes_at(), around, self.return_by].into_iter().flatten().min()
    }

    /// The wait within the kernel that pays now.
    fn wait(&self) -> Option<Wait> {
        self.pace.wait(self.outside.instant(), self.deadline(), self.table.len())
    }

    /// Whether the worker was asked to return and may.
    pub fn is_done(&mut self) -> bool {
        self.return_by.is_some_and(|by| self.shard.is_drained() || self.outside.instant() >= by)
    }

    fn mail_up(&mut self) -> usize {
        self.outside.collect();
        let mut count = 0;
        while count < LETTERS_PER_TURN
            && let Some(letter) = self.outside.next_letter(&self.shard)
        {
            count += 1;
            match letter {
                Letter::Mail(mail, answer) => {
                    let ticket = Ticket(self.answers.insert(answer) as u64);
                    self.shard.on_mail(ticket, mail);
                }
                Letter::Sibling(mail) => self.shard.on_sibling_mail(mail),
                Letter::Bus(mail) => self.shard.on_bus_mail(mail),
                Letter::Arrival(socket, parcel) => {
                    let key = self.shard.on_arrival(K::peer_of(&socket), *parcel);
                    self.keep(key, socket);
                }
                Letter::Drain(farewell, over) => {
                    let by = self.outside.instant() + over + RETURN_AFTER;
                    self.return_by.get_or_insert(by);
                    self.acceptor.stop();
                    self.shard.begin_drain(&farewell, as_millis(over));
                }
            }
        }
        self.letters_since = match self.outside.has_letters() {
            false => None,
            true => self.letters_since.or_else(|| Some(self.outside.instant())),
        };
        count
    }

    /// A connection that finds no room waits as it would have done in the listener's queue.
    fn accept(&mut self, socket: K::Socket) {
        match self.shard.has_room() {
            true => {
                let key = self.shard.on_accept(K::peer_of(&socket));
                self.keep(key, socket);
            }
            false => self.waiting.push_back(socket),
        }
    }

    /// Without a key there is no room, and dropping the socket closes it.
    fn keep(&mut self, key: Option<ConnectionKey>, socket: K::Socket) {
        if let Some(key) = key {
            self.capacity.add_descriptor();
            self.table.insert(key, Descriptor::Plain(socket));
        }
    }

    fn see_to_accepting(&mut self) {
        let now = self.outside.instant();
        while self.shard.has_room()
            && let Some(socket) = self.waiting.pop_front()
        {
            self.accept(socket);
        }
        if self.shard.has_room() {
            self.acceptor.resume_if_due(now, Vacancy::Some);
        } else {
            if self.acceptor.is_accepting() {
                self.shard.on_full();
            }
            self.shard.make_room();
            self.acceptor.resume_if_due(now, Vacancy::None);
        }
        match self.acceptor.next() {
            Arming::Nothing => {}
            Arming::Arm => {
                if let Some(listener) = &self.listener {
                    self.kernel.accept(listener);
                }
            }
            Arming::Cancel => self.kernel.cancel_accept(),
            Arming::Drain => {
                // Who has connected already is answered; who comes now is refused by the kernel, and may find another.
                let listener = self.listener.take();
                for socket in listener.into_iter().flat_map(K::drain) {
                    self.accept(socket);
                }
            }
        }
    }
}
