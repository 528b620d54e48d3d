//! Mail: what backends and sibling shards ask of this one, and answers that wait for other shards.

use std::sync::Arc;

use sockring_protocol::adapter::{Broadcast, SocketDescription};

use crate::app::Application;
use crate::shard::rooms::deliver::{Asker, Change, Deed, Incoming};
use crate::shard::rooms::sockets::NamespaceId;
use crate::shard::rooms::table::USER_PREFIX;

use super::super::limit::Limit;
use super::super::mail::{BusMail, Mail, Reply, ShardMetrics, ShardStats, SiblingMail, Ticket};
use super::Hub;

/// An answer that other shards contribute to.
pub(crate) struct Pending {
    ticket: Ticket,
    counts: Vec<u64>,
    kind: PendingKind,
    pub(crate) outstanding: u32,
}

#[derive(Debug)]
enum PendingKind {
    Emit,
    Change,
    /// Of so many some have joined, and the others were refused.
    Join {
        of: u64,
    },
    /// Those so far, what they take, and what they may.
    Describe {
        descriptions: Vec<SocketDescription>,
        bytes: usize,
        bytes_max: usize,
    },
    /// They would take more.
    TooMuch,
}

/// What a shard is to a broadcast.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Role {
    /// The home of its room.
    Home,
    /// One of those that may have members.
    Other,
}

impl<A: Application> Hub<A> {
    /// Takes one mail. Its answer is among `replies`, now or when other shards have answered.
    pub(crate) fn on_mail(&mut self, ticket: Ticket, mail: Mail, stats: impl FnOnce(&Hub<A>) -> ShardStats) {
        let reply = match mail {
            Mail::Emit(broadcasts) => return self.emit(ticket, broadcasts, Role::Home),
            Mail::Deliver(broadcasts) => return self.emit(ticket, broadcasts, Role::Other),
            Mail::Join(target, room) => {
                let change = Change { rooms: vec![room], namespace: None };
                return self.change(ticket, self.places_of(&target), Deed::Join(change));
            }
            Mail::Leave(target, room) => {
                let change = Change { rooms: vec![room], namespace: None };
                return self.change(ticket, self.places_of(&target), Deed::Leave(change));
            }
            Mail::Disconnect(target, ending) => {
                return self.change(ticket, self.places_of(&target), Deed::End(ending));
            }
            Mail::Stand(event) => {
                self.standing = event;
                Reply::Changed(0)
            }
            Mail::AllowOrigins(cors) => {
                let settings = Arc::make_mut(&mut self.settings);
                settings.cors = cors;
                Reply::Changed(0)
            }
            Mail::Stats => Reply::Stats(stats(self)),
            Mail::Metrics => {
                let metrics = ShardMetrics { stats: stats(self), counters: self.counters.clone() };
                Reply::Metrics(Box::new(metrics))
            }
            Mail::UserStatus(user) => {
                let members = self.membership.members_of(NamespaceId(0), &[USER_PREFIX, &user].concat());
                Reply::Sockets(members.len() as u64)
            }
            Mail::Describe(selection, bytes_max) => return self.describe(ticket, &selection, bytes_max),
            Mail::Outposts { namespace, room } => Reply::Outposts(self.outposts_of(&namespace, &room)),
            Mail::Rooms(namespace, bytes_max) => {
                self.room_names(&namespace, bytes_max).map_or(Reply::TooMuch, Reply::Rooms)
            }
            Mail::JoinSelected(selection, rooms) => {
                return self.join_selected(ticket, &selection, rooms);
            }
            Mail::LeaveSelected(selection, rooms) => {
                let change = Change { rooms, namespace: self.settings.namespace(&selection.namespace) };
                return self.change(ticket, self.selected(&selection), Deed::Leave(change));
            }
            Mail::EndSelected(selection, ending) => {
                return self.change(ticket, self.selected(&selection), Deed::End(ending));
            }
            Mail::DeliverForAck { broadcast, number, timeout_ms } => {
                return self.emit_for_ack(ticket, *broadcast, number, timeout_ms);
            }
        };
        self.outbound.replies.push((ticket, reply));
    }

    /// Takes one mail of another shard.
    pub(crate) fn on_sibling_mail(&mut self, mail: SiblingMail) {
        match mail {
            SiblingMail::MoveIn(emigrant) => self.immigrate(*emigrant),
            SiblingMail::Gone(sid) => self.directory.on_gone(&sid),
            SiblingMail::RoomUp { room, epoch, from } => self.on_room_up(room, epoch, from),
            SiblingMail::RoomDown { room, epoch, from } => self.on_room_down(&room, epoch, from),
            SiblingMail::RoomReady { room, epoch } => self.on_room_ready(&room, epoch),
            SiblingMail::Deliver { broadcast, pending, index, from } => {
                let asker = Asker::Home { shard: from, pending, index };
                self.deliver(Incoming { broadcast, ack: None, is_home: false, asker });
            }
            SiblingMail::Delivered { pending, index, count } => self.settle_pending(pending, index, count),
            SiblingMail::Look { from, round } => self.lookout.on_look(from, round),
            SiblingMail::Looked { round, away } => self.on_looked(round, away),
        }
    }

    /// Takes what the bus says.
    pub(crate) fn on_bus_mail(&mut self, mail: BusMail) {
        match mail {
            BusMail::Up => self.membership.on_bus_up(),
            BusMail::Down => self.on_bus_down(),
            BusMail::Subscribed(rooms) => rooms.iter().for_each(|(room, epoch)| self.on_subscribed(room, *epoch)),
        }
    }

    /// A mail of ours could not be posted: too much waits for that shard.
    pub(crate) fn on_refused_mail(&mut self, mail: &SiblingMail) {
        self.counters.hit(Limit::MailBytesMax);
        if let SiblingMail::Deliver { pending, index, .. } = mail {
            self.settle_pending(*pending, *index, 0);
        }
    }

    /// Delivers to the members here, and at the home of each broadcast's room sends on to the shards that have others.
    fn emit(&mut self, ticket: Ticket, broadcasts: Vec<Broadcast>, role: Role) {
        if broadcasts.is_empty() {
            return self.outbound.replies.push((ticket, Reply::Delivered(Vec::new())));
        }
        let pending = self.await_delivery(ticket, broadcasts.len());
        for (index, broadcast) in broadcasts.into_iter().map(Arc::new).enumerate() {
            let asker = Asker::Pending(pending, index);
            self.deliver(Incoming { broadcast, ack: None, is_home: role == Role::Home, asker });
        }
    }

    /// Delivers to the members here, and each of them is asked for an acknowledgement.
    fn emit_for_ack(&mut self, ticket: Ticket, broadcast: Broadcast, number: u64, timeout_ms: u64) {
        let ack = self.acks.begin(number, timeout_ms, self.now.at);
        let asker = Asker::Pending(self.await_delivery(ticket, 1), 0);
        self.deliver(Incoming { broadcast: Arc::new(broadcast), ack: Some(ack), is_home: false, asker });
    }

    /// An answer that waits until so many broadcasts are delivered.
    fn await_delivery(&mut self, ticket: Ticket, broadcasts: usize) -> usize {
        let outstanding = u32::try_from(broadcasts).unwrap_or(u32::MAX);
        self.pending.insert(Pending { ticket, counts: vec![0; broadcasts], kind: PendingKind::Emit, outstanding })
    }

    fn outposts_of(&self, namespace: &str, room: &str) -> Vec<u16> {
        let Some(namespace) = self.settings.namespace(namespace) else { return Vec::new() };
        self.membership.outposts(namespace, room).iter().map(|(shard, _)| *shard).collect()
    }

    /// An answer that waits until a change is done.
    pub(crate) fn await_change(&mut self, ticket: Ticket) -> usize {
        self.pending.insert(Pending { ticket, counts: vec![0], kind: PendingKind::Change, outstanding: 1 })
    }

    /// One that waits until so many sockets have joined rooms, or been refused.
    pub(crate) fn await_joined(&mut self, ticket: Ticket, of: usize) -> usize {
        let kind = PendingKind::Join { of: of as u64 };
        self.pending.insert(Pending { ticket, counts: vec![0], kind, outstanding: 1 })
    }

    /// One that waits until all whom it is about are described.
    pub(crate) fn await_descriptions(&mut self, ticket: Ticket, bytes_max: usize) -> usize {
        let kind = PendingKind::Describe { descriptions: Vec::new(), bytes: 0, bytes_max };
        self.pending.insert(Pending { ticket, counts: vec![0], kind, outstanding: 1 })
    }

    /// Whether it has room for another one.
    pub(crate) fn wants_description(&self, pending: usize) -> bool {
        self.pending.get(pending).is_some_and(|pending| matches!(pending.kind, PendingKind::Describe { .. }))
    }

    /// Says whether it had.
    pub(crate) fn add_description(&mut self, pending: usize, description: SocketDescription) -> bool {
        let Some(Pending { kind, .. }) = self.pending.get_mut(pending) else { return false };
        let PendingKind::Describe { descriptions, bytes, bytes_max } = kind else { return false };
        *bytes += description.bytes();
        if *bytes > *bytes_max {
            *kind = PendingKind::TooMuch;
            return false;
        }
        descriptions.push(description);
        true
    }

    /// So many sockets have joined, and whoever asked is told when emits to these rooms reach them.
    pub(crate) fn await_rooms(&mut self, change: &Change, asker: Asker, count: u64) {
        let Asker::Pending(pending, _) = asker else { return };
        let count = match self.pending.get(pending).map(|pending| &pending.kind) {
            // Who was refused the last of them may be in the others.
            Some(PendingKind::Join { of }) => *of,
            _ => count,
        };
        if count == 0 {
            return;
        }
        let all = 0..u16::try_from(self.settings.namespaces.len()).unwrap_or(u16::MAX);
        let namespaces = all.map(NamespaceId).filter(|id| change.namespace.is_none_or(|namespace| namespace == *id));
        for namespace in namespaces {
            for room in &change.rooms {
                if self.answer_waits(namespace, room, pending)
                    && let Some(pending) = self.pending.get_mut(pending)
                {
                    pending.outstanding += 1;
                }
            }
        }
    }

    /// Another part of an answer is there; with the last one it is given.
    pub(crate) fn settle_pending(&mut self, key: usize, index: usize, count: u64) {
        let Some(pending) = self.pending.get_mut(key) else { return };
        if let Some(total) = pending.counts.get_mut(index) {
            *total += count;
        }
        pending.outstanding -= 1;
        if pending.outstanding > 0 {
            return;
        }
        let pending = self.pending.remove(key);
        let reply = match pending.kind {
            PendingKind::Emit => Reply::Delivered(pending.counts),
            PendingKind::Change => Reply::Changed(pending.counts.iter().sum()),
            PendingKind::Join { of } => {
                let sockets = pending.counts.iter().sum();
                Reply::Joined { sockets, refused: of - sockets }
            }
            PendingKind::Describe { descriptions, .. } => Reply::Described(descriptions),
            PendingKind::TooMuch => Reply::TooMuch,
        };
        self.outbound.replies.push((pending.ticket, reply));
    }
}
