//! `Neighbours`: the other instances that requests of their sessions can be brought to: each says every few seconds that it is
//! there, and how it is reached.

use std::collections::BTreeMap;
use std::str::FromStr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use redis::{Value, cmd};
use serde::{Deserialize, Serialize};
use sockring_protocol::adapter::Adapter;
use tokio::sync::{Notify, oneshot};
use tokio::time::{Instant, timeout};

use crate::mailbox::Letter;
use crate::shard::{BusMail, Instance};

use super::Cluster;
use super::claim::{self, claim_of};
use super::publisher::{PublishError, To};
use super::seldom::Seldom;
use super::settings::Address;
use super::topology::Topology;

/// Between two announcements.
const ANNOUNCED_EVERY: Duration = Duration::from_secs(5);
/// Who was not heard for so long, while we hear Redis, is gone.
const DEAD_AFTER: Duration = Duration::from_secs(15);
/// Between two looks at whether something is due.
const TICK: Duration = Duration::from_millis(250);
/// An announcement that comes from a server of ours is shorter.
const ANNOUNCEMENT_BYTES_MAX: usize = 1024;
/// Sids tell more of them apart; nobody runs so many.
const NEIGHBOURS_MAX: usize = 4096;

/// What an instance says of itself, in JSON.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Hail {
    /// What its sids begin with.
    instance: Box<str>,
    /// By which its starts are told apart.
    run: Box<str>,
    /// For people.
    name: Box<str>,
    /// Where tunnels to it may be dialled; `None`: it is reached over Redis.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    address: Option<Box<str>>,
    /// It ends.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    bye: bool,
}

/// What Redis will say of something: how many it has sent it to.
pub(super) type Published = oneshot::Receiver<Result<Value, PublishError>>;

/// How an instance is reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Neighbour {
    /// This start of it.
    pub run: Box<str>,
    /// `None`: over Redis alone.
    pub address: Option<Address>,
}

#[derive(Debug)]
struct Known {
    neighbour: Neighbour,
    heard_at: Instant,
}

/// Those that were heard.
#[derive(Debug, Default)]
pub(super) struct Neighbours {
    known: Mutex<BTreeMap<u32, Known>>,
    /// Somebody is new, and has not heard of us.
    wanted: Notify,
    duplicates: Seldom,
}

/// What has come of an announcement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Heard {
    Again,
    /// It is new, or has been started again, or has ended.
    Change,
}

impl Neighbours {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<u32, Known>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn find(&self, instance: Instance) -> Option<Neighbour> {
        self.lock().get(&instance.number()).map(|known| known.neighbour.clone())
    }

    pub(super) fn len(&self) -> usize {
        self.lock().len()
    }

    fn all(&self) -> Arc<[Instance]> {
        self.lock().keys().copied().map(Instance::new).collect()
    }

    fn hear(&self, instance: Instance, announcement: &Hail, now: Instant) -> Heard {
        let mut known = self.lock();
        let number = instance.number();
        let last = known.get(&number).map(|known| known.neighbour.run.clone());
        if announcement.bye {
            let is_last = last.as_ref() == Some(&announcement.run);
            return if is_last && known.remove(&number).is_some() { Heard::Change } else { Heard::Again };
        }
        if last.is_none() && known.len() >= NEIGHBOURS_MAX {
            return Heard::Again;
        }
        let address = announcement.address.as_ref().and_then(|address| Address::from_str(address).ok());
        let neighbour = Neighbour { run: announcement.run.clone(), address };
        let is_same = known.get(&number).is_some_and(|known| known.neighbour == neighbour);
        known.insert(number, Known { neighbour, heard_at: now });
        if is_same { Heard::Again } else { Heard::Change }
    }

    /// Who was silent for too long is forgotten; says whether somebody was.
    fn expire(&self, now: Instant) -> bool {
        let mut known = self.lock();
        let before = known.len();
        known.retain(|_, known| now < known.heard_at + DEAD_AFTER);
        known.len() < before
    }

    /// Nobody could be heard before.
    fn pardon(&self, now: Instant) {
        self.lock().values_mut().for_each(|known| known.heard_at = now);
    }
}

impl Cluster {
    /// Whether requests of other instances' sessions are brought to them.
    pub(super) fn has_tunnels(&self) -> bool {
        self.settings.tunnels.tunnels_max > 0
    }

    /// How this instance is reached, if it is there.
    pub fn neighbour(&self, instance: Instance) -> Option<Neighbour> {
        self.neighbours.find(instance)
    }

    /// How many others there are.
    pub fn neighbours(&self) -> usize {
        self.neighbours.len()
    }

    /// Where all instances say that they are there.
    pub(super) fn channel_of_all(&self) -> String {
        format!("{}-link#", self.settings.prefix)
    }

    /// Where an instance is told what is for it alone.
    pub(super) fn channel_of_instance(&self, instance: Instance) -> String {
        format!("{}-link#{}#", self.settings.prefix, instance.prefix())
    }

    /// Publishes beside all that has an adapter's form. What gets lost its receiver notices.
    pub(super) fn publish_bytes(&self, channel: String, body: Vec<u8>) -> Option<Published> {
        let bytes = channel.len() + body.len();
        let verb = if self.adapter() == Adapter::Sharded { "SPUBLISH" } else { "PUBLISH" };
        let command = cmd(verb).arg(&channel).arg(body).take();
        let to = if self.adapter() == Adapter::Sharded { To::OwnerOf(channel) } else { To::Anybody };
        self.backlog.send(command, to, bytes).ok()
    }

    /// Whether an answer to `publish_bytes` counts all who hear a channel: not so a node's of a cluster whose channels are not
    /// of one node.
    pub(super) fn counts_all(&self) -> bool {
        self.adapter() == Adapter::Sharded || *self.topology.borrow() == Topology::Single
    }

    fn announcement(&self, bye: bool) -> Vec<u8> {
        let announcement = Hail {
            instance: self.instance.prefix().into(),
            run: self.run.clone(),
            name: self.name.clone(),
            address: self.settings.tunnels.announced().map(Into::into),
            bye,
        };
        serde_json::to_vec(&announcement).unwrap_or_default()
    }

    /// The last word of an instance, for whoever publishes it.
    pub(super) fn farewell(&self) -> (String, Vec<u8>) {
        (self.channel_of_all(), self.announcement(true))
    }

    /// Takes what came on a channel, if it is one of instances among each other.
    pub(super) fn take_from_neighbour(self: &Arc<Self>, channel: &[u8], body: &[u8]) -> bool {
        let Some(rest) = channel.strip_prefix(self.settings.prefix.as_bytes()) else { return false };
        let Some(rest) = rest.strip_prefix(b"-link#") else { return false };
        match rest.is_empty() {
            true => self.hear(body),
            false => self.lines.take(self, body),
        }
        true
    }

    fn hear(&self, body: &[u8]) {
        if body.len() > ANNOUNCEMENT_BYTES_MAX {
            return;
        }
        let Ok(announcement) = serde_json::from_slice::<Hail>(body) else { return };
        let Some(instance) = Instance::of_prefix(&announcement.instance) else { return };
        if announcement.run == self.run {
            return;
        }
        if instance == self.instance {
            return self.tell_of_duplicate(&announcement.name);
        }
        if self.neighbours.hear(instance, &announcement, Instant::now()) == Heard::Change {
            tracing::debug!(name = announcement.name, bye = announcement.bye, "heard of another instance");
            if !announcement.bye {
                self.neighbours.wanted.notify_one();
            }
            self.lines.reset_all_but(instance, self.neighbours.find(instance).map(|known| known.run).as_deref());
            self.tell_neighbours();
        }
    }

    /// Each would be brought what is for the other one.
    pub(super) fn tell_of_duplicate(&self, name: &str) {
        if self.neighbours.duplicates.is_due(std::time::Instant::now()) {
            tracing::error!(
                instance = self.instance.prefix(),
                other = name,
                "another instance has the same `instance`: sessions of either may be unknown; give each its own"
            );
        }
    }

    fn tell_neighbours(&self) {
        let all = self.neighbours.all();
        for shard in &self.postboxes {
            shard.post(Letter::Bus(BusMail::Neighbours(Arc::clone(&all))));
        }
    }
}

/// Says that we are there, and notices who is not.
pub(super) async fn keep(cluster: Arc<Cluster>) {
    let Neighbours { wanted, .. } = &cluster.neighbours;
    let (mut was_up, mut due_at) = (false, Instant::now());
    loop {
        let is_new = timeout(TICK, wanted.notified()).await.is_ok();
        let now = Instant::now();
        let is_up = cluster.backlog.is_up() && cluster.presence.is_up();
        if is_up && !was_up {
            cluster.neighbours.pardon(now);
        }
        if is_up && (is_new || !was_up || now >= due_at) {
            due_at = now + ANNOUNCED_EVERY;
            drop(cluster.publish_bytes(cluster.channel_of_all(), cluster.announcement(false)));
            tokio::task::spawn_local(claim::renew(Arc::clone(&cluster), claim_of(&cluster.settings, cluster.instance)));
        }
        if is_up && cluster.neighbours.expire(now) {
            cluster.tell_neighbours();
        }
        cluster.lines.forget_old(now);
        was_up = is_up;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn announcement(run: &str, bye: bool) -> Hail {
        let address = Some("[::1]:7000".into());
        Hail { instance: "ABC".into(), run: run.into(), name: "one:8080".into(), address, bye }
    }

    #[test]
    fn who_is_heard_is_known_until_it_is_silent_for_too_long_or_says_that_it_ends() {
        let (neighbours, now) = (Neighbours::default(), Instant::now());
        let instance = Instance::of_prefix("ABC").unwrap();
        let hear = |run, bye, at| neighbours.hear(instance, &announcement(run, bye), at);
        assert_eq!((hear("1", false, now), hear("1", false, now)), (Heard::Change, Heard::Again));
        let known = neighbours.find(instance).unwrap();
        assert_eq!(known.address, Some(Address { host: "::1".to_owned(), port: 7000 }));
        assert!(!neighbours.expire(now + DEAD_AFTER - TICK));
        neighbours.pardon(now + DEAD_AFTER);
        assert!(!neighbours.expire(now + DEAD_AFTER * 2 - TICK) && neighbours.expire(now + DEAD_AFTER * 2));
        assert_eq!((neighbours.find(instance), neighbours.len()), (None, 0));
        hear("1", false, now);
        assert_eq!(hear("2", false, now), Heard::Change, "it was started again");
        assert_eq!(hear("1", true, now), Heard::Again, "that was the one before");
        assert_eq!((hear("2", true, now), neighbours.all().len()), (Heard::Change, 0));
    }

    #[test]
    fn an_announcement_has_only_what_there_is_to_say() {
        let plain = Hail { address: None, ..announcement("1", false) };
        let text = serde_json::to_string(&plain).unwrap();
        assert_eq!(text, r#"{"instance":"ABC","run":"1","name":"one:8080"}"#);
        assert_eq!(serde_json::from_str::<Hail>(&text).unwrap(), plain);
        let bye = announcement("1", true);
        assert_eq!(serde_json::from_str::<Hail>(&serde_json::to_string(&bye).unwrap()).unwrap(), bye);
    }
}
