//! `ApiStream`: the bytes of a connection as its requests are read and its answers written, in plain text or by TLS.

use std::os::fd::OwnedFd;

use rustix::net::{Shutdown, shutdown};
use sockring_protocol::http::{KeepAlive, Response};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::tls::{SPEAK_TLS, TlsFlow, TlsRefusal, TlsStage};

const READ_BYTES: usize = 16 << 10;

pub(super) struct ApiStream {
    stream: TcpStream,
    tls: Option<Box<TlsStage>>,
    /// Bytes as they come.
    buffer: Vec<u8>,
    /// Of the TLS stage's own, what has not been written.
    own: Vec<u8>,
}

impl ApiStream {
    pub(super) fn new(stream: TcpStream, tls: Option<Box<TlsStage>>) -> ApiStream {
        ApiStream { stream, tls, buffer: Vec::with_capacity(READ_BYTES), own: Vec::new() }
    }

    /// As a shard's ring wants it: an operation on it waits. `None`: it is broken.
    pub(super) fn give_back(mut self) -> Option<(OwnedFd, Option<Box<TlsStage>>)> {
        let stream = self.stream.into_std().ok()?;
        stream.set_nonblocking(false).ok()?;
        if let Some(tls) = &mut self.tls {
            tls.return_own(self.own);
        }
        Some((stream.into(), self.tls))
    }

    /// Appends what comes next to `input`; says how many bytes, 0 at the end. One that is given up leaves nothing undone.
    pub(super) async fn read(&mut self, input: &mut Vec<u8>) -> usize {
        let begun = input.len();
        self.buffer.clear();
        loop {
            let is_over = self.take(input).await;
            match input.len() - begun {
                0 if is_over => return 0,
                0 => {}
                count => return count,
            }
            if self.stream.read_buf(&mut self.buffer).await.unwrap_or(0) == 0 {
                return 0;
            }
        }
    }

    /// Adds to `input` what the bytes in the buffer say; whether they were the last.
    async fn take(&mut self, input: &mut Vec<u8>) -> bool {
        let Some(tls) = &mut self.tls else {
            input.append(&mut self.buffer);
            self.buffer.reserve(READ_BYTES);
            return false;
        };
        let result = tls.receive(&mut self.buffer, input);
        self.buffer.clear();
        if result == Ok(TlsFlow::PeerEnded) && input.is_empty() {
            tls.close();
        }
        if result == Err(TlsRefusal::PlainHttp) {
            // In words that it understands.
            self.tls = None;
            let refusal = Response {
                status: 400,
                content_type: "text/plain; charset=UTF-8",
                headers: &[],
                cors: b"",
                body: SPEAK_TLS.as_bytes(),
                keep_alive: KeepAlive::Close,
            };
            let mut bytes = Vec::new();
            refusal.encode(&mut bytes);
            let _ = self.stream.write_all(&bytes).await;
        }
        let is_written = self.write_own().await;
        !is_written || result != Ok(TlsFlow::Open)
    }

    async fn write_own(&mut self) -> bool {
        loop {
            if self.own.is_empty() {
                match self.tls.as_mut().and_then(|tls| tls.take_own()) {
                    None => return true,
                    Some(own) => self.own = own,
                }
            }
            match self.stream.write(&self.own).await {
                Ok(count) if count > 0 => drop(self.own.drain(..count)),
                _ => return false,
            }
        }
    }

    /// Writes all of it; says whether it could.
    pub(super) async fn write(&mut self, bytes: &[u8]) -> bool {
        if !self.write_own().await {
            return false;
        }
        match &mut self.tls {
            None => self.stream.write_all(bytes).await.is_ok(),
            Some(tls) => match tls.seal(bytes) {
                None => false,
                Some(sealed) => self.stream.write_all(&sealed).await.is_ok(),
            },
        }
    }

    /// Tells a peer that knows it by TLS that this is the end.
    pub(super) async fn say_goodbye(&mut self) {
        if let Some(tls) = &mut self.tls {
            tls.close();
            let _ = self.write_own().await;
        }
    }

    /// Ends our side.
    pub(super) async fn end(&mut self) {
        self.say_goodbye().await;
        let _ = shutdown(&self.stream, Shutdown::Write);
    }

    /// Reads what nobody wants any more; says how many bytes, 0 at the end.
    pub(super) async fn discard(&mut self) -> usize {
        self.buffer.clear();
        self.stream.read_buf(&mut self.buffer).await.unwrap_or(0)
    }
}
