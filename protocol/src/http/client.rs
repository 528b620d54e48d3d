//! The client's side of HTTP: requests encoded, the heads of answers decoded.

use alloc::vec::Vec;

use super::request::{HeaderFields, find_blank_line};
use super::{Framing, HEADERS_MAX, HeadLimits, KeepAlive, RequestError, Version};
use crate::json::encode_integer;

/// One request with a body of known length. What it is made of comes from us: nothing is escaped.
#[derive(Clone, Copy, Debug)]
pub struct ClientRequest<'a> {
    /// `GET`, `POST`: as it stands on the wire.
    pub method: &'a str,
    /// Path and query: `/socket.io/?EIO=4&transport=polling`.
    pub target: &'a str,
    /// `name` or `name:port`.
    pub host: &'a str,
    /// Further headers, name and value.
    pub headers: &'a [(&'a str, &'a str)],
    /// `None`: no `Content-Length` either, as for a GET.
    pub body: Option<&'a [u8]>,
}

impl ClientRequest<'_> {
    /// Appends the whole request.
    pub fn encode(&self, out: &mut Vec<u8>) {
        for part in [self.method, " ", self.target, " HTTP/1.1\r\nHost: ", self.host, "\r\n"] {
            out.extend_from_slice(part.as_bytes());
        }
        for (name, value) in self.headers {
            for part in [name, ": ", value, "\r\n"] {
                out.extend_from_slice(part.as_bytes());
            }
        }
        if let Some(body) = self.body {
            out.extend_from_slice(b"Content-Length: ");
            encode_integer(body.len() as u64, out);
            out.extend_from_slice(b"\r\n");
        }
        out.extend_from_slice(b"\r\n");
        out.extend_from_slice(self.body.unwrap_or_default());
    }
}

/// The head of one answer, lent out of the bytes it was decoded from.
#[derive(Clone, Debug)]
pub struct ResponseHead<'b> {
    /// Three digits: 100 to 999.
    pub status: u16,
    /// What becomes of the connection.
    pub keep_alive: KeepAlive,
    /// How long the body is, for [`BodyDecoder`](super::BodyDecoder); `None`: it ends with the connection. An answer to HEAD
    /// has no body, whatever this says.
    pub framing: Option<Framing>,
    headers: [httparse::Header<'b>; HEADERS_MAX],
    headers_count: usize,
}

impl<'b> ResponseHead<'b> {
    /// Decodes the head of one answer from the front of `bytes`: the head and its length, or `None` while more bytes are
    /// needed. `scanned` is 0 for each answer and is kept between the calls for it.
    pub fn decode(
        bytes: &'b [u8],
        scanned: &mut usize,
        limits: &HeadLimits,
    ) -> Result<Option<(ResponseHead<'b>, usize)>, RequestError> {
        let window = bytes.get(..limits.head_bytes_max).unwrap_or(bytes);
        let Some(end) = find_blank_line(window, 0, *scanned)? else {
            if window.len() >= limits.head_bytes_max {
                return Err(RequestError::HeadTooLarge);
            }
            *scanned = window.len();
            return Ok(None);
        };
        *scanned = 0;
        let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
        let mut response = httparse::Response::new(&mut headers);
        match response.parse(window.get(..end).unwrap_or_default()) {
            Ok(httparse::Status::Complete(length)) if length == end => {}
            Err(httparse::Error::TooManyHeaders) => return Err(RequestError::TooManyHeaders),
            Err(httparse::Error::Version) => return Err(RequestError::VersionUnsupported),
            Ok(_) | Err(_) => return Err(RequestError::Malformed),
        }
        let version = if response.version == Some(0) { Version::Http10 } else { Version::Http11 };
        let status = response.code.unwrap_or_default();
        let fields = HeaderFields::collect(response.headers)?;
        let framing = match fields.framing(version)? {
            _ if matches!(status, 100..=199 | 204 | 304) => Some(Framing::None),
            Framing::None => None,
            framing => Some(framing),
        };
        let keep_alive = if framing.is_none() { KeepAlive::Close } else { fields.keep_alive(version) };
        let headers_count = response.headers.len();
        Ok(Some((ResponseHead { status, keep_alive, framing, headers, headers_count }, end)))
    }

    /// All headers, in order; those that are not UTF-8 are left out.
    pub fn headers(&self) -> impl Iterator<Item = (&'b str, &'b str)> {
        let headers = self.headers.iter().take(self.headers_count);
        headers.filter_map(|header| Some((header.name, core::str::from_utf8(header.value).ok()?)))
    }

    /// The first header with that name (ASCII case-insensitive); `None` also when it is not UTF-8.
    pub fn header(&self, name: &str) -> Option<&'b str> {
        let headers = self.headers.iter().take(self.headers_count);
        let value =
            headers.filter(|header| header.name.eq_ignore_ascii_case(name)).map(|header| header.value).next()?;
        core::str::from_utf8(value).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::{BodyDecoder, BodyState, Head};

    #[test]
    fn a_request_reads_back_as_it_was_written() {
        let mut out = Vec::new();
        let headers = [("Content-Type", "text/plain;charset=UTF-8")];
        let target = "/socket.io/?EIO=4&transport=polling&sid=a";
        ClientRequest { method: "POST", target, host: "a:80", headers: &headers, body: Some(b"3") }.encode(&mut out);
        let (head, length) = Head::decode(&out, &mut 0, &HeadLimits::default()).unwrap().unwrap();
        assert_eq!((head.path, head.query.as_str()), ("/socket.io/", "EIO=4&transport=polling&sid=a"));
        assert_eq!((head.host(), head.header("content-type")), (Some("a:80"), Some("text/plain;charset=UTF-8")));
        assert_eq!((head.framing, &out[length..]), (Framing::Length(1), b"3".as_slice()));
        out.clear();
        ClientRequest { method: "GET", target: "/", host: "a", headers: &[], body: None }.encode(&mut out);
        assert_eq!(out, b"GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    }

    #[test]
    fn decodes_heads_of_answers() {
        use KeepAlive::{Close, Keep};
        type Row<'a> = (&'a [u8], Result<(u16, KeepAlive, Option<Framing>), RequestError>);
        let rows: &[Row<'_>] = &[
            (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n", Ok((200, Keep, Some(Framing::Length(2))))),
            (b"HTTP/1.1 200 \r\nTransfer-Encoding: chunked\r\n\r\n", Ok((200, Keep, Some(Framing::Chunked)))),
            (b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n", Ok((101, Keep, Some(Framing::None)))),
            (b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n", Ok((204, Close, Some(Framing::None)))),
            // RFC 9112 section 6.3, 8: it ends with the connection.
            (b"HTTP/1.1 200 OK\r\n\r\n", Ok((200, Close, None))),
            (b"HTTP/1.0 400 Bad Request\r\nContent-Length: 0\r\n\r\n", Ok((400, Close, Some(Framing::Length(0))))),
            (b"HTTP/2 200 OK\r\n\r\n", Err(RequestError::VersionUnsupported)),
            (b"GET / HTTP/1.1\r\n\r\n", Err(RequestError::VersionUnsupported)),
            (b"HTTP/1.1 2x0 OK\r\n\r\n", Err(RequestError::Malformed)),
            (b"HTTP/1.1 200 OK\n\n", Err(RequestError::Malformed)),
            (b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", Err(RequestError::Malformed)),
        ];
        for (bytes, expected) in rows {
            let said = ResponseHead::decode(bytes, &mut 0, &HeadLimits::default()).map(|head| {
                let (head, length) = head.expect("a whole head");
                assert_eq!(length, bytes.len());
                (head.status, head.keep_alive, head.framing)
            });
            assert_eq!(said, *expected, "{}", bytes.escape_ascii());
        }
    }

    #[test]
    fn byte_by_byte_means_the_same() {
        let bytes = b"HTTP/1.1 200 OK\r\nServer: a\r\nContent-Length: 5\r\n\r\n4helloHTTP/1.1";
        let mut scanned = 0;
        let found = (0..=bytes.len()).find_map(|end| {
            let head = ResponseHead::decode(&bytes[..end], &mut scanned, &HeadLimits::default()).unwrap();
            head.map(|(head, length)| (end, length, head.framing.unwrap(), head.header("server").unwrap().len()))
        });
        let (end, length, framing, _) = found.unwrap();
        assert_eq!((end, length), (49, 49));
        let mut body = Vec::new();
        let decoded = BodyDecoder::new(framing, 5).unwrap().decode(&bytes[length..], &mut body).unwrap();
        assert_eq!((decoded, body.as_slice()), ((5, BodyState::Complete), b"4hell".as_slice()));
    }
}
