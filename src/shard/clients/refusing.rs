//! Refusals: CONNECTs that may not pass, and packets that end their client. Each is counted with its reason.

use core::net::IpAddr;

use sockring_protocol::adapter::Delivery;
use sockring_protocol::socketio;

use crate::app::{Application, Refusal, RefusalReason};
use crate::capacity::Rate;
use crate::shard::faults::PacketFault;
use crate::shard::hub::Hub;
use crate::shard::limit::Limit;

use super::client::{Cause, ClientKey, CloseReason, Detail, Farewell};
use super::encode;

impl<A: Application> Hub<A> {
    /// Whether a CONNECT from this address is refused unread, because too many of its were refused lately.
    pub(crate) fn is_refused_by_rate(&mut self, address: Option<IpAddr>) -> bool {
        let has_some_left = self.capacity.has_left(Rate::ConnectRefusals, address, self.now.at);
        if !has_some_left {
            self.counters.hit(Limit::ConnectRefusalsPerMinuteMax);
        }
        !has_some_left
    }

    /// Answers a CONNECT that may not pass. The session goes on, unless this was one too many.
    pub(crate) fn refuse(&mut self, key: ClientKey, namespace: &str, refusal: &Refusal) {
        self.counters.count_refusal(refusal.reason);
        if self.diary.is_kept() {
            self.tell_refusal(key, namespace, refusal);
        }
        let data = refusal.reason.code().map(|code| format!("{{\"code\":\"{code}\"}}"));
        let frames = encode::message(&mut self.scratch, |out| {
            socketio::encode_connect_error(namespace, &refusal.message, data.as_deref(), out);
        });
        self.push(key, frames, Delivery::Queue);
        // To say that there is no such namespace costs no more than any other packet.
        if refusal.reason == RefusalReason::UnknownNamespace {
            return;
        }
        let Some(client) = self.directory.get_mut(key) else { return };
        let address = client.begun.handshake.as_deref().and_then(|handshake| handshake.address);
        // That it was one too many shows with the next one.
        self.capacity.admit(Rate::ConnectRefusals, address, self.now.at);
        client.begun.change(|begun| begun.refusals = begun.refusals.saturating_add(1));
        // A client may connect to all namespaces at once, with the same worthless token.
        let refusals_max = self.settings.connect_refusals_max.saturating_mul(self.settings.namespaces.len());
        if usize::from(client.begun.refusals) >= refusals_max.min(usize::from(u8::MAX)) {
            self.counters.hit(Limit::ConnectRefusalsMax);
            self.drop_client(key, CloseReason::TooManyRefusals, None, Farewell::NextPoll);
        }
    }

    /// Counts a frame or a packet that ends its client, or its probe.
    pub(crate) fn fault(&mut self, fault: PacketFault) -> Cause {
        self.counters.count_fault(fault);
        tracing::debug!(layer = fault.layer(), reason = fault.label(), "a packet was refused");
        Cause { reason: CloseReason::ParseError, detail: Some(Detail::Packet(fault)) }
    }
}
