//! The log: where it goes and in which form, and its first line.

use std::error::Error;
use std::io::{self, IsTerminal};
use std::net::SocketAddr;

use sockring::config::{LogFormat, Settings};
use tracing_subscriber::filter::ParseError;
use tracing_subscriber::{EnvFilter, reload};

/// Says of clients of users who are watched what else debug lines say.
const USERS: &str = "sockring::users=debug";

/// Opens the log for the clients of some users, or closes it again.
pub(crate) type WatchUsers = Box<dyn Fn(&[String]) + Send>;

/// From here on what is logged goes to standard error.
pub(crate) fn begin(settings: &Settings) -> Result<WatchUsers, Box<dyn Error>> {
    let log = settings.log.clone();
    let filter = move |users: &[String]| match users {
        [] => EnvFilter::try_new(&log),
        _ => EnvFilter::try_new(format!("{log},{USERS}")),
    };
    let begun =
        filter(&settings.debug_users).map_err(|error| format!("log: `{}` is no filter: {error}", settings.log))?;
    let logs = tracing_subscriber::fmt()
        .with_env_filter(begun)
        .with_ansi(io::stderr().is_terminal())
        // They would go to standard error as well, and end the process where that is closed.
        .log_internal_errors(false)
        .with_writer(io::stderr);
    Ok(match settings.log_format {
        LogFormat::Text => {
            let logs = logs.with_target(false).with_filter_reloading();
            let handle = logs.reload_handle();
            logs.init();
            change(filter, move |filter| handle.reload(filter))
        }
        // What reads such logs looks for `message` beside the level.
        LogFormat::Json => {
            let logs = logs.json().flatten_event(true).with_filter_reloading();
            let handle = logs.reload_handle();
            logs.init();
            change(filter, move |filter| handle.reload(filter))
        }
    })
}

/// Has the filter for other users take effect. Where it was one at the start it is one with them.
fn change(
    filter: impl Fn(&[String]) -> Result<EnvFilter, ParseError> + Send + 'static,
    reload: impl Fn(EnvFilter) -> Result<(), reload::Error> + Send + 'static,
) -> WatchUsers {
    Box::new(move |users| {
        if let Ok(Err(error)) = filter(users).map(&reload) {
            tracing::error!(%error, "what is logged cannot be changed");
        }
    })
}

/// What runs here, and what it may do at the most.
pub(crate) fn started(settings: &Settings, clients: SocketAddr, api: Option<SocketAddr>, descriptors: usize) {
    let limits = &settings.capacity;
    tracing::info!(
        version = env!("CARGO_PKG_VERSION"),
        environment = settings.environment,
        address = %clients,
        api = api.map(tracing::field::display),
        shards = settings.shards,
        clients_max = limits.clients_max,
        connections_max = limits.connections_max,
        open_files_max = descriptors,
        redis = settings.cluster.is_some(),
        settings_file = settings.values.file(),
        warnings = settings.warnings.len(),
        "the server has started"
    );
}
