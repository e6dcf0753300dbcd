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

/// Holds the folder for this process: two that install into it one after the other do not install twice.
pub(super) async fn lock(folder: &Path) -> io::Result<File> {
    fs::create_dir_all(folder)?;
    let file = File::create(folder.join(".lock"))?;
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(TryLockError::WouldBlock) => tokio::time::sleep(LOOK_AGAIN).await,
            Err(TryLockError::Error(error)) => return Err(error),
        }
    }
}
