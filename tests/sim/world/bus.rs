//! `Bus`: Redis and the other instances, as the shards see them: it confirms when it likes, goes down and comes back, and
//! brings what is emitted elsewhere to rooms that are subscribed, and only to those.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use sockring::mailbox::Letter;
use sockring::shard::{BusMail, EngineSettings, NamespaceId, RoomName, Sid, home_of};
use sockring_protocol::adapter::Broadcast;

use super::super::random::Random;
use super::super::record::Record;
use super::World;
use super::around::Posted;

/// As long as a shard waits for a confirmation, and what it may be late with its timer.
const CONFIRM_MS_MAX: u64 = 250;
const LATE_MS_MAX: u64 = 10;

/// A room by its namespace's place in the settings, and its name.
pub type RoomKey = (u16, String);

/// A socket that was put into a room.
pub struct Joined {
    pub sid: String,
    /// How often it had left a room by then.
    pub leaves: u64,
    pub room: RoomKey,
}

/// A subscription as its shard wants it.
#[derive(Clone, Copy, Debug)]
struct WantedSubscription {
    shard: usize,
    epoch: u32,
    at: u64,
    /// How often the bus had come up, as far as its shard knew.
    generation: u64,
}

/// What the bus still has to do, in order.
#[derive(Debug)]
enum Command {
    Subscribe(usize, RoomKey, u32),
    Unsubscribe(RoomKey),
}

/// The bus of a world.
pub struct Bus {
    random: Random,
    is_up: bool,
    /// How often it has come up, and as the shards have read.
    generation: u64,
    read: Vec<u64>,
    wanted: BTreeMap<RoomKey, WantedSubscription>,
    /// What is subscribed in fact.
    in_force: BTreeSet<RoomKey>,
    commands: VecDeque<(u64, Command)>,
    delays_ms: &'static [u64],
    turns_at: Option<u64>,
    turns_until: u64,
    pub confirmed: u64,
    pub brought: u64,
    pub acknowledged: u64,
}

impl Bus {
    /// One that comes up soon, and at times goes down again until `turns_until`; at last it stays up.
    pub fn new(mut random: Random, shards: usize, now: u64, turns_until: u64) -> Bus {
        let delays_ms: &[u64] = match random.below(4) {
            0 => &[0],
            1 => &[0, 1, 1, 5, 30, 400],
            _ => &[0, 1, 1, 2, 5, 20],
        };
        let turns_at = Some(now + random.pick(&[0, 5, 50, 500]));
        Bus {
            random,
            is_up: false,
            generation: 0,
            read: vec![0; shards],
            wanted: BTreeMap::new(),
            in_force: BTreeSet::new(),
            commands: VecDeque::new(),
            delays_ms,
            turns_at,
            turns_until,
            confirmed: 0,
            brought: 0,
            acknowledged: 0,
        }
    }

    pub fn next_at(&self) -> Option<u64> {
        self.commands.front().map(|(at, _)| *at).into_iter().chain(self.turns_at).min()
    }

    fn command(&mut self, now: u64, command: Command) {
        if self.is_up {
            let last = self.commands.back().map_or(now, |(at, _)| *at);
            let at = last.max(now + self.random.pick(self.delays_ms));
            self.commands.push_back((at, command));
        }
    }

    /// A shard that is in the middle of a long turn has wanted it for a while: it does not wait longer for that.
    pub fn subscribe(&mut self, now: u64, shard: usize, room: &RoomName, epoch: u32, wanted_at: u64) {
        let key = key_of(room);
        assert_eq!(usize::from(home_of(&room.name, shards_of(&self.read))), shard, "not the home of {room:?}");
        let wanted = WantedSubscription { shard, epoch, at: wanted_at, generation: self.read[shard] };
        assert!(self.wanted.insert(key.clone(), wanted).is_none(), "{room:?} is subscribed twice");
        self.command(now, Command::Subscribe(shard, key, epoch));
    }

    pub fn unsubscribe(&mut self, now: u64, shard: usize, room: &RoomName) {
        let key = key_of(room);
        let wanted = self.wanted.remove(&key);
        assert!(wanted.is_some_and(|wanted| wanted.shard == shard), "{room:?} was not subscribed");
        self.command(now, Command::Unsubscribe(key));
    }

    /// A shard has read that the bus is up.
    pub fn on_read(&mut self, shard: usize, generation: u64) {
        self.read[shard] = generation;
    }

    /// Whether what another instance emits to this room comes now. Sids are covered by a pattern.
    pub fn brings(&self, key: &RoomKey) -> bool {
        self.is_up && (self.in_force.contains(key) || Sid::parse(&key.1).is_some())
    }

    /// Whether it comes, or may be missed: the bus is down, or was when its home asked for it, or has not answered in time.
    fn is_in_force_or_excused(&self, key: &RoomKey, now: u64) -> bool {
        let Some(wanted) = self.wanted.get(key) else { return false };
        !self.is_up
            || self.in_force.contains(key)
            || wanted.generation != self.generation
            || now - wanted.at >= CONFIRM_MS_MAX
    }
}

fn key_of(room: &RoomName) -> RoomKey {
    (room.namespace.0, room.name.to_string())
}

fn room_of((namespace, name): &RoomKey) -> RoomName {
    RoomName { namespace: NamespaceId(*namespace), name: name.as_str().into() }
}

fn shards_of<T>(list: &[T]) -> u16 {
    u16::try_from(list.len()).expect("few shards")
}

/// The key of a room that a record knows by the names of both.
pub fn room_key(settings: &EngineSettings, namespace: &str, room: &str) -> RoomKey {
    let place = settings.namespaces.iter().position(|name| name == namespace).expect("a namespace");
    (u16::try_from(place).expect("few"), room.to_owned())
}

impl World {
    fn room_key(&self, namespace: &str, room: &str) -> RoomKey {
        room_key(&self.settings, namespace, room)
    }

    /// Everything that the bus has to do by now.
    pub(super) fn turn_bus(&mut self) {
        let Some(mut bus) = self.bus.take() else { return };
        let mut letters = Vec::new();
        while bus.next_at().is_some_and(|at| at <= self.now) {
            if bus.turns_at.is_some_and(|at| at <= self.now) {
                self.turn_over(&mut bus, &mut letters);
            } else if let Some((_, command)) = bus.commands.pop_front() {
                match command {
                    Command::Subscribe(shard, key, epoch) => {
                        bus.confirmed += 1;
                        letters.push((shard, BusMail::Subscribed(vec![(room_of(&key), epoch)])));
                        bus.in_force.insert(key);
                    }
                    Command::Unsubscribe(key) => {
                        assert!(bus.in_force.remove(&key), "{key:?} was not subscribed");
                    }
                }
            }
        }
        // Confirmations that come together are one letter.
        letters.dedup_by(|(shard, later), (other, earlier)| match (later, earlier) {
            (BusMail::Subscribed(later), BusMail::Subscribed(earlier)) if shard == other => {
                earlier.append(later);
                true
            }
            _ => false,
        });
        let generation = bus.generation;
        self.bus = Some(bus);
        for (shard, letter) in letters {
            self.trace(|| format!("the bus tells {shard} {letter:?}"));
            self.post(shard, Posted { generation, ..Posted::new(Letter::Bus(letter)) });
        }
    }

    fn turn_over(&mut self, bus: &mut Bus, letters: &mut Vec<(usize, BusMail)>) {
        bus.is_up = !bus.is_up;
        bus.turns_at = None;
        if bus.is_up {
            bus.generation += 1;
            bus.in_force = bus.wanted.keys().cloned().collect();
            if bus.random.one_in(2) {
                let rooms = bus.wanted.iter();
                letters.extend(
                    rooms.map(|(key, wanted)| (wanted.shard, BusMail::Subscribed(vec![(room_of(key), wanted.epoch)]))),
                );
            }
            if self.now < bus.turns_until && bus.random.one_in(2) {
                bus.turns_at = Some(self.now + 1 + bus.random.below(1_500));
            }
        } else {
            bus.in_force.clear();
            bus.commands.clear();
            bus.turns_at = Some(self.now + bus.random.pick(&[0, 1, 20, 300, 1_000]));
        }
        let word = if bus.is_up { BusMail::Up } else { BusMail::Down };
        letters.extend((0..self.seats.len()).map(|shard| (shard, word.clone())));
    }

    /// Who has been told that it is in a room misses nothing of what is emitted elsewhere.
    pub(super) fn check_bus(&self, record: &Record, is_quiet: bool) {
        let Some(bus) = &self.bus else { return };
        for (sid, socket) in record.live() {
            let key = self.room_key(&socket.namespace, &format!("user:{}", socket.user));
            assert!(
                bus.is_in_force_or_excused(&key, self.now),
                "{sid} is connected and misses what is emitted to {key:?}: {:?}",
                bus.wanted.get(&key)
            );
        }
        let late_max = CONFIRM_MS_MAX + LATE_MS_MAX + record.late_ms;
        for (shard, seat) in self.seats.iter().enumerate() {
            let is_recent = |wanted: &WantedSubscription| wanted.shard == shard && wanted.at + late_max > self.now;
            let awaits = seat.stats.subscriptions_pending > 0;
            assert!(!awaits || bus.wanted.values().any(is_recent), "shard {shard} waits for the bus too long");
        }
        if is_quiet {
            let rooms = |socket: &super::super::record::LiveSocket| {
                let namespace = socket.namespace.clone();
                socket.rooms.iter().map(move |room| self.room_key(&namespace, room)).collect::<Vec<_>>()
            };
            let expected: BTreeSet<RoomKey> = record.live().flat_map(|(_, socket)| rooms(socket)).collect();
            let wanted: BTreeSet<RoomKey> = bus.wanted.keys().cloned().collect();
            assert_eq!(wanted, expected, "subscriptions, and rooms with members");
        }
    }

    /// The answer to a join is given: emits to the room come, to who has not left since.
    pub(super) fn check_joined(&self, joined: &[Joined]) {
        let Some(bus) = &self.bus else { return };
        let record = self.record.borrow();
        let is_member =
            |joined: &Joined| record.live().any(|(sid, socket)| *sid == joined.sid && socket.leaves == joined.leaves);
        for Joined { room, .. } in joined.iter().filter(|joined| is_member(joined)) {
            assert!(bus.is_in_force_or_excused(room, self.now), "a join to {room:?} is answered: {:?}", bus.wanted);
        }
    }

    /// Whether what another instance emits comes; what does not is lost, as it is where pub/sub loses.
    pub(super) fn is_brought(&mut self, broadcast: &Broadcast) -> bool {
        let [room] = &*broadcast.rooms else { return false };
        let key = self.room_key(&broadcast.namespace, room);
        let Some(bus) = &mut self.bus else { return false };
        let is_brought = bus.brings(&key);
        bus.brought += u64::from(is_brought);
        is_brought
    }
}
