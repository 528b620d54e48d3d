//! The subscriber: one connection over which the messages to the instance's rooms come, for as long as it lives and again.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use redis::{PushInfo, PushKind, Value};
use sockring_protocol::adapter::Adapter;
use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::mailbox::Letter;
use crate::shard::{BusMail, RoomName};

use super::Cluster;
use super::flow::{Flow, size_of_push};
use super::health::{Node, RedisConnectionId};
use super::inbox::Inbox;
use super::joins::{Join, JoinOutcome};
use super::link::{Backoff, RedisConnection};
use super::pulse::Pulse;
use super::settings::Address;
use super::subscribing::{Complaints, complaints, pipeline, subscribe};
use super::subscriptions::{Subscriptions, Wish};
use super::topology::{Moved, Topology, slot};

/// Channels of one command, or of one pipeline.
const BATCH_MAX: usize = 1000;
/// Of those, how many are under way at once.
const BATCHES_MAX: usize = 4;
/// Messages, and their bytes, that are looked at before other tasks of the core get their turn: its shard has to take the
/// letters before there are too many.
const MESSAGES_IN_A_ROW: usize = 256;
/// While shards have no room for more.
const LOOK_AGAIN: Duration = Duration::from_millis(1);
const BYTES_IN_A_ROW: usize = 512 << 10;
/// How often between two beats rooms of a slot go where a node says that they belong.
const SENT_ON_MAX: u32 = 16;
/// A connection that lived this long was a good one: the next attempt comes soon.
const GOOD_FOR: Duration = Duration::from_secs(1);

/// What is wanted of the subscriber.
#[derive(Debug)]
pub(super) enum Instruction {
    Want(RoomName, u32),
    Leave(RoomName),
    /// Every shard has done an order to join, and what they want for it stands before this.
    Settled(Join, JoinOutcome),
    /// Channels may belong to other nodes now.
    Relocate,
}

/// What is subscribed once per instance.
#[derive(Clone, Debug)]
pub(super) enum Fixed {
    Channel(String),
    Pattern(String),
}

/// One connection.
pub(super) struct Subscriber {
    cluster: Arc<Cluster>,
    node: Node,
    instructions: mpsc::UnboundedReceiver<Instruction>,
    /// Takes rooms that belong to other nodes; `None`: there are none.
    returned: Option<mpsc::UnboundedSender<Wish>>,
    fixed: Vec<Fixed>,
    rooms: Subscriptions,
    inbox: Inbox,
    /// Shard channels whose unsubscription was asked for.
    leaving: HashSet<Box<[u8]>>,
    /// Channels of the instance may have come to this node.
    has_moved: bool,
    /// Confirmed by name, and still to be told.
    confirmed: Vec<RoomName>,
    /// How often rooms of a slot were sent on since the last beat: nodes that name each other would keep them busy.
    sent_on: HashMap<u16, u32>,
    /// What is counted of the rooms.
    counted: u64,
}

/// What a subscriber is made of.
pub(super) struct SubscriberParts {
    pub(super) cluster: Arc<Cluster>,
    pub(super) node: Node,
    pub(super) instructions: mpsc::UnboundedReceiver<Instruction>,
    pub(super) returned: Option<mpsc::UnboundedSender<Wish>>,
    pub(super) fixed: Vec<Fixed>,
}

/// What has come of a batch.
struct Confirmation {
    confirmed: Vec<RoomName>,
    /// Those that are confirmed by their names, if they are.
    asked: Vec<RoomName>,
    /// What the node says of slots that others have.
    moved: Vec<Moved>,
    /// Redis does not want to.
    refused: Option<String>,
}

/// Why a connection is not served any more.
enum End {
    Retired,
    Lost(String),
}

impl Subscriber {
    pub(super) fn new(parts: SubscriberParts) -> Subscriber {
        let SubscriberParts { cluster, node, instructions, returned, fixed } = parts;
        let inbox = Inbox::new(Arc::clone(&cluster));
        let (rooms, leaving) = Default::default();
        let (confirmed, sent_on, counted, has_moved) = Default::default();
        Subscriber {
            cluster,
            node,
            instructions,
            returned,
            fixed,
            rooms,
            inbox,
            leaving,
            has_moved,
            confirmed,
            sent_on,
            counted,
        }
    }

    /// Connects again and again until it is not needed any more.
    pub(super) async fn run(mut self) {
        let cluster = Arc::clone(&self.cluster);
        let name = format!("{}-subscriber", cluster.client_name());
        let mut backoff = Backoff::default();
        let mut attempts = 0;
        loop {
            let opening = cluster.open(self.node.clone(), attempts, &name);
            attempts += 1;
            let reason = match self.while_taking_instructions(opening).await {
                None => break,
                Some(Err(error)) => error.to_string(),
                Some(Ok(link)) => {
                    let begun = Instant::now();
                    let end = self.serve(link).await;
                    cluster.counters.subscriber_reconnects.add(1);
                    if begun.elapsed() > GOOD_FOR {
                        backoff.reset();
                        attempts = 0;
                    }
                    match end {
                        End::Retired => break,
                        End::Lost(reason) => reason,
                    }
                }
            };
            self.on_down(&reason);
            if self.while_taking_instructions(cluster.health.rest(backoff.next(cluster.chance()))).await.is_none() {
                break;
            }
        }
        self.retire();
    }

    fn id(&self) -> RedisConnectionId {
        RedisConnectionId::Subscriber(self.node.clone())
    }

    fn on_up(&mut self, confirmed: Vec<Wish>) {
        let is_up = self.cluster.presence.set(&self.node, true);
        self.cluster.counters.subscriber_is_up.set(u64::from(is_up));
        self.cluster.health.on_up(&self.id());
        self.tell(confirmed);
    }

    fn on_down(&mut self, reason: &str) {
        self.cluster.presence.set(&self.node, false);
        self.cluster.counters.subscriber_is_up.set(0);
        self.cluster.health.on_down(self.id(), reason);
        self.cluster.topology_is_stale.notify_one();
    }

    /// What is still wanted is somebody else's from here on.
    fn retire(&mut self) {
        let wishes = self.rooms.give_up(|_| true);
        if let Some(returned) = &self.returned {
            wishes.into_iter().for_each(|wish| drop(returned.send(wish)));
        }
        self.count();
        let is_up = self.cluster.presence.forget(&self.node);
        self.cluster.counters.subscriber_is_up.set(u64::from(is_up));
        self.cluster.health.forget(&self.id());
    }

    /// Adds what is subscribed here to what is at other nodes.
    fn count(&mut self) {
        let gauge = &self.cluster.counters.subscriptions;
        let before = std::mem::replace(&mut self.counted, self.rooms.len() as u64);
        gauge.add(self.counted);
        gauge.take(before);
    }

    /// Tells the rooms' homes that messages to them come.
    fn tell(&mut self, confirmed: Vec<Wish>) {
        let mut of_shards = vec![Vec::new(); self.cluster.postboxes.len()];
        for (room, epoch) in confirmed {
            if let Some(of_home) = of_shards.get_mut(self.cluster.home_of(&room.name)) {
                of_home.push((room, epoch));
            }
        }
        for (shard, rooms) in self.cluster.postboxes.iter().zip(of_shards).filter(|(_, rooms)| !rooms.is_empty()) {
            shard.post(Letter::Bus(BusMail::Subscribed(rooms)));
        }
        self.count();
    }

    /// Does something else, while what is wanted changes. `None`: this subscriber is not needed any more.
    async fn while_taking_instructions<T>(&mut self, something: impl Future<Output = T>) -> Option<T> {
        tokio::pin!(something);
        loop {
            tokio::select! {
                biased;
                output = &mut something => return Some(output),
                instruction = self.instructions.recv() => {
                    // There is nobody to tell: it is told when the connection stands.
                    self.take_instruction(instruction?);
                }
            }
        }
    }

    /// Notes an instruction. `Some`: it is fulfilled already.
    fn take_instruction(&mut self, instruction: Instruction) -> Option<Wish> {
        match instruction {
            Instruction::Want(room, epoch) => self.rooms.want(room, epoch),
            Instruction::Leave(room) => {
                self.rooms.leave(room, Instant::now());
                None
            }
            Instruction::Settled(join, outcome) => {
                self.cluster.joins.end(join, outcome);
                None
            }
            Instruction::Relocate => None,
        }
    }

    async fn serve(&mut self, mut link: RedisConnection) -> End {
        let address = &link.address.clone();
        let (done, mut finished) = mpsc::unbounded_channel();
        self.rooms.restart();
        self.leaving.clear();
        // What is confirmed before all is, is told when all is.
        let mut confirmed = Some(Vec::new());
        self.subscribe_fixed(&link, address, &done);
        let mut under_way = 1;
        let mut elsewhere = Vec::new();
        let mut pulse = Pulse::new(&self.cluster, &link);
        loop {
            if std::mem::take(&mut self.has_moved) {
                self.subscribe_fixed(&link, address, &done);
                under_way += 1;
            }
            while under_way < BATCHES_MAX && self.rooms.has_unsent() {
                under_way += usize::from(self.subscribe_some(&link, &done));
            }
            if under_way == 0
                && let Some(confirmed) = confirmed.take()
            {
                self.on_up(confirmed);
            }
            let may_take = self.inbox.may_take();
            // What there may be most of comes last.
            tokio::select! {
                biased;
                Some(batch) = finished.recv() => {
                    under_way -= 1;
                    let Confirmation { confirmed: rooms, asked, moved, refused } = batch;
                    if let Some(reason) = refused {
                        return End::Lost(reason);
                    }
                    elsewhere.extend(self.send_on(asked, moved));
                    let wishes = self.rooms.confirm(rooms);
                    match &mut confirmed {
                        Some(confirmed) => confirmed.extend(wishes),
                        None => self.tell(wishes),
                    }
                }
                instruction = self.instructions.recv() => {
                    let Some(instruction) = instruction else { return End::Retired };
                    self.take_instructions(instruction, &link, address, confirmed.as_mut());
                }
                voice = pulse.next() => {
                    match voice {
                        Err(reason) => return End::Lost(reason),
                        Ok(voice) => self.cluster.health.on_voice(&self.id(), voice),
                    }
                    let expired = self.rooms.expire(Instant::now());
                    self.unsubscribe(expired, &link);
                    self.rooms.ask_again(std::mem::take(&mut elsewhere));
                    self.sent_on.clear();
                }
                push = link.pushes.recv(), if may_take => {
                    let Some(push) = push else { return End::Lost(closed()) };
                    if let Err(reason) = self.take_pushes(push, &mut link) {
                        return End::Lost(reason);
                    }
                    let named = std::mem::take(&mut self.confirmed);
                    let wishes = self.rooms.confirm(named);
                    match &mut confirmed {
                        Some(confirmed) => confirmed.extend(wishes),
                        None if wishes.is_empty() => {}
                        None => self.tell(wishes),
                    }
                    tokio::task::yield_now().await;
                }
                () = tokio::time::sleep(LOOK_AGAIN), if !may_take => {}
            }
        }
    }

    /// Takes all instructions that there are, so that what is wanted in one turn is one command.
    fn take_instructions(
        &mut self,
        first: Instruction,
        link: &RedisConnection,
        address: &Address,
        confirmed: Option<&mut Vec<Wish>>,
    ) {
        let mut fulfilled = Vec::new();
        let mut next = Some(first);
        while let Some(instruction) = next {
            if matches!(instruction, Instruction::Relocate) {
                self.relocate(link, address);
            }
            fulfilled.extend(self.take_instruction(instruction));
            next = self.instructions.try_recv().ok();
        }
        match confirmed {
            Some(confirmed) => confirmed.extend(fulfilled),
            None => self.tell(fulfilled),
        }
    }

    /// Looks at a message and those behind it.
    fn take_pushes(&mut self, first: PushInfo, link: &mut RedisConnection) -> Result<(), String> {
        let mut next = Some(first);
        let (mut count, mut used) = (0, 0);
        let mut result = Ok(());
        while let Some(push) = next {
            used += size_of_push(&push);
            count += 1;
            match push.kind {
                PushKind::Message | PushKind::PMessage | PushKind::SMessage => self.inbox.take(push, &self.rooms),
                PushKind::Disconnection => result = Err(closed()),
                PushKind::SSubscribe => {
                    self.was_leaving(&push);
                    self.confirmed
                        .extend(named_in(&push).into_iter().flat_map(|channel| self.cluster.rooms_of(channel)));
                }
                PushKind::SUnsubscribe if !self.was_leaving(&push) => {
                    // Its slot has gone to another node: which one, this one says when it is asked for it.
                    self.cluster.topology_is_stale.notify_one();
                    self.lose(named_in(&push).unwrap_or_default());
                }
                _ => {}
            }
            let goes_on = count < MESSAGES_IN_A_ROW && used < BYTES_IN_A_ROW;
            next = if goes_on { link.pushes.try_recv().ok() } else { None };
        }
        self.inbox.flush();
        link.flow.used(used);
        result
    }

    /// Redis has ended the subscription of a shard channel by itself.
    fn lose(&mut self, channel: &[u8]) {
        // Whatever is not known to be a room's may be the instance's.
        self.has_moved |= self.is_fixed(channel) || self.cluster.rooms_of(channel).next().is_none();
        self.cluster.rooms_of(channel).for_each(|room| self.rooms.lose(room));
    }

    fn is_fixed(&self, name: &[u8]) -> bool {
        let is_this = |fixed: &Fixed| matches!(fixed, Fixed::Channel(channel) if channel.as_bytes() == name);
        self.fixed.iter().any(is_this)
    }

    /// Whether messages on a channel are for others, too: names of rooms and of namespaces may make the same one.
    fn is_needed(&self, channel: &[u8]) -> bool {
        let is_subscribed = |room: &RoomName| self.rooms.has(room) && self.cluster.channel_of(room).is_some();
        self.is_fixed(channel) || self.cluster.rooms_of(channel).any(|room| is_subscribed(&room))
    }

    /// Gives rooms that were asked for to the nodes that have their slots, as this one says. Gives back those of which nothing
    /// is known: if they are not confirmed by now, they are asked for once more.
    fn send_on(&mut self, asked: Vec<RoomName>, moved: Vec<Moved>) -> Vec<RoomName> {
        let Some(returned) = self.returned.clone().filter(|_| !moved.is_empty()) else { return asked };
        let mut slots = HashSet::new();
        for moved in moved {
            let times = self.sent_on.entry(moved.slot).or_default();
            *times += 1;
            if *times <= SENT_ON_MAX {
                slots.insert(moved.slot);
                self.cluster.on_moved(moved);
            }
        }
        let goes = |room: &RoomName| {
            self.cluster.channel_of(room).is_some_and(|channel| slots.contains(&slot(channel.as_bytes())))
        };
        let (gone, unknown) = asked.into_iter().partition(goes);
        for wish in self.rooms.give_up_unconfirmed(gone) {
            let _ = returned.send(wish);
        }
        self.count();
        unknown
    }

    fn was_leaving(&mut self, push: &PushInfo) -> bool {
        named_in(push).is_some_and(|channel| self.leaving.remove(channel))
    }

    /// Whether this channel is to be had at this node.
    fn is_here(&self, channel: &str, address: &Address) -> bool {
        match &*self.cluster.topology.borrow() {
            Topology::Slots(map) if self.cluster.adapter() == Adapter::Sharded => map.owner(channel) == Some(address),
            _ => true,
        }
    }

    /// Gives up rooms whose channels belong to other nodes now.
    fn relocate(&mut self, link: &RedisConnection, address: &Address) {
        let Some(returned) = self.returned.clone() else { return };
        let cluster = Arc::clone(&self.cluster);
        let topology = cluster.topology.borrow().clone();
        let Topology::Slots(map) = topology else { return };
        let is_elsewhere = |room: &RoomName| {
            cluster.channel_of(room).is_some_and(|channel| map.owner(&channel).is_some_and(|owner| owner != address))
        };
        let moved = self.rooms.give_up(is_elsewhere);
        self.unsubscribe(moved.iter().map(|(room, _)| room.clone()).collect(), link);
        moved.into_iter().for_each(|wish| drop(returned.send(wish)));
        self.has_moved = true;
    }

    fn subscribe_fixed(&self, link: &RedisConnection, address: &Address, done: &mpsc::UnboundedSender<Confirmation>) {
        let (mut channels, mut patterns) = (Vec::new(), Vec::new());
        for fixed in &self.fixed {
            match fixed {
                Fixed::Channel(channel) if self.is_here(channel, address) => channels.push(channel.clone()),
                Fixed::Channel(_) => {}
                Fixed::Pattern(pattern) => patterns.push(pattern.clone()),
            }
        }
        let (mut connection, flow, done) = (link.connection.clone(), Arc::clone(&link.flow), done.clone());
        let (cluster, address) = (Arc::clone(&self.cluster), address.clone());
        tokio::task::spawn_local(async move {
            let results = subscribe(&mut connection, cluster.adapter(), &channels).await;
            let Complaints { moved, is_stale, mut refused } = complaints(results, &address);
            moved.into_iter().for_each(|moved| cluster.on_moved(moved));
            if is_stale {
                cluster.topology_is_stale.notify_one();
            }
            if refused.is_none() && !patterns.is_empty() {
                refused = connection.psubscribe(&patterns).await.err().map(|error| error.to_string());
            }
            flow.answered();
            let _ = done.send(Confirmation { confirmed: Vec::new(), asked: Vec::new(), moved: Vec::new(), refused });
        });
    }

    /// Asks for the next rooms. Says whether there were some.
    fn subscribe_some(&mut self, link: &RedisConnection, done: &mpsc::UnboundedSender<Confirmation>) -> bool {
        let batch = self.rooms.next_batch(BATCH_MAX);
        if batch.is_empty() {
            return false;
        }
        let (mut rooms, mut channels) = (Vec::new(), Vec::new());
        // Messages to the others come on the channel of their namespace.
        let mut confirmed = Vec::new();
        for room in batch {
            match self.cluster.channel_of(&room) {
                Some(channel) => {
                    channels.push(channel);
                    rooms.push(room);
                }
                None => confirmed.push(room),
            }
        }
        let (mut connection, flow, done) = (link.connection.clone(), Arc::clone(&link.flow), done.clone());
        let (cluster, address) = (Arc::clone(&self.cluster), link.address.clone());
        tokio::task::spawn_local(async move {
            let results = subscribe(&mut connection, cluster.adapter(), &channels).await;
            let Complaints { moved, is_stale, refused } = complaints(results, &address);
            if is_stale {
                cluster.topology_is_stale.notify_one();
            }
            let mut batch = Confirmation { confirmed, asked: Vec::new(), moved, refused };
            match cluster.adapter() {
                Adapter::Classic | Adapter::Streams => batch.confirmed.extend(rooms),
                // What Redis says unasked is taken for the answer to a command, so that answers may be another's.
                Adapter::Sharded => batch.asked = rooms,
            }
            flow.answered();
            let _ = done.send(batch);
        });
        true
    }

    fn unsubscribe(&mut self, rooms: Vec<RoomName>, link: &RedisConnection) {
        let mut channels: Vec<_> = rooms.iter().filter_map(|room| self.cluster.channel_of(room)).collect();
        channels.retain(|channel| !self.is_needed(channel.as_bytes()));
        channels.sort_unstable();
        channels.dedup();
        let adapter = self.cluster.adapter();
        if adapter == Adapter::Sharded {
            self.leaving.extend(channels.iter().map(|channel| channel.as_bytes().into()));
        }
        for batch in channels.chunks(BATCH_MAX) {
            let batch = batch.to_vec();
            let (mut connection, flow): (_, Arc<Flow>) = (link.connection.clone(), Arc::clone(&link.flow));
            tokio::task::spawn_local(async move {
                // If it fails, the connection is lost or the messages are nobody's.
                match adapter {
                    Adapter::Classic | Adapter::Streams => drop(connection.unsubscribe(&batch).await),
                    Adapter::Sharded => drop(pipeline(&mut connection, "SUNSUBSCRIBE", &batch).await),
                }
                flow.answered();
            });
        }
        self.count();
    }
}

/// The channel that a push is about.
fn named_in(push: &PushInfo) -> Option<&[u8]> {
    if let Some(Value::BulkString(channel)) = push.data.first() { Some(channel) } else { None }
}

fn closed() -> String {
    "the connection was closed".to_owned()
}
