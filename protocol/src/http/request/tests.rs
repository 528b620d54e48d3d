//! Rows of heads and what they mean.

use super::*;

fn decode(text: &[u8]) -> Result<Option<(Head<'_>, usize)>, RequestError> {
    Head::decode(text, &mut 0, &HeadLimits::default())
}

fn whole(text: &str) -> Head<'_> {
    let (head, length) = decode(text.as_bytes()).unwrap().unwrap();
    assert_eq!(length, text.len(), "{text:?}");
    head
}

fn error(text: &[u8]) -> Option<RequestError> {
    decode(text).err()
}

#[test]
fn decodes_a_head_and_leaves_what_follows() {
    let text =
        b"POST /socket.io/?EIO=4&sid=a HTTP/1.1\r\nHost: a.example\r\nContent-Length: 5\r\nX-A:  b \r\n\r\nhelloGET";
    let (head, length) = decode(text).unwrap().unwrap();
    assert_eq!(length, text.len() - 8);
    assert_eq!((head.method, head.version), (Method::Post, Version::Http11));
    assert_eq!((head.path, head.query.as_str()), ("/socket.io/", "EIO=4&sid=a"));
    assert_eq!((head.framing, head.upgrade), (Framing::Length(5), Upgrade::None));
    assert_eq!((head.keep_alive, head.expects_continue), (KeepAlive::Keep, false));
    assert_eq!((head.header("x-a"), head.header("x-b")), (Some("b"), None));
    assert_eq!(head.host(), Some("a.example"));
}

#[test]
fn knows_methods() {
    let rows = [
        ("GET", Method::Get),
        ("HEAD", Method::Head),
        ("POST", Method::Post),
        ("PUT", Method::Put),
        ("PATCH", Method::Patch),
        ("DELETE", Method::Delete),
        ("OPTIONS", Method::Options),
        ("TRACE", Method::Other),
        // RFC 9110 section 9.1: methods are case-sensitive.
        ("get", Method::Other),
    ];
    for (word, expected) in rows {
        assert_eq!(whole(&format!("{word} / HTTP/1.1\r\nHost: a\r\n\r\n")).method, expected);
    }
}

#[test]
fn splits_targets() {
    // RFC 9112 section 3.2
    let rows = [
        ("/", Some(("/", "", "h"))),
        ("//a?b?c", Some(("//a", "b?c", "h"))),
        ("/a%20b?", Some(("/a%20b", "", "h"))),
        ("http://b.example:80/c?d=e", Some(("/c", "d=e", "b.example:80"))),
        ("HTTPS://b", Some(("/", "", "b"))),
        ("http://b?c", Some(("/", "c", "b"))),
        ("http:///c", None),
        ("http://user@b/", None),
        ("ftp://b/", None),
        ("b.example:443", None),
        ("*", None),
        ("/a#b", None),
        ("a", None),
    ];
    for (target, expected) in rows {
        let text = format!("GET {target} HTTP/1.1\r\nHost: h\r\n\r\n");
        match (decode(text.as_bytes()), expected) {
            (Ok(Some((head, _))), Some(expected)) => {
                assert_eq!((head.path, head.query.as_str(), head.host().unwrap()), expected);
            }
            (result, expected) => {
                assert_eq!((result.err(), expected), (Some(RequestError::Malformed), None), "{target}")
            }
        }
    }
}

#[test]
fn frames_bodies() {
    use RequestError::{Malformed, TransferEncodingUnsupported};
    // RFC 9112 section 6
    let rows = [
        ("", Ok(Framing::None)),
        ("Content-Length: 0\r\n", Ok(Framing::Length(0))),
        ("content-length: 007\r\n", Ok(Framing::Length(7))),
        ("Content-Length: 7\r\nContent-Length: 7\r\n", Ok(Framing::Length(7))),
        ("Content-Length: 7\r\nContent-Length: 8\r\n", Err(Malformed)),
        ("Content-Length: 7, 7\r\n", Err(Malformed)),
        ("Content-Length: +7\r\n", Err(Malformed)),
        ("Content-Length: -7\r\n", Err(Malformed)),
        ("Content-Length: 0x7\r\n", Err(Malformed)),
        ("Content-Length:\r\n", Err(Malformed)),
        ("Content-Length: 99999999999999999999999\r\n", Ok(Framing::Length(u64::MAX))),
        ("Transfer-Encoding: chunked\r\n", Ok(Framing::Chunked)),
        ("Transfer-Encoding: Chunked \r\n", Ok(Framing::Chunked)),
        ("Transfer-Encoding: gzip, chunked\r\n", Err(TransferEncodingUnsupported)),
        ("Transfer-Encoding: chunked, identity\r\n", Err(TransferEncodingUnsupported)),
        ("Transfer-Encoding: xchunked\r\n", Err(TransferEncodingUnsupported)),
        ("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", Err(TransferEncodingUnsupported)),
        ("Transfer-Encoding: identity\r\nTransfer-Encoding: chunked\r\n", Err(TransferEncodingUnsupported)),
        ("Transfer-Encoding: chunked\r\nContent-Length: 7\r\n", Err(Malformed)),
        ("Content-Length: 7\r\nTransfer-Encoding: x\r\n", Err(Malformed)),
        // RFC 9112 section 5.1 and 5.2
        ("Transfer-Encoding : chunked\r\n", Err(Malformed)),
        ("Transfer-Encoding:\r\n chunked\r\n", Err(Malformed)),
        ("Content-Length: 7\r\n 7\r\n", Err(Malformed)),
    ];
    for (lines, expected) in rows {
        let text = format!("POST / HTTP/1.1\r\nHost: a\r\n{lines}\r\n");
        let framing = decode(text.as_bytes()).map(|found| found.unwrap().0.framing);
        assert_eq!(framing, expected, "{lines}");
    }
    let old = b"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n";
    assert_eq!(error(old), Some(Malformed));
}

#[test]
fn reads_what_the_peer_wants_of_the_connection() {
    use KeepAlive::{Close, Keep};
    use Upgrade::{None, Other, WebSocket};
    // RFC 9112 section 9.3, RFC 9110 section 7.8
    let rows = [
        ("1.1", "", Keep, None),
        ("1.1", "Connection: close\r\n", Close, None),
        ("1.1", "Connection: keep-alive, Close\r\n", Close, None),
        ("1.0", "", Close, None),
        ("1.0", "Connection: Keep-Alive\r\n", Keep, None),
        ("1.0", "Connection: keep-alive\r\nConnection: close\r\n", Close, None),
        ("1.1", "Connection: Upgrade\r\nUpgrade: WebSocket\r\n", Keep, WebSocket),
        ("1.1", "Connection: keep-alive, upgrade\r\nUpgrade: websocket\r\n", Keep, WebSocket),
        ("1.1", "Connection: upgrade\r\nUpgrade: foo/1, websocket\r\n", Keep, WebSocket),
        ("1.1", "Connection: upgrade\r\nUpgrade: h2c\r\n", Keep, Other),
        ("1.1", "Connection: upgrade, http2-settings\r\nUpgrade: websocket2\r\n", Keep, Other),
        // nginx sends the first of these.
        ("1.1", "Connection: upgrade\r\n", Keep, None),
        ("1.1", "Connection: upgrade\r\nUpgrade:\r\n", Keep, None),
        ("1.1", "Upgrade: websocket\r\n", Keep, None),
        ("1.1", "Connection: upgraded\r\nUpgrade: websocket\r\n", Keep, None),
        ("1.0", "Connection: upgrade\r\nUpgrade: websocket\r\n", Close, None),
    ];
    for (version, lines, keep_alive, upgrade) in rows {
        let text = format!("GET / HTTP/{version}\r\nHost: a\r\n{lines}\r\n");
        let head = whole(&text);
        assert_eq!((head.keep_alive, head.upgrade), (keep_alive, upgrade), "{version} {lines}");
    }
}

#[test]
fn knows_who_takes_gzip() {
    let accepts =
        |coding: &str| whole(&format!("GET / HTTP/1.1\r\nHost: a\r\nAccept-Encoding: {coding}\r\n\r\n")).accepts_gzip();
    for coding in ["gzip", "gzip, deflate, br, zstd", "br;q=1.0, GZIP;q=0.8", "*", "identity, *;q=0.5", "gzip;q=1"] {
        assert!(accepts(coding), "{coding}");
    }
    for coding in ["", "identity", "br, deflate", "gzip;q=0", "gzip; q=0.0, *", "*;q=0", "x-gzip-not", "gzip;level=1"] {
        assert!(!accepts(coding), "{coding}");
    }
    assert!(!whole("GET / HTTP/1.1\r\nHost: a\r\n\r\n").accepts_gzip());
}

#[test]
fn knows_one_expectation() {
    // RFC 9110 section 10.1.1
    let rows = [
        ("1.1", "100-continue", Ok(true)),
        ("1.1", "100-Continue", Ok(true)),
        ("1.0", "100-continue", Ok(false)),
        ("1.1", "200-ok", Err(RequestError::ExpectationUnknown)),
        ("1.1", "100-continue, x", Err(RequestError::ExpectationUnknown)),
    ];
    for (version, value, expected) in rows {
        let text = format!("POST / HTTP/{version}\r\nHost: a\r\nExpect: {value}\r\n\r\n");
        assert_eq!(decode(text.as_bytes()).map(|found| found.unwrap().0.expects_continue), expected, "{value}");
    }
}

#[test]
fn refuses_malformed_heads() {
    use RequestError::{Malformed, VersionUnsupported};
    let rows: &[(&[u8], RequestError)] = &[
        // RFC 9112 section 3.2: one valid Host.
        (b"GET / HTTP/1.1\r\n\r\n", Malformed),
        (b"GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n", Malformed),
        (b"GET / HTTP/1.1\r\nHost: a/b\r\n\r\n", Malformed),
        (b"GET / HTTP/1.1\r\nHost: a b\r\n\r\n", Malformed),
        // RFC 9112 section 2.3
        (b"GET / HTTP/1.2\r\nHost: a\r\n\r\n", VersionUnsupported),
        (b"GET / HTTP/2.0\r\nHost: a\r\n\r\n", VersionUnsupported),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", VersionUnsupported),
        (b"GET /\r\n\r\n", Malformed),
        (b"GET  / HTTP/1.1\r\nHost: a\r\n\r\n", Malformed),
        // RFC 9112 section 2.2: no bare line feed, no bare carriage return.
        (b"GET / HTTP/1.1\nHost: a\n\n", Malformed),
        (b"GET / HTTP/1.1\r\nHost: a\nX: b\r\n\r\n", Malformed),
        (b"GET / HTTP/1.1\r\nHost: a\rX: b\r\n\r\n", Malformed),
        // RFC 9112 section 5, RFC 9110 section 5.5
        (b"GET / HTTP/1.1\r\nHost: a\r\nX : b\r\n\r\n", Malformed),
        (b"GET / HTTP/1.1\r\nHost: a\r\n: b\r\n\r\n", Malformed),
        (b"GET / HTTP/1.1\r\nHost: a\r\nX\r\n\r\n", Malformed),
        (b"GET / HTTP/1.1\r\nHost: a\r\nX: \0\r\n\r\n", Malformed),
        (b"GET / HTTP/1.1\r\n Host: a\r\n\r\n", Malformed),
        (b"\r\n\r\n\r\n\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", Malformed),
        // What can never become a request is refused without waiting for more of it.
        (b"\x16\x03\x01", Malformed),
        (b"\n", Malformed),
        (b" GET", Malformed),
        (b"GET\t", Malformed),
        (b"{\"a\"", Malformed),
        (b"AAAAAAAAAAAAAAAAAAAAAAAAA", Malformed),
    ];
    for (text, expected) in rows {
        assert_eq!(error(text), Some(*expected), "{}", text.escape_ascii());
    }
}

#[test]
fn forgives_empty_lines_before_the_request_line() {
    // RFC 9112 section 2.2
    assert_eq!(whole("\r\n\r\nGET /a HTTP/1.1\r\nHost: a\r\n\r\n").path, "/a");
    for begun in
        ["", "\r", "\r\n", "\r\n\r", "GET", "GET / HTTP/1.1\r\nHost: a\r\n", "\r\nGET / HTTP/1.1\r\nHost: a\r\n\r"]
    {
        assert!(decode(begun.as_bytes()).unwrap().is_none(), "{begun:?}");
    }
}

#[test]
fn limits_headers_and_bytes() {
    // A11: more header lines than anyone counts on.
    let lines = |count: usize| format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", "X: b\r\n".repeat(count - 1));
    assert_eq!(whole(&lines(HEADERS_MAX)).header_values("x").count(), HEADERS_MAX - 1);
    assert_eq!(error(lines(HEADERS_MAX + 1).as_bytes()), Some(RequestError::TooManyHeaders));
    // A23: a value of 32,000 blanks.
    let spaces = format!("GET / HTTP/1.1\r\nHost: a\r\nSec-WebSocket-Protocol: b{}x\r\n\r\n", " ".repeat(32_000));
    assert_eq!(error(spaces.as_bytes()), Some(RequestError::HeadTooLarge));
    let text = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n";
    for (head_bytes_max, expected) in [(text.len(), None), (text.len() - 1, Some(RequestError::HeadTooLarge))] {
        let limits = HeadLimits { head_bytes_max };
        assert_eq!(Head::decode(text, &mut 0, &limits).err(), expected);
        let mut scanned = 0;
        let verdict = (0..=text.len()).find_map(|end| Head::decode(&text[..end], &mut scanned, &limits).err());
        assert_eq!(verdict, expected);
    }
}

#[test]
fn a_dribbling_head_costs_linear_time() {
    // A28: each byte of the head is searched once, however it arrives.
    let limits = HeadLimits { head_bytes_max: 1 << 20 };
    let mut text = format!("GET / HTTP/1.1\r\nHost: a\r\nX: {}", "x".repeat(200_000)).into_bytes();
    let mut scanned = 0;
    for end in 0..text.len() {
        assert!(Head::decode(&text[..end], &mut scanned, &limits).unwrap().is_none());
        assert_eq!(scanned, end);
    }
    text.extend_from_slice(b"\r\n\r\n");
    assert!(Head::decode(&text, &mut text.len(), &limits).unwrap().is_none(), "what is scanned is not searched again");
    assert!(Head::decode(&text, &mut scanned, &limits).unwrap().is_some());
    assert_eq!(scanned, 0);
}

#[test]
fn a_header_that_is_not_utf8_is_not_lent_as_text() {
    let (head, _) = decode(b"GET / HTTP/1.1\r\nHost: a\r\nX: \xff\r\n\r\n").unwrap().unwrap();
    assert_eq!(head.header("x"), None);
    assert_eq!(head.header_values("x").next(), Some(b"\xff".as_slice()));
}

#[test]
fn errors_know_their_status_and_debug_shows_no_secret() {
    assert_eq!(RequestError::Malformed.status(), 400);
    assert_eq!(RequestError::BodyTooLarge.status(), 413);
    assert_eq!(RequestError::ExpectationUnknown.status(), 417);
    assert_eq!(RequestError::TooManyHeaders.status(), 431);
    assert_eq!(RequestError::TransferEncodingUnsupported.status(), 501);
    assert_eq!(RequestError::VersionUnsupported.to_string(), "Only HTTP/1.1 and HTTP/1.0 are supported.");
    let text = "GET /?sid=secret HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer secret\r\n\r\n";
    assert!(!format!("{:?}", whole(text)).contains("secret"));
}
