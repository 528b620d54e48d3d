//! The HTTP API and the page: everything on the port that is not Engine.IO, as tasks of a core.
//!
//! ```text
//!   a connection that its shard hands over, with what was read
//!     |                                                   ^ back, with the request that is a shard's
//!     v                                                   |
//!   connection: head, body --> access --> routes -->  emit, page, metrics, ...
//!     ^     crowd: how many at once                       |
//!     |                                                   v
//!     +------------------- answer <-------------------  across: mail to shards, published to others
//! ```
//!
//! The API knows shards by their mail only. What it wants of them it asks, and waits for the answer.

mod access;
mod across;
mod answer;
mod answers;
mod bodies;
mod builds;
mod bus_metrics;
mod connection;
mod crowd;
mod demo;
mod emit;
mod emitting;
mod exposition;
mod fields;
mod hits;
mod inquiring;
mod instances;
mod kept;
mod key_metrics;
mod maintenance;
mod metric_rows;
mod metrics;
mod minting;
mod nearest;
mod once;
mod openapi;
mod operations;
mod page;
mod prints;
mod process_metrics;
mod routes;
mod served;
mod shape;
mod span_metrics;
mod stream;
mod tls_metrics;
mod traced;
mod tunnel_metrics;
mod users;
mod words;

use std::future::poll_fn;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::OwnedFd;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::task::Poll;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use arc_swap::ArcSwap;
use serde_json::json;
use sockring_protocol::adapter::Broadcast;
use sockring_protocol::http::{CorsPolicy, Head};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;

use crate::auth::Verifier;
use crate::auth::keyring::Keyring;
use crate::capacity::{Capacity, Door, Stranger};
use crate::cluster::Cluster;
use crate::config::{ApiSettings, Strictness};
use crate::mailbox::{Letter, Postbox};
use crate::shard::{EngineSettings, EventIds, Limit, Mail, Papers, Parcel, Reply, ShardMetrics, ShardStats, home_of};
use crate::spans::Spans;
use crate::tls::TlsServer;
use crate::tunnels::Tunnels;

use answer::ApiError;
use crowd::{Crowd, Full};
use hits::Hits;

pub use bodies::{BodyError, decode_emit, decode_emits};
pub use operations::{AnswerShape, ApiOperation, BodyShape, OPERATIONS, Place};
pub use shape::{Field, FieldForm, FieldPresence, Rule, Shape};

/// How long shards may take to say how they are.
const LOOK_TIMEOUT: Duration = Duration::from_secs(1);
/// How long they may take for anything else: who is told sooner that an answer is late does not know what has been done.
const ASK_TIMEOUT: Duration = Duration::from_secs(5);
/// A shard takes a letter in whole, however large its emits turn out to be there.
const EMITS_PER_LETTER: usize = 8;
/// After a connection that could not be accepted.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What all API tasks of all cores share.
#[derive(Debug)]
pub struct Api {
    settings: ApiSettings,
    /// Replaced when the operator replaces them.
    keys: ArcSwap<Vec<String>>,
    engine: Arc<EngineSettings>,
    capacity: Arc<Capacity>,
    /// What `server` is in every payload.
    server: Arc<str>,
    /// Where this instance runs, for people.
    name: Box<str>,
    /// One per shard, by its number.
    shards: Vec<Postbox>,
    /// `None`: there are no other instances.
    cluster: Option<Arc<Cluster>>,
    tunnels: Option<Arc<Tunnels>>,
    /// Mints tokens for the page. `None`: nobody does.
    verifier: Option<Arc<ArcSwap<Verifier>>>,
    /// Of the address of the API; `None`: it speaks plain text.
    tls: Option<Arc<TlsServer>>,
    /// `None`: keys of tokens are not fetched.
    keyring: Option<Arc<Keyring>>,
    /// `None`: nobody collects them.
    spans: Option<Arc<Spans>>,
    page: page::Page,
    started: Instant,
    /// At the port of the clients, and at the address of the API.
    crowds: [Crowd; 2],
    demos: AtomicUsize,
    maintenance: maintenance::MaintenanceState,
    hits: Hits,
    served: served::ServedRequests,
    /// What events are called that are remembered.
    ids: EventIds,
    /// Emits of which it was to be known what sockets say.
    inquiries: AtomicU64,
}

/// What the API is made of.
#[derive(Debug)]
pub struct ApiParts {
    pub settings: ApiSettings,
    /// Open files for connections at `listen`.
    pub listen_descriptors_max: usize,
    pub engine: Arc<EngineSettings>,
    pub capacity: Arc<Capacity>,
    /// The clients' port, as it was bound.
    pub clients: SocketAddr,
    /// What `server` is in every payload.
    pub server: Arc<str>,
    /// Where this instance runs, for people.
    pub name: Box<str>,
    /// One per shard, by its number.
    pub shards: Vec<Postbox>,
    /// `None`: there are no other instances.
    pub cluster: Option<Arc<Cluster>>,
    /// Ways to them for requests; `None`: there are none.
    pub tunnels: Option<Arc<Tunnels>>,
    /// Mints tokens for the page. `None`: nobody does.
    pub verifier: Option<Arc<ArcSwap<Verifier>>>,
    /// Of the address of the API; `None`: it speaks plain text.
    pub tls: Option<Arc<TlsServer>>,
    /// `None`: keys of tokens are not fetched.
    pub keyring: Option<Arc<Keyring>>,
    /// `None`: nobody collects them.
    pub spans: Option<Arc<Spans>>,
}

/// Where a connection has come in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Entrance {
    /// The port of the clients; requests for the engine go to the shard of this number.
    Clients(usize),
    /// The address of the API alone.
    Api,
}

impl Api {
    pub fn new(parts: ApiParts) -> Arc<Api> {
        let connections_max = parts.settings.connections_max;
        let server = match parts.settings.listen {
            None => page::PageServer::Same,
            Some(_) => page::PageServer::At(parts.clients),
        };
        let crowds = [Crowd::at_clients(connections_max), Crowd::at_api(connections_max, parts.listen_descriptors_max)];
        Arc::new(Api {
            page: page::Page::new(&parts.engine.path, server, parts.settings.strictness),
            keys: ArcSwap::from_pointee(parts.settings.keys.clone()),
            settings: parts.settings,
            engine: parts.engine,
            capacity: parts.capacity,
            server: parts.server,
            name: parts.name,
            shards: parts.shards,
            cluster: parts.cluster,
            tunnels: parts.tunnels,
            verifier: parts.verifier,
            tls: parts.tls,
            keyring: parts.keyring,
            spans: parts.spans,
            started: Instant::now(),
            crowds,
            demos: AtomicUsize::new(0),
            maintenance: maintenance::off(),
            hits: Hits::default(),
            served: served::ServedRequests::default(),
            ids: EventIds::new(random()),
            inquiries: AtomicU64::new(0),
        })
    }

    /// From now on these keys are valid, and no others.
    pub fn replace_keys(&self, keys: Vec<String>) {
        self.keys.store(Arc::new(keys));
    }

    /// From now on pages of these origins may connect.
    pub fn allow_origins(&self, cors: &CorsPolicy) {
        for shard in &self.shards {
            // Its answer says nothing.
            drop(shard.ask(Mail::AllowOrigins(cors.clone())));
        }
    }

    /// Accepts connections at an address of the API's own. Has to be called within the runtime of a core.
    pub async fn listen(self: Arc<Self>, listener: std::net::TcpListener) -> std::io::Result<()> {
        listener.set_nonblocking(true)?;
        let listener = TcpListener::from_std(listener)?;
        loop {
            match listener.accept().await.and_then(|(stream, peer)| Ok((undelayed(stream)?, peer))) {
                Ok((descriptor, peer)) => {
                    if let Some(parcel) = self.admit(peer.ip()).await {
                        self.serve(Entrance::Api, descriptor, parcel);
                    }
                }
                Err(error) => {
                    self.capacity.accept_errors.count(Door::Api, &error);
                    tracing::warn!(%error, "a connection to the API could not be accepted");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    /// What a connection from here brings along; `None`: there are too many, of its address or of all, and it is closed.
    async fn admit(&self, peer: IpAddr) -> Option<Parcel> {
        let address = self.engine.proxies.client_address(Some(peer), []);
        let Ok(stranger) = Stranger::enter(&self.capacity, Door::Api, address) else {
            self.hits.per_address.fetch_add(1, Ordering::Relaxed);
            return None;
        };
        if let Err(Full) = self.crowd(Entrance::Api).find_room().await {
            self.hits.connections.fetch_add(1, Ordering::Relaxed);
            return None;
        }
        let tls = self.tls.as_ref().map(|tls| Box::new(tls.accept()));
        Some(Parcel::between_requests(Vec::new(), 0).with(Papers { stranger, ..Papers::default() }).through(tls))
    }

    /// Serves a connection with the bytes that were already read from it, until it ends or goes back to shard `home`.
    /// Has to be called within the runtime of a core.
    pub fn receive(self: &Arc<Self>, home: usize, descriptor: OwnedFd, parcel: Parcel) {
        self.serve(Entrance::Clients(home), descriptor, parcel);
    }

    fn serve(self: &Arc<Self>, entrance: Entrance, descriptor: OwnedFd, parcel: Parcel) {
        let api = Arc::clone(self);
        // At once: whoever comes next counts on it.
        api.crowd(entrance).enter();
        tokio_uring::spawn(async move {
            let _present = api.crowd(entrance).present_until_dropped();
            let returned = connection::serve(&api, entrance, descriptor, parcel).await;
            if let (Some((descriptor, parcel)), Entrance::Clients(home)) = (returned, entrance)
                && let Some(shard) = api.shards.get(home)
            {
                shard.post(Letter::Arrival(descriptor, Box::new(parcel)));
            }
        });
    }

    /// Answers a request that is all there and has come by no connection: its status and body. `None`: it is none.
    pub async fn call(self: &Arc<Self>, request: &[u8]) -> Option<(u16, Vec<u8>)> {
        let (head, length) = Head::decode(request, &mut 0, &self.engine.head).ok()??;
        let answer = match routes::find(self, &head, Entrance::Api, None) {
            Ok(route) => {
                let body = request.get(length..).unwrap_or_default();
                routes::answer(self, route, &head, body, None).await
            }
            Err(error) => error.into(),
        };
        Some((answer.status, answer.body))
    }

    fn crowd(&self, entrance: Entrance) -> &Crowd {
        let [clients, api] = &self.crowds;
        match entrance {
            Entrance::Clients(_) => clients,
            Entrance::Api => api,
        }
    }

    fn is_production(&self) -> bool {
        self.settings.strictness == Strictness::Production
    }

    /// Emits several to this instance's members; the answers are in their order.
    ///
    /// What goes to one room goes to its home, which knows who else has members; all else goes to every shard. Those that
    /// take different ways wait for each other, so that a room gets them in order.
    async fn deliver_all(&self, mut broadcasts: Vec<Broadcast>) -> Result<Vec<u64>, ApiError> {
        let span = self.begin_delivery(&mut broadcasts);
        let delivered = self.deliver_by_home(broadcasts).await;
        self.end_delivery(span, delivered.as_ref().ok().map(|delivered| delivered.iter().sum()));
        delivered
    }

    async fn deliver_by_home(&self, broadcasts: Vec<Broadcast>) -> Result<Vec<u64>, ApiError> {
        let mut delivered = vec![0; broadcasts.len()];
        let shards = u16::try_from(self.shards.len()).unwrap_or(u16::MAX);
        let mut numbered = broadcasts.into_iter().enumerate().peekable();
        while let Some((_, first)) = numbered.peek() {
            let has_home = first.rooms.len() == 1;
            // What each shard gets, and which answers it gives.
            let mut ways: Vec<(Vec<Broadcast>, Vec<usize>)> = vec![Default::default(); self.shards.len()];
            while let Some((number, broadcast)) = numbered.next_if(|(_, next)| (next.rooms.len() == 1) == has_home) {
                let homes = match &*broadcast.rooms {
                    [room] => {
                        let home = usize::from(home_of(room, shards));
                        home..home + 1
                    }
                    _ => 0..self.shards.len(),
                };
                for (broadcasts, numbers) in ways.get_mut(homes).unwrap_or_default() {
                    broadcasts.push(broadcast.clone());
                    numbers.push(number);
                }
            }
            let mail = if has_home { Mail::Emit } else { Mail::Deliver };
            let (mut questions, mut numbers) = (Vec::new(), Vec::new());
            for (shard, (broadcasts, of_shard)) in self.shards.iter().zip(ways) {
                let mut broadcasts = broadcasts.into_iter();
                let letters = of_shard.chunks(EMITS_PER_LETTER);
                let mails = letters.clone().map(|part| mail(broadcasts.by_ref().take(part.len()).collect()));
                questions.push((shard, mails.collect()));
                numbers.extend(letters.map(<[usize]>::to_vec));
            }
            let answers = self.ask(questions).await;
            for (reply, numbers) in answers.replies.iter().zip(numbers) {
                let Some(Reply::Delivered(counts)) = reply else { continue };
                for (number, count) in numbers.iter().zip(counts) {
                    if let Some(sum) = delivered.get_mut(*number) {
                        *sum += count;
                    }
                }
            }
            if let Some(error) = answers.error {
                return Err(ApiError { data: json!({"delivered": delivered.iter().sum::<u64>()}), ..error });
            }
        }
        Ok(delivered)
    }

    /// Has something done to sockets; says to how many it was done.
    async fn change(&self, mail: impl Fn() -> Mail) -> Result<u64, ApiError> {
        self.sum(mail, |reply| if let Reply::Changed(count) = reply { Some(count) } else { None }).await
    }

    /// What each shard says of itself.
    async fn stats(&self) -> Result<Vec<ShardStats>, ApiError> {
        let stats = |reply| if let Reply::Stats(stats) = reply { Some(*stats) } else { None };
        self.ask_all(LOOK_TIMEOUT, || Mail::Stats, stats).await
    }

    /// What each shard counts.
    async fn metrics(&self) -> Result<Vec<ShardMetrics>, ApiError> {
        let metrics = |reply| if let Reply::Metrics(metrics) = reply { Some(*metrics) } else { None };
        self.ask_all(LOOK_TIMEOUT, || Mail::Metrics, metrics).await
    }

    /// How many sockets a user has.
    async fn sockets_of(&self, user: &str) -> Result<u64, ApiError> {
        let mail = || Mail::UserStatus(user.to_owned());
        self.sum(mail, |reply| if let Reply::Sockets(count) = reply { Some(count) } else { None }).await
    }

    async fn sum(&self, mail: impl Fn() -> Mail, count: impl Fn(Reply) -> Option<u64>) -> Result<u64, ApiError> {
        Ok(self.ask_all(ASK_TIMEOUT, mail, count).await?.into_iter().sum())
    }

    /// Asks all shards the same.
    async fn ask_all<T>(
        &self,
        timeout: Duration,
        mail: impl Fn() -> Mail,
        answer: impl Fn(Reply) -> Option<T>,
    ) -> Result<Vec<T>, ApiError> {
        let questions = self.shards.iter().map(|shard| (shard, vec![mail()])).collect();
        let answers = self.ask_within(timeout, questions).await;
        match answers.error {
            Some(error) => Err(error),
            None => Ok(answers.replies.into_iter().flatten().filter_map(answer).collect()),
        }
    }

    /// Posts all questions, those to one shard together, and then waits for the answers.
    async fn ask(&self, questions: Vec<(&Postbox, Vec<Mail>)>) -> Answers {
        self.ask_within(ASK_TIMEOUT, questions).await
    }

    async fn ask_within(&self, timeout: Duration, questions: Vec<(&Postbox, Vec<Mail>)>) -> Answers {
        let deadline = tokio::time::Instant::now() + timeout;
        let mut asked = Vec::with_capacity(questions.len());
        for (shard, mails) in questions {
            let count = mails.len();
            match shard.ask_all(mails) {
                Some(answers) => asked.extend(answers.into_iter().map(Some)),
                None => asked.extend((0..count).map(|_| None)),
            }
        }
        let mut answers = Answers { replies: Vec::with_capacity(asked.len()), error: None, late: Vec::new() };
        for (number, question) in asked.into_iter().enumerate() {
            let reply = match question {
                None => {
                    // Counted for each letter that did not go.
                    self.hits.count(Limit::MailBytesMax);
                    Err(ApiError::new(503, "too much waits to be emitted"))
                }
                Some(mut answer) => match soon(&mut answer).await {
                    Some(answer) => answer.map_err(|_| gone()),
                    None => match tokio::time::timeout_at(deadline, &mut answer).await {
                        Ok(answer) => answer.map_err(|_| gone()),
                        Err(_) => {
                            answers.late.push((number, answer));
                            Err(ApiError::new(504, "a shard did not answer in time"))
                        }
                    },
                },
            };
            answers.error = answers.error.or_else(|| reply.as_ref().err().cloned());
            answers.replies.push(reply.ok());
        }
        answers
    }
}

/// What came of some questions, in their order.
struct Answers {
    replies: Vec<Option<Reply>>,
    /// The first thing that went wrong.
    error: Option<ApiError>,
    /// What has still to come, by the number of its question.
    late: Vec<(usize, oneshot::Receiver<Reply>)>,
}

fn gone() -> ApiError {
    ApiError::new(503, "the server is shutting down")
}

/// What is there by the time that the core's other tasks had their turn. The shard of this core answers within that, so that
/// no timer has to be set, which costs a system call where it becomes the next one.
async fn soon<T>(mut answer: impl Future<Output = T> + Unpin) -> Option<T> {
    let mut is_over = false;
    poll_fn(|context| match Pin::new(&mut answer).poll(context) {
        Poll::Ready(answer) => Poll::Ready(Some(answer)),
        Poll::Pending if is_over => Poll::Ready(None),
        Poll::Pending => {
            is_over = true;
            context.waker().wake_by_ref();
            Poll::Pending
        }
    })
    .await
}

/// A connection to be served, with its option set.
fn undelayed(stream: TcpStream) -> std::io::Result<OwnedFd> {
    stream.set_nodelay(true)?;
    Ok(stream.into_std()?.into())
}

/// A number by which this start tells its events from those of others.
#[expect(clippy::expect_used, reason = "there are no ids without randomness")]
fn random() -> u32 {
    getrandom::u32().expect("the operating system has random bytes")
}

/// Unix time in milliseconds.
fn unix_ms() -> u64 {
    let unix = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(unix.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use crate::capacity::CapacityLimits;
    use crate::config::{Settings, Values};

    use super::*;

    fn api() -> Arc<Api> {
        let settings = Settings::from_values(&Values::default()).expect("defaults");
        let limits = CapacityLimits { api_connections_per_address_max: 2, ..CapacityLimits::UNLIMITED };
        Api::new(ApiParts {
            settings: settings.api,
            listen_descriptors_max: 100,
            engine: Arc::new(settings.engine),
            capacity: Arc::new(Capacity::new(limits)),
            clients: ([127, 0, 0, 1], 0).into(),
            server: "test".into(),
            name: "test".into(),
            shards: Vec::new(),
            keyring: None,
            spans: None,
            cluster: None,
            tunnels: None,
            verifier: None,
            tls: None,
        })
    }

    #[test]
    fn at_the_apis_address_each_address_has_so_many_connections_that_have_shown_nothing() {
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        let api = api();
        let admit = |address: &str| runtime.block_on(api.admit(address.parse().expect("an address")));
        let mut first = admit("203.0.113.1").expect("the first");
        let second = admit("203.0.113.1").expect("the second");
        assert!(admit("203.0.113.1").is_none());
        assert!(admit("203.0.113.2").is_some(), "one address does not use up another's");
        // A backend at home is as many as it likes.
        let local: Vec<_> = ["127.0.0.1", "::1", "10.1.2.3"]
            .iter()
            .flat_map(|address| [address; 9])
            .map(|address| admit(address))
            .collect();
        assert!(local.iter().all(Option::is_some));
        // A key takes its connection off the count, as its end does.
        first.take_papers().stranger = None;
        assert!(admit("203.0.113.1").is_some() && admit("203.0.113.1").is_some(), "neither of them stayed");
        drop(second);
        assert!((0..9).all(|_| admit("203.0.113.1").is_some()));
        let hits = api.hits.all();
        let of = |name| hits.iter().find(|(limit, _)| *limit == name).map(|(_, count)| *count);
        assert_eq!(of("api_connections_per_address_max"), Some(1));
    }
}
