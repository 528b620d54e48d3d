//! `Log`: what a shard has delivered lately, once, with a chain through it for each room.
//!
//! ```text
//!    entries, oldest first     #1 user:a   #2 news   #3 user:a   #4 everybody   #5 user:a, news
//!    chain of user:a              <────────────────────                 <───────────
//!    chain of news                            <────────────────────────────────────
//! ```
//!
//! Each entry refers to the frames that its receivers' outboxes refer to as well, and to the entry before it in each of its
//! rooms. So what a room got since a position is found by walking its chain from the end, whatever else was delivered.
//!
//! Positions only grow; not every position has an entry. `floor` is the one up to which something may have been forgotten:
//! who is behind it cannot be told what it has missed. The front goes, by bytes and by age, and never anything else.

mod carried;
pub(crate) mod remains;

use std::collections::{HashSet, VecDeque};
use std::hash::BuildHasher;

use foldhash::fast::RandomState;
use hashbrown::HashTable;
use serde::{Deserialize, Serialize};
use slab::Slab;
use sockring_protocol::Millis;

use crate::shard::clients::outbox::{ConflateKey, Frames};
use crate::shard::event_id::EventId;
use crate::shard::rooms::sockets::NamespaceId;
use sockring_protocol::portable;

use super::position::Position;

/// What a shard has delivered within the last window, as far as it fits.
pub(crate) struct Log {
    entries: VecDeque<Entry>,
    /// How many entries have been dropped: the number of the first one that is there.
    dropped: u64,
    chains: Slab<Chain>,
    index: HashTable<u32>,
    hasher: RandomState,
    head: Position,
    /// What clients are told is not always the head: they cannot know of all that has happened.
    told: Position,
    floor: Position,
    /// When `head` last moved.
    grown_at: Millis,
    bytes: usize,
    bytes_max: usize,
    keep_ms: u64,
    born: Millis,
    /// Entries that went because of `bytes_max`, before their time.
    evicted: u64,
}

/// One event.
struct Entry {
    frames: Frames,
    position: Position,
    /// Seconds since the log began.
    at: u32,
    /// Its first room, or everybody; further ones are extra.
    link: ChainLink,
    extra: Option<Box<Extra>>,
}

portable!(struct Entry { frames, position, at, link, extra });

/// A chain that an entry is on, and how many entries before it the chain's previous one is; 0: there is none.
#[derive(Clone, Copy)]
struct ChainLink {
    chain: u32,
    back: u32,
}

portable!(struct ChainLink { chain, back });

/// What only few events have.
struct Extra {
    links: Vec<ChainLink>,
    except: Vec<Box<str>>,
    conflate: Option<ConflateKey>,
    kept: Option<KeptUntil>,
}

portable!(struct Extra { links, except, conflate, kept });

/// An event that is also kept for its user, and is nobody's any more then.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct KeptUntil {
    pub(crate) id: EventId,
    pub(crate) expires_at: Millis,
}

portable!(struct KeptUntil { id, expires_at });

/// The events to one room, or to everybody in a namespace.
struct Chain {
    namespace: NamespaceId,
    /// `None`: everybody.
    room: Option<Box<str>>,
    /// The number of the last entry on it.
    last: u64,
}

portable!(struct Chain { namespace, room, last });

/// An event that is to be remembered.
pub(crate) struct Delivered<'a> {
    pub(crate) namespace: NamespaceId,
    /// Empty: everybody.
    pub(crate) rooms: &'a [Box<str>],
    pub(crate) except: &'a [Box<str>],
    pub(crate) conflate: Option<ConflateKey>,
    pub(crate) kept: Option<KeptUntil>,
    pub(crate) frames: &'a Frames,
}

/// When a socket was in a room: what was delivered behind `from`, up to and with `until`, was for it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Stay {
    /// `None`: among everybody.
    pub(crate) room: Option<Box<str>>,
    pub(crate) from: Position,
    pub(crate) until: Position,
}

portable!(struct Stay { room, from, until });

impl Stay {
    fn covers(&self, position: Position) -> bool {
        self.from < position && position <= self.until
    }
}

/// Whose events are looked for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LogReader<'a> {
    pub(crate) namespace: NamespaceId,
    pub(crate) stays: &'a [Stay],
    pub(crate) others: OtherRooms,
    /// What is over by now is not for it.
    pub(crate) now: Millis,
}

/// Whether somebody may have been in other rooms than is said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OtherRooms {
    None,
    /// In any, so it may have been among those that an event was not for.
    Unknown,
}

/// What somebody has missed, or the first part of it.
pub(crate) struct Missed {
    /// In the order in which they were delivered.
    pub(crate) events: Vec<MissedEvent>,
    /// Nothing up to here is missing any more.
    pub(crate) through: Position,
}

/// One of them.
pub(crate) struct MissedEvent {
    pub(crate) frames: Frames,
    pub(crate) position: Position,
    /// What it is called if it is kept until somebody has received it.
    pub(crate) kept: Option<EventId>,
}

/// What an entry takes besides its frames: itself, and the counts of its reference.
const ENTRY_BYTES: usize = size_of::<Entry>() + 16;
const CHAIN_BYTES: usize = size_of::<Chain>() + 2 * size_of::<u32>();

impl Log {
    /// An empty log that keeps so many bytes, and nothing longer than this.
    pub(crate) fn new(bytes_max: usize, keep_ms: u64, now: Millis) -> Log {
        Log {
            entries: VecDeque::new(),
            dropped: 0,
            chains: Slab::new(),
            index: HashTable::new(),
            hasher: RandomState::default(),
            head: Position::default(),
            told: Position::default(),
            floor: Position::default(),
            grown_at: now,
            bytes: 0,
            bytes_max,
            keep_ms,
            born: now,
            evicted: 0,
        }
    }

    /// Everything up to here has been delivered.
    pub(crate) fn head(&self) -> Position {
        self.head
    }

    /// The last position that clients may be told of: they have received everything up to there.
    pub(crate) fn told(&self) -> Position {
        self.told
    }

    /// Whether everything since this position is known.
    pub(crate) fn reaches_back_to(&self, position: Position) -> bool {
        self.floor <= position
    }

    pub(crate) fn floor(&self) -> Position {
        self.floor
    }

    pub(crate) fn grown_at(&self) -> Millis {
        self.grown_at
    }

    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(crate) fn evicted(&self) -> u64 {
        self.evicted
    }

    /// How long ago the oldest event was delivered.
    pub(crate) fn oldest_ms(&self, now: Millis) -> u64 {
        self.entries.front().map_or(0, |entry| (now - self.born).saturating_sub(u64::from(entry.at) * 1_000))
    }

    /// The position of the event that is delivered next.
    pub(crate) fn next(&self) -> Position {
        Position(self.head.0 + 1)
    }

    /// Something has happened that no client that was told of an earlier position knows of.
    pub(crate) fn advance(&mut self, now: Millis) -> Position {
        self.head = self.next();
        self.told = self.head;
        self.grown_at = now;
        self.head
    }

    /// The same where no client is ever told of this very position.
    pub(crate) fn advance_unseen(&mut self) -> Position {
        self.head = self.next();
        self.head
    }

    /// Everything up to this place of a stream was read, and what of it is for members here is remembered.
    pub(crate) fn reach(&mut self, place: Position, now: Millis) {
        if place > self.head {
            self.head = place;
            self.told = place;
            self.grown_at = now;
        }
    }

    /// Where an event goes that is at this place of a stream; `None`: at none.
    pub(crate) fn place(&self, wanted: Option<Position>) -> Position {
        self.next().max(wanted.unwrap_or_default())
    }

    /// Whoever is not behind this position by now will not be told what it has missed.
    pub(crate) fn forget(&mut self, through: Position) {
        self.floor = self.floor.max(through);
    }

    /// Remembers an event under its position, which is behind all others.
    pub(crate) fn append(&mut self, event: Delivered<'_>, position: Position, now: Millis) {
        debug_assert!(position > self.head);
        self.head = position;
        self.told = position;
        self.grown_at = now;
        let number = self.dropped + self.entries.len() as u64;
        let Delivered { namespace, rooms, except, conflate, kept, frames } = event;
        let link = self.link(namespace, rooms.first().map(|room| &**room), number);
        let mut links = Vec::new();
        for (place, room) in rooms.iter().enumerate().skip(1) {
            // One that is named twice is one.
            if !rooms.iter().take(place).any(|earlier| earlier == room) {
                links.push(self.link(namespace, Some(room), number));
            }
        }
        let is_plain = links.is_empty() && except.is_empty() && conflate.is_none() && kept.is_none();
        let extra = (!is_plain).then(|| Box::new(Extra { links, except: except.to_vec(), conflate, kept }));
        let at = u32::try_from((now - self.born) / 1_000).unwrap_or(u32::MAX);
        let entry = Entry { frames: Frames::clone(frames), position, at, link, extra };
        self.bytes += entry.bytes();
        self.entries.push_back(entry);
        while self.bytes > self.bytes_max && self.drop_front() {
            self.evicted += 1;
        }
    }

    /// Puts the entry of this number at the end of a chain.
    fn link(&mut self, namespace: NamespaceId, room: Option<&str>, number: u64) -> ChainLink {
        if let Some(chain) = self.find(namespace, room)
            && let Some(known) = self.chains.get_mut(chain as usize)
        {
            let last = std::mem::replace(&mut known.last, number);
            // Beyond four thousand million entries the chain ends, which it does not within any memory.
            return ChainLink { chain, back: u32::try_from(number - last).unwrap_or(0) };
        }
        let made = Chain { namespace, room: room.map(Box::from), last: number };
        self.bytes += made.bytes();
        let Ok(chain) = u32::try_from(self.chains.insert(made)) else { unreachable!("chains are fewer than entries") };
        let Log { chains, hasher, index, .. } = self;
        let hash_of = |chain: &u32| chains.get(*chain as usize).map_or(0, |chain| chain.hash(hasher));
        index.insert_unique(hasher.hash_one((namespace, room)), chain, hash_of);
        ChainLink { chain, back: 0 }
    }

    fn find(&self, namespace: NamespaceId, room: Option<&str>) -> Option<u32> {
        let is_it = |chain: &u32| {
            self.chains
                .get(*chain as usize)
                .is_some_and(|chain| chain.namespace == namespace && chain.room.as_deref() == room)
        };
        self.index.find(self.hasher.hash_one((namespace, room)), is_it).copied()
    }

    /// Forgets what is too old.
    pub(crate) fn expire(&mut self, now: Millis) {
        while self.entries.front().is_some() && self.oldest_ms(now) > self.keep_ms + 1_000 {
            self.drop_front();
        }
        if self.entries.is_empty() && self.entries.capacity() > 0 {
            self.entries = VecDeque::new();
        }
    }

    /// When the next entry is too old.
    pub(crate) fn deadline(&self) -> Option<Millis> {
        let front = self.entries.front()?;
        Some(self.born + (u64::from(front.at) * 1_000 + self.keep_ms + 1_001))
    }

    fn drop_front(&mut self) -> bool {
        let Some(entry) = self.entries.pop_front() else { return false };
        let number = self.dropped;
        self.dropped += 1;
        self.bytes -= entry.bytes();
        self.forget(entry.position);
        let further = entry.extra.iter().flat_map(|extra| &extra.links);
        for link in std::iter::once(&entry.link).chain(further) {
            if self.chains.get(link.chain as usize).is_some_and(|chain| chain.last == number) {
                self.drop_chain(link.chain);
            }
        }
        true
    }

    fn drop_chain(&mut self, id: u32) {
        let chain = self.chains.remove(id as usize);
        self.bytes -= chain.bytes();
        if let Ok(entry) = self.index.find_entry(chain.hash(&self.hasher), |other| *other == id) {
            entry.remove();
        }
    }

    /// What was delivered behind `from` to somebody who was in these rooms at these times: the oldest of it, and so much that
    /// it takes this many bytes at least, if there is as much.
    pub(crate) fn since(&self, from: Position, reader: LogReader<'_>, bytes_wanted: usize) -> Missed {
        let LogReader { namespace, stays, others, now } = reader;
        let mut numbers = Vec::new();
        for stay in stays {
            self.walk(from.max(stay.from), namespace, stay, &mut numbers);
        }
        numbers.sort_unstable();
        numbers.dedup();
        let is_excepted = |entry: &Entry, extra: &Extra| {
            let is_in =
                |room: &str| stays.iter().any(|stay| stay.room.as_deref() == Some(room) && stay.covers(entry.position));
            match others {
                OtherRooms::None => extra.except.iter().any(|room| is_in(room)),
                OtherRooms::Unknown => !extra.except.is_empty(),
            }
        };
        let is_over = |extra: &Extra| extra.kept.is_some_and(|kept| kept.expires_at <= now);
        let is_not_for_it = |entry: &Entry, extra: &Extra| is_over(extra) || is_excepted(entry, extra);
        numbers.retain(|number| {
            let entry = self.entry(*number);
            entry.is_some_and(|entry| !entry.extra.as_ref().is_some_and(|extra| is_not_for_it(entry, extra)))
        });
        self.drop_replaced(&mut numbers);
        let mut missed = Missed { events: Vec::new(), through: self.head };
        let mut bytes = 0;
        for number in numbers {
            let Some(entry) = self.entry(number) else { continue };
            if bytes >= bytes_wanted {
                // All before this one is there.
                missed.through = entry.position.before();
                break;
            }
            bytes += entry.frames.len();
            let kept = entry.extra.as_ref().and_then(|extra| extra.kept).map(|kept| kept.id);
            missed.events.push(MissedEvent { frames: Frames::clone(&entry.frames), position: entry.position, kept });
        }
        missed
    }

    /// Where an event that is kept for a room's user is, if it was delivered here.
    pub(crate) fn position_of(&self, namespace: NamespaceId, room: &str, id: EventId) -> Option<Position> {
        let stay = Stay { room: Some(room.into()), from: Position::default(), until: Position::MAX };
        let mut numbers = Vec::new();
        self.walk(Position::default(), namespace, &stay, &mut numbers);
        let entries = numbers.into_iter().filter_map(|number| self.entry(number));
        let is_it =
            |entry: &&Entry| entry.extra.as_ref().is_some_and(|extra| extra.kept.is_some_and(|kept| kept.id == id));
        entries.filter(is_it).map(|entry| entry.position).next()
    }

    /// An event that was kept for a room is taken back: nobody gets it any more.
    pub(crate) fn take_back(&mut self, namespace: NamespaceId, room: &str, id: EventId) {
        let stay = Stay { room: Some(room.into()), from: Position::default(), until: Position::MAX };
        let mut numbers = Vec::new();
        self.walk(Position::default(), namespace, &stay, &mut numbers);
        for number in numbers {
            let at = number.checked_sub(self.dropped).and_then(|at| usize::try_from(at).ok());
            let extra = at.and_then(|at| self.entries.get_mut(at)?.extra.as_mut());
            if let Some(kept) = extra.and_then(|extra| extra.kept.as_mut())
                && kept.id == id
            {
                kept.expires_at = Millis(0);
            }
        }
    }

    /// Of the events under one key only the newest is of interest.
    fn drop_replaced(&self, numbers: &mut Vec<u64>) {
        let key_of = |number: u64| self.entry(number)?.extra.as_ref()?.conflate.as_ref();
        if !numbers.iter().any(|number| key_of(*number).is_some()) {
            return;
        }
        let mut seen = HashSet::new();
        numbers.reverse();
        numbers.retain(|number| key_of(*number).is_none_or(|key| seen.insert(key)));
        numbers.reverse();
    }

    /// The numbers of the entries of a stay behind a position, newest first.
    fn walk(&self, from: Position, namespace: NamespaceId, stay: &Stay, numbers: &mut Vec<u64>) {
        let Some(chain) = self.find(namespace, stay.room.as_deref()) else { return };
        let Some(mut number) = self.chains.get(chain as usize).map(|chain| chain.last) else { return };
        while let Some(entry) = self.entry(number).filter(|entry| entry.position > from) {
            if entry.position <= stay.until {
                numbers.push(number);
            }
            let back = entry.link_of(chain).map_or(0, |link| link.back);
            match number.checked_sub(u64::from(back)) {
                Some(before) if back > 0 => number = before,
                _ => return,
            }
        }
    }

    fn entry(&self, number: u64) -> Option<&Entry> {
        self.entries.get(usize::try_from(number.checked_sub(self.dropped)?).ok()?)
    }
}

impl Entry {
    fn bytes(&self) -> usize {
        let extra = self.extra.as_ref().map_or(0, |extra| {
            let except: usize = extra.except.iter().map(|room| size_of::<Box<str>>() + room.len()).sum();
            size_of::<Extra>() + extra.links.len() * size_of::<ChainLink>() + except
        });
        ENTRY_BYTES + self.frames.len() + extra
    }

    fn link_of(&self, chain: u32) -> Option<&ChainLink> {
        let further = self.extra.iter().flat_map(|extra| &extra.links);
        std::iter::once(&self.link).chain(further).find(|link| link.chain == chain)
    }
}

impl Chain {
    fn bytes(&self) -> usize {
        CHAIN_BYTES + self.room.as_ref().map_or(0, |room| room.len())
    }

    fn hash(&self, hasher: &RandomState) -> u64 {
        hasher.hash_one((self.namespace, self.room.as_deref()))
    }
}

#[cfg(test)]
mod tests;
