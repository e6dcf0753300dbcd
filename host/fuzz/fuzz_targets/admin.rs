//! See `hotbay::fuzz::admin_request`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| hotbay::fuzz::admin_request(bytes));
