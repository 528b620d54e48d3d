//! The test page: a part of the program.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest, Sha256};

use crate::config::Strictness;

use super::answer::ApiAnswer;

const PAGE: &str = include_str!("../../assets/page.html");
/// What stands in the page where the engine's path belongs, at the beginning of attributes.
const PLACE: &str = "/socket.io/";
/// The attribute for what there is.
const DEVELOPMENT: &str = "data-strictness=\"development\"";
const PRODUCTION: &str = "data-strictness=\"production\"";
/// The attribute for an address other than the page's.
const NO_SERVER: &str = "data-server=\"\"";

/// Where the page's clients connect to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PageServer {
    /// To where the page comes from.
    Same,
    /// To this address, which is not the page's; unspecified: to the host that the page comes from.
    At(SocketAddr),
}

/// The page with its policy: nothing runs that is not in it.
#[derive(Debug)]
pub(super) struct Page {
    html: String,
    /// What scripts and styles may be.
    policy: String,
    server: PageServer,
}

impl Page {
    /// For an engine at this path.
    pub(super) fn new(path: &str, server: PageServer, strictness: Strictness) -> Page {
        let script = hash_of_last(PAGE, "<script>", "</script>");
        let style = hash_of_last(PAGE, "<style>", "</style>");
        let attribute = match strictness {
            Strictness::Development => DEVELOPMENT,
            Strictness::Production => PRODUCTION,
        };
        Page {
            html: PAGE.replace(&format!("\"{PLACE}"), &format!("\"{}", escaped(path))).replace(DEVELOPMENT, attribute),
            policy: format!(
                "default-src 'none'; script-src 'self' '{script}'; style-src '{style}'; img-src data:; \
                 base-uri 'none'; form-action 'none'; frame-ancestors 'none'; connect-src 'self'"
            ),
            server,
        }
    }

    /// The page for who has asked this host for it.
    pub(super) fn answer(&self, asked: Option<&str>) -> ApiAnswer {
        let (html, policy) = match self.server {
            PageServer::Same => (self.html.clone(), self.policy.clone()),
            PageServer::At(address) => {
                let host = match address.ip() {
                    ip if ip.is_unspecified() => name_of(asked),
                    IpAddr::V4(ip) => ip.to_string(),
                    IpAddr::V6(ip) => format!("[{ip}]"),
                };
                // A policy cannot name an IPv6 address (CSP3 section 2.3.1).
                let source = if host.starts_with('[') { "*" } else { &host };
                let port = address.port();
                (
                    self.html.replace(NO_SERVER, &format!("data-server=\"http://{host}:{port}\"")),
                    format!("{} http://{source}:{port} ws://{source}:{port}", self.policy),
                )
            }
        };
        ApiAnswer {
            status: 200,
            content_type: "text/html; charset=utf-8",
            headers: vec![
                ("Content-Security-Policy", policy),
                ("X-Content-Type-Options", "nosniff".to_owned()),
                ("Referrer-Policy", "no-referrer".to_owned()),
                ("Cache-Control", "no-store".to_owned()),
            ],
            body: html.into_bytes(),
            reason: None,
        }
    }
}

/// The host of a `Host` header, without its port; what is none by its letters is this machine.
fn name_of(host: Option<&str>) -> String {
    let host = host.unwrap_or_default();
    let name = match host.split_once(']') {
        Some((address, _)) => format!("{address}]"),
        None => host.split(':').next().unwrap_or_default().to_owned(),
    };
    let inside = name.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    let is_host = match inside {
        Some(address) => address.parse::<Ipv6Addr>().is_ok(),
        None => !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-".contains(&byte)),
    };
    if is_host { name } else { "localhost".to_owned() }
}

/// As it may stand in an attribute.
fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('"', "&quot;").replace('<', "&lt;").replace('>', "&gt;")
}

/// The hash of an inline element, as a Content-Security-Policy names it.
fn hash_of_last(page: &str, open: &str, close: &str) -> String {
    let inside = page.rsplit_once(open).and_then(|(_, rest)| rest.split_once(close)).map_or("", |(inside, _)| inside);
    format!("sha256-{}", STANDARD.encode(Sha256::digest(inside.as_bytes())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_has_one_style_and_one_inline_script() {
        assert_eq!(PAGE.matches("<style>").count(), 1);
        assert_eq!(PAGE.matches("<script>").count(), 1);
        assert!(!PAGE.contains(" style=") && !PAGE.contains(" onclick="));
    }

    fn html(page: &Page, host: &str) -> (String, String) {
        let answer = page.answer(Some(host));
        (String::from_utf8(answer.body).unwrap(), answer.headers[0].1.clone())
    }

    #[test]
    fn the_page_knows_the_path_and_the_address_of_the_engine() {
        let (same, policy) = html(&Page::new("/socket.io/", PageServer::Same, Strictness::Development), "evil\"host");
        assert_eq!(same, PAGE);
        assert!(policy.ends_with("connect-src 'self'"), "{policy}");

        let (moved, _) = html(&Page::new("/a\"b/", PageServer::Same, Strictness::Development), "localhost");
        assert!(moved.contains("data-path=\"/a&quot;b/\""), "{moved}");
        assert!(moved.contains("<script src=\"/a&quot;b/socket.io.js\">"), "{moved}");

        let anywhere = Page::new("/socket.io/", PageServer::At("[::]:8080".parse().unwrap()), Strictness::Development);
        for (asked, server, source) in [
            ("localhost:9090", "localhost", "localhost"),
            ("127.0.0.1:9090", "127.0.0.1", "127.0.0.1"),
            ("[::1]:9090", "[::1]", "*"),
            ("a\"b:1", "localhost", "localhost"),
            ("[\"]:1", "localhost", "localhost"),
            ("", "localhost", "localhost"),
        ] {
            let (page, policy) = html(&anywhere, asked);
            assert!(page.contains(&format!("data-server=\"http://{server}:8080\"")), "{asked}");
            let connect = format!("connect-src 'self' http://{source}:8080 ws://{source}:8080");
            assert!(policy.ends_with(&connect), "{asked}: {policy}");
        }
        let there = Page::new("/socket.io/", PageServer::At("10.0.0.7:80".parse().unwrap()), Strictness::Production);
        let (there, _) = html(&there, "localhost");
        assert!(there.contains("data-server=\"http://10.0.0.7:80\"") && there.contains(PRODUCTION));
        assert!(same.contains(DEVELOPMENT));
    }
}
