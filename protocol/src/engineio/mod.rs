//! Engine.IO v4: packets, polling payloads, the open packet, and the rules of a session.

mod open;
mod packet;
mod payload;
mod session;

pub use open::{OpenPacket, Upgrades};
pub use packet::{Data, EnginePacket, EnginePacketError, SEPARATOR};
pub use payload::{Payload, PayloadEncoder};
pub use session::{
    CLOSE_GRACE_MS, Input, Moment, POLL_RELEASE_MS, PacketType, ProbePacket, Session, SessionEnd, SessionTimes, Step,
    Transport,
};
