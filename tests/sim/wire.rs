//! What clients write and read: requests, answers, frames.

use sockring_protocol::http::{ClientRequest, Framing, HeadLimits, KeepAlive, ResponseHead};
use sockring_protocol::websocket::{Fin, Handshake, Opcode, ServerFrames, encode_client_frame};

/// The path of the simulated shard.
pub const PATH: &str = "/socket.io/";

/// `GET` of a new polling session.
pub fn handshake() -> Vec<u8> {
    request("GET", "EIO=4&transport=polling", &[], None)
}

pub fn poll(sid: &str) -> Vec<u8> {
    request("GET", &format!("EIO=4&transport=polling&sid={sid}"), &[], None)
}

pub fn post(sid: &str, body: &[u8]) -> Vec<u8> {
    request("POST", &format!("EIO=4&transport=polling&sid={sid}"), &[], Some(body))
}

/// The same in two chunks.
pub fn post_chunked(sid: &str, body: &[u8]) -> Vec<u8> {
    let query = format!("EIO=4&transport=polling&sid={sid}");
    let mut bytes = request("POST", &query, &[("Transfer-Encoding", "chunked")], None);
    let (first, second) = body.split_at(body.len() / 2);
    for chunk in [first, second] {
        if !chunk.is_empty() {
            bytes.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
            bytes.extend_from_slice(chunk);
            bytes.extend_from_slice(b"\r\n");
        }
    }
    bytes.extend_from_slice(b"0\r\n\r\n");
    bytes
}

/// A WebSocket handshake: a new session, or the upgrade of the one with this sid.
pub fn websocket(sid: Option<&str>) -> Vec<u8> {
    let query = match sid {
        Some(sid) => format!("EIO=4&transport=websocket&sid={sid}"),
        None => "EIO=4&transport=websocket".to_owned(),
    };
    let mut bytes = Vec::new();
    Handshake::new(*b"the sample nonce").encode(&format!("{PATH}?{query}"), "sim", &[], &mut bytes);
    bytes
}

/// A request that the shard does not serve itself.
pub fn elsewhere() -> Vec<u8> {
    b"GET /page HTTP/1.1\r\nHost: sim\r\n\r\n".to_vec()
}

fn request(method: &str, query: &str, headers: &[(&str, &str)], body: Option<&[u8]>) -> Vec<u8> {
    let mut bytes = Vec::new();
    ClientRequest { method, target: &format!("{PATH}?{query}"), host: "sim", headers, body }.encode(&mut bytes);
    bytes
}

/// One answer to a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    pub status: u16,
    pub body: String,
    pub closes: bool,
}

/// Takes one whole answer from the front of `bytes`.
pub fn take_answer(bytes: &mut Vec<u8>) -> Option<Answer> {
    let head = ResponseHead::decode(bytes, &mut 0, &HeadLimits::default()).expect("an answer");
    let (head, end) = head?;
    let (status, closes) = (head.status, head.keep_alive == KeepAlive::Close);
    let length = match head.framing {
        Some(Framing::Length(length)) => usize::try_from(length).expect("a body that fits in memory"),
        _ => 0,
    };
    if bytes.len() < end + length {
        return None;
    }
    let body = String::from_utf8(bytes[end..end + length].to_vec()).expect("a body is UTF-8");
    bytes.drain(..end + length);
    Some(Answer { status, body, closes })
}

/// Takes all whole frames of the server from the front of `bytes`.
pub fn take_frames(bytes: &mut Vec<u8>) -> Vec<(Opcode, Vec<u8>)> {
    let mut walk = ServerFrames::new(bytes);
    let frames = walk.by_ref().map(|(opcode, data)| (opcode, data.to_vec())).collect();
    let rest = walk.rest().len();
    let taken = bytes.len() - rest;
    bytes.drain(..taken);
    frames
}

pub fn text_frame(text: &str, mask: [u8; 4]) -> Vec<u8> {
    frame(Opcode::Text, text.as_bytes(), mask)
}

pub fn frame(opcode: Opcode, data: &[u8], mask: [u8; 4]) -> Vec<u8> {
    let mut bytes = Vec::new();
    encode_client_frame(opcode, Fin::Last, mask, data, &mut bytes);
    bytes
}

/// A text message in two fragments.
pub fn fragmented(text: &str, mask: [u8; 4]) -> Vec<u8> {
    let (first, second) = text.as_bytes().split_at(text.len() / 2);
    let mut bytes = Vec::new();
    encode_client_frame(Opcode::Text, Fin::More, mask, first, &mut bytes);
    encode_client_frame(Opcode::Continuation, Fin::Last, mask, second, &mut bytes);
    bytes
}

/// The value of `"sid"` in an open packet or a CONNECT reply.
pub fn sid_in(text: &str) -> Option<String> {
    value_in(text, "sid")
}

/// The value of a key in JSON whose keys and values are plain.
pub fn value_in(text: &str, key: &str) -> Option<String> {
    let (_, after) = text.split_once(&format!("\"{key}\":\""))?;
    Some(after.split_once('"')?.0.to_owned())
}

/// A Socket.IO packet as it would be where no client can come back; `None`: there would be none.
pub fn without_recovery(packet: &str) -> Option<String> {
    if packet.starts_with('0')
        && let Some((before, _)) = packet.split_once(",\"pid\":\"")
    {
        return Some(format!("{before}}}"));
    }
    let Some(marker) = marker_in(packet).filter(|_| packet.starts_with(['2', '5'])) else {
        return Some(packet.to_owned());
    };
    let without = packet.strip_suffix(&format!("\"{marker}\"]")).expect("it ends so");
    without.strip_suffix(',').map(|before| format!("{before}]"))
}

/// The marker in an event: its name, or its last argument.
pub fn marker_in(event: &str) -> Option<&str> {
    let (_, last) = event.strip_suffix("\"]")?.rsplit_once('"')?;
    last.starts_with('~').then_some(last)
}
