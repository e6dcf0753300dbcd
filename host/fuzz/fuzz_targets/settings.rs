//! See `hotbay::fuzz::settings`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| hotbay::fuzz::settings(bytes));
