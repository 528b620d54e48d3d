//! `cargo fuzz run adapter`: the body is `sockring_fuzz::adapter`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| sockring_fuzz::adapter(data));
