//! Socket.IO v5: packets, the arguments of events.

mod args;
mod assembler;
#[cfg(feature = "client")]
mod client;
mod encode;
mod packet;
mod placeholders;

pub use args::{Args, EventName};
pub use assembler::{AssembleError, Assembler, AssemblyStep};
#[cfg(feature = "client")]
pub use client::{ServerPacket, encode_connect_request};
pub use encode::{
    encode_ack, encode_connect, encode_connect_error, encode_connect_with_pid, encode_disconnect, encode_event,
};
pub use packet::{AckId, PacketLimits, RESERVED_EVENTS, SocketPacket, SocketPacketError};
