//! `Certificates`: what the ports of this process speak TLS with, and whether the files that it was read from have changed.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use sockring::config::{Settings, TlsPorts};
use sockring::tls::TlsServer;

/// How often the files are looked at. A renewal is a matter of days.
const LOOK_EVERY: Duration = Duration::from_secs(2);

pub(crate) struct Certificates {
    clients: Option<Arc<TlsServer>>,
    api: Option<Arc<TlsServer>>,
    seen: Mutex<Seen>,
}

/// Files, and how they were when they were last looked at: before they were read, so that no change is missed.
struct Seen {
    files: Vec<PathBuf>,
    states: Vec<FileState>,
}

/// `None`: it cannot be read. Another file in the same place has another number.
type FileState = Option<(SystemTime, u64, u64)>;

impl Certificates {
    pub(crate) fn new(settings: &Settings) -> Result<Certificates, String> {
        let server = |terms| TlsServer::new(terms).map_err(|error| format!("TLS cannot be set up: {error}"));
        let files = settings.tls.as_ref().map(|tls| tls.files.clone()).unwrap_or_default();
        Ok(Certificates {
            clients: settings.tls.as_ref().map(|tls| server(&tls.clients)).transpose()?,
            api: settings.tls.as_ref().and_then(|tls| tls.api.as_ref()).map(server).transpose()?,
            seen: Mutex::new(Seen { states: Vec::new(), files }),
        })
    }

    /// At the clients' port, and at the API's address.
    pub(crate) fn servers(&self) -> (Option<Arc<TlsServer>>, Option<Arc<TlsServer>>) {
        (self.clients.clone(), self.api.clone())
    }

    /// From now on connections begin with these. Says whether that waits for a restart: which ports speak TLS is settled.
    pub(crate) fn replace(&self, settings: Option<&TlsPorts>) -> bool {
        let api = settings.and_then(|tls| tls.api.as_ref());
        if self.clients.is_some() != settings.is_some() || self.api.is_some() != api.is_some() {
            return true;
        }
        let pairs = [(&self.clients, settings.map(|tls| &tls.clients)), (&self.api, api)];
        for (server, terms) in pairs {
            if let (Some(server), Some(terms)) = (server, terms)
                && let Err(error) = server.replace(terms)
            {
                tracing::error!(%error, "the certificates cannot be used: those before stay");
            }
        }
        let files = settings.map(|tls| tls.files.clone()).unwrap_or_default();
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if seen.files != files {
            *seen = Seen { states: Vec::new(), files };
        }
        false
    }

    /// Waits until one of the files is another than before.
    pub(crate) async fn changed(&self) {
        loop {
            tokio::time::sleep(LOOK_EVERY).await;
            let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
            let states = states(&seen.files);
            if states != seen.states {
                seen.states = states;
                return;
            }
        }
    }
}

fn states(files: &[PathBuf]) -> Vec<FileState> {
    let state = |file: &PathBuf| {
        let metadata = fs::metadata(file).ok()?;
        Some((metadata.modified().ok()?, metadata.len(), metadata.ino()))
    };
    files.iter().map(state).collect()
}
