//! A shard: everything that one core knows, as plain data behind a handful of methods. It does no I/O and reads no clock.
//!
//! ```text
//!   from the worker                                           to the worker
//!     | on_accept, on_bytes, on_mail ...                        ^ effects
//!     v                                                         |
//!   wire ------- connections, and what their bytes mean ----- flush
//!     | requests, packets                                       ^ outboxes, orders, mail, replies
//!     v                                                         |
//!   hub -------- has three owners do it ----------------------- +
//!     |            Directory     clients, by key, sid and time  ^
//!     |            Membership    rooms here, their homes        |
//!     |            Broadcasts    what is on its way             |
//!     v                                                         |
//!   application  decides ---------------- actions ------------- +
//! ```
//!
//! A turn: `on_time`, then `on_accept`, `on_arrival`, `on_bytes`, `on_sent`, `on_hangup`, `on_closed`, `on_mail`,
//! `on_sibling_mail`, `on_looked` and `on_looked_around` as things happen, then `on_tick`, then `flush`. What the shard wants
//! comes out of `flush` as effects. Between `on_accept` and `on_closed` a key is valid; `on_closed` comes exactly once.

mod clients;
mod diary;
mod effects;
mod event_id;
mod faults;
mod hints;
mod hub;
mod kept_mark;
mod limit;
mod mail;
mod metrics;
mod moving;
mod recovery;
mod relay;
mod remains;
mod rooms;
mod settings;
mod slots;
mod timers;
mod wire;

use core::net::IpAddr;
use std::collections::VecDeque;
use std::sync::Arc;

use sockring_protocol::Millis;
use sockring_protocol::adapter::Broadcast;

use crate::app::Application;
use crate::capacity::{Capacity, CapacityLimits, Door, Standing, Stranger, TooMany};

use clients::directory::Directory;
use diary::{Account, Diary};
use hub::Hub;
use hub::stats::ConnectionCounts;
use moving::sid::RandomPool;
use relay::carried;
use rooms::table::Rooms;
use slots::Slots;
use timers::Timers;
use wire::compressor::Compressor;
use wire::idlers::{self, Idlers};
use wire::parcel::Luggage;
use wire::stage::{Connection, HttpStage, Request, Stage};
use wire::tls_stages::TlsStages;

pub use clients::client::{ClientKey, CloseReason, ConnectionKey};
pub use clients::outbox::{Bytes, Frames};
pub use effects::{Acknowledgement, Destination, Effect, KeptSession, SessionQuestion};
pub use event_id::{EventId, EventIds};
pub use faults::{Broken, Forbidden, PacketFault, UnknownSid};
pub use hub::Now;
pub use kept_mark::KeptMark;
pub use limit::Limit;
pub use mail::{
    BusMail, ConfirmAnswer, EmitOutcome, FoundSession, GiveAnswer, GivenEvent, Inquiry, InquiryKey, InquiryKind, Keep,
    Keeping, KeptBy, KeptView, Mail, MailboxQuestion, OnceKey, ReceivedEvents, Remembered, Reply, RoomName,
    ShardMetrics, ShardStats, SharedPast, SiblingMail, Target, Ticket, Verdict,
};
pub use metrics::{AckEnd, Counters, Histogram, KeptEnd};
pub use moving::placement::{ShardNumber, home_of};
pub use moving::sid::{Entropy, Instance, SHARDS_MOST, SLOTS_MOST, Sid};
pub use recovery::outcome::Recovered;
pub use relay::RelayError;
pub use remains::{Heir, Remains};
pub use rooms::sockets::NamespaceId;
pub use rooms::table::USER_PREFIX;
pub use settings::{
    Elsewhere, EngineSettings, Instances, KeptAt, OffsetForm, Positions, RecoverySecret, RecoverySettings, TurnLimits,
};
pub use slots::Key;
pub use wire::parcel::{Papers, Parcel};
pub use wire::stage::TunnelOrigin;

/// The connections, clients and rooms of one core.
pub struct Shard<A> {
    connections: Slots<Connection>,
    hub: Hub<A>,
    timers: Timers<ConnectionKey>,
    effects: Vec<Effect>,
    /// Of connections.
    diary: Diary,
    /// Connections that have something to send.
    dirty: Vec<ConnectionKey>,
    /// Those that have sent a piece of it.
    begun: Vec<ConnectionKey>,
    /// Connections whose held GET was answered, with more bytes behind it.
    resumable: Vec<ConnectionKey>,
    /// Connections whose time has come, and that have not been seen to.
    due: VecDeque<ConnectionKey>,
    /// What connections that close have still to send.
    closing_bytes: usize,
    /// What the outside was given to send and has not sent.
    sending_bytes: u64,
    idlers: Idlers,
    compressor: Compressor,
    tls: TlsStages,
    /// When mail or completions last waited too long.
    slow_at: Option<Millis>,
    /// The last count of everything, and when it was made.
    counted: Option<(Millis, ShardStats)>,
}

// TLS has no state that could be carried (`is_portable`), and the rest is made for a turn.
carried!([A: Application] Shard<A> { dirty, begun, resumable, due, closing_bytes, sending_bytes, idlers, slow_at }
    parts { connections, hub, timers, diary }
    stays { effects, compressor, tls, counted });

/// What a shard is made of.
pub struct ShardParts<A> {
    pub settings: Arc<EngineSettings>,
    /// Shared by all shards of the process.
    pub capacity: Arc<Capacity>,
    pub place: ShardNumber,
    pub app: A,
    /// Makes the session ids.
    pub entropy: Box<dyn Entropy>,
}

/// What a turn took.
#[derive(Clone, Copy, Debug)]
pub struct Turn {
    /// From its first look at what had come to the next one: the kernel's part, and that of the core's tasks, included.
    pub micros: u64,
    /// How long the mail that could not be read yet has waited.
    pub mail_micros: u64,
    /// What the kernel had done.
    pub completions: u64,
}

/// The large blocks of address space that a shard reserves within these limits, in bytes: each has to hold all, where all
/// come to one.
pub fn reserved(limits: &CapacityLimits) -> Vec<usize> {
    let connections = Slots::<Connection>::reserved(limits.all_connections_max());
    let mut blocks = [connections, Directory::reserved(limits.clients_max)].concat();
    blocks.push(Rooms::reserved(limits.clients_max));
    blocks
}

/// What waits for so long is waited for noticeably.
const SLOW_MICROS: u64 = 250_000;
/// And is remembered for this long.
const SLOW_FOR_MS: u64 = 5_000;

impl<A: Application> Shard<A> {
    /// An empty shard.
    pub fn new(parts: ShardParts<A>, now: Now) -> Shard<A> {
        let ShardParts { settings, capacity, place, app, entropy } = parts;
        let compressor = Compressor::new(settings.turn.compressed_bytes_max);
        Shard {
            connections: Slots::with_capacity(capacity.limits().all_connections_max()),
            timers: Timers::new(now.at, place),
            hub: Hub::new(settings, capacity, place, app, RandomPool::new(entropy), now),
            effects: Vec::new(),
            diary: Diary::new(),
            dirty: Vec::new(),
            begun: Vec::new(),
            resumable: Vec::new(),
            due: VecDeque::new(),
            closing_bytes: 0,
            sending_bytes: 0,
            idlers: Idlers::default(),
            compressor,
            tls: TlsStages::default(),
            slow_at: None,
            counted: None,
        }
    }

    /// The time of the turn that begins. What peers did while this shard was late it could not see: that time does not count.
    pub fn on_time(&mut self, now: Now) {
        let due = if self.hub.has_been_away(now) { self.deadline() } else { None };
        self.hub.on_time(now, due);
        self.tls.on_turn(self.hub.settings.turn.handshake_steps_max);
    }

    /// A connection was accepted, from this address if it is known. `None`: there is no room for it, or its address has as many
    /// as it may.
    pub fn on_accept(&mut self, peer: Option<IpAddr>) -> Option<ConnectionKey> {
        let address = self.hub.settings.proxies.client_address(peer, []);
        let stranger = match Stranger::enter(&self.hub.capacity, Door::Clients, address) {
            Ok(stranger) => stranger,
            Err(TooMany) => {
                self.hub.counters.hit(Limit::ConnectionsPerAddressMax);
                return None;
            }
        };
        let standing = match self.hub.capacity.take_seat()? {
            Standing::Guest => self.take_place_of_idler(),
            standing => standing,
        };
        let key = self.add_connection(peer, 0, standing, stranger)?;
        if let (true, Some(connection)) = (self.hub.settings.tls.is_some(), self.connections.get_mut(key.0)) {
            connection.is_tls = true;
        }
        self.effects.push(Effect::Read(key));
        Some(key)
    }

    /// A connection came from another shard, back from a task, or from another instance.
    pub fn on_arrival(&mut self, peer: Option<IpAddr>, parcel: Parcel) -> Option<ConnectionKey> {
        let Parcel { mut bytes, requests, luggage, papers, tls } = parcel;
        let peer = papers.origin.map_or(peer, |origin| origin.address);
        let standing = match papers.seat {
            Some(seat) => seat.into_standing(),
            None => {
                self.hub.capacity.add_connection();
                Standing::Member
            }
        };
        let key = self.add_connection(peer, requests, standing, papers.stranger)?;
        if let (Some(_), Some(Connection { stage: Stage::Http(stage), .. })) =
            (papers.origin, self.connections.get_mut(key.0))
        {
            stage.is_tunnelled = true;
        }
        if let Some(account) = papers.account {
            self.diary.begin(key.0.index, *account);
        }
        if let (Some(tls), Some(connection)) = (tls, self.connections.get_mut(key.0)) {
            connection.is_tls = true;
            self.tls.insert(key, tls);
        }
        match luggage {
            Luggage::None => {}
            Luggage::Request => {
                if let Some(Connection { stage: Stage::Http(stage), .. }) = self.connections.get_mut(key.0) {
                    stage.is_forwarded = true;
                }
            }
            Luggage::Poll { sid, reply } => self.on_poll_arrival(key, sid, *reply),
            Luggage::WebSocket { sid, decoder, pending } => self.on_websocket_arrival(key, sid, decoder, pending),
        }
        match self.connections.get(key.0).map(|connection| &connection.stage) {
            // It was counted where it was read.
            Some(Stage::Http(_)) => self.on_http_bytes(key, &bytes),
            Some(Stage::WebSocket(_)) => self.on_frames(key, &mut bytes),
            _ => {}
        }
        self.weigh(key);
        self.on_sealed_arrival(key);
        Some(key)
    }

    fn add_connection(
        &mut self,
        peer: Option<IpAddr>,
        requests: u32,
        standing: Standing,
        stranger: Option<Stranger>,
    ) -> Option<ConnectionKey> {
        let (now, attended) = (self.hub.now.at, self.hub.attended());
        let stage = Stage::Http(Box::new(HttpStage::new(peer, requests, stranger, now)));
        let Some(key) = self.connections.insert(Connection::new(stage, standing)).map(ConnectionKey) else {
            self.hub.capacity.give_back(standing);
            return None;
        };
        self.diary.begin(
            key.0.index,
            Account { address: peer.map(|peer| peer.to_canonical()), since: now, ..Account::default() },
        );
        let patience_ms = match standing {
            Standing::Member => self.hub.settings.head_timeout_ms,
            Standing::Guest => self.hub.settings.head_timeout_ms.min(idlers::GUEST_HEAD_TIMEOUT_MS),
        };
        if let Some(connection) = self.connections.get_mut(key.0) {
            connection.deadline = attended + patience_ms;
        }
        self.arm_connection(key);
        Some(key)
    }

    /// There was no room: connections have to wait.
    pub fn on_full(&mut self) {
        match self.hub.capacity.is_full() {
            true => self.hub.counters.hit(Limit::ConnectionsMax),
            false => self.hub.counters.descriptors_short += 1,
        }
    }

    /// Whether another connection would find room.
    pub fn has_room(&self) -> bool {
        self.hub.capacity.has_seat()
    }

    /// Nothing refers to the connection any more, outside and in the kernel.
    pub fn on_closed(&mut self, key: ConnectionKey) {
        let Some(connection) = self.connections.remove(key.0) else { return };
        self.tls.take(key);
        self.closing_bytes -= connection.unsent_bytes();
        self.sending_bytes -= u64::from(connection.sending_bytes);
        self.hub.give_back_input(connection.input_bytes as usize);
        // What one that leaves is counted as went with it, also if it was given up on its way.
        if !connection.has_left {
            self.hub.capacity.give_back(connection.standing);
            if self.diary.is_told() {
                self.tell_end(key);
            }
        }
    }

    /// Fires what is due. Comes after everything that happened in the turn, so that a pong beats its timeout.
    pub fn on_tick(&mut self) {
        self.go_on_with_handshakes();
        for _ in 0..self.hub.settings.turn.connects_decided_max {
            if !self.hub.decide_waiting() {
                break;
            }
            self.see_off();
        }
        self.hub.expire();
        let Shard { timers, due, .. } = self;
        timers.advance(self.hub.now.at, |key| due.push_back(key));
        for _ in 0..self.hub.settings.turn.clients_due_max {
            let Some(key) = self.due.pop_front() else { break };
            self.expire_connection(key);
        }
    }

    /// Whether another mail may be read in this turn. What waits keeps its order.
    pub fn takes_mail(&self) -> bool {
        self.hub.takes_mail()
    }

    /// Whether this turn has left something to do, for which the next one should come at once.
    pub fn is_behind(&self) -> bool {
        self.hub.is_behind()
            || !self.due.is_empty()
            || !self.dirty.is_empty()
            || !self.begun.is_empty()
            || self.tls.is_behind()
    }

    /// When the next turn has to come at the latest.
    pub fn deadline(&self) -> Option<Millis> {
        if self.is_behind() {
            return Some(self.hub.now.at);
        }
        [self.hub.deadline(), self.timers.deadline()].into_iter().flatten().min()
    }

    /// A mail came; its answer is among the effects, under the ticket, now or when other shards have answered.
    pub fn on_mail(&mut self, ticket: Ticket, mail: Mail) {
        if let Mail::Watch(users) = &mail {
            // Where clients come from is known of their connections.
            self.diary.watch(Arc::clone(users));
        }
        let is_slow = self.slow_at.is_some_and(|at| self.hub.now.at - at < SLOW_FOR_MS);
        let Shard { hub, connections, counted, closing_bytes, sending_bytes, .. } = self;
        let (now, closing_bytes, sending_bytes) = (hub.now.at, *closing_bytes as u64, *sending_bytes);
        hub.on_mail(ticket, mail, |hub| {
            // However many ask: counting takes some part of a hundredth of the time.
            let fresh_ms = ((hub.directory.len() + connections.len()) / hub.settings.turn.counted_per_ms) as u64;
            let stats = match counted {
                Some((at, stats)) if hub.now.at - *at < fresh_ms => *stats,
                _ => {
                    let counts = ConnectionCounts { closing_bytes, sending_bytes, ..count(connections, now) };
                    counted.insert((now, hub.stats(counts))).1
                }
            };
            ShardStats { is_slow, is_draining: hub.is_draining(), ..stats }
        });
    }

    /// A mail of another shard came.
    pub fn on_sibling_mail(&mut self, mail: SiblingMail) {
        self.hub.on_sibling_mail(mail);
    }

    /// The bus has something to say.
    pub fn on_bus_mail(&mut self, mail: BusMail) {
        self.hub.on_bus_mail(mail);
    }

    /// A mail that this shard wanted posted was refused.
    pub fn on_refused_mail(&mut self, mail: &SiblingMail) {
        self.hub.on_refused_mail(mail);
    }

    /// Takes no more clients, tells all of them this, and ends them at the engine level, evenly over this time, so that
    /// they reconnect by themselves.
    pub fn begin_drain(&mut self, farewell: &Broadcast, over_ms: u64) {
        self.hub.begin_drain(farewell, over_ms);
    }

    /// Whether all clients of the process have ended, and all connections of this shard; those that are idle are closed for
    /// it.
    pub fn is_drained(&mut self) -> bool {
        if !self.hub.is_draining() || self.hub.capacity.clients() > 0 {
            return false;
        }
        let connections: Vec<_> = self.connections.iter().map(|(key, _)| ConnectionKey(key)).collect();
        for key in &connections {
            self.close_if_idle(*key);
        }
        connections.is_empty()
    }

    /// What the turn took that was before this one, or has just ended.
    pub fn on_turned(&mut self, turn: Turn) {
        self.hub.counters.turns.observe(turn.micros);
        self.hub.counters.completions.observe(turn.completions);
        if turn.micros.max(turn.mail_micros) > SLOW_MICROS {
            self.slow_at = Some(self.hub.now.at);
        }
    }

    /// Sends the connections of a client that has just moved after it.
    fn see_off(&mut self) {
        let Some(departed) = self.hub.outbound.departed.take() else { return };
        if let Some(key) = departed.held {
            self.send_poll_after(key, departed.sid, departed.home);
        }
        for key in [departed.websocket, departed.probe].into_iter().flatten() {
            self.send_websocket_after(key, departed.sid, departed.home, &[]);
        }
    }

    /// How many of each there are.
    pub fn stats(&self) -> ShardStats {
        let (closing_bytes, sending_bytes) = (self.closing_bytes as u64, self.sending_bytes);
        let counted = count(&self.connections, self.hub.now.at);
        self.hub.stats(ConnectionCounts { closing_bytes, sending_bytes, ..counted })
    }

    /// How often things happened.
    pub fn counters(&self) -> &Counters {
        &self.hub.counters
    }

    fn arm_connection(&mut self, key: ConnectionKey) {
        let moment = self.hub.moment();
        let Some(connection) = self.connections.get_mut(key.0) else { return };
        let deadline = moment.when(connection.deadline);
        if deadline < connection.timer_at && !connection.is_suspect {
            connection.timer_at = self.timers.put(deadline, key, moment.at);
        }
    }
}

/// Walks over all of them: for those who ask, not for every turn.
fn count(connections: &Slots<Connection>, now: Millis) -> ConnectionCounts {
    let mut counts = ConnectionCounts::default();
    for (_, connection) in connections.iter() {
        counts.all += 1;
        counts.closing += u64::from(connection.is_closing());
        if let Stage::Http(stage) = &connection.stage {
            counts.heads += u64::from(matches!(stage.request, Request::Head) && !stage.input.is_empty());
            counts.bodies += u64::from(matches!(stage.request, Request::Body(_)));
            counts.idle += u64::from(connection.is_idle_since(idlers::idle_before(now)));
        }
    }
    counts
}
