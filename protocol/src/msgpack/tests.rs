//! Values in both forms: what msgpack becomes, and what notepack makes of JSON.

use crate::adapter::MessageError;

use super::from_json;
use super::javascript::{encode_date, number_text};
use super::to_json::{ByteStrings, ToJson};

fn json_of(bytes: &[u8]) -> Result<String, MessageError> {
    super::check(bytes)?;
    let mut json = ToJson::new(ByteStrings::Attach);
    json.append(bytes)?;
    Ok(String::from_utf8(json.text).expect("text"))
}

/// The forms that notepack chooses, which Node's adapters use, and those of other writers.
#[test]
fn every_form_becomes_the_json_that_node_would_send() {
    for (bytes, expected) in [
        (b"\xc0".as_slice(), "null"),
        (b"\xc2", "false"),
        (b"\xc3", "true"),
        (b"\x7f", "127"),
        (b"\xcc\xff", "255"),
        (b"\xcd\x00\x01", "1"),
        (b"\xce\xff\xff\xff\xff", "4294967295"),
        (b"\xcf\xff\xff\xff\xff\xff\xff\xff\xff", "18446744073709551615"),
        (b"\xe0", "-32"),
        (b"\xd0\x80", "-128"),
        (b"\xd0\x05", "5"),
        (b"\xd1\x80\x00", "-32768"),
        (b"\xd2\x80\x00\x00\x00", "-2147483648"),
        (b"\xd3\x80\x00\x00\x00\x00\x00\x00\x00", "-9223372036854775808"),
        (b"\xca\x3f\x80\x00\x00", "1"),
        (b"\xca\x3d\xcc\xcc\xcd", "0.10000000149011612"),
        (b"\xcb\x3f\xb9\x99\x99\x99\x99\x99\x9a", "0.1"),
        (b"\xcb\x7f\xf8\x00\x00\x00\x00\x00\x00", "null"),
        (b"\xcb\xff\xf0\x00\x00\x00\x00\x00\x00", "null"),
        (b"\xcb\x80\x00\x00\x00\x00\x00\x00\x00", "0"),
        (b"\xa0", "\"\""),
        (b"\xd9\x02\"\n", "\"\\\"\\n\""),
        (b"\xda\x00\x02\xc3\xa9", "\"\u{e9}\""),
        (b"\xdb\x00\x00\x00\x01\x1e", "\"\\u001e\""),
        (b"\x92\x01\x90", "[1,[]]"),
        (b"\xdc\x00\x01\x80", "[{}]"),
        (b"\xdd\x00\x00\x00\x01\xc0", "[null]"),
        (b"\x82\xa1a\x01\xa1b\x81\x05\xc0", "{\"a\":1,\"b\":{\"5\":null}}"),
        (b"\xde\x00\x01\xc0\xc3", "{\"null\":true}"),
        (b"\xdf\x00\x00\x00\x01\xcb\x3f\xf8\x00\x00\x00\x00\x00\x00\x01", "{\"1.5\":1}"),
        (b"\x81\xff\xc3", "{\"-1\":true}"),
        (b"\x82\xa1a\x01\xa1a\x02", "{\"a\":1,\"a\":2}"),
        // `undefined` in an array, and in a map.
        (b"\x91\xd4\x00\x00", "[null]"),
        (b"\x83\xa1a\xd4\x00\x00\xa1b\x01\xa1c\xd4\x00\x00", "{\"b\":1}"),
        // Dates of 32, 64 and 96 bits, and the old form.
        (b"\xd6\xff\x65\x53\xf1\x00", "\"2023-11-14T22:13:20.000Z\""),
        (b"\xd7\xff\x1d\x53\x53\x00\x65\x53\xf1\x00", "\"2023-11-14T22:13:20.123Z\""),
        (b"\xc7\x0c\xff\x1d\xcd\x65\x00\xff\xff\xff\xff\xff\xff\xff\xfe", "\"1969-12-31T23:59:58.500Z\""),
        (b"\xc7\x0c\xff\x00\x00\x00\x00\x7f\xff\xff\xff\xff\xff\xff\xff", "null"),
        (b"\xd7\x00\x00\x00\x01\x8b\xcf\xe5\x68\x7b", "\"2023-11-14T22:13:20.123Z\""),
        // Byte strings, those of old among them, and extensions that nobody knows.
        (b"\xc4\x01x", "{\"_placeholder\":true,\"num\":0}"),
        (b"\x92\xc5\x00\x00\xc7\x02\x00xy", "[{\"_placeholder\":true,\"num\":0},{\"_placeholder\":true,\"num\":1}]"),
        (b"\xd4\x05x", "[5,{\"_placeholder\":true,\"num\":0}]"),
        (b"\xc7\x03\xfexyz", "[-2,{\"_placeholder\":true,\"num\":0}]"),
    ] {
        assert_eq!(json_of(bytes).as_deref(), Ok(expected), "{}", bytes.escape_ascii());
        for end in 0..bytes.len() {
            assert_eq!(json_of(&bytes[..end]), Err(MessageError::Syntax), "{} at {end}", bytes.escape_ascii());
        }
    }
    for bytes in [b"\x81\x90\x01".as_slice(), b"\x81\x80\x01", b"\x81\xc4\x00\x01", b"\x81\xd4\x00\x00\x01"] {
        assert_eq!(json_of(bytes), Err(MessageError::Shape), "{}", bytes.escape_ascii());
    }
}

#[test]
fn byte_strings_are_spelt_where_nobody_takes_attachments() {
    let mut json = ToJson::new(ByteStrings::Spell);
    json.append(b"\x92\xc4\x02\x01\xff\xc4\x00").expect("a list");
    assert_eq!(json.text, br#"[{"type":"Buffer","data":[1,255]},{"type":"Buffer","data":[]}]"#);
    assert!(json.attachments.is_empty());
}

/// As notepack 3 writes the parsed value.
#[test]
fn json_becomes_the_bytes_that_notepack_writes() {
    let attachments = [b"xy".as_slice(), b""];
    for (json, expected) in [
        ("null", b"\xc0".as_slice()),
        (" true ", b"\xc3"),
        ("0", b"\x00"),
        ("-0", b"\x00"),
        ("127", b"\x7f"),
        ("128", b"\xcc\x80"),
        ("65536", b"\xce\x00\x01\x00\x00"),
        ("4294967296", b"\xcf\x00\x00\x00\x01\x00\x00\x00\x00"),
        ("18446744073709551615", b"\xcf\xff\xff\xff\xff\xff\xff\xff\xff"),
        ("18446744073709551616", b"\xcb\x43\xf0\x00\x00\x00\x00\x00\x00"),
        ("-32", b"\xe0"),
        ("-33", b"\xd0\xdf"),
        ("-129", b"\xd1\xff\x7f"),
        ("-2147483649", b"\xd3\xff\xff\xff\xff\x7f\xff\xff\xff"),
        ("1.0", b"\x01"),
        ("1e3", b"\xcd\x03\xe8"),
        ("-1.0", b"\xff"),
        ("0.1", b"\xcb\x3f\xb9\x99\x99\x99\x99\x99\x9a"),
        ("1.5", b"\xcb\x3f\xf8\x00\x00\x00\x00\x00\x00"),
        (r#""\u00e9\ud800""#, b"\xa5\xc3\xa9\xef\xbf\xbd"),
        (r#"[1, [] , {"a":[{}]}]"#, b"\x93\x01\x90\x81\xa1a\x91\x80"),
        (r#"{"x":{"_placeholder":true,"num":0}}"#, b"\x81\xa1x\xc4\x02xy"),
        (r#"[{ "num" : 1 , "_placeholder" : true, "more": "" }, 1]"#, b"\x92\xc4\x00\x01"),
        (r#"{"_placeholder":true,"num":2}"#, b"\x82\xac_placeholder\xc3\xa3num\x02"),
        (r#"{"_placeholder":false,"num":0}"#, b"\x82\xac_placeholder\xc2\xa3num\x00"),
        (r#"[{"\u005fplaceholder":true,"num":0}]"#, b"\x91\xc4\x02xy"),
        ("[1", b"\xc0"),
        ("", b"\xc0"),
    ] {
        let mut bytes = Vec::new();
        from_json(json, &attachments, &mut bytes);
        assert_eq!(bytes, expected, "{json}: {}", bytes.escape_ascii());
    }
    let long = format!("[{}]", vec!["1"; 70_000].join(","));
    let mut bytes = Vec::new();
    from_json::<&[u8]>(&long, &[], &mut bytes);
    assert_eq!(bytes[..6], *b"\xdd\x00\x01\x11\x70\x01");
}

/// What `String(number)` gives in JavaScript.
#[test]
fn numbers_are_written_as_in_javascript() {
    for (number, expected) in [
        (0.0, "0"),
        (-0.0, "0"),
        (1.0, "1"),
        (-1.5, "-1.5"),
        (1e20, "100000000000000000000"),
        (123_456_789_012_345_680_000.0, "123456789012345680000"),
        (1e21, "1e+21"),
        (1.25e22, "1.25e+22"),
        (0.000_001, "0.000001"),
        (0.000_000_1, "1e-7"),
        (-1.234e-7, "-1.234e-7"),
        (123.456, "123.456"),
        (5e-324, "5e-324"),
        (f64::MAX, "1.7976931348623157e+308"),
        (9_007_199_254_740_992.0, "9007199254740992"),
        (0.1 + 0.2, "0.30000000000000004"),
        // As near to the shorter text above as to the one below: the even digit.
        (1_363_692_754_784_573.2, "1363692754784573.2"),
        (f64::NAN, "NaN"),
        (f64::NEG_INFINITY, "-Infinity"),
    ] {
        assert_eq!(number_text(number), expected);
    }
}

/// What `JSON.stringify(new Date(ms))` gives in JavaScript.
#[test]
fn dates_are_written_as_in_javascript() {
    for (ms, expected) in [
        (0, "\"1970-01-01T00:00:00.000Z\""),
        (-1, "\"1969-12-31T23:59:59.999Z\""),
        (951_782_400_000, "\"2000-02-29T00:00:00.000Z\""),
        (951_868_800_000, "\"2000-03-01T00:00:00.000Z\""),
        (4_107_542_399_999, "\"2100-02-28T23:59:59.999Z\""),
        (4_107_542_400_000, "\"2100-03-01T00:00:00.000Z\""),
        (1_735_689_599_001, "\"2024-12-31T23:59:59.001Z\""),
        (253_402_300_799_999, "\"9999-12-31T23:59:59.999Z\""),
        (253_402_300_800_000, "\"+010000-01-01T00:00:00.000Z\""),
        (-62_167_219_200_000, "\"0000-01-01T00:00:00.000Z\""),
        (-62_167_219_200_001, "\"-000001-12-31T23:59:59.999Z\""),
        (8_640_000_000_000_000, "\"+275760-09-13T00:00:00.000Z\""),
        (-8_640_000_000_000_000, "\"-271821-04-20T00:00:00.000Z\""),
        (8_640_000_000_000_001, "null"),
        (i128::MIN, "null"),
    ] {
        let mut out = Vec::new();
        encode_date(ms, &mut out);
        assert_eq!(String::from_utf8_lossy(&out), expected, "{ms}");
    }
}
