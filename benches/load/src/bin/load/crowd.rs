//! The client's side of every connection as plain data: what came, what it means, and what is to be done about it.

use std::sync::Arc;

use sockring::auth::key::TokenKey;
use sockring::auth::{TokenRules, Verifier};
use sockring::ring::{Armed, Behind, Completion, Descriptor, GENERATION_MASK, ReceiveError, SendBytes, Token};
use sockring_load::frames::{self, Frame};
use sockring_protocol::http::{HeadLimits, ResponseHead};
use sockring_protocol::websocket::{Handshake, Opcode};

use crate::flags::Protocol;
use crate::http;

/// What a mode is told.
#[derive(Debug)]
pub enum Event<'b> {
    /// The handshake is complete: messages may go both ways.
    Joined(u32),
    /// A text message: `42...` with Socket.IO, any with bare WebSocket.
    Message(u32, &'b [u8]),
    /// A request was answered with this status.
    Answered(u32, u16, AfterAnswer),
    /// The server has ended the connection, and was not asked to.
    Ended(u32),
    /// Nothing is left of the connection; its place can be used again.
    Closed(u32),
}

/// What becomes of an HTTP connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AfterAnswer {
    KeepAlive,
    Close,
}

/// Who decides what to do with the messages.
pub trait Handler {
    fn handle(&mut self, event: Event<'_>, todo: &mut Todo);
}

/// What is to be done once the completions at hand are read.
#[derive(Debug, Default)]
pub struct Todo(pub(super) Vec<Act>);

#[derive(Debug)]
pub(super) enum Act {
    Watch(u32),
    Receive(u32),
    Cancel(u32),
    Close(u32),
    Send(u32, SendBytes),
    Open(u32, Role),
    Leave(u32),
}

impl Todo {
    pub fn send(&mut self, index: u32, bytes: SendBytes) {
        self.0.push(Act::Send(index, bytes));
    }

    /// Connects in a place that is free.
    pub fn open(&mut self, index: u32, role: Role) {
        self.0.push(Act::Open(index, role));
    }

    /// Closes the connection as a client does; `Closed` follows.
    pub fn leave(&mut self, index: u32) {
        self.0.push(Act::Leave(index));
    }
}

/// What a connection is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    Client,
    /// A client that reads nothing after its handshake.
    Mute,
    /// Requests to the HTTP API.
    Api,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Free,
    Upgrading,
    /// Waits for Engine.IO's open packet.
    Opening,
    /// Waits for the answer to CONNECT.
    Joining,
    Joined,
    Api,
    /// Has sent a close frame and waits for the end.
    Leaving,
    /// The end has come; its operations are being taken back.
    Ended,
}

pub(super) struct Connection {
    pub(super) ring: u16,
    role: Role,
    state: State,
    receiving: bool,
    /// It has become readable while a receive was under way.
    again: bool,
    watched: bool,
    generation: u32,
    pub(super) descriptor: Option<Descriptor>,
    /// The beginning of a frame or an answer that is not whole.
    partial: Vec<u8>,
}

/// Bytes that are the same for all.
pub(super) struct Speech {
    protocol: Protocol,
    handshake: Handshake,
    pub(super) upgrade: Arc<[u8]>,
    pong: Arc<[u8]>,
    close: Arc<[u8]>,
    connect: Arc<[u8]>,
    tokens: Option<Verifier>,
    now_s: u64,
}

/// Longer than any run.
const TOKEN_TTL_S: u64 = 24 * 3600;

impl Speech {
    pub(super) fn new(protocol: Protocol, host: &str, path: &str, secret: Option<&str>) -> Result<Speech, String> {
        let query = if protocol == Protocol::Socketio { "?EIO=4&transport=websocket" } else { "" };
        let handshake = Handshake::new(*b"the sample nonce");
        let mut upgrade = Vec::new();
        handshake.encode(&format!("{path}{query}"), host, &[], &mut upgrade);
        let tokens = secret.map(|secret| {
            Verifier::new(TokenRules {
                keys: vec![TokenKey::from_secret(secret)],
                minting_secret: Some(secret.to_owned()),
                user_claim: "_id".to_owned(),
                ..TokenRules::default()
            })
        });
        let unix = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        Ok(Speech {
            protocol,
            handshake,
            upgrade: upgrade.into(),
            pong: frames::masked_text(b"3").into(),
            close: frames::masked_close().into(),
            connect: frames::masked_text(b"40").into(),
            tokens: tokens.transpose().map_err(|error| error.to_string())?,
            now_s: unix.as_secs(),
        })
    }

    /// The frame with the CONNECT packet of a client, with what it knows of its session.
    fn connect(&self, index: u32, session: Option<&Session>) -> SendBytes {
        let Some(tokens) = &self.tokens else { return SendBytes::Shared(Arc::clone(&self.connect)) };
        let token = tokens.mint(&format!("u{index}"), self.now_s, TOKEN_TTL_S).unwrap_or_default();
        let known = session.filter(|session| !session.pid.is_empty());
        let known = known.map(|Session { pid, offset }| format!("\"pid\":\"{pid}\",\"offset\":\"{offset}\","));
        let packet = format!("40{{{}\"token\":\"{token}\"}}", known.unwrap_or_default());
        SendBytes::Owned(frames::masked_text(packet.as_bytes()))
    }
}

/// What a stock client keeps of its session.
#[derive(Clone, Debug, Default)]
struct Session {
    /// Empty: it has none.
    pid: Box<str>,
    offset: Box<str>,
}

/// The sessions of clients that come back.
#[derive(Debug, Default)]
pub(super) struct Sessions {
    by_index: Vec<Session>,
    /// Answers with the `pid` that the client had.
    pub(super) recovered: u64,
}

impl Sessions {
    pub(super) fn of(count: u32) -> Sessions {
        Sessions { by_index: vec![Session::default(); count as usize], recovered: 0 }
    }

    fn on_answer(&mut self, index: u32, answer: &[u8]) {
        let Some(session) = self.by_index.get_mut(index as usize) else { return };
        let text = std::str::from_utf8(answer).unwrap_or_default();
        let pid = text.split_once("\"pid\":\"").and_then(|(_, rest)| rest.split_once('"'));
        let Some((pid, _)) = pid else { return };
        self.recovered += u64::from(*session.pid == *pid);
        session.pid = pid.into();
    }

    fn on_event(&mut self, index: u32, event: &[u8]) {
        let Some(session) = self.by_index.get_mut(index as usize) else { return };
        let text = std::str::from_utf8(event).unwrap_or_default();
        if let Some(marker) = text.strip_prefix("42[\"~").and_then(|rest| rest.strip_suffix("\"]")) {
            session.offset = format!("~{marker}").into();
        }
    }
}

/// All connections, by their index.
pub(super) struct Crowd {
    pub(super) connections: Vec<Connection>,
    pub(super) speech: Speech,
    /// Found no receive buffer.
    pub(super) starved: u64,
    /// Empty where nobody comes back.
    pub(super) sessions: Sessions,
}

impl Crowd {
    pub(super) fn new(count: u32, rings: u16, speech: Speech) -> Crowd {
        let free = |index: u32| Connection {
            ring: u16::try_from(index % u32::from(rings)).unwrap_or(0),
            role: Role::Client,
            state: State::Free,
            receiving: false,
            again: false,
            watched: false,
            generation: 0,
            descriptor: None,
            partial: Vec::new(),
        };
        Crowd { connections: (0..count).map(free).collect(), speech, starved: 0, sessions: Sessions::default() }
    }

    pub(super) fn get(&self, index: u32) -> &Connection {
        &self.connections[index as usize]
    }

    pub(super) fn token(&self, index: u32) -> Token {
        Token { index, generation: self.get(index).generation & GENERATION_MASK }
    }

    /// A descriptor that has connected begins its handshake.
    pub(super) fn begin(&mut self, index: u32, role: Role, descriptor: Descriptor) {
        let connection = &mut self.connections[index as usize];
        debug_assert!(connection.state == State::Free);
        connection.role = role;
        connection.state = if role == Role::Api { State::Api } else { State::Upgrading };
        connection.descriptor = Some(descriptor);
        connection.watched = true;
        connection.generation = connection.generation.wrapping_add(1);
        connection.partial.clear();
    }

    /// Begins to leave: the frame to send.
    pub(super) fn leave(&mut self, index: u32) -> SendBytes {
        self.connections[index as usize].state = State::Leaving;
        SendBytes::Shared(Arc::clone(&self.speech.close))
    }

    /// Those that read nothing read from now on.
    pub(super) fn unmute(&mut self, todo: &mut Todo) {
        for (index, connection) in (0..).zip(&mut self.connections) {
            if connection.role == Role::Mute {
                connection.role = Role::Client;
                if !connection.receiving {
                    connection.receiving = true;
                    todo.0.push(Act::Receive(index));
                }
            }
        }
    }

    pub(super) fn on_completion(&mut self, completion: Completion<'_>, todo: &mut Todo, handler: &mut impl Handler) {
        let (Completion::Readable(token, ..)
        | Completion::Received(token, ..)
        | Completion::ReceiveFailed(token, _)
        | Completion::Sent(token, _)
        | Completion::Closed(token)) = completion
        else {
            return;
        };
        let index = token.index;
        if self.token(index) != token {
            return;
        }
        match completion {
            Completion::Readable(_, armed, ..) => self.on_readable(index, armed, todo, handler),
            Completion::Received(_, bytes, behind) => {
                if bytes.is_empty() {
                    return self.on_end(index, todo, handler);
                }
                self.on_bytes(index, bytes, todo, handler);
                self.receive_on(index, behind, todo, handler);
            }
            Completion::ReceiveFailed(_, ReceiveError::WouldBlock) => {
                self.receive_on(index, Behind::Unknown, todo, handler);
            }
            Completion::ReceiveFailed(_, ReceiveError::OutOfBuffers) => {
                self.starved += 1;
                self.receive_on(index, Behind::More, todo, handler);
            }
            Completion::ReceiveFailed(..) | Completion::Sent(_, Err(_)) => self.on_end(index, todo, handler),
            Completion::Closed(_) => {
                let connection = &mut self.connections[index as usize];
                connection.state = State::Free;
                handler.handle(Event::Closed(index), todo);
            }
            _ => {}
        }
    }

    fn on_readable(&mut self, index: u32, armed: Armed, todo: &mut Todo, handler: &mut impl Handler) {
        let connection = &mut self.connections[index as usize];
        if armed == Armed::Ended {
            connection.watched = false;
        }
        match connection.state {
            State::Free => {}
            State::Ended => self.finish(index, todo),
            State::Joined if connection.role == Role::Mute => {}
            _ => {
                if armed == Armed::Ended {
                    connection.watched = true;
                    todo.0.push(Act::Watch(index));
                }
                if connection.receiving {
                    connection.again = true;
                } else {
                    connection.receiving = true;
                    todo.0.push(Act::Receive(index));
                }
            }
        }
        let _ = handler;
    }

    /// After a receive: another one, if there may be more.
    fn receive_on(&mut self, index: u32, behind: Behind, todo: &mut Todo, handler: &mut impl Handler) {
        let connection = &mut self.connections[index as usize];
        let again = std::mem::take(&mut connection.again) || behind == Behind::More;
        connection.receiving = false;
        match connection.state {
            State::Ended => self.finish(index, todo),
            State::Joined if connection.role == Role::Mute => {}
            State::Free => {}
            _ if again => {
                connection.receiving = true;
                todo.0.push(Act::Receive(index));
            }
            _ => {}
        }
        let _ = handler;
    }

    fn on_end(&mut self, index: u32, todo: &mut Todo, handler: &mut impl Handler) {
        let connection = &mut self.connections[index as usize];
        connection.receiving = false;
        match connection.state {
            State::Free => return,
            State::Ended => {}
            state => {
                connection.state = State::Ended;
                if connection.watched {
                    todo.0.push(Act::Cancel(index));
                }
                if state != State::Leaving {
                    handler.handle(Event::Ended(index), todo);
                }
            }
        }
        self.finish(index, todo);
    }

    /// Closes the descriptor when nothing is under way on it.
    fn finish(&mut self, index: u32, todo: &mut Todo) {
        let connection = &mut self.connections[index as usize];
        if !connection.watched && !connection.receiving && connection.descriptor.is_some() {
            todo.0.push(Act::Close(index));
        }
    }

    fn on_bytes(&mut self, index: u32, bytes: &[u8], todo: &mut Todo, handler: &mut impl Handler) {
        let connection = &mut self.connections[index as usize];
        if connection.partial.is_empty() {
            let used = self.read(index, bytes, todo, handler);
            self.connections[index as usize].partial.extend_from_slice(&bytes[used..]);
            return;
        }
        connection.partial.extend_from_slice(bytes);
        let mut whole = std::mem::take(&mut connection.partial);
        let used = self.read(index, &whole, todo, handler);
        whole.drain(..used);
        self.connections[index as usize].partial = whole;
    }

    /// Reads what is whole; says how much that was.
    fn read(&mut self, index: u32, bytes: &[u8], todo: &mut Todo, handler: &mut impl Handler) -> usize {
        let mut used = 0;
        while used < bytes.len() {
            let rest = &bytes[used..];
            let step = match self.get(index).state {
                State::Upgrading => self.on_upgrade(index, rest, todo, handler),
                State::Api => http::next_answer(rest).map(|answer| {
                    handler.handle(Event::Answered(index, answer.status, answer.after), todo);
                    answer.length
                }),
                State::Free | State::Ended => return bytes.len(),
                _ => frames::next_frame(rest).map(|(frame, length)| {
                    self.on_frame(index, &frame, todo, handler);
                    length
                }),
            };
            match step {
                Some(length) => used += length,
                None => break,
            }
        }
        used
    }

    fn on_upgrade(&mut self, index: u32, bytes: &[u8], todo: &mut Todo, handler: &mut impl Handler) -> Option<usize> {
        let head = ResponseHead::decode(bytes, &mut 0, &HeadLimits::default()).transpose()?;
        let is_accepted = head.as_ref().is_ok_and(|(head, _)| self.speech.handshake.check(head).is_ok());
        let Some((_, length)) = head.ok().filter(|_| is_accepted) else {
            complain("the upgrade was refused", bytes);
            self.on_end(index, todo, handler);
            return Some(bytes.len());
        };
        match self.speech.protocol {
            Protocol::Socketio => self.connections[index as usize].state = State::Opening,
            Protocol::Websocket => {
                self.connections[index as usize].state = State::Joined;
                handler.handle(Event::Joined(index), todo);
            }
        }
        Some(length)
    }

    fn on_frame(&mut self, index: u32, frame: &Frame<'_>, todo: &mut Todo, handler: &mut impl Handler) {
        match frame.opcode {
            Opcode::Text if self.speech.protocol == Protocol::Websocket => {
                handler.handle(Event::Message(index, frame.payload), todo);
            }
            Opcode::Text => self.on_packet(index, frame.payload, todo, handler),
            Opcode::Ping => todo.send(index, SendBytes::Owned(frames::masked_pong(frame.payload))),
            // The end of the connection follows.
            Opcode::Close => {}
            other => complain(&format!("a frame with opcode {other:?}"), frame.payload),
        }
    }

    /// An Engine.IO packet (engine.io-protocol v4).
    fn on_packet(&mut self, index: u32, packet: &[u8], todo: &mut Todo, handler: &mut impl Handler) {
        let state = self.get(index).state;
        match (packet, state) {
            ([b'2', ..], _) => todo.send(index, SendBytes::Shared(Arc::clone(&self.speech.pong))),
            ([b'4', b'2', ..], State::Joined) => {
                self.sessions.on_event(index, packet);
                handler.handle(Event::Message(index, packet), todo);
            }
            ([b'0', ..], State::Opening) => {
                self.connections[index as usize].state = State::Joining;
                todo.send(index, self.speech.connect(index, self.sessions.by_index.get(index as usize)));
            }
            ([b'4', b'0', ..], State::Joining) => {
                self.connections[index as usize].state = State::Joined;
                self.sessions.on_answer(index, packet);
                handler.handle(Event::Joined(index), todo);
            }
            ([b'4', b'4', ..], _) => {
                complain("CONNECT was refused", packet);
                self.on_end(index, todo, handler);
            }
            _ => {}
        }
    }
}

/// Says what a server did that the run does not expect.
fn complain(what: &str, bytes: &[u8]) {
    let text = String::from_utf8_lossy(&bytes[..bytes.len().min(200)]);
    eprintln!("load: {what}: {text:?}");
}
