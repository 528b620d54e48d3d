//! Emits of which their home remembers something: they are judged, delivered and remembered in one turn.

use sockring_protocol::Millis;

use crate::app::Application;
use crate::shard::event_id::EventId;
use crate::shard::hub::Hub;
use crate::shard::limit::Limit;
use crate::shard::mail::{Keeping, KeptBy, OnceKey, Remembered, Reply, Ticket, Verdict};

use super::deliver::Incoming;
use super::fan_out::Asker;
use super::once::KeyRoom;
use super::tally::Tally;

impl<A: Application> Hub<A> {
    /// Takes what is new, in order, and says of each what it was.
    pub(crate) fn emit_remembered(&mut self, ticket: Ticket, emits: Vec<Remembered>) {
        if emits.is_empty() {
            return self.outbound.replies.push((ticket, Reply::Remembered(Vec::new())));
        }
        let mut verdicts = Vec::with_capacity(emits.len());
        let mut taken = Vec::with_capacity(emits.len());
        for emit in emits {
            let window_ms = self.settings.idempotency_window_ms;
            let known = emit.key.as_ref().map_or(Verdict::New, |key| self.once.judge(key, self.now.at, window_ms));
            if let (Verdict::New, Some(key)) = (known, &emit.key) {
                // The bus remembers it as well, but may be away when it comes again.
                self.remember_key(key, emit.id, self.now.at);
            }
            let verdict = if emit.by == KeptBy::Bus { Verdict::New } else { known };
            self.counters.duplicates += u64::from(matches!(verdict, Verdict::Repeated(_)));
            if verdict != Verdict::New {
                taken.push(None);
                verdicts.push((verdict, None));
                continue;
            }
            if let ([room], KeptBy::Perhaps) = (&*emit.broadcast.rooms, emit.by)
                && self.has_come(room, emit.id)
            {
                taken.push(None);
                verdicts.push((verdict, Some(Keeping::KeptByBus)));
                continue;
            }
            let (keeping, kept) = match &emit.keep {
                Some(keep) if emit.by != KeptBy::Bus => {
                    let (keeping, kept) = self.keep(&emit, keep);
                    (Some(keeping), kept)
                }
                _ => (None, None),
            };
            taken.push(Some((emit.broadcast, kept, emit.inquiries)));
            verdicts.push((verdict, keeping));
        }
        let tally = self.broadcasts.open(Tally::of_remembered(ticket, verdicts));
        for (index, taken) in taken.into_iter().enumerate() {
            match taken {
                None => self.count(tally, index, 0),
                Some((broadcast, kept, inquiries)) => {
                    let asker = Asker::Tally(tally, index);
                    let incoming = Incoming::from_elsewhere(broadcast, asker);
                    self.deliver(Incoming { is_home: true, kept, inquiries, ..incoming });
                }
            }
        }
    }

    /// From now on a key is this event's, which came under it at that time.
    pub(crate) fn remember_key(&mut self, key: &OnceKey, id: EventId, at: Millis) {
        // Each shard has its part of what all may remember.
        let keys_max = self.settings.idempotency_keys_max / usize::from(self.shard.of).max(1);
        if self.once.remember(key, id, at, keys_max) == KeyRoom::Made {
            self.counters.hit(Limit::IdempotencyKeysMax);
        }
    }
}
