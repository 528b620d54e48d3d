//! `Inbox`: what a connection has received, on its way to shards, in letters as large as what came at once.

use std::iter;
use std::rc::Rc;
use std::sync::Arc;

use redis::{PushInfo, PushKind, Value};
use sockring_protocol::adapter::{
    self, Adapter, Broadcast, ChannelKind, ChannelName, EntryId, Envelope, Message, MessageError, StreamEntry,
};

use crate::shard::{Mail, Reply, RoomName, USER_PREFIX};

use super::Cluster;
use super::counters::{BusLimit, Loss};
use super::echoes::{EchoTally, Unread};
use super::held::Kept;
use super::subscriptions::Subscriptions;

/// Bytes of one letter; a larger message has one of its own.
const LETTER_BYTES_MAX: usize = 256 << 10;

/// Letters that wait for a shard, beyond which no more are brought: well below where requests are refused.
const LETTERS_WAITING: usize = 4096;

/// What a shard does with broadcasts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    /// It is the home of the room of each, and knows where its members are.
    Home,
    /// It looks for members of its own.
    Everywhere,
}

/// Broadcasts for one shard, in their order.
#[derive(Debug)]
struct Run {
    way: Way,
    broadcasts: Vec<Broadcast>,
    /// Which of them somebody counts.
    tallies: Vec<(usize, Rc<EchoTally>)>,
    bytes: usize,
}

/// Of one connection. Each shard gets what is for it in the order in which it came.
pub(super) struct Inbox {
    cluster: Arc<Cluster>,
    /// By shard.
    runs: Vec<Run>,
}

impl Inbox {
    pub(super) fn new(cluster: Arc<Cluster>) -> Inbox {
        let run = |_: &_| Run { way: Way::Everywhere, broadcasts: Vec::new(), tallies: Vec::new(), bytes: 0 };
        let runs = cluster.postboxes.iter().map(run).collect();
        Inbox { cluster, runs }
    }

    /// Whether shards have read enough of what was posted that more may come. Until then Redis keeps it, and then loses nothing
    /// of it that a Node server as slow would not.
    pub(super) fn may_take(&self) -> bool {
        !self.cluster.postboxes.iter().any(|shard| shard.is_busy(LETTERS_WAITING))
    }

    /// Takes one message. What it leads to is posted by `flush` at the latest.
    pub(super) fn take(&mut self, push: PushInfo, wanted: &Subscriptions) {
        let mut parts = push.data.into_iter();
        let pattern = if push.kind == PushKind::PMessage { parts.next() } else { None };
        let (Some(Value::BulkString(channel)), Some(Value::BulkString(body))) = (parts.next(), parts.next()) else {
            return;
        };
        if pattern.is_none() && self.cluster.take_from_neighbour(&channel, &body) {
            return;
        }
        let counters = &self.cluster.counters;
        counters.received.add(1);
        counters.received_bytes.add((channel.len() + body.len()) as u64);
        let channels = &self.cluster.channels;
        let message = match pattern {
            Some(Value::BulkString(pattern)) => {
                let place = channels.place_by_pattern(&pattern, &channel);
                let Some(place) = place.filter(|place| self.concerns_us(*place, wanted)) else { return };
                adapter::decode_at(channels, iter::once(place), &body)
            }
            _ => {
                let places = channels.places(&channel).filter(|place| !self.comes_by_pattern(*place));
                adapter::decode_at(channels, places, &body)
            }
        };
        match message {
            Err(error) => self.drop_message(error),
            Ok(envelope) => self.receive(envelope, None),
        }
    }

    /// Takes one entry of a stream, of so many bytes; and before it what we have added before it and is not there.
    pub(super) fn take_entry(
        &mut self,
        (stream, id): (&str, EntryId),
        entry: Result<StreamEntry, MessageError>,
        bytes: usize,
    ) {
        for Unread { mut broadcast, count, place, .. } in self.cluster.echoes.missed(stream, id) {
            broadcast.entry = place.map(|(_, entry)| entry);
            self.deliver(broadcast, Some(Rc::new(EchoTally::new(count))));
        }
        let counters = &self.cluster.counters;
        counters.received.add(1);
        counters.received_bytes.add(bytes as u64);
        match entry {
            Err(error) => self.drop_message(error),
            Ok(StreamEntry { mut envelope, number }) => {
                if let Message::Broadcast(broadcast) = &mut envelope.message {
                    broadcast.entry = Some(id);
                }
                self.receive(envelope, number);
            }
        }
    }

    fn drop_message(&self, error: MessageError) {
        // Other namespaces' messages are not for us, and harm nobody.
        if error != MessageError::OtherNamespace {
            self.cluster.counters.malformed(error);
            tracing::debug!(%error, "a message of the bus was dropped");
        }
    }

    /// Whether what came by a pattern is for a socket of ours, or a room that has members here, or may have by now.
    fn concerns_us(&self, place: ChannelName<'_>, wanted: &Subscriptions) -> bool {
        let ChannelKind::Room(name) = place.kind else { return false };
        if self.cluster.instance.covers(name) {
            return true;
        }
        // A room that only looks like one of those has a subscription of its own.
        let may_have_members = |room: RoomName| wanted.has(&room) || self.cluster.joins.may_be_anywhere(&room);
        self.cluster.is_heard_by_pattern(name) && self.cluster.rooms_at(place).any(may_have_members)
    }

    /// Whether this is a room that a pattern brings: where its channel is subscribed, that is for another that is called alike.
    fn comes_by_pattern(&self, place: ChannelName<'_>) -> bool {
        let ChannelKind::Room(name) = place.kind else { return false };
        let is_classic = self.cluster.adapter() == Adapter::Classic;
        is_classic && (self.cluster.instance.covers(name) || self.cluster.is_heard_by_pattern(name))
    }

    /// `number` is its sender's own.
    fn receive(&mut self, envelope: Envelope, number: Option<u64>) {
        let Some(namespace) = self.cluster.namespace(&envelope.namespace) else { return };
        if let Some(uid) = &envelope.uid {
            if self.cluster.uids.get(namespace) == Some(uid) {
                return self.receive_own(envelope.message, number);
            }
            self.cluster.peers.saw(uid);
        }
        match envelope.message {
            Message::Broadcast(mut broadcast) => {
                let delivery = self.cluster.begin_delivery(broadcast.trace.take());
                self.deliver(broadcast, delivery.map(|delivery| Rc::new(EchoTally::traced(delivery))));
            }
            Message::Answer { request, answer, .. } => {
                let Cluster { questions, acking, held, counters, .. } = &*self.cluster;
                let kept = acking
                    .on_answer(&request, envelope.uid.as_deref(), answer, held)
                    .unwrap_or_else(|answer| questions.on_answer(&request, envelope.uid, answer, held));
                if kept == Kept::TooMuch {
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

    /// What we have sent was done here when it was, but for events that have a place in a stream.
    fn receive_own(&mut self, message: Message, number: Option<u64>) {
        if let (Message::Broadcast(mut broadcast), Some(number)) = (message, number)
            && let Some(tally) = self.cluster.echoes.read(number)
        {
            let delivery = self.cluster.begin_own_delivery(broadcast.trace.take());
            self.deliver(broadcast, Some(Rc::new(tally.and_traced(delivery))));
        }
    }

    fn deliver(&mut self, broadcast: Broadcast, tally: Option<Rc<EchoTally>>) {
        if let Some(home) = self.only_shard(&broadcast) {
            return self.put(home, Way::Home, broadcast, tally);
        }
        for shard in 1..self.runs.len() {
            self.put(shard, Way::Everywhere, broadcast.clone(), tally.clone());
        }
        self.put(0, Way::Everywhere, broadcast, tally);
    }

    /// The home of the only room that a broadcast is for, if all its members are there.
    pub(super) fn only_shard(&self, broadcast: &Broadcast) -> Option<usize> {
        let [name] = &*broadcast.rooms else { return None };
        self.has_all_at_home(&broadcast.namespace, name).then(|| self.cluster.home_of(name))
    }

    /// Whether a room's members are at its home: those of a user's, unless others have joined it, and a socket. Another room
    /// goes to all shards by this way too, and not by its home: so a shard gets all that is for it from here, in one order.
    fn has_all_at_home(&self, namespace: &str, name: &str) -> bool {
        if !name.starts_with(USER_PREFIX) {
            return self.cluster.instance.covers(name);
        }
        let room = self.cluster.room(namespace, name);
        room.is_some_and(|room| !self.cluster.joins.may_be_anywhere(&room))
    }

    fn put(&mut self, shard: usize, way: Way, broadcast: Broadcast, tally: Option<Rc<EchoTally>>) {
        let bytes = broadcast.bytes();
        let is_full = |run: &Run| way != run.way || run.bytes + bytes > LETTER_BYTES_MAX;
        if self.runs.get(shard).is_some_and(is_full) {
            self.post(shard);
        }
        let Some(run) = self.runs.get_mut(shard) else { return };
        run.way = way;
        run.bytes += bytes;
        run.tallies.extend(tally.map(|tally| (run.broadcasts.len(), tally)));
        run.broadcasts.push(broadcast);
    }

    /// Posts what was taken.
    pub(super) fn flush(&mut self) {
        (0..self.runs.len()).for_each(|shard| self.post(shard));
    }

    fn post(&mut self, shard: usize) {
        let (Some(run), Some(postbox)) = (self.runs.get_mut(shard), self.cluster.postboxes.get(shard)) else { return };
        if run.broadcasts.is_empty() {
            return;
        }
        run.bytes = 0;
        let (broadcasts, tallies) = (std::mem::take(&mut run.broadcasts), std::mem::take(&mut run.tallies));
        let count = broadcasts.len() as u64;
        let mail = match run.way {
            Way::Home => Mail::Emit(broadcasts),
            Way::Everywhere => Mail::Deliver(broadcasts),
        };
        let Some(answer) = postbox.ask(mail) else {
            return self.cluster.counters.lost(Loss::MailboxFull, count);
        };
        // What becomes of all others concerns nobody.
        if !tallies.is_empty() {
            tokio::task::spawn_local(async move {
                let Ok(Reply::Delivered(counts)) = answer.await else { return };
                for (index, tally) in tallies {
                    tally.add(counts.get(index).copied().unwrap_or(0));
                }
            });
        }
    }
}
