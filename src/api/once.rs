//! Emits of which their home remembers something: one part for each home, and the answers of all parts together.

use std::sync::Arc;

use serde_json::json;
use sockring_protocol::adapter::{Broadcast, Message};

use crate::cluster::{Cluster, EmitToKeep, KeepError, KeptAnswer, Publishing};
use crate::mailbox::Postbox;
use crate::shard::{EmitOutcome, Keep, Keeping, KeptBy, KeptMark, Mail, OnceKey, Remembered, Reply, Verdict, home_of};

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
    /// What Redis has said to it; `None`: it was not asked.
    elsewhere: Option<Result<KeptAnswer, KeepError>>,
}

impl EmitPart {
    /// Whether its home has to hear of it.
    fn is_new_elsewhere(&self) -> bool {
        !matches!(self.elsewhere, Some(Ok(KeptAnswer { verdict: Verdict::Repeated(_) | Verdict::AnotherEvent, .. })))
    }

    /// What is known of it before its home has said something.
    fn known_outcome(&self) -> Option<EmitOutcome> {
        match self.elsewhere {
            Some(Ok(KeptAnswer { verdict, .. })) if verdict != Verdict::New => {
                Some(EmitOutcome { delivered: 0, verdict, keeping: None })
            }
            _ => None,
        }
    }

    /// Whether others have heard of it, or will when Redis is there.
    fn is_published(&self, wishes: &Wishes) -> bool {
        match self.elsewhere {
            None | Some(Err(KeepError::Refused)) => false,
            Some(Ok(_)) => wishes.ack.is_none(),
            // It is given to Redis later; or it may have been published, and would come twice.
            Some(Err(KeepError::Unheard)) => self.remembered.keep.is_some(),
            Some(Err(KeepError::Unknown)) => wishes.ack.is_none(),
        }
    }
}

/// What one shard is asked.
type Question<'a> = (&'a Postbox, Vec<Mail>);

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

    /// Redis judges what it is to remember, and others hear of it at once; of all else they hear when its home has said that it is
    /// new.
    async fn emit_remembered(
        self: &Arc<Self>,
        emits: Vec<EmitBody>,
        gathered: &mut GatheredElsewhere,
    ) -> Result<Vec<Emitted>, ApiError> {
        self.catch_up().await;
        let mut parts = self.parts_of(&emits);
        let emits: Vec<PublishedEmit> =
            emits.into_iter().map(|EmitBody { broadcast, wishes, .. }| PublishedEmit { broadcast, wishes }).collect();
        self.remember_elsewhere(&mut parts, &emits).await;
        let parts: Arc<[EmitPart]> = parts.into();
        let (questions, numbers) = self.questions_of(&parts);
        let emit = emits.iter().find_map(|emit| emit.broadcast.trace.as_deref());
        let span = self.begin_delivery_of(emit);
        let answers = self.ask(questions).await;
        let mut outcomes: Vec<_> = parts.iter().map(EmitPart::known_outcome).collect();
        for (reply, numbers) in answers.replies.iter().zip(&numbers) {
            take_outcomes(reply.as_ref(), numbers, &parts, &mut outcomes);
        }
        let delivered = outcomes.iter().flatten().map(|outcome| outcome.delivered).sum();
        self.end_delivery(span, answers.error.is_none().then_some(delivered));
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
                    tokio_uring::spawn(publish_late(Arc::clone(cluster), emits, Arc::clone(&parts), late));
                }
                published
            }
        };
        if let Some(error) = answers.error {
            let published = published.contains(&true);
            return Err(ApiError { data: json!({"delivered": delivered, "published": published}), ..error });
        }
        Ok(published
            .into_iter()
            .enumerate()
            .map(|(emit, published)| sum_up(emit, published, &parts, &outcomes))
            .collect())
    }

    /// What homes are asked, and which parts each question is about.
    fn questions_of<'a>(&'a self, parts: &[EmitPart]) -> (Vec<Question<'a>>, Vec<Vec<usize>>) {
        let (mut questions, mut numbers) = (Vec::new(), Vec::new());
        for (home, shard) in self.shards.iter().enumerate() {
            let is_here = |part: &EmitPart| part.home == home && part.is_new_elsewhere();
            let here = parts.iter().enumerate().filter(|(_, part)| is_here(part));
            let of_shard: Vec<usize> = here.map(|(number, _)| number).collect();
            let letters = of_shard.chunks(EMITS_PER_LETTER);
            let remembered = |part: &usize| parts.get(*part).map(|part| part.remembered.clone());
            let mails = letters.clone().map(|part| Mail::EmitRemembered(part.iter().filter_map(remembered).collect()));
            questions.push((shard, mails.collect()));
            numbers.extend(letters.map(<[usize]>::to_vec));
        }
        (questions, numbers)
    }

    /// Redis keeps what is to be kept, and judges keys: all instances share both.
    async fn remember_elsewhere(&self, parts: &mut [EmitPart], emits: &[PublishedEmit]) {
        let Some(cluster) = &self.cluster else { return };
        let wants_ack = |part: &EmitPart| emits.get(part.emit).is_some_and(|emit| emit.wishes.ack.is_some());
        let is_remembered = |part: &EmitPart| part.remembered.key.is_some() || part.remembered.keep.is_some();
        let now_unix_ms = super::unix_ms();
        let mut asked: Vec<&mut EmitPart> = parts.iter_mut().filter(|part| is_remembered(part)).collect();
        let to_keep = |part: &EmitPart| {
            let Remembered { broadcast, id, key, keep, .. } = &part.remembered;
            let publishing = if wants_ack(part) { Publishing::Not } else { Publishing::Along };
            // Whom it reaches by Redis says of which trace it is.
            let trace = emits.get(part.emit).and_then(|emit| emit.broadcast.trace.clone());
            let broadcast = Broadcast { trace, ..(**broadcast).clone() };
            EmitToKeep { broadcast, id: *id, keep: *keep, key: *key, publishing, now_unix_ms }
        };
        let answers = cluster.keep_all(asked.iter().map(|part| to_keep(part)).collect()).await;
        for (part, answer) in asked.iter_mut().zip(answers) {
            part.remembered.by = match answer {
                Ok(_) => KeptBy::Bus,
                Err(KeepError::Unheard) => KeptBy::Us,
                Err(KeepError::Unknown | KeepError::Refused) => KeptBy::Perhaps,
            };
            part.elsewhere = Some(answer);
        }
    }

    /// Each user by itself at home; all else at the home of its only room, or of its namespace.
    fn parts_of(&self, emits: &[EmitBody]) -> Vec<EmitPart> {
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
                let expires_unix_ms = keep.map_or(0, |keep| keep.expires_unix_ms);
                let is_marked = self.cluster.is_some() && (keep.is_some() || key.is_some());
                let mark = is_marked.then(|| KeptMark { id, expires_unix_ms, key }.text().into());
                // What is remembered need not know of its trace.
                let broadcast = Arc::new(Broadcast { kept: mark, trace: None, ..broadcast });
                let (inquiries, by) = (emit.wishes.inquiries(), KeptBy::Us);
                let remembered = Remembered { broadcast, id, key, keep, inquiries, by };
                parts.push(EmitPart { emit: number, home: usize::from(home), remembered, elsewhere: None });
            }
        }
        parts
    }
}

fn take_outcomes(reply: Option<&Reply>, numbers: &[usize], parts: &[EmitPart], outcomes: &mut [Option<EmitOutcome>]) {
    let Some(Reply::Remembered(of_parts)) = reply else { return };
    for (number, outcome) in numbers.iter().zip(of_parts) {
        if let (Some(place), Some(part)) = (outcomes.get_mut(*number), parts.get(*number)) {
            // Where Redis keeps it, its home does not.
            let keeping = match part.elsewhere {
                Some(Ok(answer)) => answer.keeping,
                _ => outcome.keeping,
            };
            *place = Some(EmitOutcome { keeping, ..*outcome });
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
    let keeping = keepings.reduce(|one, other| if rank(one.0) >= rank(other.0) { one } else { other });
    Emitted { delivered, published, memory, keeping }
}

/// Of several users for whom it is kept in several ways, or not, the answer says the worst.
fn rank(keeping: Keeping) -> u8 {
    match keeping {
        Keeping::KeptByBus => 0,
        Keeping::Kept => 1,
        Keeping::MemoryFull => 2,
        Keeping::UserFull => 3,
    }
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
        let of_emit = || parts.iter().zip(outcomes).filter(|(part, outcome)| part.emit == number && is_new(outcome));
        if of_emit().any(|(part, _)| matches!(part.elsewhere, Some(Ok(_))) && wishes.ack.is_none()) {
            set(&mut published, number, true);
        }
        let new = of_emit().filter(|(part, _)| !part.is_published(wishes));
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
        take_outcomes(answer.await.ok().as_ref(), &numbers, &parts, &mut outcomes);
    }
    // Nobody waits for what is said to them.
    publish_new(&cluster, &emits, &parts, &outcomes, &mut Vec::new()).await;
}
