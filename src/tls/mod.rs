//! TLS of our own: certificates, what is agreed on with a peer, and the stage between a connection's bytes and what it says.
//!
//! ```text
//!   files --> certificate, tickets --> server: what all stages begin with, replaced while they run
//!                                        | accept, one per connection
//!                                        v
//!   bytes from the peer ----------->  stage  -----------> what it says
//!   bytes for the peer  <-----------         <----------- what it is told
//! ```
//!
//! No socket and no thread is in here: shards and the API's tasks give bytes to a stage and take bytes from it.

mod certificate;
mod counts;
mod der;
mod server;
mod stage;
mod tickets;

pub use certificate::{Certificate, CertificateError};
pub use counts::{TlsCounts, TlsRefusal, TlsVersion};
pub use server::{TlsServer, TlsTerms};
pub use stage::{TlsFlow, TlsStage};
pub use tickets::{TicketKeys, WeakTicketKey};

/// What is said to who speaks HTTP where TLS is spoken.
pub const SPEAK_TLS: &str = "this port speaks TLS: use https:// or wss://";
