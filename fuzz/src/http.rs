//! `http`: the requests of one connection, however they are cut, and the answers made of what they say.

use sockring_protocol::http::{
    BodyDecoder, BodyState, CorsPolicy, Framing, HEADERS_MAX, Head, HeadLimits, KeepAlive, Method, OriginDecision,
    Origins, Query, RequestError, Response, Upgrade, Version, decode_percent,
};
use sockring_protocol::websocket;

use crate::{Random, assert_no_allocation};

/// Small, so that small inputs reach them.
const LIMITS: HeadLimits = HeadLimits { head_bytes_max: 2048 };
const BODY_BYTES_MAX: usize = 512;

/// Takes the bytes as what comes on a connection, and as a chunked body.
pub fn http(data: &[u8]) {
    let expected = run([data]);
    assert_eq!(run(data.chunks(1)), expected, "byte by byte");
    let mut random = Random::of(data);
    for piece_max in [3, 40, data.len()] {
        assert_eq!(run(random.cut(data, piece_max)), expected, "in pieces up to {piece_max}");
    }
    assert_no_allocation("Head::decode", || drop(Head::decode(data, &mut 0, &LIMITS)));
    if let Ok(Some((head, length))) = Head::decode(data, &mut 0, &LIMITS) {
        check_head(&head, &data[..length]);
        check_query(head.query);
        check_upgrade(&head);
        check_answers(&head);
        check_origins(&head);
    }
    chunked_body(data, &mut random);
    counted_body(data, &mut random);
}

/// What a connection says: requests, then why it fails, or how far the next one has come.
#[derive(Debug, PartialEq, Eq)]
enum Said {
    Head(String, Framing),
    Body(Vec<u8>),
    Refused(RequestError),
    Begun { in_body: bool, payload: Vec<u8>, bytes_left: usize },
}

#[derive(Default)]
struct Connection {
    bytes: Vec<u8>,
    scanned: usize,
    body: Option<BodyDecoder>,
    payload: Vec<u8>,
    said: Vec<Said>,
}

fn run<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> Vec<Said> {
    let mut connection = Connection::default();
    for piece in pieces {
        connection.bytes.extend_from_slice(piece);
        if let Err(error) = connection.advance() {
            assert!(matches!(error.status(), 400 | 413 | 417 | 431 | 501 | 505));
            connection.said.push(Said::Refused(error));
            return connection.said;
        }
    }
    let (in_body, bytes_left) = (connection.body.is_some(), connection.bytes.len());
    assert!(bytes_left < LIMITS.head_bytes_max, "no more is kept than a head may have");
    connection.said.push(Said::Begun { in_body, payload: connection.payload, bytes_left });
    connection.said
}

impl Connection {
    fn advance(&mut self) -> Result<(), RequestError> {
        loop {
            if let Some(body) = &mut self.body {
                let (consumed, state) = body.decode(&self.bytes, &mut self.payload)?;
                self.bytes.drain(..consumed);
                assert!(self.payload.len() <= BODY_BYTES_MAX);
                if state == BodyState::More {
                    assert!(self.bytes.is_empty(), "all is taken while more is needed");
                    return Ok(());
                }
                self.said.push(Said::Body(std::mem::take(&mut self.payload)));
                self.body = None;
            }
            let Some((head, length)) = Head::decode(&self.bytes, &mut self.scanned, &LIMITS)? else {
                assert_eq!(self.scanned, self.bytes.len());
                return Ok(());
            };
            assert_eq!(self.scanned, 0);
            let flags = (head.version, head.keep_alive, head.upgrade, head.expects_continue);
            let target = (head.method, head.host(), head.path, head.query.as_str());
            self.said.push(Said::Head(format!("{target:?} {flags:?}"), head.framing));
            self.body = Some(BodyDecoder::new(head.framing, BODY_BYTES_MAX)?);
            self.bytes.drain(..length);
        }
    }
}

/// A head means what anyone who reads it line by line takes it for: requests are smuggled through the difference.
fn check_head(head: &Head<'_>, bytes: &[u8]) {
    assert!(bytes.ends_with(b"\r\n\r\n") && bytes.len() <= LIMITS.head_bytes_max);
    assert!(head.path.starts_with('/') && !head.path.contains(['?', '#']) && !head.query.as_str().contains('#'));
    let lines = Lines::split(bytes);
    assert!(lines.headers.len() <= HEADERS_MAX);
    for (name, _) in &lines.headers {
        let expected = lines.values(name);
        assert_eq!(head.header_values(name).collect::<Vec<_>>(), expected, "{name}");
    }
    let lengths = lines.values("content-length");
    match (head.framing, lines.values("transfer-encoding").as_slice()) {
        (Framing::None, []) => assert!(lengths.is_empty()),
        (Framing::Length(length), []) => {
            assert!(!lengths.is_empty());
            for text in lengths {
                let number = std::str::from_utf8(text).expect("digits").parse::<u128>().unwrap_or(u128::MAX);
                assert_eq!(u64::try_from(number).unwrap_or(u64::MAX), length);
            }
        }
        (Framing::Chunked, [coding]) => {
            assert!(coding.eq_ignore_ascii_case(b"chunked") && lengths.is_empty() && head.version == Version::Http11);
        }
        (framing, codings) => panic!("{framing:?} with {codings:?}"),
    }
    let hosts = lines.values("host").len();
    assert!(hosts == 1 || (hosts == 0 && head.version == Version::Http10), "{hosts} hosts");
    let mentions = |name: &str, word: &str| {
        lines
            .values(name)
            .iter()
            .any(|value| value.to_ascii_lowercase().windows(word.len()).any(|w| w == word.as_bytes()))
    };
    assert_eq!(head.expects_continue, head.version == Version::Http11 && mentions("expect", "100-continue"));
    if head.upgrade == Upgrade::WebSocket {
        assert!(mentions("upgrade", "websocket") && mentions("connection", "upgrade"));
    }
    if head.version == Version::Http11 {
        assert!(head.keep_alive == KeepAlive::Keep || mentions("connection", "close"));
    }
}

/// Header lines as split by someone who knows nothing of HTTP but CR, LF and the colon.
struct Lines<'b> {
    headers: Vec<(String, &'b [u8])>,
}

impl<'b> Lines<'b> {
    fn split(bytes: &'b [u8]) -> Lines<'b> {
        let lines = bytes.split(|byte| *byte == b'\n').map(|line| line.strip_suffix(b"\r").unwrap_or(line));
        let headers = lines.filter(|line| !line.is_empty()).skip(1).map(|line| {
            let colon = line.iter().position(|byte| *byte == b':').expect("a header has a colon");
            let name = std::str::from_utf8(&line[..colon]).expect("a name is ASCII").to_ascii_lowercase();
            (name, line[colon + 1..].trim_ascii())
        });
        Lines { headers: headers.collect() }
    }

    fn values(&self, name: &str) -> Vec<&'b [u8]> {
        self.headers.iter().filter(|(header, _)| header == name).map(|(_, value)| *value).collect()
    }
}

fn check_query(query: Query<'_>) {
    for (name, value) in query.pairs() {
        assert!(value.len() <= query.as_str().len());
        // An earlier pair with that name may not be UTF-8; a later one never wins over an earlier.
        if let Some(first) = query.value(&name) {
            let listed = query.pairs().find(|(other, _)| *other == name).expect("listed");
            assert_eq!(first, listed.1);
        }
        assert!(decode_percent(&value).is_none_or(|decoded| decoded.len() <= value.len()));
    }
    assert!(!format!("{query:?}").contains('='));
}

fn check_upgrade(head: &Head<'_>) {
    match websocket::AcceptKey::of(head) {
        Ok(key) => {
            assert_eq!((head.method, head.version, head.upgrade), (Method::Get, Version::Http11, Upgrade::WebSocket));
            assert!(matches!(head.framing, Framing::None | Framing::Length(0)), "no room for a second request");
            let mut out = Vec::new();
            key.encode_response(b"X: y\r\n", &mut out);
            assert_eq!(split_answer(&out), (5, b"".as_slice()));
        }
        Err(error) => assert!(matches!(error.status(), 400 | 426)),
    }
}

/// Whatever a client puts into an answer (its origin, names of headers, decoded values of its query) stays in its line.
fn check_answers(head: &Head<'_>) {
    let values: Vec<_> = head.query.pairs().map(|(_, value)| value).collect();
    let texts = values.iter().map(|value| &**value).chain(head.header("origin")).chain(["http://a.example"]);
    for text in texts.take(8) {
        for origins in [Origins::Any, Origins::SameOrigin, Origins::List(vec!["http://a.example".into()])] {
            let policy = CorsPolicy { origins, credentials: true };
            let (mut cors, mut out) = (Vec::new(), Vec::new());
            policy.encode_headers(Some(text), head.host(), &mut cors);
            let response = Response {
                status: 200,
                content_type: "text/plain",
                headers: &[("X-Echo", text)],
                cors: &cors,
                body: b"body",
                keep_alive: KeepAlive::Close,
            };
            response.encode(&mut out);
            let (lines, body) = split_answer(&out);
            // Status, type, length, close; at most the echo and three lines for the origin.
            assert!((4..=8).contains(&lines) && body == b"body", "{}", out.escape_ascii());
            out.clear();
            policy.encode_preflight(Some(text), head.host(), Some(text), &mut out);
            let (lines, body) = split_answer(&out);
            assert!((3..=8).contains(&lines) && body.is_empty(), "{}", out.escape_ascii());
        }
    }
}

/// A page may talk to us if its origin is listed, or is ours: the decision, and what its browser is told.
fn check_origins(head: &Head<'_>) {
    const LISTED: &str = "https://app.example";
    let Some(host) = head.host() else { return };
    let own = [format!("http://{host}"), format!("https://{host}")];
    let foreign = [
        format!("{LISTED}.evil.example"),
        format!("https://evil.example/{LISTED}"),
        format!("https://app.example@{host}.evil"),
        format!("ftp://{host}"),
        "http://app.example".to_owned(),
        "https://app.example:444".to_owned(),
        "https://sub.app.example".to_owned(),
        "null".to_owned(),
        String::new(),
    ];
    let has_default_port = host.ends_with(":80") || host.ends_with(":443");
    let list = || Origins::List(vec![LISTED.into()]);
    for (origins, may_listed) in [(list(), true), (Origins::SameOrigin, false)] {
        let policy = CorsPolicy { origins, credentials: true };
        let decide = |origin: &str| policy.decide(Some(origin), Some(host));
        assert_eq!(policy.decide(None, Some(host)), OriginDecision::NoOrigin);
        for origin in &own {
            // An authority of what no authority may have in an origin is none.
            if !host.contains('@') && !has_default_port && !host.is_empty() {
                assert_eq!(decide(origin), OriginDecision::Allowed, "{origin}");
            }
        }
        if host != "app.example" {
            let expected = if may_listed { OriginDecision::Allowed } else { OriginDecision::Refused };
            for listed in [LISTED, "https://APP.example:443"] {
                assert_eq!(policy.decide(Some(listed), Some("other.example")), expected, "{listed}");
            }
        }
        for origin in &foreign {
            assert_eq!(policy.decide(Some(origin), Some("other.example")), OriginDecision::Refused, "{origin}");
        }
        let other_scheme = format!("ftp://{host}");
        assert_eq!(decide(&other_scheme), OriginDecision::Refused, "no page is there");
        for origin in own.iter().chain(&foreign).map(String::as_str).chain(head.header("origin")) {
            let mut headers = Vec::new();
            policy.encode_headers(Some(origin), Some(host), &mut headers);
            let echo = format!("Access-Control-Allow-Origin: {origin}\r\n");
            let is_echoed = headers.windows(echo.len().max(1)).any(|window| window == echo.as_bytes());
            let is_allowed = decide(origin) == OriginDecision::Allowed;
            let is_plain = !origin.is_empty() && origin.bytes().all(|byte| byte.is_ascii_graphic());
            assert_eq!(is_echoed, is_allowed && is_plain && may_listed, "{origin}");
        }
    }
}

/// How many lines the head of an answer has, and its body.
fn split_answer(out: &[u8]) -> (usize, &[u8]) {
    let end = out.windows(4).position(|window| window == b"\r\n\r\n").expect("a blank line");
    let head = std::str::from_utf8(&out[..end]).expect("text");
    let lines: Vec<_> = head.split("\r\n").collect();
    for line in &lines {
        assert!(!line.contains(['\r', '\n', '\0']));
    }
    assert!(lines[0].starts_with("HTTP/1.1 ") && lines[1..].iter().all(|line| line.contains(": ")), "{head}");
    (lines.len(), &out[end + 4..])
}

type BodyResult = (Vec<u8>, Result<(usize, BodyState), RequestError>);

fn decode_body<'a>(framing: Framing, pieces: impl IntoIterator<Item = &'a [u8]>) -> BodyResult {
    let (mut payload, mut taken) = (Vec::new(), 0);
    let mut decoder = match BodyDecoder::new(framing, BODY_BYTES_MAX) {
        Ok(decoder) => decoder,
        Err(error) => return (payload, Err(error)),
    };
    for piece in pieces {
        match decoder.decode(piece, &mut payload) {
            Ok((consumed, BodyState::Complete)) => return (payload, Ok((taken + consumed, BodyState::Complete))),
            Ok((consumed, BodyState::More)) => {
                assert_eq!(consumed, piece.len(), "all is taken while more is needed");
                taken += consumed;
            }
            Err(error) => return (payload, Err(error)),
        }
        assert!(payload.len() <= BODY_BYTES_MAX);
    }
    (payload, Ok((taken, BodyState::More)))
}

fn chunked_body(data: &[u8], random: &mut Random) {
    let whole = decode_body(Framing::Chunked, [data]);
    assert_eq!(decode_body(Framing::Chunked, data.chunks(1)), whole, "byte by byte");
    assert_eq!(decode_body(Framing::Chunked, random.cut(data, 20)), whole, "in pieces");
    let (payload, Ok((consumed, BodyState::Complete))) = whole else { return };
    assert_eq!(reference_chunks(&data[..consumed]), payload);
    let (_, shorter) = decode_body(Framing::Chunked, [&data[..consumed - 1]]);
    assert_eq!(shorter, Ok((consumed - 1, BodyState::More)), "it ends with its last byte");

    let mut encoded = Vec::new();
    for chunk in random.cut(&payload, 50).into_iter().filter(|chunk| !chunk.is_empty()) {
        encoded.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
        encoded.extend_from_slice(chunk);
        encoded.extend_from_slice(b"\r\n");
    }
    encoded.extend_from_slice(b"0\r\n\r\n");
    let length = encoded.len();
    encoded.extend_from_slice(b"GET ");
    assert_eq!(decode_body(Framing::Chunked, [encoded.as_slice()]), (payload, Ok((length, BodyState::Complete))));
}

/// The payload of a whole chunked body, read line by line.
fn reference_chunks(body: &[u8]) -> Vec<u8> {
    let mut payload = Vec::new();
    let mut rest = body;
    loop {
        let (line, after) = split_line(rest);
        let digits = line.split(|byte| b" \t;".contains(byte)).next().unwrap_or_default();
        let size = usize::from_str_radix(std::str::from_utf8(digits).expect("digits"), 16).expect("a size");
        rest = after;
        if size == 0 {
            break;
        }
        payload.extend_from_slice(&rest[..size]);
        rest = rest[size..].strip_prefix(b"\r\n").expect("a line end after a chunk");
    }
    loop {
        let (line, after) = split_line(rest);
        rest = after;
        if line.is_empty() {
            assert!(rest.is_empty(), "read past the end of the body");
            return payload;
        }
    }
}

/// A line ends with both characters, and neither stands in it alone: for whoever takes one of them for an end, the line
/// would be two.
fn split_line(bytes: &[u8]) -> (&[u8], &[u8]) {
    let end = bytes.windows(2).position(|window| window == b"\r\n").expect("a line end");
    assert!(!bytes[..end].iter().any(|byte| matches!(byte, b'\r' | b'\n' | b'\0')), "half a line end in a line");
    (&bytes[..end], &bytes[end + 2..])
}

fn counted_body(data: &[u8], random: &mut Random) {
    let length = random.below(BODY_BYTES_MAX * 2);
    let result = decode_body(Framing::Length(length as u64), random.cut(data, 200));
    let expected = match data.get(..length) {
        _ if length > BODY_BYTES_MAX => (Vec::new(), Err(RequestError::BodyTooLarge)),
        // Empty pieces, or none at all, tell a body of length 0 nothing.
        Some(payload) if length > 0 => (payload.to_vec(), Ok((length, BodyState::Complete))),
        Some(_) => (Vec::new(), Ok((0, if data.is_empty() { BodyState::More } else { BodyState::Complete }))),
        None => (data.to_vec(), Ok((data.len(), BodyState::More))),
    };
    assert_eq!(result, expected);
}
