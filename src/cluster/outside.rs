//! `OutsideWorld`: what the cluster has of the world besides time, which is its runtime's: connections, and chance. A simulation has
//! an outside of its own.

use std::fmt;
use std::io;
use std::pin::Pin;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

use super::settings::Address;

/// The bytes of one connection.
pub trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}

impl<S: AsyncRead + AsyncWrite + Unpin + Send> Stream for S {}

/// A connection that is being opened.
pub type Dialled<'a> = Pin<Box<dyn Future<Output = io::Result<Box<dyn Stream>>> + 'a>>;

/// The world around a cluster.
pub trait OutsideWorld: fmt::Debug + Send + Sync {
    /// Opens a connection to a Redis or a sentinel, below TLS.
    fn dial<'a>(&'a self, address: &'a Address) -> Dialled<'a>;

    /// Fills with random bytes.
    fn fill(&self, bytes: &mut [u8]);
}

/// The one of the operating system.
#[derive(Clone, Copy, Debug)]
pub struct OperatingSystem;

impl OutsideWorld for OperatingSystem {
    fn dial<'a>(&'a self, address: &'a Address) -> Dialled<'a> {
        Box::pin(async move {
            let stream = TcpStream::connect((&*address.host, address.port)).await?;
            stream.set_nodelay(true)?;
            Ok(Box::new(stream) as Box<dyn Stream>)
        })
    }

    fn fill(&self, bytes: &mut [u8]) {
        #[expect(clippy::expect_used, reason = "an operating system without random bytes is none to start on")]
        getrandom::fill(bytes).expect("the operating system has random bytes");
    }
}
