//! Origins: which pages may talk to this server, and the headers that tell their browsers (Fetch section 3.2).

use alloc::string::String;
use alloc::vec::Vec;

/// Whom the server answers across origins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CorsPolicy {
    /// Whose pages may talk to this server.
    pub origins: Origins,
    /// Whether pages may send cookies and credentials along.
    pub credentials: bool,
}

/// The pages that may talk to this server. Its own origin always may.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origins {
    /// The pages of every origin.
    Any,
    /// `scheme://host[:port]`; case, a default port and one `/` at the end do not matter.
    List(Vec<String>),
    /// Those that were loaded from this server, and no others.
    SameOrigin,
}

/// What the policy says of one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OriginDecision {
    /// Not a page of another origin, perhaps no browser at all: allowed.
    NoOrigin,
    /// A page that may.
    Allowed,
    /// A page that may not: its browser gets no header that lets it read the answer.
    Refused,
}

impl CorsPolicy {
    /// `origin` and `host` are the request's headers. The origin `null` (sandboxed frames, files) passes with `Any`
    /// only.
    pub fn decide(&self, origin: Option<&str>, host: Option<&str>) -> OriginDecision {
        let Some(origin) = origin else { return OriginDecision::NoOrigin };
        let allowed = match &self.origins {
            Origins::Any => true,
            Origins::List(list) => list.iter().any(|entry| is_equal(entry, origin)) || is_same_origin(origin, host),
            Origins::SameOrigin => is_same_origin(origin, host),
        };
        if allowed { OriginDecision::Allowed } else { OriginDecision::Refused }
    }

    /// Writes the header lines for an ordinary answer, errors included: without them a page cannot read the error.
    pub fn encode_headers(&self, origin: Option<&str>, host: Option<&str>, out: &mut Vec<u8>) {
        match (&self.origins, self.credentials) {
            (Origins::Any, false) => out.extend_from_slice(b"Access-Control-Allow-Origin: *\r\n"),
            (Origins::Any, true) | (Origins::List(_), _) => {
                self.encode_echo(origin, host, out);
                // Also without an origin: a cache must not give this answer to a page.
                out.extend_from_slice(b"Vary: Origin\r\n");
            }
            (Origins::SameOrigin, _) => {}
        }
    }

    fn encode_echo(&self, origin: Option<&str>, host: Option<&str>, out: &mut Vec<u8>) {
        let Some(origin) = origin.filter(|origin| is_visible(origin)) else { return };
        if self.decide(Some(origin), host) != OriginDecision::Allowed {
            return;
        }
        for part in ["Access-Control-Allow-Origin: ", origin, "\r\n"] {
            out.extend_from_slice(part.as_bytes());
        }
        if self.credentials {
            out.extend_from_slice(b"Access-Control-Allow-Credentials: true\r\n");
        }
    }

    /// Writes the whole answer to a preflight. `request_headers` is the request's Access-Control-Request-Headers. An
    /// origin that is not allowed gets the same 204 without any permission in it.
    pub fn encode_preflight(
        &self,
        origin: Option<&str>,
        host: Option<&str>,
        request_headers: Option<&str>,
        out: &mut Vec<u8>,
    ) {
        out.extend_from_slice(b"HTTP/1.1 204 No Content\r\n");
        self.encode_headers(origin, host, out);
        if self.decide(origin, host) != OriginDecision::Refused {
            out.extend_from_slice(b"Access-Control-Allow-Methods: GET,HEAD,PUT,PATCH,POST,DELETE\r\n");
            if let Some(names) = request_headers.filter(|names| is_name_list(names)) {
                for part in ["Access-Control-Allow-Headers: ", names, "\r\n"] {
                    out.extend_from_slice(part.as_bytes());
                }
            }
        }
        out.extend_from_slice(b"Vary: Access-Control-Request-Headers\r\nContent-Length: 0\r\n\r\n");
    }
}

fn is_equal(entry: &str, origin: &str) -> bool {
    match (split_origin(entry), split_origin(origin)) {
        (Some(entry), Some(origin)) => {
            entry.scheme.eq_ignore_ascii_case(origin.scheme) && entry.authority.eq_ignore_ascii_case(origin.authority)
        }
        _ => false,
    }
}

/// The page was loaded from where the request goes. Only the authority is compared: behind a proxy that ends TLS the
/// page's scheme is not ours.
fn is_same_origin(origin: &str, host: Option<&str>) -> bool {
    let (Some(origin), Some(host)) = (split_origin(origin), host) else { return false };
    let is_web = origin.scheme.eq_ignore_ascii_case("http") || origin.scheme.eq_ignore_ascii_case("https");
    is_web && origin.authority.eq_ignore_ascii_case(without_default_port(origin.scheme, host))
}

struct Origin<'a> {
    scheme: &'a str,
    authority: &'a str,
}

/// `None` for `null` and for all else that is not `scheme://host[:port]`.
fn split_origin(text: &str) -> Option<Origin<'_>> {
    let (scheme, authority) = text.split_once("://")?;
    let authority = authority.strip_suffix('/').unwrap_or(authority);
    if scheme.is_empty() || authority.is_empty() || authority.contains(['/', '?', '#', '@']) {
        return None;
    }
    Some(Origin { scheme, authority: without_default_port(scheme, authority) })
}

fn without_default_port<'a>(scheme: &str, authority: &'a str) -> &'a str {
    let port = match scheme {
        scheme if scheme.eq_ignore_ascii_case("http") => ":80",
        scheme if scheme.eq_ignore_ascii_case("https") => ":443",
        _ => return authority,
    };
    authority.strip_suffix(port).unwrap_or(authority)
}

fn is_visible(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic())
}

/// Header names, commas and blanks, nothing that could end the line.
fn is_name_list(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic() || byte == b' ')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn any() -> Origins {
        Origins::Any
    }

    fn list() -> Origins {
        Origins::List(vec![
            "https://App.Example/".into(),
            "http://localhost:3000".into(),
            "https://b.example:443".into(),
        ])
    }

    fn same() -> Origins {
        Origins::SameOrigin
    }

    #[test]
    fn decides() {
        use OriginDecision::{Allowed, NoOrigin, Refused};
        type Row<'a> = (fn() -> Origins, Option<&'a str>, Option<&'a str>, OriginDecision);
        let rows: &[Row<'_>] = &[
            (any, None, None, NoOrigin),
            (any, Some("https://evil.example"), Some("a"), Allowed),
            (any, Some("null"), Some("a"), Allowed),
            (list, None, Some("a"), NoOrigin),
            (list, Some("https://app.example"), Some("a"), Allowed),
            (list, Some("https://APP.example:443"), Some("a"), Allowed),
            (list, Some("https://b.example"), Some("a"), Allowed),
            (list, Some("http://localhost:3000"), Some("a"), Allowed),
            (list, Some("http://localhost"), Some("a"), Refused),
            (list, Some("http://app.example"), Some("a"), Refused),
            (list, Some("https://app.example.evil.example"), Some("a"), Refused),
            (list, Some("https://app.example@evil.example"), Some("a"), Refused),
            (list, Some("https://sub.app.example"), Some("a"), Refused),
            (list, Some("https://a:8080"), Some("a:8080"), Allowed),
            (list, Some("null"), Some("a"), Refused),
            (list, Some(""), Some("a"), Refused),
            // A21: a page of another origin, with the user's cookies.
            (same, Some("https://evil.example"), Some("a.example"), Refused),
            (same, Some("https://a.example"), Some("A.example"), Allowed),
            (same, Some("https://a.example"), Some("a.example:443"), Allowed),
            (same, Some("http://a.example:80"), Some("a.example"), Allowed),
            (same, Some("http://a.example:443"), Some("a.example"), Refused),
            (same, Some("http://a.example:8080"), Some("a.example"), Refused),
            (same, Some("http://[::1]:8080"), Some("[::1]:8080"), Allowed),
            (same, Some("chrome-extension://a.example"), Some("a.example"), Refused),
            (same, Some("null"), Some("null"), Refused),
            // What stands for an origin that is no text.
            (same, Some("\u{fffd}"), Some("a"), Refused),
            (list, Some("\u{fffd}"), Some("a"), Refused),
            (same, Some("https://a.example"), None, Refused),
        ];
        for (origins, origin, host, expected) in rows {
            let policy = CorsPolicy { origins: origins(), credentials: true };
            assert_eq!(policy.decide(*origin, *host), *expected, "{policy:?} {origin:?} {host:?}");
        }
        let null = CorsPolicy { origins: Origins::List(vec!["null".into()]), credentials: false };
        assert_eq!(null.decide(Some("null"), None), Refused);
    }

    #[test]
    fn encodes_headers() {
        let echo = "Access-Control-Allow-Origin: https://app.example\r\n";
        let allow = "Access-Control-Allow-Credentials: true\r\n";
        let vary = "Vary: Origin\r\n";
        let page = Some("https://app.example");
        type Row<'a> = (fn() -> Origins, bool, Option<&'a str>, String);
        let rows: &[Row<'_>] = &[
            // T70, T71
            (any, false, None, "Access-Control-Allow-Origin: *\r\n".into()),
            (any, false, page, "Access-Control-Allow-Origin: *\r\n".into()),
            (any, true, page, format!("{echo}{allow}{vary}")),
            (any, true, None, vary.into()),
            (any, true, Some("https://a\u{e9}"), vary.into()),
            (any, true, Some("\u{fffd}"), vary.into()),
            // T72
            (list, true, page, format!("{echo}{allow}{vary}")),
            (list, false, page, format!("{echo}{vary}")),
            (list, true, Some("https://evil.example"), vary.into()),
            (list, true, None, vary.into()),
            // T73
            (same, true, page, String::new()),
        ];
        for (origins, credentials, origin, expected) in rows {
            let policy = CorsPolicy { origins: origins(), credentials: *credentials };
            let mut out = Vec::new();
            policy.encode_headers(*origin, Some("a"), &mut out);
            assert_eq!(String::from_utf8(out).unwrap(), *expected, "{policy:?} {origin:?}");
        }
    }

    #[test]
    fn answers_preflights() {
        let preflight = |origin, names| {
            let mut out = Vec::new();
            let policy = CorsPolicy { origins: list(), credentials: true };
            policy.encode_preflight(Some(origin), Some("a"), names, &mut out);
            String::from_utf8(out).unwrap()
        };
        let start = "HTTP/1.1 204 No Content\r\n";
        let allowed = "Access-Control-Allow-Origin: https://app.example\r\nAccess-Control-Allow-Credentials: true\r\n\
                       Vary: Origin\r\nAccess-Control-Allow-Methods: GET,HEAD,PUT,PATCH,POST,DELETE\r\n";
        let end = "Vary: Access-Control-Request-Headers\r\nContent-Length: 0\r\n\r\n";
        assert_eq!(
            preflight("https://app.example", Some("content-type, x-a")),
            format!("{start}{allowed}Access-Control-Allow-Headers: content-type, x-a\r\n{end}")
        );
        for names in [None, Some(""), Some("x\r\nSet-Cookie: a"), Some("\u{e9}")] {
            assert_eq!(preflight("https://app.example", names), format!("{start}{allowed}{end}"));
        }
        assert_eq!(preflight("https://evil.example", Some("x-a")), format!("{start}Vary: Origin\r\n{end}"));
    }
}
