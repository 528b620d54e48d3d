//! Encoding of outgoing messages, once per message: Engine.IO packets in WebSocket frames.

use sockring_protocol::socketio::{self, AckId};
use sockring_protocol::websocket::{Opcode, encode_frame, encode_frame_header, frame_header_length};

use super::outbox::Frames;

/// An Engine.IO text packet: `type_and_text` as it is.
pub(super) fn text_packet(packet: &[u8]) -> Frames {
    let mut frames = Vec::with_capacity(packet.len() + frame_header_length(packet.len()));
    encode_frame(Opcode::Text, packet, &mut frames);
    Frames::from(frames)
}

/// An Engine.IO message packet with binary data, or a raw WebSocket message: no prefix.
pub(super) fn binary_message(data: &[u8]) -> Frames {
    let mut frames = Vec::with_capacity(data.len() + frame_header_length(data.len()));
    encode_frame(Opcode::Binary, data, &mut frames);
    Frames::from(frames)
}

/// An Engine.IO message packet with text that `write` appends: `4...`.
pub(super) fn message(scratch: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>)) -> Frames {
    scratch.clear();
    scratch.push(b'4');
    write(scratch);
    text_packet(scratch)
}

/// What kind of Socket.IO packet carries some arguments.
#[derive(Clone, Copy, Debug)]
pub(super) enum Carrier {
    Event(Option<AckId>),
    Ack(AckId),
}

/// An EVENT or ACK, or their binary kinds, with the attachments behind it.
pub(super) fn packet_with_args<B: AsRef<[u8]>>(
    scratch: &mut Vec<u8>,
    namespace: &str,
    carrier: Carrier,
    args: &[u8],
    attachments: &[B],
) -> Frames {
    scratch.clear();
    scratch.push(b'4');
    match carrier {
        Carrier::Event(ack) => socketio::encode_event(namespace, ack, attachments.len(), args, scratch),
        Carrier::Ack(ack) => socketio::encode_ack(namespace, ack, attachments.len(), args, scratch),
    }
    let binary: usize = attachments.iter().map(|data| data.as_ref().len() + 10).sum();
    let mut frames = Vec::with_capacity(scratch.len() + frame_header_length(scratch.len()) + binary);
    encode_frame_header(Opcode::Text, scratch.len(), &mut frames);
    frames.extend_from_slice(scratch);
    for data in attachments {
        encode_frame(Opcode::Binary, data.as_ref(), &mut frames);
    }
    Frames::from(frames)
}
