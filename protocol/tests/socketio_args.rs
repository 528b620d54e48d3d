//! The arguments of packets: their event name, their parts, and placeholders for attachments (P20, P21, H08, A16).
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, clippy::expect_used)]

use std::borrow::Cow;

use sockring_protocol::json::JsonError;
use sockring_protocol::socketio::{Args, EventName, PacketLimits, SocketPacket, SocketPacketError};

#[test]
fn arguments_are_taken_apart() {
    let text = |name| Some(EventName::Text(Cow::Borrowed(name)));
    let number = |name| Some(EventName::Number(name));
    let rows: [(&str, Option<EventName<'_>>, &str, &[&str]); 16] = [
        // S26
        (
            r#"["message",1,"2",{"3":[true]}]"#,
            text("message"),
            r#"1,"2",{"3":[true]}"#,
            &["\"message\"", "1", "\"2\"", "{\"3\":[true]}"],
        ),
        (r#"["a"]"#, text("a"), "", &["\"a\""]),
        (r#"["a",1]"#, text("a"), "1", &["\"a\"", "1"]),
        (r#"["",[]]"#, text(""), "[]", &["\"\"", "[]"]),
        (r#"["a","é日本😀"]"#, text("a"), r#""é日本😀""#, &["\"a\"", "\"é日本😀\""]),
        // an escaped name, and one that looks like its own end
        (r#"["\u0061\n\"b\\",1]"#, text("a\n\"b\\"), "1", &[r#""\u0061\n\"b\\""#, "1"]),
        (r#"["\ud800",1]"#, text("\u{fffd}"), "1", &[r#""\ud800""#, "1"]),
        (r#"["],[",1]"#, text("],["), "1", &["\"],[\"", "1"]),
        // P14
        ("[5,6]", number("5"), "6", &["5", "6"]),
        ("[-0.5e3]", number("-0.5e3"), "", &["-0.5e3"]),
        // no names: arguments of acknowledgements
        ("[]", None, "", &[]),
        ("[ ]", None, "", &[]),
        ("[null,1]", None, "1", &["null", "1"]),
        ("[true]", None, "", &["true"]),
        ("[[1],[2],{}]", None, "[2],{}", &["[1]", "[2]", "{}"]),
        // whitespace around the parts belongs to none of them
        ("[ \"a\" ,\t1 , 2\n]", text("a"), "1 , 2", &["\"a\"", "1", "2"]),
    ];
    for (json, event, after_event, elements) in rows {
        for padded in [json.to_owned(), format!(" \n{json}\t")] {
            let args = Args::decode(&padded).unwrap();
            assert_eq!(args.text(), json);
            assert_eq!(args.event(), event, "{json}");
            assert_eq!(args.after_event(), after_event, "{json}");
            assert_eq!(args.elements().collect::<Vec<_>>(), elements, "{json}");
            assert_eq!((args.len(), args.is_empty()), (elements.len(), elements.is_empty()), "{json}");
        }
    }
}

#[test]
fn only_arrays_are_arguments() {
    for text in [
        "", " ", "{}", "1", "\"a\"", "null", "[", "[1", "[1,", "[1,]", "[,1]", "[] []", "[]x", "x[]", "\u{c}[]",
        "[]\u{c}",
    ] {
        assert_eq!(Args::decode(text), Err(JsonError::Syntax), "{text:?}");
    }
}

fn decode_with_attachments(attachments: u8, argument: &str) -> Result<(), SocketPacketError> {
    let text = format!(r#"5{attachments}-["e",{argument}]"#);
    let packet = SocketPacket::decode(&text, &PacketLimits::default())?;
    assert!(matches!(packet, SocketPacket::BinaryEvent { attachments: found, .. } if found == attachments));
    Ok(())
}

#[test]
fn placeholders_that_point_at_attachments_are_accepted() {
    let rows = [
        // S27
        (1, r#"{"_placeholder":true,"num":0}"#),
        (10, r#"{"_placeholder":true,"num":9}"#),
        (2, r#"{"_placeholder":true,"num":1},{"_placeholder":true,"num":0}"#),
        // the same attachment twice
        (1, r#"{"_placeholder":true,"num":0},{"_placeholder":true,"num":0}"#),
        // H08: nested
        (2, r#"{"a":[{"b":{"_placeholder":true,"num":1}}],"c":{"_placeholder":true,"num":0}}"#),
        (1, r#"[[[[{"_placeholder":true,"num":0}]]]]"#),
        // order of keys, whitespace, other keys, escapes
        (1, r#"{"num":0,"_placeholder":true}"#),
        (1, r#"{ "_placeholder" : true , "num" : 0 }"#),
        (1, r#"{"a":{},"_placeholder":true,"b":[1],"num":0,"c":null}"#),
        (1, r#"{"_place\u0068older":true,"n\u0075m":0}"#),
        // of several same keys the last one counts
        (1, r#"{"_placeholder":true,"num":99,"num":0}"#),
        (1, r#"{"_placeholder":true,"num":{"x":1},"num":0}"#),
        (1, r#"{"_placeholder":false,"_placeholder":true,"num":0}"#),
        (1, r#"{"_placeholder":true,"num":99,"_placeholder":false}"#),
        (1, r#"{"_placeholder":true,"num":99,"_placeholder":{}}"#),
        (1, r#"{"_placeholder":true,"num":99,"_place\u0068older":0}"#),
        // numbers are those of JSON.parse
        (1, r#"{"_placeholder":true,"num":-0}"#),
        (2, r#"{"_placeholder":true,"num":1.0}"#),
        (2, r#"{"_placeholder":true,"num":10e-1}"#),
        (10, r#"{"_placeholder":true,"num":0.9E1}"#),
        // not placeholders
        (1, r#"{"_placeholder":1,"num":99}"#),
        (1, r#"{"_placeholder":"true","num":99}"#),
        (1, r#"{"_placeholder":[true],"num":99}"#),
        (1, r#"{"_placeholder":null}"#),
        (1, r#"{"Placeholder":true,"num":99}"#),
        (1, r#"{"num":99}"#),
        (1, r#""{\"_placeholder\":true,\"num\":99}""#),
        (1, r#"["_placeholder",true,"num",99]"#),
        (1, r#"{"_placeholder":{"a":true},"num":99}"#),
        // P21: claimed and never pointed at
        (1, "1"),
        (10, r#"{"_placeholder":true,"num":3}"#),
    ];
    for (attachments, argument) in rows {
        assert_eq!(decode_with_attachments(attachments, argument), Ok(()), "{attachments}: {argument}");
    }
}

#[test]
fn placeholders_that_point_at_nothing_are_refused() {
    let rows = [
        // A16, P20
        (1, r#"{"_placeholder":true,"num":"splice"}"#),
        (1, r#"{"_placeholder":true,"num":-1}"#),
        (1, r#"{"_placeholder":true,"num":99}"#),
        (2, r#"{"_placeholder":true,"num":1.5}"#),
        (10, r#"{"_placeholder":true,"num":1e9}"#),
        (1, r#"{"_placeholder":true,"num":1}"#),
        (10, r#"{"_placeholder":true,"num":10}"#),
        (1, r#"{"_placeholder":true,"num":"0"}"#),
        (1, r#"{"_placeholder":true}"#),
        (1, r#"{"_placeholder":true,"num":null}"#),
        (1, r#"{"_placeholder":true,"num":true}"#),
        (1, r#"{"_placeholder":true,"num":[0]}"#),
        (1, r#"{"_placeholder":true,"num":{"num":0}}"#),
        (1, r#"{"_placeholder":true,"num":{"_placeholder":true,"num":0}}"#),
        (1, r#"{"_placeholder":true,"num":1e999}"#),
        (1, r#"{"_placeholder":true,"num":-1e999}"#),
        (1, r#"{"_placeholder":true,"num":0.99999999999999999999}"#),
        (1, r#"{"_placeholder":true,"num":256}"#),
        (1, r#"{"_placeholder":true,"num":4294967296}"#),
        // the last one counts
        (1, r#"{"_placeholder":true,"num":0,"num":99}"#),
        (1, r#"{"_placeholder":true,"num":0,"n\u0075m":99}"#),
        (1, r#"{"num":0,"_placeholder":true,"num":[]}"#),
        // one bad among good ones, at any depth
        (1, r#"{"_placeholder":true,"num":0},{"_placeholder":true,"num":1}"#),
        (1, r#"{"a":{"_placeholder":true,"num":0,"b":{"_placeholder":true,"num":1}}}"#),
        (1, r#"[{"a":[[{"num":1,"_placeholder":true}]]}]"#),
        // what a nested object says is not said of the outer one
        (1, r#"{"_placeholder":true,"a":{"num":0}}"#),
        (1, r#"{"a":{"_placeholder":true},"num":0}"#),
        // stricter than the reference, which never looks at what is overwritten
        (1, r#"{"a":{"_placeholder":true,"num":1},"a":0}"#),
    ];
    for (attachments, argument) in rows {
        let found = decode_with_attachments(attachments, argument);
        assert_eq!(found, Err(SocketPacketError::BadPlaceholder), "{attachments}: {argument}");
    }
}

/// The deepest placeholder uses the last bit of each set, and the levels around it are not disturbed.
#[test]
fn placeholders_are_found_at_the_deepest_level() {
    let nested = |num: u8| {
        let levels = 126;
        let inside = format!(r#"{{"_placeholder":true,"num":{num}}}"#);
        format!(r#"{}{inside}{}"#, r#"{"num":9,"a":"#.repeat(levels), "}".repeat(levels))
    };
    assert_eq!(decode_with_attachments(1, &nested(0)), Ok(()));
    assert_eq!(decode_with_attachments(1, &nested(1)), Err(SocketPacketError::BadPlaceholder));
}
