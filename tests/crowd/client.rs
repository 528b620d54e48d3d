//! `Client`: one client as the stock socket.io-client behaves, its transports, its upgrade and its way back after a close.

use std::io;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use sockring_protocol::engineio::{Data, EnginePacket, OpenPacket};
use sockring_protocol::socketio::{PacketLimits, ServerPacket, SocketPacket};
use tokio::sync::OwnedSemaphorePermit;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender};
use tokio::task::JoinHandle;

use crate::backend::{self, API};
use crate::crowd::Told;
use crate::http::{Answer, Http, request};
use crate::stream::Route;
use crate::websocket::{Message, WebSocket};

const PATH: &str = "/socket.io/?EIO=4&transport=";
const SEPARATOR: &str = "\u{1e}";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    WebSocket,
    /// Polling first, then the upgrade.
    Upgrading,
    Polling,
}

/// What a client does when the server has closed it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Afterwards {
    StaysAway,
    /// After the stock client's delays.
    ComesBack,
}

/// Who a client is.
pub struct Plan {
    pub kind: Kind,
    pub token: String,
    pub route: Route,
    pub afterwards: Afterwards,
    /// The body of an `/emit` that it sends itself when its CONNECT is answered.
    pub first_words: Option<String>,
    /// How long it takes to answer a ping.
    pub answers_after: Duration,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Farewell {
    /// Close frame, or close packet by POST.
    Close,
    /// Socket.IO DISCONNECT first.
    Disconnect,
    /// The TCP connections end, without a word.
    Drop,
    /// As above, by RST.
    Reset,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    Leave(Farewell),
    StopReading,
    ReadOn,
}

/// What happens to a client, in its order.
#[derive(Clone, Debug, PartialEq)]
pub enum Happening {
    /// CONNECT is answered: its socket's id, and the attempts it took since it was closed.
    Connected {
        sid: String,
        attempts: u32,
    },
    Upgraded,
    /// The JSON array of an event.
    Event(Box<str>),
    /// CONNECT_ERROR.
    Refused(String),
    /// Socket.IO DISCONNECT by the server.
    Disconnected,
    Closed(End),
}

/// How a session ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// As ordered.
    Left,
    CloseFrame(Option<u16>),
    ClosePacket,
    /// TCP ended without a close.
    Cut,
    /// Anything else; in words.
    Broken(String),
}

pub struct Client {
    pub id: u32,
    pub plan: Plan,
    pub orders: UnboundedReceiver<Order>,
    pub told: UnboundedSender<Told>,
    /// Held until its first CONNECT is answered, and its first words, so that not all arrive at once.
    pub permit: Option<OwnedSemaphorePermit>,
}

impl Client {
    /// Connects, and comes back as often as it is closed, if it is one of those.
    pub async fn live(mut self) {
        let mut attempts = 0;
        loop {
            let (was_connected, end) = Session::begin(&mut self, attempts).await;
            self.permit = None;
            let stays_away = self.plan.afterwards == Afterwards::StaysAway || end == End::Left;
            if was_connected {
                attempts = 0;
            }
            if was_connected || stays_away {
                self.tell(Happening::Closed(end));
            }
            if stays_away {
                return;
            }
            // What the stock client waits for, too.
            tokio::time::sleep(delay(attempts)).await;
            attempts += 1;
        }
    }

    fn tell(&self, happening: Happening) {
        // Nobody listens any more when a test has failed.
        let _ = self.told.send(Told::Client(self.id, happening));
    }
}

/// socket.io-client's back-off: 1 s, doubled, at most 5 s, up to half more or less.
fn delay(attempts: u32) -> Duration {
    let mut random = [0; 4];
    getrandom::fill(&mut random).expect("random bytes");
    let factor = 0.5 + f64::from(u32::from_ne_bytes(random)) / f64::from(u32::MAX);
    Duration::from_secs(1).mul_f64(f64::from(1 << attempts.min(10)) * factor).min(Duration::from_secs(5))
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Polling,
    /// The WebSocket of the upgrade opens, or its probe is not answered yet.
    Probing,
    /// The probe is answered; what is under way by polling ends first.
    Pausing,
    WebSocket,
}

/// What a session waits for.
enum Input {
    Poll(Answer),
    Post(Answer),
    Opened(io::Result<WebSocket>),
    Message(Message),
    Order(Order),
    /// Time to answer a ping.
    Pong,
}

struct Session<'c> {
    client: &'c mut Client,
    attempts: u32,
    begun: Instant,
    phase: Phase,
    target: String,
    /// GETs on one connection and POSTs on the other, as a browser's pool has it.
    get: Http,
    post: Http,
    is_polling: bool,
    is_posting: bool,
    is_reading: bool,
    is_connected: bool,
    outgoing: Vec<String>,
    pong_at: Option<Instant>,
    opening: Option<JoinHandle<io::Result<WebSocket>>>,
    socket: Option<WebSocket>,
}

impl Session<'_> {
    /// A session from its handshake to its end; whether its CONNECT was answered.
    async fn begin(client: &mut Client, attempts: u32) -> (bool, End) {
        let route = client.plan.route;
        let mut session = Session {
            client,
            attempts,
            begun: Instant::now(),
            phase: Phase::Polling,
            target: String::new(),
            get: Http::new(route),
            post: Http::new(route),
            is_polling: false,
            is_posting: false,
            is_reading: true,
            is_connected: false,
            outgoing: Vec::new(),
            pong_at: None,
            opening: None,
            socket: None,
        };
        let end = session.live().await.unwrap_or_else(|error| End::Broken(error.to_string()));
        if let Some(opening) = session.opening.take() {
            opening.abort();
        }
        (session.is_connected, end)
    }

    async fn live(&mut self) -> io::Result<End> {
        self.open().await?;
        self.outgoing.push(format!("40{}", json!({"token": self.client.plan.token})));
        loop {
            self.advance().await?;
            let can_read = self.is_reading;
            let input = tokio::select! {
                answer = self.get.answer(), if self.is_polling && can_read => Input::Poll(answer?),
                answer = self.post.answer(), if self.is_posting => Input::Post(answer?),
                opened = opened(&mut self.opening), if self.opening.is_some() => Input::Opened(opened),
                message = message_of(&mut self.socket), if self.socket.is_some() && can_read => Input::Message(message?),
                Some(order) = self.client.orders.recv() => Input::Order(order),
                () = tokio::time::sleep_until(self.pong_at.unwrap_or(self.begun).into()), if self.pong_at.is_some() => {
                    Input::Pong
                }
            };
            if let Some(end) = self.on_input(input).await? {
                return Ok(end);
            }
        }
    }

    /// The handshake.
    async fn open(&mut self) -> io::Result<()> {
        let route = self.client.plan.route;
        if self.client.plan.kind == Kind::WebSocket {
            let mut socket = WebSocket::open(route, &format!("{PATH}websocket")).await?;
            let open = socket.message().await?;
            if !matches!(&open, Message::Text(text) if OpenPacket::decode(text).is_ok()) {
                return Err(io::Error::other(format!("{open:?} instead of an open packet")));
            }
            self.phase = Phase::WebSocket;
            self.socket = Some(socket);
            return Ok(());
        }
        let answer = self.get.ask(&request("GET", &format!("{PATH}polling"), &[], "")).await?;
        let text = answer.text();
        let open = OpenPacket::decode(&text).ok().filter(|_| answer.status == 200);
        let open = open.ok_or_else(|| io::Error::other(format!("status {} for a handshake: {text}", answer.status)))?;
        let sid = open.sid;
        self.target = format!("{PATH}polling&sid={sid}");
        if self.client.plan.kind == Kind::Upgrading {
            let target = format!("{PATH}websocket&sid={sid}");
            self.phase = Phase::Probing;
            self.opening = Some(tokio::task::spawn_local(async move { WebSocket::open(route, &target).await }));
        }
        Ok(())
    }

    /// Does what can be done now: polls, posts, ends an upgrade, sends.
    async fn advance(&mut self) -> io::Result<()> {
        if self.phase == Phase::Pausing && !self.is_polling && !self.is_posting {
            if let Some(socket) = &mut self.socket {
                socket.send("5").await?;
            }
            self.phase = Phase::WebSocket;
            let route = self.client.plan.route;
            (self.get, self.post) = (Http::new(route), Http::new(route));
            self.client.tell(Happening::Upgraded);
        }
        match self.phase {
            Phase::WebSocket => {
                let Some(socket) = &mut self.socket else { return Ok(()) };
                for packet in self.outgoing.drain(..) {
                    socket.send(&packet).await?;
                }
            }
            Phase::Polling | Phase::Probing => {
                if !self.outgoing.is_empty() && !self.is_posting {
                    let body = std::mem::take(&mut self.outgoing).join(SEPARATOR);
                    self.post(&body).await?;
                }
                if !self.is_polling && self.is_reading {
                    self.get.send(&request("GET", &self.target, &[], "")).await?;
                    self.is_polling = true;
                }
            }
            Phase::Pausing => {}
        }
        Ok(())
    }

    async fn post(&mut self, body: &str) -> io::Result<()> {
        let headers = ["Content-Type: text/plain;charset=UTF-8"];
        self.post.send(&request("POST", &self.target, &headers, body)).await?;
        self.is_posting = true;
        Ok(())
    }

    async fn on_input(&mut self, input: Input) -> io::Result<Option<End>> {
        match input {
            Input::Poll(answer) if answer.status == 200 => {
                self.is_polling = false;
                let text = answer.text();
                Ok(text.split(SEPARATOR).find_map(|packet| self.on_packet(packet)))
            }
            Input::Post(answer) if answer.status == 200 => {
                self.is_posting = false;
                Ok(None)
            }
            Input::Poll(answer) | Input::Post(answer) => {
                Ok(Some(End::Broken(format!("status {}: {}", answer.status, answer.text()))))
            }
            Input::Opened(socket) => {
                let mut socket = socket?;
                socket.send("2probe").await?;
                self.opening = None;
                self.socket = Some(socket);
                Ok(None)
            }
            Input::Message(Message::Text(text)) if self.phase == Phase::Probing => match text.as_str() {
                "3probe" => {
                    self.phase = Phase::Pausing;
                    Ok(None)
                }
                _ => Ok(Some(End::Broken(format!("the probe was answered with {text}")))),
            },
            Input::Message(Message::Text(text)) => Ok(self.on_packet(&text)),
            Input::Message(message) if self.phase != Phase::WebSocket => {
                let waits = match (self.is_polling, self.is_posting) {
                    (true, true) => "a GET and a POST",
                    (true, false) => "a GET",
                    (false, true) => "a POST",
                    (false, false) => "nothing",
                };
                let since = self.begun.elapsed().as_millis();
                let what = format!("{message:?} while {:?}, {waits} unanswered, {since} ms old", self.phase);
                Ok(Some(End::Broken(format!("{what}, connected: {}", self.is_connected))))
            }
            Input::Message(Message::Close(code)) => {
                if let Some(socket) = self.socket.take() {
                    socket.answer_close(code).await;
                }
                Ok(Some(End::CloseFrame(code)))
            }
            Input::Message(Message::End) => Ok(Some(End::Cut)),
            Input::Pong => {
                self.pong_at = None;
                self.outgoing.push("3".to_owned());
                Ok(None)
            }
            Input::Order(Order::StopReading) => {
                self.is_reading = false;
                Ok(None)
            }
            Input::Order(Order::ReadOn) => {
                self.is_reading = true;
                Ok(None)
            }
            Input::Order(Order::Leave(farewell)) => {
                self.leave(farewell).await?;
                Ok(Some(End::Left))
            }
        }
    }

    /// One Engine.IO packet.
    fn on_packet(&mut self, packet: &str) -> Option<End> {
        match EnginePacket::decode(packet) {
            Ok(EnginePacket::Message(Data::Text(message))) => return self.on_message(message),
            Ok(EnginePacket::Ping(_)) if self.client.plan.answers_after.is_zero() => self.outgoing.push("3".to_owned()),
            Ok(EnginePacket::Ping(_)) => self.pong_at = Some(Instant::now() + self.client.plan.answers_after),
            Ok(EnginePacket::Noop) => {}
            Ok(EnginePacket::Close) => return Some(End::ClosePacket),
            _ => return Some(End::Broken(format!("the packet {packet}"))),
        }
        None
    }

    /// One Socket.IO packet.
    fn on_message(&mut self, message: &str) -> Option<End> {
        match ServerPacket::decode(message, &PacketLimits::default()) {
            Ok(ServerPacket::Packet(SocketPacket::Connect { payload, .. })) => {
                let payload: Value = serde_json::from_str(payload.unwrap_or_default()).unwrap_or_default();
                let Some(sid) = payload["sid"].as_str() else { return Some(End::Broken(message.to_owned())) };
                self.on_connect(sid);
            }
            Ok(ServerPacket::Packet(SocketPacket::Event { args, .. })) => {
                self.client.tell(Happening::Event(args.text().into()));
            }
            Ok(ServerPacket::ConnectError { .. }) => self.client.tell(Happening::Refused(message[1..].to_owned())),
            Ok(ServerPacket::Packet(SocketPacket::Disconnect { .. })) => self.client.tell(Happening::Disconnected),
            _ => return Some(End::Broken(format!("the message {message}"))),
        }
        None
    }

    fn on_connect(&mut self, sid: &str) {
        self.is_connected = true;
        let permit = self.client.permit.take();
        self.client.tell(Happening::Connected { sid: sid.to_owned(), attempts: self.attempts });
        if let Some(body) = self.client.plan.first_words.take() {
            let (id, told, route) = (self.client.id, self.client.told.clone(), self.client.plan.route);
            tokio::task::spawn_local(async move {
                let answered = backend::post(&mut Http::new(route), &format!("{API}/emit"), &body).await;
                let _ = told.send(Told::Words(id, answered));
                // Only so many are in the API at once, too.
                drop(permit);
            });
        }
    }

    async fn leave(&mut self, farewell: Farewell) -> io::Result<()> {
        if let Some(mut socket) = self.socket.take() {
            match farewell {
                Farewell::Close => socket.close().await,
                Farewell::Disconnect => {
                    socket.send("41").await?;
                    socket.close().await;
                }
                Farewell::Drop => drop(socket),
                Farewell::Reset => socket.reset(),
            }
            return Ok(());
        }
        if self.is_posting {
            self.post.answer().await?;
        }
        match farewell {
            Farewell::Close => self.post("1").await?,
            Farewell::Disconnect => self.post(&["41", "1"].join(SEPARATOR)).await?,
            Farewell::Drop | Farewell::Reset => return Ok(()),
        }
        self.post.answer().await?;
        if self.is_polling {
            self.get.answer().await?;
        }
        Ok(())
    }
}

async fn opened(opening: &mut Option<JoinHandle<io::Result<WebSocket>>>) -> io::Result<WebSocket> {
    match opening {
        Some(opening) => opening.await.map_err(io::Error::other)?,
        None => std::future::pending().await,
    }
}

async fn message_of(socket: &mut Option<WebSocket>) -> io::Result<Message> {
    match socket {
        Some(socket) => socket.message().await,
        None => std::future::pending().await,
    }
}
