//! What Node's Redis adapters carry between servers: emits on their way, and the sockets that something is done to.

mod broadcast;

pub use broadcast::{Broadcast, Delivery, Selection};
