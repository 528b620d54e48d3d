//! The sharded adapter's messages: one shape for all, as JSON, or as msgpack where there are byte strings in it.

use alloc::string::String;
use alloc::vec::Vec;

use crate::msgpack::from_json;

use super::broadcast::{Broadcast, Selection};
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

fn decode_message(kind: u64, data: &MessageFields<'_>, place: ChannelName<'_>) -> Result<Message, MessageError> {
    let namespace = place.namespace;
    let answer = match kind {
        kind::BROADCAST => {
            let (broadcast, timeout_ms) = data.broadcast(namespace)?;
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
    let channel = match message {
        Message::Broadcast(broadcast) => channels.of_rooms(namespace, &broadcast.rooms),
        Message::Answer { asker, .. } => channels.of_answers(namespace, asker.as_deref()?),
        _ => channels.of_namespace(namespace),
    };
    let mut json = Writer::new();
    json.raw("{\"type\":");
    encode_data(&mut json, message)?;
    json.raw("},\"uid\":").text(uid).raw(",\"nsp\":").text(namespace).raw("}");
    let body = match message {
        Message::Broadcast(Broadcast { attachments, .. })
        | Message::BroadcastForAck { broadcast: Broadcast { attachments, .. }, .. } => {
            with_attachments(json, attachments)
        }
        Message::Answer { answer: Answer::Acknowledgement { attachments, .. }, .. } => {
            with_attachments(json, attachments)
        }
        _ => json.finish(),
    };
    Some(Outgoing { channel, body })
}

/// The whole message is msgpack if there are byte strings in it.
fn with_attachments<A: AsRef<[u8]>>(json: Writer, attachments: &[A]) -> Vec<u8> {
    if attachments.is_empty() {
        return json.finish();
    }
    let mut body = Vec::new();
    from_json(&json.finish_text(), attachments, &mut body);
    body
}

/// The type, and `data` but for its end. `None`: there is no such message.
fn encode_data(json: &mut Writer, message: &Message) -> Option<()> {
    match message {
        Message::Broadcast(broadcast) => {
            data(json, kind::BROADCAST).raw("\"packet\":").packet(broadcast).raw(",\"opts\":");
            json.options(&broadcast.rooms, &broadcast.except, Flags::of(broadcast));
        }
        Message::BroadcastForAck { request, broadcast, timeout_ms } => {
            data(json, kind::BROADCAST).raw("\"packet\":").packet(broadcast);
            json.raw(",\"requestId\":").text(request).raw(",\"opts\":");
            json.options(&broadcast.rooms, &broadcast.except, Flags::for_ack(broadcast, *timeout_ms));
        }
        Message::Join { selection, rooms, .. } => {
            options(data(json, kind::SOCKETS_JOIN), selection).raw(",\"rooms\":").rooms(rooms);
        }
        Message::Leave { selection, rooms, .. } => {
            options(data(json, kind::SOCKETS_LEAVE), selection).raw(",\"rooms\":").rooms(rooms);
        }
        Message::Disconnect { selection, ending, .. } => {
            options(data(json, kind::DISCONNECT_SOCKETS), selection).raw(",").ending(*ending);
        }
        Message::Fetch { request, selection } => {
            options(data(json, kind::FETCH_SOCKETS), selection).raw(",\"requestId\":").text(request);
        }
        Message::ServerSide { request, args } => {
            data(json, kind::SERVER_SIDE_EMIT);
            if let Some(request) = request {
                json.raw("\"requestId\":").text(request).raw(",");
            }
            json.raw("\"packet\":").json(args);
        }
        Message::Answer { request, answer, .. } => encode_answer(json, request, answer)?,
        Message::Ids { .. } | Message::Rooms { .. } => return None,
    }
    Some(())
}

fn encode_answer(json: &mut Writer, request: &str, answer: &Answer) -> Option<()> {
    let kind = match answer {
        Answer::Sockets(_) => kind::FETCH_SOCKETS_RESPONSE,
        Answer::ServerSide(_) => kind::SERVER_SIDE_EMIT_RESPONSE,
        Answer::Receivers(_) => kind::BROADCAST_CLIENT_COUNT,
        Answer::Acknowledgement { .. } => kind::BROADCAST_ACK,
        Answer::Ids(_) | Answer::Rooms(_) | Answer::Done => return None,
    };
    data(json, kind).raw("\"requestId\":").text(request);
    match answer {
        Answer::Sockets(sockets) => json.raw(",\"sockets\":").sockets(sockets),
        Answer::ServerSide(value) => json.raw(",\"packet\":").json(value),
        Answer::Receivers(count) => json.raw(",\"clientCount\":").number(*count),
        Answer::Acknowledgement { value: Some(value), .. } => json.raw(",\"packet\":").json(value),
        _ => json,
    };
    Some(())
}

fn data(json: &mut Writer, kind: u64) -> &mut Writer {
    json.number(kind).raw(",\"data\":{")
}

fn options<'a>(json: &'a mut Writer, selection: &Selection) -> &'a mut Writer {
    json.raw("\"opts\":").options(&selection.rooms, &selection.except, Flags::default())
}
