//! Polling payloads, both ways (engine.io-protocol v4, "HTTP long-polling"; rows of docs/wire.md).
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, clippy::expect_used)]

use std::borrow::Cow;

use sockring_protocol::engineio::{Data, EnginePacket, EnginePacketError, Payload, PayloadEncoder, SEPARATOR};

type Decoded<'a> = Vec<Result<EnginePacket<'a>, EnginePacketError>>;

fn text(text: &str) -> Result<EnginePacket<'_>, EnginePacketError> {
    Ok(EnginePacket::Message(Data::Text(text)))
}

fn binary(bytes: &[u8]) -> Result<EnginePacket<'_>, EnginePacketError> {
    Ok(EnginePacket::Message(Data::Binary(Cow::Borrowed(bytes))))
}

#[test]
fn payloads_are_decoded() {
    let rows: [(&str, Decoded<'_>); 16] = [
        // E8
        ("4hello", vec![text("hello")]),
        // E9
        ("4test1\u{1e}4test2\u{1e}4test3", vec![text("test1"), text("test2"), text("test3")]),
        // E10
        ("4hello\u{1e}bAQIDBA==", vec![text("hello"), binary(&[1, 2, 3, 4])]),
        ("bAQIDBA==\u{1e}b\u{1e}4", vec![binary(&[1, 2, 3, 4]), binary(&[]), text("")]),
        // E17
        ("3", vec![Ok(EnginePacket::Pong(""))]),
        // T33: the caller stops at the close
        ("1\u{1e}4x", vec![Ok(EnginePacket::Close), text("x")]),
        // P22
        ("40\u{1e}42[\"a\"]", vec![text("0"), text("2[\"a\"]")]),
        ("4é\u{1e}4日本😀", vec![text("é"), text("日本😀")]),
        // E11, T30
        ("abc", vec![Err(EnginePacketError::UnknownType)]),
        // T31
        ("", vec![Err(EnginePacketError::Empty)]),
        // an error is the last that is seen
        ("4a\u{1e}x\u{1e}4b", vec![text("a"), Err(EnginePacketError::UnknownType)]),
        ("4a\u{1e}b!\u{1e}4b", vec![text("a"), Err(EnginePacketError::BadBase64)]),
        // a separator separates: there is a packet on both sides
        ("4a\u{1e}", vec![text("a"), Err(EnginePacketError::Empty)]),
        ("\u{1e}4a", vec![Err(EnginePacketError::Empty)]),
        ("4a\u{1e}\u{1e}4b", vec![text("a"), Err(EnginePacketError::Empty)]),
        ("\u{1e}", vec![Err(EnginePacketError::Empty)]),
    ];
    for (body, expected) in rows {
        assert_eq!(Payload::decode(body, 16).collect::<Decoded<'_>>(), expected, "{body:?}");
    }
}

/// A18
#[test]
fn packets_are_counted() {
    let body = "2\u{1e}2\u{1e}2";
    let ping = Ok(EnginePacket::Ping(""));
    let too_many = Err(EnginePacketError::TooManyPackets);
    for (packets_max, expected) in [
        (4, vec![ping.clone(), ping.clone(), ping.clone()]),
        (3, vec![ping.clone(), ping.clone(), ping.clone()]),
        (2, vec![ping.clone(), ping.clone(), too_many.clone()]),
        (1, vec![ping.clone(), too_many.clone()]),
        (0, vec![too_many.clone()]),
    ] {
        assert_eq!(Payload::decode(body, packets_max).collect::<Decoded<'_>>(), expected, "{packets_max}");
    }
    let flood = "2\u{1e}".repeat(500_000);
    assert_eq!(Payload::decode(&flood, 100).count(), 101);
}

#[test]
fn nothing_follows_the_end() {
    for body in ["4a", "", "x\u{1e}4a", "2\u{1e}2\u{1e}2\u{1e}2"] {
        let mut payload = Payload::decode(body, 2);
        while payload.next().is_some() {}
        assert_eq!(payload.next(), None, "{body:?}");
    }
}

#[test]
fn payloads_are_encoded() {
    // E9, E10, and a single packet without a separator
    let mut out = b"before".to_vec();
    let mut encoder = PayloadEncoder::new(&mut out);
    assert!(encoder.is_empty());
    encoder.push_text(b"4hello");
    assert!(!encoder.is_empty());
    encoder.push_binary(&[1, 2, 3, 4]);
    encoder.push_binary(&[]);
    encoder.push_text(b"6");
    assert_eq!(out, b"before4hello\x1ebAQIDBA==\x1eb\x1e6");
}

#[test]
fn binary_messages_of_all_lengths_come_back() {
    for length in 0..70 {
        let bytes: Vec<u8> = (0_u8..70).map(|index| index.wrapping_mul(37)).take(length).collect();
        let mut out = Vec::new();
        let mut encoder = PayloadEncoder::new(&mut out);
        encoder.push_text(b"4a");
        encoder.push_binary(&bytes);
        let body = String::from_utf8(out).unwrap();
        assert_eq!(Payload::decode(&body, 2).collect::<Decoded<'_>>(), [text("a"), binary(&bytes)]);
    }
}

/// Any bytes that are text decode to something, in order, without a panic, and at most one error ends it.
#[test]
fn any_body_is_survived() {
    let alphabet: Vec<char> = "0123456b4AQ=[\"é\u{1e}\u{1e}".chars().collect();
    let mut state = 7_u64;
    for _ in 0..20_000 {
        let mut body = String::new();
        for _ in 0..12 {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            body.push(alphabet[(state >> 33) as usize % alphabet.len()]);
        }
        let decoded: Decoded<'_> = Payload::decode(&body, 100).collect();
        let errors = decoded.iter().filter(|packet| packet.is_err()).count();
        let pieces = body.split(char::from(SEPARATOR)).count();
        assert!(errors == 0 && decoded.len() == pieces || errors == 1 && decoded.last().unwrap().is_err(), "{body:?}");
    }
}
