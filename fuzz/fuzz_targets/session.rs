//! `cargo fuzz run session`: the body is `sockring_fuzz::session`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| sockring_fuzz::session(data));
