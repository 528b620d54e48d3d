//! The client's side of Socket.IO: a CONNECT with what it says of itself, and the answers to it.

use alloc::borrow::Cow;
use alloc::vec::Vec;

use super::encode::encode_namespace;
use super::packet::{PacketLimits, SocketPacket, SocketPacketError, split_namespace};
use crate::json::{self, Value};

/// A packet as a server sends it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ServerPacket<'a> {
    /// One that both sides send. The payload of a CONNECT is `{"sid":"..."}`.
    Packet(SocketPacket<'a>),
    /// `4{"message":"..."}`: the namespace is closed to this client.
    ConnectError {
        /// Which it asked for.
        namespace: &'a str,
        /// Why not; empty if the server does not say.
        message: Cow<'a, str>,
        /// The JSON text of what else there is to say.
        data: Option<&'a str>,
    },
}

impl<'a> ServerPacket<'a> {
    /// Decodes the text of an Engine.IO message, its `4` already taken off.
    pub fn decode(text: &'a str, limits: &PacketLimits) -> Result<ServerPacket<'a>, SocketPacketError> {
        let Some(rest) = text.strip_prefix('4') else {
            return SocketPacket::decode(text, limits).map(ServerPacket::Packet);
        };
        let (namespace, payload) = split_namespace(rest, limits)?;
        let payload = Value::decode(payload)?;
        if !payload.is_object() {
            return Err(SocketPacketError::NotAnObject);
        }
        let (mut message, mut data) = (Cow::Borrowed(""), None);
        for (key, value) in json::Entries::of(payload.as_str()) {
            match &*key {
                "message" => message = json::string_of(value).unwrap_or_default(),
                "data" => data = Some(value),
                _ => {}
            }
        }
        Ok(ServerPacket::ConnectError { namespace, message, data })
    }
}

/// `0`, or `0{"token":"..."}`: asks for a namespace. `auth` is the text of a JSON object.
pub fn encode_connect_request(namespace: &str, auth: Option<&str>, out: &mut Vec<u8>) {
    out.push(b'0');
    encode_namespace(namespace, out);
    out.extend_from_slice(auth.unwrap_or_default().as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::socketio::{encode_connect, encode_connect_error};

    #[test]
    fn packets_of_both_sides_are_the_same() {
        let limits = PacketLimits::default();
        let mut out = Vec::new();
        encode_connect_request("/admin", Some("{\"token\":\"a\"}"), &mut out);
        for text in [core::str::from_utf8(&out).unwrap(), "1", "2/admin,12[\"hello\"]", "312[]"] {
            let packet = SocketPacket::decode(text, &limits).unwrap();
            assert_eq!(packet.to_string(), text);
            assert_eq!(ServerPacket::decode(text, &limits), Ok(ServerPacket::Packet(packet)));
        }
    }

    #[test]
    fn reads_what_a_server_answers_to_a_connect() {
        let limits = PacketLimits::default();
        let mut out = Vec::new();
        encode_connect("/admin", "abc", &mut out);
        let payload = Some("{\"sid\":\"abc\"}");
        let expected = ServerPacket::Packet(SocketPacket::Connect { namespace: "/admin", payload });
        assert_eq!(ServerPacket::decode(core::str::from_utf8(&out).unwrap(), &limits), Ok(expected));
        out.clear();
        encode_connect_error("/", "say \"please\"", Some("{\"code\":1}"), &mut out);
        let expected =
            ServerPacket::ConnectError { namespace: "/", message: "say \"please\"".into(), data: Some("{\"code\":1}") };
        assert_eq!(ServerPacket::decode(core::str::from_utf8(&out).unwrap(), &limits), Ok(expected));
        for (text, error) in [
            ("4", SocketPacketError::BadJson),
            ("4[]", SocketPacketError::NotAnObject),
            ("4/a\u{1},{}", SocketPacketError::BadNamespace),
            ("", SocketPacketError::Empty),
        ] {
            assert_eq!(ServerPacket::decode(text, &limits), Err(error), "{text:?}");
        }
    }
}
