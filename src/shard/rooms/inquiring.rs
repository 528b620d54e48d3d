//! Inquiring: a backend wants to know of each receiver of an emit that it has called back, or that it has received it.
//!
//! A socket that breaks off is waited for while it may come back: its client calls back then, or gets what it has missed and
//! says that it has it.

use sockring_protocol::socketio::AckId;

use crate::app::Application;
use crate::shard::clients::client::ClientKey;
use crate::shard::effects::{Acknowledgement, Effect};
use crate::shard::hub::Hub;
use crate::shard::limit::Limit;
use crate::shard::mail::{Inquiry, InquiryKind};
use crate::shard::metrics::AckEnd;
use crate::shard::moving::sid::Sid;
use crate::shard::recovery::ended::Parting;

use super::acks::{AckAsker, AckWay, MissedState, Taken};
use super::fan_out::AskedOf;
use super::inquiries::ResponseBounds;
use super::receipts::{SentEvent, WantedBy};

impl<A: Application> Hub<A> {
    /// A broadcast begins of which a backend wants to know this, besides another instance. `is_logged`: who comes back gets it.
    pub(crate) fn ask_receivers(&mut self, ack: Option<AckId>, inquiries: &[Inquiry], is_logged: bool) -> AskedOf {
        let mut asked = AskedOf { ack, receipt: None };
        let (now, bytes_max) = (self.now.at, self.settings.ack_responses_bytes_max);
        for Inquiry { key, kind, timeout_ms } in inquiries {
            let count_max = if let InquiryKind::Ack { responses_max } = kind { *responses_max } else { 0 };
            let asker = AckAsker::Backend(*key, ResponseBounds { count_max, bytes_max });
            let way = match (kind, is_logged) {
                (InquiryKind::Ack { .. }, _) => AckWay::Callback,
                (InquiryKind::Receipt, true) => AckWay::Receipt,
                (InquiryKind::Receipt, false) => AckWay::PassingReceipt,
            };
            let id = Some(self.broadcasts.ask(asker, way, *timeout_ms, now));
            match kind {
                InquiryKind::Ack { .. } => asked.ack = id,
                InquiryKind::Receipt => asked.receipt = id,
            }
        }
        asked
    }

    /// A socket has a broadcast queued, and is to say this.
    pub(crate) fn expect_answers(&mut self, key: ClientKey, place: u16, asked: AskedOf) {
        for id in [asked.ack, asked.receipt].into_iter().flatten() {
            match self.broadcasts.acks_pending() < self.settings.acks_pending_max {
                true => self.broadcasts.expect_ack(id, key, place),
                false => self.counters.hit(Limit::AcksPendingMax),
            }
        }
        if let Some(receipt) = asked.receipt {
            self.expect_receipt(key, place, receipt);
        }
    }

    fn expect_receipt(&mut self, key: ClientKey, place: u16, receipt: AckId) {
        self.receipts.expect(key, SentEvent { wanted: WantedBy::Backend(receipt), place, at: self.now.at });
    }

    /// A socket acknowledges a broadcast; `false`: it was not asked to.
    pub(crate) fn on_broadcast_ack(
        &mut self,
        (key, place): (ClientKey, u16),
        ack: AckId,
        args: &[u8],
        attachments: &[Box<[u8]>],
    ) -> bool {
        let Some(taken) = self.broadcasts.take_ack(ack, key, place, args) else { return false };
        self.counters.count_acks(AckEnd::Received, 1);
        match taken {
            Taken::OfBus(number) => {
                let answer = Acknowledgement { number, args: args.into(), attachments: attachments.to_vec() };
                self.outbound.for_bus.push(Effect::Acknowledged(Box::new(answer)));
            }
            Taken::OfBackend => {}
            Taken::WithoutResponse => self.counters.hit(Limit::AckResponsesBytesMax),
        }
        true
    }

    /// A socket ends: what it was asked it may say when it has come back, if it may.
    pub(crate) fn part_from_asked(&mut self, key: ClientKey, place: u16, parting: Parting) {
        let may_return = parting == Parting::Lost && self.recovery.is_some();
        let gone = match self.directory.socket(key, place).filter(|_| may_return) {
            Some(socket) => {
                let sid = self.directory.sid_of(key, place, socket.random);
                self.broadcasts.set_acks_aside(key, place, sid, self.settings.acks_pending_max)
            }
            None => self.broadcasts.forget_acks(key, place),
        };
        self.counters.count_acks(AckEnd::Gone, gone);
    }

    /// A socket goes on with the session of this sid.
    pub(crate) fn bring_asked_back(&mut self, key: ClientKey, place: u16, sid: Sid, missed: MissedState) {
        let is_all_queued = !self.is_behind_at((key.0.index, place)) && !self.receipts.is_behind(key, place);
        let missed = if is_all_queued { missed } else { MissedState::Unknown };
        for receipt in self.broadcasts.bring_acks_back(sid, (key, place), missed) {
            self.expect_receipt(key, place, receipt);
        }
    }
}
