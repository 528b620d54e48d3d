//! Delivery: broadcasts on their way to their members here, over as many turns as they take (`FanOuts`).
//!
//! To whom a broadcast goes is decided when it comes. But a turn queues a bounded number of messages, so that a large
//! broadcast delays nobody else; what is left waits here, in the order in which it was emitted, and while too much waits no
//! mail is read. No client notices: before anything else is queued for it, or one of its sockets ends, it gets all that was
//! emitted to it before (`catch_up`). What else concerns many sockets goes the same way (`changes`).

use std::collections::VecDeque;
use std::sync::Arc;

use sockring_protocol::adapter::{Broadcast, Delivery, Ending};
use sockring_protocol::socketio::AckId;

use crate::app::Application;
use crate::shard::clients::client::{CloseReason, Farewell, Queued};
use crate::shard::clients::encode::{self, Carrier};
use crate::shard::clients::outbox::{ConflateKey, Frames};
use crate::shard::hub::Hub;
use crate::shard::limit::Limit;
use crate::shard::mail::SiblingMail;
use crate::shard::settings::TurnLimits;

use super::sockets::{NamespaceId, Seat};

/// Instead of the place of a seat that has been served out of its turn.
const SERVED: u16 = u16::MAX;
/// The part of a turn that is kept for broadcasts under way.
const SHARE: usize = 4;

/// Who wants to know how many sockets got a broadcast.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Asker {
    Nobody,
    /// An answer that waits for it, and the part of it.
    Pending(usize, usize),
    /// The home of its room, and what waits there.
    Home {
        shard: u16,
        pending: usize,
        index: usize,
    },
}

/// A broadcast that has come.
pub(crate) struct Incoming {
    pub(crate) broadcast: Arc<Broadcast>,
    /// Under which each receiver is asked to acknowledge it.
    pub(crate) ack: Option<AckId>,
    /// Whether this is its room's home, which sends it on.
    pub(crate) is_home: bool,
    pub(crate) asker: Asker,
}

/// What each receiver of a broadcast gets.
pub(crate) struct Message {
    frames: Frames,
    conflate: Option<ConflateKey>,
    delivery: Delivery,
    ack: Option<AckId>,
}

/// Rooms that sockets are put into, or taken out of.
pub(crate) struct Change {
    pub(crate) rooms: Vec<Box<str>>,
    /// Where those sockets are; `None`: in any namespace.
    pub(crate) namespace: Option<NamespaceId>,
}

/// What is done to each socket.
pub(crate) enum Deed {
    Queue(Message),
    Join(Change),
    /// Its user's own room a socket does not leave.
    Leave(Change),
    End(Ending),
    /// It is described, in the answer that waits under this key.
    Describe(usize),
}

impl Deed {
    fn bytes(&self) -> usize {
        match self {
            Deed::Queue(message) => message.frames.len(),
            _ => 0,
        }
    }

    /// What it takes of a turn for each socket.
    fn parts(&self, limits: &TurnLimits) -> usize {
        match self {
            Deed::Queue(_) | Deed::End(_) => limits.changes_per_message,
            Deed::Join(_) | Deed::Leave(_) | Deed::Describe(_) => 1,
        }
    }
}

/// One broadcast, and who has not got it yet; or another deed, and to whom it has not been done.
struct FanOut {
    deed: Arc<Deed>,
    /// In order, each once.
    seats: Vec<Seat>,
    next: usize,
    reached: u64,
    asker: Asker,
}

impl FanOut {
    fn left(&self) -> usize {
        self.seats.len() - self.next
    }

    /// Takes a client's seat out of what is left.
    fn take(&mut self, slot: u32) -> Option<Seat> {
        let left = self.seats.get_mut(self.next..)?;
        let at = left.partition_point(|(other, _)| *other < slot);
        let of_client = left.get_mut(at..)?.iter_mut().take_while(|(other, _)| *other == slot);
        let (_, place) = of_client.into_iter().find(|(_, place)| *place != SERVED)?;
        Some((slot, std::mem::replace(place, SERVED)))
    }
}

/// The broadcasts of a shard that have not reached all of their members.
#[derive(Default)]
pub(crate) struct FanOuts {
    waiting: VecDeque<FanOut>,
    /// What waits, in seats and in bytes of messages, and how many of them are no broadcasts.
    seats: usize,
    bytes: usize,
    changes: usize,
    /// What this turn may still do, in parts of a message that is queued.
    parts_left: usize,
}

impl FanOuts {
    /// What a turn may queue, beginning now.
    fn begin_turn(&mut self, limits: &TurnLimits) {
        self.parts_left = limits.parts_max();
    }

    /// However much else there was to do, something of what waits goes on.
    fn keep_a_share(&mut self, limits: &TurnLimits) {
        self.parts_left = self.parts_left.max(limits.parts_max().div_ceil(SHARE));
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Messages that have still to be queued.
    pub(crate) fn seats(&self) -> usize {
        self.seats
    }

    /// Whether what comes has to wait: there is too much, or a change is under way: who is to be gone is still there, who is
    /// to be in a room is not yet.
    fn is_full(&self, limits: &TurnLimits) -> bool {
        self.changes > 0
            || self.seats >= limits.backlog_messages_max
            || self.bytes >= limits.backlog_bytes_max
            || self.waiting.len() >= limits.backlog_broadcasts_max
    }

    fn spend(&mut self, parts: usize) {
        self.parts_left = self.parts_left.saturating_sub(parts);
    }

    fn is_spent(&self) -> bool {
        self.parts_left == 0
    }

    fn push_back(&mut self, fan_out: FanOut) {
        self.add(&fan_out);
        self.waiting.push_back(fan_out);
    }

    fn push_front(&mut self, fan_out: FanOut) {
        self.add(&fan_out);
        self.waiting.push_front(fan_out);
    }

    fn add(&mut self, fan_out: &FanOut) {
        self.seats += fan_out.left();
        self.bytes += fan_out.deed.bytes();
        self.changes += usize::from(!matches!(*fan_out.deed, Deed::Queue(_)));
    }

    fn pop_front(&mut self) -> Option<FanOut> {
        let fan_out = self.waiting.pop_front()?;
        self.seats -= fan_out.left();
        self.bytes -= fan_out.deed.bytes();
        self.changes -= usize::from(!matches!(*fan_out.deed, Deed::Queue(_)));
        Some(fan_out)
    }
}

impl<A: Application> Hub<A> {
    /// A turn begins.
    pub(crate) fn begin_turn(&mut self) {
        self.fan_outs.begin_turn(&self.settings.turn);
    }

    /// Whether another mail may be read in this turn.
    pub(crate) fn takes_mail(&self) -> bool {
        !self.fan_outs.is_spent() && !self.fan_outs.is_full(&self.settings.turn)
    }

    /// Goes on with what waits, as far as this turn may.
    pub(crate) fn fan_out(&mut self) {
        if self.fan_outs.is_empty() {
            return;
        }
        self.fan_outs.keep_a_share(&self.settings.turn);
        while !self.fan_outs.is_spent() {
            let Some(mut fan_out) = self.fan_outs.pop_front() else { return };
            while !self.fan_outs.is_spent()
                && let Some(seat) = fan_out.seats.get(fan_out.next).copied()
            {
                fan_out.next += 1;
                fan_out.reached += u64::from(self.serve(seat, &fan_out.deed));
            }
            match fan_out.left() {
                0 => self.end(&fan_out),
                _ => self.fan_outs.push_front(fan_out),
            }
        }
    }

    /// Decides to whom a broadcast goes, and queues it for them, at once if they are few.
    pub(crate) fn deliver(&mut self, Incoming { broadcast, ack, is_home, asker }: Incoming) {
        let namespace = self.settings.namespace(&broadcast.namespace);
        if let (Some(namespace), true) = (namespace, is_home) {
            self.send_on(namespace, &broadcast, asker);
        }
        let seats = namespace.map(|namespace| self.select(namespace, &broadcast.rooms, &broadcast.except));
        let (Some(namespace), Some(seats)) = (namespace, seats.filter(|seats| !seats.is_empty())) else {
            return self.close(ack, asker, 0);
        };
        let message = self.message(namespace, &broadcast, ack);
        self.spread(Deed::Queue(message), seats, asker);
    }

    /// Does something to these sockets, which are in order: at once if they are few.
    pub(crate) fn spread(&mut self, deed: Deed, seats: Vec<Seat>, asker: Asker) {
        let is_small = seats.len() <= self.settings.turn.at_once_max;
        let parts = seats.len().saturating_mul(deed.parts(&self.settings.turn));
        let may_go = is_small || self.fan_outs.is_empty() && parts <= self.fan_outs.parts_left;
        let mut fan_out = FanOut { deed: Arc::new(deed), seats, next: 0, reached: 0, asker };
        if !may_go {
            return self.fan_outs.push_back(fan_out);
        }
        for seat in std::mem::take(&mut fan_out.seats) {
            self.catch_up(seat.0);
            fan_out.reached += u64::from(self.serve(seat, &fan_out.deed));
        }
        self.end(&fan_out);
    }

    /// Does to a socket what is due to it, if it is still there; says whether it was done.
    fn serve(&mut self, (slot, place): Seat, deed: &Deed) -> bool {
        if let Deed::Queue(message) = deed {
            return self.queue_for((slot, place), message);
        }
        let Some((key, _)) = self.directory.socket_at((slot, place)) else { return false };
        self.fan_outs.spend(deed.parts(&self.settings.turn));
        match deed {
            Deed::Queue(_) => false,
            Deed::Join(change) => self.join_rooms(key, place, &change.rooms),
            Deed::Leave(change) => self.leave_rooms(key, place, &change.rooms),
            Deed::End(ending) => {
                self.end_as(key, place, *ending);
                true
            }
            Deed::Describe(pending) => self.describe_in(*pending, key, place),
        }
    }

    /// At the home of its room: the shards that have other members get it too.
    fn send_on(&mut self, namespace: NamespaceId, broadcast: &Arc<Broadcast>, asker: Asker) {
        let ([room], Asker::Pending(pending, index)) = (&*broadcast.rooms, asker) else { return };
        let from = self.shard.number;
        for (shard, _) in self.membership.outposts(namespace, room) {
            let mail = SiblingMail::Deliver { broadcast: Arc::clone(broadcast), pending, index, from };
            self.outbound.mails.push((*shard, mail));
            if let Some(pending) = self.pending.get_mut(pending) {
                pending.outstanding += 1;
            }
        }
    }

    fn message(&mut self, namespace: NamespaceId, broadcast: &Broadcast, ack: Option<AckId>) -> Message {
        let frames = encode::packet_with_args(
            &mut self.scratch,
            &broadcast.namespace,
            Carrier::Event(ack),
            &broadcast.args,
            &broadcast.attachments,
        );
        let conflate = broadcast.conflate.as_ref().map(|key| ConflateKey::new(namespace, key));
        Message { frames, conflate, delivery: broadcast.delivery, ack }
    }

    /// Queues a message for one of its receivers; says whether it gets it.
    fn queue_for(&mut self, seat: Seat, message: &Message) -> bool {
        let Message { frames, conflate, delivery, .. } = message;
        let max = self.settings.queue_bytes_max;
        let Some((key, queued)) = self.directory.queue_at(seat, frames, conflate.as_ref(), *delivery, max) else {
            return false;
        };
        self.fan_outs.spend(self.settings.turn.changes_per_message);
        match queued {
            Queued::Yes => {}
            Queued::Dropped => {
                self.counters.volatile_dropped += 1;
                return false;
            }
            Queued::Full => {
                self.drop_client(key, CloseReason::QueueFull, None, Farewell::Now);
                return false;
            }
        }
        if let Some(ack) = message.ack {
            match self.acks.len() < self.settings.acks_pending_max {
                true => self.acks.expect(ack, key, seat.1),
                false => self.counters.hit(Limit::AcksPendingMax),
            }
        }
        self.counters.delivered += 1;
        true
    }

    /// Does to a client all that is due to it and waits for its turn: something else is about to happen to it.
    #[inline]
    pub(crate) fn catch_up(&mut self, slot: u32) {
        if !self.fan_outs.is_empty() {
            self.serve_all(slot);
        }
    }

    fn serve_all(&mut self, slot: u32) {
        // Whoever is dropped on the way is served in all of them.
        for at in 0..self.fan_outs.waiting.len() {
            while let Some(fan_out) = self.fan_outs.waiting.get_mut(at)
                && let Some(seat) = fan_out.take(slot)
            {
                let deed = Arc::clone(&fan_out.deed);
                let is_reached = self.serve(seat, &deed);
                if let Some(fan_out) = self.fan_outs.waiting.get_mut(at) {
                    fan_out.reached += u64::from(is_reached);
                }
            }
        }
    }

    fn end(&mut self, fan_out: &FanOut) {
        let ack = match &*fan_out.deed {
            Deed::Queue(message) => message.ack,
            Deed::Join(change) => {
                self.await_rooms(change, fan_out.asker, fan_out.reached);
                None
            }
            _ => None,
        };
        self.close(ack, fan_out.asker, fan_out.reached);
    }

    /// A broadcast has reached all that it will: whoever asked is told how many, or how many acknowledgements are awaited.
    fn close(&mut self, ack: Option<AckId>, asker: Asker, count: u64) {
        let count = ack.map_or(count, |ack| self.acks.seal(ack));
        match asker {
            Asker::Nobody => {}
            Asker::Pending(pending, index) => self.settle_pending(pending, index, count),
            Asker::Home { shard, pending, index } => {
                self.outbound.mails.push((shard, SiblingMail::Delivered { pending, index, count }));
            }
        }
    }
}
