//! Mail: what backends and sibling shards ask of this one, and answers that wait for other shards.

use std::sync::Arc;

use sockring_protocol::adapter::{Broadcast, Ending, Selection};

use crate::app::Application;
use crate::shard::rooms::deliver::{Asker, Incoming};
use crate::shard::rooms::seats::Seat;
use crate::shard::rooms::selected::Joined;
use crate::shard::rooms::sockets::NamespaceId;
use crate::shard::rooms::table::USER_PREFIX;

use super::super::limit::Limit;
use super::super::mail::{BusMail, Mail, Reply, ShardMetrics, ShardStats, SiblingMail, Target, Ticket};
use super::Hub;

/// An answer that other shards contribute to.
pub(crate) struct Pending {
    ticket: Ticket,
    counts: Vec<u64>,
    kind: PendingKind,
    pub(crate) outstanding: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum PendingKind {
    Emit,
    Change,
    /// Two counts: who has joined, and who was refused.
    Join,
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
            Mail::Join(target, room) => return self.join_and_answer(ticket, &target, &room),
            Mail::Leave(target, room) => Reply::Changed(self.leave_target(&target, &room)),
            Mail::Disconnect(target, ending) => return self.end_and_answer(ticket, self.places_of(&target), ending),
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
                let room = self.rooms.find(NamespaceId(0), &[USER_PREFIX, &user].concat());
                Reply::Sockets(room.map_or(0, |room| self.rooms.members(room).len() as u64))
            }
            Mail::Describe(selection, bytes_max) => {
                self.describe(&selection, bytes_max).map_or(Reply::TooMuch, Reply::Described)
            }
            Mail::Outposts { namespace, room } => Reply::Outposts(self.outposts_of(&namespace, &room)),
            Mail::Rooms(namespace, bytes_max) => {
                self.room_names(&namespace, bytes_max).map_or(Reply::TooMuch, Reply::Rooms)
            }
            Mail::JoinSelected(selection, rooms) => return self.join_selected_and_answer(ticket, &selection, &rooms),
            Mail::LeaveSelected(selection, rooms) => Reply::Changed(self.leave_selected(&selection, &rooms)),
            Mail::EndSelected(selection, ending) => {
                return self.end_and_answer(ticket, self.selected(&selection), ending);
            }
            Mail::DeliverForAck { broadcast, number, timeout_ms } => {
                return self.emit_for_ack(ticket, *broadcast, number, timeout_ms);
            }
        };
        self.replies.push((ticket, reply));
    }

    /// Takes one mail of another shard.
    pub(crate) fn on_sibling_mail(&mut self, mail: SiblingMail) {
        match mail {
            SiblingMail::MoveIn(emigrant) => self.immigrate(*emigrant),
            SiblingMail::Gone(sid) => self.on_gone(&sid),
            SiblingMail::RoomUp { room, epoch, from } => self.on_room_up(room, epoch, from),
            SiblingMail::RoomDown { room, epoch, from } => self.on_room_down(&room, epoch, from),
            SiblingMail::RoomReady { room, epoch } => self.on_room_ready(&room, epoch),
            SiblingMail::Deliver { broadcast, pending, index, from } => {
                let asker = Asker::Home { shard: from, pending, index };
                self.deliver(Incoming { broadcast, ack: None, is_home: false, asker });
            }
            SiblingMail::Delivered { pending, index, count } => self.settle_pending(pending, index, count),
            SiblingMail::Look { from, round } => self.on_look(from, round),
            SiblingMail::Looked { round, away } => self.on_looked(round, away),
        }
    }

    /// Takes what the bus says.
    pub(crate) fn on_bus_mail(&mut self, mail: BusMail) {
        match mail {
            BusMail::Up => self.subscriptions.on_up(),
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
            return self.replies.push((ticket, Reply::Delivered(Vec::new())));
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
        self.homes.outposts(namespace, room).iter().map(|(shard, _)| *shard).collect()
    }

    fn end_and_answer(&mut self, ticket: Ticket, seats: Vec<Seat>, ending: Ending) {
        let kind = PendingKind::Change;
        let pending = self.pending.insert(Pending { ticket, counts: vec![0], kind, outstanding: 1 });
        self.end_all(seats, ending, Asker::Pending(pending, 0));
    }

    fn join_and_answer(&mut self, ticket: Ticket, target: &Target, room: &str) {
        let count = self.join_target(target, room);
        let pending = self.await_rooms(ticket, PendingKind::Change, vec![count]);
        let namespaces = (0..u16::try_from(self.settings.namespaces.len()).unwrap_or(u16::MAX)).map(NamespaceId);
        self.answer_when_joined(pending, count, namespaces.map(|namespace| (namespace, room)));
    }

    fn join_selected_and_answer(&mut self, ticket: Ticket, selection: &Selection, rooms: &[Box<str>]) {
        let Joined { sockets, refused } = self.join_selected(selection, rooms);
        let pending = self.await_rooms(ticket, PendingKind::Join, vec![sockets, refused]);
        let namespace = self.settings.namespace(&selection.namespace);
        let joined = rooms.iter().filter_map(|room| Some((namespace?, &**room)));
        // Who was refused the last of them may be in the others.
        self.answer_when_joined(pending, sockets + refused, joined);
    }

    /// An answer that waits for rooms, if for any.
    fn await_rooms(&mut self, ticket: Ticket, kind: PendingKind, counts: Vec<u64>) -> usize {
        self.pending.insert(Pending { ticket, counts, kind, outstanding: 1 })
    }

    /// This many sockets have joined, and are told so when emits to these rooms reach them.
    fn answer_when_joined<'r>(
        &mut self,
        pending: usize,
        count: u64,
        rooms: impl Iterator<Item = (NamespaceId, &'r str)>,
    ) {
        for (namespace, room) in rooms {
            if count > 0
                && self.answer_waits(namespace, room, pending)
                && let Some(pending) = self.pending.get_mut(pending)
            {
                pending.outstanding += 1;
            }
        }
        self.settle_pending(pending, 0, 0);
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
            PendingKind::Join => {
                let [sockets, refused] = [0, 1].map(|index| pending.counts.get(index).copied().unwrap_or_default());
                Reply::Joined { sockets, refused }
            }
        };
        self.replies.push((pending.ticket, reply));
    }
}
