//! `Office`: the API of the simulation: it asks shards as `api/mod.rs` does, waits for their answers, and holds them against
//! the record.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use sockring::mailbox::Letter;
use sockring::shard::{Keeping, Mail, Remembered, Reply, Ticket, Verdict, home_of};
use sockring_protocol::adapter::Broadcast;

use tokio::sync::oneshot;

use super::super::network::{ActorId, Event};
use super::super::record::{Sender, number_of};
use super::World;
use super::around::Posted;
use super::bus::Joined;

/// No question waits longer for its answer: a few turns of a few workers.
const ANSWER_MS_MAX: u64 = 100;
/// But that to a join, for the bus.
const CONFIRM_MS_MAX: u64 = 250;

/// What a backend calls.
pub enum Call {
    /// Each has a number of its own.
    Emit(Vec<Broadcast>),
    /// The same, each to its home at once, which remembers something of it.
    Remembered(Vec<Remembered>),
    /// The same question to all shards.
    All(Box<dyn Fn() -> Mail>),
    /// Another instance emits to one room.
    Remote(Broadcast),
    /// Another instance emits and asks each receiver to acknowledge in this time.
    ForAck(Broadcast, u64),
}

/// A call whose answers are awaited.
struct Open {
    actor: ActorId,
    sender: Sender,
    /// What has not been posted yet: it waits for what was posted before.
    rest: Vec<Broadcast>,
    /// The emits that were posted last.
    posted: Vec<u64>,
    outstanding: usize,
}

/// A question to one shard.
struct Asked {
    call: u64,
    shard: usize,
    at: u64,
    wanted: Option<Wanted>,
    answer: oneshot::Receiver<Reply>,
}

/// What its answer has to say.
pub enum Wanted {
    Delivered(usize, Vec<u64>),
    /// The same, and what each emit is.
    Remembered(usize, Vec<(u64, Verdict)>),
    /// That an emit is awaited of its receivers, where there is room for so many.
    Asked(usize, u64, u64),
    /// So many sockets, which have joined these rooms.
    Count(RangeInclusive<u64>, Vec<Joined>),
}

/// All calls, and all questions, that have no answer yet.
#[derive(Default)]
pub struct Office {
    calls: BTreeMap<u64, Open>,
    asked: BTreeMap<u64, Asked>,
    numbers: u64,
}

impl Office {
    pub fn is_waiting(&self, sender: Sender) -> bool {
        self.calls.values().any(|open| open.sender == sender)
    }

    pub(super) fn is_idle(&self) -> bool {
        self.calls.is_empty() && self.asked.is_empty()
    }

    /// No answer is overdue.
    pub(super) fn check(&self, now: u64, late_ms: u64) {
        let by = |asked: &&Asked| asked.at + ANSWER_MS_MAX + CONFIRM_MS_MAX + late_ms;
        let overdue = self.asked.values().find(|asked| by(asked) < now);
        assert!(overdue.is_none(), "a shard does not answer");
    }

    fn number(&mut self) -> u64 {
        self.numbers += 1;
        self.numbers
    }
}

impl World {
    pub(super) fn begin_call(&mut self, actor: ActorId, sender: Sender, call: Call) {
        let number = self.office.number();
        let open = Open { actor, sender, rest: Vec::new(), posted: Vec::new(), outstanding: 0 };
        self.office.calls.insert(number, open);
        match call {
            Call::Emit(broadcasts) => {
                self.office.calls.get_mut(&number).expect("just begun").rest = broadcasts;
                self.go_on(number);
            }
            Call::Remembered(emits) => self.post_remembered(number, sender, emits),
            Call::Remote(broadcast) => {
                if self.is_brought(&broadcast) {
                    self.office.calls.get_mut(&number).expect("just begun").rest = vec![broadcast];
                }
                self.go_on(number);
            }
            Call::ForAck(broadcast, timeout_ms) => {
                let emit = number_of(&broadcast);
                self.record.borrow_mut().on_posted(sender, std::slice::from_ref(&broadcast));
                self.office.calls.get_mut(&number).expect("just begun").posted = vec![emit];
                for shard in 0..self.seats.len() {
                    let broadcast = Box::new(broadcast.clone());
                    self.ask(number, shard, Mail::DeliverForAck { broadcast, number: emit, timeout_ms });
                }
            }
            Call::All(mail) => (0..self.seats.len()).for_each(|shard| self.ask(number, shard, mail())),
        }
    }

    fn post_remembered(&mut self, call: u64, sender: Sender, emits: Vec<Remembered>) {
        let shards = u16::try_from(self.seats.len()).expect("few");
        let broadcasts: Vec<_> = emits.iter().map(|emit| Broadcast::clone(&emit.broadcast)).collect();
        self.record.borrow_mut().on_posted(sender, &broadcasts);
        self.office.calls.get_mut(&call).expect("just begun").posted = broadcasts.iter().map(number_of).collect();
        for shard in 0..shards {
            let part: Vec<_> = emits.iter().filter(|emit| home_of_emit(emit, shards) == shard).cloned().collect();
            if part.is_empty() {
                continue;
            }
            match self.is_refused() {
                true => part.iter().for_each(|emit| self.record.borrow_mut().on_not_taken(&emit.broadcast)),
                false => self.ask(call, usize::from(shard), Mail::EmitRemembered(part)),
            }
        }
        if self.office.calls[&call].outstanding == 0 {
            self.end_wave(call);
            self.go_on(call);
        }
    }

    fn ask(&mut self, call: u64, shard: usize, mail: Mail) {
        let ticket = self.office.number();
        let (sender, answer) = oneshot::channel();
        self.office.asked.insert(ticket, Asked { call, shard, at: self.now, wanted: None, answer });
        self.office.calls.get_mut(&call).expect("it is open").outstanding += 1;
        self.post(shard, Posted { ticket: Some(Ticket(ticket)), ..Posted::new(Letter::Mail(mail, sender)) });
    }

    /// Posts what may go together: all emits to one room each go to their homes, all others to every shard.
    fn go_on(&mut self, number: u64) {
        let shards = u16::try_from(self.seats.len()).expect("few");
        loop {
            let open = self.office.calls.get_mut(&number).expect("it is open");
            let Some(first) = open.rest.first() else {
                let actor = open.actor;
                self.office.calls.remove(&number);
                return self.network.borrow_mut().at(self.now, Event::Wake(actor));
            };
            let has_home = first.rooms.len() == 1;
            let count = open.rest.iter().take_while(|broadcast| (broadcast.rooms.len() == 1) == has_home).count();
            let wave: Vec<_> = open.rest.drain(..count).collect();
            open.posted = wave.iter().map(number_of).collect();
            self.record.borrow_mut().on_posted(open.sender, &wave);
            for shard in 0..shards {
                let goes_there = |broadcast: &&Broadcast| !has_home || home_of(&broadcast.rooms[0], shards) == shard;
                let part: Vec<_> = wave.iter().filter(goes_there).cloned().collect();
                if part.is_empty() {
                    continue;
                }
                if self.is_refused() {
                    let mut record = self.record.borrow_mut();
                    part.iter().for_each(|broadcast| record.on_refused(broadcast, usize::from(shard)));
                    continue;
                }
                let mail = if has_home { Mail::Emit(part) } else { Mail::Deliver(part) };
                self.ask(number, usize::from(shard), mail);
            }
            if self.office.calls[&number].outstanding > 0 {
                return;
            }
            self.end_wave(number);
        }
    }

    /// Whether a mailbox is too full just now.
    pub(super) fn is_refused(&mut self) -> bool {
        self.refuses_one_in > 0 && self.random.one_in(self.refuses_one_in)
    }

    fn end_wave(&mut self, number: u64) {
        let open = self.office.calls.get_mut(&number).expect("it is open");
        for emit in std::mem::take(&mut open.posted) {
            self.record.borrow_mut().on_answered(emit);
        }
    }

    /// Takes the answers that a worker has given, and sees to it that it gives none to what it has not read.
    pub(super) fn take_answers(&mut self, shard: usize) {
        for (ticket, wanted) in std::mem::take(&mut self.seats[shard].worker.outside.wanted) {
            let asked = self.office.asked.get_mut(&ticket.0).expect("it was asked");
            assert!(asked.wanted.replace(wanted).is_none(), "a question was read twice");
        }
        let of_shard = self.office.asked.iter_mut().filter(|(_, asked)| asked.shard == shard);
        let answered: Vec<_> = of_shard
            .filter_map(|(ticket, asked)| match asked.answer.try_recv() {
                Ok(reply) => Some((*ticket, reply)),
                Err(oneshot::error::TryRecvError::Empty) => None,
                Err(oneshot::error::TryRecvError::Closed) => panic!("a question without an answer"),
            })
            .collect();
        for (ticket, reply) in answered {
            let asked = self.office.asked.remove(&ticket).expect("it was there");
            self.on_reply(asked.call, asked.wanted.expect("an answer before the question was read"), &reply);
        }
    }

    fn on_reply(&mut self, call: u64, wanted: Wanted, reply: &Reply) {
        match wanted {
            Wanted::Delivered(shard, numbers) => {
                let Reply::Delivered(counts) = reply else { panic!("{reply:?} to an emit") };
                assert_eq!(counts.len(), numbers.len(), "one count for each emit");
                for (count, number) in counts.iter().zip(numbers) {
                    let tally = self.record.borrow().tally(number, shard);
                    assert!(tally.range().contains(count), "{count} for emit {number}, where {tally:?} was right");
                }
            }
            Wanted::Remembered(shard, emits) => {
                let Reply::Remembered(outcomes) = reply else { panic!("{reply:?} to an emit") };
                assert_eq!(outcomes.len(), emits.len(), "an outcome for each emit");
                for (outcome, (number, verdict)) in outcomes.iter().zip(emits) {
                    assert_eq!(outcome.verdict, verdict, "emit {number}");
                    assert!(outcome.keeping.is_none_or(|keeping| keeping == Keeping::Kept), "{number} is not kept");
                    let tally = self.record.borrow().tally(number, shard);
                    let count = outcome.delivered;
                    assert!(tally.range().contains(&count), "{count} for emit {number}, where {tally:?} was right");
                }
            }
            Wanted::Asked(shard, number, room) => {
                let Reply::Delivered(counts) = reply else { panic!("{reply:?} to an emit") };
                let tally = self.record.borrow().tally(number, shard);
                let (least, most) = (*tally.range().start(), *tally.range().end());
                // A receiver that is closed meanwhile makes room.
                let is_right = counts.len() == 1 && (least.min(room)..=most).contains(&counts[0]);
                assert!(is_right, "{counts:?} asked by emit {number}, where {tally:?} with room for {room} was right");
            }
            Wanted::Count(expected, joined) => {
                let count = match reply {
                    Reply::Changed(count) | Reply::Sockets(count) | Reply::Joined { sockets: count, .. } => *count,
                    Reply::Kept { total, .. } => *total,
                    Reply::Unkept { here, by_bus } => here + by_bus,
                    Reply::Stats(stats) => stats.clients,
                    Reply::Metrics(metrics) => metrics.stats.clients,
                    Reply::Described(sockets) => sockets.len() as u64,
                    Reply::Rooms(rooms) => rooms.len() as u64,
                    Reply::Users { users, next } => {
                        assert_eq!(*next, None, "so few rooms are one look");
                        users.iter().map(|(_, sockets)| sockets).sum()
                    }
                    Reply::Outposts(shards) => shards.len() as u64,
                    Reply::TooMuch | Reply::Delivered(_) | Reply::Remembered(_) | Reply::Concluded { .. } => {
                        panic!("{reply:?} to a question")
                    }
                };
                assert!(expected.contains(&count), "{reply:?} where {expected:?} was right");
                self.check_joined(&joined);
            }
        }
        let open = self.office.calls.get_mut(&call).expect("its call is open");
        open.outstanding -= 1;
        if open.outstanding == 0 {
            self.end_wave(call);
            self.go_on(call);
        }
    }
}

/// Where it is remembered.
fn home_of_emit(emit: &Remembered, shards: u16) -> u16 {
    match &*emit.broadcast.rooms {
        [room] => home_of(room, shards),
        _ => home_of(&emit.broadcast.namespace, shards),
    }
}
