//! `cargo fuzz run proxies`: the body is `sockring_fuzz::proxies`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| sockring_fuzz::proxies(data));
