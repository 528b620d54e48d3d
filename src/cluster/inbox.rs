//! `Inbox`: what one core's connections have received, on its way to shards, in letters as large as what came at once.

use std::sync::Arc;

use redis::{PushInfo, PushKind, Value};

use crate::broadcast::Broadcast;
use crate::shard::{Mail, home_of};

use super::Cluster;
use super::channels::ChannelKind;
use super::codec::{self, MessageError};
use super::counters::{BusLimit, Loss};
use super::held::Kept;
use super::message::{Envelope, Message};

/// Bytes of one letter; a larger message has one of its own.
const LETTER_BYTES_MAX: usize = 256 << 10;

/// Broadcasts that go the same way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Home(u16),
    Everywhere,
}

/// Of one core.
pub(super) struct Inbox {
    cluster: Arc<Cluster>,
    core: usize,
    way: Way,
    run: Vec<Broadcast>,
    bytes: usize,
}

impl Inbox {
    pub(super) fn new(cluster: Arc<Cluster>, core: usize) -> Inbox {
        Inbox { cluster, core, way: Way::Everywhere, run: Vec::new(), bytes: 0 }
    }

    /// Takes one message. What it leads to is posted by `flush` at the latest.
    pub(super) fn take(&mut self, push: PushInfo) {
        let is_by_pattern = push.kind == PushKind::PMessage;
        let mut parts = push.data.into_iter().skip(usize::from(is_by_pattern));
        let (Some(Value::BulkString(channel)), Some(Value::BulkString(body))) = (parts.next(), parts.next()) else {
            return;
        };
        let counters = &self.cluster.counters;
        counters.cores[self.core].messages.add(1);
        counters.cores[self.core].bytes.add((channel.len() + body.len()) as u64);
        if is_by_pattern && !self.is_of_own_socket(&channel) {
            // A room that begins like a sid of ours has a subscription of its own.
            return;
        }
        match codec::decode(&self.cluster.channels, &channel, &body) {
            // Other namespaces' messages are not for us, and harm nobody.
            Err(MessageError::OtherNamespace) => {}
            Err(error) => {
                counters.malformed(error);
                tracing::debug!(%error, "a message of the bus was dropped");
            }
            Ok(envelope) => self.receive(envelope),
        }
    }

    fn is_of_own_socket(&self, channel: &[u8]) -> bool {
        match self.cluster.channels.place(channel).map(|place| place.kind) {
            Some(ChannelKind::Room(room)) => self.cluster.instance.covers(room),
            _ => false,
        }
    }

    fn receive(&mut self, envelope: Envelope) {
        let Some(namespace) = self.cluster.namespace(&envelope.namespace) else { return };
        if let Some(uid) = &envelope.uid {
            if *uid == self.cluster.uids[namespace] {
                return;
            }
            self.cluster.peers.saw(uid);
        }
        match envelope.message {
            Message::Broadcast(broadcast) => self.deliver(broadcast),
            Message::Answer { request, answer, .. } => {
                let Cluster { questions, held, counters, .. } = &*self.cluster;
                if questions.on_answer(&request, envelope.uid, answer, held) == Kept::TooMuch {
                    counters.hit(BusLimit::AnswersBytes);
                }
            }
            message => {
                // What came before it comes first.
                self.flush();
                self.cluster.on_request(Envelope { message, ..envelope });
            }
        }
    }

    fn deliver(&mut self, broadcast: Broadcast) {
        let way = match &*broadcast.rooms {
            [room] => Way::Home(home_of(room, self.cluster.shards())),
            _ => Way::Everywhere,
        };
        let bytes = broadcast.bytes();
        if way != self.way || self.bytes + bytes > LETTER_BYTES_MAX {
            self.flush();
        }
        self.way = way;
        self.bytes += bytes;
        self.run.push(broadcast);
    }

    /// Posts what was taken.
    pub(super) fn flush(&mut self) {
        if self.run.is_empty() {
            return;
        }
        let run = std::mem::take(&mut self.run);
        self.bytes = 0;
        let shards = &self.cluster.postboxes[self.core];
        let count = run.len() as u64;
        // What becomes of it concerns nobody: the answers are not awaited.
        let mut refused = 0;
        match self.way {
            Way::Home(home) => {
                refused = u64::from(shards[usize::from(home)].ask(Mail::Emit(run)).is_none());
            }
            Way::Everywhere => {
                for shard in shards.iter().skip(1) {
                    refused += u64::from(shard.ask(Mail::Deliver(run.clone())).is_none());
                }
                refused += u64::from(shards[0].ask(Mail::Deliver(run)).is_none());
            }
        }
        if refused > 0 {
            self.cluster.counters.lost(Loss::MailboxFull, count * refused);
        }
    }
}
