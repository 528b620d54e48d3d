//! What a server's bytes mean to a client, as far as one that counts has to know.

use sockring_protocol::engineio::{Data, EnginePacket};
use sockring_protocol::http::{HeadLimits, ResponseHead};
use sockring_protocol::websocket::{CloseFrame, Handshake, Opcode, ServerFrames};

/// Names of the events that a run emits, with what stands before the one number in each.
pub const TO_ALL: &str = "swarm:all";
pub const TO_ONE: &str = "swarm:one";
/// And one of which only counts how often it comes.
pub const LOAD: &str = "swarm:load";
const NUMBER: &str = "\"number\":";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Heard {
    Open,
    Joined,
    Refused,
    Ping,
    /// An event to all, by its number.
    ToAll(u16),
    /// An event to one user, by when it was due, in nanoseconds of the monotonic clock.
    ToOne(u64),
    Load,
    /// A close frame with its code.
    Close(Option<u16>),
    /// A packet that ends the session or the socket.
    Bye,
    Other,
}

/// The length of the whole answer to an upgrade; its status if it is another one.
pub fn answer(bytes: &[u8], handshake: &Handshake) -> Result<Option<usize>, u16> {
    match ResponseHead::decode(bytes, &mut 0, &HeadLimits::default()) {
        Ok(None) => Ok(None),
        Ok(Some((head, length))) => handshake.check(&head).map(|()| Some(length)).map_err(|_| head.status),
        Err(_) => Err(0),
    }
}

/// The frame at the front, and its length; `None` while it is not whole.
pub fn frame(bytes: &[u8]) -> Option<(Heard, usize)> {
    let mut frames = ServerFrames::new(bytes);
    let (opcode, payload) = frames.next()?;
    let heard = match opcode {
        Opcode::Text => text(payload),
        Opcode::Close => Heard::Close(CloseFrame::decode(payload).ok().flatten().map(|frame| frame.code)),
        _ => Heard::Other,
    };
    Some((heard, bytes.len() - frames.rest().len()))
}

fn text(payload: &[u8]) -> Heard {
    let packet = std::str::from_utf8(payload).ok().and_then(|text| EnginePacket::decode(text).ok());
    match packet {
        Some(EnginePacket::Open) => Heard::Open,
        Some(EnginePacket::Ping(_)) => Heard::Ping,
        Some(EnginePacket::Close) => Heard::Bye,
        Some(EnginePacket::Message(Data::Text(text))) => message(text),
        _ => Heard::Other,
    }
}

/// A packet of Socket.IO: its type is its first character.
fn message(packet: &str) -> Heard {
    match packet.as_bytes().first() {
        Some(b'0') => Heard::Joined,
        Some(b'1') => Heard::Bye,
        Some(b'4') => Heard::Refused,
        Some(b'2') => event(packet).unwrap_or(Heard::Other),
        _ => Heard::Other,
    }
}

fn event(packet: &str) -> Option<Heard> {
    let (name, rest) = packet.strip_prefix("2[\"")?.split_once('"')?;
    if name == LOAD {
        return Some(Heard::Load);
    }
    if name != TO_ALL && name != TO_ONE {
        return None;
    }
    let digits = rest.split_once(NUMBER)?.1;
    let end = digits.find(|character: char| !character.is_ascii_digit())?;
    let number: u64 = digits.get(..end)?.parse().ok()?;
    match name {
        TO_ONE => Some(Heard::ToOne(number)),
        _ => u16::try_from(number).ok().map(Heard::ToAll),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use sockring_protocol::websocket::encode_frame;

    fn heard(text: &str) -> Heard {
        let mut bytes = Vec::new();
        encode_frame(Opcode::Text, text.as_bytes(), &mut bytes);
        let length = bytes.len();
        assert!((0..length).all(|cut| frame(&bytes[..cut]).is_none()), "{text}");
        bytes.push(0x81);
        let (heard, used) = frame(&bytes).unwrap();
        assert_eq!(used, length);
        heard
    }

    #[test]
    fn what_is_heard() {
        for (text, expected) in [
            (r#"0{"sid":"a"}"#, Heard::Open),
            ("2", Heard::Ping),
            (r#"40{"sid":"a"}"#, Heard::Joined),
            (r#"44{"message":"no"}"#, Heard::Refused),
            (r#"42["swarm:all",{"number":12,"server":"test"}]"#, Heard::ToAll(12)),
            (r#"42["swarm:one",{"number":123456789012345,"pad":""}]"#, Heard::ToOne(123_456_789_012_345)),
            (r#"42["swarm:load",{}]"#, Heard::Load),
            (r#"42["connected",{"number":1}]"#, Heard::Other),
            (r#"42["swarm:all",{"number":x}]"#, Heard::Other),
            (r#"42["~AAAA"]"#, Heard::Other),
            ("1", Heard::Bye),
            ("41", Heard::Bye),
            ("", Heard::Other),
        ] {
            assert_eq!(heard(text), expected, "{text}");
        }
    }

    #[test]
    fn a_close_frame_has_its_code() {
        let mut bytes = Vec::new();
        encode_frame(Opcode::Close, &1001_u16.to_be_bytes(), &mut bytes);
        assert_eq!(frame(&bytes), Some((Heard::Close(Some(1001)), 4)));
    }
}
