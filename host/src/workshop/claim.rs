//! The crate of a service in a target folder that many services share: cargo names what it makes after the crate alone, and takes
//! what it made of another folder's crate of that name for up to date.

use super::{BuildFailure, Project, build, home};
use std::{
    fs::{self, File},
    io,
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
};

/// Held from before cargo runs until what it made is out of the others' reach.
pub(super) struct Claim {
    /// Says whose crate was built last.
    _lock: File,
}

impl Claim {
    /// Waits for builds of other crates of this name. `folder` is where cargo puts the file; where another folder's crate was built
    /// last, what there is of it goes, so that cargo makes it anew.
    pub(super) async fn take(folder: &Path, crate_name: &str, project: &Project) -> io::Result<Self> {
        let path = folder.join(".hotbay").join(crate_name);
        let lock = home::lock(&path).await?;
        let owner = project.dir().canonicalize()?;
        let owner = owner.as_os_str().as_bytes();
        if fs::read(&path)? != owner {
            remove(&folder.join("deps"), &crate_name.replace('-', "_"))?;
            // From here on there is this one's or nothing.
            fs::write(&path, owner)?;
        }
        Ok(Self { _lock: lock })
    }

    /// Copies what cargo has made to where no other service's build goes.
    pub(super) fn carry_out(self, made: &Path, project: &Project) -> Result<PathBuf, BuildFailure> {
        let output = build::output(project)?;
        let scratch = build::scratch(&output)?;
        let copy = scratch.path().join("made.wasm");
        fs::copy(made, &copy).map_err(BuildFailure::io(made.display()))?;
        fs::rename(&copy, &output).map_err(BuildFailure::io(output.display()))?;
        Ok(output)
    }
}

/// `NAME.wasm` of libraries, `NAME-HASH.wasm` of programs.
fn remove(deps: &Path, name: &str) -> io::Result<()> {
    let entries = match fs::read_dir(deps) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    for entry in entries {
        let path = entry?.path();
        let stem = path.file_stem().unwrap_or_default().to_string_lossy();
        let is_named_so = stem == name || stem.rsplit_once('-').is_some_and(|(before, _)| before == name);
        if is_named_so && path.extension().is_some_and(|ending| ending == "wasm") {
            fs::remove_file(path)?;
        }
    }
    Ok(())
}
