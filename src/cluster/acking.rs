//! Emits of ours whose receivers at other instances and Node servers are asked for acknowledgements: how many are asked, and
//! what they have said when all have or the time is up.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use sockring_protocol::adapter::{Answer, Broadcast, Message, RequestId};
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout_at};

use super::Cluster;
use super::counters::BusLimit;
use super::held::{Held, Kept};

/// One such emit.
#[derive(Debug)]
struct AckQuestion {
    /// Servers that have to say how many sockets they ask; `None`: it is not known how many there are.
    servers: Option<usize>,
    heard: Vec<Option<Box<str>>>,
    said: AckedElsewhere,
    responses_max: usize,
    /// What they take.
    bytes: usize,
    complete: Option<oneshot::Sender<()>>,
}

impl AckQuestion {
    fn is_complete(&self) -> bool {
        self.servers == Some(self.heard.len()) && self.said.acked >= self.said.asked
    }

    /// What is there is all that counts.
    fn end_if_complete(&mut self) {
        if self.is_complete()
            && let Some(complete) = self.complete.take()
        {
            // Who waits may have gone.
            let _ = complete.send(());
        }
    }
}

/// What the sockets of other servers have said to an emit.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AckedElsewhere {
    /// So many were asked, as far as servers have said so.
    pub asked: u64,
    pub acked: u64,
    /// The first arguments of some: JSON values.
    pub responses: Vec<Box<[u8]>>,
    /// Servers that have not said how many they ask; `None`: Redis does not say how many there are.
    pub missing: Option<usize>,
}

/// Our emits that wait for acknowledgements.
#[derive(Debug)]
pub(super) struct AckQuestions {
    questions_max: usize,
    open: Mutex<HashMap<RequestId, AckQuestion>>,
}

impl AckQuestions {
    pub(super) fn new(questions_max: usize) -> AckQuestions {
        AckQuestions { questions_max, open: Mutex::default() }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<RequestId, AckQuestion>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn begin(&self, request: &str, servers: Option<usize>, responses_max: usize) -> Option<oneshot::Receiver<()>> {
        let mut open = self.lock();
        if open.len() >= self.questions_max {
            return None;
        }
        let (complete, completed) = oneshot::channel();
        let (heard, said) = (Vec::new(), AckedElsewhere::default());
        let question = AckQuestion { servers, heard, said, responses_max, bytes: 0, complete: Some(complete) };
        open.insert(request.into(), question);
        Some(completed)
    }

    fn end(&self, request: &str, held: &Held) -> Option<AckedElsewhere> {
        let AckQuestion { servers, heard, said, bytes, .. } = self.lock().remove(request)?;
        held.give_back(bytes);
        Some(AckedElsewhere { missing: servers.map(|servers| servers.saturating_sub(heard.len())), ..said })
    }

    /// An answer to whatever; it comes back if it is none to such an emit.
    pub(super) fn on_answer(
        &self,
        request: &str,
        uid: Option<&str>,
        answer: Answer,
        held: &Held,
    ) -> Result<Kept, Answer> {
        let mut open = self.lock();
        let Some(question) = open.get_mut(request) else { return Err(answer) };
        let mut kept = Kept::Yes;
        match answer {
            Answer::Receivers(count) => {
                let is_second = uid.is_some() && question.heard.iter().any(|known| known.as_deref() == uid);
                if !is_second && question.servers.is_none_or(|servers| question.heard.len() < servers) {
                    question.heard.push(uid.map(Box::from));
                    question.said.asked = question.said.asked.saturating_add(count);
                }
            }
            Answer::Acknowledgement { value, .. } => {
                question.said.acked += 1;
                let value = value.unwrap_or_else(|| b"null".as_slice().into());
                if question.said.responses.len() < question.responses_max {
                    match held.take(value.len()) {
                        true => {
                            question.bytes += value.len();
                            question.said.responses.push(value);
                        }
                        false => kept = Kept::TooMuch,
                    }
                }
            }
            _ => {}
        }
        question.end_if_complete();
        Ok(kept)
    }
}

/// An emit that was published, and whose acknowledgements come.
#[derive(Debug)]
pub struct AckGathering {
    cluster: Arc<Cluster>,
    request: RequestId,
    /// `None`: nobody is asked.
    completed: Option<oneshot::Receiver<()>>,
    ends_at: Instant,
    /// Redis has it.
    pub published: bool,
}

impl AckGathering {
    /// What the others have said when all have, or the time is up.
    pub async fn finish(mut self) -> AckedElsewhere {
        let Some(completed) = self.completed.take() else { return AckedElsewhere::default() };
        // Whatever is there when the time is up counts.
        let _ = timeout_at(self.ends_at, completed).await;
        self.cluster.acking.end(&self.request, &self.cluster.held).unwrap_or_default()
    }
}

impl Drop for AckGathering {
    fn drop(&mut self) {
        // Forgotten also when nobody waits for it any more.
        self.cluster.acking.end(&self.request, &self.cluster.held);
    }
}

impl Cluster {
    /// Publishes an event and has its receivers elsewhere asked for acknowledgements. Where it cannot be asked it is published
    /// all the same.
    pub async fn emit_for_ack(
        self: &Arc<Self>,
        broadcast: Broadcast,
        timeout_ms: u64,
        responses_max: usize,
    ) -> AckGathering {
        let namespace = broadcast.namespace.clone();
        let servers = self.count_servers(&namespace).await.ok().map(|servers| servers.saturating_sub(1));
        let request = self.request_id();
        let completed = match servers {
            Some(0) => None,
            servers => {
                let completed = self.acking.begin(&request, servers, responses_max);
                if completed.is_none() {
                    self.counters.hit(BusLimit::Questions);
                }
                completed
            }
        };
        let message = match completed {
            None => Message::Broadcast(broadcast),
            Some(_) => Message::BroadcastForAck { request: request.clone(), broadcast, timeout_ms },
        };
        let ends_at = Instant::now() + Duration::from_millis(timeout_ms);
        let mut gathering = AckGathering { cluster: Arc::clone(self), request, completed, ends_at, published: false };
        gathering.published = self.publish(&namespace, &message).await.is_ok();
        if !gathering.published {
            // Nobody hears of it.
            gathering.completed = None;
        }
        gathering
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn acknowledgement(value: &str) -> Answer {
        Answer::Acknowledgement { value: Some(value.as_bytes().into()), attachments: Vec::new() }
    }

    #[test]
    fn it_is_complete_when_all_servers_have_said_how_many_and_those_have_answered() {
        let (questions, held) = (AckQuestions::new(1), Held::new(10));
        let mut completed = questions.begin("q", Some(2), 2).unwrap();
        assert!(questions.begin("r", Some(2), 2).is_none(), "there is room for one");
        let answer = |uid, answer| questions.on_answer("q", uid, answer, &held);
        assert_eq!(questions.on_answer("r", None, Answer::Done, &held), Err(Answer::Done));
        // An answer may come before the number of another server.
        assert_eq!(answer(Some("a"), Answer::Receivers(1)), Ok(Kept::Yes));
        assert_eq!(answer(Some("a"), acknowledgement("1")), Ok(Kept::Yes));
        assert_eq!(answer(Some("a"), Answer::Receivers(1)), Ok(Kept::Yes), "it said so");
        assert_eq!(answer(None, acknowledgement("\"too long for it\"")), Ok(Kept::TooMuch));
        assert_eq!(answer(None, Answer::Receivers(2)), Ok(Kept::Yes));
        assert!(completed.try_recv().is_err(), "one has not answered");
        assert_eq!(answer(None, acknowledgement("23")), Ok(Kept::Yes));
        assert!(completed.try_recv().is_ok());
        assert_eq!(held.bytes(), 3);
        let said = questions.end("q", &held).unwrap();
        let responses = said.responses.iter().map(|one| std::str::from_utf8(one).unwrap()).collect::<Vec<_>>();
        assert_eq!((said.asked, said.acked, responses, said.missing), (3, 3, vec!["1", "23"], Some(0)));
        assert_eq!((held.bytes(), questions.end("q", &held)), (0, None));
    }

    #[test]
    fn where_it_is_not_known_how_many_servers_there_are_the_time_decides() {
        let (questions, held) = (AckQuestions::new(9), Held::new(10));
        let mut completed = questions.begin("q", None, 0).unwrap();
        for _ in 0..2 {
            questions.on_answer("q", None, Answer::Receivers(1), &held).unwrap();
            questions.on_answer("q", None, acknowledgement("1"), &held).unwrap();
        }
        assert!(completed.try_recv().is_err());
        let said = questions.end("q", &held).unwrap();
        assert_eq!((said.asked, said.acked, said.responses.len(), said.missing), (2, 2, 0, None));
    }
}
