//! `cargo fuzz run websocket`: the body is `sockring_fuzz::websocket`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| sockring_fuzz::websocket(data));
