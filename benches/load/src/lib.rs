//! What the load generator and the floors share: frames, clocks, what the kernel says of a process, and reports.
#![deny(unsafe_code)]

pub mod clock;
pub mod frames;
pub mod histogram;
pub mod kernel;
pub mod report;
