//! The WIT of services, for languages whose tools read it: the service's own copy, or the one in this binary.

use super::{Project, home};
use include_dir::{Dir, include_dir};
use std::{
    fs, io,
    path::{Path, PathBuf},
};

/// What this host links against.
pub(super) static WIT: Dir<'static> = include_dir!("$CARGO_MANIFEST_DIR/../wit");

/// The folder `wit` of the service; where it has none, this binary's is unpacked for all services of the user.
pub(super) fn of(project: &Project) -> io::Result<PathBuf> {
    let own = project.dir().join("wit");
    if own.is_dir() {
        return Ok(own);
    }
    let shared = home::cache()?.join("wit").join(env!("CARGO_PKG_VERSION"));
    unpack(&WIT, &shared)?;
    Ok(shared)
}

/// Writes the files of `from` that differ from what is there.
pub(super) fn unpack(from: &Dir<'_>, to: &Path) -> io::Result<()> {
    fs::create_dir_all(to)?;
    for folder in from.dirs() {
        unpack(folder, &to.join(folder.path().file_name().unwrap_or_default()))?;
    }
    for file in from.files() {
        let path = to.join(file.path().file_name().unwrap_or_default());
        if !fs::read(&path).is_ok_and(|there| there == file.contents()) {
            fs::write(&path, file.contents())?;
        }
    }
    Ok(())
}
