//! What Hotbay does, a module a behaviour, each on the real binary.

mod kinds;
mod leaks;
mod structure;
mod swap_under_load;
