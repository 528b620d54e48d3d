//! The change from HTTP to WebSocket: which requests may, and the 101 that they get (RFC 6455 section 4.2).

use alloc::vec::Vec;
use core::fmt;

use base64::Engine;
use base64::alphabet;
use base64::engine::{GeneralPurpose, GeneralPurposeConfig};
use sha1::{Digest, Sha1};

use crate::http::{Framing, Head, Method, Upgrade, Version};

/// RFC 6455 section 1.3.
const GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
/// 16 bytes in base64.
const KEY_TEXT_LENGTH: usize = 24;
/// Standard base64; the bits that the last character of a key has too many are not looked at.
const BASE64: GeneralPurpose =
    GeneralPurpose::new(&alphabet::STANDARD, GeneralPurposeConfig::new().with_decode_allow_trailing_bits(true));

/// What the server proves with that it has understood the request: the value of Sec-WebSocket-Accept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AcceptKey([u8; 28]);

impl AcceptKey {
    /// Whether a request may become a WebSocket. Extensions and subprotocols that it offers are ignored, so none is used.
    pub fn of(head: &Head<'_>) -> Result<AcceptKey, UpgradeError> {
        if head.upgrade != Upgrade::WebSocket || head.version != Version::Http11 {
            return Err(UpgradeError::NotWebSocket);
        }
        if head.method != Method::Get {
            return Err(UpgradeError::MethodNotGet);
        }
        // A body could hold what a proxy takes for a second request (A30).
        if !matches!(head.framing, Framing::None | Framing::Length(0)) {
            return Err(UpgradeError::HasBody);
        }
        if single_value(head, "sec-websocket-version") != Some(b"13") {
            return Err(UpgradeError::VersionUnsupported);
        }
        let key = single_value(head, "sec-websocket-key").ok_or(UpgradeError::KeyMalformed)?;
        AcceptKey::for_key(key)
    }

    /// For the value of Sec-WebSocket-Key.
    pub(super) fn for_key(key: &[u8]) -> Result<AcceptKey, UpgradeError> {
        let mut nonce = [0; 18];
        let is_nonce = key.len() == KEY_TEXT_LENGTH && matches!(BASE64.decode_slice(key, &mut nonce), Ok(16));
        if !is_nonce {
            return Err(UpgradeError::KeyMalformed);
        }
        let digest: [u8; 20] = Sha1::new().chain_update(key).chain_update(GUID).finalize().into();
        let mut text = [0; 28];
        BASE64.encode_slice(digest, &mut text).map_err(|_| UpgradeError::KeyMalformed)?;
        Ok(AcceptKey(text))
    }

    /// The text of the header.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// Writes the 101. `extra_headers` are whole lines, each with its CR and LF.
    pub fn encode_response(&self, extra_headers: &[u8], out: &mut Vec<u8>) {
        out.extend_from_slice(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n");
        out.extend_from_slice(b"Sec-WebSocket-Accept: ");
        out.extend_from_slice(&self.0);
        out.extend_from_slice(b"\r\n");
        out.extend_from_slice(extra_headers);
        out.extend_from_slice(b"\r\n");
    }
}

/// Why a request cannot become a WebSocket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum UpgradeError {
    /// HTTP/1.0, or `Upgrade` and `Connection` do not ask for it.
    NotWebSocket,
    /// Another method than GET.
    MethodNotGet,
    /// A body is announced.
    HasBody,
    /// `Sec-WebSocket-Version` is not one `13`.
    VersionUnsupported,
    /// `Sec-WebSocket-Key` is not one text of 24 characters that stand for 16 bytes.
    KeyMalformed,
}

impl UpgradeError {
    /// The status of the answer: 426 for another version, else 400.
    pub fn status(self) -> u16 {
        match self {
            UpgradeError::VersionUnsupported => 426,
            UpgradeError::NotWebSocket
            | UpgradeError::MethodNotGet
            | UpgradeError::HasBody
            | UpgradeError::KeyMalformed => 400,
        }
    }

    /// The headers that belong to the answer (RFC 6455 section 4.2.2, RFC 9110 section 15.5.22).
    pub fn headers(self) -> &'static [(&'static str, &'static str)] {
        match self {
            UpgradeError::VersionUnsupported => &[("Upgrade", "websocket"), ("Sec-WebSocket-Version", "13")],
            _ => &[],
        }
    }

    /// The reason as a sentence, for the body of the answer.
    pub fn reason(self) -> &'static str {
        match self {
            UpgradeError::NotWebSocket => "The request does not ask for a WebSocket over HTTP/1.1.",
            UpgradeError::MethodNotGet => "Only a GET request can become a WebSocket.",
            UpgradeError::HasBody => "A request with a body cannot become a WebSocket.",
            UpgradeError::VersionUnsupported => "Only version 13 of WebSocket is supported.",
            UpgradeError::KeyMalformed => "Sec-WebSocket-Key is not 16 bytes in base64.",
        }
    }
}

impl fmt::Display for UpgradeError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.reason())
    }
}

impl core::error::Error for UpgradeError {}

/// The value of a header that must come exactly once.
fn single_value<'b>(head: &Head<'b>, name: &str) -> Option<&'b [u8]> {
    let mut values = head.header_values(name);
    let value = values.next();
    if values.next().is_some() { None } else { value }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::HeadLimits;

    const START: &str = "GET /socket.io/ HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n";
    const VERSION: &str = "Sec-WebSocket-Version: 13\r\n";
    const KEY: &str = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";

    fn accept_text(text: &str) -> Result<AcceptKey, UpgradeError> {
        let (head, length) = Head::decode(text.as_bytes(), &mut 0, &HeadLimits::default()).unwrap().unwrap();
        assert_eq!(length, text.len());
        AcceptKey::of(&head)
    }

    #[test]
    fn answers_the_example_of_the_rfc() {
        // RFC 6455 section 1.3
        let key = accept_text(&format!("{START}{VERSION}{KEY}\r\n")).unwrap();
        let mut out = Vec::new();
        key.encode_response(b"Vary: Origin\r\n", &mut out);
        let expected = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\nVary: Origin\r\n\r\n";
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }

    #[test]
    fn decides_by_the_request_alone() {
        let spaces = " ".repeat(8000);
        let rows = [
            // RFC 6455 section 4.2.1
            (format!("{START}{VERSION}{KEY}\r\n"), None),
            (format!("{START}{VERSION}{KEY}Content-Length: 0\r\n\r\n"), None),
            (format!("{START}{VERSION}Sec-WebSocket-Key: AQIDBAUGBwgJCgsMDQ4PEC==\r\n\r\n"), None),
            // A23 and A24: offers are not looked at.
            (format!("{START}{VERSION}{KEY}Sec-WebSocket-Extensions: constructor; x=\"\r\n\r\n"), None),
            (format!("{START}{VERSION}{KEY}Sec-WebSocket-Protocol: b{spaces}x\r\n\r\n"), None),
            (format!("{START}{VERSION}{KEY}Sec-WebSocket-Extensions: permessage-deflate\r\n\r\n"), None),
            // A30: a body is a place to hide a second request.
            (format!("{START}{VERSION}{KEY}Content-Length: 40\r\n\r\n"), Some(UpgradeError::HasBody)),
            (format!("{START}{VERSION}{KEY}Transfer-Encoding: chunked\r\n\r\n"), Some(UpgradeError::HasBody)),
            (format!("{START}{KEY}\r\n"), Some(UpgradeError::VersionUnsupported)),
            (format!("{START}Sec-WebSocket-Version: 8\r\n{KEY}\r\n"), Some(UpgradeError::VersionUnsupported)),
            (format!("{START}Sec-WebSocket-Version: 99\r\n\r\n"), Some(UpgradeError::VersionUnsupported)),
            (format!("{START}{VERSION}{VERSION}{KEY}\r\n"), Some(UpgradeError::VersionUnsupported)),
            (format!("{START}{VERSION}\r\n"), Some(UpgradeError::KeyMalformed)),
            (format!("{START}{VERSION}{KEY}{KEY}\r\n"), Some(UpgradeError::KeyMalformed)),
            (format!("{START}{VERSION}Sec-WebSocket-Key: \r\n\r\n"), Some(UpgradeError::KeyMalformed)),
            (format!("{START}{VERSION}Sec-WebSocket-Key: dGhlIHNhbXBsZQ==\r\n\r\n"), Some(UpgradeError::KeyMalformed)),
            (
                format!("{START}{VERSION}Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZTEy\r\n\r\n"),
                Some(UpgradeError::KeyMalformed),
            ),
            (
                format!("{START}{VERSION}Sec-WebSocket-Key: !GhlIHNhbXBsZSBub25jZQ==\r\n\r\n"),
                Some(UpgradeError::KeyMalformed),
            ),
            (format!("{START}{VERSION}{KEY}\r\n").replace("GET", "POST"), Some(UpgradeError::MethodNotGet)),
            (format!("{START}{VERSION}{KEY}\r\n").replace("HTTP/1.1", "HTTP/1.0"), Some(UpgradeError::NotWebSocket)),
            (format!("{START}{VERSION}{KEY}\r\n").replace("websocket", "h2c"), Some(UpgradeError::NotWebSocket)),
            (format!("{START}{VERSION}{KEY}\r\n").replace(": Upgrade", ": close"), Some(UpgradeError::NotWebSocket)),
        ];
        for (text, expected) in rows {
            assert_eq!(accept_text(&text).err(), expected, "{text}");
        }
    }

    #[test]
    fn only_the_version_is_answered_with_426() {
        assert_eq!(UpgradeError::VersionUnsupported.status(), 426);
        assert!(UpgradeError::VersionUnsupported.headers().contains(&("Sec-WebSocket-Version", "13")));
        assert_eq!(UpgradeError::KeyMalformed.status(), 400);
        assert!(UpgradeError::KeyMalformed.headers().is_empty());
    }
}
