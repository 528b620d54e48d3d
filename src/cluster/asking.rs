//! Asking other instances: a question, how many answers there should be, and what has come when the time is up.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use redis::{Value, cmd};
use sockring_protocol::adapter::{Adapter, Answer, Message, RequestId, Selection, SocketDescription};
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep, timeout, timeout_at};

use super::counters::BusLimit;
use super::held::{Held, Kept};
use super::link::text;
use super::publisher::{PublishError, To};
use super::topology::Topology;
use super::{Cluster, Sending};

/// How long other instances may take to answer.
const ANSWERS_WITHIN: Duration = Duration::from_secs(1);
/// How long Redis may take to say how many instances there are.
const COUNT_WITHIN: Duration = Duration::from_millis(500);
/// Until those who hear a room are asked for the second time; each time later it takes twice as long.
const HEARD_AGAIN: Duration = Duration::from_millis(10);
/// Between two questions whether orders are done.
const JOINED_LOOK: Duration = Duration::from_millis(20);
/// How long an instance that says nothing is remembered.
const REMEMBERED: Duration = Duration::from_secs(300);
const PEERS_MAX: usize = 1024;

/// One question.
#[derive(Debug)]
struct Question {
    answers: Vec<(Option<Box<str>>, Answer)>,
    /// What they take.
    bytes: usize,
    expected: usize,
    counts: Counts,
    /// Sent when all have answered.
    complete: Option<oneshot::Sender<()>>,
}

/// Which answers to a question count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Counts {
    All,
    /// Those of servers that have some of the sockets.
    WithSockets,
}

/// The questions that wait for answers.
#[derive(Debug)]
pub(super) struct Questions {
    questions_max: usize,
    open: Mutex<HashMap<RequestId, Question>>,
}

impl Questions {
    pub(super) fn new(questions_max: usize) -> Questions {
        Questions { questions_max, open: Mutex::default() }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<RequestId, Question>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn begin(&self, request: &str, expected: usize, counts: Counts) -> Option<oneshot::Receiver<()>> {
        let mut questions = self.lock();
        if questions.len() >= self.questions_max {
            return None;
        }
        let (complete, completed) = oneshot::channel();
        let question = Question { answers: Vec::new(), bytes: 0, expected, counts, complete: Some(complete) };
        questions.insert(request.into(), question);
        Some(completed)
    }

    fn end(&self, request: &str, held: &Held) -> Vec<(Option<Box<str>>, Answer)> {
        let Some(question) = self.lock().remove(request) else { return Vec::new() };
        held.give_back(question.bytes);
        question.answers
    }

    /// An answer to a question of whomever; `uid` is who gives it, if it says so.
    pub(super) fn on_answer(&self, request: &str, uid: Option<Box<str>>, answer: Answer, held: &Held) -> Kept {
        let mut questions = self.lock();
        let Some(question) = questions.get_mut(request) else { return Kept::Yes };
        let is_second = uid.is_some() && question.answers.iter().any(|(known, _)| *known == uid);
        let has_none = matches!(&answer, Answer::Sockets(sockets) if sockets.is_empty());
        let is_beside = question.counts == Counts::WithSockets && has_none;
        if question.answers.len() >= question.expected || is_second || is_beside {
            return Kept::Yes;
        }
        let bytes = answer.bytes();
        if !held.take(bytes) {
            return Kept::TooMuch;
        }
        question.bytes += bytes;
        question.answers.push((uid, answer));
        if question.answers.len() == question.expected
            && let Some(complete) = question.complete.take()
        {
            // Who waits may have gone.
            let _ = complete.send(());
        }
        Kept::Yes
    }
}

/// Instances and Node servers that were heard of.
#[derive(Debug, Default)]
pub(super) struct Peers(Mutex<HashMap<Box<str>, Instant>>);

impl Peers {
    pub(super) fn saw(&self, uid: &str) {
        // What emitters call themselves.
        if uid == "emitter" {
            return;
        }
        let mut peers = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(at) = peers.get_mut(uid) {
            *at = Instant::now();
            return;
        }
        if peers.len() >= PEERS_MAX {
            peers.retain(|_, at| at.elapsed() < REMEMBERED);
            if peers.len() >= PEERS_MAX {
                return;
            }
        }
        peers.insert(uid.into(), Instant::now());
    }

    fn all(&self) -> Vec<Box<str>> {
        let mut peers = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        peers.retain(|_, at| at.elapsed() < REMEMBERED);
        let mut names: Vec<_> = peers.keys().cloned().collect();
        names.sort();
        names
    }
}

/// What the other instances have answered.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Gathered<T> {
    /// Of each that has answered.
    pub answers: Vec<T>,
    /// How many have not; `None`: not known, because Redis does not answer.
    pub missing: Option<usize>,
    /// Those among the instances heard of lately that may be missing, by their adapter's uid. Not all say who they are.
    pub silent: Vec<Box<str>>,
}

impl<T> Gathered<T> {
    fn unknown() -> Gathered<T> {
        Gathered { answers: Vec::new(), missing: None, silent: Vec::new() }
    }
}

impl Cluster {
    /// Who the selected sockets of the other instances are.
    pub async fn fetch(&self, selection: Selection) -> Gathered<Vec<SocketDescription>> {
        let namespace = selection.namespace.clone();
        let request = self.request_id();
        let message = Message::Fetch { request: request.clone(), selection };
        let sockets = |answer| match answer {
            Answer::Sockets(sockets) => Some(sockets),
            Answer::Ids(ids) if ids.is_empty() => Some(Vec::new()),
            _ => None,
        };
        self.ask(&namespace, request, message, sockets).await
    }

    /// How many servers there are, this one included; `None`: Redis does not say.
    pub async fn instances(&self) -> Option<usize> {
        let namespace = self.namespaces.first()?;
        self.count_servers(namespace).await.ok().map(|count| count.max(1))
    }

    pub(super) async fn ask<T>(
        &self,
        namespace: &str,
        request: RequestId,
        message: Message,
        read: impl Fn(Answer) -> Option<T>,
    ) -> Gathered<T> {
        self.counters.questions.add(1);
        let deadline = Instant::now() + ANSWERS_WITHIN;
        let Ok(servers) = self.count_servers(namespace).await else { return self.incomplete(Gathered::unknown()) };
        let expected = servers.saturating_sub(1);
        if expected == 0 {
            return Gathered { answers: Vec::new(), missing: Some(0), silent: Vec::new() };
        }
        let Some(completed) = self.questions.begin(&request, expected, Counts::All) else {
            self.counters.hit(BusLimit::Questions);
            return self.incomplete(Gathered { missing: Some(expected), ..Gathered::unknown() });
        };
        // Forgotten also when nobody waits for it any more.
        let _ending = QuestionEnd { cluster: self, request: &request };
        let was_asked = self.publish(namespace, &message).await.is_ok();
        if was_asked {
            // Whatever is there when the time is up counts.
            let _ = timeout_at(deadline, completed).await;
        }
        let answered = self.questions.end(&request, &self.held);
        let missing = expected.saturating_sub(answered.len());
        let mut silent = Vec::new();
        if missing > 0 {
            silent = self.peers.all();
            silent.retain(|uid| !answered.iter().any(|(known, _)| known.as_ref() == Some(uid)));
        }
        let answers = answered.into_iter().filter_map(|(_, answer)| read(answer)).collect();
        let gathered = Gathered { answers, missing: Some(missing), silent };
        if missing > 0 { self.incomplete(gathered) } else { gathered }
    }

    fn incomplete<T>(&self, gathered: Gathered<T>) -> Gathered<T> {
        self.counters.questions_incomplete.add(1);
        gathered
    }

    /// Whether the selected sockets of all other instances are in a room and hear what is sent to it, once these were ordered
    /// to join it. Instances answer after what they were ordered before. Waits no longer than for answers.
    pub async fn is_joined(&self, selection: Selection, room: &str) -> bool {
        let deadline = Instant::now() + ANSWERS_WITHIN;
        let is_in = |socket: &SocketDescription| socket.rooms.iter().any(|name| **name == *room);
        let answers = loop {
            let Gathered { answers, missing, .. } = self.fetch(selection.clone()).await;
            match answers.iter().flatten().all(is_in) {
                _ if missing != Some(0) => return false,
                true => break answers,
                // With the streams adapter a question does not wait behind orders.
                false if self.adapter() == Adapter::Streams && Instant::now() < deadline => {
                    sleep(JOINED_LOOK).await;
                }
                false => return false,
            }
        };
        let instances = answers.iter().filter(|sockets| !sockets.is_empty()).count();
        // With the sharded adapter a Node server answers before its own subscription is through.
        let channel = self.channels.of_room(&selection.namespace, room);
        match channel.filter(|_| self.adapter() == Adapter::Sharded && instances > 0) {
            None => true,
            Some(channel) => timeout_at(deadline, self.is_heard(selection, &channel, instances)).await.unwrap_or(false),
        }
    }

    /// Whether so many servers that have some of the selected sockets hear a channel, as soon as they do: who answers what is
    /// asked on the channel itself hears it.
    async fn is_heard(&self, selection: Selection, channel: &str, servers: usize) -> bool {
        let (namespace, request) = (selection.namespace.clone(), self.request_id());
        let question = Message::Fetch { request: request.clone(), selection };
        let Some(mut completed) = self.questions.begin(&request, servers, Counts::WithSockets) else {
            self.counters.hit(BusLimit::Questions);
            return false;
        };
        // Forgotten also when the time is up.
        let _ending = QuestionEnd { cluster: self, request: &request };
        let mut again = HEARD_AGAIN;
        loop {
            // Who hears of it for the second time answers again, which does not count.
            if self.send_by(Sending::On(channel.to_owned()), &namespace, &question).is_err() {
                return false;
            }
            if let Ok(all) = timeout(again, &mut completed).await {
                return all.is_ok();
            }
            again *= 2;
        }
    }

    /// How many servers listen for questions about a namespace. Each has one connection that does.
    pub(super) async fn count_servers(&self, namespace: &str) -> Result<usize, PublishError> {
        self.count_subscribers(&self.channels.counted(namespace)).await
    }

    async fn count_subscribers(&self, channel: &str) -> Result<usize, PublishError> {
        let topology = self.topology.borrow().clone();
        let nodes: Vec<To> = match topology {
            Topology::Slots(map) => map.masters().iter().cloned().map(To::Node).collect(),
            Topology::Unknown | Topology::Single => vec![To::Anybody],
        };
        let subcommand = match self.adapter() {
            Adapter::Classic | Adapter::Streams => "NUMSUB",
            Adapter::Sharded => "SHARDNUMSUB",
        };
        let mut count = 0;
        for node in nodes {
            let command = cmd("PUBSUB").arg(subcommand).arg(channel).take();
            let answer = self.backlog.ask(command, node, COUNT_WITHIN).await?;
            count += subscribers(&answer).ok_or(PublishError::Refused)?;
        }
        Ok(count)
    }
}

/// A question that ends with this.
struct QuestionEnd<'a> {
    cluster: &'a Cluster,
    request: &'a str,
}

impl Drop for QuestionEnd<'_> {
    fn drop(&mut self) {
        self.cluster.questions.end(self.request, &self.cluster.held);
    }
}

/// The number in the answer to `PUBSUB NUMSUB` with one channel.
fn subscribers(answer: &Value) -> Option<usize> {
    let count = match answer {
        Value::Array(parts) => match parts.as_slice() {
            [_, count] => count,
            _ => return None,
        },
        Value::Map(entries) => &entries.first()?.1,
        _ => return None,
    };
    match count {
        Value::Int(count) => usize::try_from(*count).ok(),
        other => text(other)?.parse().ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_question_is_complete_when_all_have_answered_once() {
        let (questions, held) = (Questions::new(9), Held::new(10_000));
        let mut completed = questions.begin("q", 2, Counts::All).unwrap();
        let uid = |name: &str| Some(name.into());
        questions.on_answer("other", uid("a"), Answer::Done, &held);
        questions.on_answer("q", uid("a"), Answer::Done, &held);
        questions.on_answer("q", uid("a"), Answer::Done, &held);
        assert!(completed.try_recv().is_err());
        questions.on_answer("q", None, Answer::Receivers(1), &held);
        assert!(completed.try_recv().is_ok());
        questions.on_answer("q", uid("c"), Answer::Done, &held);
        assert_eq!(questions.end("q", &held), [(uid("a"), Answer::Done), (None, Answer::Receivers(1))]);
        assert!(questions.end("q", &held).is_empty());
    }

    #[test]
    fn servers_without_sockets_do_not_complete_a_question_about_those_who_have_some() {
        let (questions, held) = (Questions::new(9), Held::new(10_000));
        let mut completed = questions.begin("q", 1, Counts::WithSockets).unwrap();
        let socket = SocketDescription { id: "s".into(), rooms: Vec::new(), user: None };
        questions.on_answer("q", Some("a".into()), Answer::Sockets(Vec::new()), &held);
        assert!(completed.try_recv().is_err());
        questions.on_answer("q", Some("b".into()), Answer::Sockets(vec![socket]), &held);
        assert!(completed.try_recv().is_ok());
    }

    #[test]
    fn questions_and_peers_are_bounded() {
        let questions = Questions::new(9);
        for number in 0..9 {
            assert!(questions.begin(&number.to_string(), 1, Counts::All).is_some());
        }
        assert!(questions.begin("more", 1, Counts::All).is_none());
        let peers = Peers::default();
        (0..2 * PEERS_MAX).for_each(|number| peers.saw(&number.to_string()));
        peers.saw("emitter");
        assert_eq!(peers.all().len(), PEERS_MAX);
    }

    #[test]
    fn answers_are_bounded_in_bytes() {
        let (questions, held) = (Questions::new(9), Held::new(10_000));
        let hear = |request: &str, bytes| {
            let answer = Answer::Rooms(vec!["r".repeat(bytes).into()]);
            questions.on_answer(request, None, answer, &held)
        };
        ["a", "b"].iter().for_each(|request| drop(questions.begin(request, 3, Counts::All).unwrap()));
        assert_eq!((hear("a", 4_000), hear("nobody", 9_999), hear("b", 4_000)), (Kept::Yes, Kept::Yes, Kept::Yes));
        assert_eq!((hear("a", 4_000), hear("a", 1_000)), (Kept::TooMuch, Kept::Yes));
        assert!((9_000..10_000).contains(&held.bytes()), "{}", held.bytes());
        assert_eq!(questions.end("a", &held).len(), 2);
        assert_eq!((hear("b", 4_000), questions.end("b", &held).len(), held.bytes()), (Kept::Yes, 2, 0));
    }

    #[test]
    fn numbers_of_subscribers_are_read_in_either_form() {
        let name = || Value::BulkString(b"c".to_vec());
        assert_eq!(subscribers(&Value::Array(vec![name(), Value::Int(3)])), Some(3));
        assert_eq!(subscribers(&Value::Map(vec![(name(), Value::Int(2))])), Some(2));
        assert_eq!(subscribers(&Value::Array(vec![])), None);
        assert_eq!(subscribers(&Value::Okay), None);
    }
}
