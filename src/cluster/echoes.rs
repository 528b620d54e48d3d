//! `Echoes`: what this instance has added to a stream, until it reads it there: only then is it delivered here, in the order in
//! which all servers read it; or before that, with all that was added before it, when it cannot be waited for.

use std::cell::Cell;
use std::collections::{BTreeMap, HashMap};
use std::mem;
use std::sync::{Mutex, MutexGuard, PoisonError};

use sockring_protocol::adapter::{Broadcast, EntryId};
use tokio::sync::oneshot;

use crate::spans::TracedDelivery;

/// Names an entry among those of this instance.
pub(super) type Number = u64;

/// An event that is delivered when it is read.
#[derive(Debug)]
pub(super) struct Unread {
    pub(super) broadcast: Broadcast,
    /// Is told how many sockets have it.
    pub(super) count: oneshot::Sender<u64>,
    /// Its stream and its place there, once Redis has said so.
    pub(super) place: Option<(String, EntryId)>,
}

#[derive(Debug, Default)]
struct State {
    next: Number,
    unread: BTreeMap<Number, Unread>,
    /// Those whose place is known, by stream.
    placed: HashMap<String, BTreeMap<EntryId, Number>>,
    bytes: usize,
}

impl State {
    fn take(&mut self, number: Number) -> Option<Unread> {
        let unread = self.unread.remove(&number)?;
        self.bytes -= unread.broadcast.bytes();
        if let Some((stream, entry)) = &unread.place
            && let Some(placed) = self.placed.get_mut(stream)
        {
            placed.remove(entry);
        }
        Some(unread)
    }

    /// Takes all up to this one.
    fn take_until(&mut self, number: Number) -> Vec<Unread> {
        let mut taken = Vec::new();
        while let Some(first) = self.unread.first_key_value().map(|(first, _)| *first).filter(|first| *first <= number)
        {
            taken.extend(self.take(first));
        }
        taken
    }
}

/// The entries of this instance that it has still to read.
#[derive(Debug)]
pub(super) struct Echoes {
    bytes_max: usize,
    state: Mutex<State>,
    /// Who delivers now: a reader what it reads, or a caller what it gives up.
    turn: tokio::sync::Mutex<()>,
}

/// Whether something may be waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Headroom {
    Enough,
    /// So much waits already that this should not.
    TooLittle,
}

impl Echoes {
    pub(super) fn new(bytes_max: usize) -> Echoes {
        Echoes { bytes_max, state: Mutex::default(), turn: tokio::sync::Mutex::default() }
    }

    /// Waits until nobody else delivers.
    pub(super) async fn turn(&self) -> tokio::sync::MutexGuard<'_, ()> {
        self.turn.lock().await
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn len(&self) -> usize {
        self.lock().unread.len()
    }

    /// An entry is about to be added. The receiver is told how many sockets have it, when they do.
    pub(super) fn begin(&self, broadcast: Broadcast) -> (Number, oneshot::Receiver<u64>, Headroom) {
        let mut state = self.lock();
        let number = state.next;
        state.next += 1;
        state.bytes += broadcast.bytes();
        let room = if state.bytes > self.bytes_max && !state.unread.is_empty() {
            Headroom::TooLittle
        } else {
            Headroom::Enough
        };
        let (count, counted) = oneshot::channel();
        state.unread.insert(number, Unread { broadcast, count, place: None });
        (number, counted, room)
    }

    /// An entry cannot be waited for: it is to be delivered now, and before it what was added before. If they are read all the
    /// same, they are passed over. Nothing of it is here any more if it was read.
    pub(super) fn give_up(&self, number: Number) -> Vec<Unread> {
        let mut state = self.lock();
        if !state.unread.contains_key(&number) {
            return Vec::new();
        }
        state.take_until(number)
    }

    /// What its callers have an answer to, though it was not read in time, and what was added before it: what they do next
    /// comes behind it, so it is to be delivered now.
    pub(super) fn give_up_answered(&self) -> Vec<Unread> {
        let mut state = self.lock();
        let is_answered = |unread: &&Unread| unread.count.is_closed();
        match state.unread.iter().rev().find(|(_, unread)| is_answered(unread)).map(|(number, _)| *number) {
            Some(last) => state.take_until(last),
            None => Vec::new(),
        }
    }

    /// Redis has said where an entry stands.
    pub(super) fn place(&self, number: Number, stream: String, entry: EntryId) {
        let mut state = self.lock();
        let State { unread, placed, .. } = &mut *state;
        // It may have been read before that was heard.
        if let Some(unread) = unread.get_mut(&number) {
            placed.entry(stream.clone()).or_default().insert(entry, number);
            unread.place = Some((stream, entry));
        }
    }

    /// A stream is read at this place: what stood before it and was not read is not there any more, lost with Redis' memory or
    /// trimmed away. It is to be delivered now, before what comes behind it.
    pub(super) fn missed(&self, stream: &str, before: EntryId) -> Vec<Unread> {
        let mut state = self.lock();
        let Some(placed) = state.placed.get_mut(stream) else { return Vec::new() };
        if placed.first_key_value().is_none_or(|(first, _)| *first >= before) {
            return Vec::new();
        }
        let later = placed.split_off(&before);
        let missed = mem::replace(placed, later);
        missed.into_values().filter_map(|number| state.take(number)).collect()
    }

    /// An entry was read. `None`: it has been delivered before.
    pub(super) fn read(&self, number: Number) -> Option<EchoTally> {
        let Unread { count, .. } = self.lock().take(number)?;
        Some(EchoTally::new(count))
    }
}

/// Counts the sockets that have an event, at all shards; says how many when the last of them lets go of it.
#[derive(Debug)]
pub(super) struct EchoTally {
    sockets: Cell<u64>,
    /// `None`: nobody waits for it.
    count: Option<oneshot::Sender<u64>>,
    /// What says so in the entry's trace.
    traced: Option<TracedDelivery>,
}

impl EchoTally {
    pub(super) fn new(count: oneshot::Sender<u64>) -> EchoTally {
        EchoTally { sockets: Cell::new(0), count: Some(count), traced: None }
    }

    /// Of a delivery that is counted for its trace alone.
    pub(super) fn traced(delivery: TracedDelivery) -> EchoTally {
        EchoTally { sockets: Cell::new(0), count: None, traced: Some(delivery) }
    }

    pub(super) fn and_traced(self, delivery: Option<TracedDelivery>) -> EchoTally {
        let mut tally = self;
        tally.traced = delivery;
        tally
    }

    pub(super) fn add(&self, sockets: u64) {
        self.sockets.set(self.sockets.get() + sockets);
    }
}

impl Drop for EchoTally {
    fn drop(&mut self) {
        // Who asked may have gone.
        let _ = self.count.take().map(|count| count.send(self.sockets.get()));
        if let Some(delivery) = self.traced.take() {
            delivery.end(self.sockets.get());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::rc::Rc;

    use super::*;

    fn broadcast(name: &str) -> Broadcast {
        Broadcast::new("/", Vec::new(), format!("[\"{name}\"]").as_bytes().into())
    }

    fn names(given_up: Vec<Unread>) -> Vec<Broadcast> {
        given_up.into_iter().map(|unread| unread.broadcast).collect()
    }

    #[test]
    fn an_entry_is_delivered_by_who_reads_it_or_by_who_gives_it_up_and_never_by_both() {
        let echoes = Echoes::new(1 << 20);
        let (read, mut counted, _) = echoes.begin(broadcast("read"));
        let (lost, ..) = echoes.begin(broadcast("lost"));
        let tally = Rc::new(echoes.read(read).unwrap());
        assert!(echoes.give_up(read).is_empty() && echoes.read(read).is_none());
        assert_eq!(names(echoes.give_up(lost)), [broadcast("lost")]);
        assert!(echoes.read(lost).is_none() && echoes.give_up(lost).is_empty());
        let other = Rc::clone(&tally);
        tally.add(2);
        drop(tally);
        assert!(counted.try_recv().is_err(), "another shard has still to say");
        other.add(3);
        drop(other);
        assert_eq!((counted.try_recv(), echoes.len(), echoes.lock().bytes), (Ok(5), 0, 0));
    }

    #[test]
    fn what_was_added_before_comes_before_what_is_given_up() {
        let echoes = Echoes::new(1 << 20);
        let [first, second, third] = ["a", "b", "c"].map(|name| echoes.begin(broadcast(name)).0);
        assert_eq!(names(echoes.give_up(second)), [broadcast("a"), broadcast("b")]);
        assert!(echoes.read(first).is_none() && echoes.read(third).is_some());
        assert_eq!((echoes.len(), echoes.lock().bytes), (0, 0));
    }

    #[test]
    fn what_its_caller_has_an_answer_to_comes_before_what_the_caller_does_next() {
        let echoes = Echoes::new(1 << 20);
        let [(_, first, _), (_, second, _), (third, waits, _)] =
            ["a", "b", "c"].map(|name| echoes.begin(broadcast(name)));
        assert!(echoes.give_up_answered().is_empty());
        drop(second);
        assert_eq!(names(echoes.give_up_answered()), [broadcast("a"), broadcast("b")]);
        assert!(echoes.give_up_answered().is_empty() && echoes.read(third).is_some());
        drop((first, waits));
    }

    #[test]
    fn what_is_not_where_it_was_put_comes_before_what_stands_behind_it() {
        let echoes = Echoes::new(1 << 20);
        let at = |millis| EntryId { millis, sequence: 0 };
        let [first, second, third, other] = ["a", "b", "c", "d"].map(|name| echoes.begin(broadcast(name)).0);
        [(first, 1), (second, 2), (third, 4)]
            .into_iter()
            .for_each(|(number, id)| echoes.place(number, "s".into(), at(id)));
        echoes.place(other, "t".into(), at(1));
        assert!(echoes.read(first).is_some());
        assert!(echoes.missed("s", at(2)).is_empty(), "it is about to be read");
        assert_eq!(names(echoes.missed("s", at(4))), [broadcast("b")]);
        assert!(echoes.read(second).is_none() && echoes.read(third).is_some() && echoes.missed("s", at(9)).is_empty());
        echoes.place(third, "s".into(), at(4));
        assert_eq!(names(echoes.missed("t", at(2))), [broadcast("d")]);
        assert_eq!((echoes.len(), echoes.lock().bytes), (0, 0));
        assert!(echoes.lock().placed.values().all(BTreeMap::is_empty));
    }

    #[test]
    fn there_is_room_for_so_many_bytes_and_for_a_single_event_of_any_length() {
        let echoes = Echoes::new(2 * broadcast("a").bytes());
        let rooms: Vec<_> = (0..3).map(|_| echoes.begin(broadcast("a")).2).collect();
        assert_eq!(rooms, [Headroom::Enough, Headroom::Enough, Headroom::TooLittle]);
        assert_eq!(echoes.give_up(2).len(), 3);
        assert_eq!(echoes.begin(broadcast(&"a".repeat(9_999))).2, Headroom::Enough);
    }
}
