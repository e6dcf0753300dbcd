//! The right to run the entries of a bay: held by one host at a time, and passed on with the moment up to which it was used.

use crate::state::Lock;
use std::{
    fs, io,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};
use tracing::{info, warn};

/// Between two attempts to get it from the host that has it.
const PAUSE: Duration = Duration::from_millis(200);

/// The right, and the file that stands for it.
pub(super) struct Lease {
    path: PathBuf,
    /// None where the state folder cannot be used: then no other host can share it either.
    lock: Option<Lock>,
    /// Up to when the host before ran what came due, where it ended in good order.
    pub(super) until: Option<SystemTime>,
}

impl Lease {
    /// Waits until no other host has it.
    pub(super) async fn take(path: PathBuf) -> Self {
        let mut told = false;
        loop {
            match blocking(&path, take).await {
                Ok(Some((lock, until))) => return Self { path, lock: Some(lock), until },
                Ok(None) => {
                    if !std::mem::replace(&mut told, true) {
                        info!(target: super::job::TARGET, "another host runs the [[cron]] entries of this bay until it has ended");
                    }
                    tokio::time::sleep(PAUSE).await;
                }
                Err(error) => {
                    warn!(target: super::job::TARGET, %error, "[[cron]] entries run without a lock in the state folder");
                    return Self { path, lock: None, until: None };
                }
            }
        }
    }

    /// Passes it on once `ended` has: what came due up to `until` has been run.
    pub(super) async fn release(self, until: SystemTime, ended: impl Future<Output = ()>) {
        let since = until.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        if self.lock.is_some() {
            // Without it the next host counts from when it begins.
            let _ = blocking(&self.path, move |path| fs::write(path, since.as_nanos().to_string())).await;
        }
        ended.await;
    }
}

/// The note of the host before is taken away: it would be old after a crash.
fn take(path: &Path) -> io::Result<Option<(Lock, Option<SystemTime>)>> {
    let Some(lock) = Lock::try_take(path)? else {
        return Ok(None);
    };
    let nanos = fs::read_to_string(path)?.parse().ok();
    fs::write(path, "")?;
    Ok(Some((lock, nanos.and_then(|nanos| SystemTime::UNIX_EPOCH.checked_add(Duration::from_nanos(nanos))))))
}

/// Off the async threads, since it waits for the disk.
async fn blocking<T: Send + 'static>(path: &Path, work: impl FnOnce(&Path) -> io::Result<T> + Send + 'static) -> io::Result<T> {
    let path = path.to_owned();
    tokio::task::spawn_blocking(move || work(&path)).await.map_err(io::Error::other)?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn one_host_has_it_and_the_next_learns_up_to_when() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("cron.lock");
        let until = SystemTime::UNIX_EPOCH + Duration::from_nanos(1_700_000_000_123_456_789);
        let first = Lease::take(path.clone()).await;
        assert!(first.lock.is_some() && first.until.is_none());
        assert!(take(&path).unwrap().is_none(), "it is taken");
        first.release(until, async {}).await;
        let second = Lease::take(path.clone()).await;
        assert_eq!(second.until, Some(until));
        drop(second);
        assert_eq!(Lease::take(path).await.until, None, "the second one crashed");
        let nowhere = Lease::take(folder.path().join("missing/cron.lock")).await;
        assert!(nowhere.lock.is_none());
    }
}
