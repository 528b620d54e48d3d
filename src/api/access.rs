//! Who may use the API: whoever has a key; without keys, in development, this machine alone.

use std::borrow::Cow;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use sockring_protocol::http::{Head, Method};
use subtle::ConstantTimeEq;

use crate::auth::bearer;

use super::Api;
use super::answer::ApiError;

/// A request with a header of one of these families came through a proxy: its peer says nothing about who asks.
const PROXY_HEADERS: [&str; 4] = ["forwarded", "x-forwarded-", "x-real-ip", "via"];

/// May this request use the API?
pub(super) fn check(api: &Api, head: &Head<'_>, peer: Option<SocketAddr>) -> Result<(), ApiError> {
    let keys = api.keys.load();
    if keys.is_empty() && !api.is_production() {
        check_local(head, peer)?;
    } else {
        check_key(&keys, head)?;
    }
    Ok(())
}

/// Is the body of what a page of another site cannot send without asking first?
pub(super) fn check_type(head: &Head<'_>) -> Result<(), ApiError> {
    let content_type = head.header("content-type").unwrap_or_default();
    let media_type = content_type.split(';').next().unwrap_or_default().trim();
    if head.method == Method::Post && !media_type.eq_ignore_ascii_case("application/json") {
        return Err(ApiError::new(415, "a POST needs Content-Type: application/json"));
    }
    Ok(())
}

/// May this request have the page? In development whoever finds it, in production who has a key, which a browser asks for.
pub(super) fn check_page(api: &Api, head: &Head<'_>) -> Result<(), ApiError> {
    if !api.is_production() {
        return Ok(());
    }
    let challenge = Some("Basic realm=\"sockring: an API key as the password\", charset=\"UTF-8\"");
    check_key(&api.keys.load(), head).map_err(|error| ApiError { challenge, ..error })
}

fn check_key(keys: &[String], head: &Head<'_>) -> Result<(), ApiError> {
    let authorization = head.header("authorization");
    let given = head.header("x-api-key").or_else(|| bearer(authorization?)).map(Cow::Borrowed);
    let given = given.or_else(|| of_browser(head, authorization?).map(Cow::Owned));
    let Some(given) = given else {
        return Err(ApiError::new(401, "an API key is needed: send it as x-api-key or as Authorization: Bearer"));
    };
    // Every key is compared, each in a time that does not depend on where it differs.
    let found = keys.iter().fold(false, |found, key| found | bool::from(key.as_bytes().ct_eq(given.as_bytes())));
    if found { Ok(()) } else { Err(ApiError::new(401, "this API key is not valid")) }
}

/// The key that a browser was given for the page, as the password of `Basic` (RFC 7617). It sends it along whoever makes it ask,
/// so it counts for our own page alone.
fn of_browser(head: &Head<'_>, authorization: &str) -> Option<String> {
    let is_ours = |origin: &str| origin.split_once("://").is_some_and(|(_, host)| Some(host) == head.host());
    if !head.header("origin").is_none_or(is_ours) {
        return None;
    }
    let (scheme, credentials) = authorization.split_once(' ')?;
    let credentials = STANDARD.decode(credentials.trim()).ok().filter(|_| scheme.eq_ignore_ascii_case("basic"))?;
    let (_, key) = std::str::from_utf8(&credentials).ok()?.split_once(':')?;
    Some(key.to_owned())
}

fn check_local(head: &Head<'_>, peer: Option<SocketAddr>) -> Result<(), ApiError> {
    let refusal = |what: &str| {
        let fix = "set API_KEY to use the API from elsewhere";
        Err(ApiError::new(403, format!("without an API key this API answers this machine only, and {what}: {fix}")))
    };
    if !peer.is_some_and(|peer| peer.ip().to_canonical().is_loopback()) {
        return refusal("the request came from another one");
    }
    if PROXY_HEADERS.iter().any(|prefix| head.has_header_beginning(prefix)) {
        return refusal("the request came through a proxy");
    }
    // A site whose name was made to point here (DNS rebinding) still says its own name.
    if !head.host().is_some_and(is_loopback_name) {
        return refusal("the request was made to another host name");
    }
    Ok(())
}

/// Whether all of this is a name of this machine, and perhaps a port (RFC 3986 section 3.2).
fn is_loopback_name(host: &str) -> bool {
    if let Some((address, port)) = host.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        let address = address.parse::<Ipv6Addr>().map(IpAddr::V6);
        return is_port(port) && address.is_ok_and(|address| address.to_canonical().is_loopback());
    }
    let (name, port) = host.find(':').map_or((host, ""), |colon| host.split_at(colon));
    let is_local = || name.parse::<Ipv4Addr>().is_ok_and(|address| address.is_loopback());
    is_port(port) && (name.eq_ignore_ascii_case("localhost") || is_local())
}

/// What may follow a name: nothing, or a colon and digits.
fn is_port(text: &str) -> bool {
    let digits = text.strip_prefix(':');
    text.is_empty() || digits.is_some_and(|digits| digits.bytes().all(|byte| byte.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_names() {
        for host in [
            "localhost",
            "LocalHost:8080",
            "localhost:",
            "127.0.0.1",
            "127.0.0.1:80",
            "127.9.9.9:1",
            "[::1]",
            "[::1]:8080",
            "[::ffff:127.0.0.1]:1",
        ] {
            assert!(is_loopback_name(host), "{host}");
        }
        for host in [
            "[::1]evil",
            "[::1]:80evil",
            "[::1]@evil",
            "[::1",
            "::1",
            "[127.0.0.1]",
            "localhost:x@evil",
            "localhost:80@evil",
            "localhost:80:80",
            "localhost@evil",
            "127.0.0.1:evil",
            "evil@localhost",
            " localhost",
        ] {
            assert!(!is_loopback_name(host), "{host}");
        }
        for host in ["", "example.com", "localhost.example.com", "127.0.0.1.nip.io", "10.0.0.1:80", "[::2]:80"] {
            assert!(!is_loopback_name(host), "{host}");
        }
    }
}
