//! `api`: bodies of emits, one and a list of them, with serde_json for a second opinion.

use serde_json::Value;
use sockring::api::{BodyError, decode_emit, decode_emits};
use sockring_protocol::adapter::{Broadcast, Delivery};
use sockring_protocol::json;
use sockring_protocol::socketio::{PacketLimits, RESERVED_EVENTS, SocketPacket};

use crate::text_of;

const SERVER: &str = "fuzz";
/// Small, so that small lists reach it.
const COUNT_MAX: usize = 4;

/// Takes the bytes as the body of an emit, and of a batch.
pub fn api(data: &[u8]) {
    let emit = decode_emit(data, SERVER, 0);
    let batch = decode_emits(data, COUNT_MAX, SERVER, 0);
    let text = std::str::from_utf8(data).ok().filter(|text| json::check(text).is_ok());
    let Some(text) = text else {
        assert_eq!(emit.map_err(|error| error.status), Err(400), "what is no JSON is a bad request");
        assert_eq!(batch.map_err(|error| error.status), Err(400));
        return;
    };
    let is_object = text.trim_ascii_start().starts_with('{');
    assert_eq!(emit.as_ref().is_err_and(|error| error.status == 400), !is_object);
    assert_eq!(batch.as_ref().is_err_and(|error| error.status == 400), !text.trim_ascii_start().starts_with('['));
    match &emit {
        Ok(broadcast) => check(text, broadcast),
        Err(error) => check_error(error),
    }
    match batch {
        Ok(list) => {
            let elements: Vec<&str> = json::Elements::of(text.trim_ascii()).collect();
            assert!((1..=COUNT_MAX).contains(&list.len()) && elements.len() == list.len());
            for (index, (element, decoded)) in elements.into_iter().zip(list).enumerate() {
                // Alone it means the same; what is wrong with it is said with its place.
                match (decoded, decode_emit(element.as_bytes(), SERVER, 0)) {
                    (Ok(one), Ok(other)) => assert_eq!(one, other),
                    (Err(one), Err(other)) => {
                        assert_eq!(one.status, other.status);
                        assert_eq!(one.path, format!("[{index}].{}", other.path));
                    }
                    (one, other) => panic!("{one:?} in a list, {other:?} alone"),
                }
            }
        }
        Err(error) => check_error(&error),
    }
}

fn check_error(error: &BodyError) {
    assert!(matches!(error.status, 400 | 422), "{error:?}");
    assert!(!error.message.is_empty());
}

/// What is emitted is what the body says, as somebody else reads it.
fn check(text: &str, broadcast: &Broadcast) {
    let args = text_of(&broadcast.args);
    let packet = format!("2{args}");
    match SocketPacket::decode(&packet, &PacketLimits::default()) {
        Ok(SocketPacket::Event { namespace: "/", ack: None, .. }) => {}
        other => panic!("{other:?}: {args}"),
    }
    assert!(broadcast.namespace.starts_with('/') && broadcast.attachments.is_empty());
    assert!(broadcast.rooms.is_sorted() && broadcast.rooms.windows(2).all(|two| two[0] != two[1]));
    // serde_json refuses halves of surrogate pairs, and numbers that no double holds.
    let Ok(body) = serde_json::from_str::<Value>(text) else { return };
    let args: Value = serde_json::from_str(args).expect("arguments");
    assert_eq!(args[0], body["event"]);
    assert!(args[0].as_str().is_some_and(|name| !name.is_empty() && !RESERVED_EVENTS.contains(&name)));
    match &body["data"] {
        Value::Null => {}
        Value::Object(data) => assert!(data.iter().all(|(key, value)| args[1][key] == *value), "{args}"),
        data => assert_eq!(args[1], *data),
    }
    assert_eq!(broadcast.delivery == Delivery::Volatile, body["volatile"] == true);
    assert_eq!(broadcast.rooms.is_empty(), body["broadcast"] == true);
    let is_named = |name: &str| !body[name].is_null();
    let targets = ["user", "userId", "users", "room", "rooms"].into_iter().filter(|name| is_named(name)).count();
    assert_eq!(targets + usize::from(body["broadcast"] == true), 1, "one kind of target");
    for (name, prefix) in [("user", "user:"), ("userId", "user:"), ("room", "")] {
        if let Value::String(target) = &body[name] {
            let room = [prefix, target].concat();
            assert!(broadcast.rooms.iter().map(|room| &**room).eq([room.as_str()]));
        }
    }
}
