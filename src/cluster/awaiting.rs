//! `Awaiting`: broadcasts of other instances whose receivers here are asked for acknowledgements, until all have answered.

use std::collections::{BTreeSet, HashMap};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use sockring_protocol::adapter::{Answer, Broadcast, RequestId, blobs_bytes};
use sockring_protocol::json;
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout_at};

use crate::shard::{Acknowledgement, Mail, Reply};

use super::Cluster;
use super::counters::{BusLimit, Loss};
use super::held::{Held, Kept};

/// How long shards may take.
pub(super) const SHARDS_WITHIN: Duration = Duration::from_secs(1);
/// Acknowledgements of one broadcast that may come before their number is known.
const EARLY_MAX: usize = 100_000;
/// How long after its time a broadcast's acknowledgements are still passed on.
const GRACE: Duration = Duration::from_secs(1);
/// How often it is looked whose time is over.
const LOOK: Duration = Duration::from_secs(1);
const TIMEOUT_MS_MAX: u64 = 600_000;

/// Who asks a broadcast's receivers, and where.
#[derive(Debug)]
pub(super) struct Requester {
    pub(super) namespace: Box<str>,
    pub(super) uid: Option<Box<str>>,
    pub(super) request: RequestId,
}

/// A broadcast whose receivers are asked for acknowledgements.
#[derive(Debug)]
struct Awaited {
    asker: Requester,
    /// Came before it was known how many there will be. `None`: it is known, and was said.
    early: Option<Vec<Acknowledgement>>,
    /// How many have still to come, once it is known.
    unanswered: u64,
    ends_at: Instant,
}

#[derive(Debug, Default)]
struct All {
    broadcasts: HashMap<u64, Awaited>,
    ends: BTreeSet<(Instant, u64)>,
}

impl All {
    fn remove(&mut self, number: u64) -> Option<Awaited> {
        let awaited = self.broadcasts.remove(&number)?;
        self.ends.remove(&(awaited.ends_at, number));
        Some(awaited)
    }
}

/// The broadcasts whose acknowledgements are awaited, by the number that shards know them by.
#[derive(Debug)]
pub(super) struct Awaiting {
    broadcasts_max: usize,
    next: AtomicU64,
    all: Mutex<All>,
}

impl Awaiting {
    pub(super) fn new(broadcasts_max: usize) -> Awaiting {
        Awaiting { broadcasts_max, next: AtomicU64::new(0), all: Mutex::default() }
    }

    fn lock(&self) -> MutexGuard<'_, All> {
        self.all.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn len(&self) -> usize {
        self.lock().broadcasts.len()
    }

    /// Gives a broadcast its number; its asker comes back where there are too many.
    fn begin(&self, asker: Requester, ends_at: Instant) -> Result<u64, Requester> {
        let mut all = self.lock();
        if all.broadcasts.len() >= self.broadcasts_max {
            return Err(asker);
        }
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        all.ends.insert((ends_at, number));
        all.broadcasts.insert(number, Awaited { asker, early: Some(Vec::new()), unanswered: 0, ends_at });
        Ok(number)
    }

    /// It is known how many are asked: `say` is told who wants to know, and the answers that have come already. Nothing is
    /// kept of what nobody has still to answer.
    fn on_receivers(&self, number: u64, receivers: u64, say: impl FnOnce(&Requester, Vec<Acknowledgement>)) {
        let mut all = self.lock();
        let Some(awaited) = all.broadcasts.get_mut(&number) else { return };
        let early = awaited.early.take().unwrap_or_default();
        awaited.unanswered = receivers.saturating_sub(early.len() as u64);
        let is_complete = awaited.unanswered == 0;
        say(&awaited.asker, early);
        if is_complete {
            all.remove(number);
        }
    }

    /// A receiver has answered: `pass_on` gets it, or it is kept until it is known how many there are.
    fn on_answer(
        &self,
        answer: Acknowledgement,
        held: &Held,
        pass_on: impl FnOnce(&Requester, Acknowledgement),
    ) -> Kept {
        let mut all = self.lock();
        let number = answer.number;
        let Some(awaited) = all.broadcasts.get_mut(&number) else { return Kept::Yes };
        match &mut awaited.early {
            Some(early) if early.len() < EARLY_MAX && held.take(bytes_of(&answer)) => early.push(answer),
            Some(_) => return Kept::TooMuch,
            None => {
                pass_on(&awaited.asker, answer);
                awaited.unanswered = awaited.unanswered.saturating_sub(1);
                if awaited.unanswered == 0 {
                    all.remove(number);
                }
            }
        }
        Kept::Yes
    }

    fn expire(&self, now: Instant, held: &Held) {
        let mut all = self.lock();
        while let Some((_, number)) = all.ends.first().copied().filter(|(at, _)| *at <= now) {
            let early = all.remove(number).and_then(|awaited| awaited.early).unwrap_or_default();
            held.give_back(early.iter().map(bytes_of).sum());
        }
    }
}

/// About what an acknowledgement takes.
fn bytes_of(answer: &Acknowledgement) -> usize {
    size_of::<Acknowledgement>() + answer.args.len() + blobs_bytes(&answer.attachments)
}

/// Ends what has not been acknowledged in time.
pub(super) async fn expire(cluster: Arc<Cluster>) {
    loop {
        tokio::time::sleep(LOOK).await;
        cluster.awaiting.expire(Instant::now(), &cluster.held);
    }
}

impl Cluster {
    /// Delivers, and passes on what the receivers answer. Beyond the bound it is delivered all the same, and nobody is asked.
    pub(super) fn deliver_for_ack(self: &Arc<Self>, asker: Requester, mut broadcast: Broadcast, timeout_ms: u64) {
        self.counters.requests_answered.add(1);
        let delivery = self.begin_delivery(broadcast.trace.take());
        let timeout_ms = timeout_ms.min(TIMEOUT_MS_MAX);
        let ends_at = Instant::now() + Duration::from_millis(timeout_ms) + GRACE;
        let number = match self.awaiting.begin(asker, ends_at) {
            Ok(number) => number,
            Err(asker) => {
                self.counters.hit(BusLimit::Acks);
                let refused = self.postboxes.len() - self.post(|| Mail::Deliver(vec![broadcast.clone()])).len();
                self.counters.lost(Loss::MailboxFull, refused as u64);
                return self.say_receivers(&asker, 0);
            }
        };
        let broadcast = || Box::new(broadcast.clone());
        let delivered = self.post(|| Mail::DeliverForAck { broadcast: broadcast(), number, timeout_ms });
        let cluster = Arc::clone(self);
        tokio::task::spawn_local(async move {
            let count = |reply| if let Reply::Delivered(counts) = reply { counts.iter().sum() } else { 0 };
            let receivers = replies(delivered).await.into_iter().map(count).sum::<u64>();
            if let Some(delivery) = delivery {
                delivery.end(receivers);
            }
            // The number of receivers comes before their acknowledgements.
            cluster.awaiting.on_receivers(number, receivers, |asker, early| {
                cluster.say_receivers(asker, receivers);
                cluster.held.give_back(early.iter().map(bytes_of).sum());
                early.into_iter().for_each(|answer| cluster.pass_on(asker, answer));
            });
        });
    }

    fn say_receivers(&self, asker: &Requester, receivers: u64) {
        self.reply(&asker.namespace, asker.uid.clone(), asker.request.clone(), Answer::Receivers(receivers));
    }

    /// A client of ours has answered a broadcast. On any core.
    pub(super) fn acknowledge(&self, answer: Acknowledgement) {
        let pass_on = |asker: &Requester, answer| self.pass_on(asker, answer);
        if self.awaiting.on_answer(answer, &self.held, pass_on) == Kept::TooMuch {
            self.counters.hit(BusLimit::AnswersBytes);
        }
    }

    fn pass_on(&self, asker: &Requester, answer: Acknowledgement) {
        let args = std::str::from_utf8(&answer.args).unwrap_or("[]");
        let value = json::Elements::of(args).next().map(|first| first.as_bytes().into());
        let answer = Answer::Acknowledgement { value, attachments: answer.attachments };
        self.reply(&asker.namespace, asker.uid.clone(), asker.request.clone(), answer);
    }
}

/// What shards answer in time.
pub(super) async fn replies(asked: Vec<oneshot::Receiver<Reply>>) -> Vec<Reply> {
    let deadline = Instant::now() + SHARDS_WITHIN;
    let mut replies = Vec::with_capacity(asked.len());
    for answer in asked {
        if let Ok(Ok(reply)) = timeout_at(deadline, answer).await {
            replies.push(reply);
        }
    }
    replies
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asker() -> Requester {
        Requester { namespace: "/".into(), uid: None, request: "r".into() }
    }

    fn answer(number: u64) -> Acknowledgement {
        Acknowledgement { number, args: b"[1]".as_slice().into(), attachments: Vec::new() }
    }

    fn held() -> Held {
        Held::new(10_000)
    }

    fn later() -> Instant {
        Instant::now() + Duration::from_secs(60)
    }

    #[test]
    fn a_broadcast_is_forgotten_when_all_have_answered() {
        let awaiting = Awaiting::new(1);
        let number = awaiting.begin(asker(), later()).unwrap();
        assert!(awaiting.begin(asker(), later()).is_err(), "there is room for one");
        awaiting.on_answer(answer(number), &held(), |_, _| panic!("it is not known yet how many there are"));
        let mut said = 0;
        awaiting.on_receivers(number, 3, |_, early| said = early.len());
        assert_eq!((said, awaiting.len()), (1, 1));
        for left in [1, 0] {
            let mut passed_on = false;
            awaiting.on_answer(answer(number), &held(), |_, _| passed_on = true);
            assert!(passed_on);
            assert_eq!(awaiting.len(), left);
        }
        awaiting.on_answer(answer(number), &held(), |_, _| panic!("one too many"));
        assert!(awaiting.lock().ends.is_empty());
    }

    #[test]
    fn what_reaches_nobody_or_is_late_is_forgotten_too() {
        let awaiting = Awaiting::new(9);
        let number = awaiting.begin(asker(), later()).unwrap();
        awaiting.on_receivers(number, 0, |_, _| {});
        assert_eq!(awaiting.len(), 0);
        let now = Instant::now();
        let numbers = [awaiting.begin(asker(), now), awaiting.begin(asker(), later())];
        awaiting.expire(now, &held());
        assert_eq!(awaiting.len(), 1);
        awaiting.on_receivers(*numbers[0].as_ref().unwrap(), 1, |_, _| panic!("its time is over"));
    }

    #[test]
    fn early_answers_are_bounded_in_bytes() {
        let (awaiting, held) = (Awaiting::new(9), held());
        let number = awaiting.begin(asker(), Instant::now()).unwrap();
        let large = || Acknowledgement { attachments: vec![vec![0; 4_000].into()], ..answer(number) };
        let kept: Vec<_> = (0..4).map(|_| awaiting.on_answer(large(), &held, |_, _| panic!("too early"))).collect();
        assert_eq!(kept, [Kept::Yes, Kept::Yes, Kept::TooMuch, Kept::TooMuch]);
        assert!((8_000..9_000).contains(&held.bytes()));
        awaiting.expire(Instant::now(), &held);
        assert_eq!((awaiting.len(), held.bytes()), (0, 0));
    }
}
