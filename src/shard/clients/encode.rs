//! Encoding of outgoing messages, once per message: Engine.IO packets in WebSocket frames.

use sockring_protocol::socketio::{self, AckId};
use sockring_protocol::websocket::{Opcode, encode_frame, encode_frame_header, frame_header_length};

use crate::shard::recovery::position::{Mark, Offset};
use crate::shard::settings::OffsetForm;

use super::outbox::Frames;

/// The longest header of a server's frame: 2 bytes, and 8 of a long length.
const HEADER_ROOM: usize = 10;
/// What a marker usually takes.
const MARKER_ROOM: usize = 24;
/// One large message is no reason to keep its memory.
const SCRATCH_BYTES_KEPT: usize = 64 << 10;

/// An Engine.IO text packet: `packet` as it is.
pub(crate) fn text_packet(scratch: &mut Vec<u8>, packet: &[u8]) -> Frames {
    frames(scratch, |out| out.extend_from_slice(packet), |_| {})
}

/// A ping, and behind it the markers of sockets by their namespaces.
pub(crate) fn marked_ping<'a>(scratch: &mut Vec<u8>, offsets: impl Iterator<Item = (Offset, &'a str)>) -> Frames {
    frames(
        scratch,
        |out| out.push(b'2'),
        |out| offsets.for_each(|(offset, namespace)| push_marker(offset, namespace, out)),
    )
}

/// Appends a frame with a marker.
fn push_marker(offset: Offset, namespace: &str, out: &mut Vec<u8>) {
    let mut packet = Vec::with_capacity(MARKER_ROOM + namespace.len());
    packet.push(b'4');
    offset.encode_marker(namespace, &mut packet);
    encode_frame(Opcode::Text, &packet, out);
}

/// An Engine.IO message packet with binary data, or a raw WebSocket message: no prefix.
pub(crate) fn binary_message(data: &[u8]) -> Frames {
    let mut frames = Vec::with_capacity(data.len() + frame_header_length(data.len()));
    encode_frame(Opcode::Binary, data, &mut frames);
    Frames::from(frames)
}

/// An Engine.IO message packet with text that `write` appends: `4...`.
pub(crate) fn message(scratch: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>)) -> Frames {
    let write = |out: &mut Vec<u8>| {
        out.push(b'4');
        write(out);
    };
    frames(scratch, write, |_| {})
}

/// What kind of Socket.IO packet carries some arguments.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Carrier {
    Event(Option<AckId>),
    Ack(AckId),
}

/// An EVENT or ACK, or their binary kinds, with the attachments behind it, and the marker where it has one.
pub(crate) fn packet_with_args<B: AsRef<[u8]>>(
    scratch: &mut Vec<u8>,
    namespace: &str,
    carrier: Carrier,
    args: &[u8],
    attachments: &[B],
    mark: Option<Mark>,
) -> Frames {
    let with_offset = mark.filter(|mark| mark.form == OffsetForm::Argument).map(|mark| mark.offset.append_to(args));
    let args = with_offset.as_deref().unwrap_or(args);
    let write = |out: &mut Vec<u8>| {
        out.push(b'4');
        match carrier {
            Carrier::Event(ack) => socketio::encode_event(namespace, ack, attachments.len(), args, out),
            Carrier::Ack(ack) => socketio::encode_ack(namespace, ack, attachments.len(), args, out),
        }
    };
    frames(scratch, write, |out| {
        for data in attachments {
            encode_frame(Opcode::Binary, data.as_ref(), out);
        }
        if let Some(Mark { offset, form: OffsetForm::Packet }) = mark {
            push_marker(offset, namespace, out);
        }
    })
}

/// A text frame with what `write` appends, and behind it what `append` does. Everything is written once, behind room for the
/// header, and copied once, into the one allocation that all receivers share.
fn frames(scratch: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>), append: impl FnOnce(&mut Vec<u8>)) -> Frames {
    scratch.clear();
    scratch.resize(HEADER_ROOM, 0);
    write(scratch);
    let length = scratch.len() - HEADER_ROOM;
    append(scratch);
    let end = scratch.len();
    encode_frame_header(Opcode::Text, length, scratch);
    let start = HEADER_ROOM - (scratch.len() - end);
    scratch.copy_within(end.., start);
    let frames = Frames::from(scratch.get(start..end).unwrap_or_default());
    scratch.clear();
    scratch.shrink_to(SCRATCH_BYTES_KEPT);
    frames
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_what_the_protocol_says_whatever_their_length() {
        let mut scratch = Vec::new();
        for length in [0, 1, 125, 126, 65_535, 65_536, 200_000] {
            let packet = vec![b'x'; length];
            let mut expected = Vec::new();
            encode_frame(Opcode::Text, &packet, &mut expected);
            assert_eq!(*text_packet(&mut scratch, &packet), *expected, "{length}");
            assert!(scratch.capacity() <= SCRATCH_BYTES_KEPT);
        }
        let frames = packet_with_args(&mut scratch, "/", Carrier::Event(None), b"[\"a\"]", &[b"12", b"34"], None);
        assert_eq!(*frames, *b"\x81\x09452-[\"a\"]\x82\x0212\x82\x0234");
    }
}
