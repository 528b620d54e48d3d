//! Recalling: what a stream has from before this process came. Clients that were elsewhere then may come here, so shards remember it
//! before the stream counts as read.

use redis::{Value, cmd};
use sockring_protocol::adapter::{Broadcast, EntryId, Envelope, Message, StreamEntry, decode_entry};

use crate::mailbox::Letter;
use crate::shard::{BusMail, Mail, SharedPast};

use super::health::RedisConnectionId;
use super::link::RedisConnection;
use super::pulse::Pulse;
use super::reader::{RawEntry, Reader};
use super::sessions::secret_in;

/// Entries that are asked for at once.
const PAGE_ENTRIES: usize = 500;

impl Reader {
    /// Gives shards what was in the stream up to `last`, as far back as a client may have missed something.
    pub(super) async fn recall(
        &mut self,
        last: EntryId,
        link: &mut RedisConnection,
        pulse: &mut Pulse,
        id: &RedisConnectionId,
    ) -> Result<(), String> {
        let Some(past) = self.cluster.settings.streams.sessions.as_ref().map(|sessions| sessions.past) else {
            return Ok(());
        };
        let secret = match self.cluster.secret_commands() {
            None => None,
            Some([made, asked]) => {
                self.ask(made, link, pulse, id).await?;
                let secret = secret_in(self.ask(asked, link, pulse, id).await?);
                Some(secret.ok_or("the secret that signs sessions is not what we have put there")?)
            }
        };
        let past_ms = u64::try_from(past.as_millis()).unwrap_or(u64::MAX);
        let mut from = EntryId { millis: last.millis.saturating_sub(past_ms), sequence: 0 };
        let is_whole = self.is_whole(link, pulse, id).await?;
        let first = match self.oldest(link, pulse, id).await? {
            // Nobody has missed what there never was.
            None => None,
            Some(oldest) if oldest > from => (!is_whole).then_some(oldest),
            Some(_) => Some(from),
        };
        self.tell(&SharedPast::From(first));
        loop {
            let mut page = cmd("XRANGE");
            page.arg(&self.stream).arg(from.to_string()).arg(last.to_string()).arg("COUNT").arg(PAGE_ENTRIES);
            let Value::Array(entries) = self.ask(page, link, pulse, id).await? else {
                return Err("no entries, and no lack of them, came for XRANGE".to_owned());
            };
            let entries: Vec<RawEntry> = entries.into_iter().filter_map(RawEntry::from_value).collect();
            let Some(end) = entries.last().map(|entry| entry.id) else { break };
            self.remember(&entries).await;
            from = EntryId { sequence: end.sequence.saturating_add(1), ..end };
        }
        self.tell(&SharedPast::Known { secret });
        Ok(())
    }

    /// What was read last is not there any more: whether what came after it was, is not known.
    pub(super) async fn look_for_gap(
        &mut self,
        last: EntryId,
        link: &mut RedisConnection,
        pulse: &mut Pulse,
        id: &RedisConnectionId,
    ) -> Result<(), String> {
        if self.cluster.settings.streams.sessions.is_none() {
            // Nobody comes back to it.
            return Ok(());
        }
        let is_gone = self.oldest(link, pulse, id).await?.is_some_and(|oldest| oldest > last);
        if is_gone && !self.is_whole(link, pulse, id).await? {
            self.tell(&SharedPast::Lost);
        }
        Ok(())
    }

    /// Says the same to all shards.
    pub(super) fn tell(&self, past: &SharedPast) {
        for shard in &self.cluster.postboxes {
            shard.post(Letter::Bus(BusMail::Past(past.clone())));
        }
    }

    /// Whether nothing was taken off the stream yet: servers do that when it has more entries than it is to have.
    async fn is_whole(
        &self,
        link: &mut RedisConnection,
        pulse: &mut Pulse,
        id: &RedisConnectionId,
    ) -> Result<bool, String> {
        let length = self.ask(cmd("XLEN").arg(&self.stream).take(), link, pulse, id).await?;
        let Value::Int(length) = length else { return Err("no number came for XLEN".to_owned()) };
        Ok(u64::try_from(length).is_ok_and(|length| length < self.cluster.settings.streams.entries_max))
    }

    async fn oldest(
        &self,
        link: &mut RedisConnection,
        pulse: &mut Pulse,
        id: &RedisConnectionId,
    ) -> Result<Option<EntryId>, String> {
        let oldest = cmd("XRANGE").arg(&self.stream).arg("-").arg("+").arg("COUNT").arg(1).take();
        let Value::Array(entries) = self.ask(oldest, link, pulse, id).await? else {
            return Err("no entries, and no lack of them, came for XRANGE".to_owned());
        };
        Ok(entries.into_iter().next().and_then(RawEntry::from_value).map(|entry| entry.id))
    }

    /// Ends when all shards have these.
    async fn remember(&self, entries: &[RawEntry]) {
        let mut of_shards: Vec<Vec<Broadcast>> = self.cluster.postboxes.iter().map(|_| Vec::new()).collect();
        for entry in entries {
            let Ok(StreamEntry { envelope: Envelope { message: Message::Broadcast(broadcast), .. }, .. }) =
                decode_entry(entry.pairs())
            else {
                // It was counted by those who were there.
                continue;
            };
            let broadcast = Broadcast { entry: Some(entry.id), ..broadcast };
            match self.inbox.only_shard(&broadcast) {
                Some(shard) => {
                    of_shards.get_mut(shard).into_iter().for_each(|of_shard| of_shard.push(broadcast.clone()))
                }
                None => of_shards.iter_mut().for_each(|of_shard| of_shard.push(broadcast.clone())),
            }
        }
        let asked = self.cluster.postboxes.iter().zip(of_shards).filter_map(|(shard, broadcasts)| {
            // A page is small, and nothing else of ours waits there.
            if broadcasts.is_empty() { None } else { shard.ask(Mail::Recall(broadcasts)) }
        });
        for answer in asked.collect::<Vec<_>>() {
            // A shard that is gone remembers nothing.
            let _ = answer.await;
        }
    }
}
