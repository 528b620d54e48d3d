//! `Keyring`: the keys of a set that is fetched by somebody else, as shards see them, and how they ask for newer ones.
//!
//! It neither waits nor looks at a clock. Who fetches says when it begins, what came of it, and when it may be asked again.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use arc_swap::ArcSwap;

use super::key_set::KeySet;

/// The keys of a set that is fetched, and whether newer ones are on their way.
pub struct Keyring {
    keys: ArcSwap<KeySet>,
    stage: AtomicU8,
    /// Wakes who fetches.
    bell: SyncSender<()>,
    fetches: [AtomicU64; Fetch::ALL.len()],
}

/// Whether it may be asked for newer keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
enum FetchStage {
    Idle,
    /// A fetch is asked for, or under way.
    Fetching,
    /// One has just ended: what is not there now would not be there again.
    Resting,
}

/// Whether newer keys are on their way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Newer {
    Coming,
    /// They have been looked for just now.
    NotYet,
}

/// What came of a fetch: the label of a counter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fetch {
    Ok,
    /// No answer, or none in time.
    Unreachable,
    /// An answer by another status than 200.
    Refused,
    /// An answer that holds no set of keys, or too much.
    Unusable,
}

impl Fetch {
    pub const ALL: [Fetch; 4] = [Fetch::Ok, Fetch::Unreachable, Fetch::Refused, Fetch::Unusable];

    pub fn label(self) -> &'static str {
        match self {
            Fetch::Ok => "ok",
            Fetch::Unreachable => "unreachable",
            Fetch::Refused => "refused",
            Fetch::Unusable => "unusable",
        }
    }
}

impl Keyring {
    /// An empty one, whose first keys are on their way; and where who fetches hears that newer ones are wanted.
    pub fn new() -> (Arc<Keyring>, Receiver<()>) {
        let (bell, wanted) = sync_channel(1);
        let stage = AtomicU8::new(FetchStage::Fetching as u8);
        (Arc::new(Keyring { keys: ArcSwap::default(), stage, bell, fetches: Default::default() }), wanted)
    }

    pub fn keys(&self) -> Arc<KeySet> {
        self.keys.load_full()
    }

    /// A token names a key that is not here.
    pub fn want_newer(&self) -> Newer {
        let (idle, fetching) = (FetchStage::Idle as u8, FetchStage::Fetching as u8);
        match self.stage.compare_exchange(idle, fetching, Ordering::AcqRel, Ordering::Acquire) {
            Ok(_) => {
                // It is full where a fetch begins anyway.
                let _ = self.bell.try_send(());
                Newer::Coming
            }
            Err(stage) if stage == fetching => Newer::Coming,
            Err(_) => Newer::NotYet,
        }
    }

    /// Who fetches begins to.
    pub fn on_fetching(&self) {
        self.stage.store(FetchStage::Fetching as u8, Ordering::Release);
    }

    /// It has fetched these keys; `None`: those that are here stay.
    pub fn on_fetched(&self, fetch: Fetch, keys: Option<KeySet>) {
        if let Some(count) = self.fetches.get(fetch as usize) {
            count.fetch_add(1, Ordering::Relaxed);
        }
        if let Some(keys) = keys {
            self.keys.store(Arc::new(keys));
        }
        self.stage.store(FetchStage::Resting as u8, Ordering::Release);
    }

    /// It may be asked again.
    pub fn on_rested(&self) {
        self.stage.store(FetchStage::Idle as u8, Ordering::Release);
    }

    /// How many fetches came to this.
    pub fn fetches(&self, fetch: Fetch) -> u64 {
        self.fetches.get(fetch as usize).map_or(0, |count| count.load(Ordering::Relaxed))
    }
}

impl fmt::Debug for Keyring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keyring").field("keys", &self.keys.load().len()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn however_many_want_newer_keys_there_is_one_fetch_and_then_a_rest() {
        let (keyring, wanted) = Keyring::new();
        // The first ones come unasked.
        assert_eq!((keyring.want_newer(), wanted.try_recv().is_ok()), (Newer::Coming, false));
        keyring.on_fetched(Fetch::Unreachable, None);
        assert_eq!((keyring.want_newer(), wanted.try_recv().is_ok()), (Newer::NotYet, false));
        keyring.on_rested();
        assert_eq!((keyring.want_newer(), keyring.want_newer()), (Newer::Coming, Newer::Coming));
        assert_eq!((wanted.try_recv().is_ok(), wanted.try_recv().is_ok()), (true, false));
        keyring.on_fetching();
        assert_eq!(keyring.want_newer(), Newer::Coming);
        keyring.on_fetched(Fetch::Ok, Some(KeySet::default()));
        assert_eq!((keyring.want_newer(), wanted.try_recv().is_ok()), (Newer::NotYet, false));
        assert_eq!(Fetch::ALL.map(|fetch| keyring.fetches(fetch)), [1, 1, 0, 0]);
    }
}
