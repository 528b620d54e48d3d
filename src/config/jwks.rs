//! Keys that somebody else publishes as a JSON Web Key Set: in a file, or at an address.

use std::sync::Arc;
use std::time::Duration;

use crate::auth::key_set::KeySet;

use super::{ConfigError, Values, address, wrong};

const FILE: &str = "token_jwks_file";
const URL: &str = "token_jwks_url";
const REFRESH: &str = "token_jwks_refresh_s";

/// Where a set of keys is fetched from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JwksSettings {
    pub url: String,
    pub refresh: Duration,
}

/// The keys of the file; without one there are none.
pub(super) fn key_set(values: &Values) -> Result<Arc<KeySet>, ConfigError> {
    let Some(document) = values.content(FILE)? else { return Ok(Arc::default()) };
    let unusable = |error| wrong(FILE, format!("`{}` is no set of keys to use: {error}", values.text(FILE)));
    KeySet::parse(document).map(Arc::new).map_err(unusable)
}

pub(super) fn fetched(values: &Values) -> Result<Option<JwksSettings>, ConfigError> {
    // No more often than at an unknown id, and not so seldom that a key that was taken back counts for days.
    let refresh = Duration::from_secs(values.number_up_to(REFRESH, 10, 86_400)? as u64);
    let Some(url) = values.optional(URL) else { return Ok(None) };
    match address::host(&url) {
        Some(_) => Ok(Some(JwksSettings { url, refresh })),
        None => Err(wrong(URL, "is not an address such as `https://login.example.com/.well-known/jwks.json`")),
    }
}

/// Whoever is between can put keys of his own into what comes without TLS.
pub(super) fn warning(values: &Values) -> Option<ConfigError> {
    let url = values.text(URL);
    let reason = "is fetched without TLS: whoever is between can add keys, and sign tokens for any user; use https://";
    address::is_open_to_others(url).then(|| ConfigError { source: values.source(URL).cloned(), ..wrong(URL, reason) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Source;

    fn values(url: &str) -> Values {
        let mut values = Values::default();
        values.offer(URL, url.to_owned(), Source::Flag("--token-jwks-url".to_owned()));
        values
    }

    #[test]
    fn addresses_of_http_are_taken_and_a_warning_says_where_tls_is_missing() {
        for (url, warns) in [
            ("https://login.example.com/jwks.json", false),
            ("HTTPS://login.example.com:8443", false),
            ("http://localhost:9/jwks", false),
            ("http://127.0.0.1:9/jwks", false),
            ("http://[::1]:9/jwks", false),
            ("http://10.0.0.7/jwks", true),
            ("HTTP://keys.internal/jwks", true),
        ] {
            let fetched = fetched(&values(url)).unwrap().unwrap();
            assert_eq!((fetched.url.as_str(), fetched.refresh), (url, Duration::from_secs(300)));
            assert_eq!(warning(&values(url)).is_some(), warns, "{url}");
        }
        assert_eq!(fetched(&Values::default()), Ok(None));
        for url in
            ["jwks.json", "ftp://a/b", "https://", "https:///x", "https://u:p@a/x", "https://a/ b", "http://[::1"]
        {
            assert!(fetched(&values(url)).is_err() && warning(&values(url)).is_none(), "{url}");
        }
    }
}
