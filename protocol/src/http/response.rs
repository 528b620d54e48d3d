//! Answers: status line, headers and body as one run of bytes.

use super::KeepAlive;
use crate::json::encode_integer;
use alloc::vec::Vec;

/// The interim answer to `Expect: 100-continue` (RFC 9110 section 15.2.1).
pub const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

/// One answer with a body of known length. Header values come from us; one with a line break in it is left out.
#[derive(Clone, Copy, Debug)]
pub struct Response<'a> {
    /// Three digits. The phrase beside it follows from it.
    pub status: u16,
    /// Empty: no Content-Type.
    pub content_type: &'a str,
    /// Further headers, name and value.
    pub headers: &'a [(&'a str, &'a str)],
    /// Whole header lines from `CorsPolicy::encode_headers`; may be empty.
    pub cors: &'a [u8],
    /// Left out where the status never has one (1xx, 204, 304).
    pub body: &'a [u8],
    /// `Close` adds `Connection: close`.
    pub keep_alive: KeepAlive,
}

impl Response<'_> {
    /// Appends the whole answer.
    pub fn encode(&self, out: &mut Vec<u8>) {
        self.encode_head_only(out);
        if !is_bodiless(self.status) {
            out.extend_from_slice(self.body);
        }
    }

    /// The answer to a HEAD request: everything but the body, whose length is still told.
    pub fn encode_head_only(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(b"HTTP/1.1 ");
        encode_integer(u64::from(self.status), out);
        for part in [" ", reason_phrase(self.status), "\r\n"] {
            out.extend_from_slice(part.as_bytes());
        }
        if !self.content_type.is_empty() {
            encode_header(("Content-Type", self.content_type), out);
        }
        for header in self.headers {
            encode_header(*header, out);
        }
        out.extend_from_slice(self.cors);
        if !is_bodiless(self.status) {
            out.extend_from_slice(b"Content-Length: ");
            encode_integer(self.body.len() as u64, out);
            out.extend_from_slice(b"\r\n");
        }
        if self.keep_alive == KeepAlive::Close {
            out.extend_from_slice(b"Connection: close\r\n");
        }
        out.extend_from_slice(b"\r\n");
    }
}

fn encode_header((name, value): (&str, &str), out: &mut Vec<u8>) {
    if [name, value].iter().any(|text| text.contains(['\r', '\n', '\0'])) {
        return;
    }
    for part in [name, ": ", value, "\r\n"] {
        out.extend_from_slice(part.as_bytes());
    }
}

/// RFC 9110 section 8.6: these never have a body, nor a length.
fn is_bodiless(status: u16) -> bool {
    matches!(status, 100..=199 | 204 | 304)
}

fn reason_phrase(status: u16) -> &'static str {
    match status {
        100 => "Continue",
        101 => "Switching Protocols",
        200 => "OK",
        201 => "Created",
        202 => "Accepted",
        204 => "No Content",
        206 => "Partial Content",
        301 => "Moved Permanently",
        302 => "Found",
        303 => "See Other",
        304 => "Not Modified",
        307 => "Temporary Redirect",
        308 => "Permanent Redirect",
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        406 => "Not Acceptable",
        408 => "Request Timeout",
        409 => "Conflict",
        410 => "Gone",
        411 => "Length Required",
        412 => "Precondition Failed",
        413 => "Content Too Large",
        414 => "URI Too Long",
        415 => "Unsupported Media Type",
        416 => "Range Not Satisfiable",
        417 => "Expectation Failed",
        421 => "Misdirected Request",
        422 => "Unprocessable Content",
        426 => "Upgrade Required",
        428 => "Precondition Required",
        429 => "Too Many Requests",
        431 => "Request Header Fields Too Large",
        500 => "Internal Server Error",
        501 => "Not Implemented",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        504 => "Gateway Timeout",
        505 => "HTTP Version Not Supported",
        507 => "Insufficient Storage",
        // RFC 9112 section 4: the phrase may be empty, the space before it stays.
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: Response<'static> = Response {
        status: 200,
        content_type: "text/html",
        headers: &[],
        cors: b"",
        body: b"ok",
        keep_alive: KeepAlive::Keep,
    };

    fn encode(response: &Response<'_>) -> String {
        let mut out = Vec::new();
        response.encode(&mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn encodes_answers() {
        let headers: &[(&str, &str)] = &[("Cache-Control", "no-store"), ("X-A", "b\r\nSet-Cookie: c"), ("X\n", "d")];
        let rows: &[(Response<'_>, &str)] = &[
            (PLAIN, "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 2\r\n\r\nok"),
            // A value that would break the line is left out.
            (
                Response { headers, cors: b"Vary: Origin\r\n", ..PLAIN },
                "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nCache-Control: no-store\r\nVary: Origin\r\n\
                 Content-Length: 2\r\n\r\nok",
            ),
            (
                Response { status: 413, content_type: "", body: b"", keep_alive: KeepAlive::Close, ..PLAIN },
                "HTTP/1.1 413 Content Too Large\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
            ),
            // RFC 9110 section 8.6
            (Response { status: 204, content_type: "", ..PLAIN }, "HTTP/1.1 204 No Content\r\n\r\n"),
            (Response { status: 304, content_type: "", ..PLAIN }, "HTTP/1.1 304 Not Modified\r\n\r\n"),
            // RFC 9112 section 4
            (Response { status: 599, content_type: "", ..PLAIN }, "HTTP/1.1 599 \r\nContent-Length: 2\r\n\r\nok"),
        ];
        for (response, expected) in rows {
            assert_eq!(encode(response), *expected);
        }
    }

    #[test]
    fn head_only_tells_the_length() {
        let mut out = Vec::new();
        PLAIN.encode_head_only(&mut out);
        assert_eq!(out, b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 2\r\n\r\n");
    }
}
