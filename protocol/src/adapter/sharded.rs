//! The sharded adapter's messages: one shape for all, as JSON, or as msgpack where there are byte strings in it.

use alloc::string::String;
use alloc::vec::Vec;

use crate::msgpack::from_json;

use super::broadcast::Selection;
use super::channels::{ChannelKind, ChannelName, Channels};
use super::error::MessageError;
use super::fields::MessageFields;
use super::message::{Answer, Envelope, Message, Outgoing};
use super::part::Part;
use super::writer::{Flags, Writer};

/// `type`.
mod kind {
    pub(super) const BROADCAST: u64 = 3;
    pub(super) const SOCKETS_JOIN: u64 = 4;
    pub(super) const SOCKETS_LEAVE: u64 = 5;
    pub(super) const DISCONNECT_SOCKETS: u64 = 6;
    pub(super) const FETCH_SOCKETS: u64 = 7;
    pub(super) const FETCH_SOCKETS_RESPONSE: u64 = 8;
    pub(super) const SERVER_SIDE_EMIT: u64 = 9;
    pub(super) const SERVER_SIDE_EMIT_RESPONSE: u64 = 10;
    pub(super) const BROADCAST_CLIENT_COUNT: u64 = 11;
    pub(super) const BROADCAST_ACK: u64 = 12;
}

pub(super) fn decode(place: ChannelName<'_>, body: &[u8]) -> Result<Envelope, MessageError> {
    let text;
    let message = if body.first() == Some(&b'{') {
        text = String::from_utf8_lossy(body);
        Part::json(&text)?
    } else {
        Part::msgpack(body)?
    };
    let fields = MessageFields::of(message)?;
    let namespace = fields.namespace.and_then(Part::text).ok_or(MessageError::Shape)?;
    if namespace != place.namespace {
        return Err(MessageError::OtherNamespace);
    }
    let kind = fields.kind().ok_or(MessageError::Shape)?;
    let data = fields.data.ok_or(MessageError::UnknownType).and_then(MessageFields::of)?;
    let message = decode_message(kind, &data, place)?;
    Ok(Envelope { uid: fields.uid(), namespace: place.namespace.into(), message })
}

/// What a type and its `data` say.
pub(super) fn decode_message(
    kind: u64,
    data: &MessageFields<'_>,
    place: ChannelName<'_>,
) -> Result<Message, MessageError> {
    let namespace = place.namespace;
    let answer = match kind {
        kind::BROADCAST => {
            let (mut broadcast, timeout_ms) = data.broadcast(namespace)?;
            broadcast.kept = data.kept.and_then(Part::text).map(|kept| kept.into());
            return Ok(match data.request_if_any()? {
                Some(request) => Message::BroadcastForAck { request, broadcast, timeout_ms },
                None => Message::Broadcast(broadcast),
            });
        }
        kind::SOCKETS_JOIN => {
            let selection = data.selection(namespace)?;
            return Ok(Message::Join { selection, rooms: data.rooms()?, confirm: None });
        }
        kind::SOCKETS_LEAVE => {
            let selection = data.selection(namespace)?;
            return Ok(Message::Leave { selection, rooms: data.rooms()?, confirm: None });
        }
        kind::DISCONNECT_SOCKETS => {
            let selection = data.selection(namespace)?;
            return Ok(Message::Disconnect { selection, ending: data.ending(), confirm: None });
        }
        kind::FETCH_SOCKETS => {
            return Ok(Message::Fetch { request: data.request()?, selection: data.selection(namespace)? });
        }
        kind::SERVER_SIDE_EMIT => {
            return Ok(Message::ServerSide {
                request: data.request_if_any()?,
                args: MessageFields::server_side(data.packet)?,
            });
        }
        kind::FETCH_SOCKETS_RESPONSE => data.sockets()?,
        kind::SERVER_SIDE_EMIT_RESPONSE => MessageFields::server_side_answer(data.packet)?,
        kind::BROADCAST_CLIENT_COUNT => data.receivers()?,
        kind::BROADCAST_ACK => data.acknowledgement()?,
        _ => return Err(MessageError::UnknownType),
    };
    // The channel of answers is named like that of a room. On that of the namespace nobody waits for answers.
    let ChannelKind::Room(asker) = place.kind else { return Err(MessageError::Channel) };
    Ok(Message::Answer { asker: Some(asker.into()), request: data.request()?, answer })
}

pub(super) fn encode(channels: &Channels, uid: &str, namespace: &str, message: &Message) -> Option<Outgoing> {
    let channel = channel_of(channels, namespace, message)?;
    let json = encode_whole(uid, namespace, message)?;
    // The whole message is msgpack if there are byte strings in it.
    let body = if has_attachments(message) { to_msgpack(message, &json.finish_text()) } else { json.finish() };
    Some(Outgoing { channel, body })
}

/// Where a message is published. `None`: an answer whose asker has no channel.
pub(super) fn channel_of(channels: &Channels, namespace: &str, message: &Message) -> Option<String> {
    Some(match message {
        Message::Broadcast(broadcast) => channels.of_rooms(namespace, &broadcast.rooms),
        Message::Answer { asker, .. } => channels.of_answers(namespace, asker.as_deref()?),
        _ => channels.of_namespace(namespace),
    })
}

/// The whole message. `None`: there is no such message.
pub(super) fn encode_whole(uid: &str, namespace: &str, message: &Message) -> Option<Writer> {
    let mut json = Writer::new();
    json.raw("{\"type\":").number(kind_of(message)?).raw(",\"data\":");
    encode_data(&mut json, message);
    json.raw(",\"uid\":").text(uid).raw(",\"nsp\":").text(namespace).raw("}");
    Some(json)
}

/// Whether there are byte strings in a message.
pub(super) fn has_attachments(message: &Message) -> bool {
    match message {
        Message::Broadcast(broadcast) | Message::BroadcastForAck { broadcast, .. } => !broadcast.attachments.is_empty(),
        Message::Answer { answer: Answer::Acknowledgement { attachments, .. }, .. } => !attachments.is_empty(),
        _ => false,
    }
}

/// JSON that was made of a message, with the byte strings of the message in it.
pub(super) fn to_msgpack(message: &Message, json: &str) -> Vec<u8> {
    let mut body = Vec::new();
    match message {
        Message::Broadcast(broadcast) | Message::BroadcastForAck { broadcast, .. } => {
            from_json(json, &broadcast.attachments, &mut body);
        }
        Message::Answer { answer: Answer::Acknowledgement { attachments, .. }, .. } => {
            from_json(json, attachments, &mut body);
        }
        _ => from_json::<&[u8]>(json, &[], &mut body),
    }
    body
}

/// `type`. `None`: there is no such message.
pub(super) fn kind_of(message: &Message) -> Option<u64> {
    Some(match message {
        Message::Broadcast(_) | Message::BroadcastForAck { .. } => kind::BROADCAST,
        Message::Join { .. } => kind::SOCKETS_JOIN,
        Message::Leave { .. } => kind::SOCKETS_LEAVE,
        Message::Disconnect { .. } => kind::DISCONNECT_SOCKETS,
        Message::Fetch { .. } => kind::FETCH_SOCKETS,
        Message::ServerSide { .. } => kind::SERVER_SIDE_EMIT,
        Message::Answer { answer, .. } => match answer {
            Answer::Sockets(_) => kind::FETCH_SOCKETS_RESPONSE,
            Answer::ServerSide(_) => kind::SERVER_SIDE_EMIT_RESPONSE,
            Answer::Receivers(_) => kind::BROADCAST_CLIENT_COUNT,
            Answer::Acknowledgement { .. } => kind::BROADCAST_ACK,
            Answer::Ids(_) | Answer::Rooms(_) | Answer::Done => return None,
        },
        Message::Ids { .. } | Message::Rooms { .. } => return None,
    })
}

/// `data`, of a message that has a type.
pub(super) fn encode_data(json: &mut Writer, message: &Message) {
    json.raw("{");
    match message {
        Message::Broadcast(broadcast) => {
            json.raw("\"packet\":").packet(broadcast).raw(",\"opts\":");
            json.options(&broadcast.rooms, &broadcast.except, Flags::of(broadcast));
            if let Some(kept) = &broadcast.kept {
                json.raw(",\"kept\":").text(kept);
            }
        }
        Message::BroadcastForAck { request, broadcast, timeout_ms } => {
            json.raw("\"packet\":").packet(broadcast);
            json.raw(",\"requestId\":").text(request).raw(",\"opts\":");
            json.options(&broadcast.rooms, &broadcast.except, Flags::for_ack(broadcast, *timeout_ms));
        }
        Message::Join { selection, rooms, .. } | Message::Leave { selection, rooms, .. } => {
            options(json, selection).raw(",\"rooms\":").rooms(rooms);
        }
        Message::Disconnect { selection, ending, .. } => {
            options(json, selection).raw(",").ending(*ending);
        }
        Message::Fetch { request, selection } => {
            options(json, selection).raw(",\"requestId\":").text(request);
        }
        Message::ServerSide { request, args } => {
            if let Some(request) = request {
                json.raw("\"requestId\":").text(request).raw(",");
            }
            json.raw("\"packet\":").json(args);
        }
        Message::Answer { request, answer, .. } => encode_answer(json, request, answer),
        Message::Ids { .. } | Message::Rooms { .. } => {}
    }
    json.raw("}");
}

fn encode_answer(json: &mut Writer, request: &str, answer: &Answer) {
    json.raw("\"requestId\":").text(request);
    match answer {
        Answer::Sockets(sockets) => json.raw(",\"sockets\":").sockets(sockets),
        Answer::ServerSide(value) => json.raw(",\"packet\":").json(value),
        Answer::Receivers(count) => json.raw(",\"clientCount\":").number(*count),
        Answer::Acknowledgement { value: Some(value), .. } => json.raw(",\"packet\":").json(value),
        _ => json,
    };
}

fn options<'a>(json: &'a mut Writer, selection: &Selection) -> &'a mut Writer {
    json.raw("\"opts\":").options(&selection.rooms, &selection.except, Flags::default())
}
