//! The metrics of the keys of tokens, where they are fetched.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use crate::auth::keyring::{Fetch, Keyring};

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfResult {
    result: &'static str,
}

/// Adds them.
pub(super) fn register(registry: &mut Registry, keyring: &Keyring) {
    let fetches = Family::<OfResult, Counter>::default();
    for fetch in Fetch::ALL {
        fetches.get_or_create(&OfResult { result: fetch.label() }).inc_by(keyring.fetches(fetch));
    }
    registry.register("jwks_fetches", "Fetches of the keys of tokens, by what came of them", fetches);
    let keys: Gauge = Gauge::default();
    keys.set(i64::try_from(keyring.keys().len()).unwrap_or(i64::MAX));
    registry.register("jwks_keys", "Keys of tokens that were fetched and can be used", keys);
}
