//! One worker of the simulation: its shard, its mailbox, and its turn.

use std::collections::{HashMap, VecDeque};

use sockring::shard::{
    BusMail, ConnectionKey, Effect, Mail, Now, Parcel, Shard, ShardStats, SiblingMail, Ticket, Turn,
};
use sockring_protocol::Millis;
use sockring_protocol::adapter::Broadcast;

use super::super::desk::Desk;
use super::super::network::{Event, TcpId};
use super::super::record::number_of;
use super::bus::Joined;
use super::{LATE_MS_MAX, World};

/// One thing for a worker.
pub enum Letter {
    Mail(Ticket, Mail),
    Sibling(SiblingMail),
    Arrival(TcpId, Parcel),
    Drain(Broadcast, u64),
    /// Of the bus, and how often that had come up.
    Bus(BusMail, u64),
}

/// How far a worker is with draining.
#[derive(Clone, Copy, Debug)]
pub struct Drain {
    pub since: u64,
    pub over_ms: u64,
    /// The clients that there were.
    pub clients: u64,
    pub is_over: bool,
}

/// A shard and what its worker knows.
pub struct Worker {
    pub shard: Shard<Desk>,
    pub keys: HashMap<ConnectionKey, TcpId>,
    pub mailbox: VecDeque<Letter>,
    /// What the kernel has done since the last turn.
    pub happened: Vec<Event>,
    pub turn_at: Option<u64>,
    /// It does not turn before, and its next turn takes until then.
    pub paused_until: u64,
    pub slow_until: u64,
    /// After the last turn.
    pub stats: ShardStats,
    pub drain: Option<Drain>,
    /// How often the bus had come up when it last said so.
    generation: u64,
    /// Connections that were looked at in this turn, and for how many turns it has looked at all of them.
    pub looked: Vec<ConnectionKey>,
    pub looks_around: Option<(u32, u64)>,
    effects: Vec<Effect>,
}

impl Worker {
    pub fn new(shard: Shard<Desk>) -> Worker {
        Worker {
            shard,
            keys: HashMap::new(),
            mailbox: VecDeque::new(),
            happened: Vec::new(),
            turn_at: None,
            paused_until: 0,
            slow_until: 0,
            stats: ShardStats::default(),
            drain: None,
            generation: 0,
            looked: Vec::new(),
            looks_around: None,
            effects: Vec::new(),
        }
    }

    pub fn turn_by(&mut self, at: u64) {
        self.turn_at = Some(self.turn_at.map_or(at, |turn| turn.min(at)));
    }

    pub fn turns_at(&self) -> Option<u64> {
        self.turn_at.map(|at| at.max(self.paused_until))
    }

    /// Whether it is in the middle of a turn that takes long.
    pub fn is_in_turn(&self) -> bool {
        !self.effects.is_empty()
    }

    /// Whether it has drained, and has nothing to do.
    pub fn is_over(&self) -> bool {
        self.drain.is_some_and(|drain| drain.is_over)
            && !self.is_in_turn()
            && self.mailbox.is_empty()
            && self.happened.is_empty()
    }
}

impl World {
    pub(super) fn turn(&mut self, shard: usize) {
        // What its last turn has done leaves.
        for effect in std::mem::take(&mut self.workers[shard].effects) {
            self.perform(shard, effect);
        }
        let worker = &mut self.workers[shard];
        worker.turn_at = None;
        worker.shard.on_time(Now { at: Millis(self.now), unix_ms: self.now });
        let mut happened = std::mem::take(&mut worker.happened);
        let completions = happened.len() as u64;
        if self.random.one_in(2) {
            self.shuffle(&mut happened);
        }
        for event in happened {
            self.on_event(shard, event);
        }
        for key in std::mem::take(&mut self.workers[shard].looked) {
            self.workers[shard].shard.on_looked(key);
        }
        let mut done = completions;
        // What comes in this turn is for the next one.
        for _ in 0..self.workers[shard].mailbox.len() {
            let worker = &mut self.workers[shard];
            if !worker.shard.takes_mail() {
                break;
            }
            if let Some(letter) = worker.mailbox.pop_front() {
                done += 1;
                self.read_letter(shard, letter);
            }
        }
        self.look_around(shard, done);
        let worker = &mut self.workers[shard];
        worker.shard.on_tick();
        let mut effects = std::mem::take(&mut worker.effects);
        worker.shard.flush(&mut effects);
        if worker.slow_until > self.now && !effects.is_empty() {
            worker.paused_until = worker.slow_until;
            worker.turn_by(self.now);
        } else {
            for effect in effects.drain(..) {
                self.perform(shard, effect);
            }
        }
        // What came before that letter in this turn was subscribed to for a bus that was down.
        if let Some(bus) = &mut self.bus {
            bus.on_read(shard, self.workers[shard].generation);
        }
        let late = if self.random.one_in(3) { self.random.within(0..=LATE_MS_MAX) } else { 0 };
        let worker = &mut self.workers[shard];
        worker.effects = effects;
        worker.shard.on_turned(Turn { micros: 100, mail_micros: 0, completions });
        if let Some(drain) = &mut worker.drain {
            drain.is_over = worker.shard.is_drained();
        }
        if let Some(deadline) = worker.shard.deadline() {
            let is_idle = !worker.shard.is_behind();
            assert!(deadline.0 > self.now || !is_idle, "a turn at {} left a deadline at {}", self.now, deadline.0);
            worker.turn_by(deadline.0 + late);
        }
        if !worker.mailbox.is_empty() {
            worker.turn_by(self.now);
        }
        worker.stats = worker.shard.stats();
        self.check_worker(shard);
    }

    fn on_event(&mut self, shard: usize, event: Event) {
        let (Event::Accept(id)
        | Event::Readable(id)
        | Event::Looked(id)
        | Event::Sent(id)
        | Event::Closed(id)
        | Event::Released(id)) = event
        else {
            return;
        };
        if self.network.server(id).shard != shard {
            // It has moved on since; its new worker asks for itself.
            return;
        }
        match event {
            Event::Accept(_) => self.accept(id),
            Event::Readable(_) => self.receive(id),
            Event::Looked(_) => self.looked(id),
            Event::Sent(_) => self.sent(id),
            Event::Closed(_) => self.closed(id),
            _ => self.release(id),
        }
    }

    fn read_letter(&mut self, shard: usize, letter: Letter) {
        match letter {
            Letter::Mail(ticket, mail) => self.read_mail(shard, ticket, mail),
            Letter::Sibling(SiblingMail::Deliver { broadcast, pending, index, from }) => {
                self.trace(|| format!("{shard} delivers {broadcast:?}"));
                let targets = self.record.borrow().targets(&broadcast, Some(shard));
                let mail = SiblingMail::Deliver { broadcast: broadcast.clone(), pending, index, from };
                self.workers[shard].shard.on_sibling_mail(mail);
                self.record.borrow_mut().on_delivered(usize::from(from), &broadcast, targets);
            }
            Letter::Sibling(mail) => {
                self.trace(|| format!("{shard} gets {mail:?}"));
                self.workers[shard].shard.on_sibling_mail(mail);
            }
            Letter::Arrival(id, parcel) => self.arrived(id, parcel),
            Letter::Bus(mail, generation) => {
                if mail == BusMail::Up {
                    self.workers[shard].generation = generation;
                }
                self.workers[shard].shard.on_bus_mail(mail);
            }
            Letter::Drain(farewell, over_ms) => self.drain_shard(shard, &farewell, over_ms),
        }
    }

    fn read_mail(&mut self, shard: usize, ticket: Ticket, mail: Mail) {
        self.trace(|| format!("{shard} {mail:?}"));
        let worker = &mut self.workers[shard];
        match &mail {
            Mail::Emit(broadcasts) | Mail::Deliver(broadcasts) => {
                let record = self.record.borrow();
                let named: Vec<_> = broadcasts
                    .iter()
                    .map(|broadcast| (broadcast.clone(), record.targets(broadcast, Some(shard))))
                    .collect();
                drop(record);
                let numbers = named.iter().map(|(broadcast, _)| number_of(broadcast)).collect();
                worker.shard.on_mail(ticket, mail);
                for (broadcast, targets) in named {
                    self.record.borrow_mut().on_delivered(shard, &broadcast, targets);
                }
                self.office.expect_delivered(ticket, shard, numbers);
            }
            Mail::DeliverForAck { broadcast, number, timeout_ms } => {
                let broadcast = broadcast.as_ref().clone();
                let targets = self.record.borrow().targets(&broadcast, Some(shard));
                self.record.borrow_mut().on_asked(*number, shard, *timeout_ms);
                let room = self.settings.acks_pending_max as u64 - worker.shard.stats().acks_pending;
                worker.shard.on_mail(ticket, mail);
                self.record.borrow_mut().on_delivered(shard, &broadcast, targets);
                // What is delivered over several turns may be acknowledged, or out of time, before all are asked.
                let room = if self.workers[shard].shard.is_behind() { 0 } else { room };
                self.office.expect_asked(ticket, shard, number_of(&broadcast), room);
            }
            Mail::Stats => {
                let clients = worker.shard.stats().clients;
                self.office.expect_count(ticket, clients..=clients, Vec::new());
                worker.shard.on_mail(ticket, mail);
            }
            _ => {
                let count = self.record.borrow_mut().on_mail(shard, &mail);
                // Where nobody joins, nobody waits.
                let joined = if *count.start() > 0 { self.joined_by(shard, &mail) } else { Vec::new() };
                self.office.expect_count(ticket, count, joined);
                self.workers[shard].shard.on_mail(ticket, mail);
            }
        }
    }

    /// The rooms that sockets of this shard are put into, where they have members now.
    fn joined_by(&self, shard: usize, mail: &Mail) -> Vec<Joined> {
        let (namespace, rooms) = match mail {
            Mail::Join(_, room) => (None, std::slice::from_ref(room)),
            Mail::JoinSelected(selection, rooms) => (Some(&*selection.namespace), &**rooms),
            _ => return Vec::new(),
        };
        let record = self.record.borrow();
        let here = record.live().filter(|(_, socket)| {
            socket.shard == shard && namespace.is_none_or(|namespace| socket.namespace == namespace)
        });
        let joined = here.flat_map(|(sid, socket)| {
            let joined = rooms.iter().filter(|room| socket.rooms.contains(&***room));
            joined.map(|room| Joined {
                sid: sid.clone(),
                leaves: socket.leaves,
                room: self.room_key(&socket.namespace, room),
            })
        });
        joined.collect()
    }

    fn drain_shard(&mut self, shard: usize, farewell: &Broadcast, over_ms: u64) {
        let mut record = self.record.borrow_mut();
        let worker = &mut self.workers[shard];
        for namespace in &self.settings.namespaces {
            let farewell = Broadcast { namespace: namespace.as_str().into(), ..farewell.clone() };
            let targets = record.targets(&farewell, Some(shard));
            record.expect_broadcast(&farewell, &targets);
        }
        drop(record);
        let clients = worker.shard.stats().clients;
        worker.drain = Some(Drain { since: self.now, over_ms, clients, is_over: false });
        worker.shard.begin_drain(farewell, over_ms);
    }
}
