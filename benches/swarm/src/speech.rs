//! What a client says, all of which follows from its index: so that it can be said again, and nothing of it be kept.

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD as BASE64;
use sha2::{Digest, Sha256};
use sockring_protocol::engineio::{Data, EnginePacket};
use sockring_protocol::socketio::encode_connect_request;
use sockring_protocol::websocket::{Fin, Handshake, Opcode, encode_client_frame};

/// A mask hides nothing here; it has to cost the server what any mask costs.
const MASK: [u8; 4] = [0x12, 0x9a, 0x55, 0xe3];
/// Longer than any run.
const TOKEN_TTL_S: u64 = 24 * 3600;

pub struct Speech {
    pub handshake: Handshake,
    pub upgrade: Vec<u8>,
    pub pong: Vec<u8>,
    signer: Signer,
    /// The first part of each token, with its point.
    header: String,
    until_s: u64,
}

impl Speech {
    pub fn new(host: &str, secret: &str, now_s: u64) -> Speech {
        let handshake = Handshake::new(*b"the sample nonce");
        let mut upgrade = Vec::new();
        handshake.encode("/socket.io/?EIO=4&transport=websocket", host, &[], &mut upgrade);
        let mut pong = Vec::new();
        EnginePacket::Pong("").encode(&mut pong);
        Speech {
            handshake,
            upgrade,
            pong: masked(&pong),
            signer: Signer::new(secret.as_bytes()),
            header: format!("{}.", BASE64.encode(r#"{"alg":"HS256","typ":"JWT"}"#)),
            until_s: now_s + TOKEN_TTL_S,
        }
    }

    /// The user of a client.
    pub fn user(index: u32) -> String {
        format!("u{index}")
    }

    /// The frame with the CONNECT packet of a client, who is a user of its own.
    pub fn connect(&self, index: u32) -> Vec<u8> {
        let auth = format!("{{\"token\":\"{}\"}}", self.token(&Speech::user(index)));
        let mut packet = Vec::new();
        encode_connect_request("/", Some(&auth), &mut packet);
        let packet = String::from_utf8(packet).expect("a packet is text");
        let mut text = Vec::new();
        EnginePacket::Message(Data::Text(&packet)).encode(&mut text);
        masked(&text)
    }

    /// A JWT, signed by HS256 (RFC 7519, RFC 7515 section 3.1).
    fn token(&self, user: &str) -> String {
        let mut token = self.header.clone();
        BASE64.encode_string(format!(r#"{{"_id":"{user}","exp":{}}}"#, self.until_s), &mut token);
        let signature = self.signer.sign(token.as_bytes());
        token.push('.');
        BASE64.encode_string(signature, &mut token);
        token
    }
}

/// HMAC with SHA-256 (RFC 2104), the key worked in once for all.
struct Signer {
    inner: Sha256,
    outer: Sha256,
}

const BLOCK_BYTES: usize = 64;

impl Signer {
    fn new(key: &[u8]) -> Signer {
        assert!(key.len() <= BLOCK_BYTES, "longer keys would have to be hashed first");
        let padded = |pad: u8| {
            let mut block = [pad; BLOCK_BYTES];
            block.iter_mut().zip(key).for_each(|(byte, key)| *byte ^= key);
            Sha256::new_with_prefix(block)
        };
        Signer { inner: padded(0x36), outer: padded(0x5c) }
    }

    fn sign(&self, text: &[u8]) -> [u8; 32] {
        let inner = self.inner.clone().chain_update(text).finalize();
        self.outer.clone().chain_update(inner).finalize().into()
    }
}

fn masked(text: &[u8]) -> Vec<u8> {
    let mut frame = Vec::new();
    encode_client_frame(Opcode::Text, Fin::Last, MASK, text, &mut frame);
    frame
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_the_one_of_other_implementations() {
        // By `jwt.encode({"_id": "u7", "exp": 86401}, "secret", headers={"typ": "JWT"})` of PyJWT.
        let token = Speech::new("localhost", "secret", 1).token("u7");
        let expected = "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJfaWQiOiJ1NyIsImV4cCI6ODY0MDF9.";
        assert!(token.starts_with(expected), "{token}");
        assert_eq!(token.rsplit('.').next(), Some("ThmmdqzET_WTJJmIgYHxR2VVDfL5kMERYUL4dPLMeVE"));
    }

    #[test]
    fn a_client_says_the_same_again() {
        let speech = Speech::new("localhost", "secret", 1);
        assert_eq!(speech.connect(7), speech.connect(7));
        assert_ne!(speech.connect(7), speech.connect(8));
    }
}
