//! `decode` and `encode`: bytes on a channel and messages, in the words of whichever adapter the cluster speaks.

use std::error::Error;
use std::fmt;

use sockring_protocol::adapter::{Envelope, Message};

use super::channels::{Adapter, Channels};
use super::{classic, sharded};

/// The longest message that is looked at. Answers that describe tens of thousands of sockets are the longest there are.
pub const MESSAGE_BYTES_MAX: usize = 64 << 20;

/// Byte strings of one message. A stock client refuses events with more than ten; the server's own limit for clients can
/// be set as high as this.
pub const ATTACHMENTS_MAX: usize = 255;

/// Why a message is dropped. Never a reason to end anything: whoever can publish can send it again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum MessageError {
    /// No channel of ours, or not one for such a message.
    Channel,
    /// Neither one JSON text nor one msgpack value.
    Syntax,
    TooLong,
    TooDeep,
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

/// What is published: with PUBLISH for the classic adapter, with SPUBLISH for the sharded one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outgoing {
    pub channel: String,
    pub body: Vec<u8>,
}

/// What came on a channel. Messages of one's own come back as well: who compares `uid` is the caller.
pub fn decode(channels: &Channels, channel: &[u8], body: &[u8]) -> Result<Envelope, MessageError> {
    if body.len() > MESSAGE_BYTES_MAX {
        return Err(MessageError::TooLong);
    }
    match channels.adapter() {
        Adapter::Classic => classic::decode(channels, channel, body),
        Adapter::Sharded => sharded::decode(channels, channel, body),
    }
}

/// A message as the other instances want it. `None`: the adapter has no such message, or an answer's asker has no channel.
pub fn encode(channels: &Channels, uid: &str, namespace: &str, message: &Message) -> Option<Outgoing> {
    match channels.adapter() {
        Adapter::Classic => Some(classic::encode(channels, uid, namespace, message)),
        Adapter::Sharded => sharded::encode(channels, uid, namespace, message),
    }
}

#[cfg(test)]
mod tests;
