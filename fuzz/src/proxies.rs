//! `proxies`: whose address a request counts under, whatever its headers claim.

use std::net::{IpAddr, SocketAddr};

use sockring::proxies::TrustedProxies;

use crate::text_of;

const TRUSTED: [&str; 4] = ["10.0.0.0/8", "127.0.0.1", "::1", "2001:db8:1::/48"];
const CLIENT: &str = "198.51.100.7";

/// Takes the lines of the bytes as the values of `X-Forwarded-For`, and the first one as a list of networks too.
pub fn proxies(data: &[u8]) {
    let values: Vec<&[u8]> = data.split(|byte| *byte == b'\n').collect();
    let proxies = TrustedProxies::parse(TRUSTED).expect("networks");
    let nobody = TrustedProxies::default();
    for peer in ["10.1.2.3", "::ffff:127.0.0.1", "2001:db8:1::5", "203.0.113.9", "192.168.0.1"] {
        let peer: IpAddr = peer.parse().expect("an address");
        let found = proxies.client_address(Some(peer), values.iter().copied());
        let is_proxy = is_trusted(peer.to_canonical());
        assert_eq!(found, reference(peer, &values), "{peer}");
        assert_eq!(
            nobody.client_address(Some(peer), values.iter().copied()),
            nobody.client_address(Some(peer), []),
            "nobody is believed where no proxy is named"
        );
        // What a proxy appends counts, whatever stood before it: the client's own words never do.
        let appended = values.iter().copied().chain([CLIENT.as_bytes()]);
        let expected = if is_proxy { CLIENT.parse().ok() } else { found };
        assert_eq!(proxies.client_address(Some(peer), appended), expected);
        assert!(found.is_none_or(|address| !is_trusted(address)), "a proxy is no client");
    }
    assert_eq!(proxies.client_address(None, values.iter().copied()), None);
    let first = text_of(values[0]);
    if let Ok(networks) = TrustedProxies::parse(first.split(',')) {
        let inside = CLIENT.parse().ok();
        let found = networks.client_address(inside, [CLIENT.as_bytes()]);
        assert!(found.is_none() || found == inside);
    }
}

/// As `TRUSTED` says, by their first bytes.
fn is_trusted(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => address.octets()[0] == 10 || address.octets() == [127, 0, 0, 1],
        IpAddr::V6(address) => {
            address.segments()[..3] == [0x2001, 0xdb8, 1] || address.segments() == [0, 0, 0, 0, 0, 0, 0, 1]
        }
    }
}

/// Read from the front: the address behind the last one that is no proxy's does not count, nor what stands before
/// something that is no address.
fn reference(peer: IpAddr, values: &[&[u8]]) -> Option<IpAddr> {
    let peer = peer.to_canonical();
    if !is_trusted(peer) {
        return (!["192.168.0.1"].contains(&peer.to_string().as_str())).then_some(peer);
    }
    let mut found = None;
    for value in values {
        let Ok(value) = std::str::from_utf8(value) else { continue };
        for entry in value.split(',').map(str::trim) {
            match address_in(entry) {
                None => found = None,
                Some(address) if is_trusted(address) => {}
                Some(address) => found = Some(address),
            }
        }
    }
    found
}

/// An address, with a port or without; of what only begins like one its beginning counts.
fn address_in(entry: &str) -> Option<IpAddr> {
    if let Ok(address) = entry.parse::<SocketAddr>() {
        // A scope is none of an address that came over the network.
        return Some(address.ip().to_canonical());
    }
    let end = match entry.strip_prefix('[') {
        Some(rest) => return rest.split(']').next()?.parse().ok().map(|address: IpAddr| address.to_canonical()),
        None if entry.parse::<IpAddr>().is_ok() => entry.len(),
        None => entry.find(':').unwrap_or(entry.len()),
    };
    entry[..end].parse().ok().map(|address: IpAddr| address.to_canonical())
}
