//! `adapter`: messages of the bus, on every kind of channel of all adapters, entries of streams and sessions beside them; what is
//! read can be written, and means the same then.

use sockring_protocol::adapter::{
    Adapter, Answer, Broadcast, ChannelKind, Channels, Envelope, Message, MessageError, StoredSession, StreamEntry,
    SubscriptionMode, decode, decode_entry, encode, encode_entry,
};
use sockring_protocol::json;
use sockring_protocol::msgpack::{ByteStrings, ToJson};
use sockring_protocol::socketio::{PacketLimits, SocketPacket, encode_event};

use crate::text_of;

/// One of each kind, and one that is nobody's.
const CHANNELS: [(&str, Option<ChannelKind<'static>>); 6] = [
    ("socket.io#/#", Some(ChannelKind::Namespace)),
    ("socket.io#/#user:2#", Some(ChannelKind::Room("user:2"))),
    ("socket.io-request#/#", Some(ChannelKind::Requests)),
    ("socket.io-response#/#", Some(ChannelKind::Answers(None))),
    ("socket.io-response#/#vfUuRQ#", Some(ChannelKind::Answers(Some("vfUuRQ")))),
    ("socket.io#/other#", None),
];
/// A client's packet with as many attachments as the bus lets through.
const LIMITS: PacketLimits = PacketLimits { attachments_max: 255, namespace_bytes_max: 1 << 20 };

/// Takes the bytes as a message, and the text at their front as the name of a room.
pub fn adapter(data: &[u8]) {
    for kind in ["3", "4", "5", "6", "7", "9"] {
        entry(kind, data);
    }
    session(data);
    for adapter in [Adapter::Classic, Adapter::Sharded, Adapter::Streams] {
        let channels = Channels::new(adapter, "socket.io", &["/", "/admin"]);
        for (channel, kind) in CHANNELS {
            let read = decode(&channels, channel.as_bytes(), data);
            let is_known = kind.is_some() && (adapter == Adapter::Classic || channel.starts_with("socket.io#"));
            if !is_known {
                assert_eq!(read, Err(MessageError::Channel));
            }
            if let Ok(envelope) = read {
                if adapter == Adapter::Classic && matches!(envelope.message, Message::Broadcast(_)) {
                    named_namespace(data);
                }
                assert_eq!(&*envelope.namespace, "/", "the namespace is that of the channel");
                check(&envelope.message);
                again(&channels, &envelope);
                let behind = [data, b"\xc0"].concat();
                assert!(decode(&channels, channel.as_bytes(), &behind).is_err(), "nothing may follow a message");
            }
        }
        room(&channels, text_of(data));
    }
}

/// The bytes as the `data` of an entry.
fn entry(kind: &str, data: &[u8]) {
    let fields = [("uid", b"them".as_slice()), ("nsp", b"/"), ("type", kind.as_bytes()), ("data", data)];
    let Ok(StreamEntry { envelope, number }) = decode_entry(fields.map(|(name, value)| (name.as_bytes(), value)))
    else {
        return;
    };
    assert_eq!((envelope.uid.as_deref(), &*envelope.namespace, number), (Some("them"), "/", None));
    check(&envelope.message);
    let Some(fields) = encode_entry("us", "/", &envelope.message, Some(7)) else { return };
    let values = fields.iter().map(|(name, value)| (name.as_bytes(), value.as_slice()));
    let read = decode_entry(values).expect("what we have written");
    assert_eq!((read.envelope.uid.as_deref(), read.number), (Some("us"), Some(7)));
    assert_eq!(without_json(&read.envelope.message), without_json(&envelope.message));
    if let Message::Broadcast(_) = &read.envelope.message {
        does_not_stop_node(&fields.last_chunk::<2>().expect("data, and a number")[0].1);
    }
}

/// Where the packet, its data or the options are missing, Node servers read an entry again and again.
fn does_not_stop_node(data: &[u8]) {
    if data.first() != Some(&b'{') {
        return;
    }
    let of = |text, name| json::Entries::of(text).find(|(key, _)| *key == name).map(|(_, value)| value);
    let text = text_of(data);
    let args = of(text, "packet").and_then(|packet| of(packet, "data"));
    assert!(args.is_some_and(|args| args.starts_with('[')), "{text}");
    assert!(of(text, "opts").is_some_and(|options| options.starts_with('{')), "{text}");
}

/// The bytes as what stands under a session's key.
fn session(data: &[u8]) {
    let Ok(session) = StoredSession::decode(data) else { return };
    assert_json(&session.data);
    let read = StoredSession::decode(session.encode().as_bytes()).expect("what we have written");
    assert_eq!((read.sid, read.pid, read.rooms), (session.sid, session.pid, session.rooms));
}

/// A room's channel says which room it is, unless it has none; the patterns of all rooms leave those of users out.
fn room(channels: &Channels, name: &str) {
    for mode in [SubscriptionMode::Dynamic, SubscriptionMode::DynamicPrivate, SubscriptionMode::Static] {
        let channels = channels.clone().with_mode(mode);
        for namespace in ["/", "/admin"] {
            let Some(channel) = channels.of_room(namespace, name) else { continue };
            let mut places = channels.places(channel.as_bytes());
            let is_it = places.any(|place| (place.namespace, place.kind) == (namespace, ChannelKind::Room(name)));
            assert!(is_it, "{channel:?} is none of {name:?}");
        }
    }
}

/// `[uid, packet, opts]`: the packet's namespace, where it has one, is that of the channel.
fn named_namespace(data: &[u8]) {
    let mut json = ToJson::new(ByteStrings::Spell);
    // What is beside the parts that count may be what JSON has not.
    if json.append(data).is_err() {
        return;
    }
    let text = text_of(&json.text);
    let packet = json::Elements::of(text).nth(1).expect("a packet");
    let named = json::Entries::of(packet).filter(|(key, _)| key == "nsp").last();
    if let Some((_, name)) = named.filter(|(_, name)| *name != "null") {
        assert_eq!(name, "\"/\"", "{text}");
    }
}

/// Nothing that a client's parser would choke on.
fn check(message: &Message) {
    match message {
        Message::Broadcast(broadcast) | Message::BroadcastForAck { broadcast, .. } => check_event(broadcast),
        Message::ServerSide { args, .. } => assert_json(args),
        Message::Answer {
            answer: Answer::ServerSide(value) | Answer::Acknowledgement { value: Some(value), .. },
            ..
        } => assert_json(value),
        _ => {}
    }
}

fn assert_json(value: &[u8]) {
    let text = std::str::from_utf8(value).expect("JSON is text");
    assert_eq!(json::check(text), Ok(()), "{text}");
}

fn check_event(broadcast: &Broadcast) {
    assert_json(&broadcast.args);
    let mut packet = Vec::new();
    encode_event(&broadcast.namespace, None, broadcast.attachments.len(), &broadcast.args, &mut packet);
    let text = text_of(&packet);
    match SocketPacket::decode(text, &LIMITS) {
        Ok(SocketPacket::Event { .. }) => assert!(broadcast.attachments.is_empty()),
        Ok(SocketPacket::BinaryEvent { attachments, .. }) => {
            assert_eq!(usize::from(attachments), broadcast.attachments.len());
        }
        other => panic!("{other:?}: {text}"),
    }
}

/// Written and read again it is the same but for its sender and for what is only ever read; and from then on it stays.
fn again(channels: &Channels, envelope: &Envelope) {
    let Some(outgoing) = encode(channels, "somebody", &envelope.namespace, &envelope.message) else { return };
    let read = decode(channels, outgoing.channel.as_bytes(), &outgoing.body)
        .unwrap_or_else(|error| panic!("{error}: {}", outgoing.body.escape_ascii()));
    assert_eq!(read.uid.as_deref(), Some("somebody"));
    assert_eq!(without_json(&read.message), without_json(&envelope.message), "{}", outgoing.body.escape_ascii());
    let second = encode(channels, "somebody", &read.namespace, &read.message).expect("what was written once");
    let read_again = decode(channels, second.channel.as_bytes(), &second.body);
    assert_eq!(read_again.as_ref(), Ok(&read), "{}", second.body.escape_ascii());
}

/// Without orders' wish for a confirmation, which only old instances have, and without JSON, whose numbers msgpack may
/// write otherwise.
fn without_json(message: &Message) -> Message {
    let mut message = message.clone();
    match &mut message {
        Message::Join { confirm, .. } | Message::Leave { confirm, .. } | Message::Disconnect { confirm, .. } => {
            *confirm = None;
        }
        Message::Broadcast(broadcast) | Message::BroadcastForAck { broadcast, .. } => broadcast.args = [].into(),
        Message::ServerSide { args, .. } => *args = [].into(),
        Message::Answer { answer: Answer::ServerSide(value), .. } => *value = [].into(),
        Message::Answer { answer: Answer::Acknowledgement { value, .. }, .. } => {
            *value = value.as_ref().map(|_| [].into());
        }
        _ => {}
    }
    message
}
