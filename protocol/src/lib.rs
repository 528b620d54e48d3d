//! HTTP, WebSocket, Engine.IO v4 and Socket.IO v5 as pure functions and small machines: bytes in, values out, and back.
//!
//! Nothing here opens a socket, reads a clock, starts a thread or allocates by a length that a peer merely claims.
//!
//! ```text
//!  bytes of a TCP connection, cut anywhere
//!    |
//!    v
//!  http::Head                      one request: its route, its query, how long its body is
//!    |           \
//!    |            websocket::AcceptKey        may it become a WebSocket? the 101
//!    v                |
//!  http::BodyDecoder  v
//!    |            websocket::Decoder          whole messages, pings, the close frame
//!    v                |
//!  engineio::Payload  |                       the packets of a POST
//!    |                |
//!    v                v
//!  engineio::EnginePacket --> engineio::Session     what a packet means for the session, and when it is time
//!    |                                              for a ping or for the end
//!    v   the text behind the 4
//!  socketio::SocketPacket          CONNECT, DISCONNECT, EVENT, ACK, with or without attachments
//!    |           \
//!    v            socketio::Assembler         keeps a packet until its attachments have come
//!  socketio::Args                  the arguments: checked JSON that stays the text that it was
//! ```
//!
//! All of it at once, for any number of connections, is [`server::Server`]: tell it bytes and times, it gives events, bytes
//! and its next deadline. With the feature `client`, `client::Client` is the other side. Beside them, [`adapter`] and
//! [`msgpack`] are what servers tell each other over Redis.
//!
//! # A frame
//!
//! A message that came whole is unmasked where it lies and lent out of there.
//!
//! ```
//! use sockring_protocol::websocket::{Decoder, Event, MessageLimits};
//!
//! // RFC 6455 section 5.7: a masked text frame, and two bytes of the next one.
//! let mut bytes = *b"\x81\x85\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58\x81\x85";
//! let mut decoder = Decoder::default();
//! let decoded = decoder.decode(&mut bytes, &MessageLimits::default())?;
//! assert_eq!(decoded.event, Some(Event::Text("Hello")));
//! let taken = decoded.consumed;
//! // All that is left is taken, too; the decoder keeps what has begun until more comes.
//! let decoded = decoder.decode(&mut bytes[taken..], &MessageLimits::default())?;
//! assert_eq!((decoded.event, decoded.consumed), (None, 2));
//! # Ok::<(), sockring_protocol::websocket::FrameError>(())
//! ```
//!
//! # A polling payload
//!
//! ```
//! use sockring_protocol::engineio::{Data, EnginePacket, Payload};
//! use sockring_protocol::socketio::{PacketLimits, SocketPacket};
//!
//! // The body of a POST: a pong, and an event that wants to be acknowledged.
//! let mut packets = Payload::decode("3\u{1e}4212[\"hello\",{\"a\":1}]", 16);
//! assert_eq!(packets.next(), Some(Ok(EnginePacket::Pong(""))));
//! let Some(Ok(EnginePacket::Message(Data::Text(text)))) = packets.next() else { panic!("a message") };
//! match SocketPacket::decode(text, &PacketLimits::default())? {
//!     SocketPacket::Event { namespace, ack, args } => {
//!         assert_eq!((namespace, ack.unwrap().0, args.text()), ("/", 12, "[\"hello\",{\"a\":1}]"));
//!         assert_eq!(args.after_event(), "{\"a\":1}");
//!     }
//!     other => panic!("{other:?}"),
//! }
//! # Ok::<(), sockring_protocol::socketio::SocketPacketError>(())
//! ```
//!
//! # A session on virtual time
//!
//! ```
//! use sockring_protocol::Millis;
//! use sockring_protocol::engineio::{SessionEnd, Transport};
//! use sockring_protocol::server::{OwnedData, Server, ServerEvent, ServerSettings};
//!
//! let mut server = Server::new(ServerSettings::default(), || [7; 15]);
//! let connection = server.accept();
//! let start = Millis(0);
//!
//! // The handshake opens a session, and its answer is there to be written.
//! let request = b"GET /socket.io/?EIO=4&transport=polling HTTP/1.1\r\nHost: a\r\n\r\n";
//! let events = server.receive(connection, request, start);
//! let [ServerEvent::Opened { session, transport: Transport::Polling }] = events[..] else { panic!("{events:?}") };
//! let answer = String::from_utf8(server.transmit().unwrap().bytes).unwrap();
//! assert!(answer.contains("\r\n\r\n0{\"sid\":\"BwcHBwcHBwcHBwcHBwcH\",\"upgrades\":[\"websocket\"]"));
//!
//! // A POST brings a message, which goes back with the next GET.
//! let sid = "EIO=4&transport=polling&sid=BwcHBwcHBwcHBwcHBwcH";
//! let request = format!("POST /socket.io/?{sid} HTTP/1.1\r\nHost: a\r\nContent-Length: 6\r\n\r\n4hello");
//! for event in server.receive(connection, request.as_bytes(), start + 100) {
//!     let ServerEvent::Message { session, message } = event else { panic!("{event:?}") };
//!     assert_eq!(message, OwnedData::Text("hello".into()));
//!     server.send(session, message, start + 100).unwrap();
//! }
//! let request = format!("GET /socket.io/?{sid} HTTP/1.1\r\nHost: a\r\n\r\n");
//! server.receive(connection, request.as_bytes(), start + 200);
//! let answers = String::from_utf8(server.transmit().unwrap().bytes).unwrap();
//! assert!(answers.contains("\r\n\r\nok") && answers.ends_with("\r\n\r\n4hello"));
//!
//! // Then it says nothing any more. Half a minute and more passes at once.
//! let ping_at = server.deadline();
//! assert_eq!((ping_at, server.expire(ping_at)), (start + 25_000, vec![]));
//! let end_at = server.deadline();
//! assert_eq!(server.expire(end_at), [ServerEvent::Closed { session, end: SessionEnd::PingTimeout }]);
//! assert_eq!((end_at, server.deadline()), (start + 45_000, Millis::NEVER));
//! ```
//!
//! # What holds everywhere
//!
//! - **Bytes may be cut anywhere**, and mean the same. What is wrong is found with the byte that makes it wrong.
//! - **No bytes of a peer cause a panic**: `unwrap`, indexing and casts that lose are lints that fail the build, and the
//!   bodies in `fuzz/` are run on every change.
//! - **Memory** grows with what has arrived, within the limits that are passed in (`*_max`); what is whole is borrowed.
//! - **Time** is an argument: [`Millis`] since any moment, as long as it is the same for all calls.
//! - **Form**: what decodes to a type of its own is `Type::decode` and is written by `value.encode`; functions
//!   `encode_*` append what is given in pieces. `out` is appended to, never cleared.
//! - **Errors** are one small `Copy` enum per layer, which knows the HTTP status or the close code that answers it. They may
//!   grow: they are `#[non_exhaustive]`.
//! - What the reference (engine.io 6.6, socket.io-parser 4.2) does where the specifications are silent was observed, and
//!   is cited as rows (T20, P13) of `docs/wire.md` in the repository.
//!
//! # Features
//!
//! | Feature | What it adds |
//! |---|---|
//! | `std` (default) | dependencies look for the processor's widest instructions as they run; without it the crate needs `alloc` only |
//! | `client` | the other direction: requests, masked frames and packets written as clients do, answers and frames of servers read, `client::Client` |
//! | `arbitrary` | `Arbitrary` for inputs, packets and messages, to derive structured inputs for fuzzing from |
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]
#![deny(missing_docs)]
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic))]

extern crate alloc;
// The derives of `arbitrary` name it.
#[cfg(feature = "arbitrary")]
extern crate std;

pub mod adapter;
#[cfg(feature = "client")]
pub mod client;
pub mod engineio;
pub mod http;
pub mod json;
mod millis;
pub mod msgpack;
pub mod portable;
pub mod server;
pub mod socketio;
pub mod websocket;

pub use millis::Millis;

/// The examples of the README are tests.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
