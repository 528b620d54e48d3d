//! Request heads: from the first bytes to method, target, framing and what the peer wants of the connection.

use core::fmt;

use super::Query;

/// More header lines than this are answered with 431.
pub const HEADERS_MAX: usize = 100;
/// Empty lines before the request line that are forgiven (RFC 9112 section 2.2 asks for one).
const EMPTY_LINES_MAX: usize = 4;
/// No method that anyone uses is longer; a longer first word is not HTTP.
const METHOD_BYTES_MAX: usize = 24;

/// One request head, lent out of the bytes it was decoded from.
pub struct Head<'b> {
    /// What is asked for.
    pub method: Method,
    /// Of HTTP.
    pub version: Version,
    /// Begins with `/`; still percent-encoded.
    pub path: &'b str,
    /// Behind the `?` of the target; empty without one.
    pub query: Query<'b>,
    /// What the peer wants of the connection after the answer.
    pub keep_alive: KeepAlive,
    /// How long the body is that follows the head.
    pub framing: Framing,
    /// What `Upgrade` and `Connection` ask for.
    pub upgrade: Upgrade,
    /// `Expect: 100-continue`: the peer waits for `100 Continue` before it sends the body.
    pub expects_continue: bool,
    authority: Option<&'b str>,
    headers: [httparse::Header<'b>; HEADERS_MAX],
    headers_count: usize,
}

impl<'b> Head<'b> {
    /// Decodes one request head from the front of `bytes`: the head and its length, or `None` while more bytes are
    /// needed.
    ///
    /// `scanned` remembers how far the search for the blank line has come: start with 0 for each request. The costly
    /// part runs only once the blank line is there, so a head that dribbles in byte by byte costs linear time.
    pub fn decode(
        bytes: &'b [u8],
        scanned: &mut usize,
        limits: &HeadLimits,
    ) -> Result<Option<(Head<'b>, usize)>, RequestError> {
        // All verdicts look at this window only, so that they do not depend on how the bytes were cut.
        let window = bytes.get(..limits.head_bytes_max).unwrap_or(bytes);
        let start = skip_empty_lines(window)?;
        check_first_word(window.get(start..).unwrap_or_default())?;
        let Some(end) = find_blank_line(window, start, *scanned)? else {
            if window.len() >= limits.head_bytes_max {
                return Err(RequestError::HeadTooLarge);
            }
            *scanned = window.len();
            return Ok(None);
        };
        *scanned = 0;
        let head = decode_whole(window.get(start..end).unwrap_or_default())?;
        Ok(Some((head, end)))
    }

    /// The first header with that name (ASCII case-insensitive); `None` also when it is not UTF-8.
    pub fn header(&self, name: &str) -> Option<&'b str> {
        self.header_values(name).next().and_then(|value| core::str::from_utf8(value).ok())
    }

    /// The page that the request comes from. What is no text is the origin of no page that anybody knows: U+FFFD, which is
    /// nobody's, so that it is not taken for a request without an origin.
    pub fn origin(&self) -> Option<&'b str> {
        self.header_values("origin").next().map(|value| core::str::from_utf8(value).unwrap_or("\u{fffd}"))
    }

    /// Whether there is a header whose name begins like this, in any case.
    pub fn has_header_beginning(&self, prefix: &str) -> bool {
        let begins = |name: &str| name.get(..prefix.len()).is_some_and(|start| start.eq_ignore_ascii_case(prefix));
        self.headers.iter().any(|header| begins(header.name))
    }

    /// Every value of the headers with that name, in order.
    pub fn header_values(&self, name: &str) -> impl Iterator<Item = &'b [u8]> {
        self.headers
            .iter()
            .take(self.headers_count)
            .filter(move |header| header.name.eq_ignore_ascii_case(name))
            .map(|header| header.value)
    }

    /// Whether `Accept-Encoding` has gzip and does not forbid it (RFC 9110 section 12.5.3).
    pub fn accepts_gzip(&self) -> bool {
        let accepted = self.header("accept-encoding").unwrap_or_default();
        let weight = |wanted: &str| {
            accepted.split(',').find_map(|coding| {
                let (name, parameters) = coding.split_once(';').unwrap_or((coding, "q=1"));
                let weight = parameters.trim().strip_prefix("q=")?.trim().parse::<f32>().ok()?;
                name.trim().eq_ignore_ascii_case(wanted).then_some(weight)
            })
        };
        weight("gzip").or_else(|| weight("*")).is_some_and(|weight| weight > 0.0)
    }

    /// The authority that the request is for: that of an absolute target, else the Host header (RFC 9112 section
    /// 3.2.2).
    pub fn host(&self) -> Option<&'b str> {
        self.authority.or_else(|| self.header("host"))
    }
}

/// Without query and headers: they hold session ids and tokens, which no log may show.
impl fmt::Debug for Head<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Head")
            .field("method", &self.method)
            .field("path", &self.path)
            .field("framing", &self.framing)
            .field("upgrade", &self.upgrade)
            .finish_non_exhaustive()
    }
}

/// What a head may cost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "arbitrary", derive(arbitrary::Arbitrary))]
pub struct HeadLimits {
    /// A head that is longer, blank line and leading empty lines included, is answered with 431.
    pub head_bytes_max: usize,
}

impl Default for HeadLimits {
    fn default() -> Self {
        HeadLimits { head_bytes_max: 16_384 }
    }
}

/// The method, as far as this server tells them apart (RFC 9110 section 9.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "arbitrary", derive(arbitrary::Arbitrary))]
pub enum Method {
    /// `GET`
    Get,
    /// `HEAD`
    Head,
    /// `POST`
    Post,
    /// `PUT`
    Put,
    /// `PATCH`
    Patch,
    /// `DELETE`
    Delete,
    /// `OPTIONS`, which is how a browser asks whether a page may.
    Options,
    /// Any other token.
    Other,
}

/// The version of HTTP; others are refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "arbitrary", derive(arbitrary::Arbitrary))]
pub enum Version {
    /// 1.0: no chunks, no upgrade, and the connection ends with the answer unless the peer asks otherwise.
    Http10,
    /// 1.1: the connection stays unless the peer asks otherwise.
    Http11,
}

/// What becomes of the connection after the answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "arbitrary", derive(arbitrary::Arbitrary))]
pub enum KeepAlive {
    /// It waits for the next request.
    Keep,
    /// It is closed.
    Close,
}

crate::portable!(enum KeepAlive { 0 Keep, 1 Close });

/// How long the request's body is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "arbitrary", derive(arbitrary::Arbitrary))]
pub enum Framing {
    /// There is none.
    None,
    /// `Content-Length`: so many bytes.
    Length(u64),
    /// `Transfer-Encoding: chunked`: until the last chunk says so.
    Chunked,
}

/// Which protocol the peer wants to change to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Upgrade {
    /// None: an ordinary request.
    None,
    /// WebSocket is among those that it names.
    WebSocket,
    /// Some other, which a server may pass over.
    Other,
}

/// What is wrong with a request, by its bytes alone. After one of these the connection cannot be used any further.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum RequestError {
    /// The head is not HTTP, or says two things at once.
    Malformed,
    /// A chunk's size, line end or trailer is wrong.
    BodyMalformed,
    /// The body is over the limit, by its length or by its chunks.
    BodyTooLarge,
    /// `Expect` asks for something other than `100-continue`.
    ExpectationUnknown,
    /// The head, or the trailers of a body, are over the limit.
    HeadTooLarge,
    /// More than [`HEADERS_MAX`] header lines.
    TooManyHeaders,
    /// A transfer encoding other than `chunked`, or several.
    TransferEncodingUnsupported,
    /// Neither HTTP/1.1 nor HTTP/1.0.
    VersionUnsupported,
}

impl RequestError {
    /// The status of the answer: 400, 413, 417, 431, 501 or 505.
    pub fn status(self) -> u16 {
        match self {
            RequestError::Malformed | RequestError::BodyMalformed => 400,
            RequestError::BodyTooLarge => 413,
            RequestError::ExpectationUnknown => 417,
            RequestError::HeadTooLarge | RequestError::TooManyHeaders => 431,
            RequestError::TransferEncodingUnsupported => 501,
            RequestError::VersionUnsupported => 505,
        }
    }

    /// The reason as a sentence, for the body of the answer.
    pub fn reason(self) -> &'static str {
        match self {
            RequestError::Malformed => "The request head is malformed.",
            RequestError::BodyMalformed => "The chunked request body is malformed.",
            RequestError::BodyTooLarge => "The request body is too large.",
            RequestError::ExpectationUnknown => "Only the expectation 100-continue is known.",
            RequestError::HeadTooLarge => "The request head is too large.",
            RequestError::TooManyHeaders => "The request has too many headers.",
            RequestError::TransferEncodingUnsupported => "Only the transfer encoding chunked is supported.",
            RequestError::VersionUnsupported => "Only HTTP/1.1 and HTTP/1.0 are supported.",
        }
    }
}

impl fmt::Display for RequestError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.reason())
    }
}

impl core::error::Error for RequestError {}

/// Where the request line begins.
fn skip_empty_lines(window: &[u8]) -> Result<usize, RequestError> {
    let mut rest = window;
    for _ in 0..=EMPTY_LINES_MAX {
        match rest {
            [b'\r', b'\n', after @ ..] => rest = after,
            [b'\r'] => return Ok(window.len()),
            _ => return Ok(window.len() - rest.len()),
        }
    }
    Err(RequestError::Malformed)
}

/// Refuses what can never become a request (a TLS hello, binary noise) with its first bytes, at constant cost.
fn check_first_word(line: &[u8]) -> Result<(), RequestError> {
    for (position, byte) in line.iter().take(METHOD_BYTES_MAX + 1).enumerate() {
        match byte {
            b' ' if position > 0 => return Ok(()),
            byte if !is_token_byte(*byte) => return Err(RequestError::Malformed),
            _ => {}
        }
    }
    if line.len() > METHOD_BYTES_MAX { Err(RequestError::Malformed) } else { Ok(()) }
}

/// The position after the blank line that ends the head; the bytes before `scanned` have been searched already.
///
/// A line feed without its carriage return is refused: whoever forwards requests might see the lines differently.
pub(super) fn find_blank_line(window: &[u8], start: usize, scanned: usize) -> Result<Option<usize>, RequestError> {
    let from = scanned.max(start);
    for offset in memchr::memchr_iter(b'\n', window.get(from..).unwrap_or_default()) {
        let line_feed = from + offset;
        let before = window.get(start..line_feed).unwrap_or_default();
        if before.ends_with(b"\r\n\r") {
            return Ok(Some(line_feed + 1));
        }
        if !before.ends_with(b"\r") {
            return Err(RequestError::Malformed);
        }
    }
    Ok(None)
}

/// Decodes a head that is known to end at its blank line.
fn decode_whole(bytes: &[u8]) -> Result<Head<'_>, RequestError> {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let mut request = httparse::Request::new(&mut headers);
    match request.parse(bytes) {
        Ok(httparse::Status::Complete(length)) if length == bytes.len() => {}
        Err(httparse::Error::TooManyHeaders) => return Err(RequestError::TooManyHeaders),
        Err(httparse::Error::Version) => return Err(RequestError::VersionUnsupported),
        Ok(_) | Err(_) => return Err(RequestError::Malformed),
    }
    let version = if request.version == Some(0) { Version::Http10 } else { Version::Http11 };
    let method = decode_method(request.method.unwrap_or_default());
    let (authority, path, query) = split_target(request.path.unwrap_or_default())?;
    let fields = HeaderFields::collect(request.headers)?;
    fields.check_host(version)?;
    let headers_count = request.headers.len();
    Ok(Head {
        method,
        version,
        path,
        query: Query::new(query),
        keep_alive: fields.keep_alive(version),
        framing: fields.framing(version)?,
        upgrade: fields.upgrade(version),
        expects_continue: fields.expects_continue(version)?,
        authority,
        headers,
        headers_count,
    })
}

fn decode_method(method: &str) -> Method {
    match method {
        "GET" => Method::Get,
        "HEAD" => Method::Head,
        "POST" => Method::Post,
        "PUT" => Method::Put,
        "PATCH" => Method::Patch,
        "DELETE" => Method::Delete,
        "OPTIONS" => Method::Options,
        _ => Method::Other,
    }
}

/// Authority (of absolute targets only), path and query. `*` and `host:port` are for proxies, which we are not.
fn split_target(target: &str) -> Result<(Option<&str>, &str, &str), RequestError> {
    let (authority, rest) = if target.starts_with('/') {
        (None, target)
    } else {
        let (scheme, rest) = target.split_once("://").ok_or(RequestError::Malformed)?;
        if !scheme.eq_ignore_ascii_case("http") && !scheme.eq_ignore_ascii_case("https") {
            return Err(RequestError::Malformed);
        }
        let (authority, rest) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
        if authority.is_empty() || !authority.bytes().all(is_host_byte) {
            return Err(RequestError::Malformed);
        }
        (Some(authority), rest)
    };
    if rest.contains('#') {
        return Err(RequestError::Malformed);
    }
    let (path, query) = rest.split_once('?').unwrap_or((rest, ""));
    Ok((authority, if path.is_empty() { "/" } else { path }, query))
}

/// The headers that decide how a request is read, found in one pass.
#[derive(Default)]
pub(super) struct HeaderFields<'b> {
    hosts: usize,
    host_valid: bool,
    length: Option<u64>,
    transfer_encodings: usize,
    chunked: bool,
    connection_close: bool,
    connection_keep_alive: bool,
    connection_upgrade: bool,
    upgrade_any: bool,
    upgrade_websocket: bool,
    expect: Option<&'b [u8]>,
}

impl<'b> HeaderFields<'b> {
    pub(super) fn collect(headers: &[httparse::Header<'b>]) -> Result<Self, RequestError> {
        let mut fields = HeaderFields::default();
        for header in headers {
            let is = |name: &str| header.name.eq_ignore_ascii_case(name);
            // The length of the name rules nearly all headers out at once.
            match header.name.len() {
                4 if is("host") => {
                    fields.hosts += 1;
                    fields.host_valid = header.value.iter().all(|byte| is_host_byte(*byte));
                }
                6 if is("expect") => fields.expect = Some(header.value),
                7 if is("upgrade") => {
                    for protocol in list_items(header.value) {
                        fields.upgrade_any = true;
                        fields.upgrade_websocket |= protocol.eq_ignore_ascii_case(b"websocket");
                    }
                }
                10 if is("connection") => {
                    for option in list_items(header.value) {
                        fields.connection_close |= option.eq_ignore_ascii_case(b"close");
                        fields.connection_keep_alive |= option.eq_ignore_ascii_case(b"keep-alive");
                        fields.connection_upgrade |= option.eq_ignore_ascii_case(b"upgrade");
                    }
                }
                14 if is("content-length") => {
                    let length = decode_length(header.value)?;
                    if fields.length.is_some_and(|earlier| earlier != length) {
                        return Err(RequestError::Malformed);
                    }
                    fields.length = Some(length);
                }
                17 if is("transfer-encoding") => {
                    fields.transfer_encodings += 1;
                    fields.chunked = header.value.eq_ignore_ascii_case(b"chunked");
                }
                _ => {}
            }
        }
        Ok(fields)
    }

    /// RFC 9112 section 3.2: exactly one valid Host; HTTP/1.0 may leave it out.
    fn check_host(&self, version: Version) -> Result<(), RequestError> {
        match (self.hosts, version) {
            (0, Version::Http10) => Ok(()),
            (1, _) if self.host_valid => Ok(()),
            _ => Err(RequestError::Malformed),
        }
    }

    /// RFC 9112 section 6: two ways to frame a body are how requests are smuggled, so they are refused.
    pub(super) fn framing(&self, version: Version) -> Result<Framing, RequestError> {
        match (self.transfer_encodings, self.length) {
            (0, None) => Ok(Framing::None),
            (0, Some(length)) => Ok(Framing::Length(length)),
            (_, Some(_)) => Err(RequestError::Malformed),
            (_, None) if version == Version::Http10 => Err(RequestError::Malformed),
            (1, None) if self.chunked => Ok(Framing::Chunked),
            (_, None) => Err(RequestError::TransferEncodingUnsupported),
        }
    }

    pub(super) fn keep_alive(&self, version: Version) -> KeepAlive {
        match version {
            _ if self.connection_close => KeepAlive::Close,
            Version::Http11 => KeepAlive::Keep,
            Version::Http10 if self.connection_keep_alive => KeepAlive::Keep,
            Version::Http10 => KeepAlive::Close,
        }
    }

    /// `Connection: upgrade` without an Upgrade header is an ordinary request: nginx sends that. HTTP/1.0 cannot
    /// upgrade (RFC 9110 section 7.8).
    fn upgrade(&self, version: Version) -> Upgrade {
        if version == Version::Http10 || !self.connection_upgrade || !self.upgrade_any {
            Upgrade::None
        } else if self.upgrade_websocket {
            Upgrade::WebSocket
        } else {
            Upgrade::Other
        }
    }

    /// RFC 9110 section 10.1.1: HTTP/1.0 does not know 100-continue, there it is ignored.
    fn expects_continue(&self, version: Version) -> Result<bool, RequestError> {
        match self.expect {
            None => Ok(false),
            Some(value) if value.eq_ignore_ascii_case(b"100-continue") => Ok(version == Version::Http11),
            Some(_) => Err(RequestError::ExpectationUnknown),
        }
    }
}

/// The items of a comma list, without blanks and empty items (RFC 9110 section 5.6.1).
fn list_items(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value.split(|byte| *byte == b',').map(<[u8]>::trim_ascii).filter(|item| !item.is_empty())
}

/// Only digits; a number too big to count saturates, and is over every limit.
fn decode_length(value: &[u8]) -> Result<u64, RequestError> {
    if value.is_empty() || !value.iter().all(u8::is_ascii_digit) {
        return Err(RequestError::Malformed);
    }
    Ok(value.iter().fold(0_u64, |sum, digit| sum.saturating_mul(10).saturating_add(u64::from(digit - b'0'))))
}

/// RFC 9110 section 5.6.2.
fn is_token_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

/// The bytes of `uri-host [":" port]` (RFC 3986 section 3.2.2).
fn is_host_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~%!$&'()*+,;=:[]".contains(&byte)
}

#[cfg(test)]
mod tests;
