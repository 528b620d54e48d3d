//! What backends emit: to whom each emit has to come, that it comes once, and in order for a sender that waits.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::RangeInclusive;

use sockring::shard::home_of;
use sockring_protocol::adapter::{Broadcast, Delivery};
use sockring_protocol::socketio;

use super::{LiveSocket, Record, shard_of};

/// Who emits and waits for each answer before it goes on.
pub type Sender = u64;

/// How many sockets an answer may name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    least: u64,
    most: u64,
}

impl Tally {
    pub fn range(self) -> RangeInclusive<u64> {
        self.least..=self.most
    }
}

/// An emit that was posted and not answered.
#[derive(Debug)]
struct Open {
    sender: Sender,
    wave: u64,
    broadcast: Broadcast,
    /// Sockets that were members all the time.
    has_to_reach: BTreeSet<String>,
    has_reached: BTreeSet<String>,
    /// Sessions that it is for, whose clients may be away.
    has_to_be_remembered: BTreeSet<String>,
    /// By the shard that answers.
    tallies: HashMap<usize, Tally>,
}

/// The last emit of a sender that a socket got.
#[derive(Debug, Default)]
struct Last {
    wave: u64,
    /// By the only room of the emit, or none.
    numbers: HashMap<Box<str>, u64>,
}

/// All emits, by number.
#[derive(Debug, Default)]
pub struct Emits {
    count: u64,
    waves: u64,
    open: BTreeMap<u64, Open>,
    last: HashMap<(String, Sender), Last>,
}

impl Emits {
    /// A socket is gone.
    pub(super) fn excuse(&mut self, sid: &str) {
        for open in self.open.values_mut() {
            open.has_to_reach.remove(sid);
        }
    }

    /// Nobody has to get an emit.
    pub(super) fn excuse_all(&mut self, number: u64) {
        if let Some(open) = self.open.get_mut(&number) {
            open.has_to_reach.clear();
        }
    }

    /// A socket has left a room.
    pub(super) fn excuse_in(&mut self, sid: &str, room: &str) {
        for open in self.open.values_mut().filter(|open| open.broadcast.rooms.iter().any(|name| **name == *room)) {
            open.has_to_reach.remove(sid);
            open.has_to_be_remembered.remove(sid);
        }
    }

    /// A socket has joined a room, whose members may be excepted.
    pub(super) fn excuse_from(&mut self, sid: &str, room: &str) {
        for open in self.open.values_mut().filter(|open| open.broadcast.except.iter().any(|name| **name == *room)) {
            open.has_to_reach.remove(sid);
            open.has_to_be_remembered.remove(sid);
        }
    }
}

impl Record {
    /// A number for a new emit.
    pub fn next_emit(&mut self) -> u64 {
        self.emits.count += 1;
        self.emits.count
    }

    /// A sender posts these at once, and all that it posted before was answered.
    pub fn on_posted(&mut self, sender: Sender, broadcasts: &[Broadcast]) {
        self.emits.waves += 1;
        for broadcast in broadcasts {
            let has_to_reach = match broadcast.delivery {
                Delivery::Queue => {
                    self.targets(broadcast, None).into_iter().filter(|sid| self.is_told(sid, broadcast)).collect()
                }
                Delivery::Volatile => BTreeSet::new(),
            };
            let has_to_be_remembered = match broadcast.delivery {
                Delivery::Queue => {
                    self.sessions_owed(broadcast).into_iter().filter(|sid| self.is_told(sid, broadcast)).collect()
                }
                Delivery::Volatile => BTreeSet::new(),
            };
            let open = Open {
                has_to_be_remembered,
                sender,
                wave: self.emits.waves,
                broadcast: broadcast.clone(),
                has_to_reach,
                has_reached: BTreeSet::new(),
                tallies: HashMap::new(),
            };
            assert!(self.emits.open.insert(number_of(broadcast), open).is_none(), "emitted twice");
        }
    }

    /// Whether the home of an emit's room has been told of a socket: the turn in which it has joined may still be on.
    fn is_told(&self, sid: &str, broadcast: &Broadcast) -> bool {
        let [room] = &*broadcast.rooms else { return true };
        let home = home_of(room, shards(&self.standing));
        shard_number(shard_of(sid)) == home || !self.untold.contains(&(sid.to_owned(), room.to_string()))
    }

    /// A mailbox was too full: the sockets of this shard do not get it.
    pub fn on_refused(&mut self, broadcast: &Broadcast, shard: usize) {
        if let Some(open) = self.emits.open.get_mut(&number_of(broadcast)) {
            let has_one_room = open.broadcast.rooms.len() == 1;
            let is_home =
                has_one_room && home_of(&open.broadcast.rooms[0], shards(&self.standing)) == shard_number(shard);
            open.has_to_reach.retain(|sid| !is_home && shard_of(sid) != shard);
            open.has_to_be_remembered.retain(|sid| !is_home && shard_of(sid) != shard);
        }
    }

    /// Whether all shards had answered: it has to have come to all that it had to.
    pub fn on_answered(&mut self, number: u64) {
        let open = self.emits.open.remove(&number).expect("it was posted");
        let missed: Vec<_> = open.has_to_reach.difference(&open.has_reached).collect();
        let is_forgotten = |sid: &&String| !self.is_remembered(sid, number);
        let forgotten: Vec<_> = open.has_to_be_remembered.iter().filter(is_forgotten).collect();
        assert!(forgotten.is_empty(), "an emit to {:?} is not remembered for {forgotten:?}", open.broadcast.rooms);
        assert!(missed.is_empty(), "an emit to {:?} was answered and did not reach {missed:?}", open.broadcast.rooms);
    }

    /// What a shard may answer to an emit.
    pub fn tally(&self, number: u64, shard: usize) -> Tally {
        let open = self.emits.open.get(&number).expect("it was posted");
        open.tallies.get(&shard).copied().unwrap_or_default()
    }

    /// The sids of the sockets that a broadcast names, of one shard or all.
    pub fn targets(&self, broadcast: &Broadcast, shard: Option<usize>) -> Vec<String> {
        let is_in = |sid: &str, socket: &LiveSocket, rooms: &[Box<str>]| {
            rooms.iter().any(|room| &**room == sid || socket.rooms.contains(&**room))
        };
        let targets = self.live.iter().filter(|(sid, socket)| {
            socket.namespace == *broadcast.namespace
                && shard.is_none_or(|shard| socket.shard == shard)
                && (broadcast.rooms.is_empty() || is_in(sid, socket, &broadcast.rooms))
                && !is_in(sid, socket, &broadcast.except)
        });
        targets.map(|(sid, _)| sid.clone()).collect()
    }

    /// A shard has queued a broadcast for these sockets; `root` gives the answer. Those that are gone by now may have taken
    /// it or not.
    pub fn on_delivered(&mut self, root: usize, broadcast: &Broadcast, mut targets: Vec<String>) {
        let named = targets.len() as u64;
        targets.retain(|sid| self.live.contains_key(sid));
        let number = number_of(broadcast);
        let open = self.emits.open.get_mut(&number).expect("an emit is delivered after its answer");
        let tally = open.tallies.entry(root).or_default();
        tally.most += named;
        if broadcast.delivery == Delivery::Queue {
            tally.least += targets.len() as u64;
        }
        let route = if let [room] = &*broadcast.rooms { room.clone() } else { "".into() };
        for sid in &targets {
            assert!(open.has_reached.insert(sid.clone()), "emit {number} was delivered twice");
            let last = self.emits.last.entry((sid.clone(), open.sender)).or_default();
            assert!(last.wave <= open.wave, "emit {number} came after one that was posted when it had been answered");
            last.wave = open.wave;
            let before = last.numbers.insert(route.clone(), number);
            assert!(before.is_none_or(|before| before < number), "emit {number} to {route:?} came after {before:?}");
        }
        self.expect_broadcast(broadcast, &targets);
    }

    /// Puts a broadcast into the streams of sockets.
    pub fn expect_broadcast(&mut self, broadcast: &Broadcast, targets: &[String]) {
        let mut text = Vec::new();
        socketio::encode_event(&broadcast.namespace, None, broadcast.attachments.len(), &broadcast.args, &mut text);
        for sid in targets {
            let (delivery, conflate) = (broadcast.delivery, broadcast.conflate.clone());
            self.expect_as(sid, text.clone(), &broadcast.attachments, delivery, conflate);
        }
    }
}

fn shards<T>(list: &[T]) -> u16 {
    u16::try_from(list.len()).expect("few shards")
}

fn shard_number(shard: usize) -> u16 {
    u16::try_from(shard).expect("few shards")
}

/// The number that an emit carries behind its name.
pub fn number_of(broadcast: &Broadcast) -> u64 {
    let args = std::str::from_utf8(&broadcast.args).expect("arguments are text");
    let digits = args.split(',').nth(1).map(|word| word.trim_end_matches(']'));
    digits.and_then(|digits| digits.parse().ok()).unwrap_or_else(|| panic!("{args} has no number"))
}
