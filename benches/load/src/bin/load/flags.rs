//! The command line of the load generator.

use std::net::SocketAddr;

use clap::{Parser, ValueEnum};

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Mode {
    /// Opens all connections: what a handshake costs.
    Connect,
    /// Holds them: what an idle client costs in memory and CPU.
    Idle,
    /// Each sends a message and waits for it to come back, again and again.
    Echo,
    /// One emit to all, again and again.
    Fanout,
    /// Emits to single users at a fixed rate.
    Touser,
    /// Clients come and go.
    Churn,
    /// All come, go, and come back to their sessions: what that costs.
    Return,
    /// One emit to all, while a share of the clients reads nothing.
    Slow,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Protocol {
    Socketio,
    /// Text frames without anything above.
    Websocket,
}

/// Drives a Socket.IO server over loopback, and reports one line of JSON.
#[derive(Clone, Debug, Parser)]
pub struct Flags {
    pub mode: Mode,
    /// As `http://127.0.0.1:8080`.
    #[arg(long)]
    pub url: String,
    #[arg(long, default_value_t = 1000)]
    pub connections: u32,
    /// Bytes of the string in a message.
    #[arg(long, default_value_t = 64)]
    pub payload: usize,
    /// Of measuring.
    #[arg(long, default_value_t = 5.0)]
    pub seconds: f64,
    /// Before measuring.
    #[arg(long, default_value_t = 1.0)]
    pub warmup: f64,
    /// Time for connecting, and for what is still missing at the end; more: the run fails.
    #[arg(long, default_value_t = 30.0)]
    pub margin: f64,
    /// Processes of the server; their CPU time and memory are reported.
    #[arg(long, value_delimiter = ',')]
    pub server_pid: Vec<u32>,
    /// Signs a token for each client: user `u0`, `u1`, ...
    #[arg(long, conflicts_with = "no_auth")]
    pub secret: Option<String>,
    /// CONNECT without a token (also without `--secret`).
    #[arg(long)]
    pub no_auth: bool,
    #[arg(long)]
    pub api_key: Option<String>,
    #[arg(long, value_enum, default_value = "socketio")]
    pub protocol: Protocol,
    /// Path of the upgrade request; default: `/socket.io/`, or `/` for bare WebSocket.
    #[arg(long)]
    pub path: Option<String>,
    /// Path of the request that emits to all or to one.
    #[arg(long, default_value = "/api/v1/websocket/emit")]
    pub api_path: String,
    /// Handshakes under way at once.
    #[arg(long, default_value_t = 256)]
    pub parallel: u32,
    /// Default: as many as the limit of open files asks for.
    #[arg(long)]
    pub rings: Option<usize>,
    /// Source addresses 127.0.0.x; default: as many as the ports ask for.
    #[arg(long)]
    pub sources: Option<usize>,
    /// Per second: emits (touser), handshakes (churn; default: as many as go).
    #[arg(long)]
    pub rate: Option<f64>,
    /// touser: keep-alive connections that emit.
    #[arg(long, default_value_t = 8)]
    pub api_connections: u32,
    /// touser: emits in one request, to `/batch` under the path of the API.
    #[arg(long, default_value_t = 1)]
    pub batch: u32,
    /// fanout, slow: emits under way at once.
    #[arg(long, default_value_t = 1)]
    pub pipeline: usize,
    /// slow: share of the clients that read nothing.
    #[arg(long, default_value_t = 0.1)]
    pub slow_share: f64,
    /// Of the choice of users.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Core to run on.
    #[arg(long)]
    pub core: Option<usize>,
    /// Goes into the report as it is.
    #[arg(long)]
    pub label: Option<String>,
}

impl Flags {
    pub fn target(&self) -> Result<SocketAddr, String> {
        let address = self.url.strip_prefix("http://").unwrap_or(&self.url).trim_end_matches('/');
        address.replace("localhost", "127.0.0.1").parse().map_err(|error| format!("--url {}: {error}", self.url))
    }

    pub fn path(&self) -> &str {
        match (&self.path, self.protocol) {
            (Some(path), _) => path,
            (None, Protocol::Socketio) => "/socket.io/",
            (None, Protocol::Websocket) => "/",
        }
    }

    /// Connections for requests beside those of the clients.
    pub fn beside(&self) -> u32 {
        match self.mode {
            Mode::Fanout | Mode::Slow => 1,
            Mode::Touser => self.api_connections,
            Mode::Connect | Mode::Idle | Mode::Echo | Mode::Churn | Mode::Return => 0,
        }
    }
}
