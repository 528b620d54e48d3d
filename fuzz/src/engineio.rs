//! `engineio`: packets out of text frames, and polling payloads both ways.

use std::borrow::Cow;

use sockring_protocol::engineio::{
    Data, EnginePacket, EnginePacketError, OpenPacket, Payload, PayloadEncoder, SEPARATOR, Upgrades,
};

use crate::{Random, assert_memory, assert_no_allocation, text_of};

const PACKETS_MAX: usize = 32;

/// Takes the text at the front of the bytes as a text frame and as the body of a POST, and all of them as a binary message.
pub fn engineio(data: &[u8]) {
    let text = text_of(data);
    text_frame(text);
    payload(text);
    limits(text, &mut Random::of(data));
    binary_message(data);
    open_packet(text, data);
}

fn text_frame(text: &str) {
    let packet = EnginePacket::decode(text);
    match &packet {
        Ok(packet) => {
            let again = encode(packet);
            assert_eq!(again.chars().next(), text.chars().next());
            assert_eq!(EnginePacket::decode(&again).as_ref(), Ok(packet));
        }
        Err(EnginePacketError::Empty) => assert!(text.is_empty()),
        Err(EnginePacketError::UnknownType) => assert!(!text.starts_with(|first| "0123456b".contains(first))),
        Err(EnginePacketError::BadBase64) => assert!(text.starts_with('b')),
        Err(error) => panic!("{error:?} of one frame, which is one packet"),
    }
    if text.starts_with('b') {
        // Room is made for whole groups of three bytes.
        assert_memory("EnginePacket::decode", text.len() + 3, || drop(EnginePacket::decode(text)));
    } else {
        assert_no_allocation("EnginePacket::decode", || drop(EnginePacket::decode(text)));
    }
}

/// A payload is what its pieces are, up to the first that is no packet.
fn payload(body: &str) {
    let mut packets = Payload::decode(body, PACKETS_MAX);
    for (position, piece) in body.split(char::from(SEPARATOR)).enumerate() {
        let expected =
            if position < PACKETS_MAX { EnginePacket::decode(piece) } else { Err(EnginePacketError::TooManyPackets) };
        let is_last = expected.is_err();
        assert_eq!(packets.next(), Some(expected), "packet {position}");
        if is_last {
            break;
        }
    }
    assert_eq!(packets.next(), None);
    assert_eq!(packets.next(), None, "the end is the end");

    let packets: Vec<_> = Payload::decode(body, PACKETS_MAX).map_while(Result::ok).collect();
    let mut encoded = Vec::new();
    let mut encoder = PayloadEncoder::new(&mut encoded);
    for packet in &packets {
        match packet {
            EnginePacket::Message(Data::Binary(bytes)) => encoder.push_binary(bytes),
            other => encoder.push_text(encode(other).as_bytes()),
        }
    }
    assert_eq!(encoder.is_empty(), packets.is_empty());
    if !packets.is_empty() {
        let encoded = String::from_utf8(encoded).expect("a payload is text");
        let again: Result<Vec<_>, _> = Payload::decode(&encoded, PACKETS_MAX).collect();
        assert_eq!(again.as_ref(), Ok(&packets));
    }
}

/// Fewer packets allowed: the same packets, then a refusal in place of the rest.
fn limits(body: &str, random: &mut Random) {
    let all: Vec<_> = Payload::decode(body, PACKETS_MAX).collect();
    let packets_max = random.below(PACKETS_MAX);
    let fewer: Vec<_> = Payload::decode(body, packets_max).collect();
    if all.len() <= packets_max {
        assert_eq!(fewer, all);
    } else {
        let (last, kept) = fewer.split_last().expect("at least a refusal");
        assert_eq!((kept, last), (&all[..packets_max], &Err(EnginePacketError::TooManyPackets)));
    }
}

fn binary_message(data: &[u8]) {
    let mut encoded = b"before".to_vec();
    let mut encoder = PayloadEncoder::new(&mut encoded);
    encoder.push_binary(data);
    encoder.push_text(b"6");
    let body = text_of(&encoded).strip_prefix("before").expect("what was there before stays");
    let packets: Result<Vec<_>, _> = Payload::decode(body, 2).collect();
    let message = EnginePacket::Message(Data::Binary(Cow::Borrowed(data)));
    assert_eq!(packets, Ok(vec![message.clone(), EnginePacket::Noop]));
    // Node leaves the padding away when asked for base64url only, but takes both.
    let unpadded = body.split(['=', char::from(SEPARATOR)]).next().unwrap_or_default();
    assert_eq!(EnginePacket::decode(unpadded), Ok(message));
}

/// Whatever the sid: five keys, which read back as they were written.
fn open_packet(sid: &str, data: &[u8]) {
    let mut random = Random::of(data);
    let upgrades = if random.below(2) == 0 { Upgrades::WebSocket } else { Upgrades::None };
    let [ping_interval_ms, ping_timeout_ms, payload_bytes_max] = [random.number(), random.number(), random.number()];
    let mut encoded = Vec::new();
    OpenPacket { sid, upgrades, ping_interval_ms, ping_timeout_ms, payload_bytes_max }.encode(&mut encoded);
    let json = encoded.strip_prefix(b"0").expect("the type of an open packet");
    let expected = serde_json::json!({
        "sid": sid,
        "upgrades": if upgrades == Upgrades::WebSocket { vec!["websocket"] } else { vec![] },
        "pingInterval": ping_interval_ms,
        "pingTimeout": ping_timeout_ms,
        "maxPayload": payload_bytes_max,
    });
    assert_eq!(serde_json::from_slice::<serde_json::Value>(json).ok(), Some(expected));
    assert!(!encoded.contains(&SEPARATOR));
}

/// A packet as a client writes it.
fn encode(packet: &EnginePacket<'_>) -> String {
    match packet {
        EnginePacket::Open => "0".into(),
        EnginePacket::Close => "1".into(),
        EnginePacket::Ping(text) => format!("2{text}"),
        EnginePacket::Pong(text) => format!("3{text}"),
        EnginePacket::Message(Data::Text(text)) => format!("4{text}"),
        EnginePacket::Message(Data::Binary(bytes)) => {
            let mut encoded = Vec::new();
            PayloadEncoder::new(&mut encoded).push_binary(bytes);
            String::from_utf8(encoded).expect("base64 is text")
        }
        EnginePacket::Upgrade => "5".into(),
        EnginePacket::Noop => "6".into(),
    }
}
