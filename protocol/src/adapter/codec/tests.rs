//! Every captured message, hostile ones, and whatever can be said: read, written, and read again.

mod hostile;
mod random;
mod streams;
mod vectors;

use std::sync::LazyLock;

use serde_json::{Value, json};

use super::{decode, encode};
use crate::adapter::{Adapter, Answer, Broadcast, Channels, Delivery, Envelope, Message, MessageError, Selection};
use crate::json::check;

/// Stands for JSON that `JSON.parse` takes and serde_json does not.
const BEYOND_SERDE: &str = "beyond serde_json";

/// What was captured from Node's adapters and emitter, and around them.
static VECTORS: LazyLock<Vec<Vector>> = LazyLock::new(|| {
    let vectors: Vec<Value> = serde_json::from_str(include_str!("../vectors/redis-vectors.json")).expect("the vectors");
    vectors.into_iter().map(Vector::new).collect()
});

#[derive(Clone, Debug)]
struct Vector {
    name: String,
    command: String,
    channel: String,
    encoding: String,
    body: Vec<u8>,
    /// `{"$bin":hex}` is a byte string, `{"$date":iso}` a date, `{"$num":"NaN"}` a number that JSON does not have.
    decoded: Value,
}

impl Vector {
    fn new(vector: Value) -> Vector {
        let text = |key: &str| vector[key].as_str().unwrap_or_default().to_owned();
        Vector {
            name: text("name"),
            command: text("command"),
            channel: text("channel"),
            encoding: text("encoding"),
            body: bytes_of(&text("hex")),
            decoded: vector["decoded"].clone(),
        }
    }

    /// What its name begins with.
    fn group(&self) -> &str {
        self.name.split_once('/').expect("a group").0
    }

    /// The adapter whose message it is; `None` for what neither speaks.
    fn adapter(&self) -> Option<Adapter> {
        match (self.group(), self.command.as_str()) {
            ("classic" | "misc", "PUBLISH") => Some(Adapter::Classic),
            ("sharded-dynamic" | "sharded-static" | "sharded-dynamic-private" | "misc", "SPUBLISH") => {
                Some(Adapter::Sharded)
            }
            _ => None,
        }
    }

    fn decode(&self, adapter: Adapter) -> Result<Envelope, MessageError> {
        decode(&channels(adapter), self.channel.as_bytes(), &self.body)
    }
}

fn channels(adapter: Adapter) -> Channels {
    Channels::new(adapter, "socket.io", &["/", "/admin"])
}

fn bytes_of(hex: &str) -> Vec<u8> {
    (0..hex.len() / 2).map(|at| u8::from_str_radix(&hex[2 * at..2 * at + 2], 16).expect("hex")).collect()
}

fn hex_of(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// What a message means, in a form that can be made of a vector too: byte strings are `{"$bin":hex}`.
fn meaning(message: &Message) -> Value {
    match message {
        Message::Broadcast(broadcast) => json!({ "broadcast": broadcast_meaning(broadcast) }),
        Message::BroadcastForAck { request, broadcast, timeout_ms } => {
            json!({ "for ack": broadcast_meaning(broadcast), "request": request, "timeout": timeout_ms })
        }
        Message::Ids { request, rooms } => json!({ "ids": rooms, "request": request }),
        Message::Rooms { request } => json!({ "all rooms": true, "request": request }),
        Message::Fetch { request, selection } => json!({ "fetch": selected(selection), "request": request }),
        Message::Join { selection, rooms, confirm } => {
            json!({ "join": selected(selection), "rooms": rooms, "confirm": confirm })
        }
        Message::Leave { selection, rooms, confirm } => {
            json!({ "leave": selected(selection), "rooms": rooms, "confirm": confirm })
        }
        Message::Disconnect { selection, ending, confirm } => {
            json!({ "end": selected(selection), "ending": format!("{ending:?}"), "confirm": confirm })
        }
        Message::ServerSide { request, args } => json!({ "server side": parsed(args, &[]), "request": request }),
        Message::Answer { request, answer, .. } => json!({ "answer": answer_meaning(answer), "request": request }),
    }
}

fn broadcast_meaning(broadcast: &Broadcast) -> Value {
    let attachments: Vec<&[u8]> = broadcast.attachments.iter().map(|bytes| &**bytes).collect();
    json!({
        "namespace": broadcast.namespace,
        "rooms": broadcast.rooms,
        "except": broadcast.except,
        "volatile": broadcast.delivery == Delivery::Volatile,
        "args": parsed(&broadcast.args, &attachments),
    })
}

fn selected(selection: &Selection) -> Value {
    json!({ "namespace": selection.namespace, "rooms": selection.rooms, "except": selection.except })
}

fn answer_meaning(answer: &Answer) -> Value {
    match answer {
        Answer::Ids(ids) => json!({ "sockets": ids }),
        Answer::Rooms(rooms) => json!({ "rooms": rooms }),
        Answer::Sockets(sockets) => {
            let sockets =
                sockets.iter().map(|socket| json!({ "id": socket.id, "rooms": socket.rooms, "user": socket.user }));
            json!({ "sockets": sockets.collect::<Vec<_>>() })
        }
        Answer::Done => json!("done"),
        Answer::ServerSide(value) => json!({ "value": parsed(value, &[]) }),
        Answer::Receivers(count) => json!({ "receivers": count }),
        Answer::Acknowledgement { value, attachments } => {
            let attachments: Vec<&[u8]> = attachments.iter().map(|bytes| &**bytes).collect();
            json!({ "acknowledgement": value.as_ref().map(|value| parsed(value, &attachments)) })
        }
    }
}

/// JSON text with its byte strings where their placeholders stand. Each is there once, in the order of the numbers.
fn parsed(text: &[u8], attachments: &[&[u8]]) -> Value {
    let text = std::str::from_utf8(text).expect("text");
    assert_eq!(check(text), Ok(()), "{text}");
    // Halves of surrogate pairs and numbers beyond all doubles.
    let Ok(mut value) = serde_json::from_str(text) else { return json!(BEYOND_SERDE) };
    let mut found = Vec::new();
    place(&mut value, attachments, &mut found);
    assert_eq!(found, (0..attachments.len()).collect::<Vec<_>>(), "{text}");
    value
}

fn place(value: &mut Value, attachments: &[&[u8]], found: &mut Vec<usize>) {
    match value {
        Value::Array(items) => items.iter_mut().for_each(|item| place(item, attachments, found)),
        Value::Object(entries) => {
            if !attachments.is_empty() && entries.get("_placeholder") == Some(&Value::Bool(true)) {
                let number = usize::try_from(entries["num"].as_u64().expect("num")).expect("small");
                found.push(number);
                *value = json!({ "$bin": hex_of(attachments[number]) });
                return;
            }
            // serde_json sorts keys: the numbers of one object come in any order.
            let from = found.len();
            entries.values_mut().for_each(|entry| place(entry, attachments, found));
            found[from..].sort_unstable();
        }
        _ => {}
    }
}

/// Writes what was read, and reads it again: it means the same. `None` for what the adapter cannot say.
fn again(adapter: Adapter, envelope: &Envelope) -> Option<Vec<u8>> {
    let channels = channels(adapter);
    let uid = envelope.uid.as_deref().unwrap_or("somebody");
    let outgoing = encode(&channels, uid, &envelope.namespace, &envelope.message)?;
    let message = without_old_forms(&envelope.message);
    let expected = Envelope { uid: Some(uid.into()), namespace: envelope.namespace.clone(), message };
    let read = decode(&channels, outgoing.channel.as_bytes(), &outgoing.body);
    let read = read.unwrap_or_else(|error| panic!("{error}: {}", outgoing.body.escape_ascii()));
    let meant = meaning(&expected.message);
    if !meant.to_string().contains(BEYOND_SERDE) {
        assert_eq!(meaning(&read.message), meant, "{}", outgoing.body.escape_ascii());
    }
    assert_eq!((read.uid, read.namespace), (expected.uid, expected.namespace));
    Some(outgoing.body)
}

/// Orders that want a confirmation are only ever read.
fn without_old_forms(message: &Message) -> Message {
    let mut message = message.clone();
    match &mut message {
        Message::Join { confirm, .. } | Message::Leave { confirm, .. } | Message::Disconnect { confirm, .. } => {
            *confirm = None;
        }
        _ => {}
    }
    message
}

/// Behind what Node's adapters have in a message, and read, an event that is kept says what it is called.
#[test]
fn a_kept_event_says_what_it_is_called_behind_what_node_reads() {
    let kept = |kept: Option<&str>| {
        Message::Broadcast(Broadcast {
            kept: kept.map(Into::into),
            ..Broadcast::new("/", vec!["user:a".into()], (*b"[\"e\",1]").into())
        })
    };
    for (adapter, ending) in
        [(Adapter::Classic, &b"\xa4id.9"[..]), (Adapter::Sharded, b",\"kept\":\"id.9\"},\"uid\":\"u\",\"nsp\":\"/\"}")]
    {
        let channels = Channels::new(adapter, "socket.io", &["/"]);
        let body = |message: &Message| encode(&channels, "u", "/", message).expect("a message").body;
        let (plain, marked) = (body(&kept(None)), body(&kept(Some("id.9"))));
        assert!(marked.ends_with(ending), "{}", String::from_utf8_lossy(&marked));
        match adapter {
            // An array of four elements in place of three.
            Adapter::Classic => assert_eq!(marked, [b"\x94", &plain[1..], ending].concat()),
            _ => assert_eq!(
                String::from_utf8(marked).unwrap().replace(",\"kept\":\"id.9\"", ""),
                String::from_utf8(plain).unwrap()
            ),
        }
        for mark in [None, Some("id.9")] {
            let read = decode(&channels, b"socket.io#/#user:a#", &body(&kept(mark))).expect("a message");
            assert_eq!(read.message, kept(mark));
        }
    }
}
