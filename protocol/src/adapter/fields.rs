//! `MessageFields`: the named parts that the messages of both adapters are made of, and what each is read as.

use alloc::borrow::Cow;
use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;

use crate::msgpack::ByteStrings;
use crate::socketio::{Args, EventName, RESERVED_EVENTS};

use super::broadcast::{Broadcast, Delivery, Selection};
use super::error::MessageError;
use super::message::{Answer, Ending, SocketDescription};
use super::part::Part;
use super::trace::TraceContext;

/// How long clients may take to acknowledge if the sender does not say: what Node's adapters wait for answers.
pub(super) const TIMEOUT_MS_DEFAULT: u64 = 5000;

/// The parts of a message, or of what it calls `data`. A part that is `null` is missing.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct MessageFields<'a> {
    pub(super) uid: Option<Part<'a>>,
    pub(super) namespace: Option<Part<'a>>,
    pub(super) kind: Option<Part<'a>>,
    pub(super) data: Option<Part<'a>>,
    pub(super) request: Option<Part<'a>>,
    pub(super) packet: Option<Part<'a>>,
    pub(super) options: Option<Part<'a>>,
    pub(super) rooms: Option<Part<'a>>,
    pub(super) sid: Option<Part<'a>>,
    pub(super) room: Option<Part<'a>>,
    pub(super) close: Option<Part<'a>>,
    pub(super) reconnect: Option<Part<'a>>,
    pub(super) sockets: Option<Part<'a>>,
    pub(super) client_count: Option<Part<'a>>,
    pub(super) kept: Option<Part<'a>>,
}

impl<'a> MessageFields<'a> {
    pub(super) fn of(message: Part<'a>) -> Result<MessageFields<'a>, MessageError> {
        let mut fields = MessageFields::default();
        for (key, value) in message.members()? {
            let field = match &*key {
                "uid" => &mut fields.uid,
                "nsp" => &mut fields.namespace,
                "type" => &mut fields.kind,
                "data" => &mut fields.data,
                "requestId" => &mut fields.request,
                "packet" => &mut fields.packet,
                "opts" => &mut fields.options,
                "rooms" => &mut fields.rooms,
                "sid" => &mut fields.sid,
                "room" => &mut fields.room,
                "close" => &mut fields.close,
                "reconnect" => &mut fields.reconnect,
                "sockets" => &mut fields.sockets,
                "clientCount" => &mut fields.client_count,
                "kept" => &mut fields.kept,
                _ => continue,
            };
            *field = Some(value).filter(|value| !value.is_nothing());
        }
        Ok(fields)
    }

    pub(super) fn uid(&self) -> Option<Box<str>> {
        self.uid.and_then(Part::text).map(boxed)
    }

    pub(super) fn kind(&self) -> Option<u64> {
        let is_kind = |kind: &Part<'_>| kind.number().is_some_and(|number| number >= 0.0 && number % 1.0 == 0.0);
        self.kind.filter(is_kind).and_then(Part::count)
    }

    /// Who asks can recognise its answer only if it gets its own words back.
    pub(super) fn request(&self) -> Result<Box<str>, MessageError> {
        self.request_if_any()?.ok_or(MessageError::Shape)
    }

    pub(super) fn request_if_any(&self) -> Result<Option<Box<str>>, MessageError> {
        self.request.map(|request| request.text().map(boxed).ok_or(MessageError::Shape)).transpose()
    }

    /// The rooms that something is done with.
    pub(super) fn rooms(&self) -> Result<Vec<Box<str>>, MessageError> {
        names(self.rooms)
    }

    /// The sockets that something is done to.
    pub(super) fn selection(&self, namespace: &str) -> Result<Selection, MessageError> {
        let options = Options::of(self.options)?;
        Ok(Selection { namespace: namespace.into(), rooms: options.rooms, except: options.except })
    }

    /// `reconnect` is a word of ours: a server of Node ends a client for good.
    pub(super) fn ending(&self) -> Ending {
        let is_set = |part: Option<Part<'_>>| part.is_some_and(Part::is_true);
        match (is_set(self.close), is_set(self.reconnect)) {
            (false, _) => Ending::Socket,
            (true, false) => Ending::Client,
            (true, true) => Ending::Session,
        }
    }

    /// The event in `packet` to the sockets in `opts`, and how long they have for acknowledging it.
    pub(super) fn broadcast(&self, namespace: &str) -> Result<(Broadcast, u64), MessageError> {
        broadcast(self.packet.ok_or(MessageError::Shape)?, self.options, namespace)
    }

    /// Arguments for the servers' own code. Byte strings are spelt out, as the classic adapter's JSON does.
    pub(super) fn server_side(args: Option<Part<'a>>) -> Result<Box<[u8]>, MessageError> {
        let (text, _) = args.ok_or(MessageError::Shape)?.to_json(ByteStrings::Spell)?;
        event(&text).map_err(|_| MessageError::Shape)?;
        Ok(boxed_bytes(text))
    }

    /// What servers answer to such an event: any value, or none.
    pub(super) fn server_side_answer(value: Option<Part<'a>>) -> Result<Answer, MessageError> {
        let text = value.map(|value| value.to_json(ByteStrings::Spell)).transpose()?;
        Ok(Answer::ServerSide(text.map_or_else(|| b"null".as_slice().into(), |(text, _)| boxed_bytes(text))))
    }

    pub(super) fn receivers(&self) -> Result<Answer, MessageError> {
        self.client_count.and_then(Part::count).map(Answer::Receivers).ok_or(MessageError::Shape)
    }

    pub(super) fn acknowledgement(&self) -> Result<Answer, MessageError> {
        let Some(packet) = self.packet else {
            return Ok(Answer::Acknowledgement { value: None, attachments: Vec::new() });
        };
        let (text, attachments) = packet.to_json(ByteStrings::Attach)?;
        let attachments = attachments.into_iter().map(Box::from).collect();
        Ok(Answer::Acknowledgement { value: Some(boxed_bytes(text)), attachments })
    }

    /// Ids or descriptions.
    pub(super) fn sockets(&self) -> Result<Answer, MessageError> {
        let sockets = self.sockets.ok_or(MessageError::Shape)?;
        let is_ids = sockets.elements()?.next().is_some_and(|first| first.text().is_some());
        if is_ids {
            let ids = sockets.elements()?.map(|id| id.text().map(boxed).ok_or(MessageError::Shape));
            return ids.collect::<Result<_, _>>().map(Answer::Ids);
        }
        sockets.elements()?.map(description).collect::<Result<_, _>>().map(Answer::Sockets)
    }
}

/// `opts`.
#[derive(Debug, Default)]
struct Options {
    rooms: Vec<Box<str>>,
    except: Vec<Box<str>>,
    delivery: Delivery,
    conflate: Option<Box<str>>,
    trace: Option<TraceContext>,
    timeout_ms: Option<u64>,
}

impl Options {
    /// Node fails without `opts`; without what is in them it takes the defaults.
    fn of(options: Option<Part<'_>>) -> Result<Options, MessageError> {
        let (mut rooms, mut except, mut flags) = (None, None, None);
        for (key, value) in options.ok_or(MessageError::Shape)?.members()? {
            match &*key {
                "rooms" => rooms = Some(value),
                "except" => except = Some(value),
                "flags" => flags = Some(value).filter(|flags| !is_none(*flags)),
                _ => {}
            }
        }
        let mut options = Options { rooms: names(rooms)?, except: names(except)?, ..Options::default() };
        if let Some(flags) = flags {
            for (key, value) in flags.members()? {
                match &*key {
                    "volatile" => options.delivery = if value.is_true() { Delivery::Volatile } else { Delivery::Queue },
                    "timeout" => options.timeout_ms = value.count(),
                    "conflate" => options.conflate = value.text().map(boxed),
                    "traceparent" => options.trace = value.text().and_then(|text| TraceContext::decode(&text)),
                    // `compress` is about a connection, `local` about the sender; the rest is unknown.
                    _ => {}
                }
            }
        }
        Ok(options)
    }
}

/// An event out of a packet and its options, and how long clients have for acknowledging it.
pub(super) fn broadcast(
    packet: Part<'_>,
    options: Option<Part<'_>>,
    namespace: &str,
) -> Result<(Broadcast, u64), MessageError> {
    let options = Options::of(options)?;
    let packet = MessageFields::of(packet)?;
    // 2 is an event, with byte strings too. A client's own number for those, 5, makes Node send what no parser takes.
    if packet.kind() != Some(2) {
        return Err(MessageError::Packet);
    }
    let (text, attachments) = packet.data.ok_or(MessageError::Packet)?.to_json(ByteStrings::Attach)?;
    event(&text)?;
    let broadcast = Broadcast {
        namespace: namespace.into(),
        rooms: options.rooms,
        except: options.except,
        delivery: options.delivery,
        conflate: options.conflate,
        args: Arc::from(text.as_bytes()),
        attachments: attachments.into_iter().map(Arc::from).collect(),
        entry: None,
        kept: None,
        trace: options.trace.map(Box::new),
    };
    Ok((broadcast, options.timeout_ms.unwrap_or(TIMEOUT_MS_DEFAULT)))
}

/// The packet's namespace, if it is not that of the channel, makes it a message for nobody.
pub(super) fn check_namespace(packet: Part<'_>, namespace: &str) -> Result<(), MessageError> {
    let named = MessageFields::of(packet)?.namespace;
    let is_same = match named {
        Some(named) => named.text().is_some_and(|name| name == namespace),
        None => namespace == "/",
    };
    if is_same { Ok(()) } else { Err(MessageError::OtherNamespace) }
}

/// A client's parser fails at anything else, and the client leaves.
fn event(args: &str) -> Result<(), MessageError> {
    match Args::decode(args).map_err(|_| MessageError::Packet)?.event() {
        Some(EventName::Text(name)) if !RESERVED_EVENTS.contains(&&*name) => Ok(()),
        Some(EventName::Number(_)) => Ok(()),
        _ => Err(MessageError::Packet),
    }
}

/// Names of rooms. What is no name can have no members here and is left out; but a list of nothing else does not become
/// the empty one, which stands for everybody.
fn names(list: Option<Part<'_>>) -> Result<Vec<Box<str>>, MessageError> {
    let Some(list) = list.filter(|list| !is_none(*list)) else { return Ok(Vec::new()) };
    let names: Vec<Box<str>> = list.elements()?.filter_map(Part::room).collect();
    if names.is_empty() && list.elements()?.next().is_some() { Err(MessageError::Shape) } else { Ok(names) }
}

/// Old emitters write an empty text where they have no rooms, or no flags.
fn is_none(part: Part<'_>) -> bool {
    part.is_nothing() || part.text().is_some_and(|text| text.is_empty())
}

/// A socket of another instance: only `id` must be there, since only we and Node write the rest alike.
fn description(socket: Part<'_>) -> Result<SocketDescription, MessageError> {
    let (mut id, mut rooms, mut user) = (None, None, None);
    for (key, value) in socket.members()? {
        match &*key {
            "id" => id = value.text().map(boxed),
            "rooms" => rooms = Some(value),
            "data" => user = user_of(value),
            _ => {}
        }
    }
    Ok(SocketDescription { id: id.ok_or(MessageError::Shape)?, rooms: names(rooms)?, user })
}

/// `data.userId`. What else servers keep in `data` is theirs, and it need not be an object.
fn user_of(data: Part<'_>) -> Option<Box<str>> {
    data.members().ok()?.filter(|(key, _)| key == "userId").last().and_then(|(_, user)| user.text()).map(boxed)
}

fn boxed(text: Cow<'_, str>) -> Box<str> {
    text.into_owned().into_boxed_str()
}

fn boxed_bytes(text: Cow<'_, str>) -> Box<[u8]> {
    text.into_owned().into_bytes().into_boxed_slice()
}
