//! What the settings say of requests that are brought to other instances.

use std::net::{IpAddr, SocketAddr};

use crate::cluster::{Secret, TunnelSettings};

use super::{ConfigError, Values, wrong};

/// What is longer nobody guesses who can try as often as he likes.
const SECRET_BYTES_MIN: usize = 32;
/// More are no tunnels any more.
const TUNNELS_MOST: usize = 1 << 20;

pub(super) fn settings(values: &Values) -> Result<TunnelSettings, ConfigError> {
    let tunnels_max = values.number_up_to("tunnels_max", 0, TUNNELS_MOST)?;
    let secret = values.secret("cluster_secret")?.map(Secret::new);
    let Some(listen) = listen(values)? else {
        return Ok(TunnelSettings { tunnels_max, secret, ..TunnelSettings::default() });
    };
    if secret.is_none() {
        return Err(wrong("cluster_secret", "must be set with cluster_listen: what all instances know each other by"));
    }
    let address = match values.text("cluster_address") {
        "" => None,
        _ => Some(values.parse("cluster_address", "a host and a port, as `sockring-1:7946`")?),
    };
    if address.is_none() && listen.ip().is_unspecified() {
        let reason = "must be set where cluster_listen is every address: what other instances dial to reach this one";
        return Err(wrong("cluster_address", reason));
    }
    Ok(TunnelSettings { listen: Some(listen), address, secret, tunnels_max })
}

fn listen(values: &Values) -> Result<Option<SocketAddr>, ConfigError> {
    match values.text("cluster_listen") {
        "" => Ok(None),
        _ => values.parse("cluster_listen", "an address with a port, as `10.0.0.7:7946`").map(Some),
    }
}

/// What may be meant, and should not be.
pub(super) fn warnings(values: &Values) -> Vec<ConfigError> {
    let Ok(Some(listen)) = listen(values) else { return Vec::new() };
    let mut warnings = Vec::new();
    if is_public(listen.ip()) {
        warnings.push(wrong("cluster_listen", "is an address of the Internet: take one of a network of your own"));
    }
    let is_short = |secret: Option<String>| secret.is_some_and(|secret| secret.len() < SECRET_BYTES_MIN);
    if values.secret("cluster_secret").is_ok_and(is_short) {
        let reason = format!("has less than {SECRET_BYTES_MIN} bytes: make one by `openssl rand -base64 32`");
        warnings.push(wrong("cluster_secret", reason));
    }
    warnings
}

/// Neither this machine nor a network that is not routed on the Internet. Every address is no address.
fn is_public(address: IpAddr) -> bool {
    match address.to_canonical() {
        IpAddr::V4(address) => {
            let is_shared = matches!(address.octets(), [100, 64..=127, ..]);
            let is_own = address.is_loopback() || address.is_private() || address.is_link_local() || is_shared;
            !is_own && !address.is_unspecified()
        }
        IpAddr::V6(address) => {
            let is_own = address.is_loopback() || address.is_unique_local() || address.is_unicast_link_local();
            !is_own && !address.is_unspecified()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Source;

    fn values(pairs: &[(&'static str, &str)]) -> Values {
        let mut values = Values::default();
        for (name, value) in pairs {
            values.offer(name, (*value).to_owned(), Source::Flag("--x".to_owned()));
        }
        values
    }

    #[test]
    fn an_address_needs_a_secret_and_one_that_others_can_dial() {
        let secret = ("cluster_secret", "x");
        let error = |pairs: &[(&'static str, &str)]| settings(&values(pairs)).unwrap_err().key;
        assert_eq!(error(&[("cluster_listen", "10.0.0.7:7946")]), "cluster_secret");
        assert_eq!(error(&[("cluster_listen", "10.0.0.7"), secret]), "cluster_listen");
        assert_eq!(error(&[("cluster_listen", "0.0.0.0:7946"), secret]), "cluster_address");
        let given = [("cluster_listen", "[::]:7946"), secret, ("cluster_address", "one")];
        assert_eq!(error(&given), "cluster_address");
        assert_eq!(error(&[("tunnels_max", "-1")]), "tunnels_max");
        let good =
            settings(&values(&[("cluster_listen", "[::]:7946"), secret, ("cluster_address", "one:7946")])).unwrap();
        assert_eq!(good.address.map(|address| address.to_string()).as_deref(), Some("one:7946"));
        let plain = settings(&values(&[])).unwrap();
        assert_eq!((plain.listen, plain.tunnels_max), (None, 16_384));
    }

    #[test]
    fn what_anybody_reaches_or_guesses_is_warned_of() {
        let long = "x".repeat(SECRET_BYTES_MIN);
        for (listen, secret, told) in [
            ("10.0.0.7:7946", &*long, &[][..]),
            ("127.0.0.1:0", &long, &[]),
            ("[fd00::1]:7946", &long, &[]),
            ("100.64.0.1:7946", &long, &[]),
            ("0.0.0.0:7946", &long, &[]),
            ("203.0.113.7:7946", &long, &["cluster_listen"]),
            ("[2001:db8::1]:7946", "short", &["cluster_listen", "cluster_secret"]),
        ] {
            let values = values(&[("cluster_listen", listen), ("cluster_secret", secret)]);
            let keys: Vec<_> = warnings(&values).into_iter().map(|warning| warning.key).collect();
            assert_eq!(keys, told, "{listen}");
        }
        assert!(warnings(&values(&[("cluster_secret", "short")])).is_empty(), "nobody can try it");
    }
}
