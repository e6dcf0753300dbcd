//! A build on its way into a bay: each file whole at every moment, and untouched where nothing changed.

use super::{Built, Project};
use std::{
    fs, io,
    path::{Path, PathBuf},
};

/// What became of the files in the bay.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Placed {
    /// They were there already, byte by byte: a host sees no change.
    Unchanged,
    /// The build, its settings or both are new.
    Changed,
}

/// Why a file is not in the bay.
#[derive(Debug, thiserror::Error)]
#[error("{path}: {error}; let hotbay's user write the folder, or name another bay")]
pub(crate) struct PlaceError {
    path: String,
    error: io::Error,
}

impl Built {
    /// Puts the build and its settings into the folder `bay`, which is made if it is missing. Settings that are in the bay and
    /// not among the sources stay.
    ///
    /// # Errors
    /// The file that cannot be written. What was there is there still.
    pub(crate) fn place(&self, bay: &Path) -> Result<Placed, PlaceError> {
        let about = |path: &Path, error| PlaceError { path: path.display().to_string(), error };
        fs::create_dir_all(bay).map_err(|error| about(bay, error))?;
        let mut placed = Placed::Unchanged;
        for (from, to) in self.ways(bay) {
            if put(&from, &to).map_err(|error| about(&to, error))? {
                placed = Placed::Changed;
            }
        }
        Ok(placed)
    }

    /// Whether the bay has all of it already.
    pub(crate) fn is_in(&self, bay: &Path) -> bool {
        self.ways(bay).iter().all(|(from, to)| is_same(from, to))
    }

    /// From where to where. The settings first: a new build must not be published with the old ones.
    fn ways(&self, bay: &Path) -> Vec<(PathBuf, PathBuf)> {
        let settings = self.settings.iter().map(|from| (from.clone(), "toml"));
        let files = settings.chain([(self.wasm.clone(), "wasm")]);
        files.map(|(from, ending)| (from, bay.join(format!("{}.{ending}", self.name)))).collect()
    }
}

/// Whether `to` is what `from` is, byte by byte.
fn is_same(from: &Path, to: &Path) -> bool {
    // Only files of one length are read.
    let length = |path: &Path| fs::metadata(path).map(|found| found.len()).ok();
    length(from) == length(to) && fs::read(from).is_ok_and(|content| fs::read(to).is_ok_and(|there| there == content))
}

impl Project {
    /// Puts the settings alone into the folder `bay`, or takes them out where they are no more among the sources.
    ///
    /// # Errors
    /// The file that cannot be written or removed. What was there is there still.
    pub(crate) fn place_settings(&self, bay: &Path) -> Result<Placed, PlaceError> {
        let to = bay.join(format!("{}.toml", self.name()));
        let changed = match self.settings() {
            Some(from) => put(&from, &to),
            None => match fs::remove_file(&to) {
                Ok(()) => Ok(true),
                Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
                Err(error) => Err(error),
            },
        };
        let changed = changed.map_err(|error| PlaceError { path: to.display().to_string(), error })?;
        Ok(if changed { Placed::Changed } else { Placed::Unchanged })
    }
}

/// Whether anything had to be done.
fn put(from: &Path, to: &Path) -> io::Result<bool> {
    if is_same(from, to) {
        return Ok(false);
    }
    let temp = Temp::beside(to);
    fs::write(&temp.0, fs::read(from)?)?;
    fs::rename(&temp.0, to)?;
    Ok(true)
}

/// A file that the bay does not look at, since its name begins with a dot; gone where it was not renamed.
struct Temp(PathBuf);

impl Temp {
    fn beside(to: &Path) -> Self {
        let name = to.file_name().unwrap_or_default().to_string_lossy();
        Self(to.with_file_name(format!(".{name}.{}.new", std::process::id())))
    }
}

impl Drop for Temp {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}
