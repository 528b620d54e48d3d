//! Engine.IO v4: packets, polling payloads, the open packet, and the rules of a session.

#[cfg(feature = "client")]
mod client;
mod open;
mod packet;
mod payload;
mod session;

#[cfg(feature = "client")]
pub use client::OpenPacketError;
pub use open::{OpenPacket, Upgrades};
pub use packet::{Data, EnginePacket, EnginePacketError, SEPARATOR};
pub use payload::{Payload, PayloadEncoder};
pub use session::{
    CLOSE_GRACE_MS, Input, Moment, POLL_RELEASE_MS, PacketType, ProbePacket, Session, SessionEnd, SessionTimes, Step,
    Transport,
};
