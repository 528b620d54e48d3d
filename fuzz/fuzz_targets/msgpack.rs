//! `cargo fuzz run msgpack`: the body is `sockring_fuzz::msgpack`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| sockring_fuzz::msgpack(data));
