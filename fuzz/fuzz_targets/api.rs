//! `cargo fuzz run api`: the body is `sockring_fuzz::api`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| sockring_fuzz::api(data));
