//! `Client`: one WebSocket to an Engine.IO server, as one object that is told bytes and times, and says what came of it.
//!
//! It opens the session by WebSocket, answers pings, and gives the server up when it pings no more. It speaks to any
//! server of Engine.IO v4. For long-polling there are the parts: [`ClientRequest`](crate::http::ClientRequest),
//! [`ResponseHead`], [`Payload`](crate::engineio::Payload) and [`PayloadEncoder`](crate::engineio::PayloadEncoder).

use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::error::Error;
use core::fmt;

use crate::Millis;
use crate::engineio::{Data, EnginePacket, EnginePacketError, OpenPacket, OpenPacketError};
use crate::http::{HeadLimits, RequestError, ResponseHead};
use crate::server::{OwnedData, SendError};
use crate::websocket::{
    Event, Fin, FrameError, Handshake, HandshakeError, MessageLimits, Opcode, ServerDecoder, encode_client_frame,
};

/// Whom a [`Client`] speaks to, and what it takes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientSettings {
    /// The `Host` header: `name` or `name:port`.
    pub host: String,
    /// The path with its query.
    pub target: String,
    /// What the head of the answer may cost.
    pub head: HeadLimits,
    /// What a message may cost.
    pub message: MessageLimits,
}

impl Default for ClientSettings {
    fn default() -> ClientSettings {
        ClientSettings {
            host: "localhost".into(),
            target: "/socket.io/?EIO=4&transport=websocket".into(),
            head: HeadLimits::default(),
            message: MessageLimits::default(),
        }
    }
}

/// What came of bytes, or of the time.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ClientEvent {
    /// The session is open: messages may go both ways.
    Opened {
        /// Its id. Who knows it can read along: it is not for logs.
        sid: String,
        /// Milliseconds from one ping to the next.
        ping_interval_ms: u64,
        /// Milliseconds that the server waits for a pong.
        ping_timeout_ms: u64,
        /// Bytes of a message that the server takes.
        payload_bytes_max: u64,
    },
    /// The server has sent a message.
    Message(OwnedData),
    /// It is over. What is left to transmit is the answer to a close frame, or nothing.
    Closed(ClientEnd),
}

/// Why a [`Client`] ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ClientEnd {
    /// A close frame, with its code if it had one.
    CloseFrame(Option<u16>),
    /// A close packet.
    ClosePacket,
    /// No ping in time.
    PingTimeout,
    /// The answer to the handshake is no answer of HTTP.
    Http(RequestError),
    /// The answer is another than was asked for.
    Handshake(HandshakeError),
    /// The first packet is not an open packet.
    Open(OpenPacketError),
    /// Wrong frames.
    Frame(FrameError),
    /// A text that is no packet.
    Packet(EnginePacketError),
}

impl fmt::Display for ClientEnd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ClientEnd::CloseFrame(Some(code)) => write!(f, "the server closed the WebSocket with code {code}"),
            ClientEnd::CloseFrame(None) => f.write_str("the server closed the WebSocket"),
            ClientEnd::ClosePacket => f.write_str("the server closed the session"),
            ClientEnd::PingTimeout => f.write_str("the server has not pinged in time"),
            ClientEnd::Http(error) => error.fmt(f),
            ClientEnd::Handshake(error) => error.fmt(f),
            ClientEnd::Open(error) => error.fmt(f),
            ClientEnd::Frame(error) => error.fmt(f),
            ClientEnd::Packet(error) => error.fmt(f),
        }
    }
}

impl Error for ClientEnd {}

#[derive(Debug)]
enum ClientStage {
    Handshake {
        handshake: Handshake,
        scanned: usize,
    },
    /// A WebSocket, until the open packet has come.
    Opening,
    Open {
        /// From one ping to the end without another.
        patience_ms: u64,
        ping_by: Millis,
    },
    Over,
}

/// One client on one connection.
pub struct Client {
    settings: ClientSettings,
    stage: ClientStage,
    decoder: ServerDecoder,
    input: Vec<u8>,
    output: Vec<u8>,
    masks: u64,
}

impl Client {
    /// Begins: the request is there to [`transmit`](Client::transmit).
    ///
    /// `random` makes the key of the handshake and the masks. RFC 6455 section 5.3 wants masks that nobody can foretell,
    /// which the operating system's random bytes are for, and those of a test are not.
    pub fn connect(settings: ClientSettings, random: [u8; 16]) -> Client {
        let handshake = Handshake::new(random);
        let mut output = Vec::new();
        handshake.encode(&settings.target, &settings.host, &[], &mut output);
        let masks = random.iter().fold(0, |sum: u64, byte| sum.rotate_left(8) ^ u64::from(*byte));
        Client {
            settings,
            stage: ClientStage::Handshake { handshake, scanned: 0 },
            decoder: ServerDecoder::default(),
            input: Vec::new(),
            output,
            masks,
        }
    }

    /// Bytes came, cut anywhere.
    pub fn receive(&mut self, bytes: &[u8], now: Millis) -> Vec<ClientEvent> {
        let mut events = Vec::new();
        self.input.extend_from_slice(bytes);
        if let ClientStage::Handshake { handshake, scanned } = &mut self.stage {
            match ResponseHead::decode(&self.input, scanned, &self.settings.head) {
                Ok(None) => return events,
                Ok(Some((head, length))) => match handshake.check(&head) {
                    Ok(()) => {
                        self.input.drain(..length);
                        self.stage = ClientStage::Opening;
                    }
                    Err(error) => self.end(ClientEnd::Handshake(error), &mut events),
                },
                Err(error) => self.end(ClientEnd::Http(error), &mut events),
            }
        }
        let mut input = core::mem::take(&mut self.input);
        let mut decoder = core::mem::take(&mut self.decoder);
        let mut rest = input.as_mut_slice();
        while !matches!(self.stage, ClientStage::Over) {
            match decoder.decode(rest, &self.settings.message) {
                Ok(decoded) => {
                    let consumed = decoded.consumed;
                    let Some(event) = decoded.event else { break };
                    self.on_event(event, now, &mut events);
                    rest = rest.get_mut(consumed..).unwrap_or_default();
                }
                Err(error) => {
                    self.encode(Opcode::Close, &error.close_code().to_be_bytes());
                    self.end(ClientEnd::Frame(error), &mut events);
                }
            }
        }
        self.decoder = decoder;
        events
    }

    /// The time has come, or passed, that [`deadline`](Client::deadline) told.
    pub fn expire(&mut self, now: Millis) -> Vec<ClientEvent> {
        let mut events = Vec::new();
        if self.deadline() <= now {
            self.end(ClientEnd::PingTimeout, &mut events);
        }
        events
    }

    /// Until when the server has to ping. Before the session is open it is the caller's to lose patience.
    pub fn deadline(&self) -> Millis {
        match self.stage {
            ClientStage::Open { ping_by, .. } => ping_by,
            _ => Millis::NEVER,
        }
    }

    /// The bytes for the network, all at once.
    pub fn transmit(&mut self) -> Vec<u8> {
        core::mem::take(&mut self.output)
    }

    /// Sends a message. Before the session is open there is none to send it in.
    pub fn send(&mut self, message: impl Into<OwnedData>) -> Result<(), SendError> {
        if !matches!(self.stage, ClientStage::Open { .. }) {
            return Err(SendError::Closed);
        }
        match message.into() {
            OwnedData::Text(text) => self.send_packet(&EnginePacket::Message(Data::Text(&text))),
            OwnedData::Binary(bytes) => self.encode(Opcode::Binary, &bytes),
        }
        Ok(())
    }

    /// Ends the session, and the WebSocket with it. Nothing is told of it.
    pub fn close(&mut self) {
        if let ClientStage::Opening | ClientStage::Open { .. } = self.stage {
            self.encode(Opcode::Close, &1000_u16.to_be_bytes());
        }
        self.stage = ClientStage::Over;
    }

    fn on_event(&mut self, event: Event<'_>, now: Millis, events: &mut Vec<ClientEvent>) {
        match event {
            Event::Text(text) if matches!(self.stage, ClientStage::Opening) => match OpenPacket::decode(text) {
                Ok(open) => {
                    let patience_ms = open.ping_interval_ms.saturating_add(open.ping_timeout_ms);
                    self.stage = ClientStage::Open { patience_ms, ping_by: now + patience_ms };
                    events.push(ClientEvent::Opened {
                        sid: open.sid.to_string(),
                        ping_interval_ms: open.ping_interval_ms,
                        ping_timeout_ms: open.ping_timeout_ms,
                        payload_bytes_max: open.payload_bytes_max,
                    });
                }
                Err(error) => self.end(ClientEnd::Open(error), events),
            },
            Event::Text(text) => match EnginePacket::decode(text) {
                Ok(packet) => self.on_packet(packet, now, events),
                Err(error) => self.end(ClientEnd::Packet(error), events),
            },
            Event::Binary(bytes) => events.push(ClientEvent::Message(OwnedData::Binary(bytes.to_vec()))),
            Event::Ping(bytes) => self.encode(Opcode::Pong, bytes),
            Event::Pong(_) => {}
            Event::Close(frame) => {
                let code = frame.map(|frame| frame.code);
                self.encode(Opcode::Close, code.map(u16::to_be_bytes).as_ref().map_or(&[], |code| code.as_slice()));
                self.end(ClientEnd::CloseFrame(code), events);
            }
        }
    }

    fn on_packet(&mut self, packet: EnginePacket<'_>, now: Millis, events: &mut Vec<ClientEvent>) {
        match packet {
            EnginePacket::Ping(text) => {
                if let ClientStage::Open { patience_ms, ping_by } = &mut self.stage {
                    *ping_by = now + *patience_ms;
                }
                self.send_packet(&EnginePacket::Pong(text));
            }
            EnginePacket::Message(Data::Text(text)) => events.push(ClientEvent::Message(OwnedData::Text(text.into()))),
            EnginePacket::Message(Data::Binary(bytes)) => {
                events.push(ClientEvent::Message(OwnedData::Binary(bytes.into_owned())));
            }
            EnginePacket::Close => {
                self.encode(Opcode::Close, &[]);
                self.end(ClientEnd::ClosePacket, events);
            }
            EnginePacket::Open | EnginePacket::Pong(_) | EnginePacket::Upgrade | EnginePacket::Noop => {}
        }
    }

    fn send_packet(&mut self, packet: &EnginePacket<'_>) {
        let mut text = Vec::new();
        packet.encode(&mut text);
        self.encode(Opcode::Text, &text);
    }

    fn encode(&mut self, opcode: Opcode, payload: &[u8]) {
        // splitmix64: every frame has a mask of its own.
        self.masks = self.masks.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.masks;
        for (shift, factor) in [(30, 0xbf58_476d_1ce4_e5b9), (27, 0x94d0_49bb_1331_11eb)] {
            mixed = (mixed ^ (mixed >> shift)).wrapping_mul(factor);
        }
        let [a, b, c, d, ..] = (mixed ^ (mixed >> 31)).to_be_bytes();
        encode_client_frame(opcode, Fin::Last, [a, b, c, d], payload, &mut self.output);
    }

    fn end(&mut self, end: ClientEnd, events: &mut Vec<ClientEvent>) {
        self.stage = ClientStage::Over;
        events.push(ClientEvent::Closed(end));
    }
}

/// Without what has come and what is to go: it is not for logs.
impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("stage", &self.stage).finish_non_exhaustive()
    }
}
