//! The sockring server.

fn main() {}
