//! All captured messages: each means what it was captured as, and what we send of its kind is the same bytes, or means the
//! same for a reason that is named.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::{VECTORS, Vector, again, channels, hex_of, meaning};
use crate::adapter::fields::TIMEOUT_MS_DEFAULT;
use crate::adapter::room::of_number;
use crate::adapter::{Adapter, MessageError, encode};

/// How many messages each group has, and what is expected of them.
const GROUPS: [(&str, usize, &str); 7] = [
    ("classic", 58, "the classic adapter reads them"),
    ("sharded-dynamic", 28, "the sharded adapter reads them"),
    ("sharded-static", 28, "the sharded adapter reads them"),
    ("sharded-dynamic-private", 28, "the sharded adapter reads them"),
    ("misc", 23, "the adapter of their command reads them"),
    ("streams", 26, "no adapter of ours: refused, but for the shape that it shares with the sharded one"),
    ("csr-wire", 15, "what a client hears: refused"),
];

#[test]
fn every_captured_message_is_read_as_it_was_meant_or_refused() {
    let mut counts = BTreeMap::new();
    for vector in VECTORS.iter() {
        *counts.entry(vector.group()).or_insert(0) += 1;
        match vector.adapter() {
            Some(adapter) => check_read(vector, adapter),
            None => check_refused(vector),
        }
    }
    assert_eq!(counts, GROUPS.iter().map(|(group, count, _)| (*group, *count)).collect());
    assert_eq!(VECTORS.len(), 206);
}

fn check_read(vector: &Vector, adapter: Adapter) {
    let name = &vector.name;
    let envelope = vector.decode(adapter).unwrap_or_else(|error| panic!("{name}: {error}"));
    let decoded = &vector.decoded;
    let (uid, namespace) = match adapter {
        // An answer of Node's does not say whose it is.
        Adapter::Classic => (decoded.get(0).or(decoded.get("uid")), vector.channel.split('#').nth(1)),
        _ => (decoded.get("uid"), decoded["nsp"].as_str()),
    };
    assert_eq!(envelope.uid.as_deref(), uid.and_then(Value::as_str), "{name}");
    assert_eq!(Some(&*envelope.namespace), namespace, "{name}");
    assert_eq!(meaning(&envelope.message), expected(vector, adapter), "{name}");
}

/// Streams have the sharded adapter's messages, in msgpack only and with PUBLISH, so that SSUBSCRIBE never sees them.
fn check_refused(vector: &Vector) {
    let (name, classic, sharded) = (&vector.name, vector.decode(Adapter::Classic), vector.decode(Adapter::Sharded));
    if vector.command == "PUBLISH" {
        assert!(matches!(classic, Err(MessageError::Shape)), "{name}: {classic:?}");
        let read = sharded.unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(meaning(&read.message), expected_sharded(&vector.decoded), "{name}");
    } else {
        assert_eq!(classic, Err(MessageError::Channel), "{name}");
        assert_eq!(sharded, Err(MessageError::Channel), "{name}");
    }
}

#[test]
fn a_cluster_of_one_kind_drops_the_messages_of_the_other() {
    for vector in VECTORS.iter() {
        let refused = match vector.adapter() {
            Some(Adapter::Classic) => vector.decode(Adapter::Sharded),
            Some(_) => vector.decode(Adapter::Classic),
            None => continue,
        };
        assert!(refused.is_err(), "{}: {refused:?}", vector.name);
    }
}

#[test]
fn what_we_send_is_what_node_sends_or_means_the_same_for_a_reason() {
    let (mut same, mut differing) = (0, BTreeMap::new());
    for vector in VECTORS.iter() {
        let Some(adapter) = vector.adapter() else { continue };
        let name = &vector.name;
        let envelope = vector.decode(adapter).unwrap_or_else(|error| panic!("{name}: {error}"));
        let body = again(adapter, &envelope).unwrap_or_else(|| panic!("{name} cannot be said"));
        let Some(reason) = reason(vector, adapter) else {
            assert_eq!(hex_of(&body), hex_of(&vector.body), "{name}");
            same += 1;
            check_channel(vector, adapter);
            continue;
        };
        assert_ne!(hex_of(&body), hex_of(&vector.body), "{name} is the same: {reason}");
        if reason == NAMES_ITSELF {
            assert_eq!(without_uid(&vector.encoding, &body), vector.body, "{name}");
        }
        *differing.entry(reason).or_insert(0) += 1;
    }
    println!("{same} are the same bytes; others: {differing:#?}");
    assert_eq!(same + differing.values().sum::<usize>(), 206 - 26 - 15);
    assert!(same > 80, "{same}");
}

const NAMES_ITSELF: &str = "our answers to the classic adapter have one key more, at the end: who answers";

/// Why ours differs.
fn reason(vector: &Vector, adapter: Adapter) -> Option<&'static str> {
    let decoded = &vector.decoded;
    let text = decoded.to_string();
    let has = |part: &str| text.contains(part);
    let sockets = decoded.get("sockets").or(decoded.pointer("/data/sockets")).and_then(Value::as_array);
    let is_broadcast = decoded.is_array() || decoded["type"] == 3 && adapter == Adapter::Sharded;
    let is_for_ack = has("\"requestId\"");
    if vector.name.starts_with("classic/emitter") || decoded.get(0) == Some(&json!("emitter")) {
        return Some("the emitter has its own order of keys, and often no uid").filter(|_| !has("\"type\":6"));
    }
    if sockets.is_some_and(|sockets| sockets.iter().any(|socket| socket.is_object())) {
        return Some("our handshakes are empty, and of data we have the user");
    }
    if has("\"sid\":\"") {
        return Some("orders about a single sid are only read");
    }
    if adapter == Adapter::Classic && vector.channel.starts_with("socket.io-response") {
        return Some(NAMES_ITSELF);
    }
    if has("\"$date\"") || has("\"$num\"") {
        return Some("dates and infinite numbers have become what they are in JSON");
    }
    if has("\"compress\"")
        || has("\"expectSingleResponse\"")
        || has("\"timeout\"") && !(is_broadcast && is_for_ack) && decoded["type"] != 7
    {
        return Some("flags that mean nothing here are dropped");
    }
    if adapter == Adapter::Sharded && decoded["type"] == 7 && has("\"timeout\"") {
        return Some("flags that mean nothing here are dropped");
    }
    if decoded.pointer("/1/id").is_some() {
        return Some("a packet's id is only of use where connection state recovery is");
    }
    (adapter == Adapter::Sharded && decoded["type"] == 9 && has("\"$bin\""))
        .then_some("byte strings for servers' own code are spelt out, as the classic adapter does")
}

/// A message whose bytes are the same goes on the same channel. Other modes of the sharded adapter have others.
fn check_channel(vector: &Vector, adapter: Adapter) {
    if matches!(vector.group(), "sharded-static" | "sharded-dynamic-private") {
        return;
    }
    let envelope = vector.decode(adapter).expect("read before");
    let uid = envelope.uid.as_deref().unwrap_or_default();
    let outgoing = encode(&channels(adapter), uid, &envelope.namespace, &envelope.message).expect("said before");
    assert_eq!(outgoing.channel, vector.channel, "{}", vector.name);
}

fn without_uid(encoding: &str, body: &[u8]) -> Vec<u8> {
    if encoding == "json" {
        let text = std::str::from_utf8(body).expect("JSON");
        let (before, _) = text.split_once(",\"uid\":").expect("a uid");
        return format!("{before}}}").into_bytes();
    }
    // The last entry of a fixmap: the key `uid` and its text.
    let at = body.windows(4).rposition(|window| window == b"\xa3uid").expect("a uid");
    let mut body = body[..at].to_vec();
    body[0] -= 1;
    body
}

/// The meaning of what was captured, without our decoder.
fn expected(vector: &Vector, adapter: Adapter) -> Value {
    match adapter {
        Adapter::Sharded | Adapter::Streams => expected_sharded(&vector.decoded),
        Adapter::Classic => expected_classic(&vector.channel, &vector.decoded),
    }
}

fn expected_classic(channel: &str, decoded: &Value) -> Value {
    let namespace = channel.split('#').nth(1).expect("a namespace");
    let request = decoded.get("requestId").cloned().unwrap_or(Value::Null);
    if decoded.is_array() {
        return json!({ "broadcast": broadcast(&decoded[1], &decoded[2], namespace) });
    }
    if channel.starts_with("socket.io-response") {
        let answer = match decoded["type"].as_u64() {
            Some(6) => json!({ "value": seen(&decoded["data"]) }),
            Some(8) => json!({ "receivers": decoded["clientCount"] }),
            Some(9) => json!({ "acknowledgement": seen(&decoded["packet"]) }),
            _ if decoded.get("sockets").is_some() => json!({ "sockets": sockets(&decoded["sockets"]) }),
            _ if decoded.get("rooms").is_some() => json!({ "rooms": decoded["rooms"] }),
            _ => json!("done"),
        };
        return json!({ "answer": answer, "request": request });
    }
    let (selected, rooms, confirm) = match decoded.get("opts") {
        Some(options) => (selection(options, namespace), decoded["rooms"].clone(), Value::Null),
        None => {
            let selection = json!({ "namespace": namespace, "rooms": [decoded["sid"]], "except": [] });
            (selection, json!([decoded["room"]]), request.clone())
        }
    };
    match decoded["type"].as_u64() {
        Some(0) => json!({ "ids": decoded["rooms"], "request": request }),
        Some(1) => json!({ "all rooms": true, "request": request }),
        Some(2) => json!({ "join": selected, "rooms": rooms, "confirm": confirm }),
        Some(3) => json!({ "leave": selected, "rooms": rooms, "confirm": confirm }),
        Some(4) => json!({ "end": selected, "ending": ending(&decoded["close"]), "confirm": confirm }),
        Some(5) => json!({ "fetch": selected, "request": request }),
        Some(6) => json!({ "server side": seen(&decoded["data"]), "request": request }),
        Some(7) => json!({
            "for ack": broadcast(&decoded["packet"], &decoded["opts"], namespace),
            "request": request,
            "timeout": decoded["opts"]["flags"]["timeout"],
        }),
        other => panic!("{other:?} on {channel}"),
    }
}

pub(super) fn expected_sharded(decoded: &Value) -> Value {
    let namespace = decoded["nsp"].as_str().expect("nsp");
    let data = &decoded["data"];
    let request = data.get("requestId").cloned().unwrap_or(Value::Null);
    let selected = || selection(&data["opts"], namespace);
    let answer = match decoded["type"].as_u64().expect("type") {
        3 if request.is_null() => return json!({ "broadcast": broadcast(&data["packet"], &data["opts"], namespace) }),
        3 => {
            return json!({
                "for ack": broadcast(&data["packet"], &data["opts"], namespace),
                "request": request,
                "timeout": data["opts"]["flags"].get("timeout").unwrap_or(&json!(TIMEOUT_MS_DEFAULT)),
            });
        }
        4 => return json!({ "join": selected(), "rooms": data["rooms"], "confirm": null }),
        5 => return json!({ "leave": selected(), "rooms": data["rooms"], "confirm": null }),
        6 => return json!({ "end": selected(), "ending": ending(&data["close"]), "confirm": null }),
        7 => return json!({ "fetch": selected(), "request": request }),
        9 => return json!({ "server side": spelt(&data["packet"]), "request": request }),
        8 => json!({ "sockets": sockets(&data["sockets"]) }),
        10 => json!({ "value": spelt(&data["packet"]) }),
        11 => json!({ "receivers": data["clientCount"] }),
        12 => json!({ "acknowledgement": seen(&data["packet"]) }),
        other => panic!("type {other}"),
    };
    json!({ "answer": answer, "request": request })
}

fn broadcast(packet: &Value, options: &Value, namespace: &str) -> Value {
    let rooms: Vec<String> = texts(&options["rooms"]);
    json!({
        "namespace": namespace,
        "rooms": rooms,
        "except": texts(&options["except"]),
        "volatile": options["flags"]["volatile"] == true,
        "args": seen(&packet["data"]),
    })
}

fn texts(names: &Value) -> Vec<String> {
    let names = names.as_array().expect("a list");
    let room = |name: &Value| match name.as_f64() {
        Some(number) => of_number(number).into_string(),
        None => name.as_str().expect("a text").to_owned(),
    };
    names.iter().map(room).collect()
}

fn selection(options: &Value, namespace: &str) -> Value {
    json!({ "namespace": namespace, "rooms": options["rooms"], "except": options["except"] })
}

fn sockets(sockets: &Value) -> Value {
    let sockets = sockets.as_array().expect("a list").iter().map(|socket| match socket {
        Value::String(_) => socket.clone(),
        _ => json!({ "id": socket["id"], "rooms": socket["rooms"], "user": socket["data"]["userId"] }),
    });
    Value::Array(sockets.collect())
}

/// What a client sees of a value: dates are texts, and numbers that JSON does not have are `null`.
fn seen(value: &Value) -> Value {
    match value {
        Value::Array(items) => Value::Array(items.iter().map(seen).collect()),
        Value::Object(entries) => {
            if let Some(date) = entries.get("$date") {
                return date.clone();
            }
            if entries.contains_key("$num") {
                return Value::Null;
            }
            Value::Object(entries.iter().map(|(key, entry)| (key.clone(), seen(entry))).collect())
        }
        _ => value.clone(),
    }
}

/// What servers' own code sees of it in JSON.
fn spelt(value: &Value) -> Value {
    match seen(value) {
        Value::Array(items) => Value::Array(items.iter().map(spelt).collect()),
        Value::Object(entries) => match entries.get("$bin").and_then(Value::as_str) {
            Some(hex) => json!({ "type": "Buffer", "data": super::bytes_of(hex) }),
            None => Value::Object(entries.iter().map(|(key, entry)| (key.clone(), spelt(entry))).collect()),
        },
        other => other,
    }
}

/// What Node's `close` means.
fn ending(close: &Value) -> &'static str {
    if *close == Value::Bool(true) { "Client" } else { "Socket" }
}
