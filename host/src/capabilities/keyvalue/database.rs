//! The database file: opened at its first use, shared with the host that takes over, and opened anew after it failed.

use super::{
    report::{Reports, Trouble, Use},
    tables::make_tables,
};
use crate::{
    config::HostConfig,
    state::{make_private, refuse_unless_own},
};
use redb::{
    Builder, ConcurrencyMode, Database,
    backends::{FileBackend, InMemoryBackend},
};
use std::{
    fs::{self, File, OpenOptions},
    io,
    os::unix::fs::{MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};
use tracing::{error, info};

/// The file in the folder `keyvalue` of the state folder.
const FILE: &str = "keyvalue.redb";
/// Bytes of it that are kept in memory.
const CACHE: usize = 32 << 20;
/// How often a read is tried again where a write failed beside it, as on a full disk: redb lets nobody use what was open then.
const READ_AGAIN: u32 = 3;
/// What is wrong with a file that has lost its name.
const GONE: &str = "it was removed or replaced while the host had it open, and what was in it is lost";

/// Where what services keep is kept.
pub(super) struct Place {
    /// None: in memory, and gone with the process.
    folder: Option<PathBuf>,
    open: Mutex<Option<Arc<Open>>>,
    reports: Reports,
}

/// The database as it was opened.
struct Open {
    database: Database,
    /// Device and number of its file.
    file: Option<(u64, u64)>,
}

/// What a transaction came to that failed.
pub(super) type Broken = Box<redb::Error>;

/// The error of whatever step of a transaction.
pub(super) fn broken(error: impl Into<redb::Error>) -> Broken {
    Box::new(error.into())
}

impl Place {
    pub(super) fn new(state: Option<&Path>) -> Self {
        Self { folder: state.map(HostConfig::keyvalue_of), open: Mutex::default(), reports: Reports::default() }
    }

    /// The folder of the database.
    pub(super) fn folder(&self) -> Option<&Path> {
        self.folder.as_deref()
    }

    /// Reads from the database, which is opened where it is not. Waits for the disk. Where that fails the log is told, and the next
    /// use opens it anew: what was wrong may be mended by then.
    ///
    /// # Errors
    /// Where the database cannot be opened, or `work` fails.
    pub(super) fn read<T>(&self, work: impl Fn(&Database) -> Result<T, Broken>) -> Option<T> {
        let mut outcome = self.once(Use::Reading, &work);
        for _ in 0..READ_AGAIN {
            match &outcome {
                Err((_, reason)) if matches!(**reason, redb::Error::PreviousIo) => outcome = self.once(Use::Reading, &work),
                _ => break,
            }
        }
        self.told(outcome)
    }

    /// Changes the database, as [`Self::read`] reads it. What is returned is in the file that has its name then.
    ///
    /// # Errors
    /// As of [`Self::read`], and where the file was removed or replaced: what was done may be lost.
    pub(super) fn write<T>(&self, how: Use, work: impl FnOnce(&Database) -> Result<T, Broken>) -> Option<T> {
        self.told(self.once(how, work))
    }

    fn once<T>(&self, how: Use, work: impl FnOnce(&Database) -> Result<T, Broken>) -> Result<T, (Trouble, Broken)> {
        let open = self.opened().map_err(|reason| (Trouble::All, reason))?;
        // Looked at before, so that nothing more goes into a file that nobody finds again, and after, so that nothing in it is
        // acknowledged.
        let found = self.is_in_place(&open).map_err(|reason| (Trouble::All, reason));
        let outcome = found.and_then(|()| {
            let done = work(&open.database).map_err(|reason| (how.trouble(), reason))?;
            if how != Use::Reading {
                self.is_in_place(&open).map_err(|reason| (Trouble::All, reason))?;
            }
            Ok(done)
        });
        match outcome {
            Ok(done) => {
                self.reports.works(how).for_each(mended);
                Ok(done)
            }
            Err(failure) => {
                // After an error of the disk redb refuses everything until it is opened anew. Others may have done that by now.
                self.lock().take_if(|now| Arc::ptr_eq(now, &open));
                Err(failure)
            }
        }
    }

    /// Closes the file, so that the next host need not look through it.
    pub(super) fn close(&self) {
        *self.lock() = None;
    }

    fn opened(&self) -> Result<Arc<Open>, Broken> {
        // Under the lock: the file is opened once, and who comes meanwhile waits for it.
        let mut opened = self.lock();
        if let Some(open) = &*opened {
            return Ok(open.clone());
        }
        let open = Arc::new(self.open()?);
        *opened = Some(open.clone());
        Ok(open)
    }

    fn open(&self) -> Result<Open, Broken> {
        let failed = |error: io::Error| broken(redb::Error::Io(error));
        let mut builder = builder();
        let (database, file) = match &self.folder {
            Some(folder) => {
                let file = open_file(folder).map_err(failed)?;
                let found = file.metadata().map_err(failed)?;
                // Two hosts have it open while one takes over from the other: each write is in one of them at a time.
                builder.set_concurrency_mode(ConcurrencyMode::MultiWriter);
                let backend = FileBackend::new(file).map_err(broken)?;
                (builder.create_with_backend(backend).map_err(broken)?, Some((found.dev(), found.ino())))
            }
            None => (builder.create_with_backend(InMemoryBackend::new()).map_err(broken)?, None),
        };
        make_tables(&database)?;
        Ok(Open { database, file })
    }

    /// Whether what is open is what has the name.
    fn is_in_place(&self, open: &Open) -> Result<(), Broken> {
        let (Some(folder), Some(file)) = (&self.folder, open.file) else { return Ok(()) };
        let gone = || broken(redb::Error::Io(io::Error::new(io::ErrorKind::NotFound, GONE)));
        match fs::symlink_metadata(folder.join(FILE)) {
            Ok(found) if (found.dev(), found.ino()) == file => Ok(()),
            Ok(_) => Err(gone()),
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => Err(gone()),
            Err(error) => Err(broken(redb::Error::Io(error))),
        }
    }

    fn told<T>(&self, outcome: Result<T, (Trouble, Broken)>) -> Option<T> {
        outcome.inspect_err(|(trouble, reason)| self.tell(*trouble, reason)).ok()
    }

    fn tell(&self, trouble: Trouble, reason: &redb::Error) {
        if !self.reports.fails(trouble) {
            return;
        }
        let file = self.folder.as_deref().unwrap_or(Path::new("memory")).join(FILE);
        let remedy = match reason {
            redb::Error::Io(error) if error.kind() == io::ErrorKind::StorageFull => "free space on its disk",
            redb::Error::Io(error) if error.kind() == io::ErrorKind::NotFound => {
                "end the host and put a backup in its place, or let it go on with what is there now; hotbay opens that at the next use"
            }
            redb::Error::Io(error) if error.kind() != io::ErrorKind::InvalidData => {
                "see to its owner, mode and disk; hotbay tries again at the next use"
            }
            redb::Error::DatabaseAlreadyOpen => "end the other program that has it open, then hotbay goes on by itself",
            _ => "put a backup in its place, or move it away to begin with an empty one; hotbay opens it at the next use",
        };
        let what = match trouble {
            Trouble::All => "cannot be used, and services that ask for it",
            Trouble::Reading => "cannot be read, and services that read",
            Trouble::Writing => "takes no changes, and services that make them",
        };
        error!(
            target: "hotbay::keyvalue", file = %file.display(), %reason, remedy,
            "the key-value store {what} get an error: {reason}; {remedy}"
        );
    }

    /// Nothing that can panic runs under the lock but the opening, after which there is no database.
    fn lock(&self) -> MutexGuard<'_, Option<Arc<Open>>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn mended(trouble: Trouble) {
    let what = match trouble {
        Trouble::All => "can be used again",
        Trouble::Reading => "can be read again",
        Trouble::Writing => "takes changes again",
    };
    info!(target: "hotbay::keyvalue", "the key-value store {what}");
}

/// What every database of ours is opened with.
pub(super) fn builder() -> Builder {
    let mut builder = Database::builder();
    builder.set_cache_size(CACHE);
    builder
}

/// Opens the file, which is nobody else's and no link, or makes it.
fn open_file(folder: &Path) -> io::Result<File> {
    make_private(folder)?;
    refuse_unless_own(&fs::metadata(folder)?)?;
    let nofollow = rustix::fs::OFlags::NOFOLLOW.bits().cast_signed();
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false).mode(0o600).custom_flags(nofollow);
    let file = options.open(folder.join(FILE))?;
    refuse_unless_own(&file.metadata()?)?;
    // A name is on the disk once its folder is, and what is committed is lost with a name above it.
    let state = folder.parent().unwrap_or(folder);
    for folder in [folder, state] {
        File::open(folder)?.sync_all()?;
    }
    // The folder that the state folder is in may be another user's.
    if let Some(Ok(above)) = state.parent().map(File::open) {
        above.sync_all()?;
    }
    Ok(file)
}
