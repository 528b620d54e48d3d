//! Echo servers on sockring's engine, one per layer: what protocol suites and benchmarks talk to.
//!
//! `cargo run --release --example echo -- --layer socketio --port 3000`

use std::net::{IpAddr, Ipv4Addr};
use std::process::ExitCode;
use std::sync::Arc;

use clap::{Parser, ValueEnum};
use sockring::app::{Action, Actions, Admission, Application, ClientEvent, ConnectRequest, Refusal, SocketInfo};
use sockring::mailbox::Mailbox;
use sockring::ring::RingOptions;
use sockring::shard::{Elsewhere, EngineSettings, Layer};
use sockring::worker::{self, Listener, WorkerParts};
use sockring_protocol::engineio::{Data, SessionTimes};
use sockring_protocol::http::{CorsPolicy, Origins};
use sockring_protocol::socketio::EventName;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

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
    /// Cores that serve; one, in this version.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=1))]
    shards: u16,
}

/// Gives back what comes.
#[derive(Clone, Debug)]
struct Echo;

impl Application for Echo {
    fn admit(&mut self, _: &ConnectRequest<'_>) -> Result<Admission, Refusal> {
        Ok(Admission::default())
    }

    fn connected(&mut self, _: &SocketInfo<'_>, request: &ConnectRequest<'_>, actions: &mut Actions) {
        let args = format!("[\"auth\",{}]", request.payload.unwrap_or("{}"));
        actions.push(Action::Emit { ack: None, args: args.into_bytes(), attachments: Vec::new() });
    }

    fn event(&mut self, socket: &SocketInfo<'_>, event: &ClientEvent<'_>, actions: &mut Actions) {
        if socket.namespace != "/" {
            return;
        }
        let Some(EventName::Text(name)) = event.args.event() else { return };
        let arguments = event.args.after_event();
        let attachments = event.attachments.to_vec();
        match (&*name, event.ack) {
            ("message", _) => {
                let comma = if arguments.is_empty() { "" } else { "," };
                let args = format!("[\"message-back\"{comma}{arguments}]").into_bytes();
                actions.push(Action::Emit { ack: None, args, attachments });
            }
            ("message-with-ack", Some(ack)) => {
                let args = format!("[{arguments}]").into_bytes();
                actions.push(Action::Acknowledge { ack, args, attachments });
            }
            _ => {}
        }
    }

    fn message(&mut self, message: Data<'_>, actions: &mut Actions) {
        actions.push(match message {
            Data::Text(text) => Action::SendText(text.into()),
            Data::Binary(data) => Action::SendBinary(data.into_owned()),
        });
    }
}

fn settings(flags: &Flags) -> EngineSettings {
    let (layer, path, payload_bytes_max) = match flags.layer {
        LayerName::Socketio => (Layer::SocketIo, "/socket.io/", 1_000_000),
        LayerName::Engineio => (Layer::EngineIo, "/engine.io/", 1_000_000),
        LayerName::Websocket => (Layer::WebSocket, "/", 16 << 20),
    };
    // A raw WebSocket has no heartbeat of its own.
    let ping_interval_ms = match layer {
        Layer::WebSocket => u64::MAX,
        _ => flags.ping_interval,
    };
    let payload_bytes_max = flags.max_payload.unwrap_or(payload_bytes_max);
    EngineSettings {
        layer,
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
        connect_gap_ms: flags.connect_gap,
        connect_timeout_ms: flags.connect_timeout,
        // Messages of many megabytes in small fragments are part of what an echo is tested with.
        fragments_max: if layer == Layer::WebSocket { 1 << 20 } else { 1024 },
        queue_bytes_max: payload_bytes_max.saturating_mul(8).max(8 << 20),
        connections_max: flags.connections,
        clients_max: flags.connections,
        ..EngineSettings::default()
    }
}

fn main() -> ExitCode {
    let flags = Flags::parse();
    match serve(&flags) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("echo: {error}");
            ExitCode::FAILURE
        }
    }
}

fn serve(flags: &Flags) -> Result<(), Box<dyn std::error::Error>> {
    let listener = Listener::bind(IpAddr::V4(Ipv4Addr::UNSPECIFIED), flags.port)?;
    println!("listening on http://127.0.0.1:{}", listener.address().port());
    let parts = WorkerParts {
        settings: Arc::new(settings(flags)),
        number: 0,
        app: Echo,
        listener,
        mailbox: Arc::new(Mailbox::new()?),
        ring: RingOptions::for_connections(flags.connections),
    };
    worker::run(parts, || Box::new(|descriptor, _| drop(descriptor)))?;
    Ok(())
}
