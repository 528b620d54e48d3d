//! `Around`: what one worker of the simulation has around it: virtual time, its mailbox, the other workers, the API and the
//! bus. Of each letter the record says what has to come of it, as the worker reads it.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use sockring::app::Application;
use sockring::bus::Bus;
use sockring::mailbox::Letter;
use sockring::shard::{
    Acknowledgement, BusMail, EngineSettings, GivenEvent, Instance, KeptSession, Mail, MailboxQuestion, Now, Parcel,
    ReceivedEvents, Remembered, RoomName, SessionQuestion, Shard, SiblingMail, Ticket, Verdict,
};
use sockring::worker::Outside;
use sockring_protocol::Millis;
use sockring_protocol::adapter::Broadcast;

use super::super::network::{Network, TcpId};
use super::super::random::Random;
use super::super::record::{KeyRules, Record, number_of};
use super::START_MS;
use super::bus::{Joined, RoomKey};
use super::office::Wanted;
use super::socket::Socket;

/// A letter, and what the world knows of it.
pub struct Posted {
    pub letter: Letter<Socket>,
    /// Of a question of the API.
    pub ticket: Option<Ticket>,
    /// Of a letter of the bus: how often that had come up.
    pub generation: u64,
}

impl Posted {
    pub fn new(letter: Letter<Socket>) -> Posted {
        Posted { letter, ticket: None, generation: 0 }
    }

    pub fn is_of_sibling(&self) -> bool {
        matches!(self.letter, Letter::Sibling(_))
    }

    pub fn is_move(&self) -> bool {
        matches!(self.letter, Letter::Sibling(SiblingMail::MoveIn(_)))
    }
}

/// What a worker gives away in a turn, in order.
pub enum Outgoing {
    Letter(usize, Letter<Socket>),
    ToApi(Socket, Parcel),
    /// With the time at which it was wanted.
    Subscribe(RoomName, u32, u64),
    Unsubscribe(RoomName),
    Acknowledged(Acknowledgement),
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

/// What was read last: what it does is to be put down when it is done.
enum Read {
    /// Broadcasts, to whom each goes, and who gives the answer.
    Delivered(usize, Vec<(Broadcast, Vec<String>)>),
    /// One that asks for acknowledgements: for how many there is room.
    Asked(Ticket, Broadcast, Vec<String>, u64),
}

/// All around one worker.
pub struct Around {
    pub shard: usize,
    /// How many there are.
    pub shards: u16,
    pub settings: Arc<EngineSettings>,
    pub record: Rc<RefCell<Record>>,
    pub network: Rc<RefCell<Network>>,
    pub random: Random,
    pub traces: bool,
    origin: Instant,
    pub mailbox: VecDeque<Posted>,
    /// Taken out of the mailbox, and not read.
    pub collected: VecDeque<Posted>,
    read: Option<Read>,
    /// What time it is for the worker, since it last asked.
    pub told: Cell<u64>,
    /// When it last counted its clients, and how many there were.
    counted: (u64, u64),
    pub outgoing: Vec<Outgoing>,
    /// What the answers to questions that were read have to say.
    pub wanted: Vec<(Ticket, Wanted)>,
    /// How often the bus had come up when it last said so.
    pub generation: u64,
    pub drain: Option<Drain>,
    /// One in this many mails that may be refused is; 0: none.
    pub refuses_one_in: u64,
}

impl Around {
    pub fn new(
        shard: usize,
        shards: u16,
        settings: Arc<EngineSettings>,
        record: Rc<RefCell<Record>>,
        network: Rc<RefCell<Network>>,
        random: Random,
    ) -> Around {
        Around {
            shard,
            shards,
            settings,
            record,
            network,
            random,
            traces: std::env::var_os("SIM_TRACE").is_some(),
            origin: Instant::now(),
            mailbox: VecDeque::new(),
            collected: VecDeque::new(),
            read: None,
            told: Cell::new(START_MS),
            counted: (0, 0),
            outgoing: Vec::new(),
            wanted: Vec::new(),
            generation: 0,
            drain: None,
            refuses_one_in: 0,
        }
    }

    pub fn letters(&self) -> impl Iterator<Item = &Posted> {
        self.collected.iter().chain(&self.mailbox)
    }

    /// A time to measure with, as virtual time.
    pub fn millis(&self, instant: Instant) -> u64 {
        START_MS + u64::try_from((instant - self.origin).as_millis()).expect("not in so long a time")
    }

    fn at(&self) -> u64 {
        self.network.borrow().now
    }

    fn trace(&self, what: impl FnOnce() -> String) {
        if self.traces {
            eprintln!("{:>7} {} {}", self.at() - START_MS, self.shard, what());
        }
    }

    /// The key of a room that a record knows by the names of both.
    fn room_key(&self, namespace: &str, room: &str) -> RoomKey {
        super::bus::room_key(&self.settings, namespace, room)
    }

    fn targets(&self, broadcast: &Broadcast) -> (Broadcast, Vec<String>) {
        self.record.borrow_mut().on_remembered(broadcast, self.shard);
        (broadcast.clone(), self.record.borrow().targets(broadcast, Some(self.shard)))
    }

    /// Puts down what has to come of a letter that is about to be read.
    fn before_reading<A: Application>(&mut self, shard: &Shard<A>, posted: &Posted) {
        match &posted.letter {
            Letter::Mail(mail, _) => {
                self.trace(|| format!("{mail:?}"));
                let ticket = posted.ticket.expect("somebody asked");
                self.before_mail(shard, ticket, mail);
            }
            Letter::Sibling(SiblingMail::Deliver { broadcast, from, .. }) => {
                self.trace(|| format!("delivers {broadcast:?}"));
                let targets = self.targets(broadcast);
                self.read = Some(Read::Delivered(usize::from(*from), vec![targets]));
            }
            Letter::Sibling(mail) => self.trace(|| format!("gets {mail:?}")),
            Letter::Arrival(socket, parcel) => {
                self.trace(|| format!("gets {}: {parcel:?}", socket.id()));
                let owner = self.network.borrow().tcp(socket.id()).owner;
                self.record.borrow_mut().on_heard(owner);
            }
            Letter::Bus(mail) => {
                if *mail == BusMail::Up {
                    self.generation = posted.generation;
                }
            }
            Letter::Drain(farewell, over) => {
                let over_ms = u64::try_from(over.as_millis()).expect("a short time");
                let mut record = self.record.borrow_mut();
                for namespace in &self.settings.namespaces {
                    let farewell = Broadcast { namespace: namespace.as_str().into(), ..Broadcast::clone(farewell) };
                    let targets = record.targets(&farewell, Some(self.shard));
                    record.expect_broadcast(&farewell, &targets);
                }
                drop(record);
                let clients = shard.stats().clients;
                self.drain = Some(Drain { since: self.at(), over_ms, clients, is_over: false });
            }
        }
    }

    fn before_mail<A: Application>(&mut self, shard: &Shard<A>, ticket: Ticket, mail: &Mail) {
        let wanted = match mail {
            Mail::Emit(broadcasts) | Mail::Deliver(broadcasts) => {
                let named = broadcasts.iter().map(|broadcast| self.targets(broadcast)).collect();
                self.read = Some(Read::Delivered(self.shard, named));
                Wanted::Delivered(self.shard, broadcasts.iter().map(number_of).collect())
            }
            Mail::EmitRemembered(emits) => {
                let rules = KeyRules {
                    window_ms: self.settings.idempotency_window_ms,
                    keys_max: self.settings.idempotency_keys_max / usize::from(self.shards),
                };
                let judge = |emit: &Remembered| {
                    let verdict = self.record.borrow_mut().judge(self.shard, self.told.get(), emit, rules);
                    (verdict, self.targets(&emit.broadcast))
                };
                let judged: Vec<_> = emits.iter().map(judge).collect();
                let verdicts =
                    judged.iter().map(|(verdict, (broadcast, _))| (number_of(broadcast), *verdict)).collect();
                for (emit, (verdict, _)) in emits.iter().zip(&judged) {
                    if let (Verdict::New, Some(keep)) = (verdict, &emit.keep) {
                        let mut record = self.record.borrow_mut();
                        record.on_kept(self.shard, &emit.broadcast, keep.expires_unix_ms);
                    }
                }
                let new = judged.into_iter().filter(|(verdict, _)| *verdict == Verdict::New);
                self.read = Some(Read::Delivered(self.shard, new.map(|(_, targets)| targets).collect()));
                Wanted::Remembered(self.shard, verdicts)
            }
            Mail::DeliverForAck { broadcast, number, timeout_ms } => {
                let (broadcast, targets) = self.targets(broadcast);
                self.record.borrow_mut().on_asked(*number, self.shard, *timeout_ms);
                let room = self.settings.acks_pending_max as u64 - shard.stats().acks_pending;
                self.read = Some(Read::Asked(ticket, broadcast, targets, room));
                return;
            }
            Mail::Kept { room, .. } | Mail::Unkeep { room, .. } => {
                let mut record = self.record.borrow_mut();
                let (least, most) = record.kept_at(self.shard, Some(room), self.told.get());
                if let Mail::Unkeep { .. } = mail {
                    record.on_taken_back(self.shard, room);
                }
                Wanted::Count(least..=most, Vec::new())
            }
            Mail::Stats | Mail::Metrics => {
                let stats = shard.stats();
                // However many ask: who counts much does not count at once again.
                let fresh_ms = (stats.clients + stats.connections) / self.settings.turn.counted_per_ms as u64;
                if self.counted.0 + fresh_ms < self.told.get() {
                    self.counted = (self.told.get(), stats.clients);
                }
                let (_, clients) = self.counted;
                Wanted::Count(stats.clients.min(clients)..=stats.clients.max(clients), Vec::new())
            }
            _ => {
                let count = self.record.borrow_mut().on_mail(self.shard, mail);
                // Where nobody joins, nobody waits.
                let joined = if *count.start() > 0 { self.joined_by(mail) } else { Vec::new() };
                Wanted::Count(count, joined)
            }
        };
        self.wanted.push((ticket, wanted));
    }

    /// Puts down what the letter that was read last has done.
    fn after_reading<A: Application>(&mut self, shard: &Shard<A>) {
        match self.read.take() {
            None => {}
            Some(Read::Delivered(root, named)) => {
                for (broadcast, targets) in named {
                    self.record.borrow_mut().on_delivered(root, &broadcast, targets);
                }
            }
            Some(Read::Asked(ticket, broadcast, targets, room)) => {
                self.record.borrow_mut().on_delivered(self.shard, &broadcast, targets);
                // What is delivered over several turns may be acknowledged, or out of time, before all are asked.
                let room = if shard.is_behind() { 0 } else { room };
                self.wanted.push((ticket, Wanted::Asked(self.shard, number_of(&broadcast), room)));
            }
        }
    }

    /// The rooms that sockets of this shard are put into, where they have members now.
    fn joined_by(&self, mail: &Mail) -> Vec<Joined> {
        let (namespace, rooms) = match mail {
            Mail::Join(_, room) => (None, std::slice::from_ref(room)),
            Mail::JoinSelected(selection, rooms) => (Some(&*selection.namespace), &**rooms),
            _ => return Vec::new(),
        };
        let record = self.record.borrow();
        let here = record.live().filter(|(_, socket)| {
            socket.shard == self.shard && namespace.is_none_or(|namespace| socket.namespace == namespace)
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

    /// The connection that a letter brings.
    pub fn brought(letter: &Letter<Socket>) -> Option<TcpId> {
        if let Letter::Arrival(socket, _) = letter { Some(socket.id()) } else { None }
    }
}

impl Outside for Around {
    type Socket = Socket;

    fn now(&self) -> Now {
        self.told.set(self.at());
        Now { at: Millis(self.at()), unix_ms: self.at() }
    }

    fn instant(&self) -> Instant {
        self.instant_at(Millis(self.at()))
    }

    fn instant_at(&self, at: Millis) -> Instant {
        self.origin + Duration::from_millis(at.0.saturating_sub(START_MS))
    }

    fn worked(&self) -> Duration {
        Duration::ZERO
    }

    fn collect(&mut self) {
        if self.collected.is_empty() {
            std::mem::swap(&mut self.collected, &mut self.mailbox);
        }
    }

    fn next_letter<A: Application>(&mut self, shard: &Shard<A>) -> Option<Letter<Socket>> {
        self.after_reading(shard);
        if !shard.takes_mail() {
            return None;
        }
        let posted = self.collected.pop_front()?;
        self.before_reading(shard, &posted);
        Some(posted.letter)
    }

    fn has_letters(&self) -> bool {
        !self.collected.is_empty()
    }

    fn has_mail(&self) -> bool {
        !self.mailbox.is_empty()
    }

    fn post(&mut self, shard: u16, letter: Letter<Socket>) {
        assert!(usize::from(shard) != self.shard, "mail to itself");
        self.outgoing.push(Outgoing::Letter(usize::from(shard), letter));
    }

    fn offer(&mut self, shard: u16, letter: Letter<Socket>, _: usize) -> Result<(), Letter<Socket>> {
        if self.refuses_one_in > 0
            && let Letter::Sibling(SiblingMail::Deliver { broadcast, .. }) = &letter
            && self.random.one_in(self.refuses_one_in)
        {
            self.record.borrow_mut().on_refused(broadcast, usize::from(shard));
            return Err(letter);
        }
        self.post(shard, letter);
        Ok(())
    }

    fn hand_over(&mut self, socket: Socket, parcel: Parcel) {
        self.outgoing.push(Outgoing::ToApi(socket, parcel));
    }

    fn send_abroad(&mut self, instance: Instance, _: Socket, _: Parcel) {
        unreachable!("there is one instance, and nobody has heard of {instance:?}");
    }

    fn bus(&mut self) -> &mut dyn Bus {
        self
    }
}

impl Bus for Around {
    fn subscribe(&mut self, room: RoomName, epoch: u32) {
        let at = self.at();
        self.outgoing.push(Outgoing::Subscribe(room, epoch, at));
    }

    fn unsubscribe(&mut self, room: RoomName) {
        self.outgoing.push(Outgoing::Unsubscribe(room));
    }

    fn acknowledge(&mut self, answer: Acknowledgement) {
        self.outgoing.push(Outgoing::Acknowledged(answer));
    }

    fn find_session(&mut self, question: SessionQuestion) {
        unreachable!("no stream is simulated, so nobody asks others: {question:?}");
    }

    fn keep_session(&mut self, kept: KeptSession) {
        unreachable!("no stream is simulated, so nobody is told: {kept:?}");
    }

    fn read_kept(&mut self, question: MailboxQuestion) {
        unreachable!("shards keep events here, and nobody else: {question:?}");
    }

    fn confirm_kept(&mut self, received: ReceivedEvents) {
        unreachable!("shards keep events here, and nobody else: {received:?}");
    }

    fn give_kept(&mut self, given: GivenEvent) {
        unreachable!("shards keep events here, and nobody else: {given:?}");
    }
}
