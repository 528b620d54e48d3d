//! Emits with the streams adapter: an event gets its place in a stream first, and is delivered here when it is read there, so
//! that every client of every server gets what all of them have sent in one order.

use std::time::Duration;

use redis::{Value, cmd};
use sockring_protocol::adapter::{Adapter, Broadcast, EntryId, Message, encode_entry, stream_of};
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout};

use super::echoes::{Echoes, Headroom, Number, Unread};
use super::publisher::{PublishError, To};
use super::{Cluster, OutboundCommand, PUBLISHED_WITHIN, Sending, Sent};

impl Cluster {
    /// The streams that carry the namespaces of this instance; none with the other adapters.
    pub(super) fn streams(&self) -> Vec<String> {
        if self.adapter() != Adapter::Streams {
            return Vec::new();
        }
        let mut streams: Vec<_> = self.namespaces.iter().map(|namespace| self.stream_of(namespace)).collect();
        streams.sort_unstable();
        streams.dedup();
        streams
    }

    pub(super) fn stream_of(&self, namespace: &str) -> String {
        stream_of(&self.settings.streams.name, self.settings.streams.count, namespace)
    }

    /// What adds a message to its stream. `None`: it does not go there.
    pub(super) fn entry(
        &self,
        uid: &str,
        namespace: &str,
        message: &Message,
        number: Option<Number>,
    ) -> Option<OutboundCommand> {
        if self.adapter() != Adapter::Streams {
            return None;
        }
        let fields = encode_entry(uid, namespace, message, number)?;
        let stream = self.stream_of(namespace);
        let mut command = cmd("XADD");
        command.arg(&stream).arg("MAXLEN").arg("~").arg(self.settings.streams.entries_max).arg("*");
        let mut bytes = stream.len();
        for (name, value) in fields {
            bytes += name.len() + value.len();
            command.arg(name).arg(value);
        }
        Some((command, To::OwnerOf(stream), bytes))
    }

    /// Whether what is emitted here is delivered when it is read, and not at once.
    pub fn delivers_what_it_reads(&self) -> bool {
        self.adapter() == Adapter::Streams
    }

    /// Emits several, in their order. What cannot be waited for `deliver` gives to the members here, and says how many they are.
    pub async fn emit_all(
        &self,
        broadcasts: Vec<Broadcast>,
        deliver: impl AsyncFn(Vec<Broadcast>) -> Vec<u64>,
    ) -> Vec<InOrder> {
        let deadline = self.deadline();
        let mut entered = Vec::with_capacity(broadcasts.len());
        for broadcast in broadcasts {
            // Behind one that does not go into the stream the others do not either: they would come before it.
            let is_open = entered.last().is_none_or(|last: &Entered| last.sent.is_ok());
            entered.push(self.enter(broadcast, is_open));
        }
        let mut emitted = Vec::with_capacity(entered.len());
        for entered in entered {
            emitted.push(self.read_back(entered, deadline, &deliver).await);
        }
        emitted
    }

    fn enter(&self, broadcast: Broadcast, is_open: bool) -> Entered {
        let namespace = broadcast.namespace.clone();
        let stream = self.stream_of(&namespace);
        let message = Message::Broadcast(broadcast.clone());
        let (number, sockets, room) = self.echoes.begin(broadcast);
        let sent = match room {
            Headroom::Enough if is_open => self.send_by(Sending::Numbered(number), &namespace, &message),
            _ => Err(PublishError::QueueFull).inspect_err(|error| self.count_loss(*error)),
        };
        Entered { number, stream, sent, sockets }
    }

    /// Delivers what callers have an answer to and what was not read in time. Whoever does something to sockets at once, or
    /// emits past the stream, has to do this first, or one caller's order would be another.
    pub async fn catch_up(&self, deliver: impl AsyncFn(Vec<Broadcast>) -> Vec<u64>) {
        if self.delivers_what_it_reads() {
            self.deliver_unread(Echoes::give_up_answered, &deliver).await;
        }
    }

    /// One after the other, since rooms of different homes are ways of different lengths; and nothing is read meanwhile, or it
    /// would come between them.
    async fn deliver_unread(
        &self,
        give_up: impl FnOnce(&Echoes) -> Vec<Unread>,
        deliver: &impl AsyncFn(Vec<Broadcast>) -> Vec<u64>,
    ) {
        let _turn = self.echoes.turn().await;
        for Unread { broadcast, count, .. } in give_up(&self.echoes) {
            let delivered = deliver(vec![broadcast]).await;
            // Who asked for it may have gone.
            let _ = count.send(delivered.first().copied().unwrap_or(0));
        }
    }

    /// Whether the connections stand on which what is added comes back.
    fn reads_all(&self) -> bool {
        self.counters.streams_read.value() == self.streams().len() as u64
    }

    /// Waits until an event has been read and delivered; or delivers it, and what was to be read before it, if Redis has not
    /// taken it in time, or nobody reads.
    async fn read_back(
        &self,
        entered: Entered,
        deadline: Instant,
        deliver: &impl AsyncFn(Vec<Broadcast>) -> Vec<u64>,
    ) -> InOrder {
        let Entered { number, stream, sent, mut sockets } = entered;
        let taken = match sent {
            Ok(sent) => self.taken(sent, deadline).await,
            Err(error) => Err(error),
        };
        let published = taken.is_ok();
        if let Ok(Value::BulkString(id)) = taken
            && let Some(entry) = EntryId::decode(&id)
        {
            self.echoes.place(number, stream, entry);
        }
        let within = if published && self.reads_all() { PUBLISHED_WITHIN } else { Duration::ZERO };
        if let Ok(delivered) = timeout(within, &mut sockets).await {
            return InOrder { delivered: delivered.unwrap_or(0), published };
        }
        if published && self.reads_all() {
            // It is delivered as soon as it is read, whether anybody waits or not.
            return InOrder { delivered: 0, published };
        }
        self.deliver_unread(|echoes| echoes.give_up(number), deliver).await;
        // If it was read at this very moment, its shards are about to say how many have it.
        let delivered = timeout(PUBLISHED_WITHIN, sockets).await.map_or(0, Result::unwrap_or_default);
        InOrder { delivered, published }
    }
}

/// What came of an emit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InOrder {
    /// Sockets of this instance that have it queued, as far as that is known in time.
    pub delivered: u64,
    /// Redis has it.
    pub published: bool,
}

/// An event on its way into a stream and back.
struct Entered {
    number: Number,
    stream: String,
    sent: Result<Sent, PublishError>,
    sockets: oneshot::Receiver<u64>,
}
