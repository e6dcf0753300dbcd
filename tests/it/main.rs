//! What Hotbay does, a module a behaviour, each on the real binary.

mod bad_input;
mod errors;
mod kinds;
mod leaks;
mod limits;
mod routing;
mod structure;
mod swap;
mod swap_under_load;
