//! The upgrade: a probe WebSocket beside long-polling, and how it becomes the transport.

use sockring_protocol::engineio::{self, Input, ProbePacket, Step};

use crate::app::Application;
use crate::shard::hub::Hub;
use crate::shard::hub::outbound::Order;

use super::client::{ClientKey, ConnectionKey};
use super::outbox::Outbox;

/// What becomes of a probe's packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ProbeOutcome {
    Nothing,
    /// Send `3probe`.
    Answer,
    /// The probe is the client's transport now.
    Upgraded,
    /// Close it.
    Drop,
}

/// Whether a client may have this probe: one at a time, and none after its upgrade.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ProbeAdmission {
    Accepted,
    Refused,
}

impl<A: Application> Hub<A> {
    /// A WebSocket handshake with a client's sid arrived.
    pub(crate) fn on_probe(&mut self, key: ClientKey, connection: ConnectionKey) -> ProbeAdmission {
        if !self.is_alive(key) || self.step(key, Input::Probe) != Step::Accept {
            return ProbeAdmission::Refused;
        }
        if let Some(client) = self.directory.get_mut(key) {
            client.begun.change(|begun| begun.probe = Some(connection));
        }
        ProbeAdmission::Accepted
    }

    pub(crate) fn on_probe_text(&mut self, key: ClientKey, connection: ConnectionKey, text: &str) -> ProbeOutcome {
        let packet = match engineio::EnginePacket::decode(text) {
            Ok(engineio::EnginePacket::Ping("probe")) => ProbePacket::Probe,
            Ok(engineio::EnginePacket::Upgrade) => ProbePacket::Upgrade,
            _ => ProbePacket::Other,
        };
        self.on_probe_packet(key, connection, packet)
    }

    pub(crate) fn on_probe_packet(
        &mut self,
        key: ClientKey,
        connection: ConnectionKey,
        packet: ProbePacket,
    ) -> ProbeOutcome {
        // One that was dropped in this turn still has frames behind.
        if self.directory.get(key).is_none_or(|client| client.begun.probe != Some(connection)) {
            return ProbeOutcome::Nothing;
        }
        match self.step(key, Input::ProbePacket(packet)) {
            Step::AnswerProbe => {
                self.release_poll(key);
                ProbeOutcome::Answer
            }
            Step::Upgraded => {
                self.take_over(key);
                if self.diary.is_kept() {
                    self.tell_upgrade(key);
                }
                ProbeOutcome::Upgraded
            }
            Step::DropProbe => {
                self.drop_probe(key);
                ProbeOutcome::Drop
            }
            _ => ProbeOutcome::Nothing,
        }
    }

    pub(crate) fn on_probe_lost(&mut self, key: ClientKey, connection: ConnectionKey) {
        let Some(client) = self.directory.get_mut(key) else { return };
        if client.begun.probe == Some(connection) {
            client.begun.take_probe();
            self.step(key, Input::ProbeLost);
        }
    }

    pub(crate) fn drop_probe(&mut self, key: ClientKey) {
        let Some(client) = self.directory.get_mut(key) else { return };
        if let Some(probe) = client.begun.take_probe() {
            self.outbound.orders.push(Order::CloseWebSocket(probe, Outbox::EMPTY, None));
        }
    }

    fn take_over(&mut self, key: ClientKey) {
        let Some(client) = self.directory.get_mut(key) else { return };
        let probe = client.begun.take_probe();
        if let Some(held) = std::mem::replace(&mut client.connection, probe) {
            self.outbound.orders.push(Order::RefusePoll(held));
        }
        if !client.outbox.is_empty() || self.has_behind(key) {
            self.directory.mark_dirty(key);
        }
    }
}
