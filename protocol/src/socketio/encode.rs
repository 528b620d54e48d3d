//! Packets, appended without the `4` of Engine.IO.

use super::packet::{AckId, SocketPacket};
use crate::json::{encode_integer, encode_string};
use alloc::vec::Vec;
use core::fmt;

impl SocketPacket<'_> {
    /// Appends the packet, without the `4` of Engine.IO. Attachments follow as binary messages.
    pub fn encode(&self, out: &mut Vec<u8>) {
        match self {
            SocketPacket::Connect { namespace, payload } => {
                out.push(b'0');
                encode_namespace(namespace, out);
                out.extend_from_slice(payload.unwrap_or_default().as_bytes());
            }
            SocketPacket::Disconnect { namespace } => encode_disconnect(namespace, out),
            SocketPacket::Event { namespace, ack, args } => {
                encode_event(namespace, *ack, 0, args.text().as_bytes(), out);
            }
            SocketPacket::Ack { namespace, ack, args } => encode_ack(namespace, *ack, 0, args.text().as_bytes(), out),
            SocketPacket::BinaryEvent { namespace, ack, args, attachments } => {
                encode_event(namespace, *ack, usize::from(*attachments), args.text().as_bytes(), out);
            }
            SocketPacket::BinaryAck { namespace, ack, args, attachments } => {
                encode_ack(namespace, *ack, usize::from(*attachments), args.text().as_bytes(), out);
            }
        }
    }
}

/// The text of the packet, as [`encode`](SocketPacket::encode) writes it.
impl fmt::Display for SocketPacket<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut out = Vec::new();
        self.encode(&mut out);
        f.write_str(core::str::from_utf8(&out).map_err(|_| fmt::Error)?)
    }
}

/// `0{"sid":"..."}`: the client is connected (P01).
pub fn encode_connect(namespace: &str, sid: &str, out: &mut Vec<u8>) {
    out.push(b'0');
    encode_namespace(namespace, out);
    out.extend_from_slice(b"{\"sid\":");
    encode_string(sid, out);
    out.push(b'}');
}

/// `0{"sid":"...","pid":"..."}`: the client is connected, and can prove it when it comes back (P01).
pub fn encode_connect_with_pid(namespace: &str, sid: &str, pid: &str, out: &mut Vec<u8>) {
    encode_connect(namespace, sid, out);
    out.pop();
    out.extend_from_slice(b",\"pid\":");
    encode_string(pid, out);
    out.push(b'}');
}

/// `4{"message":"..."}`: the client is refused, with `data`, a JSON text, if there is more to say.
pub fn encode_connect_error(namespace: &str, message: &str, data: Option<&str>, out: &mut Vec<u8>) {
    out.push(b'4');
    encode_namespace(namespace, out);
    out.extend_from_slice(b"{\"message\":");
    encode_string(message, out);
    if let Some(data) = data {
        out.extend_from_slice(b",\"data\":");
        out.extend_from_slice(data.as_bytes());
    }
    out.push(b'}');
}

/// `1`, or `1/namespace,`.
pub fn encode_disconnect(namespace: &str, out: &mut Vec<u8>) {
    out.push(b'1');
    encode_namespace(namespace, out);
}

/// `2["name",...]`, or `5N-["name",...]` when N attachments follow. `args_json` is the whole array.
pub fn encode_event(namespace: &str, ack: Option<AckId>, attachments: usize, args_json: &[u8], out: &mut Vec<u8>) {
    encode_type(b'2', b'5', attachments, out);
    encode_namespace(namespace, out);
    if let Some(AckId(id)) = ack {
        encode_integer(id, out);
    }
    out.extend_from_slice(args_json);
}

/// `3<id>[...]`, or `6N-<id>[...]` when N attachments follow. `args_json` is the whole array.
pub fn encode_ack(namespace: &str, ack: AckId, attachments: usize, args_json: &[u8], out: &mut Vec<u8>) {
    encode_type(b'3', b'6', attachments, out);
    encode_namespace(namespace, out);
    encode_integer(ack.0, out);
    out.extend_from_slice(args_json);
}

fn encode_type(plain: u8, binary: u8, attachments: usize, out: &mut Vec<u8>) {
    if attachments == 0 {
        out.push(plain);
        return;
    }
    out.push(binary);
    encode_integer(attachments as u64, out);
    out.push(b'-');
}

pub(super) fn encode_namespace(namespace: &str, out: &mut Vec<u8>) {
    if namespace != "/" {
        out.extend_from_slice(namespace.as_bytes());
        out.push(b',');
    }
}
