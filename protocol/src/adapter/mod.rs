//! What Node's Redis adapters carry between servers: emits on their way, and questions and orders about sockets.

mod broadcast;
mod error;
mod message;

pub use broadcast::{Broadcast, Delivery, Selection};
pub use error::{ATTACHMENTS_MAX, MessageError};
pub use message::{Answer, Ending, Envelope, Message, RequestId, SocketDescription, blobs_bytes};
