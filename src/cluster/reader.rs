//! The reader: one connection on which a stream is read from where it was read last, for as long as it lives and again: so
//! nothing is lost that the stream still has.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use redis::{Cmd, Value, cmd};
use sockring_protocol::adapter::{EntryId, decode_entry};
use tokio::time::{Instant, sleep};

use crate::mailbox::Letter;
use crate::shard::{BusMail, SharedPast};

use super::Cluster;
use super::health::{Node, RedisConnectionId};
use super::inbox::Inbox;
use super::link::{Backoff, RedisConnection};
use super::pulse::{self, Pulse};
use super::topology::Topology;

/// Entries of one answer, where they are not too long together.
const ENTRIES_MAX: usize = 1000;
/// By how much fewer are asked for where they were.
const FEWER: usize = 8;
/// An answer that is shorter may have twice as many entries.
const ANSWER_BYTES_WANTED: usize = 8 << 20;
/// Entries, and their bytes, that are looked at before other tasks of the core get their turn.
const ENTRIES_IN_A_ROW: usize = 256;
const BYTES_IN_A_ROW: usize = 512 << 10;
/// While shards have no room for more.
const LOOK_AGAIN: Duration = Duration::from_millis(1);
/// How often shards hear how far the stream was read.
const TOLD_EVERY: Duration = Duration::from_secs(1);
/// A connection that lived this long was a good one: the next attempt comes soon.
const GOOD_FOR: Duration = Duration::from_secs(1);

/// Where a stream is read on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ReadFrom {
    /// Behind what is there when the connection stands.
    Unknown,
    After(EntryId),
    /// Behind what is there when it is asked for: the next entry is too long to be read.
    End,
}

/// Of one stream.
pub(super) struct Reader {
    pub(super) cluster: Arc<Cluster>,
    pub(super) stream: String,
    pub(super) inbox: Inbox,
    place: ReadFrom,
    entries_max: usize,
    /// Up to where shards know that all was read, and since when.
    told: Option<(EntryId, Instant)>,
}

/// One entry, as Redis gives it.
pub(super) struct RawEntry {
    pub(super) id: EntryId,
    /// Names and values, one behind the other.
    fields: Vec<Value>,
}

impl RawEntry {
    pub(super) fn from_value(value: Value) -> Option<RawEntry> {
        let Value::Array(parts) = value else { return None };
        let Ok([Value::BulkString(id), Value::Array(fields)]) = <[Value; 2]>::try_from(parts) else { return None };
        Some(RawEntry { id: EntryId::decode(&id)?, fields })
    }

    pub(super) fn pairs(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        self.fields.chunks(2).filter_map(|pair| match pair {
            [Value::BulkString(name), Value::BulkString(value)] => Some((&**name, &**value)),
            _ => None,
        })
    }

    fn bytes(&self) -> usize {
        self.pairs().map(|(name, value)| name.len() + value.len()).sum()
    }
}

impl Reader {
    pub(super) fn new(cluster: Arc<Cluster>, stream: String) -> Reader {
        let inbox = Inbox::new(Arc::clone(&cluster));
        Reader { cluster, stream, inbox, place: ReadFrom::Unknown, entries_max: ENTRIES_MAX, told: None }
    }

    /// Connects again and again.
    pub(super) async fn run(mut self) {
        let cluster = Arc::clone(&self.cluster);
        let name = format!("{}-reader", cluster.client_name());
        let id = RedisConnectionId::Reader(self.stream.clone());
        let mut backoff = Backoff::default();
        let mut attempts = 0;
        loop {
            let node = self.node().await;
            let opened = cluster.open(node, attempts, &name).await;
            attempts += 1;
            let reason = match opened {
                Err(error) => error.to_string(),
                Ok(link) => {
                    let begun = Instant::now();
                    let reason = self.serve(link, &id).await;
                    cluster.counters.reader_reconnects.add(1);
                    if begun.elapsed() > GOOD_FOR {
                        backoff.reset();
                        attempts = 0;
                    }
                    reason
                }
            };
            cluster.health.on_down(id.clone(), &reason);
            cluster.topology_is_stale.notify_one();
            cluster.health.rest(backoff.next(cluster.chance())).await;
        }
    }

    /// Who has the stream, once that is known.
    async fn node(&self) -> Node {
        let mut topology = self.cluster.topology.subscribe();
        // The sender lives as long as the cluster.
        let known = topology.wait_for(|topology| *topology != Topology::Unknown).await;
        match known.as_deref() {
            Ok(Topology::Slots(map)) => map.owner(&self.stream).map_or(Node::Any, Node::at),
            _ => Node::Any,
        }
    }

    /// Reads until the connection is lost; says why it is.
    async fn serve(&mut self, mut link: RedisConnection, id: &RedisConnectionId) -> String {
        let cluster = Arc::clone(&self.cluster);
        let mut pulse = Pulse::new(&cluster, &link);
        let mut end = self.find_place(&mut link, &mut pulse, id).await.err();
        if end.is_none() {
            cluster.health.on_up(id);
            cluster.counters.streams_read.add(1);
            end = self.read_on(&mut link, &mut pulse, id).await.err();
            cluster.counters.streams_read.take(1);
        }
        if link.flow.is_too_long() {
            self.ask_for_fewer();
        }
        end.unwrap_or_default()
    }

    /// What was asked for does not fit into memory that others can make us take.
    fn ask_for_fewer(&mut self) {
        if self.place == ReadFrom::Unknown || self.entries_max == 1 {
            tracing::warn!(
                stream = self.stream,
                "an entry is too long to be read; what comes after this moment is read"
            );
            self.place = ReadFrom::End;
        }
        self.entries_max = (self.entries_max / FEWER).max(1);
    }

    /// Where to begin; and where a stream is younger than what was read of it, since it was lost and others add to it: its end.
    async fn find_place(
        &mut self,
        link: &mut RedisConnection,
        pulse: &mut Pulse,
        id: &RedisConnectionId,
    ) -> Result<(), String> {
        if self.place == ReadFrom::End {
            return Ok(());
        }
        let newest = cmd("XREVRANGE").arg(&self.stream).arg("+").arg("-").arg("COUNT").arg(1).take();
        let Value::Array(entries) = self.ask(newest, link, pulse, id).await? else {
            return Err("no entries, and no lack of them, came for XREVRANGE".to_owned());
        };
        let newest = entries.into_iter().next().and_then(RawEntry::from_value).map(|entry| entry.id);
        match (self.place, newest) {
            // All that comes into an empty stream is new.
            (ReadFrom::Unknown, newest) => {
                let last = newest.unwrap_or_default();
                self.recall(last, link, pulse, id).await?;
                self.place = ReadFrom::After(last);
            }
            (ReadFrom::After(last), Some(newest)) if newest < last => {
                tracing::warn!(stream = self.stream, %last, %newest, "the stream is another one: it is read from its end");
                self.tell(&SharedPast::Lost);
                self.place = ReadFrom::After(newest);
            }
            (ReadFrom::After(last), Some(_)) => self.look_for_gap(last, link, pulse, id).await?,
            _ => {}
        }
        Ok(())
    }

    async fn read_on(
        &mut self,
        link: &mut RedisConnection,
        pulse: &mut Pulse,
        id: &RedisConnectionId,
    ) -> Result<(), String> {
        // The question of the pulse waits behind this one, and is answered before it counts as open.
        let block_ms = pulse::interval_for(self.cluster.settings.silence_timeout).as_millis() / 2;
        loop {
            let place = match self.place {
                ReadFrom::After(last) => last.to_string(),
                ReadFrom::Unknown | ReadFrom::End => "$".to_owned(),
            };
            let mut read = cmd("XREAD");
            read.arg("COUNT").arg(self.entries_max).arg("BLOCK").arg(u64::try_from(block_ms).unwrap_or(1).max(1));
            read.arg("STREAMS").arg(&self.stream).arg(place);
            let entries = match self.ask(read, link, pulse, id).await? {
                Value::Nil => {
                    self.tell_place();
                    continue;
                }
                answer => entries_in(answer).ok_or("no entries came for XREAD")?,
            };
            if self.take(entries, pulse, id).await? < ANSWER_BYTES_WANTED {
                self.entries_max = (self.entries_max * 2).min(ENTRIES_MAX);
            }
        }
    }

    /// Mails entries to shards, no more at once than they have room for. Says how many bytes they are.
    async fn take(&mut self, entries: Vec<Value>, pulse: &mut Pulse, id: &RedisConnectionId) -> Result<usize, String> {
        let (mut count, mut bytes, mut all) = (0, 0, 0);
        let cluster = Arc::clone(&self.cluster);
        let mut turn = cluster.echoes.turn().await;
        for entry in entries {
            let Some(entry) = RawEntry::from_value(entry) else { continue };
            let length = entry.bytes();
            count += 1;
            bytes += length;
            all += length;
            self.inbox.take_entry((&self.stream, entry.id), decode_entry(entry.pairs()), length);
            self.place = ReadFrom::After(entry.id);
            if count >= ENTRIES_IN_A_ROW || bytes >= BYTES_IN_A_ROW {
                (count, bytes) = (0, 0);
                self.inbox.flush();
                drop(turn);
                tokio::task::yield_now().await;
                self.make_room(pulse, id).await?;
                turn = cluster.echoes.turn().await;
            }
        }
        self.inbox.flush();
        drop(turn);
        self.tell_place();
        self.make_room(pulse, id).await?;
        Ok(all)
    }

    /// Now and then shards hear how far the stream was read, whoever it was for: so clients of all servers are told of places that
    /// all servers still know.
    fn tell_place(&mut self) {
        let ReadFrom::After(place) = self.place else { return };
        let is_due = self.told.is_none_or(|(told, at)| told != place && at.elapsed() >= TOLD_EVERY);
        if is_due && self.cluster.shares_sessions() {
            self.told = Some((place, Instant::now()));
            for shard in &self.cluster.postboxes {
                shard.post(Letter::Bus(BusMail::Read(place)));
            }
        }
    }

    /// Waits until shards have room: until then Redis keeps what comes.
    async fn make_room(&mut self, pulse: &mut Pulse, id: &RedisConnectionId) -> Result<(), String> {
        while !self.inbox.may_take() {
            tokio::select! {
                voice = pulse.next() => self.cluster.health.on_voice(id, voice?),
                () = sleep(LOOK_AGAIN) => {}
            }
        }
        Ok(())
    }

    /// Asks Redis, and listens meanwhile to whether it is there.
    pub(super) async fn ask(
        &self,
        command: Cmd,
        link: &mut RedisConnection,
        pulse: &mut Pulse,
        id: &RedisConnectionId,
    ) -> Result<Value, String> {
        let mut connection = link.connection.clone();
        let mut answer = pin!(connection.send_packed_command(&command));
        loop {
            tokio::select! {
                biased;
                answer = &mut answer => {
                    let answer = answer.map_err(|error| error.to_string())?;
                    link.flow.answered();
                    let Value::ServerError(error) = answer else { return Ok(answer) };
                    return Err(format!("{} {}", error.code(), error.details().unwrap_or_default()));
                }
                voice = pulse.next() => self.cluster.health.on_voice(id, voice?),
                push = link.pushes.recv() => match push {
                    None => return Err("the connection was closed".to_owned()),
                    Some(push) => link.flow.used(super::flow::size_of_push(&push)),
                },
            }
        }
    }
}

/// The entries in the answer to an XREAD of one stream.
fn entries_in(answer: Value) -> Option<Vec<Value>> {
    let streams = match answer {
        Value::Map(streams) => streams,
        _ => return None,
    };
    match streams.into_iter().next()?.1 {
        Value::Array(entries) => Some(entries),
        _ => None,
    }
}
