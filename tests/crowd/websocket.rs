//! `WebSocket`: the client's side, whole messages in and out.

use std::io;

use sockring_protocol::websocket::{CloseFrame, Fin, Handshake, Opcode, ServerFrames, encode_client_frame};

use crate::http::next_answer;
use crate::stream::{Route, Stream, ended};

const MASK: [u8; 4] = [0x5a, 0x11, 0xc3, 0x78];

pub struct WebSocket {
    stream: Stream,
}

/// What comes from the server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message {
    Text(String),
    /// With its code, if it has one.
    Close(Option<u16>),
    /// The end without a close frame.
    End,
}

impl WebSocket {
    /// Asks for an upgrade; another status than 101 is a failure that names it.
    pub async fn open(route: Route, target: &str) -> io::Result<WebSocket> {
        let mut stream = Stream::connect(route).await?;
        stream.send(upgrade_request(target, &[]).as_bytes()).await?;
        let answer = next_answer(&mut stream).await?;
        match answer.status {
            101 => Ok(WebSocket { stream }),
            status => Err(io::Error::other(format!("status {status} for a WebSocket: {}", answer.text()))),
        }
    }

    pub fn on(stream: Stream) -> WebSocket {
        WebSocket { stream }
    }

    pub async fn send(&mut self, text: &str) -> io::Result<()> {
        self.stream.send(&frame(Opcode::Text, text.as_bytes())).await
    }

    /// The next message; pings are answered. Nothing is lost when it is cancelled between messages.
    pub async fn message(&mut self) -> io::Result<Message> {
        loop {
            match take_frame(&mut self.stream) {
                Some((Opcode::Text, payload)) => {
                    return String::from_utf8(payload).map(Message::Text).map_err(io::Error::other);
                }
                Some((Opcode::Close, payload)) => {
                    let frame = CloseFrame::decode(&payload).map_err(io::Error::other)?;
                    return Ok(Message::Close(frame.map(|frame| frame.code)));
                }
                Some((Opcode::Ping, payload)) => self.stream.send(&frame(Opcode::Pong, &payload)).await?,
                Some((Opcode::Pong, _)) => {}
                Some((opcode, _)) => return Err(io::Error::other(format!("{opcode:?} was not expected"))),
                None if self.stream.fill().await? => {}
                None if self.stream.input.is_empty() => return Ok(Message::End),
                None => return Err(ended()),
            }
        }
    }

    /// Closes as a browser does, and waits for the server's side.
    pub async fn close(mut self) {
        if self.stream.send(&frame(Opcode::Close, &[])).await.is_ok() {
            self.stream.drain().await;
        }
    }

    /// Answers the server's close frame and waits for its end.
    pub async fn answer_close(mut self, code: Option<u16>) {
        let payload = code.map(u16::to_be_bytes);
        let payload = payload.as_ref().map_or(&[][..], |code| &code[..]);
        if self.stream.send(&frame(Opcode::Close, payload)).await.is_ok() {
            self.stream.drain().await;
        }
    }

    /// Ends it by RST.
    pub fn reset(self) {
        self.stream.reset();
    }
}

pub fn upgrade_request(target: &str, headers: &[&str]) -> String {
    let headers = headers.iter().map(|line| line.split_once(':').expect("a header line"));
    let headers: Vec<_> = headers.map(|(name, value)| (name, value.trim_start())).collect();
    let mut bytes = Vec::new();
    Handshake::new(*b"the sample nonce").encode(target, "localhost", &headers, &mut bytes);
    String::from_utf8(bytes).expect("it was made of text")
}

fn frame(opcode: Opcode, payload: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(payload.len() + 14);
    encode_client_frame(opcode, Fin::Last, MASK, payload, &mut bytes);
    bytes
}

/// A whole frame off the front of what has come.
fn take_frame(stream: &mut Stream) -> Option<(Opcode, Vec<u8>)> {
    let mut frames = ServerFrames::new(&stream.input);
    let (opcode, payload) = frames.next()?;
    let (payload, rest) = (payload.to_vec(), frames.rest().len());
    stream.take(stream.input.len() - rest);
    Some((opcode, payload))
}
