//! `TrustedProxies`: whose word is taken for where a request comes from, and which address limits count it under.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use ipnet::IpNet;

/// The proxies that the operator has named, by address or network.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TrustedProxies {
    networks: Vec<IpNet>,
}

/// Neither an address nor a network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NoNetwork(pub String);

impl fmt::Display for NoNetwork {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}` is neither an address nor a network such as `10.0.0.0/8`", self.0)
    }
}

impl std::error::Error for NoNetwork {}

impl TrustedProxies {
    /// From addresses and networks as they are written.
    pub fn parse<'t>(texts: impl IntoIterator<Item = &'t str>) -> Result<TrustedProxies, NoNetwork> {
        let network = |text: &str| match IpAddr::from_str(text) {
            Ok(address) => Ok(IpNet::from(address)),
            Err(_) => text.parse().map_err(|_| NoNetwork(text.to_owned())),
        };
        Ok(TrustedProxies { networks: texts.into_iter().map(network).collect::<Result<_, _>>()? })
    }

    fn trusts(&self, address: IpAddr) -> bool {
        self.networks.iter().any(|network| network.contains(&address))
    }

    /// The address that a request counts under. `forwarded` are the values of its `X-Forwarded-For` headers, in order. `None`:
    /// it does not count, because the peer is this machine or a private network and nobody said who is behind it.
    pub fn client_address<'h>(
        &self,
        peer: Option<IpAddr>,
        forwarded: impl IntoIterator<Item = &'h [u8]>,
    ) -> Option<IpAddr> {
        let peer = peer?.to_canonical();
        if !self.trusts(peer) {
            return (!is_local(peer)).then_some(peer);
        }
        // Each proxy appends whom it heard from: the last one that is no proxy of ours is the client.
        let values: Vec<&str> = forwarded.into_iter().filter_map(|value| std::str::from_utf8(value).ok()).collect();
        let entries = values.iter().rev().flat_map(|value| value.rsplit(','));
        let addresses = entries.map_while(|entry| address_in(entry.trim()));
        addresses.map(|address| address.to_canonical()).find(|address| !self.trusts(*address))
    }
}

/// `192.0.2.1`, `192.0.2.1:80`, `2001:db8::1`, `[2001:db8::1]:80`.
fn address_in(entry: &str) -> Option<IpAddr> {
    let bare = || entry.strip_prefix('[').and_then(|rest| rest.split(']').next()).or_else(|| entry.split(':').next());
    entry.parse().ok().or_else(|| bare()?.parse().ok())
}

/// This machine, or a network that is not routed on the Internet.
fn is_local(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => {
            address.is_loopback() || address.is_private() || address.is_link_local() || address.is_unspecified()
        }
        IpAddr::V6(address) => {
            address.is_loopback()
                || address.is_unique_local()
                || address.is_unicast_link_local()
                || address.is_unspecified()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(proxies: &[&str], peer: &str, forwarded: &[&str]) -> Option<String> {
        let proxies = TrustedProxies::parse(proxies.iter().copied()).unwrap();
        let found = proxies.client_address(peer.parse().ok(), forwarded.iter().map(|value| value.as_bytes()));
        found.map(|address| address.to_string())
    }

    #[test]
    fn only_a_named_proxy_is_believed() {
        let some = |address: &str| Some(address.to_owned());
        assert_eq!(address(&[], "203.0.113.9", &["198.51.100.1"]), some("203.0.113.9"));
        assert_eq!(address(&["10.0.0.0/8"], "203.0.113.9", &["198.51.100.1"]), some("203.0.113.9"));
        assert_eq!(address(&["10.0.0.0/8"], "10.1.2.3", &["198.51.100.1"]), some("198.51.100.1"));
        // What the client itself wrote stands before what the proxy has added.
        assert_eq!(address(&["10.0.0.0/8"], "10.1.2.3", &["1.1.1.1, 198.51.100.1"]), some("198.51.100.1"));
        assert_eq!(address(&["10.0.0.0/8"], "10.1.2.3", &["1.1.1.1", "198.51.100.1, 10.9.9.9"]), some("198.51.100.1"));
        assert_eq!(address(&["::1"], "::1", &["[2001:db8::1]:443"]), some("2001:db8::1"));
        assert_eq!(address(&["127.0.0.1"], "::ffff:127.0.0.1", &["198.51.100.1:5"]), some("198.51.100.1"));
        assert_eq!(address(&["127.0.0.1"], "127.0.0.1", &["1.1.1.1, nonsense"]), None);
    }

    #[test]
    fn this_machine_and_private_networks_do_not_count() {
        for peer in
            ["127.0.0.1", "::1", "10.1.2.3", "192.168.0.1", "172.16.0.1", "fd00::1", "fe80::1", "::ffff:10.0.0.1"]
        {
            assert_eq!(address(&[], peer, &["203.0.113.9"]), None, "{peer}");
        }
        assert_eq!(address(&["127.0.0.1"], "127.0.0.1", &[]), None);
        // Unless a proxy that is named says so.
        assert_eq!(address(&["127.0.0.1"], "127.0.0.1", &["10.0.0.7"]).as_deref(), Some("10.0.0.7"));
    }

    #[test]
    fn what_is_no_network_is_refused() {
        assert_eq!(TrustedProxies::parse(["10.0.0.0/33"]).unwrap_err(), NoNetwork("10.0.0.0/33".to_owned()));
        assert!(TrustedProxies::parse(["proxy.example.com"]).is_err());
    }
}
