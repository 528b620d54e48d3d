//! Broadcasts that ask each receiver for an acknowledgement: who has answered, and until when that counts.

use std::collections::{BTreeMap, BTreeSet};

use sockring::shard::Acknowledgement;

use super::{Record, shard_of};

/// Ids of such broadcasts begin here.
const FIRST_ID: u64 = 1 << 30;
/// A worker may be so late with its turn.
const LATE_MS_MAX: u64 = 4;

/// One of them.
#[derive(Debug, Default)]
struct Asked {
    /// By shard: until when it takes answers.
    until: BTreeMap<usize, u64>,
    answered: BTreeSet<String>,
}

/// All of them, by number.
#[derive(Debug, Default)]
pub struct Asks(BTreeMap<u64, Asked>);

impl Record {
    /// A shard has delivered such a broadcast.
    pub fn on_asked(&mut self, number: u64, shard: usize, timeout_ms: u64) {
        let until = self.now + timeout_ms;
        self.asks.0.entry(number).or_default().until.insert(shard, until);
    }

    /// A shard says that a client has answered: with its sid.
    pub fn on_acknowledged(&mut self, shard: usize, answer: &Acknowledgement) {
        let args = std::str::from_utf8(&answer.args).expect("arguments are text");
        let sid = args.trim_matches(['[', ']', '"']);
        assert_eq!(shard_of(sid), shard, "an answer of another shard's client");
        let asked = self.asks.0.get_mut(&answer.number).expect("an answer that nobody asked for");
        let until = asked.until[&shard];
        // What has come in a turn comes before what is due in it.
        assert!(self.now <= until + LATE_MS_MAX + self.late_ms, "an answer at {} was taken until {until}", self.now);
        assert!(asked.answered.insert(sid.to_owned()), "{sid} answered twice");
    }
}

/// The text of a packet without the id of such a broadcast, and the id.
pub fn without_ask(text: &str) -> (String, Option<u64>) {
    let head = &text[..text.find('[').unwrap_or(text.len())];
    let from = head.rfind([',', '-']).map_or(1, |at| at + 1);
    let id = head.get(from..).and_then(|digits| digits.parse().ok()).filter(|id| *id >= FIRST_ID);
    match id {
        Some(_) if text.starts_with(['2', '5']) => (format!("{}{}", &head[..from], &text[head.len()..]), id),
        _ => (text.to_owned(), None),
    }
}
