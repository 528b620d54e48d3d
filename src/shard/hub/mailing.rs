//! Mail: what backends and sibling shards ask of this one.

use std::sync::Arc;

use sockring_protocol::adapter::Broadcast;

use crate::app::Application;
use crate::shard::rooms::acks::{AckAsker, AckWay};
use crate::shard::rooms::deliver::Incoming;
use crate::shard::rooms::fan_out::{Asker, Change, Deed};
use crate::shard::rooms::sockets::NamespaceId;
use crate::shard::rooms::table::USER_PREFIX;
use crate::shard::rooms::tally::Tally;

use super::super::limit::Limit;
use super::super::mail::{BusMail, Mail, Reply, ShardMetrics, ShardStats, SiblingMail, Ticket};
use super::Hub;

/// Rooms that one look for users passes: a small part of a turn.
const SLOTS_PER_LOOK: u32 = 1024;

/// What a shard is to a broadcast.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ShardRole {
    /// The home of its room.
    Home,
    /// One of those that may have members.
    Other,
}

impl<A: Application> Hub<A> {
    /// Takes one mail. Its answer is among `replies`, now or when other shards have answered.
    pub(crate) fn on_mail(&mut self, ticket: Ticket, mail: Mail, stats: impl FnOnce(&Hub<A>) -> ShardStats) {
        let reply = match mail {
            Mail::Emit(broadcasts) => return self.emit(ticket, broadcasts, ShardRole::Home),
            Mail::Deliver(broadcasts) => return self.emit(ticket, broadcasts, ShardRole::Other),
            Mail::Recall(broadcasts) => {
                self.recall(broadcasts);
                Reply::Changed(0)
            }
            Mail::Kept { room, after, limit } => self.kept_for(&room, after, limit),
            Mail::Unkeep { room, id } => self.unkeep(&room, id),
            Mail::EmitRemembered(emits) => return self.emit_remembered(ticket, emits),
            Mail::Conclude(key) => return self.broadcasts.fetch(key, ticket),
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
                self.broadcasts.stand(event);
                Reply::Changed(0)
            }
            Mail::AllowOrigins(cors) => {
                let settings = Arc::make_mut(&mut self.settings);
                settings.cors = cors;
                Reply::Changed(0)
            }
            Mail::Watch(users) => {
                self.diary.watch(users);
                Reply::Changed(0)
            }
            Mail::Reconsider => {
                self.waiting.wake();
                Reply::Changed(0)
            }
            Mail::Stats => Reply::Stats(Box::new(stats(self))),
            Mail::Metrics => {
                let metrics = ShardMetrics { stats: stats(self), counters: self.counters.clone() };
                Reply::Metrics(Box::new(metrics))
            }
            Mail::UserStatus(user) => {
                let members = self.membership.members_of(NamespaceId(0), &[USER_PREFIX, &user].concat());
                Reply::Sockets(members.len() as u64)
            }
            Mail::Users { from, limit } => {
                let (users, next) = self.membership.users_from(from, limit, SLOTS_PER_LOOK);
                Reply::Users { users, next }
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
            SiblingMail::Deliver { broadcast, tally, index, from, inquiries } => {
                let asker = Asker::Home { shard: from, tally, index };
                self.deliver(Incoming { inquiries, ..Incoming::from_elsewhere(broadcast, asker) });
            }
            SiblingMail::Delivered { tally, index, count } => self.count(tally, index, count),
            SiblingMail::Look { from, round } => self.lookout.on_look(from, round),
            SiblingMail::Looked { round, aways } => self.on_looked(round, &aways),
        }
    }

    /// Takes what the bus says.
    pub(crate) fn on_bus_mail(&mut self, mail: BusMail) {
        match mail {
            BusMail::Up => {
                self.membership.on_bus_up();
                self.collect_all_kept();
            }
            BusMail::Down => self.on_bus_down(),
            BusMail::Subscribed(rooms) => rooms.iter().for_each(|(room, epoch)| self.on_subscribed(room, *epoch)),
            BusMail::Session { number, found } => self.on_session(number, found),
            BusMail::Read(through) => self.on_read(through),
            BusMail::Past(past) => self.on_past(past),
            BusMail::Mailbox { number, room, found } => self.on_mailbox(number, &room, found),
            BusMail::Confirmed { number, answer } => self.on_confirmed(number, answer),
            BusMail::Given { room, id, answer } => self.on_given(&room, id, answer),
            BusMail::Neighbours(neighbours) => self.neighbours = neighbours,
        }
    }

    /// A mail of ours could not be posted: too much waits for that shard.
    pub(crate) fn on_refused_mail(&mut self, mail: &SiblingMail) {
        self.counters.hit(Limit::MailBytesMax);
        if let SiblingMail::Deliver { tally, index, .. } = mail {
            self.count(*tally, *index, 0);
        }
    }

    /// Delivers to the members here, and at the home of each broadcast's room sends on to the shards that have others.
    fn emit(&mut self, ticket: Ticket, broadcasts: Vec<Broadcast>, role: ShardRole) {
        if broadcasts.is_empty() {
            return self.outbound.replies.push((ticket, Reply::Delivered(Vec::new())));
        }
        let tally = self.broadcasts.open(Tally::of_emits(ticket, broadcasts.len()));
        for (index, broadcast) in broadcasts.into_iter().map(Arc::new).enumerate() {
            let asker = Asker::Tally(tally, index);
            self.deliver(Incoming { is_home: role == ShardRole::Home, ..Incoming::from_elsewhere(broadcast, asker) });
        }
    }

    /// Delivers to the members here, and each of them is asked for an acknowledgement.
    fn emit_for_ack(&mut self, ticket: Ticket, broadcast: Broadcast, number: u64, timeout_ms: u64) {
        let ack = self.broadcasts.ask(AckAsker::Bus(number), AckWay::Callback, timeout_ms, self.now.at);
        let asker = Asker::Tally(self.broadcasts.open(Tally::of_emits(ticket, 1)), 0);
        self.deliver(Incoming { ack: Some(ack), ..Incoming::from_elsewhere(Arc::new(broadcast), asker) });
    }

    fn outposts_of(&self, namespace: &str, room: &str) -> Vec<u16> {
        let Some(namespace) = self.settings.namespace(namespace) else { return Vec::new() };
        self.membership.outposts(namespace, room).iter().map(|(shard, _)| *shard).collect()
    }
}
