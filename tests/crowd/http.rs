//! `Http`: a keep-alive connection for one request after another, opened again when the server has closed it.

use std::io;

use serde_json::Value;
use sockring_protocol::http::{Framing, HeadLimits, KeepAlive, ResponseHead};

use crate::stream::{Route, Stream, ended};

#[path = "../support/request.rs"]
mod text;

pub use text::request;

/// One answer.
#[derive(Clone, Debug)]
pub struct Answer {
    pub status: u16,
    pub keep_alive: KeepAlive,
    pub body: Vec<u8>,
}

impl Answer {
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or(Value::Null)
    }
}

pub struct Http {
    route: Route,
    stream: Option<Stream>,
}

impl Http {
    pub fn new(route: Route) -> Http {
        Http { route, stream: None }
    }

    pub async fn send(&mut self, request: &str) -> io::Result<()> {
        self.stream.take_if(Stream::is_over);
        if self.stream.is_none() {
            self.stream = Some(Stream::connect(self.route).await?);
        }
        match &mut self.stream {
            Some(stream) => stream.send(request.as_bytes()).await,
            None => Err(ended()),
        }
    }

    /// The next answer. Nothing is lost when it is cancelled.
    pub async fn answer(&mut self) -> io::Result<Answer> {
        let stream = self.stream.as_mut().ok_or_else(ended)?;
        let answer = next_answer(stream).await?;
        if answer.keep_alive == KeepAlive::Close {
            self.stream = None;
        }
        Ok(answer)
    }

    pub async fn ask(&mut self, request: &str) -> io::Result<Answer> {
        self.send(request).await?;
        self.answer().await
    }
}

/// The next answer on this connection.
pub async fn next_answer(stream: &mut Stream) -> io::Result<Answer> {
    loop {
        if let Some(answer) = take_answer(stream) {
            return Ok(answer);
        }
        if !stream.fill().await? {
            return Err(ended());
        }
    }
}

/// A whole answer off the front of what has come.
pub fn take_answer(stream: &mut Stream) -> Option<Answer> {
    let head = ResponseHead::decode(&stream.input, &mut 0, &HeadLimits::default());
    let (head, end) = head.unwrap_or_else(|error| panic!("{error}: {}", stream.input.escape_ascii()))?;
    let length = match head.framing {
        Some(Framing::Length(length)) => usize::try_from(length).expect("a body that fits in memory"),
        _ => 0,
    };
    let (status, keep_alive) = (head.status, head.keep_alive);
    if stream.input.len() < end + length {
        return None;
    }
    stream.take(end);
    Some(Answer { status, keep_alive, body: stream.take(length) })
}
