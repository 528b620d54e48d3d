//! What of the ring is arithmetic and memory, without a kernel, and the unit tests beside it.

#[path = "../../../src/ring/backlog.rs"]
mod backlog;
#[path = "../../../src/ring/buffers.rs"]
mod buffers;
#[path = "../../../src/ring/files.rs"]
mod files;
#[path = "../../../src/ring/flight.rs"]
mod flight;
#[path = "../../../src/ring/token.rs"]
mod token;

#[allow(unused_imports, reason = "tests beside the sources name it")]
use files::RawTarget;
use token::Token;
