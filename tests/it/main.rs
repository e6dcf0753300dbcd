//! What Hotbay does, a module a behaviour, each on the real binary.

#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::string_slice,
    reason = "a test that cannot go on ends and says why"
)]

mod bad_input;
mod cache;
mod check;
mod clients;
mod errors;
mod handover;
mod handover_under_load;
mod kinds;
mod leaks;
mod limits;
mod routing;
mod settle;
mod shutdown;
mod structure;
mod swap;
mod swap_under_load;
