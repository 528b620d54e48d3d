//! Delivery: broadcasts on their way to their members here, over as many turns as they take.
//!
//! To whom a broadcast goes is decided when it comes. But a turn queues a bounded number of messages, so that a large
//! broadcast delays nobody else; what is left waits (`Broadcasts`) in the order in which it was emitted, and while too much
//! waits no mail is read. No client notices: before anything else is queued for it, or one of its sockets ends, it gets all
//! that was emitted to it before (`catch_up`). What else concerns many sockets goes the same way (`changes`).

use std::sync::Arc;

use sockring_protocol::adapter::{Broadcast, Delivery};
use sockring_protocol::socketio::AckId;

use crate::app::Application;
use crate::shard::clients::client::{CloseReason, Farewell, Queued};
use crate::shard::clients::encode::{self, Carrier};
use crate::shard::clients::outbox::{ConflateKey, Frames};
use crate::shard::hub::Hub;
use crate::shard::kept_mark::KeptMark;
use crate::shard::mail::{Inquiry, InquiryKind, SiblingMail, TallyKey};
use crate::shard::recovery::log::KeptUntil;
use crate::shard::recovery::position::{Mark, Position};

use super::broadcasts::Report;
use super::fan_out::{AskedOf, Asker, Deed, EncodedMessage, FanOut, KeptName};
use super::recognising::Recognised;
use super::sockets::{NamespaceId, Seat};

/// A broadcast that has come.
pub(crate) struct Incoming {
    pub(crate) broadcast: Arc<Broadcast>,
    /// Under which each receiver is asked to acknowledge it, by another instance.
    pub(crate) ack: Option<AckId>,
    /// What a backend wants to know of each receiver.
    pub(crate) inquiries: Vec<Inquiry>,
    /// Whether this is its room's home, which sends it on.
    pub(crate) is_home: bool,
    pub(crate) asker: Asker,
    /// It is kept until a socket of its user has received it.
    pub(crate) kept: Option<KeptName>,
    /// It means nothing to who comes back later.
    pub(crate) is_passing: bool,
}

impl Incoming {
    /// One of which nothing is remembered but what clients that come back miss, and that goes to nobody elsewhere.
    pub(crate) fn from_elsewhere(broadcast: Arc<Broadcast>, asker: Asker) -> Incoming {
        let (ack, inquiries, kept) = (None, Vec::new(), None);
        Incoming { broadcast, ack, inquiries, is_home: false, asker, kept, is_passing: false }
    }
}

impl<A: Application> Hub<A> {
    /// A turn begins.
    pub(crate) fn begin_turn(&mut self) {
        self.broadcasts.begin_turn(&self.settings.turn);
    }

    /// Whether another mail may be read in this turn.
    pub(crate) fn takes_mail(&self) -> bool {
        self.broadcasts.takes_mail(&self.settings.turn)
    }

    /// Goes on with what waits, as far as this turn may.
    pub(crate) fn fan_out(&mut self) {
        if self.broadcasts.is_empty() {
            return;
        }
        self.broadcasts.keep_a_share(&self.settings.turn);
        while !self.broadcasts.is_spent() {
            let Some(mut fan_out) = self.broadcasts.take_first() else { return };
            while !self.broadcasts.is_spent()
                && let Some(seat) = fan_out.next_seat()
            {
                fan_out.reached += u64::from(self.serve(seat, &fan_out.deed));
            }
            match fan_out.left() {
                0 => self.end(&fan_out),
                _ => self.broadcasts.put_back(fan_out),
            }
        }
    }

    /// Decides to whom a broadcast goes, and queues it for them, at once if they are few.
    pub(crate) fn deliver(&mut self, incoming: Incoming) {
        let Incoming { broadcast, ack, inquiries, is_home, asker, kept, is_passing } = incoming;
        let namespace = self.settings.namespace(&broadcast.namespace);
        if let (Some(namespace), true) = (namespace, is_home) {
            self.send_on(namespace, &broadcast, asker, &inquiries);
        }
        let kept = match kept {
            None if broadcast.kept.is_some() => match self.recognise(&broadcast) {
                Recognised::Plain => None,
                Recognised::New(kept) => Some(kept),
                Recognised::Known => return self.close(AskedOf { ack, receipt: None }, asker, 0),
            },
            kept => kept,
        };
        if let (Some(namespace), Some(key), None) = (namespace, &broadcast.conflate, &kept) {
            self.outdate_kept(namespace, &broadcast.rooms, key);
        }
        let seats = namespace.map(|namespace| self.select(namespace, &broadcast.rooms, &broadcast.except));
        let (Some(namespace), Some(seats)) = (namespace, seats) else {
            return self.close(AskedOf { ack, receipt: None }, asker, 0);
        };
        let wants_ack = ack.is_some() || inquiries.iter().any(|inquiry| inquiry.kind != InquiryKind::Receipt);
        let is_remembered = !wants_ack && !is_passing && self.is_remembered(namespace, &broadcast);
        let asked = self.ask_receivers(ack, &inquiries, is_remembered);
        if seats.is_empty() && !is_remembered {
            return self.close(asked, asker, 0);
        }
        let message = match is_remembered {
            true => self.remembered_message(namespace, &broadcast, kept),
            false => {
                // What asks for an acknowledgement ends in a callback at its receiver, and what is passing comes to those too
                // who have not got all that was before it: neither says how far anybody has got.
                let mark = if asked.ack.is_none() && !is_passing { self.mark() } else { None };
                EncodedMessage { kept, ..self.message(namespace, &broadcast, asked, mark) }
            }
        };
        if seats.is_empty() {
            return self.close(asked, asker, 0);
        }
        self.spread(Deed::Queue(EncodedMessage { asked, ..message }), seats, asker);
    }

    /// Does something to these sockets, which are in order: at once if they are few.
    pub(crate) fn spread(&mut self, deed: Deed, seats: Vec<Seat>, asker: Asker) {
        let is_small = seats.len() <= self.settings.turn.at_once_max;
        let parts = seats.len().saturating_mul(deed.parts(&self.settings.turn));
        let mut fan_out = FanOut::new(deed, seats, asker);
        if !is_small && !self.broadcasts.has_time_for(parts) {
            return self.broadcasts.put_last(fan_out);
        }
        while let Some(seat) = fan_out.next_seat() {
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
        self.broadcasts.spend(deed.parts(&self.settings.turn));
        match deed {
            Deed::Queue(_) => false,
            Deed::Join(change) => self.join_rooms(key, place, &change.rooms),
            Deed::Leave(change) => self.leave_rooms(key, place, &change.rooms),
            Deed::End(ending) => {
                self.end_as(key, place, *ending);
                true
            }
            Deed::Describe(tally) => self.describe_in(*tally, key, place),
        }
    }

    /// At the home of its room, or of what is remembered of it: the shards that have, or may have, other members get it too.
    fn send_on(&mut self, namespace: NamespaceId, broadcast: &Arc<Broadcast>, asker: Asker, inquiries: &[Inquiry]) {
        let Asker::Tally(tally, index) = asker else { return };
        let from = self.shard.number;
        let (outposts, others) = match &*broadcast.rooms {
            [room] => (self.membership.outposts(namespace, room), 0..0),
            _ => (&[][..], 0..self.shard.of),
        };
        for shard in outposts.iter().map(|(shard, _)| *shard).chain(others).filter(|shard| *shard != from) {
            let mail = SiblingMail::Deliver {
                broadcast: Arc::clone(broadcast),
                tally,
                index,
                from,
                inquiries: inquiries.to_vec(),
            };
            self.outbound.mails.push((shard, mail));
            self.broadcasts.expect(tally);
        }
    }

    fn message(
        &mut self,
        namespace: NamespaceId,
        broadcast: &Broadcast,
        asked: AskedOf,
        mark: Option<Mark>,
    ) -> EncodedMessage {
        let frames = self.encode(broadcast, asked.ack, mark);
        let conflate = broadcast.conflate.as_ref().map(|key| ConflateKey::new(namespace, key));
        EncodedMessage { frames, conflate, delivery: broadcast.delivery, asked, position: None, kept: None }
    }

    /// One that goes into the log, and to nobody.
    pub(crate) fn remember_only(&mut self, namespace: NamespaceId, broadcast: &Broadcast) {
        self.remembered_message(namespace, broadcast, None);
    }

    /// One that goes into the log, whoever is there to get it.
    fn remembered_message(
        &mut self,
        namespace: NamespaceId,
        broadcast: &Broadcast,
        kept: Option<KeptName>,
    ) -> EncodedMessage {
        let place = broadcast.entry.map(Position::of_entry);
        let mark = self.recovery.as_deref().map(|recovery| recovery.next_mark(place));
        let frames = self.encode(broadcast, None, mark);
        let conflate = broadcast.conflate.as_ref().map(|key| ConflateKey::new(namespace, key));
        let event = kept.as_ref().and_then(|KeptName { room, id }| self.kept.find(room, *id));
        let until = event.map(|event| KeptUntil { id: event.id, expires_at: event.expires_at });
        // Where its user is not here, nothing else is known of it.
        let until = until.or_else(|| {
            let mark = KeptMark::parse(broadcast.kept.as_deref().filter(|_| kept.is_some())?)?;
            let expires_at = self.now.at + mark.expires_unix_ms.saturating_sub(self.now.unix_ms);
            Some(KeptUntil { id: mark.id, expires_at })
        });
        let position = mark.map(|mark| mark.offset.position);
        if let Some(position) = position {
            self.remember(namespace, broadcast, position, conflate.clone(), until, &frames);
        }
        if let (Some(KeptName { room, id }), Some(position)) = (&kept, position) {
            self.kept.set_position(room, *id, position);
        }
        EncodedMessage { frames, conflate, delivery: broadcast.delivery, asked: AskedOf::NOTHING, position, kept }
    }

    fn encode(&mut self, broadcast: &Broadcast, ack: Option<AckId>, mark: Option<Mark>) -> Frames {
        let Broadcast { namespace, args, attachments, .. } = broadcast;
        encode::packet_with_args(&mut self.scratch, namespace, Carrier::Event(ack), args, attachments, mark)
    }

    /// Queues a message for one of its receivers; says whether it gets it.
    pub(crate) fn queue_for(&mut self, seat: Seat, message: &EncodedMessage) -> bool {
        let EncodedMessage { frames, conflate, delivery, position, .. } = message;
        if message.kept.is_some() && position.is_none() && self.gets_kept_later(seat) {
            return false;
        }
        if self.has_had(seat, *position, *delivery) {
            return false;
        }
        if self.is_behind_at(seat) && (position.is_some() || *delivery == Delivery::Volatile) {
            // It follows out of the log.
            return position.is_some();
        }
        let max = self.settings.queue_bytes_max;
        let Some((key, queued)) = self.directory.queue_at(seat, frames, conflate.as_ref(), *delivery, max) else {
            return false;
        };
        self.broadcasts.spend(self.settings.turn.changes_per_message);
        match queued {
            Queued::Yes => {}
            Queued::Dropped => {
                self.counters.volatile_dropped += 1;
                return false;
            }
            Queued::Full => match position {
                Some(position) => {
                    self.fall_behind(seat, *position);
                    self.counters.delivered += 1;
                    return true;
                }
                None => {
                    self.drop_client(key, CloseReason::QueueFull, None, Farewell::Now);
                    return false;
                }
            },
        }
        if message.asked != AskedOf::NOTHING {
            self.expect_answers(key, seat.1, message.asked);
        }
        if let Some(kept) = &message.kept {
            self.on_kept_queued(key, seat.1, kept, *position);
        }
        self.counters.delivered += 1;
        true
    }

    /// Does to a client all that is due to it and waits for its turn: something else is about to happen to it.
    #[inline]
    pub(crate) fn catch_up(&mut self, slot: u32) {
        if !self.broadcasts.is_empty() {
            self.serve_all(slot);
        }
    }

    fn serve_all(&mut self, slot: u32) {
        // Whoever is dropped on the way is served in all of them.
        for at in 0..self.broadcasts.waiting() {
            while let Some((seat, deed)) = self.broadcasts.take_seat(at, slot) {
                if self.serve(seat, &deed) {
                    self.broadcasts.count_reached(at);
                }
            }
        }
    }

    fn end(&mut self, fan_out: &FanOut) {
        let asked = match &*fan_out.deed {
            Deed::Queue(message) => message.asked,
            Deed::Join(change) => {
                self.await_rooms(change, fan_out.asker, fan_out.reached);
                AskedOf::NOTHING
            }
            _ => AskedOf::NOTHING,
        };
        self.close(asked, fan_out.asker, fan_out.reached);
    }

    /// A broadcast has reached all that it will: whoever asked is told how many, or how many acknowledgements are awaited.
    fn close(&mut self, asked: AskedOf, asker: Asker, count: u64) {
        let report = self.broadcasts.close(asked, asker, count);
        self.report(report);
    }

    /// Another part of an answer is there; with the last one it is given.
    pub(crate) fn count(&mut self, tally: TallyKey, index: usize, count: u64) {
        let report = self.broadcasts.count(tally, index, count);
        self.report(report);
    }

    fn report(&mut self, report: Option<Report>) {
        match report {
            None => {}
            Some(Report::Reply(ticket, reply)) => self.outbound.replies.push((ticket, reply)),
            Some(Report::Home(shard, mail)) => self.outbound.mails.push((shard, mail)),
        }
    }
}
