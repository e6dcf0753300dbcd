//! The name in the state folder at which a host is reached: who has it, and how it changes hands.

use crate::state::{Lock, refuse_unless_own, remove_if_there};
use rustix::fs::{Mode, OFlags, open};
use sha2::{Digest, Sha256};
use std::{
    fs, io,
    os::{
        fd::{AsRawFd, OwnedFd},
        unix::{
            ffi::OsStrExt,
            fs::{MetadataExt, PermissionsExt},
            net::UnixStream,
        },
    },
    path::{Path, PathBuf},
};
use tokio::net::UnixListener;

const LOCK: &str = "handover.lock";

/// Names the bay in 12 hex digits, whatever the path by which it was given: hosts of different bays may share a state folder.
pub(crate) fn bay_id(bay: &Path) -> String {
    let whole = fs::canonicalize(bay).unwrap_or_else(|_| bay.to_owned());
    let mut id = hex::encode(Sha256::digest(whole.as_os_str().as_bytes()));
    id.truncate(12);
    id
}

/// Where the host of one bay is reached.
pub(super) struct Place {
    folder: OwnedFd,
    file: String,
    /// Device and inode of the socket that this host has put there.
    mine: Option<(u64, u64)>,
}

impl Place {
    pub(super) fn open(state: &Path, bay: &str) -> io::Result<Self> {
        let folder = open(state, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
        refuse_unless_own(&fs::metadata(state)?)?;
        Ok(Self { folder, file: format!("handover-{bay}.sock"), mine: None })
    }

    /// By the open folder: the path of a socket may have 107 bytes, and state folders may lie deeper.
    fn path(&self, file: &str) -> PathBuf {
        PathBuf::from(format!("/proc/self/fd/{}/{file}", self.folder.as_raw_fd()))
    }

    pub(super) fn socket(&self) -> PathBuf {
        self.path(&self.file)
    }

    /// Whether a host answers here.
    pub(super) fn is_answered(&self) -> io::Result<bool> {
        match UnixStream::connect(self.socket()) {
            Ok(_) => Ok(true),
            Err(error) if is_nobody(&error) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Puts a new socket here, in place of one that nobody answers. One that is answered is replaced only with `by_right`: its
    /// host has handed over.
    pub(super) fn claim(&mut self, by_right: bool) -> io::Result<UnixListener> {
        let _lock = self.lock()?;
        if !by_right && self.is_answered()? {
            return Err(io::Error::new(io::ErrorKind::AddrInUse, "another host serves this bay with this state folder"));
        }
        let new = self.path(&format!(".{}.new", self.file));
        remove_if_there(&new)?;
        let listener = UnixListener::bind(&new)?;
        fs::set_permissions(&new, fs::Permissions::from_mode(0o600))?;
        // By one rename, so that there is no moment without a host to be reached.
        fs::rename(&new, self.socket())?;
        self.mine = self.found();
        Ok(listener)
    }

    /// Removes the socket, unless it is another host's by now.
    pub(super) fn release(&mut self) -> io::Result<()> {
        let _lock = self.lock()?;
        if self.mine.is_some() && self.mine.take() == self.found() { fs::remove_file(self.socket()) } else { Ok(()) }
    }

    fn found(&self) -> Option<(u64, u64)> {
        fs::symlink_metadata(self.socket()).ok().map(|found| (found.dev(), found.ino()))
    }

    /// Between a look and the rename or removal that it decides, no other host does the same. Held for a moment only.
    fn lock(&self) -> io::Result<Lock> {
        Lock::take(&self.path(LOCK))
    }
}

/// Whether a connection failed because no host is there: no file, or one that a host left which crashed.
pub(super) fn is_nobody(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(state: &Path) -> Place {
        Place::open(state, "0123456789ab").unwrap()
    }

    #[tokio::test]
    async fn a_living_host_keeps_its_name_and_a_dead_one_does_not() {
        let deep = tempfile::tempdir().unwrap();
        let state = deep.path().join("x".repeat(120));
        fs::create_dir(&state).unwrap();
        let (mut one, mut two) = (place(&state), place(&state));
        let listener = one.claim(false).unwrap();
        assert_eq!(two.claim(false).unwrap_err().kind(), io::ErrorKind::AddrInUse);
        drop(listener);
        assert!(!two.is_answered().unwrap());
        let _two = two.claim(false).unwrap();
        // It is not the first one's any more.
        one.release().unwrap();
        assert!(two.is_answered().unwrap());
        let mode = fs::metadata(state.join("handover-0123456789ab.sock")).unwrap().mode();
        assert_eq!(mode & 0o777, 0o600);
        two.release().unwrap();
        assert!(!state.join("handover-0123456789ab.sock").exists());
    }

    #[test]
    fn a_bay_has_one_name_by_every_path() {
        let folder = tempfile::tempdir().unwrap();
        let (bay, link) = (folder.path().join("bay"), folder.path().join("link"));
        fs::create_dir(&bay).unwrap();
        std::os::unix::fs::symlink(&bay, &link).unwrap();
        assert_eq!(bay_id(&bay), bay_id(&link.join("../bay/.")));
        assert_ne!(bay_id(&bay), bay_id(folder.path()));
    }
}
