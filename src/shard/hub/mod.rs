//! `Hub`: the clients and rooms of a shard, and the application on top of them.
//!
//! The hub knows connections by key only. What it wants of them goes on `orders`, which `flush` works off.

mod mailing;
pub(super) mod outbound;
pub(super) mod stats;

use core::net::IpAddr;
use std::sync::Arc;

use sockring_protocol::Millis;
use sockring_protocol::adapter::Delivery;

use super::relay::{carried, lists};
use crate::app::{Actions, Application, Layer, SocketInfo};
use crate::capacity::Capacity;

use super::clients::client::{ClientKey, CloseReason, Farewell, Phase, Queued};
use super::clients::directory::Directory;
use super::clients::drain::Drain;
use super::clients::encode;
use super::clients::lookout::Lookout;
use super::clients::outbox::{Frames, Outbox};
use super::clients::waiting::WaitingConnects;
use super::diary::Diary;
use super::limit::Limit;
use super::metrics::{AckEnd, Counters};
use super::moving::placement::ShardNumber;
use super::moving::sid::{Instance, RandomPool};
use super::recovery::state::Recovery;
use super::rooms::broadcasts::Broadcasts;
use super::rooms::kept::KeptEvents;
use super::rooms::mailboxes::Mailboxes;
use super::rooms::membership::{Left, Membership};
use super::rooms::once::SeenKeys;
use super::rooms::receipts::Receipts;
use super::rooms::sockets::RoomId;
use super::settings::{EngineSettings, Instances, KeptAt};

use outbound::Outbound;

/// How often the log tells of requests for sessions of other instances.
const STRAY_TOLD_EVERY_MS: u64 = 60_000;

/// The clock as a shard sees it. All shards of a process have the same origin.
#[derive(Clone, Copy, Debug, Default)]
pub struct Now {
    /// Monotonic.
    pub at: Millis,
    /// Unix time in milliseconds.
    pub unix_ms: u64,
}

/// Clients, sockets and rooms of one shard, and the application on top of them.
pub(super) struct Hub<A> {
    pub(super) settings: Arc<EngineSettings>,
    pub(super) capacity: Arc<Capacity>,
    pub(super) shard: ShardNumber,
    pub(super) now: Now,
    pub(super) app: A,
    pub(super) directory: Directory,
    pub(super) membership: Membership,
    pub(super) broadcasts: Broadcasts,
    pub(super) once: SeenKeys,
    pub(super) kept: KeptEvents,
    pub(super) receipts: Receipts,
    /// `None`: nobody else keeps events.
    pub(super) mailboxes: Option<Box<Mailboxes>>,
    pub(super) random: RandomPool,
    pub(super) outbound: Outbound,
    pub(super) lookout: Lookout,
    pub(super) waiting: WaitingConnects,
    pub(super) counters: Counters,
    /// Of clients.
    pub(super) diary: Diary,
    pub(super) actions: Actions,
    /// Where packets are put together before they are framed.
    pub(super) scratch: Vec<u8>,
    /// Of what peers have begun, here.
    pub(super) input_bytes: usize,
    pub(super) draining: Option<Drain>,
    /// Other instances that can be reached.
    pub(super) neighbours: Arc<[Instance]>,
    stray_told_at: Option<Millis>,
    pub(super) ping: Frames,
    /// `None`: nobody is told what it has missed.
    pub(super) recovery: Option<Box<Recovery>>,
}

// What is wanted of others leaves with its turn.
carried!([A: Application] Hub<A> {
    once, kept, receipts, lookout, waiting, counters, input_bytes, draining, neighbours by lists, stray_told_at,
}
    parts { directory, membership, broadcasts, mailboxes, diary, recovery }
    stays { settings, capacity, shard, now, app, random, outbound, actions, scratch, ping });

impl<A: Application> Hub<A> {
    pub(super) fn new(
        settings: Arc<EngineSettings>,
        capacity: Arc<Capacity>,
        shard: ShardNumber,
        app: A,
        mut random: RandomPool,
        now: Now,
    ) -> Hub<A> {
        let namespaces = u16::try_from(settings.namespaces.len()).unwrap_or(u16::MAX);
        let clients_max = capacity.limits().clients_max;
        let recovery = Recovery::new(&settings, shard, clients_max, &mut random, now.at);
        Hub {
            recovery,
            directory: Directory::new(settings.instance, shard, clients_max, now.at),
            membership: Membership::new(namespaces, shard, clients_max, settings.instances, settings.instance),
            broadcasts: Broadcasts::default(),
            once: SeenKeys::default(),
            kept: KeptEvents::default(),
            receipts: Receipts::default(),
            mailboxes: (settings.kept_at == KeptAt::Bus).then(Box::default),
            settings,
            capacity,
            shard,
            now,
            app,
            random,
            outbound: Outbound::default(),
            lookout: Lookout::default(),
            waiting: WaitingConnects::default(),
            counters: Counters::default(),
            diary: Diary::new(),
            actions: Actions::default(),
            scratch: Vec::new(),
            input_bytes: 0,
            draining: None,
            neighbours: Arc::default(),
            stray_told_at: None,
            ping: encode::text_packet(&mut Vec::new(), b"2"),
        }
    }

    /// Counts an origin that is not allowed. The operator reads about each once, whatever shard it comes to.
    pub(super) fn refuse_origin(&mut self, origin: &str) {
        self.counters.origins_refused += 1;
        if self.capacity.is_news(origin) {
            tracing::warn!(
                ?origin,
                "a page of this origin was refused; if it is yours, add it to cors_origin (CORS_ORIGIN)"
            );
        }
    }

    /// A request of a session that no instance has which can be reached has come, and the operator reads of it once in a while.
    pub(super) fn tell_of_stray(&mut self, proxy: Option<IpAddr>) {
        // A single instance had such sessions before it was started again.
        let is_due = self.stray_told_at.is_none_or(|at| self.now.at - at >= STRAY_TOLD_EVERY_MS);
        if self.settings.instances == Instances::Alone || !is_due {
            return;
        }
        self.stray_told_at = Some(self.now.at);
        tracing::warn!(
            proxy = proxy.map(tracing::field::display),
            neighbours = self.neighbours.len(),
            "requests come here of sessions of an instance that is gone, or that has not said that it is there: see tunnels_max"
        );
    }

    /// Fires what has become due.
    pub(super) fn expire(&mut self) {
        let now = self.now.at;
        self.directory.advance(now);
        for _ in 0..self.settings.turn.clients_due_max {
            let Some(key) = self.directory.pop_due() else { break };
            self.expire_client(key);
        }
        self.expire_subscriptions();
        self.expire_recovery();
        self.share_sessions();
        self.share_kept();
        let timed_out = self.broadcasts.expire(now);
        self.counters.count_acks(AckEnd::TimedOut, timed_out);
        self.once.expire(now, self.settings.idempotency_window_ms);
        self.drop_expired();
        self.expire_round();
        self.wake();
        self.drain();
        self.fan_out();
        self.drop_lost();
    }

    /// Whether this turn has left something to the next one.
    pub(super) fn is_behind(&self) -> bool {
        let drains_late = self.draining.as_ref().is_some_and(|draining| draining.is_behind(self.now.at));
        let forgets_late = self.membership.has_lingered(self.now.at);
        // Some of what is kept is queued only while connections are flushed.
        let pings_late = self.receipts.has_wanted();
        let decides_late = self.waiting.has_due(self.now.at);
        let clients_late = self.directory.has_due() || decides_late;
        clients_late || !self.broadcasts.is_empty() || drains_late || forgets_late || pings_late
    }

    /// When something will be due.
    pub(super) fn deadline(&self) -> Option<Millis> {
        let draining = self.draining.as_ref().map(Drain::next_at);
        let (rooms, broadcasts, around) =
            (self.membership.deadline(), self.broadcasts.deadline(), self.lookout.deadline());
        let once = self.once.deadline(self.settings.idempotency_window_ms);
        let (recovery, kept) = (self.recovery.as_deref().and_then(Recovery::deadline), self.kept.deadline());
        let mailboxes = self.mailboxes.as_deref().and_then(Mailboxes::deadline).filter(|_| self.membership.bus_is_up());
        let remembered = [once, recovery, kept, mailboxes, self.waiting.deadline()];
        [self.directory.deadline(), draining, rooms, broadcasts, around].into_iter().chain(remembered).flatten().min()
    }

    /// Makes sure that the timer wheel asks this client in time.
    pub(super) fn arm(&mut self, key: ClientKey) {
        let moment = self.moment();
        self.directory.arm(key, moment);
    }

    /// Queues a message for one client. A client whose queue is full is closed.
    pub(super) fn push(&mut self, key: ClientKey, frames: Frames, delivery: Delivery) {
        self.catch_up(key.0.index);
        match self.directory.queue(key, frames, delivery, self.settings.queue_bytes_max) {
            None | Some(Queued::Yes) => {}
            Some(Queued::Dropped) => self.counters.volatile_dropped += 1,
            Some(Queued::Full) => self.drop_client(key, CloseReason::QueueFull, None, Farewell::Now),
        }
    }

    /// Everything that waits for a client, for a connection that is about to close.
    pub(super) fn take_outbox(&mut self, key: ClientKey) -> Outbox {
        self.directory.outbox(key).map(std::mem::take).unwrap_or_default()
    }

    /// How many bytes one message or body of a client may have now, and the limit that says so. Without an accepted CONNECT
    /// there is nothing to say but that.
    pub(super) fn message_limit(&self, key: ClientKey) -> (usize, Limit) {
        let EngineSettings { payload_bytes_max, connect_bytes_max, .. } = *self.settings;
        let is_unclaimed = || self.directory.get(key).is_some_and(|client| client.phase == Phase::Unclaimed);
        match A::LAYER == Layer::SocketIo && connect_bytes_max < payload_bytes_max && is_unclaimed() {
            true => (connect_bytes_max, Limit::ConnectBytesMax),
            false => (payload_bytes_max, Limit::PayloadBytesMax),
        }
    }

    /// Counts bytes of what a peer has begun; `false`: there is no room for them in the process.
    pub(super) fn take_input(&mut self, bytes: usize) -> bool {
        let has_room = self.capacity.take_input(bytes);
        if has_room {
            self.input_bytes += bytes;
        }
        has_room
    }

    /// They are not held any more.
    pub(super) fn give_back_input(&mut self, bytes: usize) {
        if bytes > 0 {
            self.input_bytes -= bytes;
            self.capacity.give_back_input(bytes);
        }
    }

    /// Calls the application about a socket, if it exists.
    pub(super) fn call_app(&mut self, key: ClientKey, place: u16, call: impl FnOnce(&mut A, &SocketInfo<'_>)) {
        let Some(client) = self.directory.get(key) else { return };
        let Some(socket) = client.sockets.get(place) else { return };
        let sid = self.directory.sid_of(key, place, socket.random).text();
        let info = SocketInfo {
            namespace: self.settings.namespace_name(socket.namespace),
            sid: sid.as_str(),
            user: self.membership.user_of(socket),
            is_recovered: false,
            now_unix_ms: self.now.unix_ms,
        };
        call(&mut self.app, &info);
    }

    /// Leaves the room that a link of a socket leads to, and keeps all ways between rooms and sockets right.
    pub(super) fn leave_at(&mut self, key: ClientKey, place: u16, link: usize) -> Option<RoomId> {
        let client = self.directory.get_mut(key)?;
        let socket = client.sockets.get_mut(place)?;
        if link >= socket.links.as_slice().len() {
            return None;
        }
        let left = socket.links.swap_remove(link);
        if let Some(moved) = socket.links.as_slice().get(link) {
            self.membership.relink(*moved, u16::try_from(link).unwrap_or(u16::MAX));
        }
        let term = match self.membership.has_one_member(left.room) {
            true => self.recovery.as_deref_mut().map(|recovery| recovery.term(self.now.at)),
            false => None,
        };
        let Left { moved, notice, given_up } = self.membership.leave(left, term);
        self.give_up(given_up);
        self.tell(notice);
        if let Some(member) = moved {
            let moved = self.directory.socket_at_mut((member.client, member.socket));
            if let Some(link) = moved.and_then(|socket| socket.links.as_mut_slice().get_mut(usize::from(member.link))) {
                link.position = left.position;
            }
        }
        Some(left.room)
    }
}
