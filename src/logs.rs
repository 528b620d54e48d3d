//! The log: where it goes and in which form, and its first line.

use std::error::Error;
use std::io::{self, IsTerminal};
use std::net::SocketAddr;

use sockring::config::{LogFormat, Settings};

/// From here on what is logged goes to standard error.
pub(crate) fn begin(settings: &Settings) -> Result<(), Box<dyn Error>> {
    let filter = tracing_subscriber::EnvFilter::try_new(&settings.log)
        .map_err(|error| format!("log: `{}` is no filter: {error}", settings.log))?;
    let logs = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(io::stderr().is_terminal())
        // They would go to standard error as well, and end the process where that is closed.
        .log_internal_errors(false)
        .with_writer(io::stderr);
    match settings.log_format {
        LogFormat::Text => logs.with_target(false).init(),
        // What reads such logs looks for `message` beside the level.
        LogFormat::Json => logs.json().flatten_event(true).init(),
    }
    Ok(())
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
