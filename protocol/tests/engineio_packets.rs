//! Engine.IO packets in text frames, and the open packet (engine.io-protocol v4; rows of docs/wire.md).
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, clippy::expect_used)]

use std::borrow::Cow;

use sockring_protocol::engineio::{Data, EnginePacket, EnginePacketError, OpenPacket, Upgrades};

fn text(text: &str) -> EnginePacket<'_> {
    EnginePacket::Message(Data::Text(text))
}

fn binary(bytes: &[u8]) -> EnginePacket<'_> {
    EnginePacket::Message(Data::Binary(Cow::Borrowed(bytes)))
}

#[test]
fn frames_are_decoded() {
    let rows = [
        // "EnginePacket types" of the protocol, one by one
        ("0", EnginePacket::Open),
        ("1", EnginePacket::Close),
        ("2", EnginePacket::Ping("")),
        ("3", EnginePacket::Pong("")),
        ("4hello", text("hello")),
        ("5", EnginePacket::Upgrade),
        ("6", EnginePacket::Noop),
        // "Upgrade": the probe
        ("2probe", EnginePacket::Ping("probe")),
        ("3probe", EnginePacket::Pong("probe")),
        // E14
        ("4", text("")),
        ("44", text("4")),
        ("4é日本😀", text("é日本😀")),
        ("4\u{1e}4", text("\u{1e}4")),
        // T36: what follows has no meaning
        ("0{\"sid\":\"__proto__\"}", EnginePacket::Open),
        ("1x", EnginePacket::Close),
        ("5x", EnginePacket::Upgrade),
        ("6x", EnginePacket::Noop),
        // E10, H02; the reference takes base64 in text frames too
        ("bAQIDBA==", binary(&[1, 2, 3, 4])),
        ("b", binary(&[])),
    ];
    for (frame, packet) in rows {
        assert_eq!(EnginePacket::decode(frame), Ok(packet), "{frame}");
    }
}

#[test]
fn garbage_is_refused() {
    let rows = [
        // T37
        ("", EnginePacketError::Empty),
        ("abc", EnginePacketError::UnknownType),
        ("7", EnginePacketError::UnknownType),
        ("9x", EnginePacketError::UnknownType),
        ("8", EnginePacketError::UnknownType),
        (" 4", EnginePacketError::UnknownType),
        ("-1", EnginePacketError::UnknownType),
        ("B", EnginePacketError::UnknownType),
        ("é4", EnginePacketError::UnknownType),
        ("４", EnginePacketError::UnknownType),
        ("\u{1e}", EnginePacketError::UnknownType),
        ("\0", EnginePacketError::UnknownType),
        ("b!", EnginePacketError::BadBase64),
    ];
    for (frame, error) in rows {
        assert_eq!(EnginePacket::decode(frame), Err(error), "{frame:?}");
    }
}

/// E10. As `Buffer.from(text, "base64")` takes it, but what Node skips silently is refused.
#[test]
fn base64_is_tolerant_of_padding_only() {
    let accepted: [(&str, &[u8]); 8] = [
        ("", b""),
        ("AA==", &[0]),
        ("AA", &[0]),
        ("AAE=", &[0, 1]),
        ("AAE", &[0, 1]),
        ("AAEC", &[0, 1, 2]),
        ("+/+/", &[0xfb, 0xff, 0xbf]),
        // bits of the last character that no byte has room for
        ("AB==", &[0]),
    ];
    for (base64, bytes) in accepted {
        assert_eq!(EnginePacket::decode(&format!("b{base64}")), Ok(binary(bytes)), "{base64}");
    }
    for base64 in [
        "A", "AAAAA", "====", "=", "A===", "AA=A", "AA==AA==", "-_-_", "AA A", "AAEC\n", "AAEC\0", "é", "AQID,",
        "bAQID*",
    ] {
        assert_eq!(EnginePacket::decode(&format!("b{base64}")), Err(EnginePacketError::BadBase64), "{base64:?}");
    }
}

/// T20: exactly five keys in this order. E1 and E5: `upgrades` says what is left to do.
#[test]
fn open_packets_are_encoded() {
    let mut open = OpenPacket {
        sid: "lv_VI97HAXpY6yYWAAAC",
        upgrades: Upgrades::WebSocket,
        ping_interval_ms: 300,
        ping_timeout_ms: 200,
        payload_bytes_max: 1_000_000,
    };
    let encode = |open: &OpenPacket<'_>| {
        let mut out = Vec::new();
        open.encode(&mut out);
        String::from_utf8(out).unwrap()
    };
    assert_eq!(
        encode(&open),
        r#"0{"sid":"lv_VI97HAXpY6yYWAAAC","upgrades":["websocket"],"pingInterval":300,"pingTimeout":200,"maxPayload":1000000}"#
    );
    open.upgrades = Upgrades::None;
    open.ping_interval_ms = 25_000;
    open.ping_timeout_ms = 0;
    open.payload_bytes_max = u64::MAX;
    assert_eq!(
        encode(&open),
        r#"0{"sid":"lv_VI97HAXpY6yYWAAAC","upgrades":[],"pingInterval":25000,"pingTimeout":0,"maxPayload":18446744073709551615}"#
    );
}

#[test]
fn every_reason_has_its_own_words() {
    let errors = [
        EnginePacketError::Empty,
        EnginePacketError::UnknownType,
        EnginePacketError::BadBase64,
        EnginePacketError::TooManyPackets,
    ];
    let mut reasons = errors.map(|error| error.to_string()).to_vec();
    reasons.sort();
    reasons.dedup();
    assert_eq!(reasons.len(), errors.len());
}
