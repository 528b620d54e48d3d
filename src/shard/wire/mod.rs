//! The wire: connections, what is read from them and what is written to them, whichever client they carry.
//!
//! ```text
//!   bytes                                                   one send per connection
//!     |                                                         ^
//!   sealing: TLS, where it is spoken <------------------------> |
//!     |                                                         |
//!     v                                                         | flush: own answers, then the client's outbox
//!   connection, whose stage is
//!     http --------- heads, bodies ---> requests ---> clients   |
//!     |                 ^                   | answers --------->+
//!     | 101             | room_making: the longest idler goes   |
//!     v                 |                                       |
//!     websocket ---- frames, messages, pings -------> clients   |
//!     |                                                         |
//!     v                                                         |
//!     closing ------ drops what still comes                     |
//!
//!   parcel: what goes along to another shard, or to the API and back
//! ```

mod answers;
pub(super) mod compressor;
mod connection;
pub(super) mod flush;
mod frames;
mod http;
pub(super) mod idlers;
mod input;
pub(super) mod parcel;
mod requests;
mod room_making;
mod sealing;
pub(super) mod stage;
pub(super) mod tls_stages;
