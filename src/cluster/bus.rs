//! `CoreBus`: the cluster as a worker sees it, and the connections behind it.

use std::collections::HashMap;
use std::sync::Arc;

use sockring_protocol::adapter::Adapter;

use super::settings::HeardRooms;
use tokio::sync::mpsc;

use crate::bus::Bus;
use crate::shard::{
    Acknowledgement, GivenEvent, KeptSession, MailboxQuestion, ReceivedEvents, RoomName, SessionQuestion, USER_PREFIX,
};

use super::Cluster;
use super::health::{Node, RedisConnectionId};
use super::kept;
use super::reader::Reader;
use super::sessions;
use super::subscriber::{Fixed, Instruction, Subscriber, SubscriberParts};
use super::subscriptions::Wish;
use super::topology::{SlotMap, Topology};

/// One core's.
#[derive(Debug)]
pub struct CoreBus {
    cluster: Arc<Cluster>,
    core: usize,
}

impl CoreBus {
    pub(super) fn new(cluster: Arc<Cluster>, core: usize) -> CoreBus {
        CoreBus { cluster, core }
    }
}

impl Bus for CoreBus {
    fn subscribe(&mut self, room: RoomName, epoch: u32) {
        self.cluster.instruct(Instruction::Want(room, epoch));
    }

    fn unsubscribe(&mut self, room: RoomName) {
        self.cluster.joins.forget(&room);
        self.cluster.instruct(Instruction::Leave(room));
    }

    fn acknowledge(&mut self, answer: Acknowledgement) {
        self.cluster.acknowledge(answer);
    }

    fn find_session(&mut self, question: SessionQuestion) {
        sessions::find(&self.cluster, self.core, question);
    }

    fn keep_session(&mut self, kept: KeptSession) {
        sessions::keep(&self.cluster, &kept);
    }

    fn read_kept(&mut self, question: MailboxQuestion) {
        kept::read(&self.cluster, self.core, question);
    }

    fn confirm_kept(&mut self, received: ReceivedEvents) {
        kept::confirm(&self.cluster, self.core, received);
    }

    fn give_kept(&mut self, given: GivenEvent) {
        kept::give(&self.cluster, self.core, given);
    }
}

/// Starts to listen for the whole instance, on one core: what one sender sends comes in its order over one connection only,
/// and goes on in it, from mailbox to mailbox. With the sharded adapter on a Redis Cluster there is one for each master, and
/// what is in a stream comes on a connection of its own.
pub(super) fn listen(cluster: Arc<Cluster>, instructions: mpsc::UnboundedReceiver<Instruction>) {
    let fixed = cluster.fixed();
    for stream in cluster.streams() {
        tokio::task::spawn_local(Reader::new(Arc::clone(&cluster), stream).run());
    }
    match cluster.adapter() {
        Adapter::Classic | Adapter::Streams => {
            let parts = SubscriberParts { cluster, node: Node::Any, instructions, returned: None, fixed };
            tokio::task::spawn_local(Subscriber::new(parts).run());
        }
        Adapter::Sharded => {
            let spreader = Spreader { cluster, fixed, subscribers: HashMap::new() };
            tokio::task::spawn_local(spreader.run(instructions));
        }
    }
}

impl Cluster {
    /// What is subscribed once per instance.
    fn fixed(&self) -> Vec<Fixed> {
        let mut fixed = Vec::new();
        if self.has_tunnels() {
            let channels = [self.channel_of_all(), self.channel_of_instance(self.instance)];
            fixed.extend(channels.map(Fixed::Channel));
        }
        for (namespace, uid) in self.namespaces.iter().zip(&self.uids) {
            fixed.extend(self.channels.of_instance(namespace, uid).into_iter().map(Fixed::Channel));
            match (self.adapter(), self.settings.heard_rooms) {
                (Adapter::Classic, HeardRooms::All) => {
                    let patterns = self.channels.patterns_of_rooms_but(namespace, USER_PREFIX);
                    fixed.extend(patterns.into_iter().map(Fixed::Pattern));
                }
                _ => {
                    fixed.extend(self.channels.pattern_of_sids(namespace, &self.instance.prefix()).map(Fixed::Pattern))
                }
            }
        }
        fixed
    }

    /// Tells the subscriber what is wanted of it.
    pub(super) fn instruct(&self, instruction: Instruction) {
        // Who takes instructions lives as long as the runtime.
        let _ = self.instructions.send(instruction);
    }
}

/// With the sharded adapter: gives each room to the connection to the node that has its channel.
struct Spreader {
    cluster: Arc<Cluster>,
    fixed: Vec<Fixed>,
    subscribers: HashMap<Node, mpsc::UnboundedSender<Instruction>>,
}

impl Spreader {
    async fn run(mut self, mut instructions: mpsc::UnboundedReceiver<Instruction>) {
        let mut topology = self.cluster.topology.subscribe();
        // It may be known already.
        topology.mark_changed();
        let (returned, mut homeless) = mpsc::unbounded_channel::<Wish>();
        // Without a map nobody knows where to go: instructions wait, bounded by the rooms that there are.
        let mut waiting: HashMap<RoomName, u32> = HashMap::new();
        loop {
            tokio::select! {
                biased;
                changed = topology.changed() => {
                    if changed.is_err() {
                        return;
                    }
                    let known = topology.borrow_and_update().clone();
                    self.relocate(&known, &returned);
                    for (room, epoch) in std::mem::take(&mut waiting) {
                        self.want(room, epoch, &returned, &mut waiting);
                    }
                }
                Some((room, epoch)) = homeless.recv() => self.want(room, epoch, &returned, &mut waiting),
                instruction = instructions.recv() => match instruction {
                    None => return,
                    Some(Instruction::Want(room, epoch)) => self.want(room, epoch, &returned, &mut waiting),
                    Some(Instruction::Leave(room)) => {
                        waiting.remove(&room);
                        // It may be on its way from one to another.
                        for subscriber in self.subscribers.values() {
                            let _ = subscriber.send(Instruction::Leave(room.clone()));
                        }
                    }
                    Some(Instruction::Settled(join, outcome)) => self.cluster.joins.end(join, outcome),
                    Some(Instruction::Relocate) => {}
                },
            }
        }
    }

    fn want(
        &mut self,
        room: RoomName,
        epoch: u32,
        returned: &mpsc::UnboundedSender<Wish>,
        waiting: &mut HashMap<RoomName, u32>,
    ) {
        match self.node_of(&room) {
            None => drop(waiting.insert(room, epoch)),
            Some(node) => drop(self.subscriber(node, returned).send(Instruction::Want(room, epoch))),
        }
    }

    /// Who has a room's channel; `None`: not known.
    fn node_of(&self, room: &RoomName) -> Option<Node> {
        match &*self.cluster.topology.borrow() {
            Topology::Unknown => None,
            Topology::Single => Some(Node::Any),
            Topology::Slots(map) => match self.cluster.channel_of(room) {
                Some(channel) => map.owner(&channel).map(Node::at),
                // Its messages come on a channel that is subscribed anyway.
                None => map.masters().first().map(Node::at),
            },
        }
    }

    fn subscriber(
        &mut self,
        node: Node,
        returned: &mpsc::UnboundedSender<Wish>,
    ) -> &mpsc::UnboundedSender<Instruction> {
        let (cluster, fixed) = (&self.cluster, &self.fixed);
        self.subscribers.entry(node).or_insert_with_key(|node| {
            let (sender, instructions) = mpsc::unbounded_channel();
            let (cluster, returned) = (Arc::clone(cluster), Some(returned.clone()));
            let fixed = fixed.clone();
            let parts = SubscriberParts { cluster, node: node.clone(), instructions, returned, fixed };
            tokio::task::spawn_local(Subscriber::new(parts).run());
            sender
        })
    }

    /// The nodes are others, or have other slots.
    fn relocate(&mut self, topology: &Topology, returned: &mpsc::UnboundedSender<Wish>) {
        match topology {
            Topology::Unknown => {}
            Topology::Single => {
                self.subscriber(Node::Any, returned);
            }
            Topology::Slots(map) => {
                // Subscribers at nodes that are no masters any more end, and give back what they had.
                self.subscribers.retain(|node, _| map.masters().iter().any(|master| Node::at(master) == *node));
                for node in self.nodes_of_fixed(map) {
                    self.subscriber(node, returned);
                }
                for subscriber in self.subscribers.values() {
                    let _ = subscriber.send(Instruction::Relocate);
                }
                // The nodes are known, whichever of them are needed.
                let is_up = self.cluster.presence.set(&Node::Any, true);
                self.cluster.counters.subscriber_is_up.set(u64::from(is_up));
                self.cluster.health.forget(&RedisConnectionId::Subscriber(Node::Any));
            }
        }
    }

    /// The nodes that have channels which the instance subscribes once.
    fn nodes_of_fixed(&self, map: &SlotMap) -> Vec<Node> {
        let channels = self.fixed.iter().filter_map(|fixed| match fixed {
            Fixed::Channel(channel) => map.owner(channel),
            Fixed::Pattern(_) => None,
        });
        channels.map(Node::at).collect()
    }
}
