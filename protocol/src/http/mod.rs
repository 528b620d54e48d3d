//! HTTP/1.1 as this server needs it: request heads, bodies, queries, answers and the rules for origins.

mod body;
#[cfg(feature = "client")]
mod client;
pub mod cors;
mod query;
mod request;
mod response;

pub use body::{BodyDecoder, BodyState};
#[cfg(feature = "client")]
pub use client::{ClientRequest, ResponseHead};
pub use cors::{CorsPolicy, OriginDecision, Origins};
pub use query::{Query, decode_percent};
pub use request::{Framing, HEADERS_MAX, Head, HeadLimits, KeepAlive, Method, RequestError, Upgrade, Version};
pub use response::{CONTINUE, Response};
