//! What peers are refused or closed for, as labels of counters: packets that no client may send, and sessions that nobody
//! knows.

use sockring_protocol::{engineio, socketio};

/// A packet that ends its client ("parse error").
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PacketFault {
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

const ENGINE_IO: usize = engineio::EnginePacketError::ALL.len();
const SOCKET_IO: usize = socketio::SocketPacketError::ALL.len();

impl PacketFault {
    /// How many there are.
    pub const COUNT: usize = ENGINE_IO + SOCKET_IO + Forbidden::ALL.len();

    /// All of them, each at its `index`.
    pub fn all() -> impl Iterator<Item = PacketFault> {
        let engine_io = engineio::EnginePacketError::ALL.into_iter().map(PacketFault::EngineIo);
        let socket_io = socketio::SocketPacketError::ALL.into_iter().map(PacketFault::SocketIo);
        engine_io.chain(socket_io).chain(Forbidden::ALL.into_iter().map(PacketFault::Session))
    }

    pub(super) fn index(self) -> usize {
        match self {
            PacketFault::EngineIo(error) => error as usize,
            PacketFault::SocketIo(error) => ENGINE_IO + error as usize,
            PacketFault::Session(forbidden) => ENGINE_IO + SOCKET_IO + forbidden as usize,
        }
    }

    /// Which rules it breaks.
    pub fn layer(self) -> &'static str {
        match self {
            PacketFault::EngineIo(_) => "engineio",
            PacketFault::SocketIo(_) => "socketio",
            PacketFault::Session(_) => "session",
        }
    }

    pub fn label(self) -> &'static str {
        match self {
            PacketFault::EngineIo(error) => error.label(),
            PacketFault::SocketIo(error) => error.label(),
            PacketFault::Session(forbidden) => forbidden.label(),
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
        assert!(UnknownSid::ALL.iter().enumerate().all(|(index, reason)| *reason as usize == index));
    }
}
