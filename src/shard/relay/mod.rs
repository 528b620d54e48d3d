//! The relay: all that a shard is, as bytes, for another one that goes on with it. Whoever has clients there notices nothing.
//!
//! ```text
//!   portable!    beside a type: what it is made of                        protocol/src/portable.rs
//!   carried!     beside the parts of a shard: what goes along, and what the next one has of its own
//!        |
//!        v
//!   shard_form   the whole, behind what has to be the same on both sides, its form first
//! ```
//!
//! A field that is added is written, or does not compile. With it the form is another, as is what no other form can read.

mod carried;
pub(super) mod lists;
pub(super) mod map_lists;
pub(super) mod maps;
pub(super) mod sets;
mod shard_form;
pub(super) mod slabs;
pub(super) mod words;

pub(in crate::shard) use carried::{Carried, carried, form_of_part};
pub use shard_form::RelayError;
