//! The cluster: other instances and Node servers on the same Redis, as tasks of the cores.
//!
//! Channels and bytes on one side, broadcasts and mail on the other; it does not touch clients.

mod message;

pub use message::{Answer, Envelope, Message, RequestId};
