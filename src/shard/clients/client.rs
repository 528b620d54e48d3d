//! `Client`: one Engine.IO session as the server keeps it, over all the connections that carry it.

use core::net::IpAddr;
use std::fmt;
use std::ops::Deref;

use sockring_protocol::Millis;
use sockring_protocol::adapter::Delivery;
use sockring_protocol::engineio::{Moment, Session, Transport};
use sockring_protocol::socketio::Assembler;

use crate::shard::faults::{Broken, PacketFault};
use crate::shard::moving::sid::Sid;
use crate::shard::rooms::sockets::Sockets;
use crate::shard::slots::Key;
use sockring_protocol::portable;

use super::outbox::{ConflateKey, Frames, Outbox, weight};

/// Names a TCP connection of this shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ConnectionKey(pub Key);

portable!(struct ConnectionKey(key));

/// Names a client of this shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ClientKey(pub Key);

portable!(struct ClientKey(key));

/// One Engine.IO session with its sockets and what waits for it.
///
/// What a heartbeat needs comes first: clients are many, and cold, and wherever one begins it is in two lines of the processor's
/// cache.
#[repr(C, align(16))]
pub(crate) struct Client {
    pub(crate) session: Session,
    /// When the timer wheel will ask next.
    pub(crate) timer_at: Millis,
    /// The WebSocket that is the transport, or the connection whose GET is held.
    pub(crate) connection: Option<ConnectionKey>,
    pub(crate) outbox: Outbox,
    pub(crate) begun: Begun,
    pub(crate) rate: EventRate,
    /// Whether it is on the list of clients to flush.
    pub(crate) is_dirty: bool,
    /// `half_open_by` has passed, and what it has sent is looked for.
    pub(crate) is_suspect: bool,
    pub(crate) phase: Phase,
    /// The transport of its first request.
    pub(crate) began: Transport,
    pub(crate) sid: Sid,
    pub(crate) sockets: Sockets,
}

portable!(struct Client {
    session, timer_at, connection, outbox, begun, rate, is_dirty, is_suspect, phase, began, sid, sockets,
});

/// What a client has begun. It holds no memory once all of it has ended.
#[derive(Debug, Default)]
pub(crate) struct Begun(Option<Box<Beginning>>);

portable!(struct Begun(beginning));

/// What is to be known of it.
#[derive(Debug)]
pub(crate) struct Beginning {
    /// When this client must have done what it has begun: CONNECT, all attachments, fetching a farewell. By the clock that
    /// runs against peers.
    pub(crate) half_open_by: Millis,
    /// When sockets of it may be connected no longer.
    pub(crate) expiries: Expiries,
    /// A binary packet whose attachments have not all come.
    pub(crate) assembler: Option<Box<Assembler>>,
    /// What its first request said.
    pub(crate) handshake: Option<Box<FirstRequest>>,
    /// The WebSocket that is to become its transport.
    pub(crate) probe: Option<ConnectionKey>,
    /// CONNECTs that were refused since one was accepted.
    pub(crate) refusals: u8,
}

portable!(struct Beginning { half_open_by, expiries, assembler, handshake, probe, refusals });

static NOTHING: Beginning = Beginning {
    half_open_by: Millis::NEVER,
    expiries: Expiries::NONE,
    assembler: None,
    handshake: None,
    probe: None,
    refusals: 0,
};

impl Beginning {
    fn is_nothing(&self) -> bool {
        let Beginning { half_open_by, expiries, assembler, handshake, probe, refusals } = self;
        let is_over = *half_open_by == Millis::NEVER && expiries.is_empty() && *refusals == 0;
        is_over && assembler.is_none() && handshake.is_none() && probe.is_none()
    }
}

impl Begun {
    /// A client that has to connect by then.
    pub(crate) fn by(half_open_by: Millis, handshake: Option<Box<FirstRequest>>) -> Begun {
        let mut begun = Begun::default();
        begun.change(|begun| (begun.half_open_by, begun.handshake) = (half_open_by, handshake));
        begun
    }

    pub(crate) fn change<R>(&mut self, change: impl FnOnce(&mut Beginning) -> R) -> R {
        let begun = self.0.get_or_insert_with(|| {
            let Beginning { half_open_by, refusals, .. } = NOTHING;
            let expiries = Expiries::NONE;
            Box::new(Beginning { half_open_by, expiries, assembler: None, handshake: None, probe: None, refusals })
        });
        let result = change(begun);
        if begun.is_nothing() {
            self.0 = None;
        }
        result
    }

    /// What its first request said is needed now, and perhaps no longer.
    pub(crate) fn take_handshake(&mut self) -> Option<Box<FirstRequest>> {
        self.handshake.is_some().then(|| self.change(|begun| begun.handshake.take())).flatten()
    }

    pub(crate) fn set_handshake(&mut self, handshake: Option<Box<FirstRequest>>) {
        if handshake.is_some() || self.handshake.is_some() {
            self.change(|begun| begun.handshake = handshake);
        }
    }

    /// Its probe is so no more.
    pub(crate) fn take_probe(&mut self) -> Option<ConnectionKey> {
        self.probe.is_some().then(|| self.change(|begun| begun.probe.take())).flatten()
    }

    /// A part of the packet that is being assembled has come.
    pub(crate) fn take_assembler(&mut self) -> Option<Box<Assembler>> {
        self.assembler.is_some().then(|| self.change(|begun| begun.assembler.take())).flatten()
    }
}

impl Deref for Begun {
    type Target = Beginning;

    #[inline]
    fn deref(&self) -> &Beginning {
        self.0.as_deref().unwrap_or(&NOTHING)
    }
}

/// What a WebSocket is to its client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    Transport,
    Probe,
}

portable!(enum Role { 0 Transport, 1 Probe });

/// How many packets a client sends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct EventRate {
    second: u32,
    count: u32,
}

portable!(struct EventRate { second, count });

impl EventRate {
    /// Counts one more; returns how many came in this second.
    pub(crate) fn count(&mut self, now: Millis) -> u32 {
        let second = u32::try_from(now.0 / 1000 % u64::from(u32::MAX)).unwrap_or(0);
        if second != self.second {
            *self = EventRate { second, count: 0 };
        }
        self.count = self.count.saturating_add(1);
        self.count
    }
}

/// When sockets have to end, by their places. It holds no memory while none has to.
#[derive(Debug, Default)]
#[expect(clippy::box_collection, reason = "a box keeps the common small case small")]
pub(crate) struct Expiries(Option<Box<Vec<(u16, Millis)>>>);

portable!(struct Expiries(places));

impl Expiries {
    pub(crate) const NONE: Expiries = Expiries(None);

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    pub(crate) fn set(&mut self, place: u16, at: Millis) {
        self.0.get_or_insert_default().push((place, at));
    }

    pub(crate) fn clear(&mut self, place: u16) {
        if let Some(expiries) = &mut self.0 {
            expiries.retain(|(other, _)| *other != place);
            if expiries.is_empty() {
                self.0 = None;
            }
        }
    }

    /// The first of them.
    pub(crate) fn first(&self) -> Millis {
        let all = self.0.iter().flat_map(|expiries| expiries.iter());
        all.map(|(_, at)| *at).min().unwrap_or(Millis::NEVER)
    }
}

/// How far a client has come, beyond what its Engine.IO session knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// No CONNECT has been accepted yet.
    Unclaimed,
    Claimed,
    /// Over, but a polling client has still to fetch its last packets.
    Farewell,
}

portable!(enum Phase { 0 Unclaimed, 1 Claimed, 2 Farewell });

/// What became of a message for one client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Queued {
    Yes,
    Dropped,
    Full,
}

/// Whether a polling client that has no GET open may still fetch how it ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Farewell {
    Now,
    NextPoll,
}

/// What the first request said that an admission may need. It goes with the first accepted CONNECT, where there is no other
/// namespace for which the client might need it.
pub(crate) struct FirstRequest {
    pub authorization: Option<Box<str>>,
    /// Whom refused CONNECTs count for.
    pub address: Option<IpAddr>,
}

portable!(struct FirstRequest { authorization, address });

impl fmt::Debug for FirstRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Handshake")
    }
}

/// Why a client ended: the metric's label, the word in the log, the assertion in tests.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CloseReason {
    PingTimeout,
    /// The peer's connection ended.
    TransportClose,
    /// Requests of one session overlapped, or one broke off.
    TransportError,
    /// The client sent a close packet or a WebSocket close frame.
    ClientClose,
    /// Bytes that are no packet, or a packet that the state forbids.
    ParseError,
    /// A WebSocket frame that RFC 6455 forbids.
    FrameError,
    PayloadTooBig,
    /// More was begun by all peers together than `input_bytes_max`.
    InputFull,
    /// No CONNECT in time.
    ConnectTimeout,
    /// A message was begun and not completed in time.
    MessageTimeout,
    /// More was queued for it than `queue_bytes_max`.
    QueueFull,
    /// It sent more than `events_per_second_max`.
    TooManyEvents,
    /// More of its CONNECTs were refused than `connect_refusals_max`.
    TooManyRefusals,
    /// The token of one of its sockets has expired.
    TokenExpired,
    /// The application, or the API, ended it.
    ServerClose,
    /// The same client is back on another connection.
    TakenOver,
    Shutdown,
}

impl CloseReason {
    pub const ALL: [CloseReason; 17] = [
        CloseReason::PingTimeout,
        CloseReason::TransportClose,
        CloseReason::TransportError,
        CloseReason::ClientClose,
        CloseReason::ParseError,
        CloseReason::FrameError,
        CloseReason::PayloadTooBig,
        CloseReason::InputFull,
        CloseReason::ConnectTimeout,
        CloseReason::MessageTimeout,
        CloseReason::QueueFull,
        CloseReason::TooManyEvents,
        CloseReason::TooManyRefusals,
        CloseReason::TokenExpired,
        CloseReason::ServerClose,
        CloseReason::TakenOver,
        CloseReason::Shutdown,
    ];

    pub fn label(self) -> &'static str {
        match self {
            CloseReason::PingTimeout => "ping_timeout",
            CloseReason::TransportClose => "transport_close",
            CloseReason::TransportError => "transport_error",
            CloseReason::ClientClose => "client_close",
            CloseReason::ParseError => "parse_error",
            CloseReason::FrameError => "frame_error",
            CloseReason::PayloadTooBig => "payload_too_big",
            CloseReason::InputFull => "input_full",
            CloseReason::ConnectTimeout => "connect_timeout",
            CloseReason::MessageTimeout => "message_timeout",
            CloseReason::QueueFull => "queue_full",
            CloseReason::TooManyEvents => "too_many_events",
            CloseReason::TooManyRefusals => "too_many_refusals",
            CloseReason::TokenExpired => "token_expired",
            CloseReason::ServerClose => "server_close",
            CloseReason::TakenOver => "taken_over",
            CloseReason::Shutdown => "shutdown",
        }
    }
}

/// Why a client ended, as exactly as it is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Cause {
    pub(crate) reason: CloseReason,
    pub(crate) detail: Option<Detail>,
}

/// What is behind a `CloseReason`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Detail {
    Packet(PacketFault),
    Broken(Broken),
}

impl From<CloseReason> for Cause {
    fn from(reason: CloseReason) -> Cause {
        Cause { reason, detail: None }
    }
}

impl fmt::Display for Detail {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Detail::Packet(fault) => write!(f, "{}: {}", fault.layer(), fault.label()),
            Detail::Broken(broken) => broken.fmt(f),
        }
    }
}

impl Client {
    /// Whether it has a socket in any namespace.
    pub(crate) fn is_connected(&self) -> bool {
        !self.sockets.is_empty()
    }

    /// When the timer wheel has to ask this client at the latest.
    pub(crate) fn deadline(&self, now: Moment) -> Millis {
        let half_open_by = if self.is_suspect { Millis::NEVER } else { now.when(self.begun.half_open_by) };
        self.session.deadline(now).min(half_open_by).min(self.begun.expiries.first())
    }

    /// Puts a message into the outbox if its delivery and the limit allow. With a key it replaces the one that waits under
    /// that key.
    #[inline]
    pub(crate) fn queue(
        &mut self,
        frames: Frames,
        key: Option<&ConflateKey>,
        delivery: Delivery,
        queue_bytes_max: usize,
    ) -> Queued {
        if self.phase == Phase::Farewell || (delivery == Delivery::Volatile && self.connection.is_none()) {
            return Queued::Dropped;
        }
        if key.is_none() && self.outbox.is_empty() {
            // The usual case. A single message may be larger than the limit: it was let in by a limit of its own.
            self.outbox.push(frames);
            return Queued::Yes;
        }
        self.queue_behind(frames, key, delivery, queue_bytes_max)
    }

    /// The same where something waits, or the message has a key.
    #[inline(never)]
    fn queue_behind(
        &mut self,
        frames: Frames,
        key: Option<&ConflateKey>,
        delivery: Delivery,
        queue_bytes_max: usize,
    ) -> Queued {
        if delivery == Delivery::Volatile && !self.outbox.is_empty() {
            return Queued::Dropped;
        }
        let replaced = key.map_or(0, |key| self.outbox.bytes_under(key));
        let waiting = self.outbox.bytes() - replaced;
        if waiting > 0 && waiting + weight(&frames, key) > queue_bytes_max {
            return Queued::Full;
        }
        match key {
            Some(key) => self.outbox.push_under(key, frames),
            None => self.outbox.push(frames),
        }
        Queued::Yes
    }
}

#[cfg(test)]
mod tests {
    use std::mem::offset_of;

    use super::*;

    #[test]
    fn what_has_ended_holds_no_memory() {
        let handshake = || Box::new(FirstRequest { authorization: None, address: None });
        let mut begun = Begun::by(Millis(7), Some(handshake()));
        assert_eq!((begun.half_open_by, begun.handshake.is_some()), (Millis(7), true));
        begun.change(|begun| begun.half_open_by = Millis::NEVER);
        assert!(begun.0.is_some() && begun.take_handshake().is_some() && begun.0.is_none());
        type Change = fn(&mut Beginning);
        let changes: [(Change, Change); 3] = [
            (|begun| begun.expiries.set(0, Millis(1)), |begun| begun.expiries.clear(0)),
            (|begun| begun.refusals = 1, |begun| begun.refusals = 0),
            (
                |begun| begun.assembler = Some(Box::new(Assembler::begin("51-[{}]", 1, 99).unwrap())),
                |begun| begun.assembler = None,
            ),
        ];
        for (begin, end) in changes {
            begun.change(begin);
            assert!(begun.0.is_some());
            begun.change(end);
            assert!(begun.0.is_none());
        }
        assert!(begun.take_handshake().is_none() && begun.take_probe().is_none() && begun.take_assembler().is_none());
        assert_eq!((begun.half_open_by, size_of::<Begun>()), (Millis::NEVER, 8));
        assert!(Begun::by(Millis::NEVER, None).0.is_none());
    }

    #[test]
    fn a_client_is_small() {
        assert!(size_of::<Client>() <= 144, "{}", size_of::<Client>());
        // As the slab has it.
        #[expect(dead_code)]
        enum Entry {
            Vacant(usize),
            Occupied(Client),
        }
        assert_eq!(size_of::<Entry>(), size_of::<Client>());
        // Behind a multiple of 16 bytes so many are in two lines of 64.
        assert!(offset_of!(Client, begun) <= 80);
    }
}
