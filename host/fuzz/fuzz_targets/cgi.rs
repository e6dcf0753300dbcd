//! See `hotbay::fuzz::cgi`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| hotbay::fuzz::cgi(bytes));
