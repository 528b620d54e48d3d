//! Collecting: what the bus keeps for a user comes to its sockets here, and the bus hears what they have received, and what was
//! kept here while it was away.
//!
//! A CONNECT waits until its user's mailbox was read, once the bus has confirmed the user's room: what is kept later comes as it is
//! published.

use std::collections::HashSet;
use std::sync::Arc;

use sockring_protocol::adapter::Broadcast;

use crate::app::{Application, ConnectRequest};
use crate::shard::clients::client::ClientKey;
use crate::shard::effects::Effect;
use crate::shard::event_id::EventId;
use crate::shard::hub::Hub;
use crate::shard::kept_mark::KeptMark;
use crate::shard::mail::{ConfirmAnswer, GiveAnswer, GivenEvent, Keep, KeptBy, MailboxQuestion, RoomName};
use crate::shard::moving::placement::home_of;

use super::deliver::Incoming;
use super::fan_out::{Asker, KeptName};
use super::kept::KeptEvent;
use super::mailboxes::{AwaitingMailbox, Errand, MailboxReading};
use super::recognising::Recognised;
use super::sockets::{NamespaceId, SocketStage};
use super::table::USER_PREFIX;

/// Users that are looked for in one part of a turn, and rooms that are passed for them.
const USERS_PER_LOOK: usize = 64;
const SLOTS_PER_LOOK: u32 = 1024;

impl<A: Application> Hub<A> {
    /// A socket waits for its CONNECT answer until it is known what the bus keeps for its user; `false`: nothing, or nobody
    /// knows.
    pub(crate) fn mailbox_waits(&mut self, key: ClientKey, place: u16, request: &ConnectRequest<'_>) -> bool {
        let Some(mailboxes) = self.mailboxes.as_deref_mut().filter(|_| self.membership.bus_is_up()) else {
            return false;
        };
        let Some(socket) = self.directory.socket(key, place) else { return false };
        let Some(user) = socket.user else { return false };
        let name = self.membership.name(user.room());
        if home_of(name, self.shard.of) != self.shard.number {
            return false;
        }
        let room = RoomName { namespace: socket.namespace, name: name.into() };
        let payload = request.payload.map(Box::from);
        let waiting = AwaitingMailbox { client: key, place, random: socket.random, payload };
        if let Some(number) = mailboxes.await_mailbox(&room, waiting, self.kept.places()) {
            self.outbound.for_bus.push(Effect::ReadKept(Box::new(MailboxQuestion { number, room })));
        }
        true
    }

    /// A mailbox was read, or could not be.
    pub(crate) fn on_mailbox(&mut self, number: u64, room: &RoomName, found: Option<Vec<Broadcast>>) {
        let now = self.now.at;
        let Some(mailboxes) = self.mailboxes.as_deref_mut() else { return };
        let Some(MailboxReading { known_to, waiting, .. }) = mailboxes.end_reading(room, number) else { return };
        match found {
            Some(events) => self.take_mailbox(room, events, known_to),
            None => {
                mailboxes.read_later(room.clone());
                mailboxes.rest(now);
            }
        }
        let settings = Arc::clone(&self.settings);
        for AwaitingMailbox { client, place, random, payload } in waiting {
            // It may be gone, and another have its place.
            let socket = self.directory.socket(client, place);
            let is_it = socket.is_some_and(|socket| socket.stage == SocketStage::Joining && socket.random == random);
            if is_it {
                let request = ConnectRequest {
                    namespace: settings.namespace_name(room.namespace),
                    payload: payload.as_deref(),
                    authorization: None,
                    now_unix_ms: self.now.unix_ms,
                };
                self.welcome_now(client, place, &request);
            }
        }
    }

    /// Delivers what has not come another way, and forgets what the bus does not keep any more.
    fn take_mailbox(&mut self, room: &RoomName, events: Vec<Broadcast>, known_to: u64) {
        let mark = |event: &Broadcast| KeptMark::parse(event.kept.as_deref()?);
        let listed: HashSet<EventId> = events.iter().filter_map(|event| Some(mark(event)?.id)).collect();
        let is_over = |event: &&KeptEvent| {
            let was_there = event.by == KeptBy::Bus && event.namespace == room.namespace && event.place <= known_to;
            was_there && !listed.contains(&event.known_as.unwrap_or(event.id))
        };
        let over: Vec<_> = self.kept.of_user(&room.name, self.now.at).filter(is_over).map(|event| event.id).collect();
        for id in over {
            self.kept.remove(&room.name, id);
        }
        for event in events {
            let position = mark(&event).and_then(|mark| {
                let log = &self.recovery.as_deref()?.log;
                log.position_of(room.namespace, &room.name, mark.id)
            });
            match position {
                // It has been delivered, to whoever was there.
                Some(position) => {
                    if let Recognised::New(KeptName { room, id }) = self.recognise(&event) {
                        self.kept.set_position(&room, id, position);
                    }
                }
                None => self.deliver(Incoming::from_elsewhere(Arc::new(event), Asker::Nobody)),
            }
        }
    }

    /// A user's last socket is gone for good: what the bus keeps for it need not be known here.
    pub(crate) fn forget_mailbox(&mut self, namespace: NamespaceId, room: &str) {
        if self.mailboxes.is_none() || self.kept.name(room).is_none() {
            return;
        }
        let is_by_bus = |event: &&KeptEvent| event.by == KeptBy::Bus && event.namespace == namespace;
        let ids: Vec<_> = self.kept.of_user(room, self.now.at).filter(is_by_bus).map(|event| event.id).collect();
        for id in ids {
            self.kept.remove(room, id);
        }
    }

    /// The bus is there, for the first time or again: it gets what was kept here meanwhile, and of all users that are here it is
    /// asked what they have missed.
    pub(crate) fn collect_all_kept(&mut self) {
        let Some(mailboxes) = self.mailboxes.as_deref_mut() else { return };
        mailboxes.read_all_from(Some(0));
    }

    /// Tells the bus what it has still to hear, and asks it what is still to be known, a part at a time.
    pub(crate) fn share_kept(&mut self) {
        let now = self.now.at;
        let Some(mailboxes) = self.mailboxes.as_deref_mut() else { return };
        mailboxes.begin_turn(now);
        if !self.membership.bus_is_up() {
            return;
        }
        while let Some(errand) = self.mailboxes.as_deref_mut().and_then(|mailboxes| mailboxes.next_errand(now)) {
            match errand {
                Errand::Confirm(received) => self.outbound.for_bus.push(Effect::ConfirmKept(Box::new(received))),
                Errand::Give(room, id) => self.give_kept(&room, id),
                Errand::Read(room) => self.read_mailbox(room),
                Errand::ReadFrom(place) => return self.read_users_from(place),
            }
        }
    }

    fn read_users_from(&mut self, place: u32) {
        let (users, next) = self.membership.users_from(place, USERS_PER_LOOK, SLOTS_PER_LOOK);
        let namespaces = u16::try_from(self.settings.namespaces.len()).unwrap_or(u16::MAX);
        for (user, _) in users {
            let name = [USER_PREFIX, &user].concat();
            let rooms = (0..namespaces)
                .map(|namespace| RoomName { namespace: NamespaceId(namespace), name: name.as_str().into() });
            rooms.for_each(|room| {
                if let Some(mailboxes) = self.mailboxes.as_deref_mut() {
                    mailboxes.read_later(room);
                }
            });
        }
        if let Some(mailboxes) = self.mailboxes.as_deref_mut() {
            mailboxes.read_all_from(next);
        }
    }

    fn read_mailbox(&mut self, room: RoomName) {
        let is_here = self.membership.is_remembered(room.namespace, &room.name);
        let Some(mailboxes) = self.mailboxes.as_deref_mut().filter(|_| is_here) else { return };
        if home_of(&room.name, self.shard.of) == self.shard.number
            && let Some(number) = mailboxes.read(&room, self.kept.places())
        {
            self.outbound.for_bus.push(Effect::ReadKept(Box::new(MailboxQuestion { number, room })));
        }
    }

    fn give_kept(&mut self, room: &Arc<str>, id: EventId) {
        let event = self.kept.find(room, id).filter(|event| event.expires_at > self.now.at);
        let (Some(event), Some(mailboxes)) = (event, self.mailboxes.as_deref_mut()) else { return };
        mailboxes.begin_giving();
        let keep = Keep { emitted_unix_ms: event.emitted_unix_ms, expires_unix_ms: event.expires_unix_ms };
        let key = event.key.as_deref().copied();
        let mark = KeptMark { id, expires_unix_ms: event.expires_unix_ms, key };
        let namespace = self.settings.namespace_name(event.namespace);
        let broadcast = Broadcast {
            except: event.except.to_vec(),
            conflate: event.conflate.clone(),
            kept: Some(mark.text().into()),
            ..Broadcast::new(namespace, vec![(**room).into()], Arc::clone(&event.args))
        };
        let room = RoomName { namespace: event.namespace, name: (**room).into() };
        let given = GivenEvent { room, broadcast, id, keep, key, by: event.by, now_unix_ms: self.now.unix_ms };
        self.outbound.for_bus.push(Effect::GiveKept(Box::new(given)));
    }

    /// What became of an event that the bus was given.
    pub(crate) fn on_given(&mut self, room: &RoomName, id: EventId, answer: GiveAnswer) {
        let now = self.now.at;
        let Some(mailboxes) = self.mailboxes.as_deref_mut() else { return };
        mailboxes.end_giving();
        match answer {
            GiveAnswer::Kept if self.kept.find(&room.name, id).is_some() => self.kept.set_by_bus(&room.name, id),
            // It was received meanwhile.
            GiveAnswer::Kept => mailboxes.receive(room.clone(), id, now),
            GiveAnswer::Repeated(first) => self.stand_for(room, id, first),
            GiveAnswer::Outdated => {
                self.kept.remove(&room.name, id);
                mailboxes.settle(id, now);
            }
            // It stays here alone.
            GiveAnswer::Full => {}
            GiveAnswer::Unheard | GiveAnswer::Unknown => {
                if let Some(name) = self.kept.name(&room.name) {
                    if answer == GiveAnswer::Unknown {
                        self.kept.doubt(&room.name, id);
                    }
                    mailboxes.give_later(name, id);
                }
                mailboxes.rest(now);
            }
        }
    }

    /// Whether the bus knows of receipts.
    pub(crate) fn on_confirmed(&mut self, number: u64, answer: ConfirmAnswer) {
        let now = self.now.at;
        let Some(mailboxes) = self.mailboxes.as_deref_mut() else { return };
        match answer {
            ConfirmAnswer::Done => mailboxes.on_confirmed(number),
            ConfirmAnswer::Unknown => mailboxes.on_unconfirmed(number, now),
        }
    }
}
