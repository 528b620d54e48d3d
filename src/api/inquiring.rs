//! What sockets say to emits: it is fetched from the shards, and put together with what other servers have gathered.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout_at};

use crate::cluster::{AckGathering, AckedElsewhere};
use crate::shard::{InquiryKey, Mail, Reply};

use super::answer::put;
use super::emit::Wishes;
use super::{Api, LOOK_TIMEOUT};

/// What is gathered elsewhere, by the number of the emit's wishes.
pub(super) type GatheredElsewhere = Vec<(u64, AckGathering)>;

/// The questions to all shards about one inquiry.
type AskedShards = Vec<oneshot::Receiver<Reply>>;

/// What is to be known of one emit, and who has been asked.
pub(super) struct Asking {
    wishes: Wishes,
    acks: AskedShards,
    receipts: AskedShards,
    elsewhere: Option<AckGathering>,
    begun: Instant,
}

/// What sockets of this instance have said.
#[derive(Default)]
struct Said {
    sockets: u64,
    responses: Vec<Box<[u8]>>,
}

impl Api {
    /// Asks what the sockets say that have it queued by now. Several may be asked before the first is waited for.
    pub(super) fn ask_sockets(&self, wishes: Wishes, elsewhere: &mut GatheredElsewhere) -> Asking {
        let ask = |is_wanted: bool, key: InquiryKey| -> AskedShards {
            let shards = self.shards.iter().filter(|_| is_wanted);
            shards.filter_map(|shard| shard.ask(Mail::Conclude(key))).collect()
        };
        let at = elsewhere.iter().position(|(number, _)| *number == wishes.number);
        Asking {
            acks: ask(wishes.ack.is_some(), wishes.ack_key()),
            receipts: ask(wishes.receipt_ms.is_some(), wishes.receipt_key()),
            elsewhere: at.map(|at| elsewhere.swap_remove(at).1),
            begun: Instant::now(),
            wishes,
        }
    }

    /// Puts what they have said into the answer about an emit that so many sockets of this instance have queued.
    pub(super) async fn put_answers(&self, asking: Asking, delivered: u64, data: &mut Value) {
        let Asking { wishes, acks, receipts, elsewhere, begun } = asking;
        if let Some(ack) = wishes.ack {
            let here = said(acks, begun, ack.timeout_ms).await;
            let is_shared = elsewhere.is_some();
            let others = match elsewhere {
                None => AckedElsewhere { missing: Some(0), ..AckedElsewhere::default() },
                Some(gathering) => gathering.finish().await,
            };
            let acked = here.sockets + others.acked;
            put(data, "acked", json!(acked));
            put(data, "timedOut", json!((delivered + others.asked).saturating_sub(acked)));
            if let Some(count_max) = ack.responses_max {
                let all = here.responses.iter().chain(&others.responses);
                let responses = first_of(all.map(|response| &**response), count_max, self.responses_bytes_max());
                put(data, "responses", json!(responses));
            }
            if is_shared {
                put(data, "missing", json!(others.missing));
            }
        }
        if let Some(timeout_ms) = wishes.receipt_ms {
            put(data, "received", json!(said(receipts, begun, timeout_ms).await.sockets));
        }
    }

    fn responses_bytes_max(&self) -> usize {
        self.engine.ack_responses_bytes_max
    }
}

/// What shards answer when all of their sockets have said it, or the time is up, by which they go themselves.
async fn said(asked: AskedShards, begun: Instant, timeout_ms: u64) -> Said {
    let deadline = begun + Duration::from_millis(timeout_ms) + LOOK_TIMEOUT;
    let mut said = Said::default();
    for answer in asked {
        if let Ok(Ok(Reply::Concluded { sockets, responses })) = timeout_at(deadline, answer).await {
            said.sockets += sockets;
            said.responses.extend(responses);
        }
    }
    said
}

/// As many as there is room for.
fn first_of<'a>(all: impl Iterator<Item = &'a [u8]>, count_max: usize, bytes_max: usize) -> Vec<Value> {
    let mut bytes = 0;
    let has_room = |response: &&[u8]| {
        let has_room = bytes + response.len() <= bytes_max;
        bytes += if has_room { response.len() } else { 0 };
        has_room
    };
    let value = |response: &[u8]| serde_json::from_slice(response).unwrap_or(Value::Null);
    all.filter(has_room).take(count_max).map(value).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_fit_is_left_out() {
        let all = ["1", "\"much too long\"", "[2]", "not JSON", "5"].map(str::as_bytes);
        let first = |count_max, bytes_max| json!(first_of(all.into_iter(), count_max, bytes_max));
        assert_eq!(first(9, 100), json!([1, "much too long", [2], null, 5]));
        assert_eq!(first(9, 5), json!([1, [2], 5]));
        assert_eq!(first(2, 5), json!([1, [2]]));
    }
}
