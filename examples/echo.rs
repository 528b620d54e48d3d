//! Echo servers on sockring's engine, one per layer: what protocol suites and benchmarks talk to.
//!
//! `cargo run --release --example echo -- --layer socketio --port 3000`

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr};
use std::process::ExitCode;
use std::sync::Arc;
use std::thread;

use clap::{Parser, ValueEnum};
use sockring::app::{
    Action, Actions, Admission, Application, ConnectRequest, Layer, ReceivedEvent, Refusal, SocketInfo,
};
use sockring::capacity::{Capacity, CapacityLimits};
use sockring::mailbox::{Mailbox, Postbox};
use sockring::ring::RingOptions;
use sockring::shard::{Elsewhere, EngineSettings, Heir, ShardNumber};
use sockring::worker::{self, Clock, Listener, Sharing, Surroundings, WorkerParts};
use sockring_protocol::engineio::{Data, SessionTimes};
use sockring_protocol::http::{CorsPolicy, Origins};
use sockring_protocol::socketio::EventName;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Of mail between shards that may be refused.
const MAIL_BYTES_MAX: usize = 8 << 20;

#[derive(Clone, Copy, Debug, ValueEnum)]
enum LayerName {
    /// `message` comes back as `message-back`, `message-with-ack` is acknowledged; `/custom` only emits `auth`.
    Socketio,
    /// Engine.IO messages come back; path `/engine.io/`.
    Engineio,
    /// WebSocket messages come back, on any path.
    Websocket,
}

/// An echo server on one layer of sockring's engine.
#[derive(Debug, Parser)]
struct Flags {
    #[arg(long, value_enum, default_value = "socketio")]
    layer: LayerName,
    /// 0: any free port, printed at start.
    #[arg(long, default_value_t = 3000)]
    port: u16,
    #[arg(long, default_value_t = 25_000, value_name = "MS")]
    ping_interval: u64,
    #[arg(long, default_value_t = 20_000, value_name = "MS")]
    ping_timeout: u64,
    #[arg(long, default_value_t = 10_000, value_name = "MS")]
    upgrade_timeout: u64,
    #[arg(long, default_value_t = 45_000, value_name = "MS")]
    connect_timeout: u64,
    /// From the CONNECT answer to `auth`: a client that waits for one message at a time may lose the second of two that
    /// come in one read.
    #[arg(long, default_value_t = 5, value_name = "MS")]
    connect_gap: u64,
    /// Bytes of one message; 16 MiB by default on the WebSocket layer.
    #[arg(long, value_name = "BYTES")]
    max_payload: Option<usize>,
    #[arg(long, default_value_t = 4096)]
    connections: usize,
    /// Threads that serve.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..))]
    shards: u16,
}

/// Gives back what comes by Socket.IO.
#[derive(Clone, Debug)]
struct Echo {
    connect_gap_ms: u64,
    /// What sockets have said in their CONNECT that still wait for `auth`, by their sids.
    payloads: HashMap<String, String>,
}

impl Echo {
    /// Says `auth` to a socket, unless that was said.
    fn greet(&mut self, socket: &SocketInfo<'_>, actions: &mut Actions) {
        if let Some(payload) = self.payloads.remove(socket.sid) {
            let args = format!("[\"auth\",{payload}]").into_bytes();
            actions.push(Action::Emit { ack: None, args, attachments: Vec::new() });
        }
    }
}

impl Application for Echo {
    fn admit(&mut self, _: &ConnectRequest<'_>) -> Result<Admission, Refusal> {
        Ok(Admission::default())
    }

    fn connected(&mut self, socket: &SocketInfo<'_>, request: &ConnectRequest<'_>, actions: &mut Actions) {
        self.payloads.insert(socket.sid.to_owned(), request.payload.unwrap_or("{}").to_owned());
        match self.connect_gap_ms {
            0 => self.greet(socket, actions),
            gap_ms => actions.push(Action::WakeAfter(gap_ms)),
        }
    }

    fn woken(&mut self, socket: &SocketInfo<'_>, actions: &mut Actions) {
        self.greet(socket, actions);
    }

    fn disconnected(&mut self, socket: &SocketInfo<'_>) {
        self.payloads.remove(socket.sid);
    }

    fn event(&mut self, socket: &SocketInfo<'_>, event: &ReceivedEvent<'_>, actions: &mut Actions) {
        self.greet(socket, actions);
        if socket.namespace != "/" {
            return;
        }
        let Some(EventName::Text(name)) = event.args.event() else { return };
        let arguments = event.args.after_event();
        let attachments = event.attachments.to_vec();
        match (&*name, event.ack) {
            ("message", _) => {
                let comma = if arguments.is_empty() { "" } else { "," };
                let args = ["[\"message-back\"", comma, arguments, "]"].concat().into_bytes();
                actions.push(Action::Emit { ack: None, args, attachments });
            }
            ("message-with-ack", Some(ack)) => {
                let args = format!("[{arguments}]").into_bytes();
                actions.push(Action::Acknowledge { ack, args, attachments });
            }
            _ => {}
        }
    }
}

/// Gives back what comes by Engine.IO.
#[derive(Clone, Copy, Debug)]
struct EngineIoEcho;

impl Application for EngineIoEcho {
    const LAYER: Layer = Layer::EngineIo;

    fn admit(&mut self, _: &ConnectRequest<'_>) -> Result<Admission, Refusal> {
        Ok(Admission::default())
    }

    fn message(&mut self, message: Data<'_>, actions: &mut Actions) {
        actions.push(back(message));
    }
}

/// Gives back what comes by a WebSocket, without a session.
#[derive(Clone, Copy, Debug)]
struct WebSocketEcho;

impl Application for WebSocketEcho {
    const LAYER: Layer = Layer::WebSocket;

    fn admit(&mut self, _: &ConnectRequest<'_>) -> Result<Admission, Refusal> {
        Ok(Admission::default())
    }

    fn message(&mut self, message: Data<'_>, actions: &mut Actions) {
        actions.push(back(message));
    }
}

fn back(message: Data<'_>) -> Action {
    match message {
        Data::Text(text) => Action::SendText(text.into()),
        Data::Binary(data) => Action::SendBinary(data.into_owned()),
    }
}

fn settings(flags: &Flags) -> EngineSettings {
    // A raw WebSocket has no heartbeat of its own. Messages of many megabytes in small fragments are part of what an echo is
    // tested with.
    let (path, payload_bytes_max, ping_interval_ms, fragments_max) = match flags.layer {
        LayerName::Socketio => ("/socket.io/", 1_000_000, flags.ping_interval, 1024),
        LayerName::Engineio => ("/engine.io/", 1_000_000, flags.ping_interval, 1024),
        LayerName::Websocket => ("/", 16 << 20, u64::MAX, 1 << 20),
    };
    let payload_bytes_max = flags.max_payload.unwrap_or(payload_bytes_max);
    EngineSettings {
        elsewhere: Elsewhere::NotFound,
        path: path.to_owned(),
        namespaces: vec!["/".to_owned(), "/custom".to_owned()],
        times: SessionTimes {
            ping_interval_ms,
            ping_timeout_ms: flags.ping_timeout,
            upgrade_timeout_ms: flags.upgrade_timeout,
        },
        cors: CorsPolicy { origins: Origins::Any, credentials: false },
        payload_bytes_max,
        connect_timeout_ms: flags.connect_timeout,
        fragments_max,
        queue_bytes_max: payload_bytes_max.saturating_mul(8).max(8 << 20),
        events_per_second_max: u32::MAX,
        ..EngineSettings::default()
    }
}

fn main() -> ExitCode {
    let flags = Flags::parse();
    let served = match flags.layer {
        LayerName::Socketio => serve(&flags, &Echo { connect_gap_ms: flags.connect_gap, payloads: HashMap::new() }),
        LayerName::Engineio => serve(&flags, &EngineIoEcho),
        LayerName::Websocket => serve(&flags, &WebSocketEcho),
    };
    match served {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("echo: {error}");
            ExitCode::FAILURE
        }
    }
}

fn serve<A: Application + Clone + Send + 'static>(flags: &Flags, app: &A) -> Result<(), Box<dyn std::error::Error>> {
    let listeners =
        Listener::bind_several(IpAddr::V4(Ipv4Addr::UNSPECIFIED), flags.port, flags.shards, Sharing::Alone)?;
    let port = listeners.first().map_or(flags.port, |listener| listener.address().port());
    let settings = Arc::new(settings(flags));
    let capacity = Arc::new(Capacity::new(CapacityLimits {
        connections_max: flags.connections,
        clients_max: flags.connections,
        ..CapacityLimits::UNLIMITED
    }));
    let clock = Clock::default();
    let mailboxes: Vec<_> = (0..flags.shards).map(|_| Arc::new(Mailbox::new(MAIL_BYTES_MAX))).collect();
    let mut workers = Vec::new();
    for (number, listener) in (0..flags.shards).zip(listeners) {
        let siblings = mailboxes.iter().map(|mailbox| Postbox::new(Arc::clone(mailbox), usize::from(number)));
        let parts = WorkerParts {
            left: (Arc::default(), Heir::Another),
            settings: Arc::clone(&settings),
            capacity: Arc::clone(&capacity),
            place: ShardNumber { number, of: flags.shards },
            app: app.clone(),
            listener,
            mailbox: Arc::clone(&mailboxes[usize::from(number)]),
            siblings: siblings.collect(),
            clock,
            ring: RingOptions::for_connections(flags.connections, flags.connections, 1),
            processor: None,
        };
        workers.push(thread::spawn(|| worker::run(parts, Surroundings::default)));
    }
    println!("listening on http://127.0.0.1:{port}");
    for worker in workers {
        worker.join().map_err(|_| "a worker panicked")??;
    }
    Ok(())
}
