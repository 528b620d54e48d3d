//! All captured commands of the streams adapter: each entry, message and session means what it was captured as, and is the same
//! bytes when we write it, or means the same for a reason that is named. And what would stop Node's readers.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use serde_json::{Value, json};

use super::random::Random;
use super::vectors::expected_sharded;
use super::{channels, meaning, without_old_forms};
use crate::adapter::{
    Adapter, Broadcast, EntryId, Envelope, Message, MessageError, StoredSession, StreamEntry, decode, decode_entry,
    encode, encode_entry, stream_of,
};
use crate::msgpack::from_json;

static VECTORS: LazyLock<Vec<Value>> =
    LazyLock::new(|| serde_json::from_str(include_str!("../../vectors/streams-vectors.json")).expect("the vectors"));

/// Entries that Node was given by hand and made nothing of.
const UNREADABLE: [(&str, MessageError); 12] = [
    ("foreign/broken json", MessageError::Syntax),
    ("foreign/broken base64", MessageError::Syntax),
    ("foreign/unknown type", MessageError::UnknownType),
    ("foreign/a field that Node does not know before nsp is empty", MessageError::OtherNamespace),
    ("poison/no data", MessageError::Shape),
    ("poison/data null", MessageError::Shape),
    ("poison/no opts", MessageError::Shape),
    ("poison/opts null", MessageError::Shape),
    ("poison/no packet", MessageError::Shape),
    ("poison/rooms a string", MessageError::Shape),
    ("poison/packet without data", MessageError::Packet),
    ("poison/type 5", MessageError::Packet),
];

/// The bytes of an argument.
fn bytes_of(argument: &Value) -> Vec<u8> {
    match argument.get("b64").and_then(Value::as_str) {
        Some(text) => base64::Engine::decode(&base64::prelude::BASE64_STANDARD, text).expect("base64"),
        None => argument.as_str().expect("a text").as_bytes().to_vec(),
    }
}

/// Names and values, which stand one behind the other.
fn pairs(flat: &[Vec<u8>]) -> impl Iterator<Item = (&[u8], &[u8])> {
    flat.chunks(2).map(|pair| (&*pair[0], &*pair[1]))
}

fn read(fields: &[(&str, Vec<u8>)]) -> Result<StreamEntry, MessageError> {
    decode_entry(fields.iter().map(|(name, value)| (name.as_bytes(), &**value)))
}

#[test]
fn every_captured_command_is_read_as_it_was_meant_and_written_as_node_writes_it() {
    let mut counts = BTreeMap::new();
    for vector in VECTORS.iter() {
        let name = vector["name"].as_str().expect("a name").strip_prefix("streams/").expect("the prefix");
        for command in vector["commands"].as_array().expect("commands") {
            let args: Vec<Vec<u8>> = command["args"].as_array().expect("args").iter().map(bytes_of).collect();
            let verb = String::from_utf8(args[0].to_ascii_uppercase()).expect("text");
            match verb.as_str() {
                "XADD" => check_added(name, &args, &command["decoded"]["value"]),
                "PUBLISH" | "SPUBLISH" => check_published(name, &args[1], &args[2], &command["decoded"]["value"]),
                "SET" => check_session(name, vector, &args, &command["decoded"]["value"]),
                "XRANGE" => check_range(&command["reply"]),
                "SUBSCRIBE" | "SSUBSCRIBE" => args[1..].iter().for_each(|channel| check_subscribed(name, channel)),
                "PUBSUB" => assert_eq!(args[2], counted(name).into_bytes(), "{name}"),
                // Who is connected, and how a stream is read on and a session is taken: nothing of these is ours to write.
                "XREAD" | "HELLO" | "CLIENT" | "INFO" | "MULTI" | "GET" | "DEL" | "EXEC" => {}
                other => panic!("{name}: {other}"),
            }
            *counts.entry(verb).or_insert(0) += 1;
        }
    }
    assert_eq!(VECTORS.len(), 107);
    let of = |verb: &str| counts.get(verb).copied().unwrap_or(0);
    assert_eq!((of("XADD"), of("PUBLISH"), of("SPUBLISH"), of("SET"), of("XRANGE")), (67, 22, 4, 10, 10));
}

fn prefix(name: &str) -> &'static str {
    if name.contains("/options ") { "pre" } else { "socket.io" }
}

fn counted(name: &str) -> String {
    format!("{}#/#", prefix(name))
}

fn check_subscribed(name: &str, channel: &[u8]) {
    let channels = crate::adapter::Channels::new(Adapter::Streams, prefix(name), &["/", "/admin"]);
    let place = channels.places(channel).next().unwrap_or_else(|| panic!("{name}: {}", channel.escape_ascii()));
    let uid = if let crate::adapter::ChannelKind::Room(uid) = place.kind { uid } else { "x" };
    let own = channels.of_instance(place.namespace, uid);
    assert!(own.iter().any(|own| own.as_bytes() == channel), "{name}: {own:?}");
}

fn check_added(name: &str, args: &[Vec<u8>], decoded: &Value) {
    let begin = args.iter().position(|argument| argument == b"*").expect("an id") + 1;
    let fields = &args[begin..];
    let entry = decode_entry(pairs(fields));
    if let Some((_, error)) = UNREADABLE.iter().find(|(unreadable, _)| *unreadable == name) {
        assert_eq!(entry, Err(*error), "{name}");
        return;
    }
    // This one is there between the others of its kind, of which Node makes something.
    if name == "poison/socketsJoin without rooms" {
        assert!(
            matches!(entry, Ok(StreamEntry { envelope: Envelope { message: Message::Join { .. }, .. }, .. })),
            "{entry:?}"
        );
        return;
    }
    let field = |name: &[u8]| pairs(fields).find(|(key, _)| *key == name).map(|(_, value)| value);
    let text = |name: &[u8]| field(name).map(|value| String::from_utf8(value.to_vec()).expect("text"));
    let StreamEntry { envelope, number } = entry.unwrap_or_else(|error| panic!("{name}: {error}"));
    assert_eq!((envelope.uid.as_deref(), number), (text(b"uid").as_deref(), None), "{name}");
    let data = match decoded.is_null() {
        false => decoded.clone(),
        true => match serde_json::from_str(&text(b"data").expect("data")) {
            Ok(data) => data,
            // One of those by hand is msgpack without need.
            Err(_) => {
                let packet = json!({ "type": 2, "data": ["f4", { "a": 1 }] });
                json!({ "packet": packet, "opts": { "rooms": ["user:2"], "except": [], "flags": {} } })
            }
        },
    };
    let kind: u64 = text(b"type").expect("type").parse().expect("a number");
    let mut whole = json!({ "type": kind, "data": data, "nsp": text(b"nsp") });
    if let Some(options) = whole["data"]["opts"].as_object_mut() {
        options.entry("except").or_insert_with(|| json!([]));
    }
    assert_eq!(meaning(&envelope.message), expected_sharded(&whole), "{name}");
    if name.starts_with("foreign") || name.starts_with("poison") {
        return;
    }
    let stream = if prefix(name) == "pre" { stream_of("my", 3, &envelope.namespace) } else { "socket.io".to_owned() };
    assert_eq!(args[1], stream.into_bytes(), "{name}");
    let uid = envelope.uid.as_deref().expect("a uid");
    let written = encode_entry(uid, &envelope.namespace, &envelope.message, None).expect("an entry");
    let flat: Vec<Vec<u8>> =
        written.iter().flat_map(|(name, value)| [name.as_bytes().to_vec(), value.clone()]).collect();
    match reason(&data) {
        None => assert_eq!(flat, fields, "{name}"),
        Some(reason) => assert_ne!(flat, fields, "{name} is the same: {reason}"),
    }
}

/// Why ours differs.
fn reason(data: &Value) -> Option<&'static str> {
    let text = data.to_string();
    if data.pointer("/packet/id").is_some() {
        return Some("a packet's id is of use to its sender alone");
    }
    if text.contains("\"$date\"") {
        return Some("dates have become what they are in JSON");
    }
    text.contains("\"compress\"").then_some("flags that mean nothing here are dropped")
}

fn check_published(name: &str, channel: &[u8], body: &[u8], decoded: &Value) {
    let channels = crate::adapter::Channels::new(Adapter::Streams, prefix(name), &["/", "/admin"]);
    let envelope = decode(&channels, channel, body).unwrap_or_else(|error| panic!("{name}: {error}"));
    assert_eq!(envelope.uid.as_deref(), decoded["uid"].as_str(), "{name}");
    assert_eq!(meaning(&envelope.message), expected_sharded(decoded), "{name}");
    let uid = envelope.uid.as_deref().expect("a uid");
    let outgoing = encode(&channels, uid, &envelope.namespace, &envelope.message).expect("a message");
    assert_eq!(outgoing.channel.as_bytes(), channel, "{name}");
    let has_handshake = decoded.pointer("/data/sockets/0/handshake").is_some();
    assert_eq!(outgoing.body == body, !has_handshake, "{name}: only our handshakes are empty");
}

fn check_session(name: &str, vector: &Value, args: &[Vec<u8>], decoded: &Value) {
    let session = StoredSession::decode(&args[2]);
    if name == "foreign/session: broken" {
        assert_eq!(session, Err(MessageError::Syntax));
        return;
    }
    let session = session.unwrap_or_else(|error| panic!("{name}: {error}"));
    assert!(args[1].ends_with(session.pid.as_bytes()), "{name}");
    if let Some(id) = vector.pointer("/result/id") {
        assert_eq!(id, &*session.sid, "{name}");
    }
    if decoded.is_null() {
        return;
    }
    let data: Value = serde_json::from_slice(&session.data).expect("JSON");
    let said = json!({ "sid": session.sid, "pid": session.pid, "rooms": session.rooms, "data": data });
    assert_eq!(&said, decoded, "{name}");
    assert_eq!(session.encode().into_bytes(), args[2], "{name}");
    assert_eq!(args[3..], [b"PX".to_vec(), b"120000".to_vec()], "{name}");
}

/// What stands in a stream is what was added.
fn check_range(reply: &Value) {
    for entry in reply.as_array().expect("entries") {
        let id = entry[0].as_str().expect("an id");
        assert_eq!(EntryId::decode(id.as_bytes()).expect("an id").to_string(), id);
        let fields: Vec<Vec<u8>> = entry[1].as_array().expect("fields").iter().map(bytes_of).collect();
        assert!(decode_entry(pairs(&fields)).is_ok(), "{entry}");
    }
}

/// What Node's reader does before it goes on to the next entry: where this fails it reads the same one again, for ever.
fn stops_node(fields: &[(&str, Vec<u8>)]) -> bool {
    let field = |name: &str| fields.iter().find(|(field, _)| *field == name).map(|(_, value)| value);
    let (Some(kind), Some(data)) = (field("type"), field("data")) else { return true };
    let data: Value = match data.starts_with(b"{") {
        true => match serde_json::from_slice(data) {
            Ok(data) => data,
            // What serde_json does not take for other reasons was taken by our own scanner.
            Err(_) => return false,
        },
        false => return false,
    };
    let is_set = |pointer: &str| data.pointer(pointer).is_some_and(|value| !value.is_null());
    match kind.as_slice() {
        b"3" => !(is_set("/opts") && data.pointer("/packet/data").is_some_and(Value::is_array)),
        b"4" | b"5" | b"6" => !is_set("/opts"),
        _ => true,
    }
}

#[test]
fn nothing_that_is_written_stops_nodes_readers_and_all_of_it_is_read_as_it_was() {
    let mut entries = 0;
    for seed in 0..1500 {
        let message = Random(seed).message();
        let Some(fields) = encode_entry("me", "/", &message, Some(seed)) else { continue };
        entries += 1;
        assert!(!stops_node(&fields), "seed {seed}: {fields:?}");
        let envelope = Envelope { uid: Some("me".into()), namespace: "/".into(), message };
        let expected = StreamEntry { envelope, number: Some(seed) };
        assert_eq!(read(&fields).as_ref(), Ok(&expected), "seed {seed}: {fields:?}");
    }
    assert!(entries > 500, "{entries}");
    for (fields, stops) in [("poison/no opts", true), ("poison/rooms a string", false), ("poison/type 5", false)] {
        let vector = VECTORS.iter().find(|vector| vector["name"] == json!(format!("streams/{fields}"))).expect("it");
        let args = &vector["commands"][0]["args"];
        let fields = [("type", bytes_of(&args[8])), ("data", bytes_of(&args[10]))];
        assert_eq!(stops_node(&fields), stops, "{args}");
    }
}

#[test]
fn what_is_asked_goes_beside_the_stream_and_what_is_done_goes_into_it() {
    for seed in 0..500 {
        let message = Random(seed).message();
        let is_done = matches!(
            message,
            Message::Broadcast(_) | Message::Join { .. } | Message::Leave { .. } | Message::Disconnect { .. }
        );
        assert_eq!(encode_entry("me", "/", &message, None).is_some(), is_done, "{message:?}");
        let Some(outgoing) = encode(&channels(Adapter::Streams), "me", "/", &message) else { continue };
        assert!(!is_done, "{message:?}");
        assert_ne!(outgoing.body.first(), Some(&b'{'), "Node reads nothing but msgpack there");
        let read = decode(&channels(Adapter::Streams), outgoing.channel.as_bytes(), &outgoing.body).expect("a message");
        assert_eq!(read.message, without_old_forms(&message));
    }
}

#[test]
fn an_entry_that_is_cut_or_has_a_wrong_bit_is_refused_or_means_something() {
    let mut random = Random(1);
    for vector in VECTORS.iter() {
        for command in vector["commands"].as_array().expect("commands") {
            let args: Vec<Vec<u8>> = command["args"].as_array().expect("args").iter().map(bytes_of).collect();
            let Some(data) = args.last().filter(|_| args[0].eq_ignore_ascii_case(b"XADD")) else { continue };
            for at in 0..data.len() {
                let entry =
                    |data: &[u8]| read(&[("nsp", b"/".to_vec()), ("type", b"3".to_vec()), ("data", data.to_vec())]);
                // Of base64 the padding may be missing.
                let is_whole = data[at..].iter().all(|byte| *byte == b'=');
                assert!(is_whole || entry(&data[..at]).is_err(), "{} at {at}", vector["name"]);
                let mut wrong = data.clone();
                wrong[at] ^= 1 << random.below(8);
                if let Ok(StreamEntry { envelope, .. }) = entry(&wrong) {
                    let fields = encode_entry("me", "/", &envelope.message, None);
                    assert!(fields.is_none_or(|fields| !stops_node(&fields)), "{}", wrong.escape_ascii());
                }
            }
        }
    }
}

#[test]
fn fields_that_are_missing_doubled_or_none_of_ours_are_passed_over() {
    let event = br#"{"packet":{"type":2,"data":["a"]},"opts":{"rooms":[]}}"#.to_vec();
    let fields = |changes: &[(&'static str, &[u8])]| {
        let mut fields = vec![("nsp", b"/".to_vec()), ("type", b"3".to_vec()), ("data", event.clone())];
        for (name, value) in changes {
            fields.retain(|(field, _)| field != name);
            fields.push((name, value.to_vec()));
        }
        read(&fields)
    };
    assert!(fields(&[("uid", b"\xff"), ("ttl", b"60"), ("n", b"x")]).is_ok_and(|entry| entry.number.is_none()));
    for (changes, error) in [
        (&[("type", b"".as_slice())], MessageError::UnknownType),
        (&[("type", b"3x")], MessageError::UnknownType),
        (&[("type", b"-3")], MessageError::UnknownType),
        (&[("type", b"12")], MessageError::Channel),
        (&[("nsp", b"")], MessageError::OtherNamespace),
        (&[("nsp", b"\xff")], MessageError::OtherNamespace),
        (&[("data", b"")], MessageError::Syntax),
        (&[("data", b"[]")], MessageError::Syntax),
        (&[("data", b"{}")], MessageError::Shape),
        (&[("data", b"{} ")], MessageError::Shape),
    ] {
        assert_eq!(fields(changes), Err(error), "{changes:?}");
    }
    let mut deep = Vec::new();
    let text = format!("{{\"packet\":{}1{}}}", "[".repeat(200), "]".repeat(200));
    from_json::<&[u8]>(&text, &[], &mut deep);
    let deep = base64::Engine::encode(&base64::prelude::BASE64_STANDARD, deep);
    assert_eq!(fields(&[("data", text.as_bytes())]), Err(MessageError::TooDeep));
    assert!(matches!(fields(&[("data", deep.as_bytes())]), Err(MessageError::TooDeep | MessageError::Shape)));
}

#[test]
fn a_namespace_has_the_stream_that_node_gives_it() {
    for (count, namespace, stream) in
        [(1, "/", "s"), (3, "/", "s-2"), (3, "/admin", "s-1"), (3, "/chat-room-1", "s--2"), (0, "/x", "s")]
    {
        assert_eq!(stream_of("s", count, namespace), stream, "{namespace}");
    }
}

#[test]
fn ids_are_in_the_order_of_their_stream() {
    let id = |text: &str| EntryId::decode(text.as_bytes());
    assert!(id("9-10") < id("10-0") && id("10-2") < id("10-10"));
    for text in ["", "1", "1-", "-1", "+1-0", "1-0-0", "1-0x", "99999999999999999999-0"] {
        assert_eq!(id(text), None, "{text}");
    }
}

#[test]
fn a_session_is_read_with_what_others_leave_out_or_add() {
    let of = |value: Value| {
        let mut bytes = Vec::new();
        from_json::<&[u8]>(&value.to_string(), &[], &mut bytes);
        StoredSession::decode(base64::Engine::encode(&base64::prelude::BASE64_STANDARD_NO_PAD, bytes).as_bytes())
    };
    let session = of(json!({ "sid": "s", "pid": "p", "rooms": ["a", 5, null], "more": 1 })).expect("a session");
    assert_eq!((&*session.data, session.rooms.len()), (b"null".as_slice(), 2));
    assert_eq!(StoredSession::decode(session.encode().as_bytes()), Ok(session));
    for value in [json!({ "sid": "s", "pid": "p" }), json!({ "sid": 1, "pid": "p", "rooms": [] }), json!([])] {
        assert_eq!(of(value.clone()), Err(MessageError::Shape), "{value}");
    }
}

#[test]
fn an_event_of_nobody_reads_as_a_broadcast_to_all() {
    let broadcast = Broadcast::new("/admin", Vec::new(), br#"["a",1]"#.as_slice().into());
    let message = Message::Broadcast(broadcast);
    let fields = encode_entry("me", "/admin", &message, None).expect("an entry");
    assert_eq!(fields[3].1, br#"{"packet":{"type":2,"data":["a",1]},"opts":{"rooms":[],"except":[],"flags":{}}}"#);
    assert_eq!(read(&fields).expect("an entry").envelope.message, message);
}
