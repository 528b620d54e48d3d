//! Answering other instances: what they want done is done, what they ask is asked of the shards, within bounds.

use std::sync::Arc;
use std::time::Duration;

use sockring_protocol::adapter::{Adapter, Answer, Envelope, Message, RequestId, Selection, SocketDescription};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep, timeout};

use crate::mailbox::Postbox;
use crate::shard::{Mail, Reply, USER_PREFIX, home_of};

use super::awaiting::{Requester, SHARDS_WITHIN, replies};
use super::counters::BusLimit;
use super::joins::{Join, JoinOutcome};
use super::listing::UsersPart;
use super::numbers::QUESTION;
use super::subscriber::Instruction;
use super::{Cluster, PUBLISHED_WITHIN, Sent};

/// Questions that are looked at together: what several ask is asked of the shards once.
const TOGETHER_MAX: usize = 128;
/// Whatever takes longer is followed by a pause of the same length, so that questions never take more than half of a
/// shard's time.
const CHEAP: Duration = Duration::from_millis(5);
/// Letters that may wait for a shard when a request comes.
const LETTERS_MAX: usize = 10_000;

/// What is asked of the shards.
#[derive(Debug, PartialEq)]
enum Question {
    Sockets(Selection),
    Ids(Selection),
    Rooms(Box<str>),
    Numbers,
    Users(UsersPart),
}

impl Question {
    /// The room of the one user whom it is about, whose home knows all members.
    fn room_of_user(&self) -> Option<&str> {
        match self {
            Question::Sockets(selection) | Question::Ids(selection) => match &*selection.rooms {
                [room] if room.starts_with(USER_PREFIX) => Some(room),
                _ => None,
            },
            Question::Rooms(_) | Question::Numbers | Question::Users(_) => None,
        }
    }
}

/// The same question, and all who ask it.
#[derive(Debug)]
struct Group {
    question: Question,
    askers: Vec<Requester>,
}

/// Puts together what is the same, in the order in which it came.
fn groups(requests: impl Iterator<Item = Envelope>) -> Vec<Group> {
    let mut groups: Vec<Group> = Vec::new();
    for Envelope { uid, namespace, message } in requests {
        let (request, question) = match message {
            Message::Fetch { request, selection } => (request, Question::Sockets(selection)),
            Message::Ids { request, rooms } => {
                let selection = Selection { namespace: namespace.clone(), rooms, except: Vec::new() };
                (request, Question::Ids(selection))
            }
            Message::Rooms { request } => (request, Question::Rooms(namespace.clone())),
            Message::ServerSide { request: Some(request), args } => match UsersPart::of(&args) {
                Some((part, _)) => (request, Question::Users(part)),
                None => (request, Question::Numbers),
            },
            _ => continue,
        };
        let asker = Requester { namespace, uid, request };
        match groups.iter_mut().find(|group| group.question == question) {
            Some(group) => group.askers.push(asker),
            None => groups.push(Group { question, askers: vec![asker] }),
        }
    }
    groups
}

/// Since when shards are busy with questions.
struct BusySince(Instant);

impl BusySince {
    async fn rest(&mut self) {
        let took = self.0.elapsed();
        if took > CHEAP {
            sleep(took).await;
        }
        self.0 = Instant::now();
    }
}

/// Answers what waits for its turn.
pub(super) async fn run(cluster: Arc<Cluster>, mut requests: mpsc::Receiver<Envelope>) {
    let mut waiting = Vec::with_capacity(TOGETHER_MAX);
    while requests.recv_many(&mut waiting, TOGETHER_MAX).await > 0 {
        // Who asks where a socket is hears of rooms that it was ordered to join before, when messages to them come.
        let _ = timeout(SHARDS_WITHIN, cluster.joins.done()).await;
        let mut pace = BusySince(Instant::now());
        cluster.held.give_back(waiting.iter().map(|envelope| envelope.message.question_bytes()).sum());
        let groups = groups(waiting.drain(..));
        // What concerns one user costs a shard little: it is all asked before the first of it is awaited.
        let of_users: Vec<_> = groups.iter().map(|group| cluster.ask_home(&group.question)).collect();
        for (group, asked) in groups.into_iter().zip(of_users) {
            let answer = match asked {
                Some(asked) => cluster.answer_of_home(asked, &group.question).await,
                None => cluster.answer_of_shards(&group.question).await,
            };
            pace.rest().await;
            for Requester { namespace, uid, request } in group.askers {
                cluster.counters.requests_answered.add(1);
                if let Some(sent) = cluster.reply(&namespace, uid, request, answer.clone()) {
                    cluster.make_room(sent).await;
                }
                pace.rest().await;
            }
        }
    }
}

impl Cluster {
    /// Another instance wants something. Called within the runtime of the core that listens for requests.
    pub(super) fn on_request(self: &Arc<Self>, envelope: Envelope) {
        match &envelope.message {
            Message::Broadcast(_) | Message::Answer { .. } => return,
            // For code of other servers; we have none.
            Message::ServerSide { request: None, .. } => return,
            message if names_of(message) > self.settings.request_rooms_max => {
                return self.refuse(envelope, Some(BusLimit::RequestRooms));
            }
            message if self.is_question(message) => {
                let bytes = envelope.message.question_bytes();
                if !self.held.take(bytes) {
                    return self.refuse(envelope, Some(BusLimit::AnswersBytes));
                }
                if let Err(error) = self.requests.try_send(envelope) {
                    self.held.give_back(bytes);
                    self.refuse(error.into_inner(), Some(BusLimit::Requests));
                }
                return;
            }
            _ if self.are_shards_behind() => return self.refuse(envelope, None),
            _ => {}
        }
        let Envelope { uid, namespace, message } = envelope;
        match message {
            Message::Join { selection, rooms, confirm } => {
                let of_namespace = rooms.iter().filter_map(|room| self.room(&namespace, room)).collect();
                let join = self.joins.begin(of_namespace);
                let done = self.post(|| Mail::JoinSelected(selection.clone(), rooms.clone()));
                self.confirm_join(join, done, confirm.map(|request| Requester { namespace, uid, request }));
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
                self.deliver_for_ack(Requester { namespace, uid, request }, broadcast, timeout_ms);
            }
            _ => {}
        }
    }

    /// Whether the shards have to be asked for the answer.
    fn is_question(&self, message: &Message) -> bool {
        match message {
            Message::Ids { .. } | Message::Rooms { .. } | Message::Fetch { .. } => true,
            // Code of other servers may ask with events of its own; we have none that would know.
            Message::ServerSide { request: Some(_), args } => {
                **args == *QUESTION || UsersPart::of(args).is_some_and(|(_, id)| *id == *self.id())
            }
            _ => false,
        }
    }

    fn are_shards_behind(&self) -> bool {
        self.postboxes.iter().any(|shard| shard.waiting().0 > LETTERS_MAX)
    }

    /// What is too much is not done. A question is answered all the same, as by a server that has nobody: without an answer
    /// it would fail for all servers.
    fn refuse(&self, envelope: Envelope, limit: Option<BusLimit>) {
        self.counters.requests_refused.add(1);
        if let Some(limit) = limit {
            self.counters.hit(limit);
        }
        let (request, answer) = match envelope.message {
            Message::Fetch { request, .. } => (request, Answer::Sockets(Vec::new())),
            Message::Ids { request, .. } => (request, Answer::Ids(Vec::new())),
            Message::Rooms { request } => (request, Answer::Rooms(Vec::new())),
            Message::ServerSide { request: Some(request), .. } => {
                (request, Answer::ServerSide(b"null".to_vec().into()))
            }
            Message::BroadcastForAck { request, .. } => (request, Answer::Receivers(0)),
            _ => return,
        };
        self.reply(&envelope.namespace, envelope.uid, request, answer);
    }

    /// Asks all shards the same.
    pub(super) fn post(&self, mail: impl Fn() -> Mail) -> Vec<oneshot::Receiver<Reply>> {
        self.postboxes.iter().filter_map(|shard| shard.ask(mail())).collect()
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

    /// The same of an order to join. It is done when every shard says so, however long that takes.
    fn confirm_join(self: &Arc<Self>, join: Join, done: Vec<oneshot::Receiver<Reply>>, asker: Option<Requester>) {
        self.counters.requests_answered.add(1);
        let cluster = Arc::clone(self);
        tokio::task::spawn_local(async move {
            let (mut joined, mut full) = (0, 0);
            for answer in done {
                if let Ok(Reply::Joined { sockets, refused }) = answer.await {
                    joined += sockets;
                    full += refused;
                }
            }
            cluster.joins.tell_of_refused(full);
            // Who has found no room in the last of the rooms may be in the others.
            let outcome = if joined + full > 0 { JoinOutcome::Joined } else { JoinOutcome::Nobody };
            cluster.instruct(Instruction::Settled(join, outcome));
            if let Some(Requester { namespace, uid, request }) = asker.filter(|_| joined > 0) {
                cluster.reply(&namespace, uid, request, Answer::Done);
            }
        });
    }

    /// Asks the home of a user's room, if that is what a question is about: who is there, and which shards have others.
    fn ask_home(&self, question: &Question) -> Option<AtHome> {
        let room = question.room_of_user()?;
        let (Question::Sockets(selection) | Question::Ids(selection)) = question else { return None };
        let home = self.postboxes.get(usize::from(home_of(room, self.shards())))?;
        let outposts = Mail::Outposts { namespace: selection.namespace.clone(), room: room.into() };
        Some(AtHome {
            sockets: home.ask(Mail::Describe(selection.clone(), self.described_bytes_max()))?,
            outposts: home.ask(outposts)?,
        })
    }

    async fn answer_of_home(&self, asked: AtHome, question: &Question) -> Answer {
        let AtHome { sockets, outposts } = asked;
        let mut found = self.described(replies(vec![sockets]).await);
        if let (Some(Reply::Outposts(shards)), Question::Sockets(selection) | Question::Ids(selection)) =
            (replies(vec![outposts]).await.pop(), question)
        {
            let postboxes = shards.iter().filter_map(|shard| self.postboxes.get(usize::from(*shard)));
            let asked = postboxes
                .filter_map(|shard: &Postbox| shard.ask(Mail::Describe(selection.clone(), self.described_bytes_max())));
            let others = self.described(replies(asked.collect()).await);
            found = found.zip(others).map(|(found, others)| [found, others].concat());
        }
        answer_with(question, found.unwrap_or_default())
    }

    /// What all shards have to say to it.
    async fn answer_of_shards(&self, question: &Question) -> Answer {
        match question {
            Question::Sockets(selection) | Question::Ids(selection) => {
                let asked = self.post(|| Mail::Describe(selection.clone(), self.described_bytes_max()));
                answer_with(question, self.described(replies(asked).await).unwrap_or_default())
            }
            Question::Numbers => self.own_numbers().await,
            Question::Users(part) => self.own_users(*part).await,
            Question::Rooms(namespace) => {
                let mut rooms = Vec::new();
                let mail = || Mail::Rooms(namespace.clone(), self.described_bytes_max());
                for reply in replies(self.post(mail)).await {
                    match reply {
                        Reply::Rooms(more) => rooms.extend(more),
                        _ => {
                            self.counters.hit(BusLimit::AnswersBytes);
                            return Answer::Rooms(Vec::new());
                        }
                    }
                }
                // A room may have members on several shards.
                rooms.sort_unstable();
                rooms.dedup();
                Answer::Rooms(rooms)
            }
        }
    }

    /// What each shard may say to one question.
    fn described_bytes_max(&self) -> usize {
        self.held.bytes_max() / usize::from(self.shards()).max(1)
    }

    /// `None`: one of them would have had to say too much, and some of them would be taken for all.
    fn described(&self, replies: Vec<Reply>) -> Option<Vec<SocketDescription>> {
        let mut all = Vec::new();
        for reply in replies {
            match reply {
                Reply::Described(sockets) => all.extend(sockets),
                _ => {
                    self.counters.hit(BusLimit::AnswersBytes);
                    return None;
                }
            }
        }
        Some(all)
    }

    /// Waits for Redis to take an answer, while so much waits for it that others would find no room.
    async fn make_room(&self, sent: Sent) {
        if self.backlog.is_half_full() {
            // Whatever becomes of it is counted where it happens.
            let _ = timeout(PUBLISHED_WITHIN, sent.answer).await;
        }
    }

    /// Sends an answer. Nobody has to wait for what becomes of it.
    pub(super) fn reply(
        &self,
        namespace: &str,
        asker: Option<Box<str>>,
        request: RequestId,
        answer: Answer,
    ) -> Option<Sent> {
        // Where old servers of the classic adapter listen too.
        let asker = asker.filter(|_| self.adapter() != Adapter::Classic);
        let message = Message::Answer { asker, request, answer };
        // A failure is counted where it happens.
        self.send(namespace, &message).ok()
    }
}

/// The answers of a room's home that are awaited.
struct AtHome {
    sockets: oneshot::Receiver<Reply>,
    outposts: oneshot::Receiver<Reply>,
}

fn answer_with(question: &Question, sockets: Vec<SocketDescription>) -> Answer {
    match question {
        Question::Ids(_) => Answer::Ids(sockets.into_iter().map(|socket| socket.id).collect()),
        _ => Answer::Sockets(sockets),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_several_ask_is_one_question() {
        let selection = |room: &str| Selection { namespace: "/".into(), rooms: vec![room.into()], except: Vec::new() };
        let fetch = |room: &str, request: &str| Message::Fetch { request: request.into(), selection: selection(room) };
        let ids = Message::Ids { request: "4".into(), rooms: vec!["a".into()] };
        let messages = [fetch("a", "1"), fetch("user:b", "2"), fetch("a", "3"), ids];
        let envelopes = messages.map(|message| Envelope { uid: None, namespace: "/".into(), message });
        let groups = groups(envelopes.into_iter());
        let numbers = |group: &Group| group.askers.iter().map(|asker| asker.request.to_string()).collect::<Vec<_>>();
        assert_eq!(groups.iter().map(numbers).collect::<Vec<_>>(), [vec!["1", "3"], vec!["2"], vec!["4"]]);
        assert_eq!(groups[1].question.room_of_user(), Some("user:b"));
        assert_eq!(groups[2].question, Question::Ids(selection("a")));
    }
}
