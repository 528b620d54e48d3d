//! What peers are refused or closed for, as labels of counters: frames and packets that no client may send, connections that
//! break, and sessions that nobody knows.

use std::fmt;

use sockring_protocol::websocket::FrameError;
use sockring_protocol::{engineio, socketio};

/// A frame or a packet that ends its client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PacketFault {
    /// Not a frame of RFC 6455 from a client, or more than fits.
    WebSocket(FrameError),
    /// Not a packet of Engine.IO.
    EngineIo(engineio::EnginePacketError),
    /// Not a packet of Socket.IO.
    SocketIo(socketio::SocketPacketError),
    /// A packet that the client may not send now.
    Session(Forbidden),
}

/// A packet that would be right at another time, or from a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Forbidden {
    /// Only the server pings.
    Ping,
    /// A POST whose body is not UTF-8.
    BodyNotUtf8,
    /// To a namespace in which the client has no socket.
    NotConnected,
    AlreadyConnected,
    /// A text where an attachment is due.
    TextForAttachment,
    /// An attachment that no packet has announced.
    Unannounced,
}

impl Forbidden {
    pub const ALL: [Forbidden; 6] = [
        Forbidden::Ping,
        Forbidden::BodyNotUtf8,
        Forbidden::NotConnected,
        Forbidden::AlreadyConnected,
        Forbidden::TextForAttachment,
        Forbidden::Unannounced,
    ];

    fn label(self) -> &'static str {
        match self {
            Forbidden::Ping => "ping",
            Forbidden::BodyNotUtf8 => "body_not_utf8",
            Forbidden::NotConnected => "not_connected",
            Forbidden::AlreadyConnected => "already_connected",
            Forbidden::TextForAttachment => "text_for_attachment",
            Forbidden::Unannounced => "unannounced_attachment",
        }
    }
}

const WEBSOCKET: usize = FrameError::ALL.len();
const ENGINE_IO: usize = engineio::EnginePacketError::ALL.len();
const SOCKET_IO: usize = socketio::SocketPacketError::ALL.len();

impl PacketFault {
    /// How many there are.
    pub const COUNT: usize = WEBSOCKET + ENGINE_IO + SOCKET_IO + Forbidden::ALL.len();

    /// All of them, each at its `index`.
    pub fn all() -> impl Iterator<Item = PacketFault> {
        let websocket = FrameError::ALL.into_iter().map(PacketFault::WebSocket);
        let engine_io = engineio::EnginePacketError::ALL.into_iter().map(PacketFault::EngineIo);
        let socket_io = socketio::SocketPacketError::ALL.into_iter().map(PacketFault::SocketIo);
        let session = Forbidden::ALL.into_iter().map(PacketFault::Session);
        websocket.chain(engine_io).chain(socket_io).chain(session)
    }

    pub(super) fn index(self) -> usize {
        match self {
            PacketFault::WebSocket(error) => error as usize,
            PacketFault::EngineIo(error) => WEBSOCKET + error as usize,
            PacketFault::SocketIo(error) => WEBSOCKET + ENGINE_IO + error as usize,
            PacketFault::Session(forbidden) => WEBSOCKET + ENGINE_IO + SOCKET_IO + forbidden as usize,
        }
    }

    /// Which rules it breaks.
    pub fn layer(self) -> &'static str {
        match self {
            PacketFault::WebSocket(_) => "websocket",
            PacketFault::EngineIo(_) => "engineio",
            PacketFault::SocketIo(_) => "socketio",
            PacketFault::Session(_) => "session",
        }
    }

    pub fn label(self) -> &'static str {
        match self {
            PacketFault::WebSocket(error) => error.label(),
            PacketFault::EngineIo(error) => error.label(),
            PacketFault::SocketIo(error) => error.label(),
            PacketFault::Session(forbidden) => forbidden.label(),
        }
    }
}

/// How a connection broke, as the operating system says it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Broken {
    /// The peer does not know it any more.
    Reset,
    /// It had ended before.
    Pipe,
    /// Nothing was heard of the peer for long.
    TimedOut,
    /// Somebody on this machine ended it.
    Aborted,
    HostUnreachable,
    NetworkUnreachable,
    NetworkDown,
    Memory,
    /// A firewall's rule.
    Permission,
    /// By another errno.
    Other(i32),
}

impl Broken {
    /// One of each label.
    pub const ALL: [Broken; 10] = [
        Broken::Reset,
        Broken::Pipe,
        Broken::TimedOut,
        Broken::Aborted,
        Broken::HostUnreachable,
        Broken::NetworkUnreachable,
        Broken::NetworkDown,
        Broken::Memory,
        Broken::Permission,
        Broken::Other(0),
    ];

    pub(super) fn index(self) -> usize {
        let others = Broken::ALL.len() - 1;
        Broken::ALL.iter().position(|known| *known == self).unwrap_or(others)
    }

    /// Its errno.
    pub fn label(self) -> &'static str {
        match self {
            Broken::Reset => "ECONNRESET",
            Broken::Pipe => "EPIPE",
            Broken::TimedOut => "ETIMEDOUT",
            Broken::Aborted => "ECONNABORTED",
            Broken::HostUnreachable => "EHOSTUNREACH",
            Broken::NetworkUnreachable => "ENETUNREACH",
            Broken::NetworkDown => "ENETDOWN",
            Broken::Memory => "ENOMEM",
            Broken::Permission => "EPERM",
            Broken::Other(_) => "other",
        }
    }
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Broken::Other(errno) => write!(f, "errno {errno}"),
            known => f.write_str(known.label()),
        }
    }
}

/// Why no session is known by the id of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UnknownSid {
    /// It is no id of ours at all.
    Malformed,
    /// Another instance gave it, or this one before it was started again. Where there are several instances, a proxy sends
    /// the requests of one session to more than one of them.
    OtherInstance,
    /// It was one, or is made up.
    Gone,
    /// The session has ended, and its client has only to fetch how.
    Ended,
}

impl UnknownSid {
    pub const ALL: [UnknownSid; 4] =
        [UnknownSid::Malformed, UnknownSid::OtherInstance, UnknownSid::Gone, UnknownSid::Ended];

    pub fn label(self) -> &'static str {
        match self {
            UnknownSid::Malformed => "malformed",
            UnknownSid::OtherInstance => "other_instance",
            UnknownSid::Gone => "gone",
            UnknownSid::Ended => "ended",
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_fault_has_a_place_and_a_label_of_its_own() {
        let faults: Vec<_> = PacketFault::all().collect();
        assert_eq!(faults.len(), PacketFault::COUNT);
        assert!(faults.iter().enumerate().all(|(index, fault)| fault.index() == index));
        let labels: BTreeSet<_> = faults.iter().map(|fault| (fault.layer(), fault.label())).collect();
        assert_eq!(labels.len(), PacketFault::COUNT);
        let is_plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
        assert!(labels.iter().all(|(_, label)| label.bytes().all(is_plain)), "{labels:?}");
        assert!(Broken::ALL.iter().enumerate().all(|(index, broken)| broken.index() == index));
        let errnos: BTreeSet<_> = Broken::ALL.into_iter().map(Broken::label).collect();
        assert_eq!((errnos.len(), Broken::Other(88).index()), (Broken::ALL.len(), Broken::Other(0).index()));
        assert!(UnknownSid::ALL.iter().enumerate().all(|(index, reason)| *reason as usize == index));
    }
}
