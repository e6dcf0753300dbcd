//! See `hotbay::fuzz::routes`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| hotbay::fuzz::routes(bytes));
