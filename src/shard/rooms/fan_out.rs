//! `FanOut`: what is done to many sockets, over as many turns as it takes.

use std::sync::Arc;

use sockring_protocol::adapter::{Delivery, Ending};
use sockring_protocol::socketio::AckId;

use crate::shard::clients::outbox::{ConflateKey, Frames};
use crate::shard::event_id::EventId;
use crate::shard::mail::TallyKey;
use crate::shard::recovery::position::Position;
use crate::shard::settings::TurnLimits;
use sockring_protocol::portable;

use super::sockets::{NamespaceId, Seat};

/// Instead of the place of a seat that has been served out of its turn.
const SERVED: u16 = u16::MAX;

/// One broadcast, and who has not got it yet; or another deed, and to whom it has not been done.
pub(crate) struct FanOut {
    pub(crate) deed: Arc<Deed>,
    /// In order, each once.
    seats: Vec<Seat>,
    next: usize,
    pub(crate) reached: u64,
    pub(crate) asker: Asker,
}

portable!(struct FanOut { deed, seats, next, reached, asker });

impl FanOut {
    /// The seats are in order, each once.
    pub(crate) fn new(deed: Deed, seats: Vec<Seat>, asker: Asker) -> FanOut {
        FanOut { deed: Arc::new(deed), seats, next: 0, reached: 0, asker }
    }

    /// The next seat, which is done with by that.
    #[inline]
    pub(crate) fn next_seat(&mut self) -> Option<Seat> {
        let seat = self.seats.get(self.next).copied()?;
        self.next += 1;
        Some(seat)
    }

    /// Seats that are not done with, those among them that have been served out of their turn.
    pub(crate) fn left(&self) -> usize {
        self.seats.len() - self.next
    }

    /// Takes a client's seat out of what is left.
    pub(crate) fn take(&mut self, slot: u32) -> Option<Seat> {
        let left = self.seats.get_mut(self.next..)?;
        let at = left.partition_point(|(other, _)| *other < slot);
        let of_client = left.get_mut(at..)?.iter_mut().take_while(|(other, _)| *other == slot);
        let (_, place) = of_client.into_iter().find(|(_, place)| *place != SERVED)?;
        Some((slot, std::mem::replace(place, SERVED)))
    }
}

/// What each receiver of a broadcast gets.
pub(crate) struct EncodedMessage {
    pub(crate) frames: Frames,
    pub(crate) conflate: Option<ConflateKey>,
    pub(crate) delivery: Delivery,
    pub(crate) asked: AskedOf,
    /// Where it is in the log; `None`: it is not remembered.
    pub(crate) position: Option<Position>,
    /// It is kept until a socket has received it.
    pub(crate) kept: Option<KeptName>,
}

portable!(struct EncodedMessage { frames, conflate, delivery, asked, position, kept });

/// What the receivers of a broadcast are asked to say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct AskedOf {
    /// Under which they call back.
    pub(crate) ack: Option<AckId>,
    /// Under which it is known here that they have it.
    pub(crate) receipt: Option<AckId>,
}

portable!(struct AskedOf { ack, receipt });

impl AskedOf {
    pub(crate) const NOTHING: AskedOf = AskedOf { ack: None, receipt: None };
}

/// An event that is kept for a user.
#[derive(Clone, Debug)]
pub(crate) struct KeptName {
    /// The user's.
    pub(crate) room: Arc<str>,
    pub(crate) id: EventId,
}

portable!(struct KeptName { room, id });

/// Rooms that sockets are put into, or taken out of.
pub(crate) struct Change {
    pub(crate) rooms: Vec<Box<str>>,
    /// Where those sockets are; `None`: in any namespace.
    pub(crate) namespace: Option<NamespaceId>,
}

portable!(struct Change { rooms, namespace });

/// What is done to each socket.
pub(crate) enum Deed {
    Queue(EncodedMessage),
    Join(Change),
    /// Its user's own room a socket does not leave.
    Leave(Change),
    End(Ending),
    /// It is described, in this answer.
    Describe(TallyKey),
}

portable!(enum Deed { 0 Queue(message), 1 Join(change), 2 Leave(change), 3 End(ending), 4 Describe(tally) });

impl Deed {
    pub(crate) fn bytes(&self) -> usize {
        match self {
            Deed::Queue(message) => message.frames.len(),
            _ => 0,
        }
    }

    /// What it takes of a turn for each socket.
    pub(crate) fn parts(&self, limits: &TurnLimits) -> usize {
        match self {
            Deed::Queue(_) | Deed::End(_) => limits.changes_per_message,
            Deed::Join(_) | Deed::Leave(_) | Deed::Describe(_) => 1,
        }
    }
}

/// Who wants to know how many sockets got a broadcast.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Asker {
    Nobody,
    /// An answer of this shard, and which of its counts.
    Tally(TallyKey, usize),
    /// The home of its room, and the answer there.
    Home {
        shard: u16,
        tally: TallyKey,
        index: usize,
    },
}

portable!(enum Asker { 0 Nobody, 1 Tally(tally, index), 2 Home { shard, tally, index } });
