//! `Mailboxes`: what the bus keeps for users, as far as a shard has to know: whose it is reading, what it has still to tell the
//! bus, and what has come and gone lately.
//!
//! ```text
//!   a CONNECT         ReadKept ------> the socket waits -----> Mailbox ----> what is new is delivered
//!   a receipt         ConfirmKept ---> Confirmed, or it is said again
//!   the bus was away  GiveKept ------> Given                      ReadKept for all users that are here
//! ```

use std::collections::{HashSet, VecDeque};
use std::sync::Arc;

use foldhash::fast::RandomState;
use hashbrown::HashMap;
use sockring_protocol::Millis;

use crate::shard::clients::client::ClientKey;
use crate::shard::event_id::EventId;
use crate::shard::mail::{ReceivedEvents, RoomName};
use crate::shard::moving::sid::RANDOM_BYTES;
use crate::shard::relay::{carried, maps, sets};
use sockring_protocol::portable;

/// For how long it is known that an event has come and gone: its other ways here take no longer.
const SETTLED_MS: u64 = 60_000;
const SETTLED_MOST: usize = 1 << 16;
/// What is asked of the bus at once by nobody who waits for it.
const UNDER_WAY_MOST: usize = 128;
/// Receipts that the bus has still to hear of. The oldest are forgotten, and what they were for comes once more.
const UNCONFIRMED_MOST: usize = 1 << 16;
/// The bus has not answered: it is left alone for so long.
const REST_MS: u64 = 1_000;

/// A socket whose CONNECT waits for its user's mailbox.
pub(crate) struct AwaitingMailbox {
    pub(crate) client: ClientKey,
    pub(crate) place: u16,
    pub(crate) random: [u8; RANDOM_BYTES],
    pub(crate) payload: Option<Box<str>>,
}

portable!(struct AwaitingMailbox { client, place, random, payload });

/// A mailbox that is being read.
pub(crate) struct MailboxReading {
    number: u64,
    /// What was kept here by then is in it, unless it has been received elsewhere.
    pub(crate) known_to: u64,
    pub(crate) waiting: Vec<AwaitingMailbox>,
    /// Of what is under way for nobody who waits.
    errands: usize,
}

portable!(struct MailboxReading { number, known_to, waiting, errands });

/// The next thing that the bus is asked by nobody who waits for it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Errand {
    Confirm(ReceivedEvents),
    /// An event of this user that is kept here.
    Give(Arc<str>, EventId),
    Read(RoomName),
    /// The users from this place on are next.
    ReadFrom(u32),
}

/// What a shard knows of the bus' mailboxes.
#[derive(Default)]
pub(crate) struct Mailboxes {
    readings: HashMap<RoomName, MailboxReading, RandomState>,
    asked: u64,
    /// What was received in this turn.
    received: HashMap<RoomName, Vec<EventId>, RandomState>,
    /// What the bus was told, and has not said that it knows.
    confirming: HashMap<u64, ReceivedEvents, RandomState>,
    unconfirmed: VecDeque<ReceivedEvents>,
    /// How many receipts both have.
    receipts: usize,
    to_give: VecDeque<(Arc<str>, EventId)>,
    to_read: VecDeque<RoomName>,
    /// All users from this place on are to be read.
    read_from: Option<u32>,
    under_way: usize,
    rests_until: Millis,
    settled: HashSet<EventId>,
    settled_until: VecDeque<(Millis, EventId)>,
}

carried!(Mailboxes {
    readings by maps, asked, received by maps, confirming by maps, unconfirmed, receipts, to_give, to_read, read_from, under_way,
    rests_until, settled by sets, settled_until,
});

impl Mailboxes {
    /// A socket waits for a mailbox. Says under which number it is to be asked for, unless it is already.
    pub(crate) fn await_mailbox(&mut self, room: &RoomName, waiting: AwaitingMailbox, known_to: u64) -> Option<u64> {
        if let Some(reading) = self.readings.get_mut(room) {
            reading.waiting.push(waiting);
            return None;
        }
        Some(self.begin_reading(room.clone(), vec![waiting], known_to, 0))
    }

    fn begin_reading(&mut self, room: RoomName, waiting: Vec<AwaitingMailbox>, known_to: u64, errands: usize) -> u64 {
        self.asked += 1;
        self.readings.insert(room, MailboxReading { number: self.asked, known_to, waiting, errands });
        self.under_way += errands;
        self.asked
    }

    /// Somebody who does not wait wants it read. `None`: it is being read.
    pub(crate) fn read(&mut self, room: &RoomName, known_to: u64) -> Option<u64> {
        if self.readings.contains_key(room) {
            return None;
        }
        Some(self.begin_reading(room.clone(), Vec::new(), known_to, 1))
    }

    /// A mailbox has been read, or could not be.
    pub(crate) fn end_reading(&mut self, room: &RoomName, number: u64) -> Option<MailboxReading> {
        if self.readings.get(room)?.number != number {
            return None;
        }
        let reading = self.readings.remove(room)?;
        self.under_way -= reading.errands;
        Some(reading)
    }

    /// The users from this place on are to be read as well.
    pub(crate) fn read_all_from(&mut self, place: Option<u32>) {
        self.read_from = place;
    }

    pub(crate) fn read_later(&mut self, room: RoomName) {
        self.to_read.push_back(room);
    }

    /// It was kept here because the bus did not take it.
    pub(crate) fn give_later(&mut self, room: Arc<str>, id: EventId) {
        self.to_give.push_back((room, id));
    }

    /// A user has received an event. It may come once more by another way.
    pub(crate) fn receive(&mut self, room: RoomName, id: EventId, now: Millis) {
        self.settle(id, now);
        self.receipts += 1;
        self.received.entry(room).or_default().push(id);
    }

    /// An event is over.
    pub(crate) fn settle(&mut self, id: EventId, now: Millis) {
        if self.settled.insert(id) {
            self.settled_until.push_back((now + SETTLED_MS, id));
        }
    }

    /// Whether it has come and gone.
    pub(crate) fn is_settled(&self, id: EventId) -> bool {
        self.settled.contains(&id)
    }

    /// What was received in this turn goes to the bus together.
    pub(crate) fn begin_turn(&mut self, now: Millis) {
        while let Some((_, id)) =
            self.settled_until.front().copied().filter(|(until, _)| *until <= now || self.settled.len() > SETTLED_MOST)
        {
            self.settled_until.pop_front();
            self.settled.remove(&id);
        }
        for (room, ids) in self.received.drain() {
            self.asked += 1;
            self.unconfirmed.push_back(ReceivedEvents { number: self.asked, room, ids });
        }
        while self.receipts > UNCONFIRMED_MOST
            && let Some(forgotten) = self.unconfirmed.pop_front()
        {
            self.receipts -= forgotten.ids.len();
        }
    }

    /// The next one, if the bus may be asked for more.
    pub(crate) fn next_errand(&mut self, now: Millis) -> Option<Errand> {
        if self.under_way >= UNDER_WAY_MOST || self.rests_until > now {
            return None;
        }
        if let Some(received) = self.unconfirmed.pop_front() {
            self.under_way += 1;
            self.confirming.insert(received.number, received.clone());
            return Some(Errand::Confirm(received));
        }
        if let Some((room, id)) = self.to_give.pop_front() {
            return Some(Errand::Give(room, id));
        }
        if let Some(room) = self.to_read.pop_front() {
            return Some(Errand::Read(room));
        }
        self.read_from.take().map(Errand::ReadFrom)
    }

    /// The bus knows of these receipts.
    pub(crate) fn on_confirmed(&mut self, number: u64) {
        self.under_way -= 1;
        if let Some(received) = self.confirming.remove(&number) {
            self.receipts -= received.ids.len();
        }
    }

    /// It may not: they are said again.
    pub(crate) fn on_unconfirmed(&mut self, number: u64, now: Millis) {
        self.under_way -= 1;
        self.unconfirmed.extend(self.confirming.remove(&number));
        self.rest(now);
    }

    /// An event is given to the bus.
    pub(crate) fn begin_giving(&mut self) {
        self.under_way += 1;
    }

    pub(crate) fn end_giving(&mut self) {
        self.under_way -= 1;
    }

    /// The bus has not answered.
    pub(crate) fn rest(&mut self, now: Millis) {
        self.rests_until = now + REST_MS;
    }

    /// When there will be something to do, while the bus is there.
    pub(crate) fn deadline(&self) -> Option<Millis> {
        let has_errands = !(self.unconfirmed.is_empty() && self.to_give.is_empty() && self.to_read.is_empty());
        let is_due = has_errands || self.read_from.is_some() || !self.received.is_empty();
        (is_due && self.under_way < UNDER_WAY_MOST).then_some(self.rests_until)
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;

    use sockring_protocol::portable::{Packer, Unpacker};

    use super::*;
    use crate::shard::relay::Carried;
    use crate::shard::rooms::sockets::NamespaceId;
    use crate::shard::slots::Key;

    fn room(name: &str) -> RoomName {
        RoomName { namespace: NamespaceId(0), name: name.into() }
    }

    #[test]
    fn receipts_of_a_turn_go_together_and_again_until_the_bus_knows_them() {
        let mut mailboxes = Mailboxes::default();
        for id in [1, 2] {
            mailboxes.receive(room("user:a"), EventId(id), Millis(0));
        }
        assert_eq!(mailboxes.deadline(), Some(Millis(0)));
        mailboxes.begin_turn(Millis(0));
        let Some(Errand::Confirm(received)) = mailboxes.next_errand(Millis(0)) else { panic!("a confirmation") };
        assert_eq!(received.ids, [EventId(1), EventId(2)]);
        assert_eq!((mailboxes.next_errand(Millis(0)), mailboxes.deadline()), (None, None));
        mailboxes.on_unconfirmed(received.number, Millis(5));
        assert_eq!((mailboxes.next_errand(Millis(5)), mailboxes.deadline()), (None, Some(Millis(5 + REST_MS))));
        assert_eq!(mailboxes.next_errand(Millis(5 + REST_MS)), Some(Errand::Confirm(received.clone())));
        mailboxes.on_confirmed(received.number);
        assert_eq!((mailboxes.deadline(), mailboxes.receipts, mailboxes.under_way), (None, 0, 0));
    }

    #[test]
    fn what_has_come_and_gone_is_known_for_a_while() {
        let mut mailboxes = Mailboxes::default();
        mailboxes.settle(EventId(1), Millis(0));
        mailboxes.begin_turn(Millis(SETTLED_MS - 1));
        assert!(mailboxes.is_settled(EventId(1)) && !mailboxes.is_settled(EventId(2)));
        mailboxes.begin_turn(Millis(SETTLED_MS));
        assert!(!mailboxes.is_settled(EventId(1)) && mailboxes.settled_until.is_empty());
    }

    #[test]
    fn who_goes_on_with_them_asks_and_says_the_same() {
        let mut mailboxes = Mailboxes::default();
        let client = ClientKey(Key { index: 7, generation: NonZeroU32::MIN });
        let socket = AwaitingMailbox { client, place: 1, random: [3; RANDOM_BYTES], payload: Some("{}".into()) };
        mailboxes.await_mailbox(&room("user:a"), socket, 5);
        mailboxes.read(&room("user:b"), 6);
        for id in [1, 2] {
            mailboxes.receive(room("user:c"), EventId(id), Millis(10));
            mailboxes.begin_turn(Millis(10));
        }
        assert!(matches!(mailboxes.next_errand(Millis(10)), Some(Errand::Confirm(_))), "one of two");
        mailboxes.receive(room("user:d"), EventId(3), Millis(20));
        mailboxes.give_later("user:e".into(), EventId(4));
        mailboxes.read_later(room("user:f"));
        mailboxes.read_all_from(Some(9));
        mailboxes.rest(Millis(20));
        let pack = |mailboxes: &Mailboxes, now| {
            let mut out = Packer::new(Millis(now));
            mailboxes.pack_state(&mut out);
            out.into_bytes()
        };
        let bytes = pack(&mailboxes, 20);
        // By a clock that is a second ahead.
        let (mut copy, mut from) = (Mailboxes::default(), Unpacker::new(&bytes, Millis(1_020)));
        copy.unpack_state(&mut from).and_then(|()| from.finish()).unwrap();
        assert_eq!(pack(&copy, 1_020), bytes);
        assert!(copy.is_settled(EventId(1)) && copy.deadline() == Some(Millis(1_020 + REST_MS)));
        let waiting = copy.end_reading(&room("user:a"), 1).map(|reading| (reading.known_to, reading.waiting.len()));
        assert_eq!((waiting, copy.read(&room("user:b"), 6)), (Some((5, 1)), None));
        copy.begin_turn(Millis(3_000));
        let errands: Vec<_> = std::iter::from_fn(|| copy.next_errand(Millis(3_000))).collect();
        assert!(
            matches!(
                &*errands,
                [Errand::Confirm(c), Errand::Confirm(d), Errand::Give(..), Errand::Read(_), Errand::ReadFrom(9)]
                    if c.ids == [EventId(2)] && d.ids == [EventId(3)]
            ),
            "{errands:?}"
        );
    }

    #[test]
    fn a_mailbox_is_read_once_for_all_who_wait_for_it() {
        let mut mailboxes = Mailboxes::default();
        assert_eq!(mailboxes.read(&room("user:a"), 3), Some(1));
        assert_eq!((mailboxes.read(&room("user:a"), 4), mailboxes.read(&room("user:b"), 4)), (None, Some(2)));
        assert!(mailboxes.end_reading(&room("user:a"), 2).is_none(), "an answer to another question");
        assert_eq!(mailboxes.end_reading(&room("user:a"), 1).map(|reading| reading.known_to), Some(3));
        assert_eq!(mailboxes.under_way, 1);
    }
}
