//! `cargo fuzz run shard`: the body is `sockring_fuzz::shard`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| sockring_fuzz::shard(data));
