//! `sockring serve`: the workers, the API on top of them, what a developer is told at start, and the end.

use std::error::Error;
use std::io::{self, IsTerminal};
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use arc_swap::ArcSwap;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rustix::thread::{CpuSet, disable_transparent_huge_pages, sched_getaffinity};
use sockring::api::{Api, ApiParts};
use sockring::app::notifications::Notifications;
use sockring::auth::keyring::Keyring;
use sockring::auth::{TokenRules, Verifier};
use sockring::bus::{Bus, NoBus};
use sockring::capacity::{Capacity, CapacityLimits};
use sockring::cluster::{Cluster, ClusterParts, OperatingSystem};
use sockring::config::{Settings, Strictness};
use sockring::events::{self, Shutdown};
use sockring::mailbox::{Letter, Mailbox, Postbox};
use sockring::ring;
use sockring::shard::{self, EngineSettings, Mail, Positions, RecoverySettings, Remains, ShardNumber};
use sockring::spans::{SpanSource, Spans};
use sockring::tunnels::{TunnelParts, Tunnels};
use sockring::worker::{self, Clock, Dispatch, Listener, Surroundings, WorkerError, WorkerParts};
use sockring_protocol::adapter::Broadcast;
use tokio::signal::unix::{SignalKind, signal};

use crate::budget::{self, Descriptors};
use crate::certificates::Certificates;
use crate::collector::{Collecting, Collector};
use crate::flags::Invocation;
use crate::jwks::KeySource;
use crate::others::{self, InstanceIdentity};
use crate::reload::Reloader;
use crate::state::{Heritage, Testator};
use crate::{listen, logs, out, rings, space, supervisor};

/// The user of the token that a developer gets at start.
const DEMO_USER: &str = "demo";
const DEMO_TTL_S: u64 = 24 * 3600;
/// When clients may come back after a shutdown: what the stock client does by itself.
const RECONNECT_IN_MS: u64 = 1000;

/// How long the start is held up by a Redis that does not answer.
const REDIS_PATIENCE: Duration = Duration::from_secs(1);

/// Serves until SIGTERM or SIGINT.
pub(crate) fn run(invocation: Invocation) -> Result<(), Box<dyn Error>> {
    let mut settings = invocation.settings()?;
    let change_log = logs::begin(&settings)?;
    for warning in &settings.warnings {
        tracing::warn!("{warning}");
    }
    ring::requirements()?;
    // Tables are reserved for all clients that may come, and paid for by the page: with huge ones most of it would be air.
    if let Err(error) = disable_transparent_huge_pages(true) {
        tracing::debug!(%error, "huge pages stay allowed");
    }
    let descriptors = budget::raise_descriptor_limit();
    let budget = budget::descriptors(&settings, descriptors)?;
    space::try_all(&settings)?;
    let (secret, origin) = match (settings.access_token_secret.clone(), settings.has_public_keys()) {
        (Some(secret), _) => (Some(secret), SecretSource::Given),
        (None, true) => (None, SecretSource::Elsewhere),
        (None, false) => (Some(made_up_secret()?), SecretSource::MadeUp),
    };
    let (keyring, wanted) = settings.token_jwks.as_ref().map(|_| Keyring::new()).unzip();
    let rules = TokenRules { keyring: keyring.clone(), ..settings.token_rules(secret) };
    let verifier = Arc::new(ArcSwap::from_pointee(Verifier::new(rules)?));
    let opened = listen::Opened::take()?;
    let listeners = listen::clients_at(opened.clients.as_ref(), &settings)?;
    let clients = clients_address(&settings, &listeners);
    let api_listener = match opened.api {
        Some(listener) => Some(listener),
        None => listen::api(&settings).map_err(|error| format!("api_listen: {error}"))?,
    };
    let api_address = api_listener.as_ref().and_then(|listener| listener.local_addr().ok());
    let door = others::door(&mut settings).map_err(|error| format!("cluster_listen: {error}"))?;
    let (ended, end) = mpsc::channel();
    let heritage = Heritage::take(&settings)?;
    let identity = InstanceIdentity::find(&settings, heritage.instance)?;
    let testator = Testator::new(&settings, &heritage);
    let listening = (listeners, api_listener, door);
    let certificates = Arc::new(Certificates::new(&settings)?);
    let tokens = (&verifier, keyring.clone());
    let crew =
        Crew::start(&settings, tokens, (descriptors, budget), listening, (&heritage, identity), &certificates, &ended)?;
    // A worker drops its end without a word if it cannot start; then it says why by the other one.
    for _ in 0..settings.shards {
        if crew.started.recv().is_err() {
            return match end.recv()? {
                ProcessEnd::Worker(error) => {
                    Err(rings::explain(&error, budget::ring_options(&settings, descriptors), &settings).into())
                }
                ProcessEnd::Signal => Ok(()),
            };
        }
    }
    if let Some(path) = &settings.state_file {
        Heritage::remove(path);
    }
    let shards = crew.shards.clone();
    let reload = Reloader {
        invocation,
        running: settings.values.clone(),
        api: Arc::clone(&crew.api),
        verifier: Arc::clone(&verifier),
        keyring: keyring.clone(),
        certificates,
        watch: Box::new(move |users| {
            change_log(&users);
            watch(&shards, users);
        }),
    };
    if !settings.debug_users.is_empty() {
        watch(&crew.shards, settings.debug_users.clone());
    }
    follow_signals(ended, reload, &settings)?;
    if let (Some(jwks), Some(keyring), Some(wanted)) = (&settings.token_jwks, keyring, wanted) {
        KeySource::new(jwks).keep(keyring, wanted, crew.shards.clone())?;
    }
    if let Some(cluster) = &crew.cluster {
        // Who is told that the server runs may count on the other instances at once, if Redis is there at all.
        cluster.wait_until_up(REDIS_PATIENCE);
    }
    logs::started(&settings, clients, api_address, descriptors);
    announce(&settings, clients.port(), api_address, &verifier.load(), origin)?;
    let begun = Instant::now();
    supervisor::ready(&clients.to_string());
    supervisor::watch(crew.shards.clone())?;
    let ending = end.recv()?;
    let farewell = Arc::new(shutdown_event(&settings));
    if let Some(tunnels) = &crew.tunnels {
        tunnels.end_over(settings.drain);
    }
    let result = wind_up(ending, &crew.shards, crew.workers, (&farewell, settings.drain), testator.as_ref());
    if let Some(cluster) = &crew.cluster {
        others::say_goodbye(cluster);
    }
    if let Some(collecting) = crew.collecting {
        collecting.finish();
    }
    tracing::info!(seconds = begun.elapsed().as_secs(), "the server has ended");
    result
}

/// Tells all workers to end their clients, and waits until they have: also where one of them could not go on, since the
/// others' clients are not to blame.
fn wind_up(
    ending: ProcessEnd,
    shards: &[Postbox],
    workers: Vec<thread::JoinHandle<Option<Remains>>>,
    (farewell, over): (&Arc<Broadcast>, Duration),
    testator: Option<&Testator>,
) -> Result<(), Box<dyn Error>> {
    if let ProcessEnd::Worker(error) = &ending {
        tracing::error!(%error, "a worker cannot go on: closing the clients of the others");
    }
    for shard in shards {
        shard.post(Letter::Drain(Arc::clone(farewell), over));
    }
    let joined: Vec<_> = workers.into_iter().map(thread::JoinHandle::join).collect();
    let panicked = joined.iter().filter(|worker| worker.is_err()).count();
    if let Some(testator) = testator {
        // Of a worker that could not go on there is nothing, and the others' is not lost with it.
        testator.write(joined.into_iter().map(|remains| remains.ok().flatten().unwrap_or_default()).collect())?;
    }
    match ending {
        ProcessEnd::Worker(error) => Err(error.into()),
        ProcessEnd::Signal if panicked > 0 => Err("a worker panicked".into()),
        ProcessEnd::Signal => Ok(()),
    }
}

/// The clients' port as it was bound.
fn clients_address(settings: &Settings, listeners: &[Listener]) -> SocketAddr {
    listeners.first().map_or((settings.host, settings.port).into(), Listener::address)
}

/// Why the process ends.
enum ProcessEnd {
    Signal,
    /// A worker could not run, or not go on.
    Worker(WorkerError),
}

/// The workers, and what reaches them.
struct Crew {
    workers: Vec<thread::JoinHandle<Option<Remains>>>,
    shards: Vec<Postbox>,
    api: Arc<Api>,
    cluster: Option<Arc<Cluster>>,
    tunnels: Option<Arc<Tunnels>>,
    /// A word from each worker whose ring and tables stand.
    started: mpsc::Receiver<()>,
    /// `None`: nobody collects spans.
    collecting: Option<Collecting>,
}

impl Crew {
    fn start(
        settings: &Settings,
        (verifier, keyring): (&Arc<ArcSwap<Verifier>>, Option<Arc<Keyring>>),
        (descriptors, budget): (usize, Descriptors),
        (listeners, mut api_listener, mut door): (Vec<Listener>, Option<TcpListener>, Option<TcpListener>),
        (heritage, identity): (&Heritage, InstanceIdentity),
        certificates: &Certificates,
        ended: &mpsc::Sender<ProcessEnd>,
    ) -> Result<Crew, Box<dyn Error>> {
        let server: Arc<str> = settings.environment.as_str().into();
        let others = match &settings.cluster {
            Some(cluster) if cluster.has_channels_of_sids() => shard::Instances::OverBusBySid,
            Some(_) => shard::Instances::OverBus,
            None => shard::Instances::Alone,
        };
        let secret = settings.engine.recovery.secret.clone().unwrap_or_else(|| heritage.secret());
        let positions = match &settings.cluster {
            Some(cluster) if cluster.streams.sessions.is_some() => Positions::OfStream,
            _ => Positions::Counted,
        };
        let recovery = RecoverySettings { secret: Some(secret), positions, ..settings.engine.recovery.clone() };
        let InstanceIdentity { instance, run } = identity;
        let (tls, api_tls) = certificates.servers();
        let kept_at = if settings.cluster.is_some() { shard::KeptAt::Bus } else { shard::KeptAt::Shard };
        let engine = EngineSettings { instance, instances: others, recovery, kept_at, tls, ..settings.engine.clone() };
        let engine = Arc::new(engine);
        let limits = CapacityLimits { descriptors_max: budget.members, guests_max: budget.guests, ..settings.capacity };
        let capacity = Arc::new(Capacity::new(limits));
        let mailboxes: Vec<_> = (0..settings.shards).map(|_| Arc::new(Mailbox::new(settings.mail_bytes_max))).collect();
        let postboxes = |sender: u16| -> Vec<Postbox> {
            mailboxes.iter().map(|mailbox| Postbox::new(Arc::clone(mailbox), usize::from(sender))).collect()
        };
        // The API is a sender of its own, behind the shards.
        let shards = postboxes(settings.shards);
        let clients = clients_address(settings, &listeners);
        let name: Box<str> = format!("{}:{}", machine(), clients.port()).into();
        let collecting = collect_spans(settings, &name)?;
        let spans = collecting.as_ref().map(Collecting::spans);
        let cluster = match &settings.cluster {
            None => None,
            Some(redis) => Some(Cluster::new(ClusterParts {
                settings: redis.clone(),
                namespaces: engine.namespaces.clone(),
                instance,
                run,
                name: name.clone(),
                // Its tasks are a sender of their own, behind the API.
                postboxes: postboxes(settings.shards + 1),
                outside: Arc::new(OperatingSystem),
                spans: spans.clone(),
            })?),
        };
        let clock = Clock::default();
        let tunnels = cluster.clone().map(|cluster| {
            let (engine, capacity) = (Arc::clone(&engine), Arc::clone(&capacity));
            Tunnels::new(TunnelParts { cluster, engine, capacity, shards: shards.clone(), clock })
        });
        let api = Api::new(ApiParts {
            settings: settings.api.clone(),
            listen_descriptors_max: budget.api,
            engine: Arc::clone(&engine),
            capacity: Arc::clone(&capacity),
            clients,
            server: Arc::clone(&server),
            name,
            shards: shards.clone(),
            cluster: cluster.clone(),
            verifier: Some(Arc::clone(verifier)),
            tls: api_tls,
            tunnels: tunnels.clone(),
            keyring,
            spans,
        });
        let processors = processors(settings.shards);
        let (ready, started) = mpsc::channel();
        let mut workers = Vec::new();
        for ((number, listener), mailbox) in (0..settings.shards).zip(listeners).zip(&mailboxes) {
            let parts = WorkerParts {
                settings: Arc::clone(&engine),
                capacity: Arc::clone(&capacity),
                place: ShardNumber { number, of: settings.shards },
                app: Notifications::new(Arc::clone(verifier), Arc::clone(&server)),
                listener,
                mailbox: Arc::clone(mailbox),
                siblings: postboxes(number),
                clock,
                ring: budget::ring_options(settings, descriptors),
                left: (Arc::clone(&heritage.left), heritage.heir),
                processor: processors.get(usize::from(number) % processors.len().max(1)).copied(),
            };
            let tasks = Tasks {
                api: Arc::clone(&api),
                api_listener: api_listener.take(),
                cluster: cluster.clone(),
                tunnels: tunnels.clone(),
                door: door.take(),
            };
            let worker = start_worker(parts, tasks, ready.clone(), ended.clone());
            workers.push(worker.map_err(|error| space::explain(&error, settings))?);
        }
        Ok(Crew { workers, shards, api, cluster, tunnels, started, collecting })
    }
}

/// The thread that sends spans, where somebody collects them.
fn collect_spans(settings: &Settings, name: &str) -> Result<Option<Collecting>, Box<dyn Error>> {
    let Some(otlp) = &settings.otlp else { return Ok(None) };
    let mut seed = [0; 16];
    getrandom::fill(&mut seed).map_err(|error| format!("no random bytes: {error}"))?;
    let spans = Spans::new(otlp.rules, u128::from_ne_bytes(seed));
    let resource = SpanSource { instance: name.to_owned(), environment: settings.environment.clone() };
    Ok(Some(Collector::new(otlp, resource).collect(spans)?))
}

/// What this machine, or container, calls itself.
fn machine() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    Some(name.trim().to_owned()).filter(|name| !name.is_empty()).unwrap_or_else(|| "localhost".to_owned())
}

/// The processors that workers are tied to, in turn. A single worker goes where there is time for it.
fn processors(shards: u16) -> Vec<usize> {
    let allowed = sched_getaffinity(None).unwrap_or_else(|_| CpuSet::new());
    (0..CpuSet::MAX_CPU).filter(|processor| shards > 1 && allowed.is_set(*processor)).collect()
}

/// What else lives on the thread of a worker.
struct Tasks {
    api: Arc<Api>,
    api_listener: Option<TcpListener>,
    cluster: Option<Arc<Cluster>>,
    tunnels: Option<Arc<Tunnels>>,
    door: Option<TcpListener>,
}

fn start_worker(
    parts: WorkerParts<Notifications>,
    tasks: Tasks,
    ready: mpsc::Sender<()>,
    ended: mpsc::Sender<ProcessEnd>,
) -> io::Result<thread::JoinHandle<Option<Remains>>> {
    let number = usize::from(parts.place.number);
    thread::Builder::new().name(format!("shard-{number}")).spawn(move || {
        let surroundings = move || {
            // Its ring and its tables stand.
            let _ = ready.send(());
            let Tasks { api, api_listener, cluster, tunnels, door } = tasks;
            if let Some(listener) = api_listener {
                tokio_uring::spawn(Arc::clone(&api).listen(listener));
            }
            let reception = Box::new(move |descriptor: OwnedFd, parcel| api.receive(number, descriptor, parcel));
            let bus: Box<dyn Bus> = match cluster {
                Some(cluster) => Box::new(cluster.start(number)),
                None => Box::new(NoBus),
            };
            if let Some(tunnels) = &tunnels {
                tunnels.start(number, door);
            }
            let dispatch: Dispatch = Box::new(move |instance, descriptor, parcel| {
                if let Some(tunnels) = &tunnels {
                    tunnels.carry(number, instance, descriptor, parcel);
                }
            });
            Surroundings { reception, dispatch, bus }
        };
        match worker::run(parts, surroundings) {
            Ok(remains) => Some(remains),
            Err(error) => {
                // The main thread reports it and ends the process.
                let _ = ended.send(ProcessEnd::Worker(error));
                None
            }
        }
    })
}

/// SIGHUP reloads; SIGTERM and SIGINT end, and end at once when one comes again.
fn follow_signals(
    ended: mpsc::Sender<ProcessEnd>,
    mut reloader: Reloader,
    settings: &Settings,
) -> Result<(), Box<dyn Error>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    // Registered before anybody is told that the server runs.
    let drain = settings.drain;
    let (mut terminate, mut interrupt, mut hangup) = {
        let _within = runtime.enter();
        (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?, signal(SignalKind::hangup())?)
    };
    let spawned = thread::Builder::new().name("signals".to_owned()).spawn(move || {
        runtime.block_on(async {
            loop {
                tokio::select! {
                    _ = terminate.recv() => break,
                    _ = interrupt.recv() => break,
                    _ = hangup.recv() => {
                        supervisor::reloading();
                        reloader.reload();
                        supervisor::ready_again();
                    }
                    () = reloader.certificates.changed() => reloader.reload_certificates(),
                }
            }
            supervisor::stopping(drain);
            tracing::info!("closing all clients; a second signal ends at once");
            let _ = ended.send(ProcessEnd::Signal);
            tokio::select! { _ = terminate.recv() => {}, _ = interrupt.recv() => {} }
            std::process::exit(1);
        });
    });
    spawned.map(drop).map_err(|error| space::explain(&error, settings).into())
}

/// Has all shards tell of these users' clients.
fn watch(shards: &[Postbox], users: Vec<String>) {
    let users: Arc<[String]> = users.into();
    for shard in shards {
        // The answer says nothing.
        drop(shard.ask(Mail::Watch(Arc::clone(&users))));
    }
}

/// Where the secret of tokens comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum SecretSource {
    Given,
    MadeUp,
    /// Tokens are signed by the holder of a private key.
    Elsewhere,
}

/// Says where the server listens, and in development how to try it. That nobody reads it keeps no server from running.
fn announce(
    settings: &Settings,
    port: u16,
    api_address: Option<SocketAddr>,
    verifier: &Verifier,
    secret: SecretSource,
) -> Result<(), Box<dyn Error>> {
    let host = match settings.host {
        host if host.is_unspecified() || host.is_loopback() => "localhost".to_owned(),
        IpAddr::V6(host) => format!("[{host}]"),
        IpAddr::V4(host) => host.to_string(),
    };
    let scheme = scheme_of(settings.tls.as_ref());
    let mut text = format!("sockring {} is listening on {scheme}://{host}:{port}\n", env!("CARGO_PKG_VERSION"));
    let api = match api_address {
        None => format!("{scheme}://{host}:{port}"),
        Some(address) => {
            let scheme = scheme_of(settings.tls.as_ref().and_then(|tls| tls.api.as_ref()));
            text += &format!("The API and the metrics are on {scheme}://{address}\n");
            match address.ip().is_unspecified() {
                true => format!("{scheme}://localhost:{}", address.port()),
                false => format!("{scheme}://{address}"),
            }
        }
    };
    if settings.strictness == Strictness::Development && secret != SecretSource::Elsewhere {
        text += &invitation(settings, &api, verifier, secret)?;
    }
    if let Err(error) = out::line(text.trim_end_matches('\n')) {
        tracing::warn!(%error, "where the server listens could not be printed");
    }
    Ok(())
}

fn scheme_of<T>(tls: Option<&T>) -> &'static str {
    if tls.is_some() { "https" } else { "http" }
}

/// A token, the page with it, which is where the API is, and a request. A token of a secret that outlives this run is shown to a person only: what
/// is not a terminal may be kept for others to read.
fn invitation(
    settings: &Settings,
    api: &str,
    verifier: &Verifier,
    secret: SecretSource,
) -> Result<String, Box<dyn Error>> {
    let mut text = String::new();
    if secret == SecretSource::MadeUp {
        text += "\nACCESS_TOKEN_SECRET is not set: a secret was made for this run; its tokens end with it.\n";
    }
    if secret == SecretSource::MadeUp || std::io::stdout().is_terminal() {
        let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
        let token = verifier.mint(DEMO_USER, now, DEMO_TTL_S)?;
        text += &format!("\nA token for the user `{DEMO_USER}`, valid for a day:\n  {token}\n");
        text += &format!("\nOpen the test page:\n  {api}/#token={token}\n");
    } else {
        text += &format!("\nA token for the test page: sockring token --user {DEMO_USER}\n");
        text += &format!("\nOpen the test page:\n  {api}/\n");
    }
    let key = match settings.api.keys.first() {
        Some(_) => " -H \"x-api-key: $API_KEY\"",
        None => "",
    };
    text += &format!(
        "\nSend an event to that user:\n  curl -X POST {api}/api/v1/websocket/emit{key} \\\n    \
         -H 'content-type: application/json' \\\n    \
         -d '{{\"user\":\"{DEMO_USER}\",\"event\":\"analysis:started\",\"data\":{{\"interviewId\":\"42\"}}}}'\n\n"
    );
    Ok(text)
}

/// What every client is told before it is closed.
fn shutdown_event(settings: &Settings) -> Broadcast {
    let now_ms = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
    let payload = Shutdown {
        message: "The server is shutting down",
        reconnect_in_ms: RECONNECT_IN_MS,
        timestamp: events::iso_8601(u64::try_from(now_ms).unwrap_or(0)),
        server: &settings.environment,
    };
    Broadcast::new("/", Vec::new(), events::args(events::SERVER_SHUTDOWN, &payload).into())
}

fn made_up_secret() -> Result<String, Box<dyn Error>> {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes).map_err(|error| format!("no random bytes: {error}"))?;
    Ok(URL_SAFE_NO_PAD.encode(bytes))
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;

    #[test]
    fn a_worker_that_cannot_go_on_does_not_cut_off_the_clients_of_the_others() {
        let mailbox = Arc::new(Mailbox::new(1024));
        let has_drained = Arc::new(AtomicBool::new(false));
        let other = {
            let (mailbox, has_drained) = (Arc::clone(&mailbox), Arc::clone(&has_drained));
            thread::spawn(move || {
                let mut letters = VecDeque::new();
                while letters.is_empty() {
                    mailbox.collect(&mut letters);
                    thread::yield_now();
                }
                // It takes its time.
                thread::sleep(Duration::from_millis(50));
                has_drained
                    .store(matches!(letters.make_contiguous(), [Letter::Drain(_, Duration::ZERO)]), Ordering::Relaxed);
                None
            })
        };
        let failed = thread::spawn(|| None);
        let error = WorkerError::Io(std::io::Error::other("gone"));
        let farewell = Arc::new(Broadcast::new("/", Vec::new(), Arc::from(*b"[]")));
        let shards = [Postbox::new(mailbox, 0)];
        let ending = ProcessEnd::Worker(error);
        let result = wind_up(ending, &shards, vec![failed, other], (&farewell, Duration::ZERO), None);
        assert!(result.unwrap_err().to_string().contains("gone"));
        assert!(has_drained.load(Ordering::Relaxed));
    }
}
