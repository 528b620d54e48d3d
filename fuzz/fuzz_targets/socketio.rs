//! `cargo fuzz run socketio`: the body is `sockring_fuzz::socketio`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| sockring_fuzz::socketio(data));
