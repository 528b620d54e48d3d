//! `decode` and `encode`: bytes on a channel and messages, in the words of whichever adapter the cluster speaks.

use super::channels::{Adapter, ChannelName, Channels};
use super::error::MessageError;
use super::message::{Envelope, MESSAGE_BYTES_MAX, Message, Outgoing};
use super::{classic, sharded, streams};

/// What came on a channel. Messages of one's own come back as well: who compares `uid` is the caller.
pub fn decode(channels: &Channels, channel: &[u8], body: &[u8]) -> Result<Envelope, MessageError> {
    decode_at(channels, channels.places(channel), body)
}

/// What came on a channel that is one of these, of which the message itself says which one: it names its namespace.
pub fn decode_at<'a>(
    channels: &Channels,
    places: impl Iterator<Item = ChannelName<'a>>,
    body: &[u8],
) -> Result<Envelope, MessageError> {
    if body.len() > MESSAGE_BYTES_MAX {
        return Err(MessageError::TooLong);
    }
    let mut result = Err(MessageError::Channel);
    for place in places {
        result = match channels.adapter() {
            Adapter::Classic => classic::decode(place, body),
            Adapter::Sharded | Adapter::Streams => sharded::decode(place, body),
        };
        if result != Err(MessageError::OtherNamespace) {
            break;
        }
    }
    result
}

/// A message as the other instances want it. `None`: the adapter has no such message, or an answer's asker has no channel, or
/// it is an entry of the stream: see `encode_entry`.
pub fn encode(channels: &Channels, uid: &str, namespace: &str, message: &Message) -> Option<Outgoing> {
    match channels.adapter() {
        Adapter::Classic => Some(classic::encode(channels, uid, namespace, message)),
        Adapter::Sharded => sharded::encode(channels, uid, namespace, message),
        Adapter::Streams => streams::encode(channels, uid, namespace, message),
    }
}

#[cfg(test)]
mod tests;
