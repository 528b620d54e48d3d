//! `cargo fuzz run relay`: the body is `sockring_fuzz::relay`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| sockring_fuzz::relay(data));
