//! The client's side of Engine.IO: packets written, the open packet read.

use alloc::vec::Vec;
use core::error::Error;
use core::fmt;

use super::open::{OpenPacket, Upgrades};
use super::packet::{Data, EnginePacket};
use super::payload::PayloadEncoder;
use crate::json::{self, JsonError, Value};

/// Why a text is not the open packet of an Engine.IO v4 server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum OpenPacketError {
    /// Another packet, or none.
    NotOpen,
    /// What follows the type is not JSON, or not an object.
    BadJson,
    /// `sid` is missing, is no string, or has an escape in it: ids are of letters and digits.
    BadSid,
    /// `pingInterval`, `pingTimeout` or `maxPayload` is missing, or is no whole number.
    BadNumber,
}

impl fmt::Display for OpenPacketError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            OpenPacketError::NotOpen => "not an open packet",
            OpenPacketError::BadJson => "an open packet without a JSON object",
            OpenPacketError::BadSid => "an open packet without a usable sid",
            OpenPacketError::BadNumber => "an open packet without its times or its limit",
        })
    }
}

impl Error for OpenPacketError {}

impl From<JsonError> for OpenPacketError {
    fn from(_: JsonError) -> OpenPacketError {
        OpenPacketError::BadJson
    }
}

impl<'a> OpenPacket<'a> {
    /// Decodes the whole packet, its type `0` included. Keys that it does not know are passed over.
    pub fn decode(text: &'a str) -> Result<OpenPacket<'a>, OpenPacketError> {
        let value = Value::decode(text.strip_prefix('0').ok_or(OpenPacketError::NotOpen)?)?;
        if !value.is_object() {
            return Err(OpenPacketError::BadJson);
        }
        let (mut sid, mut upgrades) = (None, Upgrades::None);
        let [mut interval, mut timeout, mut bytes_max] = [None; 3];
        for (key, value) in json::Entries::of(value.as_str()) {
            match &*key {
                "sid" => sid = value.strip_prefix('"').and_then(|sid| sid.strip_suffix('"')),
                "upgrades" if json::Elements::of(value).any(|name| name == "\"websocket\"") => {
                    upgrades = Upgrades::WebSocket
                }
                "pingInterval" => interval = value.parse().ok(),
                "pingTimeout" => timeout = value.parse().ok(),
                "maxPayload" => bytes_max = value.parse().ok(),
                _ => {}
            }
        }
        Ok(OpenPacket {
            sid: sid.filter(|sid| !sid.is_empty() && !sid.contains('\\')).ok_or(OpenPacketError::BadSid)?,
            upgrades,
            ping_interval_ms: interval.ok_or(OpenPacketError::BadNumber)?,
            ping_timeout_ms: timeout.ok_or(OpenPacketError::BadNumber)?,
            payload_bytes_max: bytes_max.ok_or(OpenPacketError::BadNumber)?,
        })
    }
}

impl EnginePacket<'_> {
    /// Appends the packet as text: what a text frame carries, or one piece of a polling payload.
    ///
    /// Bytes become `b` and base64, which is for polling only: on a WebSocket they are a binary frame, as they are.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let (kind, text) = match self {
            EnginePacket::Open => (b'0', ""),
            EnginePacket::Close => (b'1', ""),
            EnginePacket::Ping(text) => (b'2', *text),
            EnginePacket::Pong(text) => (b'3', *text),
            EnginePacket::Message(Data::Text(text)) => (b'4', *text),
            EnginePacket::Message(Data::Binary(bytes)) => return PayloadEncoder::new(out).push_binary(bytes),
            EnginePacket::Upgrade => (b'5', ""),
            EnginePacket::Noop => (b'6', ""),
        };
        out.push(kind);
        out.extend_from_slice(text.as_bytes());
    }
}

impl PayloadEncoder<'_> {
    /// Appends one packet.
    pub fn push(&mut self, packet: &EnginePacket<'_>) {
        match packet {
            EnginePacket::Message(Data::Binary(bytes)) => self.push_binary(bytes),
            packet => {
                self.separate();
                packet.encode(self.out);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engineio::Payload;

    #[test]
    fn the_open_packet_reads_back_as_it_was_written() {
        for upgrades in [Upgrades::WebSocket, Upgrades::None] {
            let open = OpenPacket {
                sid: "lv_VI97HAXpY6yYWAAAB",
                upgrades,
                ping_interval_ms: 25_000,
                ping_timeout_ms: 20_000,
                payload_bytes_max: 1_000_000,
            };
            let mut out = Vec::new();
            open.encode(&mut out);
            assert_eq!(OpenPacket::decode(core::str::from_utf8(&out).unwrap()), Ok(open));
        }
    }

    #[test]
    fn other_texts_are_refused() {
        let rest = "\"pingInterval\":1,\"pingTimeout\":2,\"maxPayload\":3";
        for (text, expected) in [
            (format!("0{{\"sid\":\"a\",\"other\":[],{rest}}}"), None),
            (format!("4{{\"sid\":\"a\",{rest}}}"), Some(OpenPacketError::NotOpen)),
            (String::new(), Some(OpenPacketError::NotOpen)),
            ("0".to_owned(), Some(OpenPacketError::BadJson)),
            ("0[]".to_owned(), Some(OpenPacketError::BadJson)),
            (format!("0{{{rest}}}"), Some(OpenPacketError::BadSid)),
            (format!("0{{\"sid\":7,{rest}}}"), Some(OpenPacketError::BadSid)),
            (format!("0{{\"sid\":\"\",{rest}}}"), Some(OpenPacketError::BadSid)),
            (format!("0{{\"sid\":\"\\u0041\",{rest}}}"), Some(OpenPacketError::BadSid)),
            ("0{\"sid\":\"a\",\"pingInterval\":1,\"pingTimeout\":2}".to_owned(), Some(OpenPacketError::BadNumber)),
            (format!("0{{\"sid\":\"a\",{}}}", rest.replace('1', "1.5")), Some(OpenPacketError::BadNumber)),
        ] {
            assert_eq!(OpenPacket::decode(&text).err(), expected, "{text}");
        }
    }

    #[test]
    fn packets_read_back_as_they_were_written() {
        let packets = [
            EnginePacket::Close,
            EnginePacket::Ping("probe"),
            EnginePacket::Pong(""),
            EnginePacket::Message(Data::Text("hello")),
            EnginePacket::Message(Data::Binary(alloc::borrow::Cow::Borrowed(b"\0\xff"))),
            EnginePacket::Upgrade,
            EnginePacket::Noop,
        ];
        let (mut payload, mut single) = (Vec::new(), Vec::new());
        let mut encoder = PayloadEncoder::new(&mut payload);
        for packet in &packets {
            encoder.push(packet);
            single.clear();
            packet.encode(&mut single);
            assert_eq!(EnginePacket::decode(core::str::from_utf8(&single).unwrap()).as_ref(), Ok(packet));
        }
        let payload = String::from_utf8(payload).unwrap();
        assert_eq!(payload, "1\u{1e}2probe\u{1e}3\u{1e}4hello\u{1e}bAP8=\u{1e}5\u{1e}6");
        assert!(Payload::decode(&payload, 7).map(Result::unwrap).eq(packets));
    }
}
