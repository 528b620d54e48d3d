//! WebSocket (RFC 6455), the server's side: the upgrade, frames, messages and how they end. No extensions.

mod close;
mod decoder;
mod frame;
#[cfg(feature = "client")]
mod handshake;
mod mask;
mod upgrade;
mod utf8;

pub use close::{CloseFrame, encode_close, is_valid_code, reply_code};
#[cfg(feature = "client")]
pub use decoder::ServerDecoder;
pub use decoder::{Decoded, Decoder, Event, MessageDecoder, MessageLimits};
#[cfg(feature = "client")]
pub use frame::encode_client_frame;
pub use frame::{
    Fin, FrameError, FromClient, FromServer, Opcode, Sender, ServerFrames, encode_frame, encode_frame_header,
    frame_header_length,
};
#[cfg(feature = "client")]
pub use handshake::{Handshake, HandshakeError};
pub use mask::unmask;
pub use upgrade::{AcceptKey, UpgradeError};
pub use utf8::{Utf8Error, Utf8Validator};
