//! `hotbay-build.toml`: what a folder says of its build where it cannot be seen from the sources.

use super::Language;
use serde::Deserialize;
use std::{
    fs, io,
    path::{Path, PathBuf},
};

/// The file's name. Beside `NAME.toml`, which is read by the host and goes into the bay; this one stays with the sources.
pub(super) const FILE: &str = "hotbay-build.toml";

/// Every key is optional.
#[derive(Debug, Default, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Recipe {
    /// The service [default: the name of the folder].
    pub(super) name: Option<String>,
    /// Where it cannot be recognised.
    pub(super) language: Option<Language>,
    /// Run by `sh -c` in the folder, instead of what the language would do.
    pub(super) command: Option<String>,
    /// What `command` makes: a file, seen from the folder.
    pub(super) output: Option<PathBuf>,
    /// What is built from, seen from the folder [default: all that is in it].
    pub(super) watch: Option<Vec<PathBuf>>,
}

impl Recipe {
    /// Reads the file in `dir`; the defaults where there is none. `Ok(None)` tells the two apart.
    ///
    /// # Errors
    /// What is wrong with it, with the place and the remedy.
    pub(super) fn read(dir: &Path) -> Result<Option<Self>, String> {
        let path = dir.join(FILE);
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(format!("{}: {error}; let hotbay's user read it", path.display())),
        };
        let recipe: Self = toml::from_str(&text).map_err(|error| {
            format!("{}: {}; it may hold name, language, command, output and watch", path.display(), error.to_string().trim())
        })?;
        match (&recipe.command, &recipe.output) {
            (Some(_), None) => {
                Err(format!("{}: `command` is there without `output`; name the .wasm that it makes", path.display()))
            }
            (None, Some(_)) => {
                Err(format!("{}: `output` is there without `command`; name the command that makes it", path.display()))
            }
            _ => Ok(Some(recipe)),
        }
    }
}
