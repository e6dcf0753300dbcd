//! The browser of whoever sits at this machine.

use std::io;

/// Opens `address` in it. Blocks for up to a quarter of a second for each program that is tried.
///
/// # Errors
/// Why none was opened, in words.
pub(crate) fn open(address: &str) -> Result<(), &'static str> {
    // What the crate says holds the whole command, and a status as the system codes it.
    open::that_detached(address).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => "this machine has no program that opens one (such as xdg-open)",
        _ => "none is found on this machine",
    })
}
