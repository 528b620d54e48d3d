//! `cargo fuzz run tokens`: the body is `sockring_fuzz::tokens`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| sockring_fuzz::tokens(data));
