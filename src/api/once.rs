//! Emits of which their home remembers something: one part for each home, and the answers of all parts together.

use std::sync::Arc;

use serde_json::json;
use sockring_protocol::adapter::{Broadcast, Message};

use crate::cluster::Cluster;
use crate::shard::{EmitOutcome, Keep, Keeping, Mail, OnceKey, Remembered, Reply, Verdict, home_of};

use super::across::{Emitted, Memory};
use super::answer::ApiError;
use super::emit::{EmitBody, OnceUnder, Targets, Wishes};
use super::inquiring::GatheredElsewhere;
use super::{Api, EMITS_PER_LETTER, prints};

/// A part of an emit, which is remembered at one home.
struct EmitPart {
    emit: usize,
    home: usize,
    remembered: Remembered,
}

/// An emit as others hear of it.
struct PublishedEmit {
    broadcast: Broadcast,
    wishes: Wishes,
}

/// The answers to some parts, some of which may have still to come.
type AskedHomes = Vec<(Vec<usize>, tokio::sync::oneshot::Receiver<Reply>)>;

/// A key is another one in each namespace, and for each room that alone is emitted to.
fn key_of(once: &OnceUnder, broadcast: &Broadcast) -> OnceKey {
    let room = if let [room] = &*broadcast.rooms { room } else { "" };
    OnceKey { name: prints::long([&broadcast.namespace, room, &once.key]), print: once.print }
}

impl Api {
    /// Emits several, each plainly or remembered; what came of them is in their order. Those that take different ways wait
    /// for each other.
    pub(super) async fn emit_each(
        self: &Arc<Self>,
        emits: Vec<EmitBody>,
        gathered: &mut GatheredElsewhere,
    ) -> Result<Vec<Emitted>, ApiError> {
        let mut emitted = Vec::with_capacity(emits.len());
        let mut emits = emits.into_iter().peekable();
        while let Some(first) = emits.peek() {
            let is_plain = first.is_plain();
            let run = std::iter::from_fn(|| emits.next_if(|next| next.is_plain() == is_plain));
            emitted.extend(match is_plain {
                true => self.emit_all(run.map(|emit| emit.broadcast).collect()).await?,
                false => self.emit_remembered(run.collect(), gathered).await?,
            });
        }
        Ok(emitted)
    }

    /// Others hear of what is new when its home has said so.
    async fn emit_remembered(
        self: &Arc<Self>,
        emits: Vec<EmitBody>,
        gathered: &mut GatheredElsewhere,
    ) -> Result<Vec<Emitted>, ApiError> {
        self.catch_up().await;
        let parts = self.parts_of(&emits);
        let emits: Vec<PublishedEmit> =
            emits.into_iter().map(|EmitBody { broadcast, wishes, .. }| PublishedEmit { broadcast, wishes }).collect();
        let (mut questions, mut numbers) = (Vec::new(), Vec::new());
        for (home, shard) in self.shards.iter().enumerate() {
            let here = parts.iter().enumerate().filter(|(_, part)| part.home == home);
            let of_shard: Vec<usize> = here.map(|(number, _)| number).collect();
            let letters = of_shard.chunks(EMITS_PER_LETTER);
            let remembered = |part: &usize| parts.get(*part).map(|part| part.remembered.clone());
            let mails = letters.clone().map(|part| Mail::EmitRemembered(part.iter().filter_map(remembered).collect()));
            questions.push((shard, mails.collect()));
            numbers.extend(letters.map(<[usize]>::to_vec));
        }
        let answers = self.ask(questions).await;
        let mut outcomes = vec![None; parts.len()];
        for (reply, numbers) in answers.replies.iter().zip(&numbers) {
            take_outcomes(reply.as_ref(), numbers, &mut outcomes);
        }
        let late: AskedHomes = answers
            .late
            .into_iter()
            .map(|(question, answer)| (numbers.get(question).cloned().unwrap_or_default(), answer))
            .collect();
        let published = match &self.cluster {
            None => vec![false; emits.len()],
            Some(cluster) => {
                let published = publish_new(cluster, &emits, &parts, &outcomes, gathered).await;
                if !late.is_empty() {
                    // Whoever repeats it hears that it has come before: it must not stay here alone.
                    tokio_uring::spawn(publish_late(Arc::clone(cluster), emits, parts.clone(), late));
                }
                published
            }
        };
        if let Some(error) = answers.error {
            let delivered: u64 = outcomes.iter().flatten().map(|outcome| outcome.delivered).sum();
            let published = published.contains(&true);
            return Err(ApiError { data: json!({"delivered": delivered, "published": published}), ..error });
        }
        Ok(published
            .into_iter()
            .enumerate()
            .map(|(emit, published)| sum_up(emit, published, &parts, &outcomes))
            .collect())
    }

    /// Each user by itself at home; all else at the home of its only room, or of its namespace.
    fn parts_of(&self, emits: &[EmitBody]) -> Arc<[EmitPart]> {
        let shards = u16::try_from(self.shards.len()).unwrap_or(u16::MAX);
        let mut parts = Vec::new();
        for (number, emit) in emits.iter().enumerate() {
            let emitted_unix_ms = super::unix_ms();
            let id = self.ids.next(emitted_unix_ms);
            let until = |ttl_s: u64| emitted_unix_ms.saturating_add(ttl_s.saturating_mul(1_000));
            let keep = emit.ttl_s.map(|ttl_s| Keep { emitted_unix_ms, expires_unix_ms: until(ttl_s) });
            let broadcasts: Vec<Broadcast> = match emit.targets {
                Targets::Whole => vec![emit.broadcast.clone()],
                Targets::Users => {
                    let rooms = emit.broadcast.rooms.iter();
                    rooms.map(|room| Broadcast { rooms: vec![room.clone()], ..emit.broadcast.clone() }).collect()
                }
            };
            for broadcast in broadcasts {
                let key = emit.once.as_ref().map(|once| key_of(once, &broadcast));
                let home = match &*broadcast.rooms {
                    [room] => home_of(room, shards),
                    // One for all of a namespace, so that they keep their order.
                    _ => home_of(&broadcast.namespace, shards),
                };
                let (broadcast, inquiries) = (Arc::new(broadcast), emit.wishes.inquiries());
                let remembered = Remembered { broadcast, id, key, keep, inquiries };
                parts.push(EmitPart { emit: number, home: usize::from(home), remembered });
            }
        }
        parts.into()
    }
}

fn take_outcomes(reply: Option<&Reply>, parts: &[usize], outcomes: &mut [Option<EmitOutcome>]) {
    let Some(Reply::Remembered(of_parts)) = reply else { return };
    for (part, outcome) in parts.iter().zip(of_parts) {
        if let Some(place) = outcomes.get_mut(*part) {
            *place = Some(*outcome);
        }
    }
}

/// What came of an emit, all of whose parts have answered.
fn sum_up(emit: usize, published: bool, parts: &[EmitPart], outcomes: &[Option<EmitOutcome>]) -> Emitted {
    let of_emit = || parts.iter().zip(outcomes).filter(|(part, _)| part.emit == emit);
    let verdicts = || of_emit().filter_map(|(part, outcome)| Some((part.remembered.id, outcome.as_ref()?.verdict)));
    let id = |(own, verdict)| match verdict {
        Verdict::Repeated(first) => first,
        Verdict::New | Verdict::AnotherEvent => own,
    };
    // Ids sort by time.
    let first = verdicts().map(id).min();
    let memory = match first {
        None => Memory::Nothing,
        Some(_) if verdicts().any(|(_, verdict)| verdict == Verdict::AnotherEvent) => Memory::AnotherEvent,
        Some(id) if verdicts().any(|(_, verdict)| verdict == Verdict::New) => Memory::New(id),
        Some(id) => Memory::Repeated(id),
    };
    let delivered = of_emit().filter_map(|(_, outcome)| Some(outcome.as_ref()?.delivered)).sum();
    let keepings = of_emit().filter_map(|(part, outcome)| {
        Some((outcome.as_ref()?.keeping?, part.remembered.keep.as_ref()?.expires_unix_ms))
    });
    // That of those for whom it is not kept, if there are some.
    let keeping = keepings.reduce(|one, other| if one.0 == Keeping::Kept { other } else { one });
    Emitted { delivered, published, memory, keeping }
}

/// Publishes of each emit what is new; says of each whether Redis has it.
async fn publish_new(
    cluster: &Arc<Cluster>,
    emits: &[PublishedEmit],
    parts: &[EmitPart],
    outcomes: &[Option<EmitOutcome>],
    gathered: &mut GatheredElsewhere,
) -> Vec<bool> {
    let is_new = |outcome: &Option<EmitOutcome>| outcome.is_some_and(|outcome| outcome.verdict == Verdict::New);
    let mut published = vec![false; emits.len()];
    let mut numbers = Vec::new();
    let mut messages = Vec::new();
    for (number, PublishedEmit { broadcast, wishes }) in emits.iter().enumerate() {
        let new = parts.iter().zip(outcomes).filter(|(part, outcome)| part.emit == number && is_new(outcome));
        let of_part = |(part, _): (&EmitPart, _)| part.remembered.broadcast.rooms.clone();
        let rooms: Vec<Vec<Box<str>>> = new.map(of_part).collect();
        if !rooms.is_empty() {
            let message = Broadcast { rooms: rooms.concat(), ..broadcast.clone() };
            let Some(ack) = wishes.ack else {
                numbers.push(number);
                messages.push((&*broadcast.namespace, Message::Broadcast(message)));
                continue;
            };
            // What was emitted before it comes before it.
            publish_some(cluster, &mut numbers, &mut messages, &mut published).await;
            let responses_max = ack.responses_max.unwrap_or(0);
            let gathering = cluster.emit_for_ack(message, ack.timeout_ms, responses_max).await;
            set(&mut published, number, gathering.published);
            gathered.push((wishes.number, gathering));
        }
    }
    publish_some(cluster, &mut numbers, &mut messages, &mut published).await;
    published
}

/// Publishes these, which are none after that.
async fn publish_some(
    cluster: &Cluster,
    numbers: &mut Vec<usize>,
    messages: &mut Vec<(&str, Message)>,
    published: &mut [bool],
) {
    for (number, result) in numbers.drain(..).zip(cluster.publish_all(messages).await) {
        set(published, number, result.is_ok());
    }
    messages.clear();
}

fn set(published: &mut [bool], number: usize, is_published: bool) {
    if let Some(place) = published.get_mut(number) {
        *place = is_published;
    }
}

/// What shards have taken after their time was up.
async fn publish_late(cluster: Arc<Cluster>, emits: Vec<PublishedEmit>, parts: Arc<[EmitPart]>, late: AskedHomes) {
    let mut outcomes = vec![None; parts.len()];
    for (numbers, answer) in late {
        take_outcomes(answer.await.ok().as_ref(), &numbers, &mut outcomes);
    }
    // Nobody waits for what is said to them.
    publish_new(&cluster, &emits, &parts, &outcomes, &mut Vec::new()).await;
}
