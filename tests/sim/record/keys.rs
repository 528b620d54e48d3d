//! The keys of emits, as a list of all that have come would tell them apart.

use std::collections::BTreeMap;

use sockring::shard::{EventId, OnceKey, Remembered, Verdict};
use sockring_protocol::adapter::Broadcast;

use super::Record;
use super::emits::number_of;

/// For how long a shard remembers keys, and how many.
#[derive(Clone, Copy, Debug)]
pub struct KeyRules {
    pub window_ms: u64,
    pub keys_max: usize,
}

/// Those that shards have to know, in the order in which they came.
#[derive(Debug, Default)]
pub struct Keys(BTreeMap<usize, Vec<(u64, OnceKey, EventId)>>);

impl Record {
    /// A shard reads an emit `at` this time: whether it is new there. What is not goes to nobody.
    pub fn judge(&mut self, shard: usize, at: u64, emit: &Remembered, rules: KeyRules) -> Verdict {
        let Some(key) = emit.key else { return Verdict::New };
        let known = self.keys.0.entry(shard).or_default();
        known.retain(|(since, _, _)| since + rules.window_ms > at);
        let verdict = match known.iter().find(|(_, other, _)| other.name == key.name) {
            None => {
                known.push((at, key, emit.id));
                if known.len() > rules.keys_max.max(1) {
                    known.remove(0);
                }
                return Verdict::New;
            }
            Some((_, other, id)) if other.print == key.print => Verdict::Repeated(*id),
            Some(_) => Verdict::AnotherEvent,
        };
        self.on_not_taken(&emit.broadcast);
        verdict
    }

    /// Nobody gets this emit.
    pub fn on_not_taken(&mut self, broadcast: &Broadcast) {
        self.emits.excuse_all(number_of(broadcast));
    }
}
