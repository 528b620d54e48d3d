//! Addresses of HTTP that others serve, as settings name them.

use std::net::IpAddr;

/// The host of an address of HTTP, without its port. `None`: it is no such address.
pub(super) fn host(url: &str) -> Option<&str> {
    let (scheme, rest) = url.split_once("://")?;
    let is_known = ["http", "https"].iter().any(|known| scheme.eq_ignore_ascii_case(known));
    let authority = rest.split(['/', '?', '#']).next()?;
    // Who has a password for it puts it before a proxy: here it would be shown.
    if !is_known || authority.contains('@') || url.bytes().any(|byte| !byte.is_ascii_graphic()) {
        return None;
    }
    let host = match authority.strip_prefix('[') {
        Some(rest) => rest.split_once(']')?.0,
        None => authority.split(':').next()?,
    };
    Some(host).filter(|host| !host.is_empty())
}

/// Whether what is said there goes over a network without TLS.
pub(super) fn is_open_to_others(url: &str) -> bool {
    let is_here = |host: &str| host == "localhost" || host.parse().is_ok_and(|host: IpAddr| host.is_loopback());
    let is_plain = url.get(..7).is_some_and(|scheme| scheme.eq_ignore_ascii_case("http://"));
    is_plain && host(url).is_some_and(|host| !is_here(host))
}
