//! What GET and POST requests of long-polling do to a client.

use sockring_protocol::engineio::{self, Input, Step};

use crate::app::Application;
use crate::shard::clients::outbox::polling_payload;
use crate::shard::faults::{Forbidden, PacketFault};
use crate::shard::hub::Hub;
use crate::shard::hub::outbound::Order;
use crate::shard::limit::Limit;

use super::client::{ClientKey, ConnectionKey, Phase};
use super::outbox::encode_for_polling;

/// A polling answer is not filled beyond this; the rest waits for the next poll.
const ANSWER_BYTES_MAX: usize = 1 << 20;

/// What becomes of a GET.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum PollOutcome {
    /// It is held until there is something to say.
    Held,
    /// Answer at once with this payload.
    Answer(Vec<u8>),
    /// 400 code 3.
    Refuse,
}

/// What becomes of a POST.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PostOutcome {
    Accept,
    /// 400 code 3.
    Refuse,
}

impl<A: Application> Hub<A> {
    pub(crate) fn on_poll(&mut self, key: ClientKey, connection: ConnectionKey) -> PollOutcome {
        if let Some(client) = self.directory.get_mut(key)
            && client.phase == Phase::Farewell
        {
            let outbox = std::mem::take(&mut client.outbox);
            if outbox.is_empty() {
                self.forget(key);
                return PollOutcome::Answer(b"1".to_vec());
            }
            return PollOutcome::Answer(polling_payload(outbox, None));
        }
        match self.step(key, Input::Poll) {
            Step::Accept => {
                let Some(client) = self.directory.get_mut(key) else { return PollOutcome::Refuse };
                client.connection = Some(connection);
                if !client.outbox.is_empty() || self.has_behind(key) {
                    self.directory.mark_dirty(key);
                }
                PollOutcome::Held
            }
            Step::End(engineio::SessionEnd::ClientClose) => {
                self.end_session(key, engineio::SessionEnd::ClientClose);
                PollOutcome::Answer(b"6".to_vec())
            }
            Step::End(end) => {
                self.end_session(key, end);
                PollOutcome::Refuse
            }
            _ => PollOutcome::Refuse,
        }
    }

    /// The connection of a held GET ended.
    pub(crate) fn on_poll_lost(&mut self, key: ClientKey, connection: ConnectionKey) {
        let Some(client) = self.directory.get_mut(key) else { return };
        if client.connection == Some(connection) {
            client.connection = None;
            self.on_session_input(key, Input::PollLost);
        }
    }

    /// The head of a POST arrived.
    pub(crate) fn on_post(&mut self, key: ClientKey) -> PostOutcome {
        if !self.is_alive(key) {
            return PostOutcome::Refuse;
        }
        match self.step(key, Input::Post) {
            Step::Accept => PostOutcome::Accept,
            Step::End(end) => {
                self.end_session(key, end);
                PostOutcome::Refuse
            }
            _ => PostOutcome::Refuse,
        }
    }

    /// A POST broke off, or was not acceptable.
    pub(crate) fn on_post_lost(&mut self, key: ClientKey) {
        self.on_session_input(key, Input::PostLost);
    }

    /// The body of a POST is complete.
    pub(crate) fn on_post_body(&mut self, key: ClientKey, body: &[u8]) -> PostOutcome {
        if self.step(key, Input::PostComplete) != Step::Accept {
            return PostOutcome::Refuse;
        }
        self.diary.received(key.0.index, body.len());
        let Ok(body) = std::str::from_utf8(body) else {
            self.on_bad_packet(key, PacketFault::Session(Forbidden::BodyNotUtf8));
            return PostOutcome::Refuse;
        };
        self.on_packets(key, body)
    }

    /// The packets of a POST, or those that came behind a CONNECT by which the client moved here.
    pub(crate) fn on_packets(&mut self, key: ClientKey, payload: &str) -> PostOutcome {
        let mut packets = engineio::Payload::decode(payload, self.settings.payload_packets_max);
        while let Some(packet) = packets.next() {
            match packet {
                Ok(engineio::EnginePacket::Ping(_)) | Err(_) => {
                    let fault = match packet {
                        Err(error) => PacketFault::EngineIo(error),
                        Ok(_) => PacketFault::Session(Forbidden::Ping),
                    };
                    if packet == Err(engineio::EnginePacketError::TooManyPackets) {
                        self.counters.hit(Limit::PayloadPacketsMax);
                    }
                    self.on_bad_packet(key, fault);
                    return PostOutcome::Refuse;
                }
                Ok(packet) => self.on_packet(key, packet),
            }
            if self.outbound.departed.is_some() {
                if let Some(rest) = packets.rest() {
                    self.send_rest_along(rest);
                }
                break;
            }
            let over = self.directory.get(key).is_none_or(|client| client.session.is_ending());
            if over || !self.is_alive(key) {
                break;
            }
        }
        PostOutcome::Accept
    }

    /// A noop for the held GET, so that the client can go on with its upgrade.
    pub(crate) fn release_poll(&mut self, key: ClientKey) {
        let Some(client) = self.directory.get_mut(key) else { return };
        let Some(connection) = client.connection.take() else { return };
        let mut payload = polling_payload(std::mem::take(&mut client.outbox), None);
        if payload.is_empty() {
            payload.push(b'6');
        }
        self.diary.sent(key.0.index, payload.len());
        self.outbound.orders.push(Order::AnswerPoll(connection, payload));
        self.step(key, Input::PollAnswered);
    }

    /// Answers the held GET with what is queued, if both are there.
    pub(crate) fn answer_poll(&mut self, key: ClientKey) {
        self.refill(key);
        let Some(client) = self.directory.get_mut(key) else { return };
        if client.outbox.is_empty() {
            return;
        }
        let Some(connection) = client.connection.take() else { return };
        let mut payload = Vec::new();
        let mut encoder = engineio::PayloadEncoder::new(&mut payload);
        let mut taken = 0;
        while !client.outbox.is_empty() && (taken == 0 || taken + client.outbox.first_bytes() <= ANSWER_BYTES_MAX) {
            let Some(frames) = client.outbox.pop() else { break };
            taken += frames.len();
            encode_for_polling(&frames, &mut encoder);
        }
        self.diary.sent(key.0.index, payload.len());
        self.outbound.orders.push(Order::AnswerPoll(connection, payload));
        self.step(key, Input::PollAnswered);
    }
}
