//! The database file: opened at its first use, shared with the host that takes over, and opened anew after it failed.

use super::change::{ENTRIES, USAGE};
use crate::{
    config::HostConfig,
    state::{make_private, refuse_unless_own},
};
use redb::{
    Builder, ConcurrencyMode, Database, ReadableDatabase,
    backends::{FileBackend, InMemoryBackend},
};
use std::{
    fs::{self, File, OpenOptions},
    io,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};
use tracing::{error, info};

/// The file in the folder `keyvalue` of the state folder.
const FILE: &str = "keyvalue.redb";
/// Bytes of it that are kept in memory.
const CACHE: usize = 32 << 20;

/// Where what services keep is kept.
pub(super) struct Place {
    /// None: in memory, and gone with the process.
    folder: Option<PathBuf>,
    open: Mutex<Opened>,
}

#[derive(Default)]
struct Opened {
    database: Option<Arc<Database>>,
    /// Whether the log has said that it cannot be used.
    told: bool,
}

/// What a transaction came to that failed.
pub(super) type Broken = Box<redb::Error>;

/// The error of whatever step of a transaction.
pub(super) fn broken(error: impl Into<redb::Error>) -> Broken {
    Box::new(error.into())
}

impl Place {
    pub(super) fn new(state: Option<&Path>) -> Self {
        Self { folder: state.map(HostConfig::keyvalue_of), open: Mutex::default() }
    }

    /// The folder of the database.
    pub(super) fn folder(&self) -> Option<&Path> {
        self.folder.as_deref()
    }

    /// Does something with the database, which is opened where it is not. Waits for the disk. Where that fails the log is told, and
    /// the next use opens it anew: what was wrong may be mended by then.
    ///
    /// # Errors
    /// Where the database cannot be opened, or `work` fails.
    pub(super) fn with<T>(&self, work: impl FnOnce(&Database) -> Result<T, Broken>) -> Option<T> {
        let database = match self.database() {
            Ok(database) => database,
            Err(reason) => {
                self.tell(&reason);
                return None;
            }
        };
        match work(&database) {
            Ok(done) => {
                self.mended();
                Some(done)
            }
            Err(reason) => {
                self.opened().database = None;
                self.tell(&reason);
                None
            }
        }
    }

    /// Closes the file, so that the next host need not look through it.
    pub(super) fn close(&self) {
        self.opened().database = None;
    }

    fn database(&self) -> Result<Arc<Database>, Broken> {
        // Under the lock: the file is opened once, and who comes meanwhile waits for it.
        let mut opened = self.opened();
        if let Some(database) = &opened.database {
            return Ok(database.clone());
        }
        let database = Arc::new(self.open()?);
        opened.database = Some(database.clone());
        Ok(database)
    }

    fn open(&self) -> Result<Database, Broken> {
        let mut builder = builder();
        let database = match &self.folder {
            Some(folder) => {
                let file = open_file(folder).map_err(|error| broken(redb::Error::Io(error)))?;
                // Two hosts have it open while one takes over from the other: each write is in one of them at a time.
                builder.set_concurrency_mode(ConcurrencyMode::MultiWriter);
                builder.create_with_backend(FileBackend::new(file).map_err(broken)?).map_err(broken)?
            }
            None => builder.create_with_backend(InMemoryBackend::new()).map_err(broken)?,
        };
        make_tables(&database)?;
        Ok(database)
    }

    fn mended(&self) {
        if std::mem::take(&mut self.opened().told) {
            info!(target: "hotbay::keyvalue", "the key-value store can be used again");
        }
    }

    /// Once, until it can be used again: every call of every service meets the same.
    fn tell(&self, reason: &redb::Error) {
        if std::mem::replace(&mut self.opened().told, true) {
            return;
        }
        let file = self.folder.as_deref().unwrap_or(Path::new("memory")).join(FILE);
        let remedy = match reason {
            redb::Error::Io(error) if error.kind() == io::ErrorKind::StorageFull => "free space on its disk",
            redb::Error::Io(error) if error.kind() != io::ErrorKind::InvalidData => {
                "see to its owner, mode and disk; hotbay tries again at the next use"
            }
            redb::Error::DatabaseAlreadyOpen => "end the other program that has it open, then hotbay goes on by itself",
            _ => "put a backup in its place, or move it away to begin with an empty one; hotbay opens it at the next use",
        };
        error!(
            target: "hotbay::keyvalue", file = %file.display(), %reason, remedy,
            "the key-value store cannot be used, and services that ask for it get an error: {reason}; {remedy}"
        );
    }

    /// Nothing that can panic runs under the lock but the opening, after which there is no database.
    fn opened(&self) -> MutexGuard<'_, Opened> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What every database of ours is opened with.
pub(super) fn builder() -> Builder {
    let mut builder = Database::builder();
    builder.set_cache_size(CACHE);
    builder
}

/// So that those who read find them.
pub(super) fn make_tables(database: &Database) -> Result<(), Broken> {
    let reading = database.begin_read().map_err(broken)?;
    if reading.open_table(ENTRIES).is_ok() && reading.open_table(USAGE).is_ok() {
        return Ok(());
    }
    drop(reading);
    let writing = database.begin_write().map_err(broken)?;
    writing.open_table(ENTRIES).map_err(broken)?;
    writing.open_table(USAGE).map_err(broken)?;
    writing.commit().map_err(broken)
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
    Ok(file)
}
