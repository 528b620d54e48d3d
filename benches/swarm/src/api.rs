//! The server's HTTP API over a connection that is kept: the only sockets of a run.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::time::Duration;

use serde_json::Value;
use sockring_protocol::http::{ClientRequest, Framing, HeadLimits, KeepAlive, ResponseHead};

/// Nobody else is in the namespace.
pub const PORT: u16 = 8080;
const HOST: &str = "127.0.0.1:8080";
pub const PREFIX: &str = "/api/v1/websocket";
const ANSWER_MAX: Duration = Duration::from_secs(120);

/// One connection, which is opened when it is needed.
#[derive(Default)]
pub struct Api(Option<TcpStream>);

pub struct Answer {
    pub status: u16,
    pub body: Vec<u8>,
}

impl Answer {
    /// What an answer of the API says.
    pub fn data(&self) -> Value {
        serde_json::from_slice::<Value>(&self.body).map(|mut body| body["data"].take()).unwrap_or_default()
    }
}

impl Api {
    pub fn post(&mut self, path: &str, body: &Value) -> io::Result<Answer> {
        let body = body.to_string();
        self.ask("POST", &format!("{PREFIX}{path}"), Some(body.as_bytes()))
    }

    pub fn get(&mut self, target: &str) -> io::Result<Answer> {
        self.ask("GET", target, None)
    }

    fn ask(&mut self, method: &str, target: &str, body: Option<&[u8]>) -> io::Result<Answer> {
        let mut request = Vec::new();
        let headers: &[(&str, &str)] = if body.is_some() { &[("Content-Type", "application/json")] } else { &[] };
        ClientRequest { method, target, host: HOST, headers, body }.encode(&mut request);
        let mut stream = match self.0.take() {
            Some(stream) => stream,
            None => TcpStream::connect((Ipv4Addr::LOCALHOST, PORT))?,
        };
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(ANSWER_MAX))?;
        stream.write_all(&request)?;
        let (answer, keep_alive) = read(&mut stream)?;
        if keep_alive == KeepAlive::Keep {
            self.0 = Some(stream);
        }
        Ok(answer)
    }
}

fn read(stream: &mut TcpStream) -> io::Result<(Answer, KeepAlive)> {
    let mut bytes = Vec::new();
    let mut buffer = [0; 16 * 1024];
    loop {
        let head = ResponseHead::decode(&bytes, &mut 0, &HeadLimits::default());
        if let Some((head, head_bytes)) = head.map_err(|_| io::Error::other("an answer that is no HTTP"))? {
            let body_bytes = match head.framing {
                Some(Framing::Length(length)) => usize::try_from(length).unwrap_or(usize::MAX),
                _ => 0,
            };
            if let Some(body) = bytes.get(head_bytes..head_bytes.saturating_add(body_bytes)) {
                return Ok((Answer { status: head.status, body: body.to_vec() }, head.keep_alive));
            }
        }
        match stream.read(&mut buffer)? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            length => bytes.extend_from_slice(&buffer[..length]),
        }
    }
}
