//! `cargo fuzz run http`: the body is `sockring_fuzz::http`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| sockring_fuzz::http(data));
