//! `Http`: a keep-alive connection for one request after another, opened again when the server has closed it.

use std::io;

use serde_json::Value;

use crate::stream::{Route, Stream, ended};

#[path = "../support/request.rs"]
mod text;

pub use text::request;

/// One answer.
#[derive(Clone, Debug)]
pub struct Answer {
    pub status: u16,
    pub head: String,
    pub body: Vec<u8>,
}

impl Answer {
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or(Value::Null)
    }

    fn closes(&self) -> bool {
        self.head.to_ascii_lowercase().contains("\r\nconnection: close")
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
        if answer.closes() {
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
    let end = stream.input.windows(4).position(|window| window == b"\r\n\r\n")? + 4;
    let head = String::from_utf8_lossy(&stream.input[..end]).into_owned();
    let lines = head.lines().filter_map(|line| line.split_once(':'));
    let length = lines.filter(|(name, _)| name.eq_ignore_ascii_case("content-length")).map(|(_, value)| value).next();
    let length = length.map_or(0, |length| length.trim().parse().expect("a length"));
    if stream.input.len() < end + length {
        return None;
    }
    let status = head.get(9..12).and_then(|status| status.parse().ok());
    let status = status.unwrap_or_else(|| panic!("no status line: {head}"));
    stream.take(end);
    Some(Answer { status, body: stream.take(length), head })
}
