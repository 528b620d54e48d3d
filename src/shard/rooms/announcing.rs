//! Announcements: who is told that it is in a room misses nothing from then on, so it is told when emits reach it.
//!
//! The CONNECT answer, and the answer to a join, wait until the room's home has acknowledged, and there until the bus has,
//! or has had its time. Where the home is this shard and there is no bus, nobody waits.

use std::sync::Arc;

use crate::app::{Application, ConnectRequest};
use crate::shard::clients::client::ClientKey;
use crate::shard::effects::Effect;
use crate::shard::hub::Hub;
use crate::shard::mail::{RoomName, SiblingMail, TallyKey};

use super::membership::{Notice, Waiting};
use super::sockets::{NamespaceId, SocketStage};

impl<A: Application> Hub<A> {
    /// Tells whoever has to hear of a room's first member, or its last.
    pub(crate) fn tell(&mut self, notice: Option<Notice>) {
        match notice {
            None => {}
            Some(Notice::Shard(shard, mail)) => self.outbound.mails.push((shard, mail)),
            Some(Notice::Bus(effect)) => {
                let is_unawaited = matches!(effect, Effect::Subscribe(..)) && !self.membership.bus_is_up();
                self.counters.subscriptions_unawaited += u64::from(is_unawaited);
                self.outbound.for_bus.push(effect);
            }
        }
    }

    /// The last member of a room is gone, and with it all that its sockets, or other shards, waited for.
    pub(crate) fn give_up(&mut self, waiting: Vec<Waiting>) {
        for waiting in waiting {
            if let Waiting::Tally(tally) = waiting {
                self.count(tally, 0, 0);
            }
        }
    }

    /// The room of a socket's own sid, where that has a channel of its own.
    fn room_of_sid(&self, key: ClientKey, place: u16) -> Option<RoomName> {
        if !self.membership.has_channels_of_sids() {
            return None;
        }
        let socket = self.directory.socket(key, place)?;
        let name = self.directory.sid_of(key, place, socket.random).text().as_str().into();
        Some(RoomName { namespace: socket.namespace, name })
    }

    /// A socket is there: the bus is asked for its own channel, if it has one.
    pub(crate) fn subscribe_sid(&mut self, key: ClientKey, place: u16) {
        let Some(room) = self.room_of_sid(key, place) else { return };
        if self.membership.ends_to_linger(&room) {
            return;
        }
        let notice = self.membership.subscribe_to(room, self.now.at);
        self.tell(Some(notice));
    }

    /// A socket is about to go.
    pub(crate) fn unsubscribe_sid(&mut self, key: ClientKey, place: u16) {
        let Some(room) = self.room_of_sid(key, place) else { return };
        let (notice, given_up) = self.membership.unsubscribe_from(room);
        self.give_up(given_up);
        self.tell(Some(notice));
    }

    /// A socket waits for its CONNECT answer until emits to its user, and to itself, reach it from everywhere; `false`: they
    /// do.
    pub(crate) fn connect_waits(&mut self, key: ClientKey, place: u16, request: &ConnectRequest<'_>) -> bool {
        let Some(socket) = self.directory.socket(key, place) else { return false };
        let (user, random) = (socket.user, socket.random);
        let connect = || Waiting::Connect { client: key, place, random, payload: request.payload.map(Box::from) };
        if let Some(user) = user
            && let Some(waiting) = self.membership.waiting_for(user.room())
        {
            waiting.push(connect());
            return true;
        }
        let Some(room) = self.room_of_sid(key, place) else { return false };
        let Some(waiting) = self.membership.waiting_for_bus(&room) else { return false };
        waiting.push(connect());
        true
    }

    /// An answer waits until emits reach this room from everywhere; `false`: they do.
    pub(crate) fn answer_waits(&mut self, namespace: NamespaceId, name: &str, tally: TallyKey) -> bool {
        let Some(room) = self.membership.find(namespace, name) else { return false };
        let Some(waiting) = self.membership.waiting_for(room) else { return false };
        waiting.push(Waiting::Tally(tally));
        true
    }

    /// At home: a shard has members of this room from now on.
    pub(crate) fn on_room_up(&mut self, room: RoomName, epoch: u32, from: u16) {
        for notice in self.membership.on_room_up(room, epoch, from, self.now.at) {
            self.tell(notice);
        }
    }

    /// At home: it has none any more.
    pub(crate) fn on_room_down(&mut self, room: &RoomName, epoch: u32, from: u16) {
        let (notice, given_up) = self.membership.on_room_down(room, epoch, from);
        self.give_up(given_up);
        self.tell(notice);
    }

    /// The home knows of the room: what waits goes on.
    pub(crate) fn on_room_ready(&mut self, room: &RoomName, epoch: u32) {
        let waiting = self.membership.on_room_ready(room, epoch);
        self.go_on(room, waiting);
    }

    /// At home: messages to the room come from now on, since the `Subscribe` of this epoch.
    pub(crate) fn on_subscribed(&mut self, room: &RoomName, epoch: u32) {
        let waiting = self.membership.on_subscribed(room, epoch);
        self.go_on(room, waiting);
    }

    /// The bus is gone: nobody waits for it.
    pub(crate) fn on_bus_down(&mut self) {
        for (room, waiting) in self.membership.on_bus_down() {
            self.counters.subscriptions_unawaited += 1;
            self.go_on(&room, waiting);
        }
    }

    /// The bus has had its time.
    pub(crate) fn expire_subscriptions(&mut self) {
        for (room, waiting) in self.membership.expire(self.now.at) {
            self.counters.subscriptions_late += 1;
            self.go_on(&room, waiting);
        }
    }

    /// What waited for this room waits no longer.
    fn go_on(&mut self, room: &RoomName, waiting: Vec<Waiting>) {
        let settings = Arc::clone(&self.settings);
        for waiting in waiting {
            match waiting {
                Waiting::Tally(tally) => self.count(tally, 0, 0),
                Waiting::Outpost { shard, epoch } => {
                    self.outbound.mails.push((shard, SiblingMail::RoomReady { room: room.clone(), epoch }));
                }
                Waiting::Connect { client, place, random, payload } => {
                    // It may be gone, and another have its place.
                    let socket = self.directory.socket(client, place);
                    let Some(socket) =
                        socket.filter(|socket| socket.stage == SocketStage::Joining && socket.random == random)
                    else {
                        continue;
                    };
                    let request = ConnectRequest {
                        namespace: settings.namespace_name(socket.namespace),
                        payload: payload.as_deref(),
                        authorization: None,
                        now_unix_ms: self.now.unix_ms,
                    };
                    if !self.connect_waits(client, place, &request) {
                        self.welcome(client, place, &request);
                    }
                }
            }
        }
    }
}
