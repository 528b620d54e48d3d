//! Packets that the server sends: their bytes (docs/wire.md), and that they come back when they are decoded.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, clippy::expect_used)]

use sockring_protocol::json::{self, Value};
use sockring_protocol::socketio::{AckId, PacketLimits, SocketPacket};
use sockring_protocol::socketio::{encode_ack, encode_connect, encode_connect_error, encode_disconnect, encode_event};

fn encoded(encode: impl FnOnce(&mut Vec<u8>)) -> String {
    let mut out = b"4".to_vec();
    encode(&mut out);
    String::from_utf8(out).unwrap()
}

const BINARY: &[u8] = br#"["message-back",{"_placeholder":true,"num":0},{"_placeholder":true,"num":1}]"#;

#[test]
fn packets_are_encoded() {
    let rows = [
        // S17 to S20
        (encoded(|out| encode_connect("/", "S", out)), r#"40{"sid":"S"}"#),
        (encoded(|out| encode_connect("/custom", "S", out)), r#"40/custom,{"sid":"S"}"#),
        // S21
        (
            encoded(|out| encode_connect_error("/random", "Invalid namespace", None, out)),
            r#"44/random,{"message":"Invalid namespace"}"#,
        ),
        // P03
        (
            encoded(|out| encode_connect_error("/custom?a=b", "Invalid namespace", None, out)),
            r#"44/custom?a=b,{"message":"Invalid namespace"}"#,
        ),
        // "middleware error with data"
        (
            encoded(|out| encode_connect_error("/", "not authorized", Some(r#"{"code":"E1","retry":true}"#), out)),
            r#"44{"message":"not authorized","data":{"code":"E1","retry":true}}"#,
        ),
        (encoded(|out| encode_connect_error("/", "a \"b\"\n\u{1e}", None, out)), r#"44{"message":"a \"b\"\n\u001e"}"#),
        // "socket.disconnect() ws"
        (encoded(|out| encode_disconnect("/", out)), "41"),
        (encoded(|out| encode_disconnect("/custom", out)), "41/custom,"),
        // S26
        (
            encoded(|out| encode_event("/", None, 0, br#"["message-back",1,"2",{"3":[true]}]"#, out)),
            r#"42["message-back",1,"2",{"3":[true]}]"#,
        ),
        // S19
        (encoded(|out| encode_event("/custom", None, 0, br#"["auth",{}]"#, out)), r#"42/custom,["auth",{}]"#),
        // "server ack ids"
        (encoded(|out| encode_event("/", Some(AckId(0)), 0, br#"["hi",1]"#, out)), r#"420["hi",1]"#),
        (encoded(|out| encode_event("/a", Some(AckId(12)), 0, br#"["hi"]"#, out)), r#"42/a,12["hi"]"#),
        // S27
        (
            encoded(|out| encode_event("/", None, 2, BINARY, out)),
            r#"452-["message-back",{"_placeholder":true,"num":0},{"_placeholder":true,"num":1}]"#,
        ),
        (encoded(|out| encode_event("/a", Some(AckId::MAX), 10, b"[\"a\"]", out)), r#"4510-/a,9007199254740991["a"]"#),
        // S28
        (
            encoded(|out| encode_ack("/", AckId(456), 0, br#"[1,"2",{"3":[false]}]"#, out)),
            r#"43456[1,"2",{"3":[false]}]"#,
        ),
        (encoded(|out| encode_ack("/custom", AckId(0), 0, b"[]", out)), "43/custom,0[]"),
        // S29
        (
            encoded(|out| encode_ack("/", AckId(789), 2, BINARY, out)),
            r#"462-789["message-back",{"_placeholder":true,"num":0},{"_placeholder":true,"num":1}]"#,
        ),
    ];
    for (found, expected) in rows {
        assert_eq!(found, expected);
    }
}

/// Every combination of type, namespace, id and attachments comes back as it was.
#[test]
fn events_and_acknowledgements_come_back() {
    let json = r#"["message",1,{"a":{"_placeholder":true,"num":0}}]"#;
    for namespace in ["/", "/custom", "/日本?a=b", "/1["] {
        for id in [None, Some(0), Some(7), Some(456), Some(AckId::MAX.0)] {
            for count in [0_u8, 1, 10] {
                let ack = id.map(AckId);
                let text = encoded(|out| encode_event(namespace, ack, count.into(), json.as_bytes(), out));
                match SocketPacket::decode(&text[1..], &PacketLimits::default()).unwrap() {
                    SocketPacket::Event { namespace: n, ack: a, args } => {
                        assert_eq!((n, a, args.text(), 0), (namespace, ack, json, count));
                    }
                    SocketPacket::BinaryEvent { namespace: n, ack: a, args, attachments } => {
                        assert_eq!((n, a, args.text(), attachments), (namespace, ack, json, count));
                    }
                    other => panic!("{other:?}"),
                }
                let Some(ack) = ack else { continue };
                let text = encoded(|out| encode_ack(namespace, ack, count.into(), json.as_bytes(), out));
                match SocketPacket::decode(&text[1..], &PacketLimits::default()).unwrap() {
                    SocketPacket::Ack { namespace: n, ack: a, args } => {
                        assert_eq!((n, a, args.text(), 0), (namespace, ack, json, count));
                    }
                    SocketPacket::BinaryAck { namespace: n, ack: a, args, attachments } => {
                        assert_eq!((n, a, args.text(), attachments), (namespace, ack, json, count));
                    }
                    other => panic!("{other:?}"),
                }
            }
        }
    }
}

#[test]
fn connects_and_disconnects_come_back() {
    for namespace in ["/", "/custom"] {
        let text = encoded(|out| encode_connect(namespace, "lv_VI97HAXpY6yYWAAAC", out));
        let SocketPacket::Connect { namespace: found, payload } =
            SocketPacket::decode(&text[1..], &PacketLimits::default()).unwrap()
        else {
            panic!("{text}");
        };
        let entries: Vec<_> = json::Entries::of(payload.unwrap()).collect();
        assert_eq!((found, entries), (namespace, vec![("sid".into(), "\"lv_VI97HAXpY6yYWAAAC\"")]));

        let text = encoded(|out| encode_disconnect(namespace, out));
        assert_eq!(
            SocketPacket::decode(&text[1..], &PacketLimits::default()),
            Ok(SocketPacket::Disconnect { namespace })
        );
    }
}

/// A refusal is an object of `message` and perhaps `data`, whatever they hold.
#[test]
fn refusals_are_objects() {
    for message in ["", "Invalid token: user not found", "\"}\\", "é\u{2028}\0"] {
        for data in [None, Some("null"), Some(r#"{"a":[1]}"#)] {
            let text = encoded(|out| encode_connect_error("/a", message, data, out));
            let entries: Vec<_> = json::Entries::of(text.strip_prefix("44/a,").unwrap()).collect();
            assert_eq!(entries[0].0, "message");
            assert_eq!(Value::decode(entries[0].1).unwrap().string().unwrap(), message);
            assert_eq!(entries.get(1).map(|(key, value)| (key.as_ref(), *value)), data.map(|data| ("data", data)));
        }
    }
}
