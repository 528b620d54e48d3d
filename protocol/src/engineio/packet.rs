//! `EnginePacket`: one Engine.IO v4 packet, out of one text frame or one piece of a polling payload.

use alloc::borrow::Cow;
use core::error::Error;
use core::fmt;

use base64::Engine;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};

/// Stands between the packets of a polling payload (engine.io-protocol v4, "EnginePacket encoding", HTTP long-polling).
pub const SEPARATOR: u8 = 0x1e;

/// What Node's `Buffer.from(text, "base64")` takes, except for foreign characters: padding or none, any trailing bits.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new()
        .with_decode_padding_mode(DecodePaddingMode::Indifferent)
        .with_decode_allow_trailing_bits(true),
);

/// One packet. What follows the type of an open, close, upgrade or noop packet has no meaning and is dropped.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "arbitrary", derive(arbitrary::Arbitrary))]
pub enum EnginePacket<'a> {
    /// `0`: the session is open. Only servers send it, with the JSON text that [`OpenPacket`](super::OpenPacket) writes.
    Open,
    /// `1`: the peer closes the session.
    Close,
    /// With its text: `probe` while a client upgrades, otherwise empty.
    Ping(&'a str),
    /// With its text, which answers that of a ping.
    Pong(&'a str),
    /// `4` and a text, or bytes: what the layer above has to say.
    Message(Data<'a>),
    /// `5`: the probe becomes the transport.
    Upgrade,
    /// `6`: nothing; it answers a poll that must not wait any longer.
    Noop,
}

/// What a message carries.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "arbitrary", derive(arbitrary::Arbitrary))]
pub enum Data<'a> {
    /// Out of a text frame or a polling payload, without its type.
    Text(&'a str),
    /// Borrowed from a WebSocket binary frame, owned when it came as base64.
    Binary(Cow<'a, [u8]>),
}

/// Why bytes from a client are not Engine.IO packets. The session is closed (T30, T31, T37).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum EnginePacketError {
    /// A packet of no characters: it has no type.
    Empty,
    /// The first character is none of `0` to `6` and not `b`.
    UnknownType,
    /// What follows `b` is not base64.
    BadBase64,
    /// A payload of more packets than the server takes at once (A18).
    TooManyPackets,
}

impl EnginePacketError {
    /// Every reason, in the order of its declaration.
    pub const ALL: [EnginePacketError; 4] = [
        EnginePacketError::Empty,
        EnginePacketError::UnknownType,
        EnginePacketError::BadBase64,
        EnginePacketError::TooManyPackets,
    ];

    /// The reason as the label of a counter.
    pub fn label(self) -> &'static str {
        match self {
            EnginePacketError::Empty => "empty",
            EnginePacketError::UnknownType => "unknown_type",
            EnginePacketError::BadBase64 => "bad_base64",
            EnginePacketError::TooManyPackets => "too_many_packets",
        }
    }

    /// The reason in words.
    pub fn reason(self) -> &'static str {
        match self {
            EnginePacketError::Empty => "empty packet",
            EnginePacketError::UnknownType => "unknown packet type",
            EnginePacketError::BadBase64 => "bad base64",
            EnginePacketError::TooManyPackets => "too many packets in a payload",
        }
    }
}

impl fmt::Display for EnginePacketError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.reason())
    }
}

impl Error for EnginePacketError {}

impl<'a> EnginePacket<'a> {
    /// Decodes one WebSocket text frame, or one piece of a polling payload.
    ///
    /// A WebSocket binary frame needs no decoding: all of it is the [`Data::Binary`] of a message.
    pub fn decode(frame: &'a str) -> Result<EnginePacket<'a>, EnginePacketError> {
        let mut characters = frame.chars();
        let kind = characters.next().ok_or(EnginePacketError::Empty)?;
        let rest = characters.as_str();
        match kind {
            '0' => Ok(EnginePacket::Open),
            '1' => Ok(EnginePacket::Close),
            '2' => Ok(EnginePacket::Ping(rest)),
            '3' => Ok(EnginePacket::Pong(rest)),
            '4' => Ok(EnginePacket::Message(Data::Text(rest))),
            '5' => Ok(EnginePacket::Upgrade),
            '6' => Ok(EnginePacket::Noop),
            'b' => decode_base64(rest),
            _ => Err(EnginePacketError::UnknownType),
        }
    }
}

fn decode_base64(text: &str) -> Result<EnginePacket<'_>, EnginePacketError> {
    let bytes = BASE64.decode(text).map_err(|_| EnginePacketError::BadBase64)?;
    Ok(EnginePacket::Message(Data::Binary(Cow::Owned(bytes))))
}
