//! The client's side of the change from HTTP to WebSocket (RFC 6455 section 4.1).

use alloc::vec::Vec;
use core::error::Error;
use core::fmt;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;

use super::upgrade::AcceptKey;
use crate::http::{ClientRequest, ResponseHead};

/// One handshake of a client: the request, and the answer that only a server that understood it can give.
#[derive(Clone, Copy, Debug)]
pub struct Handshake {
    key: [u8; 24],
}

/// Why an answer is not the one that was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum HandshakeError {
    /// The status, which is not 101.
    Status(u16),
    /// `Upgrade` and `Connection` do not say what they have to.
    NotWebSocket,
    /// `Sec-WebSocket-Accept` answers another key, or is missing.
    WrongKey,
    /// An extension or a subprotocol that was not offered.
    NotOffered,
}

impl fmt::Display for HandshakeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            HandshakeError::Status(status) => write!(f, "the status is {status} and not 101"),
            HandshakeError::NotWebSocket => f.write_str("the answer does not change to WebSocket"),
            HandshakeError::WrongKey => f.write_str("Sec-WebSocket-Accept is not the answer to the key"),
            HandshakeError::NotOffered => {
                f.write_str("the server chose an extension or a subprotocol that was not offered")
            }
        }
    }
}

impl Error for HandshakeError {}

impl Handshake {
    /// `nonce` should be random: with it a cache in between cannot answer.
    pub fn new(nonce: [u8; 16]) -> Handshake {
        let mut key = [0; 24];
        let written = BASE64_STANDARD.encode_slice(nonce, &mut key);
        debug_assert_eq!(written, Ok(24));
        Handshake { key }
    }

    /// Appends the request. `headers` come before those of the handshake.
    pub fn encode(&self, target: &str, host: &str, headers: &[(&str, &str)], out: &mut Vec<u8>) {
        let key = core::str::from_utf8(&self.key).unwrap_or_default();
        let mut all = headers.to_vec();
        all.extend_from_slice(&[
            ("Upgrade", "websocket"),
            ("Connection", "Upgrade"),
            ("Sec-WebSocket-Version", "13"),
            ("Sec-WebSocket-Key", key),
        ]);
        ClientRequest { method: "GET", target, host, headers: &all, body: None }.encode(out);
    }

    /// Whether this is the answer. What follows its head are frames.
    pub fn check(&self, head: &ResponseHead<'_>) -> Result<(), HandshakeError> {
        if head.status != 101 {
            return Err(HandshakeError::Status(head.status));
        }
        let says = |name: &str, word: &str| {
            let mut items = head.header(name).unwrap_or_default().split(',');
            items.any(|item| item.trim().eq_ignore_ascii_case(word))
        };
        if !says("upgrade", "websocket") || !says("connection", "upgrade") {
            return Err(HandshakeError::NotWebSocket);
        }
        let expected = AcceptKey::for_key(&self.key).map_err(|_| HandshakeError::WrongKey)?;
        if head.header("sec-websocket-accept").map(str::as_bytes) != Some(expected.as_bytes()) {
            return Err(HandshakeError::WrongKey);
        }
        let chosen = ["sec-websocket-extensions", "sec-websocket-protocol"];
        if chosen.iter().any(|name| head.header(name).is_some()) {
            return Err(HandshakeError::NotOffered);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::{Head, HeadLimits};

    #[test]
    fn our_server_answers_it() {
        let handshake = Handshake::new(*b"the sample nonce");
        let mut bytes = Vec::new();
        handshake.encode("/socket.io/?EIO=4&transport=websocket", "a", &[("Origin", "http://a")], &mut bytes);
        let (head, _) = Head::decode(&bytes, &mut 0, &HeadLimits::default()).unwrap().unwrap();
        // RFC 6455 section 1.3
        assert_eq!(head.header("sec-websocket-key"), Some("dGhlIHNhbXBsZSBub25jZQ=="));
        let mut answer = Vec::new();
        AcceptKey::of(&head).unwrap().encode_response(b"", &mut answer);
        let (head, _) = ResponseHead::decode(&answer, &mut 0, &HeadLimits::default()).unwrap().unwrap();
        assert_eq!(handshake.check(&head), Ok(()));
        assert_eq!(Handshake::new([0; 16]).check(&head), Err(HandshakeError::WrongKey));
    }

    #[test]
    fn other_answers_are_refused() {
        let good = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: keep-alive, Upgrade\r\n\
                    Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";
        let extension = "\r\nSec-WebSocket-Extensions: permessage-deflate\r\n\r\n";
        let rows = [
            (good.to_owned(), Ok(())),
            (good.replace("101 ", "200 "), Err(HandshakeError::Status(200))),
            (good.replace(": websocket", ": h2c"), Err(HandshakeError::NotWebSocket)),
            (good.replace("keep-alive, Upgrade", "keep-alive"), Err(HandshakeError::NotWebSocket)),
            (good.replace("s3p", "S3p"), Err(HandshakeError::WrongKey)),
            (good.replace("\r\n\r\n", extension), Err(HandshakeError::NotOffered)),
        ];
        for (text, expected) in rows {
            let (head, _) = ResponseHead::decode(text.as_bytes(), &mut 0, &HeadLimits::default()).unwrap().unwrap();
            assert_eq!(Handshake::new(*b"the sample nonce").check(&head), expected, "{text}");
        }
    }
}
