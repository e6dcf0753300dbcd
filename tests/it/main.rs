//! What Hotbay does, a module a behaviour, each on the real binary.

mod bad_input;
mod cache;
mod check;
mod errors;
mod kinds;
mod leaks;
mod limits;
mod routing;
mod shutdown;
mod structure;
mod swap;
mod swap_under_load;
