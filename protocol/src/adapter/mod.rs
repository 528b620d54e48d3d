//! What Node's Redis adapters say to each other: channels and bytes on one side, messages on the other.

mod broadcast;
mod channels;
mod classic;
mod codec;
mod error;
mod fields;
mod message;
mod part;
mod room;
mod sharded;
mod writer;

pub use broadcast::{Broadcast, Delivery, Selection};
pub use channels::{Adapter, ChannelKind, ChannelName, Channels, SubscriptionMode};
pub use codec::{MESSAGE_BYTES_MAX, decode, decode_at, encode};
pub use error::{ATTACHMENTS_MAX, MessageError};
pub use message::{Answer, Ending, Envelope, Message, Outgoing, RequestId, SocketDescription, blobs_bytes};
pub use room::{namesake_of, number_of};
