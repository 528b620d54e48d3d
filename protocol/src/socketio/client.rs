//! The client's side of Socket.IO: a CONNECT with what it says of itself, every packet written back, refusals read.

use alloc::borrow::Cow;
use alloc::vec::Vec;

use super::encode::{encode_ack, encode_disconnect, encode_event, encode_namespace};
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
        for (key, value) in json::entries(payload.as_str()) {
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

impl SocketPacket<'_> {
    /// Appends the packet, without the `4` of Engine.IO. Attachments follow as binary messages.
    pub fn encode(&self, out: &mut Vec<u8>) {
        match self {
            SocketPacket::Connect { namespace, payload } => encode_connect_request(namespace, *payload, out),
            SocketPacket::Disconnect { namespace } => encode_disconnect(namespace, out),
            SocketPacket::Event { namespace, ack, args } => {
                encode_event(namespace, *ack, 0, args.text().as_bytes(), out);
            }
            SocketPacket::Ack { namespace, ack, args } => encode_ack(namespace, *ack, 0, args.text().as_bytes(), out),
            SocketPacket::BinaryEvent { namespace, ack, args, attachments } => {
                encode_event(namespace, *ack, usize::from(*attachments), args.text().as_bytes(), out);
            }
            SocketPacket::BinaryAck { namespace, ack, args, attachments } => {
                encode_ack(namespace, *ack, usize::from(*attachments), args.text().as_bytes(), out);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::socketio::{encode_connect, encode_connect_error};

    #[test]
    fn packets_are_written_as_they_were_read() {
        let limits = PacketLimits::default();
        for text in [
            "0",
            "0{\"token\":\"a\"}",
            "0/admin,{\"token\":\"a\"}",
            "1",
            "1/admin,",
            "2[\"hello\",1,\"2\"]",
            "2/admin,12[\"hello\"]",
            "312[]",
            "51-[\"hello\",{\"_placeholder\":true,\"num\":0}]",
            "61-/admin,7[{\"_placeholder\":true,\"num\":0}]",
        ] {
            let mut out = Vec::new();
            let packet = SocketPacket::decode(text, &limits).unwrap();
            packet.encode(&mut out);
            assert_eq!(core::str::from_utf8(&out), Ok(text));
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
