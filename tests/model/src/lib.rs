//! Parts of the server's own sources, for tools that would take long for all of it: loom walks through the orders in which
//! threads can meet at a mailbox, Miri looks at every access to the memory that the kernel is lent.
#![allow(dead_code, reason = "the server uses the rest")]

#[cfg(test)]
mod mailbox;
#[cfg(test)]
mod ring;
