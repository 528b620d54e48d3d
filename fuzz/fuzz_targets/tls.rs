//! `cargo fuzz run tls`: the body is `sockring_fuzz::tls`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| sockring_fuzz::tls(data));
