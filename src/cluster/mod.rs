//! The cluster: other instances and Node servers on the same Redis, as tasks of the cores.
//!
//! Channels and bytes on one side, broadcasts and mail on the other; it does not touch clients.

mod channels;
mod classic;
mod codec;
mod fields;
mod message;
mod msgpack;
mod part;
mod sharded;
mod writer;

pub use channels::{Adapter, ChannelKind, Channels, Place};
pub use codec::{ATTACHMENTS_MAX, MESSAGE_BYTES_MAX, MessageError, Outgoing, decode, encode};
pub use message::{Answer, Envelope, Message, RequestId};
