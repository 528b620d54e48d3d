//! `Packet`: one Socket.IO v5 packet as a client sends it, decoded in one pass with every reason to refuse it.

use core::error::Error;
use core::fmt;

use memchr::memchr;

use super::args::{Args, EventName};
use super::placeholders::Placeholders;
use crate::json::{JsonError, Value};

/// The namespace of a packet that names none.
const MAIN: &str = "/";

/// Names that a client may not emit: they are events of the reference's own socket (P13). `error` is not among them.
pub const RESERVED_EVENTS: [&str; 6] =
    ["connect", "connect_error", "disconnect", "disconnecting", "newListener", "removeListener"];

/// One packet. Texts are borrowed from the message, namespaces begin with `/`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Packet<'a> {
    /// With the text of a JSON object, or none.
    Connect {
        /// Which namespace it asks for.
        namespace: &'a str,
        /// The JSON object that a handler of connections sees as `auth`.
        payload: Option<&'a str>,
    },
    /// `1`: the sender leaves the namespace.
    Disconnect {
        /// Which namespace it leaves.
        namespace: &'a str,
    },
    /// `2["name",...]`
    Event {
        /// In which namespace.
        namespace: &'a str,
        /// The number that the sender wants to see in the acknowledgement, if it wants one.
        ack: Option<AckId>,
        /// The name and what follows it.
        args: Args<'a>,
    },
    /// `3<id>[...]`: the answer to an event.
    Ack {
        /// In which namespace.
        namespace: &'a str,
        /// The number that came with the event.
        ack: AckId,
        /// What the other side's callback gets.
        args: Args<'a>,
    },
    /// `5N-["name",...]`: an event whose placeholders stand for the binary messages that follow.
    BinaryEvent {
        /// In which namespace.
        namespace: &'a str,
        /// The number that the sender wants to see in the acknowledgement, if it wants one.
        ack: Option<AckId>,
        /// The name and what follows it; placeholders point at attachments.
        args: Args<'a>,
        /// How many binary messages follow, at least 1.
        attachments: u8,
    },
    /// `6N-<id>[...]`: likewise the answer to an event.
    BinaryAck {
        /// In which namespace.
        namespace: &'a str,
        /// The number that came with the event.
        ack: AckId,
        /// What the other side's callback gets; placeholders point at attachments.
        args: Args<'a>,
        /// How many binary messages follow, at least 1.
        attachments: u8,
    },
}

/// The number by which an acknowledgement finds its event: an integer that JavaScript can hold, so at most 2^53 - 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AckId(pub u64);

impl AckId {
    /// `Number.MAX_SAFE_INTEGER`: above it the reference answers with another number than it was asked with.
    pub const MAX: AckId = AckId((1 << 53) - 1);

    /// Digits of [`AckId::MAX`]. More are not looked at (A19).
    const DIGITS_MAX: usize = 16;
}

/// What a packet may claim.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PacketLimits {
    /// As in the reference since socket.io-parser 4.2.6 (P19).
    pub attachments_max: u8,
    /// Bytes of a namespace, its `/` included and the comma behind it not.
    pub namespace_bytes_max: usize,
}

impl Default for PacketLimits {
    fn default() -> PacketLimits {
        PacketLimits { attachments_max: 10, namespace_bytes_max: 256 }
    }
}

/// Why a message from a client is not a Socket.IO packet. The connection is closed ("parse error").
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum PacketError {
    /// A message of no characters: it has no type.
    Empty,
    /// The first character is none of `0` to `6`.
    UnknownType,
    /// CONNECT_ERROR is for servers to send.
    ConnectErrorFromClient,
    /// The number of attachments is not digits and a dash.
    BadAttachments,
    /// A binary packet that announces none.
    NoAttachments,
    /// More than [`PacketLimits::attachments_max`].
    TooManyAttachments,
    /// A control character in a namespace. One of them, 0x1e, would split the polling payload of the answer.
    BadNamespace,
    /// Over [`PacketLimits::namespace_bytes_max`].
    NamespaceTooLong,
    /// Over [`AckId::MAX`].
    AckIdTooLarge,
    /// An acknowledgement of nothing.
    MissingAckId,
    /// An event or an acknowledgement without arguments.
    MissingPayload,
    /// Something follows a DISCONNECT.
    UnexpectedPayload,
    /// What comes with a CONNECT is JSON of another kind.
    NotAnObject,
    /// The arguments are not in `[...]`.
    NotAnArray,
    /// The first argument of an event is neither a string nor a number.
    NotAnEventName,
    /// One of [`RESERVED_EVENTS`].
    ReservedEventName,
    /// A placeholder that points at no attachment.
    BadPlaceholder,
    /// `JSON.parse` would throw.
    BadJson,
    /// More than [`DEPTH_MAX`](crate::json::DEPTH_MAX) levels.
    JsonTooDeep,
}

impl PacketError {
    /// Every reason, in the order of its declaration.
    pub const ALL: [PacketError; 19] = [
        PacketError::Empty,
        PacketError::UnknownType,
        PacketError::ConnectErrorFromClient,
        PacketError::BadAttachments,
        PacketError::NoAttachments,
        PacketError::TooManyAttachments,
        PacketError::BadNamespace,
        PacketError::NamespaceTooLong,
        PacketError::AckIdTooLarge,
        PacketError::MissingAckId,
        PacketError::MissingPayload,
        PacketError::UnexpectedPayload,
        PacketError::NotAnObject,
        PacketError::NotAnArray,
        PacketError::NotAnEventName,
        PacketError::ReservedEventName,
        PacketError::BadPlaceholder,
        PacketError::BadJson,
        PacketError::JsonTooDeep,
    ];

    /// The reason as the label of a counter.
    pub fn label(self) -> &'static str {
        match self {
            PacketError::Empty => "empty",
            PacketError::UnknownType => "unknown_type",
            PacketError::ConnectErrorFromClient => "connect_error_from_client",
            PacketError::BadAttachments => "bad_attachments",
            PacketError::NoAttachments => "no_attachments",
            PacketError::TooManyAttachments => "too_many_attachments",
            PacketError::BadNamespace => "bad_namespace",
            PacketError::NamespaceTooLong => "namespace_too_long",
            PacketError::AckIdTooLarge => "ack_id_too_large",
            PacketError::MissingAckId => "missing_ack_id",
            PacketError::MissingPayload => "missing_payload",
            PacketError::UnexpectedPayload => "unexpected_payload",
            PacketError::NotAnObject => "not_an_object",
            PacketError::NotAnArray => "not_an_array",
            PacketError::NotAnEventName => "not_an_event_name",
            PacketError::ReservedEventName => "reserved_event_name",
            PacketError::BadPlaceholder => "bad_placeholder",
            PacketError::BadJson => "bad_json",
            PacketError::JsonTooDeep => "json_too_deep",
        }
    }

    /// The reason in words.
    pub fn reason(self) -> &'static str {
        match self {
            PacketError::Empty => "empty packet",
            PacketError::UnknownType => "unknown packet type",
            PacketError::ConnectErrorFromClient => "CONNECT_ERROR from a client",
            PacketError::BadAttachments => "bad number of attachments",
            PacketError::NoAttachments => "binary packet without attachments",
            PacketError::TooManyAttachments => "too many attachments",
            PacketError::BadNamespace => "control character in the namespace",
            PacketError::NamespaceTooLong => "namespace too long",
            PacketError::AckIdTooLarge => "acknowledgement id too large",
            PacketError::MissingAckId => "acknowledgement without an id",
            PacketError::MissingPayload => "missing payload",
            PacketError::UnexpectedPayload => "DISCONNECT with a payload",
            PacketError::NotAnObject => "CONNECT payload is not an object",
            PacketError::NotAnArray => "payload is not an array",
            PacketError::NotAnEventName => "event name is neither a string nor a number",
            PacketError::ReservedEventName => "reserved event name",
            PacketError::BadPlaceholder => "placeholder without an attachment",
            PacketError::BadJson => JsonError::Syntax.reason(),
            PacketError::JsonTooDeep => JsonError::TooDeep.reason(),
        }
    }
}

impl fmt::Display for PacketError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.reason())
    }
}

impl Error for PacketError {}

impl From<JsonError> for PacketError {
    fn from(error: JsonError) -> PacketError {
        match error {
            JsonError::Syntax => PacketError::BadJson,
            JsonError::TooDeep => PacketError::JsonTooDeep,
        }
    }
}

/// Decodes the text of an Engine.IO message, its `4` already taken off (socket.io-protocol v5, "Packet encoding").
pub fn decode<'a>(text: &'a str, limits: &PacketLimits) -> Result<Packet<'a>, PacketError> {
    let mut characters = text.chars();
    let kind = characters.next().ok_or(PacketError::Empty)?;
    let rest = characters.as_str();
    match kind {
        '0' => decode_connect(rest, limits),
        '1' => decode_disconnect(rest, limits),
        '2' => {
            let (namespace, ack, payload) = split_header(rest, limits)?;
            Ok(Packet::Event { namespace, ack, args: event_args(payload, 0)? })
        }
        '3' => {
            let (namespace, ack, payload) = split_header(rest, limits)?;
            let ack = ack.ok_or(PacketError::MissingAckId)?;
            Ok(Packet::Ack { namespace, ack, args: args(payload, 0)? })
        }
        '4' => Err(PacketError::ConnectErrorFromClient),
        '5' => {
            let (attachments, rest) = split_attachments(rest, limits)?;
            let (namespace, ack, payload) = split_header(rest, limits)?;
            Ok(Packet::BinaryEvent { namespace, ack, args: event_args(payload, attachments)?, attachments })
        }
        '6' => {
            let (attachments, rest) = split_attachments(rest, limits)?;
            let (namespace, ack, payload) = split_header(rest, limits)?;
            let ack = ack.ok_or(PacketError::MissingAckId)?;
            Ok(Packet::BinaryAck { namespace, ack, args: args(payload, attachments)?, attachments })
        }
        _ => Err(PacketError::UnknownType),
    }
}

fn decode_connect<'a>(rest: &'a str, limits: &PacketLimits) -> Result<Packet<'a>, PacketError> {
    let (namespace, payload) = split_namespace(rest, limits)?;
    if payload.is_empty() {
        return Ok(Packet::Connect { namespace, payload: None });
    }
    let value = Value::decode(payload)?;
    if !value.is_object() {
        return Err(PacketError::NotAnObject);
    }
    Ok(Packet::Connect { namespace, payload: Some(value.as_str()) })
}

fn decode_disconnect<'a>(rest: &'a str, limits: &PacketLimits) -> Result<Packet<'a>, PacketError> {
    let (namespace, payload) = split_namespace(rest, limits)?;
    if !payload.is_empty() {
        return Err(PacketError::UnexpectedPayload);
    }
    Ok(Packet::Disconnect { namespace })
}

/// The arguments of an event: at least its name.
fn event_args(payload: &str, attachments: u8) -> Result<Args<'_>, PacketError> {
    let args = args(payload, attachments)?;
    match args.event() {
        Some(EventName::Text(name)) if RESERVED_EVENTS.contains(&&*name) => Err(PacketError::ReservedEventName),
        Some(_) => Ok(args),
        None => Err(PacketError::NotAnEventName),
    }
}

/// The arguments of a packet. Without attachments a placeholder is an object like any other.
fn args(payload: &str, attachments: u8) -> Result<Args<'_>, PacketError> {
    match payload.trim_ascii_start().as_bytes().first() {
        None => return Err(PacketError::MissingPayload),
        Some(b'[') => {}
        Some(_) => return Err(PacketError::NotAnArray),
    }
    if attachments == 0 {
        return Ok(Args::decode(payload)?);
    }
    let mut placeholders = Placeholders::new(attachments);
    let args = Args::decode_observed(payload, &mut placeholders)?;
    if placeholders.found_bad() { Err(PacketError::BadPlaceholder) } else { Ok(args) }
}

/// `N-` in front of a binary packet. Plain decimal without leading zeros: `Number` in the reference takes more.
fn split_attachments<'a>(text: &'a str, limits: &PacketLimits) -> Result<(u8, &'a str), PacketError> {
    let (digits, rest) = split_digits(text);
    let rest = rest.strip_prefix('-').ok_or(PacketError::BadAttachments)?;
    match digits.as_bytes() {
        [] => Err(PacketError::BadAttachments),
        [b'0'] => Err(PacketError::NoAttachments),
        [b'0', ..] => Err(PacketError::BadAttachments),
        _ => match digits.parse() {
            Ok(attachments) if attachments <= limits.attachments_max => Ok((attachments, rest)),
            _ => Err(PacketError::TooManyAttachments),
        },
    }
}

/// The namespace, the id and the payload of an event or an acknowledgement.
fn split_header<'a>(text: &'a str, limits: &PacketLimits) -> Result<(&'a str, Option<AckId>, &'a str), PacketError> {
    let (namespace, rest) = split_namespace(text, limits)?;
    let (ack, payload) = split_ack(rest)?;
    Ok((namespace, ack, payload))
}

/// `/name,`, or `/name` up to the end (S21, S25), or nothing, which is `/`. A query string is part of it (P03).
fn split_namespace<'a>(text: &'a str, limits: &PacketLimits) -> Result<(&'a str, &'a str), PacketError> {
    if !text.starts_with('/') {
        return Ok((MAIN, text));
    }
    // Looked for only as far as it may be.
    let bytes = text.as_bytes();
    let near = bytes.get(..=limits.namespace_bytes_max).unwrap_or(bytes);
    let (namespace, rest) = match memchr(b',', near).and_then(|at| text.split_at_checked(at)) {
        Some((namespace, rest)) => (namespace, rest.get(1..).unwrap_or_default()),
        None if near.len() > limits.namespace_bytes_max => return Err(PacketError::NamespaceTooLong),
        None => (text, ""),
    };
    if namespace.bytes().any(|byte| byte < 0x20) {
        return Err(PacketError::BadNamespace);
    }
    Ok((namespace, rest))
}

/// Digits in front of the payload.
fn split_ack(text: &str) -> Result<(Option<AckId>, &str), PacketError> {
    let (digits, rest) = split_digits(text);
    if digits.is_empty() {
        return Ok((None, rest));
    }
    match digits.parse().map(AckId) {
        Ok(ack) if digits.len() <= AckId::DIGITS_MAX && ack <= AckId::MAX => Ok((Some(ack), rest)),
        _ => Err(PacketError::AckIdTooLarge),
    }
}

fn split_digits(text: &str) -> (&str, &str) {
    let count = text.bytes().take_while(u8::is_ascii_digit).count();
    text.split_at_checked(count).unwrap_or((text, ""))
}
