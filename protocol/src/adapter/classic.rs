//! The classic adapter's messages: msgpack for broadcasts, JSON or msgpack for questions and answers.

use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;

use crate::msgpack::from_json;

use super::broadcast::{Broadcast, Selection};
use super::channels::{ChannelKind, ChannelName, Channels};
use super::error::MessageError;
use super::fields::{MessageFields, broadcast, check_namespace};
use super::message::{Answer, Envelope, Message, Outgoing};
use super::part::Part;
use super::writer::{Flags, Writer};

/// `type` of a question or order, and of some answers.
mod kind {
    pub(super) const SOCKETS: u64 = 0;
    pub(super) const ALL_ROOMS: u64 = 1;
    pub(super) const REMOTE_JOIN: u64 = 2;
    pub(super) const REMOTE_LEAVE: u64 = 3;
    pub(super) const REMOTE_DISCONNECT: u64 = 4;
    pub(super) const REMOTE_FETCH: u64 = 5;
    pub(super) const SERVER_SIDE_EMIT: u64 = 6;
    pub(super) const BROADCAST: u64 = 7;
    pub(super) const BROADCAST_CLIENT_COUNT: u64 = 8;
    pub(super) const BROADCAST_ACK: u64 = 9;
}

pub(super) fn decode(place: ChannelName<'_>, body: &[u8]) -> Result<Envelope, MessageError> {
    let ChannelName { namespace, kind } = place;
    if let ChannelKind::Namespace | ChannelKind::Room(_) = kind {
        return decode_broadcast(Part::msgpack(body)?, namespace);
    }
    let text;
    let message = if body.first() == Some(&b'{') {
        text = String::from_utf8_lossy(body);
        Part::json(&text)?
    } else {
        Part::msgpack(body)?
    };
    let fields = MessageFields::of(message)?;
    let message = match kind {
        ChannelKind::Answers(asker) => {
            Message::Answer { asker: asker.map(Box::from), request: fields.request()?, answer: decode_answer(&fields)? }
        }
        _ => decode_request(&fields, namespace)?,
    };
    Ok(Envelope { uid: fields.uid(), namespace: namespace.into(), message })
}

/// `[uid, packet, opts]`, and from servers like us what they call an event that they keep. The room of the channel is not
/// looked at: `opts` says who gets it.
fn decode_broadcast(message: Part<'_>, namespace: &str) -> Result<Envelope, MessageError> {
    let mut parts = message.elements()?;
    let uid = parts.next().and_then(Part::text).map(|uid| uid.into_owned().into_boxed_str());
    let packet = parts.next().ok_or(MessageError::Shape)?;
    check_namespace(packet, namespace)?;
    let (mut broadcast, _) = broadcast(packet, parts.next(), namespace)?;
    broadcast.kept = parts.next().and_then(Part::text).map(|kept| kept.into());
    Ok(Envelope { uid, namespace: namespace.into(), message: Message::Broadcast(broadcast) })
}

fn decode_request(fields: &MessageFields<'_>, namespace: &str) -> Result<Message, MessageError> {
    Ok(match fields.kind().ok_or(MessageError::Shape)? {
        kind::SOCKETS => Message::Ids { request: fields.request()?, rooms: fields.rooms()? },
        kind::ALL_ROOMS => Message::Rooms { request: fields.request()? },
        kind::REMOTE_JOIN => {
            let (selection, rooms) = selection_and_rooms(fields, namespace)?;
            Message::Join { selection, rooms, confirm: confirm(fields)? }
        }
        kind::REMOTE_LEAVE => {
            let (selection, rooms) = selection_and_rooms(fields, namespace)?;
            Message::Leave { selection, rooms, confirm: confirm(fields)? }
        }
        kind::REMOTE_DISCONNECT => Message::Disconnect {
            selection: selection(fields, namespace)?,
            ending: fields.ending(),
            confirm: confirm(fields)?,
        },
        kind::REMOTE_FETCH => Message::Fetch { request: fields.request()?, selection: fields.selection(namespace)? },
        kind::SERVER_SIDE_EMIT => {
            Message::ServerSide { request: fields.request_if_any()?, args: MessageFields::server_side(fields.data)? }
        }
        kind::BROADCAST => {
            check_namespace(fields.packet.ok_or(MessageError::Shape)?, namespace)?;
            let (broadcast, timeout_ms) = fields.broadcast(namespace)?;
            Message::BroadcastForAck { request: fields.request()?, broadcast, timeout_ms }
        }
        _ => return Err(MessageError::UnknownType),
    })
}

/// Before version 7 of the adapter an order named one socket, and wanted an answer from who has it.
fn selection(fields: &MessageFields<'_>, namespace: &str) -> Result<Selection, MessageError> {
    if fields.options.is_some() {
        return fields.selection(namespace);
    }
    let sid = fields.sid.and_then(Part::text).ok_or(MessageError::Shape)?;
    Ok(Selection { namespace: namespace.into(), rooms: vec![sid.into()], except: Vec::new() })
}

fn selection_and_rooms(
    fields: &MessageFields<'_>,
    namespace: &str,
) -> Result<(Selection, Vec<Box<str>>), MessageError> {
    let selection = selection(fields, namespace)?;
    if fields.options.is_some() {
        return Ok((selection, fields.rooms()?));
    }
    let room = fields.room.and_then(Part::room).ok_or(MessageError::Shape)?;
    Ok((selection, vec![room]))
}

fn confirm(fields: &MessageFields<'_>) -> Result<Option<Box<str>>, MessageError> {
    if fields.options.is_some() { Ok(None) } else { fields.request_if_any() }
}

/// Most answers have no type: what is in them tells.
fn decode_answer(fields: &MessageFields<'_>) -> Result<Answer, MessageError> {
    match fields.kind() {
        Some(kind::SERVER_SIDE_EMIT) => MessageFields::server_side_answer(fields.data),
        Some(kind::BROADCAST_CLIENT_COUNT) => fields.receivers(),
        Some(kind::BROADCAST_ACK) => fields.acknowledgement(),
        _ if fields.sockets.is_some() => fields.sockets(),
        _ if fields.rooms.is_some() => fields.rooms().map(Answer::Rooms),
        None => Ok(Answer::Done),
        Some(_) => Err(MessageError::UnknownType),
    }
}

pub(super) fn encode(channels: &Channels, uid: &str, namespace: &str, message: &Message) -> Outgoing {
    match message {
        Message::Broadcast(broadcast) => {
            Outgoing { channel: channels.of_rooms(namespace, &broadcast.rooms), body: encode_broadcast(uid, broadcast) }
        }
        Message::Answer { asker, request, answer } => Outgoing {
            channel: match asker {
                Some(asker) => channels.of_answers(namespace, asker),
                None => channels.of_all_answers(namespace),
            },
            body: encode_answer(uid, request, answer),
        },
        _ => Outgoing { channel: channels.of_requests(namespace), body: encode_request(uid, message) },
    }
}

fn encode_broadcast(uid: &str, broadcast: &Broadcast) -> Vec<u8> {
    let mut json = Writer::new();
    json.raw("[").text(uid).raw(",");
    json.named_packet(broadcast).raw(",").options(&broadcast.rooms, &broadcast.except, Flags::of(broadcast));
    if let Some(kept) = &broadcast.kept {
        json.raw(",").text(kept);
    }
    json.raw("]");
    msgpack(json, &broadcast.attachments)
}

/// In the order of Node's keys.
fn encode_request(uid: &str, message: &Message) -> Vec<u8> {
    let mut json = Writer::new();
    json.raw("{\"uid\":").text(uid);
    let request = |json: &mut Writer, request: &str| {
        json.raw(",\"requestId\":").text(request);
    };
    match message {
        Message::Ids { request: id, rooms } => {
            request(&mut json, id);
            json.kind(kind::SOCKETS).raw(",\"rooms\":").rooms(rooms);
        }
        Message::Rooms { request: id } => {
            request(&mut json, id);
            json.kind(kind::ALL_ROOMS);
        }
        Message::Join { selection, rooms, .. } => order(&mut json, kind::REMOTE_JOIN, selection, rooms),
        Message::Leave { selection, rooms, .. } => order(&mut json, kind::REMOTE_LEAVE, selection, rooms),
        Message::Disconnect { selection, ending, .. } => {
            json.kind(kind::REMOTE_DISCONNECT).raw(",\"opts\":").selection(selection);
            json.raw(",").ending(*ending);
        }
        Message::Fetch { request: id, selection } => {
            request(&mut json, id);
            json.kind(kind::REMOTE_FETCH).raw(",\"opts\":").selection(selection);
        }
        Message::ServerSide { request: id, args } => {
            if let Some(id) = id {
                request(&mut json, id);
            }
            json.kind(kind::SERVER_SIDE_EMIT).raw(",\"data\":").json(args);
        }
        Message::BroadcastForAck { request: id, broadcast, timeout_ms } => {
            request(&mut json, id);
            json.kind(kind::BROADCAST).raw(",\"packet\":").named_packet(broadcast).raw(",\"opts\":");
            json.options(&broadcast.rooms, &broadcast.except, Flags::for_ack(broadcast, *timeout_ms)).raw("}");
            return msgpack(json, &broadcast.attachments);
        }
        // Not requests: the caller has encoded them.
        Message::Broadcast(_) | Message::Answer { .. } => {}
    }
    json.raw("}");
    json.finish()
}

fn order(json: &mut Writer, kind: u64, selection: &Selection, rooms: &[Box<str>]) {
    json.kind(kind).raw(",\"opts\":").selection(selection).raw(",\"rooms\":").rooms(rooms);
}

/// As Node's, with one key more: the uid of who answers, which Node does not look at. Who asks can tell from it whose
/// answers are missing.
fn encode_answer(uid: &str, request: &str, answer: &Answer) -> Vec<u8> {
    let mut json = Writer::new();
    let kind = match answer {
        Answer::ServerSide(_) => Some(kind::SERVER_SIDE_EMIT),
        Answer::Receivers(_) => Some(kind::BROADCAST_CLIENT_COUNT),
        Answer::Acknowledgement { .. } => Some(kind::BROADCAST_ACK),
        Answer::Ids(_) | Answer::Rooms(_) | Answer::Sockets(_) | Answer::Done => None,
    };
    json.raw("{");
    if let Some(kind) = kind {
        json.raw("\"type\":").number(kind).raw(",");
    }
    json.raw("\"requestId\":").text(request);
    match answer {
        Answer::Ids(ids) => json.raw(",\"sockets\":").texts(ids),
        Answer::Rooms(rooms) => json.raw(",\"rooms\":").rooms(rooms),
        Answer::Sockets(sockets) => json.raw(",\"sockets\":").sockets(sockets),
        Answer::Done => &mut json,
        Answer::ServerSide(value) => json.raw(",\"data\":").json(value),
        Answer::Receivers(count) => json.raw(",\"clientCount\":").number(*count),
        Answer::Acknowledgement { value, attachments } => {
            if let Some(value) = value {
                json.raw(",\"packet\":").json(value);
            }
            json.raw(",\"uid\":").text(uid).raw("}");
            return msgpack(json, attachments);
        }
    };
    json.raw(",\"uid\":").text(uid).raw("}");
    json.finish()
}

fn msgpack<A: AsRef<[u8]>>(json: Writer, attachments: &[A]) -> Vec<u8> {
    let mut body = Vec::new();
    from_json(&json.finish_text(), attachments, &mut body);
    body
}
