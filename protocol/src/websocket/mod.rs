//! WebSocket (RFC 6455), the server's side: the upgrade, frames, messages and how they end. No extensions.

mod close;
mod decoder;
mod frame;
mod mask;
mod upgrade;
mod utf8;

pub use close::{CloseFrame, encode_close, is_valid_code, reply_code};
pub use decoder::{Decoded, Decoder, Event, MessageLimits};
pub use frame::{
    Fin, FrameError, Opcode, ServerFrames, encode_client_frame, encode_frame, encode_frame_header, frame_header_length,
};
pub use mask::unmask;
pub use upgrade::{AcceptKey, UpgradeError};
pub use utf8::{Utf8Error, Utf8Validator};
