//! `Instance`: a server under test: its cluster, its API and its shards as they are, in one task that can be stopped as a whole,
//! and its clients on connections without a distance.

use std::cell::{Cell, RefCell};
use std::collections::{HashMap, VecDeque};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use sockring::api::{Api, ApiParts};
use sockring::app::{Action, Actions, Admission, Application, ConnectRequest, Refusal, RefusalReason, SocketInfo};
use sockring::bus::Bus;
use sockring::capacity::{Capacity, CapacityLimits};
use sockring::cluster::{Cluster, ClusterParts, ClusterSettings, CoreBus};
use sockring::config::{ApiSettings, Strictness};
use sockring::mailbox::{Letter, Mailbox, Postbox};
use sockring::shard::{
    ConnectionKey, Destination, Effect, EngineSettings, Now, Parcel, Reply, Shard, ShardNumber, ShardParts,
    SiblingMail, Ticket, Turn,
};
use sockring_protocol::Millis;
use tokio::sync::{Notify, mpsc, oneshot};
use tokio::task::LocalSet;
use tokio::time::{Instant, Sleep, sleep, sleep_until};

use super::around::Around;
use super::client::Client;
use super::random::Random;
use super::redis::{Dial, SiteId};
use super::relays::Relays;
use super::wire;

pub const API_KEY: &str = "a-key-of-the-simulation";
const START_MS: u64 = 1_000_000;
/// Milliseconds before a turn.
const TURN_DELAYS: [u64; 6] = [0, 0, 0, 1, 1, 3];
const MAILBOX_BYTES: usize = 8 << 20;
const CONNECTIONS_MAX: usize = 64;

/// All clients of a world.
pub type Clients = Rc<RefCell<Vec<Client>>>;

/// What an instance is made of.
pub struct InstanceParts {
    pub site: SiteId,
    pub shards: u16,
    pub engine: EngineSettings,
    pub cluster: ClusterSettings,
    pub dials: mpsc::UnboundedSender<Dial>,
    pub clients: Clients,
    pub random: Random,
    pub begun: Instant,
}

/// Something that an instance does.
type Task = Pin<Box<dyn Future<Output = ()>>>;

/// A server.
pub struct Instance {
    pub cluster: Arc<Cluster>,
    pub api: Arc<Api>,
    tasks: mpsc::UnboundedSender<Task>,
    stopped_until: Rc<Cell<Option<Instant>>>,
    site: SiteId,
    shared: Rc<Shared>,
}

impl Instance {
    /// Starts it, within the local tasks of a runtime.
    pub fn start(parts: InstanceParts) -> Instance {
        let InstanceParts { site, shards, engine, cluster, dials, clients, mut random, begun } = parts;
        let engine = Arc::new(engine);
        let mailboxes: Vec<_> = (0..shards).map(|_| Arc::new(Mailbox::new(MAILBOX_BYTES))).collect();
        let postboxes = |sender: u16| -> Vec<Postbox> {
            mailboxes.iter().map(|mailbox| Postbox::new(Arc::clone(mailbox), usize::from(sender))).collect()
        };
        let limits = CapacityLimits {
            connections_max: CONNECTIONS_MAX,
            clients_max: CONNECTIONS_MAX,
            ..CapacityLimits::UNLIMITED
        };
        let capacity = Arc::new(Capacity::new(limits));
        let outside = Arc::new(Around { site, dials, random: Mutex::new(random.fork()) });
        let cluster = Cluster::new(ClusterParts {
            settings: cluster,
            namespaces: engine.namespaces.clone(),
            instance: engine.instance,
            run: "simulated".into(),
            name: "simulated".into(),
            postboxes: postboxes(shards + 1),
            outside,
            spans: None,
        });
        let cluster = cluster.expect("it needs no certificates");
        let api = Api::new(ApiParts {
            settings: api_settings(),
            listen_descriptors_max: 0,
            engine: Arc::clone(&engine),
            capacity: Arc::clone(&capacity),
            clients: ([127, 0, 0, 1], 8080).into(),
            server: "simulation".into(),
            name: "simulated".into(),
            shards: postboxes(shards),
            keyring: None,
            spans: None,
            tunnels: None,
            cluster: Some(Arc::clone(&cluster)),
            verifier: None,
            tls: None,
        });
        let shared = Rc::new(Shared::new(clients, shards));
        let now = Now { at: Millis(START_MS), unix_ms: START_MS };
        // Chance of its own: others' seeds stay what they are.
        let mut apart = random.clone();
        let is_relayed = apart.one_in(4);
        let cores = mailboxes.iter().zip(0..).map(|(mailbox, number)| Core {
            relays: is_relayed.then(|| Relays {
                settings: Arc::clone(&engine),
                capacity: Arc::clone(&capacity),
                place: ShardNumber { number, of: shards },
                random: apart.fork(),
            }),
            shard: Shard::new(
                ShardParts {
                    settings: Arc::clone(&engine),
                    capacity: Arc::clone(&capacity),
                    place: ShardNumber { number, of: shards },
                    app: Desk,
                    entropy: Box::new(random.fork()),
                },
                now,
            ),
            number: usize::from(number),
            mailbox: Arc::clone(mailbox),
            siblings: postboxes(number),
            letters: VecDeque::new(),
            answers: HashMap::new(),
            next_ticket: 0,
            keys: HashMap::new(),
            looks_around: false,
            shared: Rc::clone(&shared),
            random: random.fork(),
            begun,
        });
        let (tasks, coming) = mpsc::unbounded_channel();
        let stopped_until = Rc::new(Cell::new(None));
        let set = LocalSet::new();
        set.spawn_local(work(cores.collect(), Arc::clone(&cluster), coming));
        tokio::task::spawn_local(Gate { set, stopped_until: Rc::clone(&stopped_until), timer: None });
        Instance { cluster, api, tasks, stopped_until, site, shared }
    }

    /// A client connects; its number.
    pub fn connect(&self, user: &str, shard: usize) -> usize {
        self.shared.connect(Client::new(self.site, user.to_owned()), shard)
    }

    pub fn shards(&self) -> usize {
        self.shared.wakes.len()
    }

    /// The process does nothing until then.
    pub fn stop_until(&self, until: Instant) {
        self.stopped_until.set(Some(until));
    }

    /// Calls the API, as one of its tasks; the status, and the body.
    pub async fn call(&self, route: &str, body: &str) -> (u16, String) {
        let request = format!(
            "POST /api/v1/websocket/{route} HTTP/1.1\r\nHost: sim\r\nx-api-key: {API_KEY}\r\n\
             Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        let api = Arc::clone(&self.api);
        let (answer, answered) = oneshot::channel();
        let task = async move {
            let (status, body) = api.call(request.as_bytes()).await.expect("a whole request");
            let _ = answer.send((status, String::from_utf8(body).expect("JSON")));
        };
        assert!(self.tasks.send(Box::pin(task)).is_ok(), "it runs for ever");
        answered.await.expect("it runs for ever")
    }
}

fn api_settings() -> ApiSettings {
    ApiSettings {
        kept_default_s: 0,
        kept_ttl_max_s: 60,
        kept_in: "memory",
        keys: vec![API_KEY.to_owned()],
        strictness: Strictness::Production,
        listen: None,
        connections_max: 100,
        body_bytes_max: 1 << 20,
    }
}

/// Everything that a process does.
async fn work(cores: Vec<Core>, cluster: Arc<Cluster>, mut tasks: mpsc::UnboundedReceiver<Task>) {
    for core in cores {
        let bus = cluster.start(core.number);
        tokio::task::spawn_local(core.run(bus));
    }
    while let Some(task) = tasks.recv().await {
        tokio::task::spawn_local(task);
    }
}

/// All tasks of a process.
struct Gate {
    set: LocalSet,
    stopped_until: Rc<Cell<Option<Instant>>>,
    timer: Option<Pin<Box<Sleep>>>,
}

impl Future for Gate {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        if let Some(until) = self.stopped_until.get() {
            let timer = self.timer.get_or_insert_with(|| Box::pin(sleep_until(until)));
            if timer.deadline() < until {
                timer.as_mut().reset(until);
            }
            if timer.as_mut().poll(context).is_pending() {
                return Poll::Pending;
            }
            self.timer = None;
            self.stopped_until.set(None);
        }
        Pin::new(&mut self.set).poll(context)
    }
}

/// Admits users by name.
struct Desk;

impl Application for Desk {
    fn admit(&mut self, request: &ConnectRequest<'_>) -> Result<Admission, Refusal> {
        let user = request.payload.and_then(|payload| payload.strip_prefix("{\"user\":\"")?.strip_suffix("\"}"));
        let refusal =
            || Refusal { message: "no user".into(), reason: RefusalReason::UserMissing, wait_ms: 0, user: None };
        let user = user.ok_or_else(refusal)?;
        Ok(Admission { user: Some(user.to_owned()), ends_at_unix_ms: None })
    }

    fn connected(&mut self, _: &SocketInfo<'_>, _: &ConnectRequest<'_>, actions: &mut Actions) {
        actions.push(Action::Emit { ack: None, args: b"[\"connected\"]".to_vec(), attachments: Vec::new() });
    }
}

/// A client's connection, by the client's number.
struct ClientConnection {
    core: usize,
    key: Option<ConnectionKey>,
    /// What the client has sent and nobody has read.
    arrived: Vec<u8>,
    is_reading: bool,
    is_settled: bool,
    is_over: bool,
    /// The client has hung up, and its server has read of it.
    hung_up: Option<bool>,
}

/// What happens to a core's connections.
enum Happened {
    Accept(usize),
    Readable(usize),
    Sent(usize),
    Looked(ConnectionKey),
    Closed(ConnectionKey),
    Arrival(usize, Box<Parcel>),
}

/// What the cores and the clients of an instance have in common.
struct Shared {
    clients: Clients,
    connections: RefCell<HashMap<usize, ClientConnection>>,
    happened: Vec<RefCell<VecDeque<Happened>>>,
    wakes: Vec<Notify>,
}

impl Shared {
    fn new(clients: Clients, shards: u16) -> Shared {
        let (happened, wakes) = (0..shards).map(|_| Default::default()).unzip();
        Shared { clients, connections: RefCell::default(), happened, wakes }
    }

    fn connect(&self, client: Client, core: usize) -> usize {
        let mut clients = self.clients.borrow_mut();
        let number = clients.len();
        clients.push(client);
        let connection = ClientConnection {
            core,
            key: None,
            arrived: wire::websocket(None),
            is_reading: false,
            is_settled: false,
            is_over: false,
            hung_up: None,
        };
        self.connections.borrow_mut().insert(number, connection);
        self.note(core, Happened::Accept(number));
        number
    }

    fn note(&self, core: usize, event: Happened) {
        self.happened[core].borrow_mut().push_back(event);
        self.wakes[core].notify_one();
    }
}

/// A shard, and what its worker does for it.
struct Core {
    shard: Shard<Desk>,
    number: usize,
    mailbox: Arc<Mailbox>,
    siblings: Vec<Postbox>,
    letters: VecDeque<Letter>,
    answers: HashMap<u64, oneshot::Sender<Reply>>,
    next_ticket: u64,
    /// The clients of connections.
    keys: HashMap<ConnectionKey, usize>,
    looks_around: bool,
    shared: Rc<Shared>,
    random: Random,
    begun: Instant,
    /// Where its shards are replaced by their copies.
    relays: Option<Relays>,
}

impl Core {
    async fn run(mut self, mut bus: CoreBus) {
        loop {
            self.rest().await;
            match self.random.pick(&TURN_DELAYS) {
                0 => tokio::task::yield_now().await,
                delay => sleep(Duration::from_millis(delay)).await,
            }
            self.turn(&mut bus);
        }
    }

    fn is_busy(&self) -> bool {
        let happened = !self.shared.happened[self.number].borrow().is_empty();
        happened || self.looks_around || self.shard.is_behind() || !self.letters.is_empty() || !self.mailbox.is_empty()
    }

    async fn rest(&self) {
        self.mailbox.fall_asleep();
        if !self.is_busy() {
            let time = async {
                match self.shard.deadline() {
                    Some(Millis(at)) => sleep_until(self.begun + Duration::from_millis(at - START_MS)).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                () = self.mailbox.posted() => {}
                () = self.shared.wakes[self.number].notified() => {}
                () = time => {}
            }
        }
        self.mailbox.wake_up();
    }

    fn turn(&mut self, bus: &mut CoreBus) {
        let since = u64::try_from(self.begun.elapsed().as_millis()).expect("not so long");
        let now = START_MS + since;
        self.shard.on_time(Now { at: Millis(now), unix_ms: now });
        let events = std::mem::take(&mut *self.shared.happened[self.number].borrow_mut());
        let completions = events.len() as u64;
        let (arrivals, events): (Vec<_>, _) =
            events.into_iter().partition(|event| matches!(event, Happened::Arrival(..)));
        events.into_iter().for_each(|event| self.take(event));
        self.read_mail();
        for arrival in arrivals {
            // What was posted before it comes before it.
            match self.letters.is_empty() {
                true => self.take(arrival),
                false => self.shared.note(self.number, arrival),
            }
        }
        if std::mem::take(&mut self.looks_around) {
            self.shard.on_looked_around();
        }
        self.shard.on_tick();
        let mut effects = Vec::new();
        self.shard.flush(&mut effects);
        effects.into_iter().for_each(|effect| self.perform(effect, bus));
        self.shard.on_turned(Turn { micros: 100, mail_micros: 0, completions });
        if let Some(relays) = &mut self.relays {
            relays.turned(&mut self.shard, Desk, Now { at: Millis(now), unix_ms: now });
        }
    }

    fn read_mail(&mut self) {
        if self.letters.is_empty() {
            self.mailbox.collect(&mut self.letters);
        }
        while self.shard.takes_mail()
            && let Some(letter) = self.letters.pop_front()
        {
            match letter {
                Letter::Mail(mail, answer) => {
                    self.answers.insert(self.next_ticket, answer);
                    self.shard.on_mail(Ticket(self.next_ticket), mail);
                    self.next_ticket += 1;
                }
                Letter::Sibling(mail) => self.shard.on_sibling_mail(mail),
                Letter::Bus(mail) => self.shard.on_bus_mail(mail),
                Letter::Arrival(..) | Letter::Drain(..) => panic!("nobody posts this here"),
            }
        }
    }

    fn take(&mut self, event: Happened) {
        let shared = Rc::clone(&self.shared);
        let mut connections = shared.connections.borrow_mut();
        match event {
            Happened::Accept(client) => {
                let key = self.shard.on_accept(None).expect("there is room");
                self.keep(key, client, &mut connections);
            }
            Happened::Arrival(client, parcel) => {
                let key = self.shard.on_arrival(None, *parcel).expect("there is room");
                self.keep(key, client, &mut connections);
            }
            Happened::Closed(key) => self.shard.on_closed(key),
            Happened::Looked(key) => self.shard.on_looked(key),
            Happened::Sent(client) => {
                let connection = connections.get_mut(&client).expect("a connection");
                if let Some(key) = connection.key.filter(|_| connection.core == self.number && !connection.is_over) {
                    self.shard.on_sent(key, Ok(()));
                }
            }
            Happened::Readable(client) => {
                let connection = connections.get_mut(&client).expect("a connection");
                let is_read = connection.is_reading || connection.is_settled;
                let Some(key) = connection.key.filter(|_| connection.core == self.number && is_read) else { return };
                if connection.is_over {
                    return;
                }
                if !connection.arrived.is_empty() {
                    let mut bytes = std::mem::take(&mut connection.arrived);
                    connection.is_reading = false;
                    self.shard.on_bytes(key, &mut bytes);
                } else if connection.hung_up == Some(false) {
                    connection.hung_up = Some(true);
                    self.shard.on_hangup(key);
                }
                if connection.hung_up == Some(false) {
                    shared.note(self.number, Happened::Readable(client));
                }
            }
        }
    }

    fn keep(&mut self, key: ConnectionKey, client: usize, connections: &mut HashMap<usize, ClientConnection>) {
        let connection = connections.get_mut(&client).expect("a connection");
        connection.key = Some(key);
        connection.core = self.number;
        self.keys.insert(key, client);
    }

    fn perform(&mut self, effect: Effect, bus: &mut CoreBus) {
        match effect {
            Effect::Mail(to, mail) => self.post(usize::from(to), *mail),
            Effect::Subscribe(room, epoch) => bus.subscribe(*room, epoch),
            Effect::Unsubscribe(room) => bus.unsubscribe(*room),
            Effect::Acknowledged(answer) => bus.acknowledge(*answer),
            Effect::FindSession(question) => bus.find_session(*question),
            Effect::KeepSession(kept) => bus.keep_session(*kept),
            Effect::ReadKept(question) => bus.read_kept(*question),
            Effect::ConfirmKept(received) => bus.confirm_kept(*received),
            Effect::GiveKept(given) => bus.give_kept(*given),
            Effect::Reply(Ticket(ticket), reply) => {
                // Who asked may have gone.
                let _ = self.answers.remove(&ticket).expect("asked once").send(*reply);
            }
            Effect::LookAround => self.looks_around = true,
            Effect::Look(key) => self.shared.note(self.number, Happened::Looked(key)),
            Effect::Read(key)
            | Effect::Send(key, _)
            | Effect::Settle(key)
            | Effect::ShutDown(key)
            | Effect::Close(key)
            | Effect::HandOver(key, ..) => {
                let client = self.keys[&key];
                let shared = Rc::clone(&self.shared);
                let mut connections = shared.connections.borrow_mut();
                let connection = connections.get_mut(&client).expect("a connection");
                self.perform_on(connection, client, effect);
            }
        }
    }

    fn perform_on(&mut self, connection: &mut ClientConnection, client: usize, effect: Effect) {
        let shared = Rc::clone(&self.shared);
        let hang_up = |connection: &mut ClientConnection| {
            connection.hung_up.get_or_insert(false);
            shared.note(connection.core, Happened::Readable(client));
        };
        match effect {
            Effect::Read(_) => {
                connection.is_reading = true;
                shared.note(self.number, Happened::Readable(client));
            }
            Effect::Settle(_) => {
                connection.is_settled = true;
                shared.note(self.number, Happened::Readable(client));
            }
            Effect::Send(_, bytes) => {
                let mut clients = shared.clients.borrow_mut();
                let answer = clients[client].read(bytes.as_slice());
                connection.arrived.extend(answer);
                shared.note(self.number, Happened::Sent(client));
                if !connection.arrived.is_empty() {
                    shared.note(self.number, Happened::Readable(client));
                }
                if clients[client].ended_at.is_some() {
                    hang_up(connection);
                }
            }
            Effect::ShutDown(_) => {
                shared.clients.borrow_mut()[client].end();
                hang_up(connection);
            }
            Effect::Close(key) => {
                shared.clients.borrow_mut()[client].end();
                connection.is_over = true;
                self.keys.remove(&key);
                shared.note(self.number, Happened::Closed(key));
            }
            Effect::HandOver(key, Destination::Shard(to), parcel) => {
                connection.key = None;
                connection.is_reading = false;
                connection.core = usize::from(to);
                self.keys.remove(&key);
                shared.note(self.number, Happened::Closed(key));
                shared.note(usize::from(to), Happened::Arrival(client, parcel));
            }
            _ => panic!("no effect on a connection of a client"),
        }
    }

    fn post(&mut self, to: usize, mail: SiblingMail) {
        match mail.refusable_bytes() {
            None => self.siblings[to].post(Letter::Sibling(mail)),
            Some(bytes) => {
                if let Err(Letter::Sibling(mail)) = self.siblings[to].offer(Letter::Sibling(mail), bytes) {
                    self.shard.on_refused_mail(&mail);
                }
            }
        }
    }
}
