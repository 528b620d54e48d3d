//! Kept events and keys of emits in Redis, for all instances.
//!
//! ```text
//!   sockring:{<channel>}:kept         a list: one entry for each event that waits for a user, in order
//!   sockring:{<channel>}:once:<hash>  the event that has come under a key, and what tells it from others
//! ```
//!
//! The channel is the one on which the event is published, or the stream: so in a Redis Cluster one node has all that one script
//! needs. What an entry has behind its first 35 characters is the event as the sharded adapter would publish it.

use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use redis::{Cmd, Value, cmd};
use sha2::{Digest, Sha256};
use sockring_protocol::adapter::{self, Adapter, Broadcast, Channels, Message, Outgoing};
use tokio::time::Instant;

use crate::mailbox::Letter;
use crate::shard::{
    BusMail, ConfirmAnswer, EventId, GiveAnswer, GivenEvent, Keep, Keeping, KeptBy, MailboxQuestion, OnceKey,
    ReceivedEvents, RoomName, Verdict,
};

use super::publisher::{PublishError, To};
use super::scripts::{CONFIRM, KEEP};
use super::{Cluster, PUBLISHED_WITHIN, Sending, Sent};

/// Of an entry: the id, 13 digits of its end, and what stands for its conflate key.
const ENTRY_HEAD_BYTES: usize = 35;
/// In place of a conflate key.
const NO_CONFLATE: &str = "-----------";
const CONFLATE_BYTES: usize = 8;

/// What a script answers.
mod code {
    pub(super) const DONE: i64 = 0;
    pub(super) const REPEATED: i64 = 1;
    pub(super) const ANOTHER_EVENT: i64 = 2;
    pub(super) const FULL: i64 = 3;
}

/// An emit of which Redis is to remember something.
#[derive(Clone, Debug)]
pub struct EmitToKeep {
    /// To one user, if it is kept.
    pub broadcast: Broadcast,
    pub id: EventId,
    pub keep: Option<Keep>,
    pub key: Option<OnceKey>,
    pub publishing: Publishing,
    pub now_unix_ms: u64,
}

/// Whether other instances hear of an emit when it is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Publishing {
    Along,
    /// They hear of it another way.
    Not,
}

/// What Redis has said to an emit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeptAnswer {
    pub verdict: Verdict,
    /// `None`: it was not to be kept, or is not new.
    pub keeping: Option<Keeping>,
}

/// Why Redis has not said anything to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeepError {
    /// It has not heard of it.
    Unheard,
    /// It may have kept it and published it all the same.
    Unknown,
    /// It has done nothing of it.
    Refused,
}

/// Whether the script may have run for an event before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum KeepAttempt {
    First,
    Again,
}

/// Where something about a room is kept.
struct MailboxPlace {
    mailbox: String,
    /// What keys of emits begin with.
    once: String,
    /// In a Redis Cluster the channel may be on another node.
    has_channel: bool,
}

/// A script on its way.
struct AskedScript {
    sent: Sent,
    id: EventId,
    is_kept: bool,
    /// What has to be published by itself.
    separately: Option<(Box<str>, Message)>,
}

impl Cluster {
    /// Redis judges several emits, keeps them and publishes them, in their order; says of each what came of it.
    pub async fn keep_all(&self, emits: Vec<EmitToKeep>) -> Vec<Result<KeptAnswer, KeepError>> {
        let deadline = self.deadline();
        let asked: Vec<_> = emits.into_iter().map(|emit| self.ask_to_keep(emit, KeepAttempt::First)).collect();
        let mut answers = Vec::with_capacity(asked.len());
        for asked in asked {
            answers.push(match asked {
                Ok(asked) => self.kept(asked, deadline).await,
                Err(error) => Err(error),
            });
        }
        answers
    }

    /// What is kept for a user in a namespace, in order; `None`: that is not known.
    pub async fn kept_for(&self, namespace: &str, room: &str) -> Option<Vec<Broadcast>> {
        let MailboxPlace { mailbox, .. } = self.place_of(namespace, &[room.into()]);
        let command = cmd("LRANGE").arg(&mailbox).arg(0).arg(-1).take();
        let answer = self.backlog.ask(command, To::OwnerOf(mailbox), PUBLISHED_WITHIN).await.ok()?;
        let Value::Array(entries) = answer else { return None };
        self.counters.mailboxes_read.add(1);
        let channels = mailbox_channels(&self.namespaces);
        let channel = channels.of_namespace(namespace);
        let mut kept = Vec::with_capacity(entries.len());
        for entry in entries {
            let Value::BulkString(entry) = entry else { continue };
            let body = entry.get(ENTRY_HEAD_BYTES..).unwrap_or_default();
            match adapter::decode(&channels, channel.as_bytes(), body).map(|envelope| envelope.message) {
                Ok(Message::Broadcast(broadcast)) => kept.push(broadcast),
                Ok(_) => {}
                Err(error) => self.counters.malformed(error),
            }
        }
        Some(kept)
    }

    /// Takes events out of a user's mailbox; says how many were there. `None`: Redis may not have heard of it.
    pub async fn unkeep(&self, namespace: &str, room: &str, ids: &[EventId]) -> Option<u64> {
        let MailboxPlace { mailbox, .. } = self.place_of(namespace, &[room.into()]);
        let mut command = CONFIRM.command(&[&mailbox]);
        ids.iter().for_each(|id| {
            command.arg(id.text());
        });
        match self.backlog.ask(command, To::OwnerOf(mailbox), PUBLISHED_WITHIN).await {
            Ok(Value::Int(count)) => u64::try_from(count).ok(),
            _ => None,
        }
    }

    fn ask_to_keep(&self, emit: EmitToKeep, attempt: KeepAttempt) -> Result<AskedScript, KeepError> {
        let EmitToKeep { broadcast, id, keep, key, publishing, now_unix_ms } = emit;
        let MailboxPlace { mailbox, once, has_channel } = self.place_of(&broadcast.namespace, &broadcast.rooms);
        let namespace = broadcast.namespace.clone();
        let once = key.as_ref().map_or_else(|| once.clone(), |key| format!("{once}{:032x}", key.name));
        let print = key.as_ref().map_or_else(String::new, |key| format!("{:016x}", key.print));
        let entry = keep.as_ref().map_or_else(|| Ok(Vec::new()), |keep| self.mailbox_entry(&broadcast, keep))?;
        let message = Message::Broadcast(broadcast);
        let uid = self.namespace(&namespace).and_then(|index| self.uids.get(index)).ok_or(KeepError::Refused)?;
        let publish = match publishing {
            Publishing::Along if has_channel => {
                let (command, ..) =
                    self.outbound(Sending::Usual, uid, &namespace, &message).ok_or(KeepError::Refused)?;
                Some(command)
            }
            _ => None,
        };
        let span = publish.is_some().then(|| self.begin_publishing(&message)).flatten();
        let separately = (publishing == Publishing::Along && !has_channel).then_some((namespace.clone(), message));
        let stream = (self.adapter() == Adapter::Streams).then(|| self.stream_of(&namespace));
        let keys: Vec<&str> = [&mailbox, &once].into_iter().chain(&stream).map(String::as_str).collect();
        let mut command = KEEP.command(&keys);
        let expires = keep.map_or(0, |keep| keep.expires_unix_ms);
        command.arg(id.text()).arg(print).arg(self.settings.kept.idempotency_window_ms.max(1)).arg(&entry);
        command.arg(expires).arg(now_unix_ms).arg(self.settings.kept.events_per_user_max);
        command.arg(if attempt == KeepAttempt::Again { "again" } else { "new" });
        let mut bytes = mailbox.len() + entry.len();
        if let Some(publish) = publish {
            bytes += copy_arguments(&publish, &mut command);
        }
        let sent = self.backlog.send(command, To::OwnerOf(mailbox), bytes);
        let sent = sent.map(|answer| Sent { answer, bytes, at: Instant::now(), span });
        let sent = sent.inspect_err(|error| self.count_loss(*error)).map_err(|_| KeepError::Unheard)?;
        Ok(AskedScript { sent, id, is_kept: keep.is_some(), separately })
    }

    async fn kept(&self, asked: AskedScript, deadline: Instant) -> Result<KeptAnswer, KeepError> {
        let AskedScript { sent, id, is_kept, separately } = asked;
        let answer = match self.taken(sent, deadline).await {
            Ok(answer) => answer,
            Err(PublishError::Refused) => {
                self.counters.keeps_refused.add(1);
                return Err(KeepError::Refused);
            }
            Err(PublishError::Down | PublishError::TimedOut | PublishError::QueueFull) => {
                return Err(KeepError::Unknown);
            }
        };
        let (code, first) = code_and_id(&answer).ok_or(KeepError::Unknown)?;
        self.counters.kept.add(u64::from(is_kept && code == code::DONE));
        self.counters.duplicates.add(u64::from(code == code::REPEATED));
        let verdict = match code {
            code::REPEATED => Verdict::Repeated(first),
            code::ANOTHER_EVENT => Verdict::AnotherEvent,
            _ if first == id => Verdict::New,
            _ => return Err(KeepError::Unknown),
        };
        if let (Verdict::New, Some((namespace, message))) = (verdict, separately) {
            // It is kept in any case: who does not hear of it now gets it at the next CONNECT.
            let _ = self.publish(&namespace, &message).await;
        }
        let keeping = (is_kept && verdict == Verdict::New).then_some(if code == code::FULL {
            Keeping::UserFull
        } else {
            Keeping::KeptByBus
        });
        Ok(KeptAnswer { verdict, keeping })
    }

    /// What stands in a mailbox behind the id.
    fn mailbox_entry(&self, broadcast: &Broadcast, keep: &Keep) -> Result<Vec<u8>, KeepError> {
        let channels = mailbox_channels(&self.namespaces);
        let message = Message::Broadcast(broadcast.clone());
        let Outgoing { body, .. } =
            adapter::encode(&channels, "", &broadcast.namespace, &message).ok_or(KeepError::Refused)?;
        let mut entry = format!("{:013}", keep.expires_unix_ms).into_bytes();
        match &broadcast.conflate {
            None => entry.extend(NO_CONFLATE.as_bytes()),
            Some(key) => {
                let hash = Sha256::digest(key.as_bytes());
                let hash = hash.get(..CONFLATE_BYTES).unwrap_or_default();
                entry.extend(URL_SAFE_NO_PAD.encode(hash).as_bytes());
            }
        }
        entry.extend(body);
        Ok(entry)
    }

    fn place_of(&self, namespace: &str, rooms: &[Box<str>]) -> MailboxPlace {
        let own = match (self.adapter(), rooms) {
            (Adapter::Classic | Adapter::Sharded, [room]) => self.channels.of_room(namespace, room),
            _ => None,
        };
        let is_own = own.is_some();
        let channel = match self.adapter() {
            Adapter::Streams => self.stream_of(namespace),
            Adapter::Classic | Adapter::Sharded => own.unwrap_or_else(|| self.channels.of_namespace(namespace)),
        };
        let (tag, has_channel) = tag_of(&channel);
        let whose = match rooms {
            [room] if !is_own || tag != channel => format!(":{namespace}#{room}"),
            _ => String::new(),
        };
        MailboxPlace {
            mailbox: format!("sockring:{{{tag}}}:kept{whose}"),
            once: format!("sockring:{{{tag}}}:once:"),
            has_channel: has_channel || self.adapter() == Adapter::Classic,
        }
    }

    fn post_to(&self, core: usize, mail: BusMail) {
        if let Some(shard) = self.postboxes.get(core) {
            shard.post(Letter::Bus(mail));
        }
    }

    fn name_of(&self, room: &RoomName) -> &str {
        self.namespaces.get(usize::from(room.namespace.0)).map_or("/", String::as_str)
    }
}

/// What a slot is made of where it is to be that of a channel, and whether it is.
fn tag_of(channel: &str) -> (String, bool) {
    let own = || {
        let (_, inside) = channel.split_once('{')?;
        let (tag, _) = inside.split_once('}')?;
        (!tag.is_empty()).then(|| tag.to_owned())
    };
    match own() {
        Some(tag) => (tag, true),
        // Nothing between braces can have this slot.
        None if channel.contains('}') => (channel.replace('%', "%25").replace('}', "%7d"), false),
        None => (channel.to_owned(), true),
    }
}

/// In whose words mailboxes are written, whatever the adapter.
fn mailbox_channels(namespaces: &[String]) -> Channels {
    Channels::new(Adapter::Sharded, "", namespaces)
}

/// Puts a command, its name among it, behind another; says how many bytes it has.
fn copy_arguments(from: &Cmd, to: &mut Cmd) -> usize {
    let mut bytes = 0;
    for argument in from.args_iter() {
        if let redis::Arg::Simple(argument) = argument {
            bytes += argument.len();
            to.arg(argument);
        }
    }
    bytes
}

fn code_and_id(answer: &Value) -> Option<(i64, EventId)> {
    let Value::Array(parts) = answer else { return None };
    let [Value::Int(code), Value::BulkString(id)] = parts.as_slice() else { return None };
    Some((*code, EventId::parse(std::str::from_utf8(id).ok()?)?))
}

/// Reads a mailbox for the shard of this core.
pub(super) fn read(cluster: &Arc<Cluster>, core: usize, MailboxQuestion { number, room }: MailboxQuestion) {
    let cluster = Arc::clone(cluster);
    tokio::task::spawn_local(async move {
        let found = cluster.kept_for(cluster.name_of(&room), &room.name).await;
        cluster.post_to(core, BusMail::Mailbox { number, room, found });
    });
}

/// Tells Redis what a user has received.
pub(super) fn confirm(cluster: &Arc<Cluster>, core: usize, ReceivedEvents { number, room, ids }: ReceivedEvents) {
    let cluster = Arc::clone(cluster);
    tokio::task::spawn_local(async move {
        let answer = match cluster.unkeep(cluster.name_of(&room), &room.name, &ids).await {
            Some(_) => ConfirmAnswer::Done,
            None => ConfirmAnswer::Unknown,
        };
        cluster.post_to(core, BusMail::Confirmed { number, answer });
    });
}

/// Gives Redis an event that was kept while it was away. The others hear of it if they have not.
pub(super) fn give(cluster: &Arc<Cluster>, core: usize, given: GivenEvent) {
    let cluster = Arc::clone(cluster);
    tokio::task::spawn_local(async move {
        let GivenEvent { room, broadcast, id, keep, key, by, now_unix_ms } = given;
        let publishing = if by == KeptBy::Us { Publishing::Along } else { Publishing::Not };
        let emit = EmitToKeep { broadcast, id, keep: Some(keep), key, publishing, now_unix_ms };
        let deadline = Instant::now() + PUBLISHED_WITHIN;
        let answer = match cluster.ask_to_keep(emit, KeepAttempt::Again) {
            Ok(asked) => cluster.kept(asked, deadline).await,
            Err(error) => Err(error),
        };
        let answer = match answer {
            Ok(KeptAnswer { verdict: Verdict::New, keeping: Some(Keeping::UserFull) }) => GiveAnswer::Full,
            Ok(KeptAnswer { verdict: Verdict::New, .. }) => GiveAnswer::Kept,
            Ok(KeptAnswer { verdict: Verdict::Repeated(first), .. }) => GiveAnswer::Repeated(first),
            Ok(KeptAnswer { verdict: Verdict::AnotherEvent, .. }) => GiveAnswer::Outdated,
            Err(KeepError::Unheard) => GiveAnswer::Unheard,
            Err(KeepError::Unknown | KeepError::Refused) => GiveAnswer::Unknown,
        };
        cluster.post_to(core, BusMail::Given { room, id, answer });
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::topology::slot;

    #[test]
    fn what_a_script_needs_is_in_the_slot_of_its_channel() {
        for (channel, tag, has_channel) in [
            ("socket.io#/#user:a#", "socket.io#/#user:a#", true),
            ("socket.io#/#user:{a}b#", "a", true),
            ("socket.io#/#user:{a#", "socket.io#/#user:{a#", true),
            ("socket.io#/#user:a}b%#", "socket.io#/#user:a%7db%25#", false),
            ("socket.io#/#user:{}#", "socket.io#/#user:{%7d#", false),
        ] {
            assert_eq!(tag_of(channel), (tag.to_owned(), has_channel), "{channel}");
            let key = format!("sockring:{{{tag}}}:kept");
            assert_eq!(slot(key.as_bytes()) == slot(channel.as_bytes()), has_channel, "{channel}");
        }
    }
}
