//! `cargo fuzz run json`: the body is `sockring_fuzz::json`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| sockring_fuzz::json(data));
