//! Answering other instances: what they want done is done, what they ask is asked of the shards, within bounds.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use sockring_protocol::json;
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout_at;

use crate::broadcast::{Broadcast, Selection};
use crate::shard::{Acknowledgement, Mail, Reply};

use super::Cluster;
use super::channels::Adapter;
use super::message::{Answer, Envelope, Message, RequestId};

/// How long shards may take.
const SHARDS_WITHIN: Duration = Duration::from_secs(1);
/// Questions that may wait for their turn; they are answered one after the other.
pub(super) const REQUESTS_WAITING_MAX: usize = 256;
/// A question that takes longer is followed by a pause of the same length, so that questions never take more than half of
/// a shard's time.
const CHEAP: Duration = Duration::from_millis(5);
/// Rooms that one request may name.
const NAMES_MAX: usize = 10_000;
/// Letters that may wait for a shard when a request comes.
const LETTERS_MAX: usize = 10_000;
/// Broadcasts whose acknowledgements are awaited, and acknowledgements that may come before their number is known.
const BROADCASTS_MAX: usize = 1024;
const EARLY_MAX: usize = 100_000;
/// How long after its time a broadcast's acknowledgements are still passed on.
const GRACE: Duration = Duration::from_secs(1);
const TIMEOUT_MS_MAX: u64 = 600_000;

/// A broadcast whose receivers are asked for acknowledgements.
#[derive(Debug)]
struct Awaited {
    namespace: Box<str>,
    asker: Option<Box<str>>,
    request: RequestId,
    /// Came before it was known how many there will be. `None`: it is known, and was said.
    early: Option<Vec<Acknowledgement>>,
}

/// The broadcasts whose acknowledgements are awaited, by the number that shards know them by.
#[derive(Debug, Default)]
pub(super) struct Awaiting {
    next: AtomicU64,
    broadcasts: Mutex<HashMap<u64, Awaited>>,
}

impl Awaiting {
    fn lock(&self) -> MutexGuard<'_, HashMap<u64, Awaited>> {
        self.broadcasts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Answers what waits for its turn, one after the other.
pub(super) async fn run(cluster: Arc<Cluster>, mut requests: mpsc::Receiver<Envelope>) {
    while let Some(envelope) = requests.recv().await {
        let begun = Instant::now();
        cluster.answer(envelope).await;
        let took = begun.elapsed();
        if took > CHEAP {
            tokio::time::sleep(took).await;
        }
    }
}

impl Cluster {
    /// Another instance wants something. Called within the runtime of the core that listens for requests.
    pub(super) fn on_request(self: &Arc<Self>, envelope: Envelope) {
        let is_taken = match &envelope.message {
            Message::Broadcast(_) | Message::Answer { .. } => return,
            // For code of other servers; we have none.
            Message::ServerSide { request: None, .. } => return,
            message if names_of(message) > NAMES_MAX || self.are_shards_behind() => false,
            Message::Ids { .. } | Message::Rooms { .. } | Message::Fetch { .. } => {
                return match self.requests.try_send(envelope) {
                    Ok(()) => {}
                    Err(_) => self.counters.requests_refused.add(1),
                };
            }
            Message::BroadcastForAck { .. } => self.lock_has_room(),
            _ => true,
        };
        if !is_taken {
            return self.counters.requests_refused.add(1);
        }
        let Envelope { uid, namespace, message } = envelope;
        match message {
            Message::Join { selection, rooms, confirm } => {
                let done = self.post(|| Mail::JoinSelected(selection.clone(), rooms.clone()));
                self.confirm(done, namespace, uid, confirm);
            }
            Message::Leave { selection, rooms, confirm } => {
                let done = self.post(|| Mail::LeaveSelected(selection.clone(), rooms.clone()));
                self.confirm(done, namespace, uid, confirm);
            }
            Message::Disconnect { selection, ending, confirm } => {
                let done = self.post(|| Mail::EndSelected(selection.clone(), ending));
                self.confirm(done, namespace, uid, confirm);
            }
            Message::ServerSide { request: Some(request), .. } => {
                self.counters.requests_answered.add(1);
                self.reply(&namespace, uid, request, Answer::ServerSide(b"null".to_vec().into()));
            }
            Message::BroadcastForAck { request, broadcast, timeout_ms } => {
                self.deliver_for_ack(namespace, uid, request, &broadcast, timeout_ms.min(TIMEOUT_MS_MAX));
            }
            _ => {}
        }
    }

    fn are_shards_behind(&self) -> bool {
        self.own_postboxes().iter().any(|shard| shard.waiting().0 > LETTERS_MAX)
    }

    fn lock_has_room(&self) -> bool {
        self.awaiting.lock().len() < BROADCASTS_MAX
    }

    /// Asks all shards the same.
    fn post(&self, mail: impl Fn() -> Mail) -> Vec<oneshot::Receiver<Reply>> {
        self.own_postboxes().iter().filter_map(|shard| shard.ask(mail())).collect()
    }

    /// Who asked for it is told, if it was done to somebody.
    fn confirm(
        self: &Arc<Self>,
        done: Vec<oneshot::Receiver<Reply>>,
        namespace: Box<str>,
        asker: Option<Box<str>>,
        request: Option<RequestId>,
    ) {
        self.counters.requests_answered.add(1);
        let Some(request) = request else { return };
        let cluster = Arc::clone(self);
        tokio::task::spawn_local(async move {
            let changed = |reply| if let Reply::Changed(count) = reply { count } else { 0 };
            if replies(done).await.into_iter().map(changed).sum::<u64>() > 0 {
                cluster.reply(&namespace, asker, request, Answer::Done);
            }
        });
    }

    /// Answers a question about sockets or rooms.
    async fn answer(self: &Arc<Self>, envelope: Envelope) {
        let Envelope { uid, namespace, message } = envelope;
        let (request, answer) = match message {
            Message::Fetch { request, selection } => (request, Answer::Sockets(self.describe(selection).await)),
            Message::Ids { request, rooms } => {
                let selection = Selection { namespace: namespace.clone(), rooms, except: Vec::new() };
                let sockets = self.describe(selection).await;
                (request, Answer::Ids(sockets.into_iter().map(|socket| socket.id).collect()))
            }
            Message::Rooms { request } => {
                let mut rooms = Vec::new();
                for reply in replies(self.post(|| Mail::Rooms(namespace.clone()))).await {
                    if let Reply::Rooms(more) = reply {
                        rooms.extend(more);
                    }
                }
                // A room may have members on several shards.
                rooms.sort_unstable();
                rooms.dedup();
                (request, Answer::Rooms(rooms))
            }
            _ => return,
        };
        self.counters.requests_answered.add(1);
        self.reply(&namespace, uid, request, answer);
    }

    async fn describe(&self, selection: Selection) -> Vec<crate::shard::SocketDescription> {
        let mut sockets = Vec::new();
        for reply in replies(self.post(|| Mail::Describe(selection.clone()))).await {
            if let Reply::Described(more) = reply {
                sockets.extend(more);
            }
        }
        sockets
    }

    fn deliver_for_ack(
        self: &Arc<Self>,
        namespace: Box<str>,
        asker: Option<Box<str>>,
        request: RequestId,
        broadcast: &Broadcast,
        timeout_ms: u64,
    ) {
        self.counters.requests_answered.add(1);
        let number = self.awaiting.next.fetch_add(1, Ordering::Relaxed);
        let awaited = Awaited { namespace, asker, request, early: Some(Vec::new()) };
        self.awaiting.lock().insert(number, awaited);
        let broadcast = || Box::new(broadcast.clone());
        let delivered = self.post(|| Mail::DeliverForAck { broadcast: broadcast(), number, timeout_ms });
        let cluster = Arc::clone(self);
        tokio::task::spawn_local(async move {
            let count = |reply| if let Reply::Delivered(counts) = reply { counts.iter().sum() } else { 0 };
            let receivers = replies(delivered).await.into_iter().map(count).sum::<u64>();
            cluster.say_receivers(number, receivers);
            tokio::time::sleep(Duration::from_millis(timeout_ms) + GRACE).await;
            cluster.awaiting.lock().remove(&number);
        });
    }

    /// The number of receivers comes before their acknowledgements.
    fn say_receivers(&self, number: u64, receivers: u64) {
        let mut broadcasts = self.awaiting.lock();
        let Some(awaited) = broadcasts.get_mut(&number) else { return };
        self.reply(&awaited.namespace, awaited.asker.clone(), awaited.request.clone(), Answer::Receivers(receivers));
        for answer in awaited.early.take().unwrap_or_default() {
            self.pass_on(awaited, answer);
        }
    }

    /// A client of ours has answered a broadcast. On any core.
    pub(super) fn acknowledge(&self, answer: Acknowledgement) {
        let mut broadcasts = self.awaiting.lock();
        let Some(awaited) = broadcasts.get_mut(&answer.number) else { return };
        match &mut awaited.early {
            Some(early) if early.len() < EARLY_MAX => early.push(answer),
            Some(_) => {}
            None => self.pass_on(awaited, answer),
        }
    }

    fn pass_on(&self, awaited: &Awaited, answer: Acknowledgement) {
        let args = std::str::from_utf8(&answer.args).unwrap_or("[]");
        let value = json::elements(args).next().map(|first| first.as_bytes().into());
        let answer = Answer::Acknowledgement { value, attachments: answer.attachments };
        self.reply(&awaited.namespace, awaited.asker.clone(), awaited.request.clone(), answer);
    }

    /// Sends an answer; nobody waits for what becomes of it.
    fn reply(&self, namespace: &str, asker: Option<Box<str>>, request: RequestId, answer: Answer) {
        // Where old servers of the classic adapter listen too.
        let asker = asker.filter(|_| self.adapter() == Adapter::Sharded);
        let message = Message::Answer { asker, request, answer };
        // A failure is counted where it happens.
        drop(self.send(namespace, &message));
    }
}

/// The rooms that a request names.
fn names_of(message: &Message) -> usize {
    let of = |selection: &Selection| selection.rooms.len() + selection.except.len();
    match message {
        Message::Join { selection, rooms, .. } | Message::Leave { selection, rooms, .. } => of(selection) + rooms.len(),
        Message::Disconnect { selection, .. } | Message::Fetch { selection, .. } => of(selection),
        Message::Ids { rooms, .. } => rooms.len(),
        Message::BroadcastForAck { broadcast, .. } => broadcast.rooms.len() + broadcast.except.len(),
        _ => 0,
    }
}

/// What shards answer in time.
async fn replies(asked: Vec<oneshot::Receiver<Reply>>) -> Vec<Reply> {
    let deadline = tokio::time::Instant::now() + SHARDS_WITHIN;
    let mut replies = Vec::with_capacity(asked.len());
    for answer in asked {
        if let Ok(Ok(reply)) = timeout_at(deadline, answer).await {
            replies.push(reply);
        }
    }
    replies
}
