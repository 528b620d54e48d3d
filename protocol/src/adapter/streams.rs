//! The streams adapter: the entries of its streams, and the sessions beside them. What is no entry is published, always as
//! msgpack, in the shape of the sharded adapter's messages.

use alloc::boxed::Box;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec;
use alloc::vec::Vec;

use base64::Engine;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};

use crate::msgpack::{ByteStrings, from_json};

use super::channels::{ChannelKind, ChannelName, Channels};
use super::error::MessageError;
use super::fields::MessageFields;
use super::message::{Envelope, MESSAGE_BYTES_MAX, Message, Outgoing};
use super::part::Part;
use super::sharded;
use super::writer::Writer;

/// Padded when written; read with padding or none, and with any trailing bits, as Node does.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new()
        .with_decode_padding_mode(DecodePaddingMode::Indifferent)
        .with_decode_allow_trailing_bits(true),
);
/// The field that names an entry among those of its sender. Node passes over it.
const NUMBER: &str = "n";

/// An entry of a stream.
#[derive(Clone, Debug, PartialEq)]
pub struct StreamEntry {
    /// What it says, and who says it.
    pub envelope: Envelope,
    /// Its sender's own number for it. Only servers like us have one.
    pub number: Option<u64>,
}

/// The stream that carries a namespace's entries, of so many that are called like this. Node's remainder may be negative, and
/// then no Node server reads what all write there.
pub fn stream_of(name: &str, count: u32, namespace: &str) -> String {
    if count <= 1 {
        return name.to_string();
    }
    let hash = namespace.encode_utf16().fold(0i32, |hash, unit| hash.wrapping_mul(31).wrapping_add(i32::from(unit)));
    format!("{name}-{}", i64::from(hash) % i64::from(count))
}

/// The fields of an entry. Whatever would stop the readers of Node servers, who read it again and again, is refused here, and
/// so passed over.
pub fn decode_entry<'a>(fields: impl IntoIterator<Item = (&'a [u8], &'a [u8])>) -> Result<StreamEntry, MessageError> {
    let (mut uid, mut namespace, mut kind, mut data, mut number) = (None, None, None, None, None);
    for (name, value) in fields {
        if value.len() > MESSAGE_BYTES_MAX {
            return Err(MessageError::TooLong);
        }
        let field = match name {
            b"uid" => &mut uid,
            b"nsp" => &mut namespace,
            b"type" => &mut kind,
            b"data" => &mut data,
            name if name == NUMBER.as_bytes() => &mut number,
            _ => continue,
        };
        *field = Some(value);
    }
    // Node passes over an entry for no namespace, whatever else is in it.
    let namespace = namespace.filter(|name| !name.is_empty()).ok_or(MessageError::OtherNamespace)?;
    let namespace = core::str::from_utf8(namespace).map_err(|_| MessageError::OtherNamespace)?;
    let kind = kind.and_then(number_in).ok_or(MessageError::UnknownType)?;
    let data = data.ok_or(MessageError::Shape)?;
    let (text, bytes);
    let data = if data.first() == Some(&b'{') {
        text = String::from_utf8_lossy(data);
        Part::json(&text)?
    } else {
        bytes = BASE64.decode(data).map_err(|_| MessageError::Syntax)?;
        Part::msgpack(&bytes)?
    };
    let place = ChannelName { namespace, kind: ChannelKind::Namespace };
    let message = sharded::decode_message(kind, &MessageFields::of(data)?, place)?;
    let uid = uid.map(|uid| String::from_utf8_lossy(uid).into_owned().into_boxed_str());
    Ok(StreamEntry {
        envelope: Envelope { uid, namespace: namespace.into(), message },
        number: number.and_then(number_in),
    })
}

fn number_in(digits: &[u8]) -> Option<u64> {
    core::str::from_utf8(digits).ok().filter(|digits| digits.bytes().all(|byte| byte.is_ascii_digit()))?.parse().ok()
}

/// The fields of an entry in Node's order, and behind them the sender's own number for it. `None`: it is no entry, and is
/// published if there is such a message.
pub fn encode_entry(
    uid: &str,
    namespace: &str,
    message: &Message,
    number: Option<u64>,
) -> Option<Vec<(&'static str, Vec<u8>)>> {
    if !is_entry(message) {
        return None;
    }
    let kind = sharded::kind_of(message)?;
    let mut json = Writer::new();
    sharded::encode_data(&mut json, message);
    let data = match sharded::has_attachments(message) {
        true => BASE64.encode(sharded::to_msgpack(message, &json.finish_text())).into_bytes(),
        false => json.finish(),
    };
    let kind = kind.to_string().into_bytes();
    let mut fields = vec![("uid", uid.into()), ("nsp", namespace.into()), ("type", kind), ("data", data)];
    fields.extend(number.map(|number| (NUMBER, number.to_string().into_bytes())));
    Some(fields)
}

/// Whether a message goes into the stream, and so reaches who reads it later too.
fn is_entry(message: &Message) -> bool {
    matches!(message, Message::Broadcast(_) | Message::Join { .. } | Message::Leave { .. } | Message::Disconnect { .. })
}

pub(super) fn encode(channels: &Channels, uid: &str, namespace: &str, message: &Message) -> Option<Outgoing> {
    if is_entry(message) {
        return None;
    }
    let channel = sharded::channel_of(channels, namespace, message)?;
    let json = sharded::encode_whole(uid, namespace, message)?;
    Some(Outgoing { channel, body: sharded::to_msgpack(message, &json.finish_text()) })
}

/// What a server keeps of a client that has left and may come back anywhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredSession {
    /// The id of its socket.
    pub sid: Box<str>,
    /// What the client shows when it comes back.
    pub pid: Box<str>,
    /// All that its socket was in, that of its sid among them.
    pub rooms: Vec<Box<str>>,
    /// `socket.data`, as JSON. Byte strings are spelt out.
    pub data: Box<[u8]>,
    /// Since when and until when it was in them, as servers like us write it for each other. Node passes over it.
    pub stays: Option<Box<str>>,
}

crate::portable!(struct StoredSession { sid, pid, rooms, data, stays });

impl StoredSession {
    /// What stands under the session's key: base64 of msgpack.
    pub fn decode(text: &[u8]) -> Result<StoredSession, MessageError> {
        let bytes = BASE64.decode(text).map_err(|_| MessageError::Syntax)?;
        let (mut sid, mut pid, mut rooms, mut data, mut stays) = (None, None, None, None, None);
        for (key, value) in Part::msgpack(&bytes)?.members()? {
            match &*key {
                "sid" => sid = value.text(),
                "pid" => pid = value.text(),
                "rooms" => rooms = Some(value.elements()?.filter_map(Part::room).collect()),
                "data" => data = Some(value.to_json(ByteStrings::Spell)?.0),
                "stays" => stays = value.text(),
                _ => {}
            }
        }
        let missing = || MessageError::Shape;
        Ok(StoredSession {
            sid: sid.ok_or_else(missing)?.into(),
            pid: pid.ok_or_else(missing)?.into(),
            rooms: rooms.ok_or_else(missing)?,
            data: data.map_or_else(|| b"null".as_slice().into(), |data| data.into_owned().into_bytes().into()),
            stays: stays.map(Into::into),
        })
    }

    /// The same, as Node writes it.
    pub fn encode(&self) -> String {
        let mut json = Writer::new();
        json.raw("{\"sid\":").text(&self.sid).raw(",\"pid\":").text(&self.pid);
        json.raw(",\"rooms\":").rooms(&self.rooms).raw(",\"data\":").json(&self.data);
        if let Some(stays) = &self.stays {
            json.raw(",\"stays\":").text(stays);
        }
        json.raw("}");
        let mut bytes = Vec::new();
        from_json::<&[u8]>(&json.finish_text(), &[], &mut bytes);
        BASE64.encode(bytes)
    }
}
