//! `MessageError`: why a message of the bus is dropped.

use core::error::Error;
use core::fmt;

/// Byte strings of one message. A stock client refuses events with more than ten; the server's own limit for clients can
/// be set as high as this.
pub const ATTACHMENTS_MAX: usize = 255;

/// Why a message is dropped. Never a reason to end anything: whoever can publish can send it again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum MessageError {
    /// No channel of ours, or not one for such a message.
    Channel,
    /// Neither one JSON text nor one msgpack value.
    Syntax,
    /// More bytes than `MESSAGE_BYTES_MAX`.
    TooLong,
    /// Nested more deeply than `json::DEPTH_MAX`.
    TooDeep,
    /// More byte strings than `ATTACHMENTS_MAX`.
    TooManyAttachments,
    /// A part is missing, or of another type.
    Shape,
    /// No event: a client's parser would choke on it.
    Packet,
    /// For another namespace than its channel. Node ignores those as well.
    OtherNamespace,
    /// A type that this adapter does not have.
    UnknownType,
}

impl MessageError {
    /// The label of a counter, and the word in the log.
    pub fn label(self) -> &'static str {
        match self {
            MessageError::Channel => "channel",
            MessageError::Syntax => "syntax",
            MessageError::TooLong => "too_long",
            MessageError::TooDeep => "too_deep",
            MessageError::TooManyAttachments => "too_many_attachments",
            MessageError::Shape => "shape",
            MessageError::Packet => "packet",
            MessageError::OtherNamespace => "other_namespace",
            MessageError::UnknownType => "unknown_type",
        }
    }
}

impl fmt::Display for MessageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            MessageError::Channel => "the channel is none of ours",
            MessageError::Syntax => "it is neither JSON nor msgpack",
            MessageError::TooLong => "it is too long",
            MessageError::TooDeep => "it is nested too deeply",
            MessageError::TooManyAttachments => "it has too many attachments",
            MessageError::Shape => "a part is missing or of another type",
            MessageError::Packet => "it is not an event",
            MessageError::OtherNamespace => "it is for another namespace",
            MessageError::UnknownType => "its type is unknown",
        })
    }
}

impl Error for MessageError {}
