//! Where tools and what they keep lie between builds, for all services of a user.

use std::{
    env,
    fs::{self, File, TryLockError},
    io,
    path::{Path, PathBuf},
    time::Duration,
};

/// Between two looks whether another hotbay is done.
const LOOK_AGAIN: Duration = Duration::from_millis(200);

/// `$XDG_CACHE_HOME/hotbay`, else `~/.cache/hotbay`.
pub(super) fn cache() -> io::Result<PathBuf> {
    let folder = |variable| env::var_os(variable).map(PathBuf::from).filter(|path| path.is_absolute());
    let cache = folder("XDG_CACHE_HOME").or_else(|| Some(folder("HOME")?.join(".cache")));
    let cache =
        cache.ok_or_else(|| io::Error::other("neither XDG_CACHE_HOME nor HOME names a folder for tools; set one of them"))?;
    Ok(cache.join("hotbay"))
}

/// Holds the file for this process, with the folders that it lies in: two that install one after the other do not install twice.
/// What is in the file stays.
pub(super) async fn lock(path: &Path) -> io::Result<File> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    let file = File::options().create(true).truncate(false).read(true).write(true).open(path)?;
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(TryLockError::WouldBlock) => tokio::time::sleep(LOOK_AGAIN).await,
            Err(TryLockError::Error(error)) => return Err(error),
        }
    }
}

/// What was asked for of a tool that installs packages into a folder, once all of it is there.
pub(super) struct Installed(PathBuf);

impl Installed {
    /// Of this folder.
    pub(super) fn into(folder: &Path) -> Self {
        Self(folder.join(".hotbay-installed"))
    }

    pub(super) fn is(&self, asked: &str) -> bool {
        fs::read_to_string(&self.0).is_ok_and(|installed| installed == asked)
    }

    /// Before a tool changes the folder: one that is ended on its way leaves neither what was there before nor what is wanted.
    pub(super) fn begin(&self) -> io::Result<()> {
        match fs::remove_file(&self.0) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    pub(super) fn finish(&self, asked: &str) -> io::Result<()> {
        fs::write(&self.0, asked)
    }
}
