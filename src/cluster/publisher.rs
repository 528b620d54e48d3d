//! The publisher: what all cores have for Redis goes through tasks of one core, a connection per node, in pipelines.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use redis::{Cmd, ServerError, Value};
use sockring_protocol::adapter::Adapter;
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;

use super::Cluster;
use super::counters::Loss;
use super::health::{Node, RedisConnectionId};
use super::link::{Backoff, RedisConnection};
use super::pulse::{Pulse, Voice};
use super::scripts::{UNKNOWN_SCRIPT, spelled_out};
use super::seldom::Seldom;
use super::settings::Address;
use super::topology::Topology;

/// Commands of one pipeline.
const PIPELINE_MAX: usize = 512;
/// Pipelines whose answers are awaited.
const PIPELINES_MAX: usize = 32;
/// How Redis begins to say that its access control list forbids something, and what it says of what a script does.
const NO_RIGHT: &str = "NOPERM";
const NO_RIGHT_IN_SCRIPT: [&str; 2] = ["The user executing the script can't run", "ACL failure in script"];
/// How often a command may be sent on to the node that has its slot now.
const ATTEMPTS_MAX: u8 = 3;

/// Why Redis has not done what was wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PublishError {
    /// It is down, or went down before it answered.
    Down,
    /// Too much waits for it already.
    QueueFull,
    /// It has not answered in time. It may have done it all the same.
    TimedOut,
    Refused,
}

impl From<PublishError> for Loss {
    fn from(error: PublishError) -> Loss {
        match error {
            PublishError::Down => Loss::Down,
            PublishError::QueueFull => Loss::QueueFull,
            PublishError::TimedOut => Loss::TimedOut,
            PublishError::Refused => Loss::Refused,
        }
    }
}

/// Who gets a command.
#[derive(Clone, Debug)]
pub(super) enum To {
    Anybody,
    /// Whoever has this shard channel, or this stream.
    OwnerOf(String),
    Node(Address),
}

/// One command on its way.
pub(super) struct Job {
    command: Cmd,
    to: To,
    answer: oneshot::Sender<Result<Value, PublishError>>,
    attempts: u8,
    _weight: Weight,
}

impl Job {
    /// Whether another node may know what to do with it. With the classic adapter all nodes take what is published.
    fn may_be_elsewhere(&self, cluster: &Cluster) -> bool {
        cluster.adapter() != Adapter::Classic || matches!(self.to, To::OwnerOf(_))
    }

    fn finish(self, result: Result<Value, PublishError>) {
        // Who asked may have gone.
        let _ = self.answer.send(result);
    }
}

/// Bytes that wait; given back when dropped.
struct Weight {
    waiting: Arc<AtomicUsize>,
    bytes: usize,
}

impl Drop for Weight {
    fn drop(&mut self) {
        self.waiting.fetch_sub(self.bytes, Ordering::AcqRel);
    }
}

/// Where every core puts what it has for Redis.
#[derive(Debug)]
pub(super) struct PublishQueue {
    jobs: mpsc::UnboundedSender<Job>,
    waiting: Arc<AtomicUsize>,
    bytes_max: usize,
    is_up: AtomicBool,
    is_silent: AtomicBool,
    /// Of commands that we have no right to.
    log: Seldom,
}

impl PublishQueue {
    pub(super) fn new(bytes_max: usize) -> (PublishQueue, mpsc::UnboundedReceiver<Job>) {
        let (jobs, receiver) = mpsc::unbounded_channel();
        let (is_up, is_silent) = (AtomicBool::new(false), AtomicBool::new(false));
        let backlog =
            PublishQueue { jobs, waiting: Arc::default(), bytes_max, is_up, is_silent, log: Seldom::default() };
        (backlog, receiver)
    }

    pub(super) fn is_up(&self) -> bool {
        self.is_up.load(Ordering::Acquire)
    }

    /// Redis does not answer for the moment: what is sent may come late.
    pub(super) fn is_silent(&self) -> bool {
        self.is_silent.load(Ordering::Acquire)
    }

    pub(super) fn waiting_bytes(&self) -> usize {
        self.waiting.load(Ordering::Relaxed)
    }

    /// So much waits that single commands may soon be refused.
    pub(super) fn is_half_full(&self) -> bool {
        self.waiting_bytes() > self.bytes_max / 2
    }

    /// Sends a command of about this many bytes. Nothing waits here: what cannot be taken is refused at once.
    pub(super) fn send(
        &self,
        command: Cmd,
        to: To,
        bytes: usize,
    ) -> Result<oneshot::Receiver<Result<Value, PublishError>>, PublishError> {
        if !self.is_up() {
            return Err(PublishError::Down);
        }
        let before = self.waiting.fetch_add(bytes, Ordering::AcqRel);
        let weight = Weight { waiting: Arc::clone(&self.waiting), bytes };
        // A single one may be larger than the limit: it was let in by a limit of its own.
        if before > 0 && before + bytes > self.bytes_max {
            return Err(PublishError::QueueFull);
        }
        let (answer, answered) = oneshot::channel();
        let job = Job { command, to, answer, attempts: 0, _weight: weight };
        self.jobs.send(job).map_err(|_| PublishError::Down)?;
        Ok(answered)
    }

    /// Rights do not come by themselves: whoever runs this has to hear of it.
    fn tell_of_refusal(&self, error: &ServerError) {
        if is_no_right(error.code(), error.details()) && self.log.is_due(Instant::now()) {
            tracing::warn!(
                reason = error.details().unwrap_or_default(),
                "our user of Redis lacks a right; docs/redis.md lists those that it needs"
            );
        }
    }

    /// Sends a command and waits for its answer.
    pub(super) async fn ask(&self, command: Cmd, to: To, within: Duration) -> Result<Value, PublishError> {
        let answered = self.send(command, to, size_of::<Job>())?;
        match timeout(within, answered).await {
            Ok(answer) => answer.unwrap_or(Err(PublishError::Down)),
            Err(_) => Err(PublishError::TimedOut),
        }
    }
}

/// Spreads jobs over connections, until the backlog is gone.
pub(super) async fn run(cluster: Arc<Cluster>, mut jobs: mpsc::UnboundedReceiver<Job>) {
    let mut publishers: HashMap<Node, mpsc::UnboundedSender<Job>> = HashMap::new();
    let mut topology = cluster.topology.subscribe();
    let open = |node: &Node| {
        let (sender, receiver) = mpsc::unbounded_channel();
        let publisher = Publisher { cluster: Arc::clone(&cluster), node: node.clone(), jobs: receiver };
        tokio::task::spawn_local(publisher.run());
        sender
    };
    publishers.insert(Node::Any, open(&Node::Any));
    loop {
        tokio::select! {
            biased;
            changed = topology.changed() => {
                if changed.is_err() {
                    return;
                }
                if let Topology::Slots(map) = &*topology.borrow_and_update() {
                    let is_master = |node: &Node| map.masters().iter().any(|master| Node::at(master) == *node);
                    publishers.retain(|node, _| *node == Node::Any || is_master(node));
                    // With the classic adapter all goes to anybody; the owner of a stream is connected when it gets something.
                    for master in map.masters().iter().filter(|_| cluster.adapter() == Adapter::Sharded) {
                        publishers.entry(Node::at(master)).or_insert_with_key(open);
                    }
                }
            }
            job = jobs.recv() => {
                let Some(job) = job else { return };
                let node = node_of(&topology.borrow(), &job.to);
                let publisher = publishers.entry(node).or_insert_with_key(open);
                if let Err(mpsc::error::SendError(job)) = publisher.send(job) {
                    job.finish(Err(PublishError::Down));
                }
            }
        }
    }
}

fn node_of(topology: &Topology, to: &To) -> Node {
    match (to, topology) {
        (To::Node(address), _) => Node::at(address),
        (To::OwnerOf(channel), Topology::Slots(map)) => map.owner(channel).map_or(Node::Any, Node::at),
        (To::OwnerOf(_) | To::Anybody, _) => Node::Any,
    }
}

/// One connection, for as long as there are jobs for it.
struct Publisher {
    cluster: Arc<Cluster>,
    node: Node,
    jobs: mpsc::UnboundedReceiver<Job>,
}

/// Why a connection is not served any more.
enum End {
    /// Nobody needs it.
    Retired,
    Lost(String),
}

impl Publisher {
    async fn run(mut self) {
        let id = RedisConnectionId::Publisher(self.node.clone());
        let name = format!("{}-publisher", self.cluster.client_name());
        let mut backoff = Backoff::default();
        let (mut attempts, mut is_first) = (0, true);
        loop {
            let cluster = Arc::clone(&self.cluster);
            let opening = cluster.open(self.node.clone(), attempts, &name);
            attempts += 1;
            // What comes before the first attempt is over can wait for it.
            let opened = if is_first { Some(opening.await) } else { self.refusing(opening).await };
            is_first = false;
            let reason = match opened {
                None => break,
                Some(Err(error)) => error.to_string(),
                Some(Ok(link)) => {
                    if self.node == Node::Any {
                        cluster.on_server(&link.server, &link.address);
                        cluster.backlog.is_silent.store(false, Ordering::Release);
                        cluster.backlog.is_up.store(true, Ordering::Release);
                        cluster.counters.publisher_is_up.set(1);
                    }
                    backoff.reset();
                    attempts = 0;
                    cluster.health.on_up(&id);
                    let end = self.serve(link).await;
                    cluster.counters.publisher_reconnects.add(1);
                    match end {
                        End::Retired => break,
                        End::Lost(reason) => reason,
                    }
                }
            };
            if self.node == Node::Any {
                cluster.backlog.is_up.store(false, Ordering::Release);
                cluster.counters.publisher_is_up.set(0);
            }
            cluster.topology_is_stale.notify_one();
            cluster.health.on_down(id.clone(), &reason);
            if self.refusing(cluster.health.rest(backoff.next(cluster.chance()))).await.is_none() {
                break;
            }
        }
        self.cluster.health.forget(&id);
    }

    /// Refuses all jobs while something else goes on. `None`: there will be no more.
    async fn refusing<T>(&mut self, something: impl Future<Output = T>) -> Option<T> {
        tokio::pin!(something);
        loop {
            tokio::select! {
                biased;
                output = &mut something => return Some(output),
                job = self.jobs.recv() => job?.finish(Err(PublishError::Down)),
            }
        }
    }

    fn on_voice(&self, voice: Voice) {
        self.cluster.health.on_voice(&RedisConnectionId::Publisher(self.node.clone()), voice);
        if self.node == Node::Any {
            self.cluster.backlog.is_silent.store(voice == Voice::Silent, Ordering::Release);
        }
    }

    async fn serve(&mut self, mut link: RedisConnection) -> End {
        let (done, mut finished) = mpsc::unbounded_channel();
        let mut under_way = 0;
        let mut pulse = Pulse::new(&self.cluster, &link);
        let mut batch = Vec::with_capacity(PIPELINE_MAX);
        loop {
            tokio::select! {
                biased;
                Some(()) = finished.recv() => under_way -= 1,
                push = link.pushes.recv() => match push {
                    None => return End::Lost("the connection was closed".to_owned()),
                    Some(push) => link.flow.used(super::flow::size_of_push(&push)),
                },
                voice = pulse.next() => match voice {
                    Err(reason) => return End::Lost(reason),
                    Ok(voice) => self.on_voice(voice),
                },
                count = self.jobs.recv_many(&mut batch, PIPELINE_MAX), if under_way < PIPELINES_MAX => {
                    if count == 0 {
                        return End::Retired;
                    }
                    under_way += 1;
                    let jobs = std::mem::take(&mut batch);
                    let (connection, cluster) = (link.connection.clone(), Arc::clone(&self.cluster));
                    let (flow, done) = (Arc::clone(&link.flow), done.clone());
                    tokio::task::spawn_local(async move {
                        perform(&cluster, connection, jobs).await;
                        flow.answered();
                        let _ = done.send(());
                    });
                }
            }
        }
    }
}

/// Sends jobs in one pipeline, and answers each.
async fn perform(cluster: &Cluster, mut connection: redis::aio::MultiplexedConnection, jobs: Vec<Job>) {
    let mut pipeline = redis::Pipeline::with_capacity(jobs.len());
    for job in &jobs {
        pipeline.add_command(job.command.clone());
    }
    let answers = connection.send_packed_commands(&pipeline, 0, jobs.len()).await;
    let Ok(answers) = answers else {
        return jobs.into_iter().for_each(|job| job.finish(Err(PublishError::Down)));
    };
    for (mut job, answer) in jobs.into_iter().zip(answers) {
        match answer {
            Value::ServerError(error) if error.code() == UNKNOWN_SCRIPT && job.attempts < ATTEMPTS_MAX => {
                job.attempts += 1;
                match spelled_out(&job.command) {
                    Some(command) => cluster.send_at_once(Job { command, ..job }),
                    None => job.finish(Err(PublishError::Refused)),
                }
            }
            Value::ServerError(error) if is_elsewhere(error.code()) && job.may_be_elsewhere(cluster) => {
                cluster.topology_is_stale.notify_one();
                job.attempts += 1;
                match job.attempts < ATTEMPTS_MAX && !cluster.is_too_late(&job) {
                    true => cluster.send_again(job),
                    false => job.finish(Err(PublishError::Refused)),
                }
            }
            Value::ServerError(error) => {
                tracing::debug!(code = error.code(), "Redis refused a command");
                cluster.backlog.tell_of_refusal(&error);
                job.finish(Err(PublishError::Refused));
            }
            answer => job.finish(Ok(answer)),
        }
    }
}

/// Whether Redis says that its access control list forbids something.
pub(super) fn is_no_right(code: &str, details: Option<&str>) -> bool {
    let is_of_script = |details: &str| NO_RIGHT_IN_SCRIPT.iter().any(|words| details.contains(words));
    code == NO_RIGHT || details.is_some_and(is_of_script)
}

/// Errors of a node that has not the channel's slot, or not yet.
pub(super) fn is_elsewhere(code: &str) -> bool {
    matches!(code, "MOVED" | "ASK" | "CLUSTERDOWN" | "TRYAGAIN")
}

impl Cluster {
    /// Whether nobody waits any more for a place in a stream: what its caller sent next may have one by now.
    fn is_too_late(&self, job: &Job) -> bool {
        self.adapter() == Adapter::Streams && job.answer.is_closed()
    }

    fn send_at_once(&self, job: Job) {
        if let Err(mpsc::error::SendError(job)) = self.backlog.jobs.send(job) {
            job.finish(Err(PublishError::Down));
        }
    }

    /// A moment later, when it is known better who has the slot.
    fn send_again(&self, job: Job) {
        let jobs = self.backlog.jobs.clone();
        tokio::task::spawn_local(async move {
            tokio::time::sleep(Duration::from_millis(50)).await;
            if let Err(mpsc::error::SendError(job)) = jobs.send(job) {
                job.finish(Err(PublishError::Down));
            }
        });
    }
}
