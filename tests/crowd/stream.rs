//! `Stream`: one TCP connection from a loopback address of the test's choice, read into a buffer as small as what waits in it.

use std::cell::RefCell;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};

use tokio::net::{TcpSocket, TcpStream};

/// A buffer of this capacity may stay when it is empty.
const KEPT_BYTES_MAX: usize = 1024;

thread_local! {
    static SCRATCH: RefCell<Vec<u8>> = RefCell::new(vec![0; 256 << 10]);
}

/// From where to where, and how.
#[derive(Clone, Copy, Debug)]
pub struct Route {
    pub source: Ipv4Addr,
    pub server: SocketAddr,
    /// SO_RCVBUF, where it is not the system's.
    pub receive_bytes: Option<u32>,
}

impl Route {
    pub fn to(server: SocketAddr) -> Route {
        Route { source: Ipv4Addr::LOCALHOST, server, receive_bytes: None }
    }
}

pub struct Stream {
    tcp: TcpStream,
    /// What has come and was not taken yet.
    pub input: Vec<u8>,
}

impl Stream {
    pub async fn connect(route: Route) -> io::Result<Stream> {
        let socket = TcpSocket::new_v4()?;
        if let Some(bytes) = route.receive_bytes {
            socket.set_recv_buffer_size(bytes)?;
        }
        socket.bind(SocketAddr::from((route.source, 0)))?;
        let tcp = socket.connect(route.server).await?;
        tcp.set_nodelay(true)?;
        Ok(Stream { tcp, input: Vec::new() })
    }

    /// Adds what has come to the input; false at the end. Nothing is lost when it is cancelled.
    pub async fn fill(&mut self) -> io::Result<bool> {
        loop {
            self.tcp.readable().await?;
            if let Some(is_open) = self.fill_now()? {
                return Ok(is_open);
            }
        }
    }

    /// Adds what is there; None: nothing is.
    fn fill_now(&mut self) -> io::Result<Option<bool>> {
        SCRATCH.with_borrow_mut(|scratch| match self.tcp.try_read(scratch) {
            Ok(count) => {
                self.input.extend_from_slice(&scratch[..count]);
                Ok(Some(count > 0))
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
            Err(error) => Err(error),
        })
    }

    /// Whether the server has ended it, as far as is known here.
    pub fn is_over(&mut self) -> bool {
        !matches!(self.fill_now(), Ok(None | Some(true)))
    }

    /// Takes that many bytes off the front of the input.
    pub fn take(&mut self, count: usize) -> Vec<u8> {
        if count == self.input.len() && self.input.capacity() > KEPT_BYTES_MAX {
            return std::mem::take(&mut self.input);
        }
        self.input.drain(..count).collect()
    }

    pub async fn send(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            match self.tcp.try_write(bytes) {
                Ok(count) => bytes = &bytes[count..],
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.tcp.writable().await?,
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Reads to the end and throws it away.
    pub async fn drain(&mut self) {
        while let Ok(true) = self.fill().await {
            self.input.clear();
        }
    }

    /// Ends it by RST.
    pub fn reset(self) {
        // A socket that is gone already is as good.
        let _ = socket2::SockRef::from(&self.tcp).set_linger(Some(std::time::Duration::ZERO));
    }
}

/// The failure of a peer that ended in the middle.
pub fn ended() -> io::Error {
    io::ErrorKind::UnexpectedEof.into()
}
