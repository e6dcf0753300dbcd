//! What Hotbay does, a module a behaviour, each on the real binary.

mod errors;
mod kinds;
mod leaks;
mod routing;
mod structure;
mod swap_under_load;
