//! `Echoes`: what this instance has added to a stream, until it reads it there: only then is it delivered here, in the order in
//! which all servers read it; or before that, with all that was added before it, when it cannot be waited for.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use sockring_protocol::adapter::Broadcast;
use tokio::sync::oneshot;

/// Names an entry among those of this instance.
pub(super) type Number = u64;

/// An event that is delivered when it is read.
#[derive(Debug)]
pub(super) struct Unread {
    pub(super) broadcast: Broadcast,
    /// Is told how many sockets have it.
    pub(super) count: oneshot::Sender<u64>,
}

#[derive(Debug, Default)]
struct State {
    next: Number,
    unread: BTreeMap<Number, Unread>,
    bytes: usize,
}

impl State {
    fn take(&mut self, number: Number) -> Option<Unread> {
        let unread = self.unread.remove(&number)?;
        self.bytes -= unread.broadcast.bytes();
        Some(unread)
    }
}

/// The entries of this instance that it has still to read.
#[derive(Debug)]
pub(super) struct Echoes {
    bytes_max: usize,
    state: Mutex<State>,
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
        Echoes { bytes_max, state: Mutex::default() }
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
        state.unread.insert(number, Unread { broadcast, count });
        (number, counted, room)
    }

    /// An entry cannot be waited for: it is to be delivered now, and before it what was added before. If they are read all the
    /// same, they are passed over. Nothing of it is here any more if it was read.
    pub(super) fn give_up(&self, number: Number) -> Vec<Unread> {
        let mut state = self.lock();
        if !state.unread.contains_key(&number) {
            return Vec::new();
        }
        let mut given_up = Vec::new();
        while let Some(first) = state.unread.first_key_value().map(|(first, _)| *first).filter(|first| *first <= number)
        {
            given_up.extend(state.take(first));
        }
        given_up
    }

    /// An entry was read. `None`: it has been delivered before.
    pub(super) fn read(&self, number: Number) -> Option<EchoTally> {
        let Unread { count, .. } = self.lock().take(number)?;
        Some(EchoTally { sockets: Cell::new(0), count: Some(count) })
    }
}

/// Counts the sockets that have an entry, at all shards; says how many when the last of them lets go of it.
#[derive(Debug)]
pub(super) struct EchoTally {
    sockets: Cell<u64>,
    count: Option<oneshot::Sender<u64>>,
}

impl EchoTally {
    pub(super) fn add(&self, sockets: u64) {
        self.sockets.set(self.sockets.get() + sockets);
    }
}

impl Drop for EchoTally {
    fn drop(&mut self) {
        // Who asked may have gone.
        let _ = self.count.take().map(|count| count.send(self.sockets.get()));
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
    fn there_is_room_for_so_many_bytes_and_for_a_single_event_of_any_length() {
        let echoes = Echoes::new(2 * broadcast("a").bytes());
        let rooms: Vec<_> = (0..3).map(|_| echoes.begin(broadcast("a")).2).collect();
        assert_eq!(rooms, [Headroom::Enough, Headroom::Enough, Headroom::TooLittle]);
        assert_eq!(echoes.give_up(2).len(), 3);
        assert_eq!(echoes.begin(broadcast(&"a".repeat(9_999))).2, Headroom::Enough);
    }
}
