//! `Writer`: the JSON of messages, with the keys in the order in which Node writes them.

use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec::Vec;

use crate::json::{encode_integer, encode_string};

use super::broadcast::{Broadcast, Delivery, Selection};
use super::message::{Ending, SocketDescription};
use super::room::number_of;
use super::trace::TraceContext;

/// What stands where Node says how a client came: all nine keys, since code on Node reads through them, and nothing in them,
/// since addresses and headers of clients are nobody else's.
const HANDSHAKE: &str = concat!(
    r#"{"headers":{},"time":"","address":"","xdomain":false,"secure":false,"#,
    r#""issued":0,"url":"","query":{},"auth":{}}"#
);

/// Appends to one JSON text.
#[derive(Debug, Default)]
pub(super) struct Writer {
    out: Vec<u8>,
}

/// `opts.flags`.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Flags<'a> {
    delivery: Delivery,
    /// Unknown to Node, which passes over it.
    conflate: Option<&'a str>,
    /// As unknown.
    trace: Option<&'a TraceContext>,
    timeout_ms: Option<u64>,
}

impl<'a> Flags<'a> {
    pub(super) fn of(broadcast: &'a Broadcast) -> Flags<'a> {
        let (conflate, trace) = (broadcast.conflate.as_deref(), broadcast.trace.as_deref());
        Flags { delivery: broadcast.delivery, conflate, trace, timeout_ms: None }
    }

    pub(super) fn for_ack(broadcast: &'a Broadcast, timeout_ms: u64) -> Flags<'a> {
        Flags { timeout_ms: Some(timeout_ms), ..Flags::of(broadcast) }
    }
}

impl Writer {
    pub(super) fn new() -> Writer {
        Writer::default()
    }

    pub(super) fn finish(self) -> Vec<u8> {
        self.out
    }

    pub(super) fn finish_text(self) -> String {
        // Only texts went in, and JSON that was not text is `null` by `Writer::json`.
        String::from_utf8(self.out).unwrap_or_default()
    }

    /// JSON as it stands in the source.
    pub(super) fn raw(&mut self, json: &str) -> &mut Writer {
        self.out.extend_from_slice(json.as_bytes());
        self
    }

    /// JSON that somebody else has written. What is not UTF-8 is no JSON, and becomes `null`.
    pub(super) fn json(&mut self, json: &[u8]) -> &mut Writer {
        self.raw(core::str::from_utf8(json).unwrap_or("null"))
    }

    pub(super) fn text(&mut self, text: &str) -> &mut Writer {
        encode_string(text, &mut self.out);
        self
    }

    pub(super) fn number(&mut self, number: u64) -> &mut Writer {
        encode_integer(number, &mut self.out);
        self
    }

    pub(super) fn kind(&mut self, kind: u64) -> &mut Writer {
        self.raw(",\"type\":").number(kind)
    }

    /// Rooms, some of which may be numbers.
    pub(super) fn rooms(&mut self, rooms: &[Box<str>]) -> &mut Writer {
        self.list(rooms, |writer, room| match number_of(room) {
            Some(digits) => drop(writer.raw(digits)),
            None => drop(writer.text(room)),
        })
    }

    pub(super) fn texts(&mut self, texts: &[Box<str>]) -> &mut Writer {
        self.list(texts, |writer, text| {
            writer.text(text);
        })
    }

    fn list<T>(&mut self, items: &[T], mut write: impl FnMut(&mut Writer, &T)) -> &mut Writer {
        self.raw("[");
        for (index, item) in items.iter().enumerate() {
            if index > 0 {
                self.raw(",");
            }
            write(self, item);
        }
        self.raw("]")
    }

    /// An event with its namespace, as the classic adapter has it.
    pub(super) fn named_packet(&mut self, broadcast: &Broadcast) -> &mut Writer {
        self.raw("{\"type\":2,\"data\":").json(&broadcast.args);
        self.raw(",\"nsp\":").text(&broadcast.namespace).raw("}")
    }

    /// An event without its namespace, as the sharded adapter has it.
    pub(super) fn packet(&mut self, broadcast: &Broadcast) -> &mut Writer {
        self.raw("{\"type\":2,\"data\":").json(&broadcast.args).raw("}")
    }

    pub(super) fn options(&mut self, rooms: &[Box<str>], except: &[Box<str>], flags: Flags<'_>) -> &mut Writer {
        self.raw("{\"rooms\":").rooms(rooms).raw(",\"except\":").rooms(except).raw(",\"flags\":{");
        let begin = self.out.len();
        if flags.delivery == Delivery::Volatile {
            self.raw("\"volatile\":true");
        }
        if let Some(key) = flags.conflate {
            self.comma_since(begin).raw("\"conflate\":").text(key);
        }
        if let Some(trace) = flags.trace {
            self.comma_since(begin).raw("\"traceparent\":").text(&trace.encode());
        }
        if let Some(timeout_ms) = flags.timeout_ms {
            self.comma_since(begin).raw("\"timeout\":").number(timeout_ms);
        }
        self.raw("}}")
    }

    fn comma_since(&mut self, begin: usize) -> &mut Writer {
        if self.out.len() > begin { self.raw(",") } else { self }
    }

    /// Options without flags, as the classic adapter's orders have them.
    pub(super) fn selection(&mut self, selection: &Selection) -> &mut Writer {
        self.raw("{\"rooms\":").rooms(&selection.rooms).raw(",\"except\":").rooms(&selection.except).raw("}")
    }

    /// `reconnect` is for our like: a server of Node ends a client for good.
    pub(super) fn ending(&mut self, ending: Ending) -> &mut Writer {
        self.raw(match ending {
            Ending::Socket => "\"close\":false",
            Ending::Client => "\"close\":true",
            Ending::Session => "\"close\":true,\"reconnect\":true",
        })
    }

    pub(super) fn sockets(&mut self, sockets: &[SocketDescription]) -> &mut Writer {
        self.list(sockets, |writer, socket| {
            writer.raw("{\"id\":").text(&socket.id).raw(",\"handshake\":").raw(HANDSHAKE);
            writer.raw(",\"rooms\":").rooms(&socket.rooms).raw(",\"data\":{");
            if let Some(user) = &socket.user {
                writer.raw("\"userId\":").text(user);
            }
            writer.raw("}}");
        })
    }
}
