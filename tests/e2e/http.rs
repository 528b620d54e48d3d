//! `Connection`: one TCP connection that speaks HTTP/1.1, as exactly as a test wants.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};

use rustls::ClientConnection;
use serde_json::Value;
use socket2::{Domain, Socket, Type};
use sockring_protocol::http::{Framing, HeadLimits, ResponseHead};
use sockring_protocol::websocket::{Opcode, ServerFrames};

use crate::WAIT_MAX;

#[path = "../support/request.rs"]
mod text;

pub use text::request;

pub struct Connection {
    pub stream: TcpStream,
    /// Where it speaks TLS.
    tls: Option<Box<ClientConnection>>,
    input: Vec<u8>,
}

/// One answer.
#[derive(Clone, Debug)]
pub struct Answer {
    pub status: u16,
    /// Names in lower case.
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Answer {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }
}

impl Connection {
    pub fn open(address: SocketAddr) -> Connection {
        Connection::of(TcpStream::connect_timeout(&address, WAIT_MAX).expect("the server accepts"))
    }

    /// One whose peer, this test, takes little at a time and has little on its way.
    pub fn narrow(address: SocketAddr) -> Connection {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, None).expect("a socket");
        socket.set_recv_buffer_size(4096).expect("a small window");
        socket.connect(&address.into()).expect("the server accepts");
        Connection::of(socket.into())
    }

    pub fn of(stream: TcpStream) -> Connection {
        stream.set_read_timeout(Some(WAIT_MAX)).expect("a timeout can be set");
        stream.set_write_timeout(Some(WAIT_MAX)).expect("a timeout can be set");
        stream.set_nodelay(true).expect("nodelay can be set");
        Connection { stream, tls: None, input: Vec::new() }
    }

    /// One on which this is the client's side of TLS. Its handshake comes with the first bytes.
    pub fn secured(address: SocketAddr, tls: ClientConnection) -> Connection {
        Connection { tls: Some(Box::new(tls)), ..Connection::open(address) }
    }

    /// Completes the handshake, or says why there is none.
    pub fn handshake(&mut self) -> Result<(), String> {
        let tls = self.tls.as_mut().expect("it speaks TLS");
        while tls.is_handshaking() {
            tls.complete_io(&mut self.stream).map_err(|error| error.to_string())?;
        }
        Ok(())
    }

    /// Why TLS ends, which it has to.
    pub fn end_of_tls(&mut self) -> String {
        let tls = self.tls.as_mut().expect("it speaks TLS");
        loop {
            if let Err(error) = tls.complete_io(&mut self.stream) {
                return error.to_string();
            }
        }
    }

    /// The records of these texts, one of each.
    pub fn sealed(&mut self, texts: &[&[u8]]) -> Vec<u8> {
        let (tls, mut records) = (self.tls(), Vec::new());
        for text in texts {
            tls.writer().write_all(text).expect("it takes them");
            tls.write_tls(&mut records).expect("a vector takes all");
        }
        records
    }

    pub fn tls(&mut self) -> &mut ClientConnection {
        self.tls.as_mut().expect("it speaks TLS")
    }

    #[track_caller]
    pub fn send(&mut self, bytes: impl AsRef<[u8]>) {
        let result = match &mut self.tls {
            None => self.stream.write_all(bytes.as_ref()),
            Some(tls) => rustls::Stream::new(&mut **tls, &mut self.stream).write_all(bytes.as_ref()),
        };
        result.expect("the server takes bytes");
    }

    /// Sends what the server may refuse to read to the end.
    pub fn send_what_is_taken(&mut self, bytes: &[u8]) {
        match self.stream.write_all(bytes) {
            Ok(()) => {}
            Err(error) if matches!(error.kind(), ErrorKind::BrokenPipe | ErrorKind::ConnectionReset) => {}
            Err(error) => panic!("{error}"),
        }
    }

    #[track_caller]
    pub fn get(&mut self, target: &str) -> Answer {
        self.send(request("GET", target, &[], ""));
        self.answer()
    }

    /// A POST of JSON.
    #[track_caller]
    pub fn post(&mut self, target: &str, body: &str) -> Answer {
        self.send(request("POST", target, &["Content-Type: application/json"], body));
        self.answer()
    }

    /// The next answer, interim ones too.
    #[track_caller]
    pub fn answer(&mut self) -> Answer {
        self.next_answer(BodyOf::Answer).expect("an answer and not the end")
    }

    /// The answer to a HEAD request: no body follows.
    #[track_caller]
    pub fn answer_to_head(&mut self) -> Answer {
        self.next_answer(BodyOf::Head).expect("an answer and not the end")
    }

    /// The next answer, if one comes before the end.
    #[track_caller]
    pub fn answer_or_end(&mut self) -> Option<Answer> {
        self.next_answer(BodyOf::Answer)
    }

    #[track_caller]
    fn next_answer(&mut self, body_of: BodyOf) -> Option<Answer> {
        let mut scanned = 0;
        let (mut answer, length) = loop {
            let head = ResponseHead::decode(&self.input, &mut scanned, &HeadLimits::default());
            let head = head.unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&self.input)));
            if let Some((head, end)) = head {
                let headers = head.headers().map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()));
                let answer = Answer { status: head.status, headers: headers.collect(), body: Vec::new() };
                let length = match head.framing {
                    Some(Framing::Length(length)) => usize::try_from(length).expect("a body that fits in memory"),
                    Some(Framing::None) | None => 0,
                    Some(Framing::Chunked) => panic!("the server sends no chunks"),
                };
                self.input.drain(..end);
                break (answer, length);
            }
            if !self.read() {
                assert!(self.input.is_empty(), "half an answer: {}", String::from_utf8_lossy(&self.input));
                return None;
            }
        };
        if body_of == BodyOf::Answer {
            answer.body = self.bytes(length);
        }
        Some(answer)
    }

    /// The next whole frame of the server, which has to come before its end.
    #[track_caller]
    pub fn frame(&mut self) -> (Opcode, Vec<u8>) {
        loop {
            let mut frames = ServerFrames::new(&self.input);
            if let Some((opcode, payload)) = frames.next() {
                let (payload, rest) = (payload.to_vec(), frames.rest().len());
                self.input.drain(..self.input.len() - rest);
                return (opcode, payload);
            }
            assert!(self.read(), "the end within a frame: {}", self.input.escape_ascii());
        }
    }

    /// Exactly this many bytes.
    #[track_caller]
    pub fn bytes(&mut self, count: usize) -> Vec<u8> {
        while self.input.len() < count {
            assert!(self.read(), "the end after {} of {count} bytes", self.input.len());
        }
        self.input.drain(..count).collect()
    }

    /// Everything up to the end of the stream, which has to come.
    #[track_caller]
    pub fn rest(&mut self) -> Vec<u8> {
        while self.read() {}
        std::mem::take(&mut self.input)
    }

    /// The server ends the connection and sends nothing more.
    #[track_caller]
    pub fn assert_ends(&mut self) {
        let rest = self.rest();
        assert!(rest.is_empty(), "more than expected: {}", String::from_utf8_lossy(&rest));
    }

    /// Ends this side and waits for the server's: then it has closed its descriptors.
    #[track_caller]
    pub fn leave(mut self) {
        if let Some(tls) = &mut self.tls {
            tls.send_close_notify();
            tls.write_tls(&mut self.stream).expect("the server takes bytes");
        }
        self.stream.shutdown(Shutdown::Write).expect("it is still open");
        self.assert_ends();
    }

    /// Whether anything came; a broken connection is as good as its end.
    #[track_caller]
    fn read(&mut self) -> bool {
        let mut bytes = [0; 16 << 10];
        let result = match &mut self.tls {
            None => self.stream.read(&mut bytes),
            Some(tls) => rustls::Stream::new(&mut **tls, &mut self.stream).read(&mut bytes),
        };
        match result {
            Ok(count) => {
                self.input.extend_from_slice(&bytes[..count]);
                count > 0
            }
            Err(error) if error.kind() == ErrorKind::ConnectionReset => false,
            Err(error) => panic!("nothing within {WAIT_MAX:?}: {error}"),
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum BodyOf {
    Answer,
    Head,
}
