//! `sockring serve`: the workers, the API on top of them, what a developer is told at start, and the end.

use std::error::Error;
use std::io::IsTerminal;
use std::net::IpAddr;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::mpsc;
use std::thread;
use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use sockring::api::Api;
use sockring::app::notifications::Notifications;
use sockring::auth::Verifier;
use sockring::broadcast::{Broadcast, Delivery};
use sockring::config::{LogFormat, Settings, Strictness};
use sockring::events::{self, Shutdown};
use sockring::mailbox::{Letter, Mailbox, Postbox};
use sockring::ring::{self, RingOptions};
use sockring::worker::{self, Listener, WorkerError, WorkerParts};
use tokio::signal::unix::{SignalKind, signal};

/// The user of the token that a developer gets at start.
const DEMO_USER: &str = "demo";
const DEMO_TTL_S: u64 = 24 * 3600;
/// When clients may come back after a shutdown: what the stock client does by itself.
const RECONNECT_IN_MS: u64 = 1000;

/// Serves until SIGTERM or SIGINT.
pub fn run(settings: Settings) -> Result<(), Box<dyn Error>> {
    start_logging(&settings)?;
    ring::requirements()?;
    let descriptors = raise_descriptor_limit();
    if let Some(name) = redis_variable() {
        tracing::warn!(
            "{name} is set, but this version does not join a cluster: events reach this instance's clients only"
        );
    }
    let (secret, origin) = match (settings.access_token_secret.clone(), &settings.token_public_key) {
        (Some(secret), _) => (Some(secret), Secret::Given),
        (None, Some(_)) => (None, Secret::Elsewhere),
        (None, None) => (Some(made_up_secret()?), Secret::MadeUp),
    };
    let verifier = Arc::new(Verifier::new(settings.token_rules(secret))?);
    let listener = Listener::bind(settings.host, settings.port).map_err(|error| {
        let fix = "is another server running there? Choose another port with --port or PORT";
        format!("cannot listen on {} port {}: {error}; {fix}", settings.host, settings.port)
    })?;
    let port = listener.address().port();
    let server: Arc<str> = settings.environment.as_str().into();
    let engine = Arc::new(settings.engine.clone());
    let mailbox = Arc::new(Mailbox::new()?);
    let shards = vec![Postbox::new(Arc::clone(&mailbox))];
    let api = Api::new(settings.api.clone(), Arc::clone(&engine), Arc::clone(&server), shards.clone());
    let parts = WorkerParts {
        number: 0,
        app: Notifications::new(Arc::clone(&verifier), server),
        listener,
        mailbox,
        // A ring's table cannot be larger than the limit of open files; connections beyond it keep their descriptors.
        ring: RingOptions::for_connections(engine.connections_max.min(descriptors)),
        settings: engine,
    };
    let (ended, end) = mpsc::channel();
    let (ready, started) = mpsc::channel();
    let worker = start_worker(parts, api, ready, ended.clone())?;
    // The worker drops its end without a word if it cannot start; then it says why by the other one.
    if started.recv().is_err() {
        return match end.recv()? {
            Ending::Worker(error) => Err(error.into()),
            Ending::Signal => Ok(()),
        };
    }
    end_on_signal(ended)?;
    announce(&settings, port, &verifier, origin)?;
    let ending = end.recv()?;
    for shard in &shards {
        shard.post(Letter::ShutDown(shutdown_event(&settings)));
    }
    match ending {
        Ending::Signal => worker.join().map_err(|_| "a worker panicked".into()),
        Ending::Worker(error) => Err(error.into()),
    }
}

/// Why the process ends.
enum Ending {
    Signal,
    /// A worker could not run, or not go on.
    Worker(WorkerError),
}

fn start_worker(
    parts: WorkerParts<Notifications>,
    api: Arc<Api>,
    ready: mpsc::Sender<()>,
    ended: mpsc::Sender<Ending>,
) -> Result<thread::JoinHandle<()>, Box<dyn Error>> {
    let number = usize::from(parts.number);
    let handle = thread::Builder::new().name(format!("shard-{number}")).spawn(move || {
        let reception = move || -> worker::Reception {
            // The ring stands.
            let _ = ready.send(());
            Box::new(move |descriptor: OwnedFd, bytes| api.receive(number, descriptor, bytes))
        };
        if let Err(error) = worker::run(parts, reception) {
            // The main thread reports it and ends the process.
            let _ = ended.send(Ending::Worker(error));
        }
    })?;
    Ok(handle)
}

fn end_on_signal(ended: mpsc::Sender<Ending>) -> Result<(), Box<dyn Error>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
    // Registered before anybody is told that the server runs.
    let (mut terminate, mut interrupt) = {
        let _within = runtime.enter();
        (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?)
    };
    thread::Builder::new().name("signals".to_owned()).spawn(move || {
        runtime.block_on(async {
            tokio::select! { _ = terminate.recv() => {}, _ = interrupt.recv() => {} }
            tracing::info!("closing all clients; a second signal ends at once");
            let _ = ended.send(Ending::Signal);
            tokio::select! { _ = terminate.recv() => {}, _ = interrupt.recv() => {} }
            std::process::exit(1);
        });
    })?;
    Ok(())
}

/// Where the secret of tokens comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Secret {
    Given,
    MadeUp,
    /// Tokens are signed by the holder of a private key.
    Elsewhere,
}

/// Says where the server listens, and in development how to try it.
fn announce(settings: &Settings, port: u16, verifier: &Verifier, secret: Secret) -> Result<(), Box<dyn Error>> {
    let host = match settings.host {
        host if host.is_unspecified() || host.is_loopback() => "localhost".to_owned(),
        IpAddr::V6(host) => format!("[{host}]"),
        IpAddr::V4(host) => host.to_string(),
    };
    println!("sockring {} is listening on http://{host}:{port}", env!("CARGO_PKG_VERSION"));
    if settings.strictness == Strictness::Production || secret == Secret::Elsewhere {
        return Ok(());
    }
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
    let token = verifier.mint(DEMO_USER, now, DEMO_TTL_S)?;
    if secret == Secret::MadeUp {
        println!("\nACCESS_TOKEN_SECRET is not set: a secret was made for this run; its tokens end with it.");
    }
    println!("\nA token for the user `{DEMO_USER}`, valid for a day:\n  {token}");
    println!("\nOpen the test page:\n  http://{host}:{port}/#token={token}");
    let key = match settings.api.keys.first() {
        Some(_) => " -H \"x-api-key: $API_KEY\"",
        None => "",
    };
    println!(
        "\nSend an event to that user:\n  curl -X POST http://{host}:{port}/api/v1/websocket/emit{key} \\\n    \
         -H 'content-type: application/json' \\\n    \
         -d '{{\"user\":\"{DEMO_USER}\",\"event\":\"analysis:started\",\"data\":{{\"interviewId\":\"42\"}}}}'\n"
    );
    Ok(())
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
    Broadcast {
        namespace: "/".into(),
        rooms: Vec::new(),
        except: Vec::new(),
        delivery: Delivery::Queue,
        args: events::args(events::SERVER_SHUTDOWN, &payload).into(),
        attachments: Vec::new(),
    }
}

fn start_logging(settings: &Settings) -> Result<(), Box<dyn Error>> {
    let filter = tracing_subscriber::EnvFilter::try_new(&settings.log)
        .map_err(|error| format!("log: `{}` is no filter: {error}", settings.log))?;
    let logs = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(std::io::stderr().is_terminal())
        .with_writer(std::io::stderr);
    match settings.log_format {
        LogFormat::Text => logs.with_target(false).init(),
        LogFormat::Json => logs.json().init(),
    }
    Ok(())
}

/// Descriptors are needed for connections that are not WebSockets yet; the soft limit is often far below the hard one.
/// Returns the limit that is in force then.
fn raise_descriptor_limit() -> usize {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    if let Err(error) = setrlimit(Resource::Nofile, raised) {
        tracing::warn!(%error, "the limit of open files could not be raised");
    }
    getrlimit(Resource::Nofile).current.and_then(|limit| usize::try_from(limit).ok()).unwrap_or(usize::MAX)
}

fn made_up_secret() -> Result<String, Box<dyn Error>> {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes).map_err(|error| format!("no random bytes: {error}"))?;
    Ok(URL_SAFE_NO_PAD.encode(bytes))
}

/// The variable that asks for Redis, if one does.
pub fn redis_variable() -> Option<&'static str> {
    let is_set = |name: &&'static str| std::env::var(name).is_ok_and(|value| !value.is_empty());
    ["REDIS_URL", "REDIS_HOST"].into_iter().find(is_set)
}
