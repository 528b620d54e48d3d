//! The keys of tokens that somebody else publishes: a thread that fetches them, so that no core waits for it.

use std::error::Error;
use std::fmt;
use std::sync::Arc;
use std::sync::mpsc::Receiver;
use std::thread;
use std::time::{Duration, Instant};

use sockring::auth::key_set::{DOCUMENT_BYTES_MAX, KeySet};
use sockring::auth::keyring::{Fetch, Keyring};
use sockring::config::JwksSettings;
use sockring::mailbox::Postbox;
use sockring::shard::Mail;

use crate::authorities::agent_for;

/// From connecting to the last byte of the document.
const PATIENCE: Duration = Duration::from_secs(10);
/// From the beginning of a fetch to that of the next one, whoever wants newer keys; and after one that failed.
const REST: Duration = Duration::from_secs(10);
/// The last part of it is not given up, however long the fetch took: whoever has no keys to give is not asked without a pause.
const REST_LEAST: Duration = Duration::from_secs(1);

/// Why there are no keys.
#[derive(Debug)]
pub(crate) struct FetchError {
    kind: Fetch,
    said: String,
}

impl fmt::Display for FetchError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.said)
    }
}

impl Error for FetchError {}

/// Where keys are fetched.
pub(crate) struct KeySource {
    agent: ureq::Agent,
    settings: JwksSettings,
}

impl KeySource {
    pub(crate) fn new(settings: &JwksSettings) -> KeySource {
        KeySource { agent: agent_for(&settings.url, PATIENCE), settings: settings.clone() }
    }

    /// Waits for the document, and reads it.
    pub(crate) fn fetch(&self) -> Result<KeySet, FetchError> {
        let failed = |kind| move |said: String| FetchError { kind, said };
        let request = self.agent.get(&self.settings.url).header("accept", "application/jwk-set+json, application/json");
        let mut answer = request.call().map_err(|error| failed(Fetch::Unreachable)(error.to_string()))?;
        if answer.status() != 200 {
            return Err(failed(Fetch::Refused)(format!("it answers {}", answer.status())));
        }
        // One byte more than may be says that it is too much.
        let limit = DOCUMENT_BYTES_MAX as u64 + 1;
        let document = match answer.body_mut().with_config().limit(limit).read_to_vec() {
            Ok(document) => document,
            Err(ureq::Error::BodyExceedsLimit(_)) => {
                return Err(failed(Fetch::Unusable)(format!("it has more than {DOCUMENT_BYTES_MAX} bytes")));
            }
            Err(error) => return Err(failed(Fetch::Unreachable)(error.to_string())),
        };
        KeySet::parse(&document).map_err(|error| failed(Fetch::Unusable)(error.to_string()))
    }

    /// Fetches from now on, until the process ends: at once, regularly, and when newer keys are wanted. Each time those who
    /// wait for keys are told to look again.
    pub(crate) fn keep(self, keyring: Arc<Keyring>, wanted: Receiver<()>, shards: Vec<Postbox>) -> std::io::Result<()> {
        let fetching = move || {
            let mut said = Said::default();
            loop {
                let begun = Instant::now();
                keyring.on_fetching();
                let fetched = self.fetch();
                said.tell(&self.settings.url, &fetched);
                let pause = if fetched.is_ok() { self.settings.refresh } else { REST };
                match fetched {
                    Ok(keys) => keyring.on_fetched(Fetch::Ok, Some(keys)),
                    Err(error) => keyring.on_fetched(error.kind, None),
                }
                for shard in &shards {
                    // The answer says nothing.
                    drop(shard.ask(Mail::Reconsider));
                }
                thread::sleep(REST.saturating_sub(begun.elapsed()).max(REST_LEAST));
                keyring.on_rested();
                // Wanted, or due.
                let _ = wanted.recv_timeout(pause.saturating_sub(begun.elapsed()));
            }
        };
        thread::Builder::new().name("jwks".to_owned()).spawn(fetching).map(drop)
    }
}

/// What the log has said: a source that is down is told once, and once that it is back.
#[derive(Default)]
struct Said {
    error: Option<String>,
    refused: String,
}

impl Said {
    fn tell(&mut self, url: &str, fetched: &Result<KeySet, FetchError>) {
        match fetched {
            Ok(keys) => {
                if self.error.take().is_some() {
                    tracing::info!(url, keys = keys.len(), "the keys of tokens can be fetched again");
                }
                if keys.refused() != self.refused {
                    self.refused = keys.refused();
                    if !self.refused.is_empty() {
                        tracing::warn!(url, keys = self.refused, "some keys of tokens cannot be used");
                    }
                }
                tracing::debug!(url, keys = keys.kinds(), "the keys of tokens were fetched");
            }
            Err(error) if self.error.is_none() => {
                tracing::warn!(url, %error, "the keys of tokens cannot be fetched; those that are known count on");
                self.error = Some(error.to_string());
            }
            Err(error) => tracing::debug!(url, %error, "the keys of tokens could not be fetched again"),
        }
    }
}
