//! See `hotbay::fuzz::artifact`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| hotbay::fuzz::artifact(bytes));
