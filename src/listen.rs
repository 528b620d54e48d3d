//! Opens the ports that the settings name, or says why that cannot be and what to do.

use std::io::{self, ErrorKind};
use std::net::{SocketAddr, TcpListener};

use listenfd::ListenFd;
use rustix::io::Errno;
use sockring::config::Settings;
use sockring::worker::Listener;

/// What a service manager has opened for this process, if one started it so: the clients' port first, then the API's.
pub(crate) struct Opened {
    pub(crate) clients: Option<TcpListener>,
    pub(crate) api: Option<TcpListener>,
}

impl Opened {
    /// Once: they are nobody else's then.
    pub(crate) fn take() -> Result<Opened, String> {
        let mut sockets = ListenFd::from_env();
        let mut take = |place| {
            sockets.take_tcp_listener(place).map_err(|error| {
                format!(
                    "socket {place} of LISTEN_FDS is no TCP socket that listens: {error}; ListenStream= in the unit of \
                     the socket has to be a port, or an address and a port"
                )
            })
        };
        Ok(Opened { clients: take(0)?, api: take(1)? })
    }
}

/// The listeners of the clients' port, one per shard: of what is open, or of the settings.
pub(crate) fn clients_at(opened: Option<&TcpListener>, settings: &Settings) -> Result<Vec<Listener>, String> {
    let Some(opened) = opened else { return clients(settings) };
    Listener::share(opened, settings.shards)
        .map_err(|error| format!("the socket of LISTEN_FDS cannot be used: {error}"))
}

/// The listeners of the clients' port, one per shard.
pub(crate) fn clients(settings: &Settings) -> Result<Vec<Listener>, String> {
    let address = SocketAddr::new(settings.host, settings.port);
    Listener::bind_several(settings.host, settings.port, settings.shards, settings.sharing).map_err(|error| {
        let fix = fix(&error, address, "another port with --port or PORT", "--host or SOCKRING_HOST");
        format!("cannot listen on {} port {}: {error}; {fix}", address.ip(), address.port())
    })
}

/// The listener of the API, where it has an address of its own.
pub(crate) fn api(settings: &Settings) -> Result<Option<TcpListener>, String> {
    settings.api.listen.map(|address| at(address, "api_listen")).transpose()
}

/// A listener at an address of this setting.
pub(crate) fn at(address: SocketAddr, setting: &str) -> Result<TcpListener, String> {
    TcpListener::bind(address).map_err(|error| {
        let fix = fix(&error, address, "another port", setting);
        format!("cannot listen on {address}: {error}; {fix}")
    })
}

fn fix(error: &io::Error, address: SocketAddr, other_port: &str, host: &str) -> String {
    match error.kind() {
        ErrorKind::AddrInUse => format!("is another server running there? Choose {other_port}"),
        ErrorKind::PermissionDenied => format!(
            "ports below {} need a right that this user does not have: choose {other_port}, or give it \
             (AmbientCapabilities=CAP_NET_BIND_SERVICE in systemd, or setcap cap_net_bind_service=+ep on the program)",
            unprivileged_port_start()
        ),
        ErrorKind::AddrNotAvailable => {
            format!("this machine has no address {}: name one that it has with {host}", address.ip())
        }
        _ if Errno::from_io_error(error) == Some(Errno::MFILE) => {
            "raise RLIMIT_NOFILE (ulimit -n, or LimitNOFILE= in systemd)".to_owned()
        }
        _ => format!("choose {other_port}, or another address with {host}"),
    }
}

/// The first port that everybody may listen on.
fn unprivileged_port_start() -> u16 {
    let start = std::fs::read_to_string("/proc/sys/net/ipv4/ip_unprivileged_port_start").ok();
    start.and_then(|start| start.trim().parse().ok()).unwrap_or(1024)
}
