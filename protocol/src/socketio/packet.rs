//! `SocketPacket`: one Socket.IO v5 packet as a client sends it, decoded in one pass with every reason to refuse it.

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
pub enum SocketPacket<'a> {
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

crate::portable!(struct AckId(id));

impl AckId {
    /// `Number.MAX_SAFE_INTEGER`: above it the reference answers with another number than it was asked with.
    pub const MAX: AckId = AckId((1 << 53) - 1);

    /// Digits of [`AckId::MAX`]. More are not looked at (A19).
    const DIGITS_MAX: usize = 16;
}

#[cfg(feature = "arbitrary")]
impl arbitrary::Arbitrary<'_> for AckId {
    fn arbitrary(input: &mut arbitrary::Unstructured<'_>) -> arbitrary::Result<AckId> {
        input.int_in_range(0..=AckId::MAX.0).map(AckId)
    }
}

/// What a packet may claim.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "arbitrary", derive(arbitrary::Arbitrary))]
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
pub enum SocketPacketError {
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

impl SocketPacketError {
    /// Every reason, in the order of its declaration.
    pub const ALL: [SocketPacketError; 19] = [
        SocketPacketError::Empty,
        SocketPacketError::UnknownType,
        SocketPacketError::ConnectErrorFromClient,
        SocketPacketError::BadAttachments,
        SocketPacketError::NoAttachments,
        SocketPacketError::TooManyAttachments,
        SocketPacketError::BadNamespace,
        SocketPacketError::NamespaceTooLong,
        SocketPacketError::AckIdTooLarge,
        SocketPacketError::MissingAckId,
        SocketPacketError::MissingPayload,
        SocketPacketError::UnexpectedPayload,
        SocketPacketError::NotAnObject,
        SocketPacketError::NotAnArray,
        SocketPacketError::NotAnEventName,
        SocketPacketError::ReservedEventName,
        SocketPacketError::BadPlaceholder,
        SocketPacketError::BadJson,
        SocketPacketError::JsonTooDeep,
    ];

    /// The reason as the label of a counter.
    pub fn label(self) -> &'static str {
        match self {
            SocketPacketError::Empty => "empty",
            SocketPacketError::UnknownType => "unknown_type",
            SocketPacketError::ConnectErrorFromClient => "connect_error_from_client",
            SocketPacketError::BadAttachments => "bad_attachments",
            SocketPacketError::NoAttachments => "no_attachments",
            SocketPacketError::TooManyAttachments => "too_many_attachments",
            SocketPacketError::BadNamespace => "bad_namespace",
            SocketPacketError::NamespaceTooLong => "namespace_too_long",
            SocketPacketError::AckIdTooLarge => "ack_id_too_large",
            SocketPacketError::MissingAckId => "missing_ack_id",
            SocketPacketError::MissingPayload => "missing_payload",
            SocketPacketError::UnexpectedPayload => "unexpected_payload",
            SocketPacketError::NotAnObject => "not_an_object",
            SocketPacketError::NotAnArray => "not_an_array",
            SocketPacketError::NotAnEventName => "not_an_event_name",
            SocketPacketError::ReservedEventName => "reserved_event_name",
            SocketPacketError::BadPlaceholder => "bad_placeholder",
            SocketPacketError::BadJson => "bad_json",
            SocketPacketError::JsonTooDeep => "json_too_deep",
        }
    }

    /// The reason in words.
    pub fn reason(self) -> &'static str {
        match self {
            SocketPacketError::Empty => "empty packet",
            SocketPacketError::UnknownType => "unknown packet type",
            SocketPacketError::ConnectErrorFromClient => "CONNECT_ERROR from a client",
            SocketPacketError::BadAttachments => "bad number of attachments",
            SocketPacketError::NoAttachments => "binary packet without attachments",
            SocketPacketError::TooManyAttachments => "too many attachments",
            SocketPacketError::BadNamespace => "control character in the namespace",
            SocketPacketError::NamespaceTooLong => "namespace too long",
            SocketPacketError::AckIdTooLarge => "acknowledgement id too large",
            SocketPacketError::MissingAckId => "acknowledgement without an id",
            SocketPacketError::MissingPayload => "missing payload",
            SocketPacketError::UnexpectedPayload => "DISCONNECT with a payload",
            SocketPacketError::NotAnObject => "CONNECT payload is not an object",
            SocketPacketError::NotAnArray => "payload is not an array",
            SocketPacketError::NotAnEventName => "event name is neither a string nor a number",
            SocketPacketError::ReservedEventName => "reserved event name",
            SocketPacketError::BadPlaceholder => "placeholder without an attachment",
            SocketPacketError::BadJson => JsonError::Syntax.reason(),
            SocketPacketError::JsonTooDeep => JsonError::TooDeep.reason(),
        }
    }
}

impl fmt::Display for SocketPacketError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.reason())
    }
}

impl Error for SocketPacketError {}

impl From<JsonError> for SocketPacketError {
    fn from(error: JsonError) -> SocketPacketError {
        match error {
            JsonError::Syntax => SocketPacketError::BadJson,
            JsonError::TooDeep => SocketPacketError::JsonTooDeep,
        }
    }
}

impl<'a> SocketPacket<'a> {
    /// Decodes the text of an Engine.IO message, its `4` already taken off (socket.io-protocol v5, "SocketPacket encoding").
    pub fn decode(text: &'a str, limits: &PacketLimits) -> Result<SocketPacket<'a>, SocketPacketError> {
        let mut characters = text.chars();
        let kind = characters.next().ok_or(SocketPacketError::Empty)?;
        let rest = characters.as_str();
        match kind {
            '0' => decode_connect(rest, limits),
            '1' => decode_disconnect(rest, limits),
            '2' => {
                let (namespace, ack, payload) = split_header(rest, limits)?;
                Ok(SocketPacket::Event { namespace, ack, args: event_args(payload, 0)? })
            }
            '3' => {
                let (namespace, ack, payload) = split_header(rest, limits)?;
                let ack = ack.ok_or(SocketPacketError::MissingAckId)?;
                Ok(SocketPacket::Ack { namespace, ack, args: args(payload, 0)? })
            }
            '4' => Err(SocketPacketError::ConnectErrorFromClient),
            '5' => {
                let (attachments, rest) = split_attachments(rest, limits)?;
                let (namespace, ack, payload) = split_header(rest, limits)?;
                Ok(SocketPacket::BinaryEvent { namespace, ack, args: event_args(payload, attachments)?, attachments })
            }
            '6' => {
                let (attachments, rest) = split_attachments(rest, limits)?;
                let (namespace, ack, payload) = split_header(rest, limits)?;
                let ack = ack.ok_or(SocketPacketError::MissingAckId)?;
                Ok(SocketPacket::BinaryAck { namespace, ack, args: args(payload, attachments)?, attachments })
            }
            _ => Err(SocketPacketError::UnknownType),
        }
    }
}

fn decode_connect<'a>(rest: &'a str, limits: &PacketLimits) -> Result<SocketPacket<'a>, SocketPacketError> {
    let (namespace, payload) = split_namespace(rest, limits)?;
    if payload.is_empty() {
        return Ok(SocketPacket::Connect { namespace, payload: None });
    }
    let value = Value::decode(payload)?;
    if !value.is_object() {
        return Err(SocketPacketError::NotAnObject);
    }
    Ok(SocketPacket::Connect { namespace, payload: Some(value.as_str()) })
}

fn decode_disconnect<'a>(rest: &'a str, limits: &PacketLimits) -> Result<SocketPacket<'a>, SocketPacketError> {
    let (namespace, payload) = split_namespace(rest, limits)?;
    if !payload.is_empty() {
        return Err(SocketPacketError::UnexpectedPayload);
    }
    Ok(SocketPacket::Disconnect { namespace })
}

/// The arguments of an event: at least its name.
fn event_args(payload: &str, attachments: u8) -> Result<Args<'_>, SocketPacketError> {
    let args = args(payload, attachments)?;
    match args.event() {
        Some(EventName::Text(name)) if RESERVED_EVENTS.contains(&&*name) => Err(SocketPacketError::ReservedEventName),
        Some(_) => Ok(args),
        None => Err(SocketPacketError::NotAnEventName),
    }
}

/// The arguments of a packet. Without attachments a placeholder is an object like any other.
fn args(payload: &str, attachments: u8) -> Result<Args<'_>, SocketPacketError> {
    match payload.trim_ascii_start().as_bytes().first() {
        None => return Err(SocketPacketError::MissingPayload),
        Some(b'[') => {}
        Some(_) => return Err(SocketPacketError::NotAnArray),
    }
    if attachments == 0 {
        return Ok(Args::decode(payload)?);
    }
    let mut placeholders = Placeholders::new(attachments);
    let args = Args::decode_observed(payload, &mut placeholders)?;
    if placeholders.found_bad() { Err(SocketPacketError::BadPlaceholder) } else { Ok(args) }
}

/// `N-` in front of a binary packet. Plain decimal without leading zeros: `Number` in the reference takes more.
fn split_attachments<'a>(text: &'a str, limits: &PacketLimits) -> Result<(u8, &'a str), SocketPacketError> {
    let (digits, rest) = split_digits(text);
    let rest = rest.strip_prefix('-').ok_or(SocketPacketError::BadAttachments)?;
    match digits.as_bytes() {
        [] => Err(SocketPacketError::BadAttachments),
        [b'0'] => Err(SocketPacketError::NoAttachments),
        [b'0', ..] => Err(SocketPacketError::BadAttachments),
        _ => match digits.parse() {
            Ok(attachments) if attachments <= limits.attachments_max => Ok((attachments, rest)),
            _ => Err(SocketPacketError::TooManyAttachments),
        },
    }
}

/// The namespace, the id and the payload of an event or an acknowledgement.
fn split_header<'a>(
    text: &'a str,
    limits: &PacketLimits,
) -> Result<(&'a str, Option<AckId>, &'a str), SocketPacketError> {
    let (namespace, rest) = split_namespace(text, limits)?;
    let (ack, payload) = split_ack(rest)?;
    Ok((namespace, ack, payload))
}

/// `/name,`, or `/name` up to the end (S21, S25), or nothing, which is `/`. A query string is part of it (P03).
pub(super) fn split_namespace<'a>(
    text: &'a str,
    limits: &PacketLimits,
) -> Result<(&'a str, &'a str), SocketPacketError> {
    if !text.starts_with('/') {
        return Ok((MAIN, text));
    }
    // Looked for only as far as it may be.
    let bytes = text.as_bytes();
    let near = bytes.get(..=limits.namespace_bytes_max).unwrap_or(bytes);
    let (namespace, rest) = match memchr(b',', near).and_then(|at| text.split_at_checked(at)) {
        Some((namespace, rest)) => (namespace, rest.get(1..).unwrap_or_default()),
        None if near.len() > limits.namespace_bytes_max => return Err(SocketPacketError::NamespaceTooLong),
        None => (text, ""),
    };
    if namespace.bytes().any(|byte| byte < 0x20) {
        return Err(SocketPacketError::BadNamespace);
    }
    Ok((namespace, rest))
}

/// Digits in front of the payload.
fn split_ack(text: &str) -> Result<(Option<AckId>, &str), SocketPacketError> {
    let (digits, rest) = split_digits(text);
    if digits.is_empty() {
        return Ok((None, rest));
    }
    match digits.parse().map(AckId) {
        Ok(ack) if digits.len() <= AckId::DIGITS_MAX && ack <= AckId::MAX => Ok((Some(ack), rest)),
        _ => Err(SocketPacketError::AckIdTooLarge),
    }
}

fn split_digits(text: &str) -> (&str, &str) {
    let count = text.bytes().take_while(u8::is_ascii_digit).count();
    text.split_at_checked(count).unwrap_or((text, ""))
}
