//! `cargo fuzz run engineio`: the body is `sockring_fuzz::engineio`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| sockring_fuzz::engineio(data));
