//! `hotbay backup`: a copy of what services keep, made while they serve.

use super::{client::Which, output::print};
use clap::Parser;
use std::{
    fs::{self, File},
    io,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::ExitCode,
};

#[derive(Parser)]
pub(super) struct Args {
    /// Where to put it; a file that is there is replaced once the copy is whole
    file: PathBuf,
    #[command(flatten)]
    which: Which,
}

/// Exit code 0 where the copy is whole and on the disk.
pub(super) fn run(args: &Args) -> Result<ExitCode, String> {
    let client = args.which.client()?;
    let mut copy = client.open_once_made("/v1/keyvalue/backup")?;
    let bytes = write(&args.file, &mut copy).map_err(|error| format!("{} cannot be written: {error}", args.file.display()))?;
    print(&format!("{bytes} bytes in {}\n", args.file.display()))?;
    Ok(ExitCode::SUCCESS)
}

/// Whole or not at all, and for nobody else to read.
fn write(path: &Path, copy: &mut impl io::Read) -> io::Result<u64> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let private = fs::Permissions::from_mode(0o600);
    let mut file = tempfile::Builder::new().prefix(".hotbay-backup-").permissions(private).tempfile_in(folder)?;
    let bytes = io::copy(copy, &mut file)?;
    file.as_file().sync_all()?;
    file.persist(path)?;
    File::open(folder)?.sync_all()?;
    Ok(bytes)
}
