//! `Reloader`: what a server that runs takes over from its settings, at SIGHUP, and from the files of its certificates when
//! they change.

use std::sync::Arc;

use arc_swap::ArcSwap;
use sockring::api::Api;
use sockring::auth::keyring::Keyring;
use sockring::auth::{TokenRules, Verifier};
use sockring::config::keys::{self, TAKEN_OVER};
use sockring::config::{Mistakes, Settings, Values};

use crate::certificates::Certificates;
use crate::flags::Invocation;

pub(crate) struct Reloader {
    pub(crate) invocation: Invocation,
    /// The settings that are in use.
    pub(crate) running: Values,
    pub(crate) api: Arc<Api>,
    pub(crate) verifier: Arc<ArcSwap<Verifier>>,
    /// `None`: no keys of tokens are fetched.
    pub(crate) keyring: Option<Arc<Keyring>>,
    pub(crate) certificates: Arc<Certificates>,
    /// Has the log follow these users.
    pub(crate) watch: Box<dyn Fn(Vec<String>) + Send>,
}

impl Reloader {
    /// Reads the settings again and takes over secrets, keys, allowed origins, certificates and `debug_users`. What cannot
    /// be used changes nothing.
    pub(crate) fn reload(&mut self) {
        let settings = match self.invocation.settings() {
            Ok(settings) => settings,
            Err(mistakes) => {
                let error = in_one_line(&mistakes);
                return tracing::error!(%error, "the settings cannot be used: nothing was changed");
            }
        };
        // A secret that was made for this run stays as it is.
        if settings.access_token_secret.is_some() || settings.has_public_keys() {
            let own = settings.token_rules(settings.access_token_secret.clone());
            match Verifier::new(TokenRules { keyring: self.keyring.clone(), ..own }) {
                Ok(fresh) => self.verifier.store(Arc::new(fresh)),
                Err(error) => return tracing::error!(%error, "the secrets cannot be used: nothing was changed"),
            }
        }
        self.api.replace_keys(settings.api.keys);
        self.api.allow_origins(&settings.engine.cors);
        (self.watch)(settings.debug_users.clone());
        let waits_for_restart = self.certificates.replace(settings.tls.as_ref());
        for warning in &settings.warnings {
            tracing::warn!("{warning}");
        }
        let (taken_over, waiting): (Vec<_>, Vec<_>) = self
            .running
            .changes(&settings.values)
            .into_iter()
            .partition(|name| TAKEN_OVER.contains(name) && !(waits_for_restart && keys::TLS.contains(name)));
        let said = match taken_over.as_slice() {
            [] => "none of secrets, API keys, allowed origins, certificates and debug_users has changed".to_owned(),
            names => format!("taken over: {}", names.join(", ")),
        };
        match waiting.as_slice() {
            [] => tracing::info!("the settings were read again; {said}"),
            names => {
                let names = names.join(", ");
                tracing::warn!(
                    "the settings were read again; {said}; changed, but only a restart takes it over: {names}"
                );
            }
        }
        self.running.take_over(&settings.values, &taken_over);
    }

    /// Reads the files of the certificates again, and nothing else.
    pub(crate) fn reload_certificates(&mut self) {
        let settings = match Settings::from_values(&self.running) {
            Ok(settings) => settings,
            Err(Mistakes { rest: Some(settings), all }) if !all.iter().any(|mistake| is_about_tls(&mistake.key)) => {
                *settings
            }
            Err(mistakes) => {
                let error = in_one_line(&mistakes);
                return tracing::error!(%error, "the certificates have changed and cannot be used: those before stay");
            }
        };
        self.certificates.replace(settings.tls.as_ref());
        let changed: Vec<_> = self.running.changes(&settings.values);
        let changed: Vec<_> = changed.into_iter().filter(|name| is_about_tls(name)).collect();
        if !changed.is_empty() {
            tracing::info!("the certificates were read again; taken over: {}", changed.join(", "));
        }
        self.running.take_over(&settings.values, &changed);
    }
}

fn is_about_tls(name: &str) -> bool {
    keys::TLS.contains(&name)
}

fn in_one_line(mistakes: &Mistakes) -> String {
    mistakes.to_string().replace('\n', "; ")
}
