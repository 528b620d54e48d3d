//! `socketio`: packets of clients and the attachments that follow them.

use serde_json::value::RawValue;
use sockring_protocol::engineio::{Data, EnginePacket, Payload};
use sockring_protocol::json::{self, Value};
use sockring_protocol::socketio::{
    AckId, Args, AssembleError, Assembler, AssemblyStep, EventName, PacketLimits, SocketPacket, SocketPacketError,
    encode_ack, encode_connect, encode_connect_error, encode_disconnect, encode_event,
};

use crate::{Random, assert_memory, assert_no_allocation, text_of};

const MESSAGES_MAX: usize = 64;
/// Of a binary packet; small, so that small inputs exceed it.
const PACKET_BYTES_MAX: usize = 256;
const RESERVED_EVENTS: [&str; 6] =
    ["connect", "connect_error", "disconnect", "disconnecting", "newListener", "removeListener"];

/// Takes the bytes as a polling payload: `42["a"]` or, with its attachment, `451-["a",{...}]`, 0x1e, `bAQID`.
pub fn socketio(data: &[u8]) {
    let mut pending: Option<Pending> = None;
    let mut random = Random::of(data);
    for frame in Payload::decode(text_of(data), MESSAGES_MAX) {
        match frame {
            Ok(EnginePacket::Message(Data::Text(text))) => {
                if pending.take().is_none() {
                    pending = message(text, &mut random);
                }
            }
            Ok(EnginePacket::Message(Data::Binary(bytes))) => match pending.take() {
                None => stray_attachment(&bytes),
                Some(packet) => pending = packet.push(&bytes),
            },
            Ok(_) => {}
            Err(_) => break,
        }
    }
    sent_by_server(text_of(data));
}

/// One text message; what waits for attachments is returned.
fn message(text: &str, random: &mut Random) -> Option<Pending> {
    let limits = PacketLimits::default();
    // A name with escapes, and a key with escapes in a binary packet, are the only things that are copied.
    if text.contains('\\') {
        assert_memory("SocketPacket::decode", text.len(), || drop(SocketPacket::decode(text, &limits)));
    } else {
        assert_no_allocation("SocketPacket::decode", || drop(SocketPacket::decode(text, &limits)));
    }
    tighter_limits(text, random);
    binary_as_plain(text);
    let packet = SocketPacket::decode(text, &limits).ok()?;
    let (namespace, ack, args, attachments) = parts(&packet);
    assert!(namespace.starts_with('/') && namespace.len() <= limits.namespace_bytes_max);
    assert!(!namespace.bytes().any(|byte| byte < 0x20 || byte == b','));
    assert!(ack.is_none_or(|ack| ack <= AckId::MAX));
    if let Some(args) = args {
        check_args(&args);
    }
    if let SocketPacket::Event { args, .. } | SocketPacket::BinaryEvent { args, .. } = &packet {
        check_event_name(args);
    }
    let encoded = encode(&packet);
    assert_eq!(SocketPacket::decode(&encoded, &limits).as_ref(), Ok(&packet), "read back");
    assert!(encoded.len() <= text.len() + 1, "no longer than it came, but for a comma after the namespace");
    let attachments = attachments?;
    assert!((1..=limits.attachments_max).contains(&attachments));
    Pending::begin(text, attachments)
}

type Parts<'a> = (&'a str, Option<AckId>, Option<Args<'a>>, Option<u8>);

fn parts<'a>(packet: &SocketPacket<'a>) -> Parts<'a> {
    match *packet {
        SocketPacket::Connect { namespace, payload } => {
            assert!(payload.is_none_or(|text| Value::decode(text).is_ok_and(Value::is_object)));
            (namespace, None, None, None)
        }
        SocketPacket::Disconnect { namespace } => (namespace, None, None, None),
        SocketPacket::Event { namespace, ack, args } => (namespace, ack, Some(args), None),
        SocketPacket::Ack { namespace, ack, args } => (namespace, Some(ack), Some(args), None),
        SocketPacket::BinaryEvent { namespace, ack, args, attachments } => {
            (namespace, ack, Some(args), Some(attachments))
        }
        SocketPacket::BinaryAck { namespace, ack, args, attachments } => {
            (namespace, Some(ack), Some(args), Some(attachments))
        }
    }
}

/// As a client writes it.
fn encode(packet: &SocketPacket<'_>) -> String {
    let mut out = Vec::new();
    match packet {
        SocketPacket::Connect { namespace, payload } => {
            let payload = payload.unwrap_or_default();
            out = if *namespace == "/" { format!("0{payload}") } else { format!("0{namespace},{payload}") }.into();
        }
        SocketPacket::Disconnect { namespace } => encode_disconnect(namespace, &mut out),
        SocketPacket::Event { namespace, ack, args } => {
            encode_event(namespace, *ack, 0, args.text().as_bytes(), &mut out)
        }
        SocketPacket::Ack { namespace, ack, args } => encode_ack(namespace, *ack, 0, args.text().as_bytes(), &mut out),
        SocketPacket::BinaryEvent { namespace, ack, args, attachments } => {
            encode_event(namespace, *ack, usize::from(*attachments), args.text().as_bytes(), &mut out);
        }
        SocketPacket::BinaryAck { namespace, ack, args, attachments } => {
            encode_ack(namespace, *ack, usize::from(*attachments), args.text().as_bytes(), &mut out);
        }
    }
    String::from_utf8(out).expect("a packet is text")
}

/// The elements are those that serde_json finds, and those after the first are an array of their own.
fn check_args(args: &Args<'_>) {
    let elements: Vec<&str> = args.elements().collect();
    let reference: Vec<&RawValue> = serde_json::from_str(args.text()).expect("an array");
    assert_eq!(elements, reference.into_iter().map(RawValue::get).collect::<Vec<_>>());
    assert_eq!((args.len(), args.is_empty()), (elements.len(), elements.is_empty()));
    let after = format!("[{}]", args.after_event());
    assert_eq!(json::check(&after), Ok(()));
    assert!(json::Elements::of(&after).eq(elements.into_iter().skip(1)));
}

fn check_event_name(args: &Args<'_>) {
    let first = args.elements().next().expect("an event has a name");
    match args.event().expect("an event has a name") {
        EventName::Text(name) => {
            assert!(!RESERVED_EVENTS.contains(&&*name), "{name}");
            assert_eq!(Value::decode(first).ok().and_then(Value::string), Some(name));
        }
        EventName::Number(number) => {
            assert!(number == first && serde_json::from_str::<&RawValue>(number).is_ok());
            assert!(number.starts_with(|start: char| start == '-' || start.is_ascii_digit()));
        }
    }
}

/// A binary packet is what it would be without attachments, or refused for a placeholder, or for how many it claims.
fn binary_as_plain(text: &str) {
    let Some((digits, rest)) = text.get(1..).and_then(|after| after.split_once('-')) else { return };
    let plain = match text.as_bytes().first() {
        Some(b'5') => format!("2{rest}"),
        Some(b'6') => format!("3{rest}"),
        _ => return,
    };
    let limits = PacketLimits::default();
    let attachments = digits.parse::<u8>().ok().filter(|count| (1..=limits.attachments_max).contains(count));
    let is_written_plainly = attachments.is_some_and(|count| count.to_string() == digits);
    let (Some(attachments), true) = (attachments, is_written_plainly) else {
        assert!(SocketPacket::decode(text, &limits).is_err(), "{digits:?} is no number of attachments");
        return;
    };
    let binary = SocketPacket::decode(text, &limits);
    match SocketPacket::decode(&plain, &limits) {
        Ok(SocketPacket::Event { args, .. } | SocketPacket::Ack { args, .. }) => {
            let expected = if has_bad_placeholder(args.text(), attachments) {
                Err(SocketPacketError::BadPlaceholder)
            } else {
                Ok((Some(args), Some(attachments)))
            };
            assert_eq!(binary.map(|packet| (parts(&packet).2, parts(&packet).3)), expected);
        }
        Ok(packet) => panic!("{packet:?} out of an event"),
        Err(_) => assert!(binary.is_err()),
    }
}

/// Looks into every object, those in a placeholder and those under a key that comes again too; of keys that come twice
/// the last counts.
fn has_bad_placeholder(value: &str, attachments: u8) -> bool {
    let mut open = vec![value];
    while let Some(value) = open.pop() {
        open.extend(json::Elements::of(value));
        let (mut is_marked, mut number) = (false, None);
        for (key, value) in json::Entries::of(value) {
            match &*key {
                "_placeholder" => is_marked = value == "true",
                "num" => number = value.parse::<f64>().ok(),
                _ => {}
            }
            open.push(value);
        }
        let is_index = |number: f64| (0..attachments).any(|index| f64::from(index) == number);
        if is_marked && !number.is_some_and(is_index) {
            return true;
        }
    }
    false
}

/// Less allowed: the same packet, or refused for that reason.
fn tighter_limits(text: &str, random: &mut Random) {
    let generous = SocketPacket::decode(text, &PacketLimits::default());
    let limits = PacketLimits {
        attachments_max: random.byte() % 10,
        namespace_bytes_max: random.below(PacketLimits::default().namespace_bytes_max),
    };
    match SocketPacket::decode(text, &limits) {
        Err(SocketPacketError::TooManyAttachments) => assert!(text.starts_with(['5', '6'])),
        Err(SocketPacketError::NamespaceTooLong) => assert!(text.len() > limits.namespace_bytes_max),
        tighter => assert_eq!(tighter, generous),
    }
}

/// A binary packet on its way in, with what was put into it.
struct Pending {
    assembler: Assembler,
    text: String,
    attachments: Vec<Vec<u8>>,
    expected: usize,
}

impl Pending {
    fn begin(text: &str, attachments: u8) -> Option<Pending> {
        let fits = text.len() <= PACKET_BYTES_MAX;
        assert_memory("Assembler::begin", text.len(), || drop(Assembler::begin(text, attachments, PACKET_BYTES_MAX)));
        match Assembler::begin(text, attachments, PACKET_BYTES_MAX) {
            Ok(assembler) => {
                assert!(fits);
                let (text, expected) = (text.to_owned(), usize::from(attachments));
                Some(Pending { assembler, text, attachments: Vec::new(), expected })
            }
            Err(error) => {
                assert!(!fits && error == AssembleError::TooBig);
                None
            }
        }
    }

    /// Takes the next attachment; itself again while more is awaited.
    fn push(mut self, bytes: &[u8]) -> Option<Pending> {
        let held = self.text.len() + self.attachments.iter().map(Vec::len).sum::<usize>();
        let fits = held + bytes.len() <= PACKET_BYTES_MAX;
        let progress = self.assembler.push(bytes);
        if fits {
            self.attachments.push(bytes.to_vec());
        }
        assert!(self.assembler.attachments().iter().map(|held| &**held).eq(self.attachments.iter().map(Vec::as_slice)));
        assert_eq!(self.assembler.header(), self.text);
        let is_complete = self.attachments.len() == self.expected;
        match progress {
            Ok(AssemblyStep::More) => assert!(fits && !is_complete),
            Ok(AssemblyStep::Complete) => {
                assert!(fits && is_complete);
                assert_eq!(self.assembler.push(b""), Err(AssembleError::UnexpectedBinary));
                let (header, attachments) = (self.assembler.header(), self.assembler.attachments());
                let packet = SocketPacket::decode(header, &PacketLimits::default()).expect("the same text again");
                assert_eq!(parts(&packet).3.map(usize::from), Some(attachments.len()));
            }
            Err(error) => assert!(!fits && error == AssembleError::TooBig),
        }
        (fits && !is_complete).then_some(self)
    }
}

fn stray_attachment(bytes: &[u8]) {
    let mut assembler = Assembler::begin("51-[]", 0, usize::MAX).expect("no limit");
    assert_eq!(assembler.push(bytes), Err(AssembleError::UnexpectedBinary));
    assert!(assembler.into_parts().1.is_empty());
}

/// Whatever text is put into an answer, its JSON stays whole and it stays one packet of a payload.
fn sent_by_server(text: &str) {
    let mut out = Vec::new();
    encode_connect("/a", text, &mut out);
    let reply = text_of(&out).strip_prefix("0/a,").expect("the namespace");
    assert_eq!(serde_json::from_str::<serde_json::Value>(reply).ok(), Some(serde_json::json!({ "sid": text })));
    assert!(!reply.contains('\u{1e}'));
    out.clear();
    encode_connect_error("/", text, Some("[1]"), &mut out);
    let reply = text_of(&out).strip_prefix('4').expect("the type");
    let expected = serde_json::json!({ "message": text, "data": [1] });
    assert_eq!(serde_json::from_str::<serde_json::Value>(reply).ok(), Some(expected));
}
