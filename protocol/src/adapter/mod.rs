//! What Node's Redis adapters say to each other: channels and bytes on one side, messages on the other.

mod broadcast;
mod channels;
mod classic;
mod codec;
mod entry_id;
mod error;
mod fields;
mod message;
mod part;
mod room;
mod sharded;
mod streams;
mod trace;
mod writer;

pub use broadcast::{Broadcast, Delivery, Selection};
pub use channels::{Adapter, ChannelKind, ChannelName, Channels, SubscriptionMode};
pub use codec::{decode, decode_at, encode};
pub use entry_id::EntryId;
pub use error::{ATTACHMENTS_MAX, MessageError};
pub use message::{
    Answer, Ending, Envelope, MESSAGE_BYTES_MAX, Message, Outgoing, RequestId, SocketDescription, blobs_bytes,
};
pub use room::{namesake_of, number_of};
pub use streams::{StoredSession, StreamEntry, decode_entry, encode_entry, stream_of};
pub use trace::TraceContext;
