//! Just enough of a handshake for `load`: answers that are the same for all.

use sockring_load::frames::{plain_text, unmask_in_place};

/// What came from a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Incoming {
    /// A WebSocket is asked for; it is there with the answer.
    Websocket,
    /// Socket.IO over WebSocket is asked for; CONNECT follows.
    SocketIo,
    /// CONNECT.
    Connect,
    /// A request to emit.
    Emit,
    /// So many bytes at the front are frames now as a server sends them.
    Frames(usize),
}

/// Turns the frames in `bytes` into a server's. `None` if a frame or a head is not whole: these floors do not put
/// bytes together, and small messages on loopback come whole.
pub fn read(bytes: &mut [u8]) -> Option<Incoming> {
    if bytes.starts_with(b"POST ") {
        return Some(Incoming::Emit);
    }
    if bytes.starts_with(b"GET ") {
        let is_socket_io = bytes.windows(6).any(|window| window == b"EIO=4&");
        return bytes.ends_with(b"\r\n\r\n").then_some(if is_socket_io {
            Incoming::SocketIo
        } else {
            Incoming::Websocket
        });
    }
    let length = unmask_in_place(bytes)?;
    let text = match bytes.get(1) {
        Some(126) => 4,
        _ => 2,
    };
    Some(if bytes[text..length].starts_with(b"40") { Incoming::Connect } else { Incoming::Frames(length) })
}

/// The accept key goes with the key of RFC 6455 section 1.3, which `load` sends.
const SWITCHING: &str = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
     Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";
const OPEN: &str =
    "0{\"sid\":\"floor\",\"upgrades\":[],\"pingInterval\":25000,\"pingTimeout\":20000,\"maxPayload\":1000000}";

/// The answers, as bytes that live as long as the process.
pub struct Answers {
    pub websocket: &'static [u8],
    pub socket_io: &'static [u8],
    pub connect: &'static [u8],
    pub emit: &'static [u8],
}

impl Answers {
    pub fn new() -> Answers {
        Answers {
            websocket: SWITCHING.as_bytes(),
            socket_io: Vec::leak([SWITCHING.as_bytes(), &plain_text(OPEN.as_bytes())].concat()),
            connect: Vec::leak(plain_text(b"40{\"sid\":\"floor\"}")),
            emit: b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use sockring_load::frames::masked_text;

    #[test]
    fn what_comes_is_told_apart() {
        let cases: [(Vec<u8>, Option<Incoming>); 6] = [
            (b"GET / HTTP/1.1\r\n\r\n".to_vec(), Some(Incoming::Websocket)),
            (b"GET /socket.io/?EIO=4&transport=websocket HTTP/1.1\r\n\r\n".to_vec(), Some(Incoming::SocketIo)),
            (b"GET / HTTP/1.1\r\n".to_vec(), None),
            (b"POST /emit HTTP/1.1\r\n".to_vec(), Some(Incoming::Emit)),
            (masked_text(b"40{}"), Some(Incoming::Connect)),
            (masked_text(b"42[]"), Some(Incoming::Frames(6))),
        ];
        for (mut bytes, expected) in cases {
            assert_eq!(read(&mut bytes), expected);
        }
    }
}
