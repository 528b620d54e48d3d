//! Socket.IO packets from clients: which are accepted as what, and which are refused for which reason.
//!
//! Texts are without the `4` of Engine.IO. Each row names one of docs/wire.md (S, P, H) or of docs/attacks.md (A).
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, clippy::expect_used)]

use sockring_protocol::socketio::{AckId, Args, PacketLimits, SocketPacket, SocketPacketError};

use SocketPacketError::*;

fn accepted(text: &str) -> SocketPacket<'_> {
    SocketPacket::decode(text, &PacketLimits::default()).unwrap_or_else(|error| panic!("{text}: {error}"))
}

fn args(text: &str) -> Args<'_> {
    Args::decode(text).unwrap()
}

fn connect<'a>(namespace: &'a str, payload: Option<&'a str>) -> SocketPacket<'a> {
    SocketPacket::Connect { namespace, payload }
}

fn event<'a>(namespace: &'a str, ack: Option<u64>, json: &'a str) -> SocketPacket<'a> {
    SocketPacket::Event { namespace, ack: ack.map(AckId), args: args(json) }
}

fn ack<'a>(namespace: &'a str, id: u64, json: &'a str) -> SocketPacket<'a> {
    SocketPacket::Ack { namespace, ack: AckId(id), args: args(json) }
}

#[test]
fn connects_and_disconnects_are_accepted() {
    let rows = [
        ("S17", "0", connect("/", None)),
        ("S18", r#"0{"token":"123"}"#, connect("/", Some(r#"{"token":"123"}"#))),
        ("S19", "0/custom,", connect("/custom", None)),
        ("S20", r#"0/custom,{"token":"abc"}"#, connect("/custom", Some(r#"{"token":"abc"}"#))),
        ("S21", "0/random", connect("/random", None)),
        ("P03", "0/custom?a=b,", connect("/custom?a=b", None)),
        ("P03", "0/custom?a=b", connect("/custom?a=b", None)),
        ("P01", "0{}", connect("/", Some("{}"))),
        ("P01", "0/,{}", connect("/", Some("{}"))),
        ("P01", "0/", connect("/", None)),
        ("P01", "0 { } ", connect("/", Some("{ }"))),
        ("P01", r#"0{"a":"/b,c"}"#, connect("/", Some(r#"{"a":"/b,c"}"#))),
        ("P01", "0/日本,", connect("/日本", None)),
        ("S24", "1", SocketPacket::Disconnect { namespace: "/" }),
        ("S25", "1/custom", SocketPacket::Disconnect { namespace: "/custom" }),
        ("S25", "1/custom,", SocketPacket::Disconnect { namespace: "/custom" }),
    ];
    for (row, text, packet) in rows {
        assert_eq!(accepted(text), packet, "{row}: {text}");
    }
}

#[test]
fn events_and_acknowledgements_are_accepted() {
    let rows = [
        ("S26", r#"2["message",1,"2",{"3":[true]}]"#, event("/", None, r#"["message",1,"2",{"3":[true]}]"#)),
        ("S28", r#"2456["message-with-ack",1]"#, event("/", Some(456), r#"["message-with-ack",1]"#)),
        ("H05", r#"20["a"]"#, event("/", Some(0), r#"["a"]"#)),
        ("H05", r#"29007199254740991["a"]"#, event("/", Some((1 << 53) - 1), r#"["a"]"#)),
        ("H05", r#"20000000000000007["a"]"#, event("/", Some(7), r#"["a"]"#)),
        ("H06", r#"2/custom,["a"]"#, event("/custom", None, r#"["a"]"#)),
        ("H06", r#"2/custom,12["a"]"#, event("/custom", Some(12), r#"["a"]"#)),
        ("H06", r#"2/,["a"]"#, event("/", None, r#"["a"]"#)),
        ("P14", "2[5,1]", event("/", None, "[5,1]")),
        ("P14", "2[-0.5e3]", event("/", None, "[-0.5e3]")),
        ("P14", r#"2[""]"#, event("/", None, r#"[""]"#)),
        ("P14", r#"2["__proto__"]"#, event("/", None, r#"["__proto__"]"#)),
        ("A12", r#"2["error"]"#, event("/", None, r#"["error"]"#)),
        ("P13", r#"2["Connect"]"#, event("/", None, r#"["Connect"]"#)),
        ("P13", r#"2["connect "]"#, event("/", None, r#"["connect "]"#)),
        ("P13", r#"2["a","connect"]"#, event("/", None, r#"["a","connect"]"#)),
        ("A13", r#"2["a",{"toString":"foo"}]"#, event("/", None, r#"["a",{"toString":"foo"}]"#)),
        ("A16", r#"2["e",{"_placeholder":true,"num":9}]"#, event("/", None, r#"["e",{"_placeholder":true,"num":9}]"#)),
        ("S26", "2 [ \"a\" ] \n", event("/", None, "[ \"a\" ]")),
        ("S28", r#"3456[1,"2",{"3":[false]}]"#, ack("/", 456, r#"[1,"2",{"3":[false]}]"#)),
        ("H05", "30[]", ack("/", 0, "[]")),
        ("P15", "3/custom,999[]", ack("/custom", 999, "[]")),
        ("P13", r#"31["connect"]"#, ack("/", 1, r#"["connect"]"#)),
        ("S28", "31[null]", ack("/", 1, "[null]")),
    ];
    for (row, text, packet) in rows {
        assert_eq!(accepted(text), packet, "{row}: {text}");
    }
}

#[test]
fn binary_packets_are_accepted() {
    const TWO: &str = r#"["message",{"_placeholder":true,"num":0},{"_placeholder":true,"num":1}]"#;
    const NONE: &str = r#"["a"]"#;
    let event = |namespace, ack: Option<u64>, json, attachments| SocketPacket::BinaryEvent {
        namespace,
        ack: ack.map(AckId),
        args: args(json),
        attachments,
    };
    let ack = |namespace, id, json, attachments| SocketPacket::BinaryAck {
        namespace,
        ack: AckId(id),
        args: args(json),
        attachments,
    };
    let rows = [
        ("S27", format!("52-{TWO}"), event("/", None, TWO, 2)),
        ("S29", format!("52-789{TWO}"), event("/", Some(789), TWO, 2)),
        ("S29", format!("62-789{TWO}"), ack("/", 789, TWO, 2)),
        ("S27", format!("52-/custom,{TWO}"), event("/custom", None, TWO, 2)),
        ("S29", format!("62-/custom,1{TWO}"), ack("/custom", 1, TWO, 2)),
        ("P21", format!("51-{NONE}"), event("/", None, NONE, 1)),
        ("P19", format!("510-{NONE}"), event("/", None, NONE, 10)),
        ("P21", "61-0[]".into(), ack("/", 0, "[]", 1)),
    ];
    for (row, text, packet) in rows {
        assert_eq!(accepted(&text), packet, "{row}: {text}");
    }
}

#[test]
fn packets_are_refused() {
    let rows = [
        // packet types
        ("P11", "", Empty),
        ("S22 S30", "abc", UnknownType),
        ("P11", "7", UnknownType),
        ("P11", "8", UnknownType),
        ("A13", "999", UnknownType),
        ("P11", "a", UnknownType),
        ("P11", "-1", UnknownType),
        ("P11", " 2[\"a\"]", UnknownType),
        ("P11", "é", UnknownType),
        ("P10", r#"4{"message":"x"}"#, ConnectErrorFromClient),
        ("A13", r#"42["a""#, ConnectErrorFromClient),
        // CONNECT and DISCONNECT
        ("P06 A13", "0[]", NotAnObject),
        ("P06", r#"0"x""#, NotAnObject),
        ("P06", "0null", NotAnObject),
        ("P06", "01", NotAnObject),
        ("P06", "0{", BadJson),
        ("P06", r#"0{"a":}"#, BadJson),
        ("P06", "0{}x", BadJson),
        ("P06", "0 ", BadJson),
        ("P06", "0,", BadJson),
        ("P06", "0custom", BadJson),
        ("A13", r#"0/admin,"x""#, NotAnObject),
        ("P09", "1{}", UnexpectedPayload),
        ("A13", "1/admin,{}", UnexpectedPayload),
        ("P09", "1 ", UnexpectedPayload),
        ("P09", "1,", UnexpectedPayload),
        // EVENT
        ("P12", "2", MissingPayload),
        ("P12", "21", MissingPayload),
        ("P12", "2/custom", MissingPayload),
        ("P12", r#"2/custom["a"]"#, MissingPayload),
        ("P12", "2 ", MissingPayload),
        ("S31 A13", "2{}", NotAnArray),
        ("P12", r#"2"s""#, NotAnArray),
        ("S32", r#"2abc["message-with-ack",1]"#, NotAnArray),
        ("P12", r#"2,["a"]"#, NotAnArray),
        ("H05", r#"2-1["a"]"#, NotAnArray),
        ("H05", r#"21.5["a"]"#, NotAnArray),
        ("P12", "2[]", NotAnEventName),
        ("P12 A13", "2[null]", NotAnEventName),
        ("P12", "2[{}]", NotAnEventName),
        ("P12", "2[[\"a\"]]", NotAnEventName),
        ("P12", "2[true]", NotAnEventName),
        ("A13", r#"2[true,"a"]"#, NotAnEventName),
        ("A13", r#"2[{"toString":"foo"}]"#, NotAnEventName),
        ("A13", r#"2["connect"]"#, ReservedEventName),
        ("P13", r#"2["connect_error"]"#, ReservedEventName),
        ("P13", r#"2["disconnect"]"#, ReservedEventName),
        ("P13", r#"2["disconnecting"]"#, ReservedEventName),
        ("P13", r#"2["newListener"]"#, ReservedEventName),
        ("P13", r#"2["removeListener",1]"#, ReservedEventName),
        ("P13", r#"2["\u0063onnect"]"#, ReservedEventName),
        ("P13", r#"51-["connect",{"_placeholder":true,"num":0}]"#, ReservedEventName),
        ("P12", r#"2["a""#, BadJson),
        ("P12", r#"2["a"]]"#, BadJson),
        ("P12", r#"2["a"]x"#, BadJson),
        ("P12", r#"2["a",]"#, BadJson),
        ("P12", r#"2["a" 1]"#, BadJson),
        ("P12", r#"2["a",{"b":01}]"#, BadJson),
        ("H04", "2[\"a\u{1e}\"]", BadJson),
        // acknowledgements
        ("P15", "3", MissingAckId),
        ("P15", "3[]", MissingAckId),
        ("P15", "31", MissingPayload),
        ("P15", "31{}", NotAnArray),
        ("P15", r#"31"a""#, NotAnArray),
        ("P15", "31[", BadJson),
        ("S29", r#"61-["a"]"#, MissingAckId),
        ("A19", r#"29007199254740992["a"]"#, AckIdTooLarge),
        ("A19", r#"200000000000000007["a"]"#, AckIdTooLarge),
        ("A19", r#"299999999999999999999["a"]"#, AckIdTooLarge),
        // attachments
        ("A5", r#"50-["x"]"#, NoAttachments),
        ("A5", r#"60-1["x"]"#, NoAttachments),
        ("A6", r#"5999999-["x"]"#, TooManyAttachments),
        ("P19", r#"511-["x"]"#, TooManyAttachments),
        ("P19", r#"5256-["x"]"#, TooManyAttachments),
        ("P19", r#"5257-["x"]"#, TooManyAttachments),
        ("A13", "5", BadAttachments),
        ("A13", "51", BadAttachments),
        ("A13", "51a-", BadAttachments),
        ("A13", "5.5-", BadAttachments),
        ("P18", "5a-", BadAttachments),
        ("P18", "5-1-", BadAttachments),
        ("P18", "51.5-", BadAttachments),
        ("P18", r#"51["a"]"#, BadAttachments),
        ("P18", r#"5-["a"]"#, BadAttachments),
        ("P18", r#"5["a"]"#, BadAttachments),
        ("P18", r#"51e1-["a"]"#, BadAttachments),
        ("P18", r#"501-["a"]"#, BadAttachments),
        ("P18", r#"500-["a"]"#, BadAttachments),
        ("P18", r#"5 1-["a"]"#, BadAttachments),
        ("P12", "51-", MissingPayload),
        ("P12", "51-{}", NotAnArray),
        ("P12", r#"51-[{"_placeholder":true,"num":0}]"#, NotAnEventName),
        // namespaces
        ("A19", "0/a\u{1e}b", BadNamespace),
        ("A19", "2/a\0,[\"a\"]", BadNamespace),
    ];
    for (row, text, error) in rows {
        assert_eq!(SocketPacket::decode(text, &PacketLimits::default()), Err(error), "{row}: {text}");
    }
}

/// A19: nothing is looked at beyond the limit.
#[test]
fn namespaces_are_limited_exactly() {
    let limits = PacketLimits { namespace_bytes_max: 8, ..PacketLimits::default() };
    for text in ["0/1234567", "0/1234567,", "0/1234567,{}", "1/1234567", "2/1234567,[\"a\"]", "0/12345é,"] {
        assert!(SocketPacket::decode(text, &limits).is_ok(), "{text}");
    }
    for text in
        ["0/12345678", "0/12345678,", "0/12345678,{}", "1/123456789", "2/12345678,[\"a\"]", "0/123456é,", "0/123456é"]
    {
        assert_eq!(SocketPacket::decode(text, &limits), Err(NamespaceTooLong), "{text}");
    }
    let huge = format!("0/{}", "x".repeat(1 << 20));
    assert_eq!(SocketPacket::decode(&huge, &PacketLimits::default()), Err(NamespaceTooLong));
    let digits = format!("2{}", "2".repeat(1 << 20));
    assert_eq!(SocketPacket::decode(&digits, &PacketLimits::default()), Err(AckIdTooLarge));
}

#[test]
fn attachments_are_limited_by_the_limits() {
    let limits = PacketLimits { attachments_max: 255, ..PacketLimits::default() };
    assert!(SocketPacket::decode(r#"5255-["a"]"#, &limits).is_ok());
    assert_eq!(SocketPacket::decode(r#"5256-["a"]"#, &limits), Err(TooManyAttachments));
    let limits = PacketLimits { attachments_max: 0, ..PacketLimits::default() };
    assert_eq!(SocketPacket::decode(r#"51-["a"]"#, &limits), Err(TooManyAttachments));
}

/// P26
#[test]
fn deep_arguments_are_refused() {
    let deep = |levels: usize| format!("2[\"a\",{}{}]", "[".repeat(levels), "]".repeat(levels));
    assert!(SocketPacket::decode(&deep(127), &PacketLimits::default()).is_ok());
    assert_eq!(SocketPacket::decode(&deep(128), &PacketLimits::default()), Err(JsonTooDeep));
    assert_eq!(SocketPacket::decode(&deep(400_000), &PacketLimits::default()), Err(JsonTooDeep));
}

#[test]
fn every_cut_of_a_packet_is_something_else_or_refused() {
    let whole = [
        r#"0/custom,{"token":"é\"😀"}"#,
        r#"2/custom,456["message",1,"2",{"3":[true]}]"#,
        r#"52-/custom,789["message",{"_placeholder":true,"num":0},{"_placeholder":true,"num":1}]"#,
        r#"61-7[{"num":0,"_placeholder":true}]"#,
    ];
    for text in whole {
        let packet = accepted(text);
        for cut in (0..text.len()).filter_map(|at| text.get(..at)) {
            let other = SocketPacket::decode(cut, &PacketLimits::default());
            assert_ne!(other.as_ref(), Ok(&packet), "{cut}");
            // Only a CONNECT may lack its payload.
            assert!(other.is_err() || matches!(other, Ok(SocketPacket::Connect { payload: None, .. })), "{cut}");
        }
    }
}

/// Random texts out of the characters that matter: no panic, and what is accepted is accepted for good reasons.
#[test]
fn any_text_is_survived() {
    let types = ["0", "1", "2", "3", "51-", "62-", "5", "6"];
    let pieces =
        ["/a", "/", ",", "7", "0", "-", "é", " ", "\"", "{}", "[", "]", "[]", "[\"a\"]", "[1,{}]", "[\"a\",[]]"];
    let mut state = 11_u64;
    let mut below = |bound: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (state >> 33) as usize % bound
    };
    let mut accepted = 0;
    for _ in 0..200_000 {
        let mut text = types[below(types.len())].to_owned();
        for _ in 0..below(5) {
            text += pieces[below(pieces.len())];
        }
        match SocketPacket::decode(&text, &PacketLimits::default()) {
            Ok(SocketPacket::Event { namespace, args, .. } | SocketPacket::BinaryEvent { namespace, args, .. }) => {
                accepted += 1;
                assert!(namespace.starts_with('/'), "{text}");
                assert!(args.event().is_some() && text.trim_ascii_end().ends_with(args.text()), "{text}");
            }
            Ok(SocketPacket::Ack { args, .. } | SocketPacket::BinaryAck { args, .. }) => {
                accepted += 1;
                assert_eq!(args.elements().count(), args.len(), "{text}");
            }
            Ok(SocketPacket::Connect { .. } | SocketPacket::Disconnect { .. }) | Err(_) => {}
        }
    }
    assert!(accepted > 1000, "{accepted}");
}

#[test]
fn packets_are_written_as_they_were_read() {
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
        let packet = SocketPacket::decode(text, &PacketLimits::default()).expect("a packet");
        assert_eq!(packet.to_string(), text);
    }
}
