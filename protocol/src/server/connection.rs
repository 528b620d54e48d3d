//! `ServerConnection`: the bytes of one TCP connection of a [`Server`](super::Server), as requests, bodies and frames.

use alloc::string::{String, ToString};
use alloc::vec::Vec;

use super::{OwnedData, ServerSettings, SessionId};
use crate::engineio::Transport;
use crate::http::{
    BodyDecoder, BodyState, CONTINUE, Framing, Head, KeepAlive, Method, RequestError, Response, Upgrade,
};
use crate::websocket::{AcceptKey, Decoder, Event, Opcode, UpgradeError, encode_close, encode_frame};

/// What a connection is at the moment.
#[derive(Debug)]
pub(super) enum ConnectionStage {
    /// Between two requests, or within a head.
    Head {
        scanned: usize,
    },
    /// A POST whose body is on its way.
    Body {
        session: SessionId,
        decoder: BodyDecoder,
        body: Vec<u8>,
        keep_alive: KeepAlive,
    },
    /// A GET that waits for something to say. What comes behind it waits, too.
    Held {
        session: SessionId,
        keep_alive: KeepAlive,
    },
    WebSocket {
        session: SessionId,
        decoder: Decoder,
        role: WebSocketRole,
    },
    /// Nothing that comes is looked at any more.
    Over,
}

/// What a WebSocket is to its session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum WebSocketRole {
    Transport,
    /// Beside polling, until it becomes the transport.
    Probe,
}

/// One thing that the bytes said.
#[derive(Debug)]
pub(super) enum Parsed {
    Request(SessionRequest),
    BadRequest(RequestError),
    /// The whole body of a POST.
    Body(SessionId, Vec<u8>, KeepAlive),
    /// The body of a POST is wrong, or too long.
    BadBody(SessionId, RequestError),
    Text(SessionId, WebSocketRole, String),
    Binary(SessionId, WebSocketRole, Vec<u8>),
    /// A close frame has been answered.
    Closed(SessionId, WebSocketRole),
    /// Wrong frames have been answered.
    BadFrame(SessionId, WebSocketRole),
}

/// What a head asks for, as far as a server of sessions cares.
#[derive(Debug)]
pub(super) struct SessionRequest {
    pub(super) method: Method,
    pub(super) is_for_sessions: bool,
    pub(super) transport: Option<Transport>,
    pub(super) sid: Option<String>,
    pub(super) is_revision_4: bool,
    /// What a request for a WebSocket is answered with.
    pub(super) upgrade: Option<Result<AcceptKey, UpgradeError>>,
    pub(super) framing: Framing,
    pub(super) expects_continue: bool,
    pub(super) keep_alive: KeepAlive,
}

/// One TCP connection.
#[derive(Debug)]
pub(super) struct ServerConnection {
    pub(super) stage: ConnectionStage,
    input: Vec<u8>,
    pub(super) output: Vec<u8>,
    /// Of the request that is to be answered next.
    method: Method,
}

impl ServerConnection {
    pub(super) fn new() -> ServerConnection {
        ServerConnection {
            stage: ConnectionStage::Head { scanned: 0 },
            input: Vec::new(),
            output: Vec::new(),
            method: Method::Get,
        }
    }

    /// Whether something has come that was not looked at yet.
    pub(super) fn has_input(&self) -> bool {
        !self.input.is_empty()
    }

    /// Bytes have come. Behind the end they are dropped.
    pub(super) fn push(&mut self, bytes: &[u8]) {
        if !matches!(self.stage, ConnectionStage::Over) {
            self.input.extend_from_slice(bytes);
        }
    }

    /// The next thing that the bytes say; `None` while more are needed, or an answer is due first.
    pub(super) fn advance(&mut self, settings: &ServerSettings) -> Option<Parsed> {
        match &mut self.stage {
            ConnectionStage::Over | ConnectionStage::Held { .. } => None,
            ConnectionStage::Head { scanned } => match Head::decode(&self.input, scanned, &settings.head) {
                Ok(None) => None,
                Ok(Some((head, length))) => {
                    let request = SessionRequest::of(&head, settings);
                    self.method = head.method;
                    self.input.drain(..length);
                    Some(Parsed::Request(request))
                }
                Err(error) => Some(Parsed::BadRequest(error)),
            },
            ConnectionStage::Body { session, decoder, body, keep_alive } => {
                let (session, keep_alive) = (*session, *keep_alive);
                match decoder.decode(&self.input, body) {
                    Ok((consumed, state)) => {
                        self.input.drain(..consumed);
                        let body = (state == BodyState::Complete).then(|| core::mem::take(body))?;
                        Some(Parsed::Body(session, body, keep_alive))
                    }
                    Err(error) => Some(Parsed::BadBody(session, error)),
                }
            }
            ConnectionStage::WebSocket { .. } => self.next_frame(settings),
        }
    }

    /// The next message; control frames are answered here.
    fn next_frame(&mut self, settings: &ServerSettings) -> Option<Parsed> {
        loop {
            let ConnectionStage::WebSocket { session, decoder, role } = &mut self.stage else { return None };
            let (session, role) = (*session, *role);
            let decoded = match decoder.decode(&mut self.input, &settings.message) {
                Ok(decoded) => decoded,
                Err(error) => {
                    encode_close(Some(error.close_code()), "", &mut self.output);
                    self.end();
                    return Some(Parsed::BadFrame(session, role));
                }
            };
            let (consumed, found) = (
                decoded.consumed,
                match decoded.event {
                    None => {
                        self.input.clear();
                        return None;
                    }
                    Some(Event::Text(text)) => Some(Parsed::Text(session, role, text.to_string())),
                    Some(Event::Binary(bytes)) => Some(Parsed::Binary(session, role, bytes.to_vec())),
                    Some(Event::Ping(bytes)) => {
                        encode_frame(Opcode::Pong, bytes, &mut self.output);
                        None
                    }
                    Some(Event::Pong(_)) => None,
                    Some(Event::Close(frame)) => {
                        encode_close(frame.map(|frame| frame.code), "", &mut self.output);
                        Some(Parsed::Closed(session, role))
                    }
                },
            );
            self.input.drain(..consumed);
            if let Some(Parsed::Closed(..)) = found {
                self.end();
            }
            if found.is_some() {
                return found;
            }
        }
    }

    /// Answers the request that has come last, and goes on to the next one, or to the end.
    pub(super) fn answer(&mut self, status: u16, content_type: &str, body: &[u8], keep_alive: KeepAlive) {
        self.encode(&Response { status, content_type, headers: &[], cors: b"", body, keep_alive });
    }

    pub(super) fn encode(&mut self, response: &Response<'_>) {
        match self.method {
            Method::Head => response.encode_head_only(&mut self.output),
            _ => response.encode(&mut self.output),
        }
        match response.keep_alive {
            KeepAlive::Keep => self.stage = ConnectionStage::Head { scanned: 0 },
            KeepAlive::Close => self.end(),
        }
    }

    /// Answers the request for a WebSocket.
    pub(super) fn upgrade(&mut self, key: &AcceptKey, session: SessionId, role: WebSocketRole) {
        key.encode_response(b"", &mut self.output);
        self.stage = ConnectionStage::WebSocket { session, decoder: Decoder::default(), role };
    }

    /// The body of a POST is read.
    pub(super) fn read_body(&mut self, session: SessionId, decoder: BodyDecoder, request: &SessionRequest) {
        if request.expects_continue {
            self.output.extend_from_slice(CONTINUE);
        }
        self.stage = ConnectionStage::Body { session, decoder, body: Vec::new(), keep_alive: request.keep_alive };
    }

    /// A text frame.
    pub(super) fn send(&mut self, packet: &[u8]) {
        encode_frame(Opcode::Text, packet, &mut self.output);
    }

    pub(super) fn send_message(&mut self, message: &OwnedData) {
        match message {
            OwnedData::Text(text) => self.send(text.as_bytes()),
            OwnedData::Binary(bytes) => encode_frame(Opcode::Binary, bytes, &mut self.output),
        }
    }

    /// The probe is its session's WebSocket from here on.
    pub(super) fn become_transport(&mut self) {
        if let ConnectionStage::WebSocket { role, .. } = &mut self.stage {
            *role = WebSocketRole::Transport;
        }
    }

    /// Closes the WebSocket, without a code as the reference does.
    pub(super) fn close_websocket(&mut self) {
        encode_close(None, "", &mut self.output);
        self.end();
    }

    pub(super) fn end(&mut self) {
        self.stage = ConnectionStage::Over;
        self.input = Vec::new();
    }
}

impl SessionRequest {
    fn of(head: &Head<'_>, settings: &ServerSettings) -> SessionRequest {
        let transport = match head.query.value("transport").as_deref() {
            Some("polling") => Some(Transport::Polling),
            Some("websocket") => Some(Transport::WebSocket),
            _ => None,
        };
        SessionRequest {
            method: head.method,
            is_for_sessions: head.path == settings.path,
            transport,
            sid: head.query.value("sid").map(|sid| sid.into_owned()),
            is_revision_4: head.query.value("EIO").as_deref() == Some("4"),
            upgrade: (head.upgrade == Upgrade::WebSocket).then(|| AcceptKey::of(head)),
            framing: head.framing,
            expects_continue: head.expects_continue,
            keep_alive: head.keep_alive,
        }
    }

    /// Whether a body follows that only the reader of a POST takes.
    pub(super) fn has_body(&self) -> bool {
        !matches!(self.framing, Framing::None | Framing::Length(0))
    }

    /// What becomes of the connection if the body is not read: it would be taken for the next request.
    pub(super) fn after(&self) -> KeepAlive {
        if self.has_body() { KeepAlive::Close } else { self.keep_alive }
    }
}
