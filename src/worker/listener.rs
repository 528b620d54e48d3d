//! The listening socket of a worker.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};
use std::os::fd::OwnedFd;

use socket2::{Domain, Protocol, SockRef, Socket, Type};

const BACKLOG: i32 = 4096;

/// A bound and listening socket.
#[derive(Debug)]
pub struct Listener {
    socket: OwnedFd,
    address: SocketAddr,
}

impl Listener {
    /// Binds and listens. The unspecified IPv6 address takes IPv4 too; where there is no IPv6, IPv4 alone.
    pub fn bind(host: IpAddr, port: u16) -> io::Result<Listener> {
        Listener::bind_as(host, port, Sharing::Alone)
    }

    /// Binds this many listeners of one port, between which the kernel spreads connections. Unless the port may be shared
    /// with other processes, it has to be free.
    pub fn bind_several(host: IpAddr, port: u16, count: u16, other_processes: Sharing) -> io::Result<Vec<Listener>> {
        let mut port = port;
        if other_processes == Sharing::Alone {
            let only = Listener::bind(host, port)?;
            if count == 1 {
                return Ok(vec![only]);
            }
            port = only.address.port();
        }
        (0..count)
            .map(|_| {
                let listener = Listener::bind_as(host, port, Sharing::WithOthers)?;
                // Any free port was asked for: the first finds it.
                port = listener.address.port();
                Ok(listener)
            })
            .collect()
    }

    /// A socket that listens already, for this many workers that all accept at it.
    pub fn share(listening: &TcpListener, count: u16) -> io::Result<Vec<Listener>> {
        // The kernel is to wait for connections, not to say that there is none.
        listening.set_nonblocking(false)?;
        SockRef::from(listening).set_tcp_nodelay(true)?;
        let address = listening.local_addr()?;
        (0..count).map(|_| Ok(Listener { socket: listening.try_clone()?.into(), address })).collect()
    }

    fn bind_as(host: IpAddr, port: u16, sharing: Sharing) -> io::Result<Listener> {
        match bind(SocketAddr::new(host, port), sharing) {
            Err(error)
                if host == IpAddr::V6(Ipv6Addr::UNSPECIFIED) && error.raw_os_error() == Some(libc::EAFNOSUPPORT) =>
            {
                bind(SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), port), sharing)
            }
            result => result,
        }
    }

    /// The address with the port that was really bound.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

/// Whether a port is listened on by one socket or by several.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sharing {
    Alone,
    WithOthers,
}

impl From<Listener> for OwnedFd {
    fn from(listener: Listener) -> OwnedFd {
        listener.socket
    }
}

fn bind(address: SocketAddr, sharing: Sharing) -> io::Result<Listener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM.cloexec(), Some(Protocol::TCP))?;
    if address.is_ipv6() {
        socket.set_only_v6(false)?;
    }
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(sharing == Sharing::WithOthers)?;
    // Inherited by accepted sockets.
    socket.set_tcp_nodelay(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    let address = socket.local_addr()?.as_socket().ok_or(io::ErrorKind::AddrNotAvailable)?;
    Ok(Listener { socket: socket.into(), address })
}
