//! `Client`: the connection whose request is carried, with what was read of it and what it has still to be told.

use std::io::{self, ErrorKind};
use std::os::fd::OwnedFd;

use rustix::net::{Shutdown, shutdown};
use tokio::io::Interest;
use tokio::net::TcpStream;

use crate::shard::{Papers, Parcel};
use crate::tls::{TlsFlow, TlsStage};

const READ_BYTES: usize = 16 << 10;

/// One connection, in plain text or by TLS.
pub(super) struct Client {
    stream: TcpStream,
    tls: Option<Box<TlsStage>>,
    /// Of what is to be told, sealed if it has to be, what was not written yet.
    unwritten: Vec<u8>,
    buffer: Vec<u8>,
    /// Read, and not used.
    pub(super) input: Vec<u8>,
    pub(super) requests: u32,
    pub(super) papers: Papers,
    pub(super) has_ended: bool,
}

impl Client {
    pub(super) fn new(descriptor: OwnedFd, mut parcel: Parcel) -> io::Result<Client> {
        let (papers, requests, tls) = (parcel.take_papers(), parcel.requests(), parcel.take_tls());
        let stream = std::net::TcpStream::from(descriptor);
        stream.set_nonblocking(true)?;
        let mut client = Client {
            stream: TcpStream::from_std(stream)?,
            tls,
            unwritten: Vec::new(),
            buffer: Vec::new(),
            input: parcel.into_bytes(),
            requests,
            papers,
            has_ended: false,
        };
        if client.tls.as_ref().is_some_and(|tls| tls.has_more()) {
            client.take()?;
        }
        Ok(client)
    }

    pub(super) fn peer(&self) -> Option<std::net::IpAddr> {
        self.stream.peer_addr().ok().map(|peer| peer.ip().to_canonical())
    }

    /// Whether it has been told all.
    pub(super) fn is_told(&self) -> bool {
        self.unwritten.is_empty()
    }

    /// Tells it this, as soon as it can take it.
    pub(super) fn tell(&mut self, bytes: &[u8]) -> io::Result<()> {
        match &mut self.tls {
            None => self.unwritten.extend_from_slice(bytes),
            Some(tls) => {
                self.unwritten.extend(tls.take_own().unwrap_or_default());
                let sealed = tls.seal(bytes).ok_or(ErrorKind::BrokenPipe)?;
                self.unwritten.extend(sealed);
            }
        }
        Ok(())
    }

    /// Waits until it can be read, where that is wanted, or written to, where there is something; and does what can be done.
    pub(super) async fn step(&mut self, reads: Intake) -> io::Result<()> {
        let interest = match (reads, self.is_told()) {
            (Intake::Wanted, true) => Interest::READABLE,
            (Intake::Wanted, false) => Interest::READABLE | Interest::WRITABLE,
            (Intake::Unwanted, false) => Interest::WRITABLE,
            (Intake::Unwanted, true) => return std::future::pending().await,
        };
        let ready = self.stream.ready(interest).await?;
        if ready.is_writable() && !self.is_told() {
            match self.stream.try_write(&self.unwritten) {
                Ok(count) => drop(self.unwritten.drain(..count)),
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
        }
        if ready.is_readable() && reads == Intake::Wanted {
            self.buffer.reserve(READ_BYTES);
            match self.stream.try_read_buf(&mut self.buffer) {
                Ok(0) => self.has_ended = true,
                Ok(_) => self.take()?,
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Adds to `input` what the bytes in the buffer say.
    fn take(&mut self) -> io::Result<()> {
        let Some(tls) = &mut self.tls else {
            self.input.append(&mut self.buffer);
            return Ok(());
        };
        let flow =
            tls.receive(&mut self.buffer, &mut self.input).map_err(|_| io::Error::from(ErrorKind::InvalidData))?;
        self.buffer.clear();
        self.has_ended |= flow == TlsFlow::PeerEnded;
        self.unwritten.extend(tls.take_own().unwrap_or_default());
        Ok(())
    }

    /// Ends our side, behind what it has been told.
    pub(super) fn end(&mut self) {
        if let Some(tls) = &mut self.tls {
            tls.close();
            // There is room for an alert, or nobody who reads.
            let _ = self.stream.try_write(&tls.take_own().unwrap_or_default());
        }
        let _ = shutdown(&self.stream, Shutdown::Write);
    }

    /// As a shard's ring wants it. `None`: it is broken.
    pub(super) fn give_back(self) -> Option<(OwnedFd, Parcel)> {
        let stream = self.stream.into_std().ok()?;
        stream.set_nonblocking(false).ok()?;
        let parcel = Parcel::between_requests(self.input, self.requests).with(self.papers).through(self.tls);
        Some((stream.into(), parcel))
    }
}

/// Whether there is room for what it says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Intake {
    Wanted,
    Unwanted,
}
