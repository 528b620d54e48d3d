//! What nobody should send, and anybody who can publish may.

use serde_json::{Value, json};

use super::random::Random;
use super::{VECTORS, again, bytes_of, channels, meaning};
use crate::adapter::{Adapter, ChannelKind, Ending, Envelope, MESSAGE_BYTES_MAX, Message, MessageError, decode};
use crate::msgpack::from_json;

#[test]
fn a_message_that_is_cut_anywhere_is_refused() {
    for vector in VECTORS.iter() {
        let Some(adapter) = vector.adapter() else { continue };
        let channels = channels(adapter);
        for end in 0..vector.body.len() {
            let read = decode(&channels, vector.channel.as_bytes(), &vector.body[..end]);
            assert_eq!(read, Err(MessageError::Syntax), "{} at {end}", vector.name);
        }
        let behind = [&vector.body[..], b"\xc0"].concat();
        let read = decode(&channels, vector.channel.as_bytes(), &behind);
        assert_eq!(read, Err(MessageError::Syntax), "{} with a byte behind it", vector.name);
    }
}

#[test]
fn a_message_with_a_wrong_bit_is_refused_or_means_something() {
    let mut random = Random(1);
    for vector in VECTORS.iter() {
        let Some(adapter) = vector.adapter() else { continue };
        let channels = channels(adapter);
        for at in 0..vector.body.len() {
            let mut body = vector.body.clone();
            body[at] ^= 1 << random.below(8);
            if let Ok(envelope) = decode(&channels, vector.channel.as_bytes(), &body) {
                again(adapter, &envelope);
            }
        }
    }
}

fn msgpack(json: &Value) -> Vec<u8> {
    let mut body = Vec::new();
    from_json::<&[u8]>(&json.to_string(), &[], &mut body);
    body
}

fn read(adapter: Adapter, channel: &str, body: &[u8]) -> Result<Envelope, MessageError> {
    decode(&channels(adapter), channel.as_bytes(), body)
}

#[test]
fn broadcasts_that_would_harm_clients_or_mean_nothing_are_refused() {
    let packet = json!({"type": 2, "data": ["a", 1], "nsp": "/"});
    let options = json!({"rooms": ["r"], "except": [], "flags": {}});
    let with_data = |data: Value| json!(["x", {"type": 2, "data": data, "nsp": "/"}, options]);
    for (body, error) in [
        (json!(["x", packet]), MessageError::Shape),
        (json!(["x"]), MessageError::Shape),
        (json!([]), MessageError::Shape),
        (json!({"type": 2}), MessageError::Shape),
        (json!(["x", packet, null]), MessageError::Shape),
        (json!(["x", packet, []]), MessageError::Shape),
        (json!(["x", packet, {"rooms": "r"}]), MessageError::Shape),
        (json!(["x", packet, {"rooms": [null]}]), MessageError::Shape),
        (json!(["x", packet, {"rooms": [], "except": 1}]), MessageError::Shape),
        (json!(["x", packet, {"rooms": [], "flags": 1}]), MessageError::Shape),
        (json!(["x", null, options]), MessageError::Shape),
        (json!(["x", {"type": 5, "data": ["a"], "nsp": "/"}, options]), MessageError::Packet),
        (json!(["x", {"type": "2", "data": ["a"], "nsp": "/"}, options]), MessageError::Packet),
        (json!(["x", {"data": ["a"], "nsp": "/"}, options]), MessageError::Packet),
        (json!(["x", {"type": 2, "nsp": "/"}, options]), MessageError::Packet),
        (with_data(json!("a")), MessageError::Packet),
        (with_data(json!([])), MessageError::Packet),
        (with_data(json!([{}])), MessageError::Packet),
        (with_data(json!(["connect"])), MessageError::Packet),
        (with_data(json!(["disconnect", 1])), MessageError::Packet),
        (json!(["x", {"type": 2, "data": ["a"], "nsp": "/admin"}, options]), MessageError::OtherNamespace),
        (json!(["x", {"type": 2, "data": ["a"], "nsp": 1}, options]), MessageError::OtherNamespace),
    ] {
        assert_eq!(read(Adapter::Classic, "socket.io#/#r#", &msgpack(&body)), Err(error), "{body}");
    }
    // Without a namespace it is for the first one, and for no other.
    let unnamed = msgpack(&json!(["x", {"type": 2, "data": ["a"]}, options]));
    assert!(read(Adapter::Classic, "socket.io#/#r#", &unnamed).is_ok());
    assert_eq!(read(Adapter::Classic, "socket.io#/admin#r#", &unnamed), Err(MessageError::OtherNamespace));
}

#[test]
fn broadcasts_that_are_merely_odd_are_read_as_node_reads_them() {
    let packet = json!({"type": 2, "data": ["a", 1], "nsp": "/"});
    for (body, rooms) in [
        (json!(["x", packet, {}]), json!([])),
        (json!(["x", packet, {"rooms": null, "except": null, "flags": null}]), json!([])),
        (
            json!(["x", packet, {"rooms": [42, "r", null, {}, 1.5, -1]}]),
            json!(["\u{fdd0}42", "r", "\u{fdd0}1.5", "\u{fdd0}-1"]),
        ),
        (json!([1, packet, {"rooms": ["r"], "flags": {"local": true, "broadcast": true}}, "more"]), json!(["r"])),
    ] {
        let envelope = read(Adapter::Classic, "socket.io#/#r#", &msgpack(&body)).expect("read");
        let meaning = meaning(&envelope.message);
        assert_eq!(meaning["broadcast"]["rooms"], rooms, "{body}");
        assert_eq!(meaning["broadcast"]["args"], json!(["a", 1]), "{body}");
    }
    // Of two same keys the last one counts.
    let twice = "93a17884a47479706505a474797065 02a4646174619 1a161a36e7370a12f80".replace(' ', "");
    assert!(read(Adapter::Classic, "socket.io#/#", &bytes_of(&twice)).is_ok());
}

#[test]
fn questions_and_answers_without_their_parts_are_refused() {
    use MessageError::{Shape, UnknownType};
    for (channel, body, error) in [
        ("request", json!({}), Shape),
        ("request", json!({"type": 10}), UnknownType),
        ("request", json!({"type": -1, "requestId": "a"}), Shape),
        ("request", json!({"type": 1.5, "requestId": "a"}), Shape),
        ("request", json!({"type": "5", "requestId": "a"}), Shape),
        ("request", json!({"type": 0, "rooms": []}), Shape),
        ("request", json!({"type": 1}), Shape),
        ("request", json!({"type": 1, "requestId": 7}), Shape),
        ("request", json!({"type": 2, "rooms": ["a"]}), Shape),
        ("request", json!({"type": 2, "sid": "a"}), Shape),
        ("request", json!({"type": 3, "opts": [], "rooms": ["a"]}), Shape),
        ("request", json!({"type": 4}), Shape),
        ("request", json!({"type": 5, "requestId": "a"}), Shape),
        ("request", json!({"type": 6, "requestId": "a"}), Shape),
        ("request", json!({"type": 6, "data": "a"}), Shape),
        ("request", json!({"type": 7, "requestId": "a", "opts": {}}), Shape),
        ("response", json!({"sockets": []}), Shape),
        ("response", json!({"requestId": "a", "sockets": 1}), Shape),
        ("response", json!({"requestId": "a", "sockets": [{}]}), Shape),
        ("response", json!({"requestId": "a", "sockets": ["a", 1]}), Shape),
        ("response", json!({"requestId": "a", "rooms": "b"}), Shape),
        ("response", json!({"requestId": "a", "type": 8}), Shape),
        ("response", json!({"requestId": "a", "type": 8, "clientCount": "1"}), Shape),
        ("response", json!({"requestId": "a", "type": 5}), UnknownType),
        ("response", json!([]), Shape),
    ] {
        let channel = format!("socket.io-{channel}#/#");
        let expected = Err(error);
        assert_eq!(read(Adapter::Classic, &channel, &msgpack(&body)), expected, "{body} in msgpack");
        if body.is_object() {
            assert_eq!(read(Adapter::Classic, &channel, body.to_string().as_bytes()), expected, "{body} in JSON");
        }
    }
}

#[test]
fn messages_of_the_sharded_adapter_without_their_parts_are_refused() {
    use MessageError::{Channel, OtherNamespace, Packet, Shape, UnknownType};
    let options = json!({"rooms": [], "except": []});
    for (body, error) in [
        (json!({"type": 3, "data": {}, "nsp": "/"}), Shape),
        (json!({"type": 3, "nsp": "/"}), UnknownType),
        (json!({"type": 3, "data": {"packet": {"type": 2, "data": ["a"]}, "opts": null}, "nsp": "/"}), Shape),
        (json!({"type": 3, "data": {"packet": {"type": 5, "data": ["a"]}, "opts": options}, "nsp": "/"}), Packet),
        (json!({"type": 4, "data": {"rooms": ["a"]}, "nsp": "/"}), Shape),
        (json!({"type": 7, "data": {"opts": options}, "nsp": "/"}), Shape),
        (json!({"type": 7, "data": {"opts": options, "requestId": "a"}}), Shape),
        (json!({"type": 7, "data": {"opts": options, "requestId": "a"}, "nsp": "/admin"}), OtherNamespace),
        (json!({"type": 1, "uid": "a", "nsp": "/"}), UnknownType),
        (json!({"type": 13, "data": {}, "nsp": "/"}), UnknownType),
        (json!({"type": 11, "data": {"requestId": "a", "clientCount": 1}, "nsp": "/"}), Channel),
        (json!({"type": null, "data": {}, "nsp": "/"}), Shape),
    ] {
        assert_eq!(read(Adapter::Sharded, "socket.io#/#", body.to_string().as_bytes()), Err(error), "{body}");
        assert_eq!(read(Adapter::Sharded, "socket.io#/#", &msgpack(&body)), Err(error), "{body}");
    }
}

#[test]
fn declared_lengths_cost_nothing_and_depth_has_an_end() {
    let deep = |depth: usize| {
        let mut body = b"\x93\xa1x\x82\xa4type\x02\xa4data\x92\xa1a".to_vec();
        body.extend(vec![0x91; depth]);
        body.extend_from_slice(b"\xc0\x80");
        body
    };
    assert!(read(Adapter::Classic, "socket.io#/#", &deep(125)).is_ok());
    for (body, error) in [
        (deep(126), MessageError::TooDeep),
        (deep(1_000_000), MessageError::TooDeep),
        (b"\x93\xa1x\xc6\x04\x00\x00\x00aaaa".to_vec(), MessageError::Syntax),
        (b"\xdd\xff\xff\xff\xff\xc0".to_vec(), MessageError::Syntax),
        (b"\xdf\xff\xff\xff\xff\xa1a\xc0".to_vec(), MessageError::Syntax),
        (b"\xdb\xff\xff\xff\xffabc".to_vec(), MessageError::Syntax),
        (b"\xc9\xff\xff\xff\xff\x00abc".to_vec(), MessageError::Syntax),
        (b"\xc1".to_vec(), MessageError::Syntax),
        (Vec::new(), MessageError::Syntax),
        (vec![0xc0; MESSAGE_BYTES_MAX + 1], MessageError::TooLong),
    ] {
        let begin = body[..body.len().min(20)].escape_ascii().to_string();
        assert_eq!(read(Adapter::Classic, "socket.io#/#", &body), Err(error), "{begin}");
    }
    let json = format!("{{\"type\":6,\"data\":[\"a\",{}{}]}}", "[".repeat(200), "]".repeat(200));
    assert_eq!(read(Adapter::Classic, "socket.io-request#/#", json.as_bytes()), Err(MessageError::TooDeep));
}

#[test]
fn byte_strings_are_limited_and_nobody_can_pretend_one() {
    let with = |values: &[u8], count: u8| {
        [b"\x93\xa1x\x82\xa4type\x02\xa4data\xdc\x01".as_slice(), &[count], b"\xa1a", values, b"\x80"].concat()
    };
    // 0x100 + count items, the name among them.
    assert!(read(Adapter::Classic, "socket.io#/#", &with(&b"\xc4\x00".repeat(255), 0)).is_ok());
    let more = read(Adapter::Classic, "socket.io#/#", &with(&b"\xc4\x00".repeat(256), 1));
    assert_eq!(more, Err(MessageError::TooManyAttachments));

    let fake = |rest: &[u8]| {
        let fake = b"\x82\xac_placeholder\xc3\xa3num\x63";
        [b"\x93\xa1x\x82\xa4type\x02\xa4data\x93\xa1a".as_slice(), fake, rest, b"\x80"].concat()
    };
    assert_eq!(read(Adapter::Classic, "socket.io#/#", &fake(b"\xc4\x00")), Err(MessageError::Packet));
    // Neither does one pretend that says it is none.
    let honest = b"\x93\xa1x\x82\xa4type\x02\xa4data\x93\xa1a\x81\xac_placeholder\xc2\xc4\x00\x80";
    assert!(read(Adapter::Classic, "socket.io#/#", honest).is_ok());
    // Without byte strings it is a map like any other, and goes out as one.
    let plain = read(Adapter::Classic, "socket.io#/#", &fake(b"\xc0")).expect("an event");
    again(Adapter::Classic, &plain);
}

#[test]
fn text_that_is_not_utf8_arrives_with_its_broken_characters_replaced() {
    let body = b"\x93\xa1x\x82\xa4type\x02\xa4data\x92\xa1a\xa3b\xffc\x81\xa5rooms\x91\xa1r";
    let envelope = read(Adapter::Classic, "socket.io#/#r#", body).expect("an event");
    assert_eq!(meaning(&envelope.message)["broadcast"]["args"], json!(["a", "b\u{fffd}c"]));
    let body = b"{\"type\":6,\"data\":[\"a\",\"b\xffc\"]}";
    let envelope = read(Adapter::Classic, "socket.io-request#/#", body).expect("an event");
    assert_eq!(meaning(&envelope.message)["server side"], json!(["a", "b\u{fffd}c"]));
}

#[test]
fn other_channels_are_refused() {
    let body = &VECTORS[0].body;
    for channel in [
        "",
        "socket.io",
        "socket.io#",
        "socket.io#/other#",
        "socket.io#/",
        "socket.io#/#r",
        "other#/#",
        "socket.io-x#/#",
    ] {
        assert_eq!(read(Adapter::Classic, channel, body), Err(MessageError::Channel), "{channel}");
    }
    assert_eq!(decode(&channels(Adapter::Classic), b"socket.io#/#\xff#", body), Err(MessageError::Channel));
}

/// What the caller compares with the rooms that it knows: a message to two rooms may come on the channel of one.
#[test]
fn the_rooms_of_a_message_need_not_be_that_of_its_channel() {
    let body = msgpack(&json!(["x", {"type": 2, "data": ["a"]}, {"rooms": ["r1", "zzz"]}]));
    let channels = channels(Adapter::Classic);
    let envelope = decode(&channels, b"socket.io#/#zzz#", &body).expect("an event");
    let Message::Broadcast(broadcast) = envelope.message else { panic!("a broadcast") };
    assert_eq!(broadcast.rooms, [Box::<str>::from("r1"), Box::from("zzz")]);
    assert_eq!(channels.places(b"socket.io#/#zzz#").next().expect("ours").kind, ChannelKind::Room("zzz"));
}

#[test]
fn old_emitters_write_an_empty_text_for_no_rooms_and_no_flags() {
    let body = b"\x93\xa7emitter\x82\xa4type\x02\xa4data\x91\xa1a\x82\xa5rooms\xa0\xa5flags\xa0";
    let Ok(Envelope { message: Message::Broadcast(broadcast), .. }) = read(Adapter::Classic, "socket.io#/#", body)
    else {
        panic!("an event")
    };
    assert!(broadcast.rooms.is_empty() && broadcast.except.is_empty());
}

#[test]
fn a_client_that_is_closed_comes_back_only_if_that_is_said() {
    for (rest, ending) in [
        ("\"close\":false", Ending::Socket),
        ("\"close\":true", Ending::Client),
        ("\"close\":true,\"reconnect\":true", Ending::Session),
    ] {
        let body = format!("{{\"uid\":\"x\",\"type\":4,\"opts\":{{\"rooms\":[],\"except\":[]}},{rest}}}");
        let envelope = read(Adapter::Classic, "socket.io-request#/#", body.as_bytes()).expect("an order");
        assert!(matches!(&envelope.message, Message::Disconnect { ending: read, .. } if *read == ending), "{rest}");
        again(Adapter::Classic, &envelope);
    }
}
