//! Engine.IO sessions: how one begins, is found, takes its packets and is told the time.

use sockring_protocol::Millis;
use sockring_protocol::engineio::{
    self, Input, OpenPacket, PacketType, Session, SessionEnd, Step, Transport, Upgrades,
};

use crate::app::{Application, Layer};
use crate::shard::diary::Account;
use crate::shard::faults::{Forbidden, PacketFault};
use crate::shard::hub::Hub;
use crate::shard::limit::Limit;
use crate::shard::rooms::sockets::Sockets;

use super::client::{
    Begun, Cause, Client, ClientKey, CloseReason, ConnectionKey, EventRate, Farewell, FirstRequest, Phase,
};
use super::outbox::Outbox;

/// The first ping comes early by a 32nd of the interval and up to a 16th more: early at all, so that a session that stays
/// silent is gone when the interval and the timeout have passed, however late a timer is by a millisecond or two.
const EARLY_SHARE: u64 = 32;
const JITTER_SHARE: u64 = 16;

impl<A: Application> Hub<A> {
    /// Opens a session; `None` when there is no room for it, or no more are taken.
    pub(crate) fn open(
        &mut self,
        transport: Transport,
        connection: Option<ConnectionKey>,
        handshake: Option<Box<FirstRequest>>,
    ) -> Option<ClientKey> {
        let now = self.now.at;
        if self.is_draining() {
            return None;
        }
        let sid = self.directory.next_sid(|| self.random.take())?;
        if !self.capacity.take_client() {
            return None;
        }
        let interval_ms = self.settings.times.ping_interval_ms;
        let early_ms = interval_ms / EARLY_SHARE + self.random.below(interval_ms / JITTER_SHARE);
        let address = handshake.as_ref().and_then(|handshake| handshake.address);
        let half_open_by = match A::LAYER {
            Layer::SocketIo => self.attended() + self.settings.connect_timeout_ms,
            Layer::EngineIo | Layer::WebSocket => Millis::NEVER,
        };
        let key = self.directory.insert(Client {
            sid,
            session: Session::open(transport, now, &self.settings.times, early_ms),
            connection,
            sockets: Sockets::None,
            outbox: Outbox::EMPTY,
            begun: Begun::by(half_open_by, handshake),
            timer_at: Millis::NEVER,
            rate: EventRate::default(),
            phase: Phase::Unclaimed,
            began: transport,
            is_dirty: false,
            is_suspect: false,
        })?;
        self.counters.opened += 1;
        self.diary.begin(key.0.index, Account { address, since: now, ..Account::default() });
        self.arm(key);
        Some(key)
    }

    /// The open packet of a client: `0{...}`.
    pub(crate) fn open_packet(&self, key: ClientKey, upgrades: Upgrades, out: &mut Vec<u8>) {
        let Some(client) = self.directory.get(key) else { return };
        let times = &self.settings.times;
        OpenPacket {
            sid: client.sid.text().as_str(),
            upgrades,
            ping_interval_ms: times.ping_interval_ms,
            ping_timeout_ms: times.ping_timeout_ms,
            payload_bytes_max: self.settings.payload_bytes_max as u64,
        }
        .encode(out);
    }

    pub(crate) fn is_alive(&self, key: ClientKey) -> bool {
        self.directory.get(key).is_some_and(|client| client.phase != Phase::Farewell)
    }

    /// The transport that carries a client now; `None` if it is gone.
    pub(crate) fn transport(&self, key: ClientKey) -> Option<Transport> {
        Some(self.directory.get(key)?.session.transport())
    }

    /// One text frame came by the client's WebSocket.
    pub(crate) fn on_text(&mut self, key: ClientKey, text: &str) {
        self.diary.received(key.0.index, text.len());
        if A::LAYER == Layer::WebSocket {
            return self.on_message(key, engineio::Data::Text(text));
        }
        match engineio::EnginePacket::decode(text) {
            Ok(packet) => self.on_packet(key, packet),
            Err(error) => self.on_bad_packet(key, PacketFault::EngineIo(error)),
        }
    }

    /// One binary frame came by the client's WebSocket.
    pub(crate) fn on_binary(&mut self, key: ClientKey, data: &[u8]) {
        self.diary.received(key.0.index, data.len());
        self.on_packet(key, engineio::EnginePacket::Message(engineio::Data::Binary(data.into())));
    }

    /// One Engine.IO packet came by the client's transport.
    pub(crate) fn on_packet(&mut self, key: ClientKey, packet: engineio::EnginePacket<'_>) {
        if let Some(client) = self.directory.get_mut(key)
            && client.rate.count(self.now.at) > self.settings.events_per_second_max
        {
            self.counters.hit(Limit::EventsPerSecondMax);
            return self.drop_client(key, CloseReason::TooManyEvents, None, Farewell::NextPoll);
        }
        let kind = match packet {
            engineio::EnginePacket::Message(data) => {
                if self.step(key, Input::Packet(PacketType::Message)) == Step::Deliver {
                    self.on_message(key, data);
                }
                return;
            }
            engineio::EnginePacket::Open => PacketType::Open,
            engineio::EnginePacket::Close => PacketType::Close,
            engineio::EnginePacket::Ping(_) => {
                return self.on_bad_packet(key, PacketFault::Session(Forbidden::Ping));
            }
            engineio::EnginePacket::Pong(_) => {
                let is_awaited = self.directory.get(key).is_some_and(|client| client.session.awaits_pong());
                self.on_session_input(key, Input::Packet(PacketType::Pong));
                if is_awaited {
                    self.on_pong(key);
                }
                return;
            }
            engineio::EnginePacket::Upgrade => PacketType::Upgrade,
            engineio::EnginePacket::Noop => PacketType::Noop,
        };
        self.on_session_input(key, Input::Packet(kind));
    }

    /// The client's WebSocket ended, or has to end with this close code.
    pub(crate) fn on_transport_end(
        &mut self,
        key: ClientKey,
        connection: ConnectionKey,
        cause: impl Into<Cause>,
        code: Option<u16>,
    ) {
        if self.directory.get(key).is_some_and(|client| client.connection == Some(connection)) {
            self.drop_client(key, cause, code, Farewell::Now);
        }
    }

    /// A packet came that no client may send, or none at all.
    pub(crate) fn on_bad_packet(&mut self, key: ClientKey, fault: PacketFault) {
        let cause = self.fault(fault);
        if let Step::End(_) = self.step(key, Input::BadPacket) {
            self.drop_client(key, cause, None, Farewell::Now);
        }
    }

    /// Feeds an input whose only possible outcome besides nothing is the session's end.
    pub(crate) fn on_session_input(&mut self, key: ClientKey, input: Input) {
        if let Step::End(end) = self.step(key, input) {
            self.end_session(key, end);
        }
    }

    /// Feeds the session and sees to its timer.
    pub(crate) fn step(&mut self, key: ClientKey, input: Input) -> Step {
        let moment = self.moment();
        let Some(client) = self.directory.get_mut(key) else { return Step::Refuse };
        let step = client.session.receive(input, moment, &self.settings.times);
        if step == Step::Pardoned {
            self.counters.pardoned += 1;
        }
        self.arm(key);
        step
    }

    pub(crate) fn end_session(&mut self, key: ClientKey, end: SessionEnd) {
        let reason = match end {
            SessionEnd::PingTimeout => CloseReason::PingTimeout,
            SessionEnd::TransportClose => CloseReason::TransportClose,
            SessionEnd::TransportError => CloseReason::TransportError,
            SessionEnd::ClientClose => CloseReason::ClientClose,
            SessionEnd::ParseError => CloseReason::ParseError,
        };
        self.drop_client(key, reason, None, Farewell::Now);
    }

    pub(crate) fn expire_client(&mut self, key: ClientKey) {
        let (now, moment) = (self.now.at, self.moment());
        let Some(client) = self.directory.get_mut(key) else { return };
        // A hint that is older than the one armed now.
        if client.timer_at > now {
            return;
        }
        client.timer_at = Millis::NEVER;
        let is_overdue = client.begun.half_open_by <= moment.attended();
        if is_overdue && client.phase == Phase::Farewell {
            return self.forget(key);
        }
        if client.begun.expiries.first() <= now {
            return self.drop_client(key, CloseReason::TokenExpired, None, Farewell::NextPoll);
        }
        if is_overdue && !client.is_suspect {
            client.is_suspect = true;
            self.look_at(key);
        }
        loop {
            let Some(client) = self.directory.get_mut(key) else { return };
            match client.session.expire(moment, &self.settings.times) {
                Step::SendPing => self.send_ping(key),
                Step::ReleasePoll => self.release_poll(key),
                Step::Suspect => self.look_at(key),
                Step::SuspectProbe => self.look_for_probe(key),
                Step::End(end) => return self.end_session(key, end),
                _ => break,
            }
        }
        self.arm(key);
    }
}
