//! The bay that builds go to: one of our own beside the sources, or one that people named.

use super::follower::Projects;
use hotbay::{
    config::{BayFile, ServiceName, Settings},
    state::{Lock, make_private, remove_if_there},
};
use std::{
    fs, io,
    path::{Path, PathBuf},
};

/// Held by who develops, so that no second one builds into it.
const LOCK: &str = ".dev.lock";

/// A folder that the host serves.
pub(crate) struct Bay {
    path: PathBuf,
    is_own: bool,
    _lock: Lock,
}

impl Bay {
    /// Where that of who develops lies, seen from the folder that is followed.
    pub(crate) const OWN: &'static str = ".hotbay/dev";

    /// That of who develops in `folder`: `.hotbay/dev` in it. It stays from one time to the next, with what services keep.
    ///
    /// # Errors
    /// Where it cannot be made.
    pub(crate) fn own(folder: &Path) -> io::Result<Self> {
        let own = folder.join(Self::OWN);
        make_private(&own)?;
        // Nothing of it, nor of what it lies in, belongs into a repository.
        let ignore = own.with_file_name(".gitignore");
        if !ignore.exists() {
            fs::write(&ignore, "*\n")?;
        }
        Self::locked(&own, true)
    }

    /// One that may hold more than what is built here.
    ///
    /// # Errors
    /// Where it cannot be made.
    pub(crate) fn named(path: &Path) -> io::Result<Self> {
        fs::create_dir_all(path)?;
        Self::locked(path, false)
    }

    fn locked(path: &Path, is_own: bool) -> io::Result<Self> {
        let path = path.canonicalize()?;
        let lock = Lock::try_take(&path.join(LOCK))?;
        let lock = lock.ok_or_else(|| io::Error::other(format!("another hotbay dev builds into {}", path.display())))?;
        Ok(Self { path, is_own, _lock: lock })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Takes out what was built of services that are no more, where nobody else puts anything there.
    ///
    /// # Errors
    /// The file that stays.
    pub(super) fn keep_only(&self, projects: &Projects) -> io::Result<()> {
        if !self.is_own {
            return Ok(());
        }
        for entry in fs::read_dir(&self.path)?.flatten() {
            let is_built = |name: &ServiceName| self.path.join(format!("{name}.wasm")).exists();
            let is_gone = match BayFile::of(&entry.file_name().to_string_lossy()) {
                BayFile::Build(name) => !projects.contains_key(&name),
                BayFile::Settings(name) => {
                    !is_built(&name) || projects.get(&name).is_none_or(|project| project.settings().is_none())
                }
                // Labelled builds come by orders.
                _ => false,
            };
            if is_gone {
                remove_if_there(&entry.path())?;
            }
        }
        Ok(())
    }

    /// The settings of a service as they lie there; the defaults where none do. None where they cannot be used.
    pub(super) fn settings(&self, name: &ServiceName) -> Option<Settings> {
        let text = match fs::read_to_string(self.path.join(format!("{name}.toml"))) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
            read => read.ok()?,
        };
        Settings::parse(name, &text).ok()
    }

    /// Takes a service out.
    ///
    /// # Errors
    /// The file that stays.
    pub(super) fn remove(&self, name: &ServiceName) -> io::Result<()> {
        // The build first: settings by themselves are nothing, a build without its settings is another revision.
        for ending in ["wasm", "toml"] {
            remove_if_there(&self.path.join(format!("{name}.{ending}")))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workshop::Project;

    #[test]
    fn only_what_nobody_builds_any_more_is_taken_out_and_only_of_our_own() {
        let folder = tempfile::tempdir().unwrap();
        let dir = folder.path().join("orders");
        fs::create_dir(&dir).unwrap();
        fs::write(dir.join("hotbay-build.toml"), "command = \"true\"\noutput = \"out.wasm\"\n").unwrap();
        let projects: Projects =
            Project::find(&[&dir]).unwrap().into_iter().map(|project| (project.name().clone(), project)).collect();
        let (own, named) = (Bay::own(folder.path()).unwrap(), Bay::named(&folder.path().join("bay")).unwrap());
        assert!(own.path().ends_with(Bay::OWN));
        assert_eq!(fs::read_to_string(folder.path().join(".hotbay/.gitignore")).unwrap(), "*\n");
        for bay in [&own, &named] {
            for file in ["orders.wasm", "orders.toml", "stock.wasm", "stock.toml", "orders@beta.wasm"] {
                fs::write(bay.path().join(file), "").unwrap();
            }
            bay.keep_only(&projects).unwrap();
        }
        let there = |bay: &Bay| {
            let names = fs::read_dir(bay.path()).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
            let mut names: Vec<_> = names.filter(|name| !name.starts_with('.')).collect();
            names.sort();
            names
        };
        assert_eq!(there(&own), ["orders.wasm", "orders@beta.wasm"]);
        assert_eq!(there(&named).len(), 5);
        own.remove(&ServiceName::parse("orders").unwrap()).unwrap();
        assert_eq!(there(&own), ["orders@beta.wasm"]);
    }
}
