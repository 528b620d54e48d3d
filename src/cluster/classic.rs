//! The classic adapter's messages: msgpack for broadcasts, JSON or msgpack for questions and answers.

use super::channels::{ChannelKind, Channels};
use super::codec::{MessageError, Outgoing};
use super::message::{Envelope, Message};

pub(super) fn decode(channels: &Channels, channel: &[u8], _body: &[u8]) -> Result<Envelope, MessageError> {
    let place = channels.place(channel).ok_or(MessageError::Channel)?;
    match place.kind {
        ChannelKind::Namespace | ChannelKind::Room(_) => Err(MessageError::Packet),
        ChannelKind::Requests | ChannelKind::Answers(_) => Err(MessageError::UnknownType),
    }
}

pub(super) fn encode(channels: &Channels, _uid: &str, namespace: &str, message: &Message) -> Outgoing {
    let channel = match message {
        Message::Broadcast(broadcast) => channels.of_rooms(namespace, &broadcast.rooms),
        Message::Answer { asker: Some(asker), .. } => channels.of_answers(namespace, asker),
        Message::Answer { asker: None, .. } => channels.of_all_answers(namespace),
        _ => channels.of_requests(namespace),
    };
    Outgoing { channel, body: Vec::new() }
}
