//! Files of the state folder: private to the host's user, refused where others could have changed them, and written whole.

use crate::fault_point;
use std::{
    fs::{self, DirBuilder, File, OpenOptions, TryLockError},
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
};
use tempfile::NamedTempFile;

/// What files that are not whole yet begin with: a crash leaves them, [`sweep`] removes them.
const UNFINISHED: &str = ".hotbay-unfinished-";

/// `O_NOFOLLOW`: a planted link is not followed.
const NOFOLLOW: i32 = rustix::fs::OFlags::NOFOLLOW.bits().cast_signed();
/// `O_NONBLOCK`: a planted pipe is not waited for.
const NONBLOCK: i32 = rustix::fs::OFlags::NONBLOCK.bits().cast_signed();

/// Makes the folder and those above it, mode 0700, where they are missing.
pub fn make_private(folder: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(folder)
}

/// Refuses what another user owns or may write.
///
/// # Errors
/// The owner or the mode.
pub fn refuse_unless_own(found: &fs::Metadata) -> io::Result<()> {
    let me = rustix::process::geteuid().as_raw();
    if found.uid() != me {
        return Err(io::Error::other(format!("it belongs to user {}, hotbay runs as user {me}", found.uid())));
    }
    if found.mode() & 0o022 != 0 {
        return Err(io::Error::other(format!("others may write it (mode {:o})", found.mode() & 0o777)));
    }
    Ok(())
}

/// Opens a regular file of our own, which is no link and which nobody else may write.
///
/// # Errors
/// Where it is anything else, and where it cannot be opened.
pub fn open_own(path: &Path) -> io::Result<File> {
    let file = OpenOptions::new().read(true).custom_flags(NOFOLLOW | NONBLOCK).open(path)?;
    let found = file.metadata()?;
    refuse_unless_own(&found)?;
    if found.is_file() { Ok(file) } else { Err(io::Error::other("it is no regular file")) }
}

/// Puts a file with this content and mode 0600 at `path`: whoever looks, after a crash too, finds the old one or the whole new one.
///
/// # Errors
/// Where the disk takes it not; what was at `path` is still there.
pub fn write_whole(path: &Path, content: &[u8]) -> io::Result<()> {
    write_with_mode(path, content, 0o600)
}

fn write_with_mode(path: &Path, content: &[u8], mode: u32) -> io::Result<()> {
    Staged::write(path, content, mode)?.place()
}

/// A file that is whole and on the disk beside the place where it belongs. Dropped without having been placed, it is removed.
#[derive(Debug)]
pub struct Staged {
    file: NamedTempFile,
    path: PathBuf,
}

impl Staged {
    /// A file that is not only the host's: mode 0644, less what the umask takes away.
    ///
    /// # Errors
    /// Where the disk takes it not.
    pub fn shared(path: &Path, content: &[u8]) -> io::Result<Self> {
        Self::write(path, content, 0o644)
    }

    fn write(path: &Path, content: &[u8], mode: u32) -> io::Result<Self> {
        Self::write_unnamed(path, content, mode).map_err(|error| about(path, &error))
    }

    fn write_unnamed(path: &Path, content: &[u8], mode: u32) -> io::Result<Self> {
        let mode = fs::Permissions::from_mode(mode);
        let mut file = tempfile::Builder::new().prefix(UNFINISHED).permissions(mode).tempfile_in(folder_of(path))?;
        file.write_all(content)?;
        file.as_file().sync_all()?;
        fault_point::reached("file-written");
        Ok(Self { file, path: path.to_owned() })
    }

    /// Puts it in its place, where it takes the place of what was there.
    ///
    /// # Errors
    /// Where something is there that no file can take the place of, or the folder cannot be written.
    pub fn place(self) -> io::Result<()> {
        let Self { file, path } = self;
        file.persist(&path).map_err(|error| about(&path, &error.error))?;
        fault_point::reached("file-renamed");
        // The name is on the disk once its folder is.
        File::open(folder_of(&path))?.sync_all()
    }
}

/// The error with the path that it is about.
fn about(path: &Path, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}

fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Keeps other hosts from changing what they share with this one, until it is dropped.
pub struct Lock(File);

impl Lock {
    /// Takes the lock that `path` stands for, making the file (mode 0600) where it is missing. Waits for whoever has it.
    ///
    /// # Errors
    /// Where the file cannot be made or opened, or is a link.
    pub fn take(path: &Path) -> io::Result<Self> {
        let file = Self::open(path)?;
        file.lock()?;
        Ok(Self(file))
    }

    /// The same, without waiting: none where another host has it.
    ///
    /// # Errors
    /// As of [`Self::take`].
    pub fn try_take(path: &Path) -> io::Result<Option<Self>> {
        let file = Self::open(path)?;
        match file.try_lock() {
            Ok(()) => Ok(Some(Self(file))),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => Err(about(path, &error)),
        }
    }

    fn open(path: &Path) -> io::Result<File> {
        let file = OpenOptions::new().create(true).append(true).mode(0o600).custom_flags(NOFOLLOW).open(path);
        file.map_err(|error| about(path, &error))
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // Closing the file would do; a child process might hold it open.
        let _ = self.0.unlock();
    }
}

/// Removes what a crash left half written in `folder`.
pub fn sweep(folder: &Path) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_name().as_encoded_bytes().starts_with(UNFINISHED.as_bytes()) {
            remove_if_there(&entry.path())?;
        }
    }
    Ok(())
}

/// Removes a file that somebody else may have removed already.
pub fn remove_if_there(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}
