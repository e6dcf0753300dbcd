//! A copy of the whole store at one moment, made while it serves.

use super::{
    change::{ENTRIES, USAGE},
    database::{Broken, Place, broken, builder, make_tables},
    failure::Failure,
    store::KeyValue,
};
use redb::{Database, ReadableDatabase, ReadableTable, WriteTransaction, backends::FileBackend};
use std::{fs::File, io};
use tracing::error;

/// Values that are written into the copy before it goes to the disk, in bytes: what the copying holds of them in memory.
const STEP: usize = 16 << 20;

impl KeyValue {
    /// A file without a name that holds a database with all that was acknowledged when the copying began. Needs as much room in the
    /// state folder again. Writes go on meanwhile.
    ///
    /// # Errors
    /// The store, or the disk that takes the copy, fails; the log has said why.
    pub async fn backup(&self) -> Result<File, Failure> {
        let place = self.place()?.clone();
        // What fails may be the copy: the store is used on, and says itself where it is the one that is broken.
        let copying = move || place.with(|database| Ok(copy(&place, database)));
        match tokio::task::spawn_blocking(copying).await.ok().flatten() {
            Some(Ok(copy)) => Ok(copy),
            Some(Err(reason)) => {
                let remedy = "a copy needs as much room in the state folder as the store";
                error!(target: "hotbay::keyvalue", %reason, remedy, "no copy of the key-value store could be made: {reason}; {remedy}");
                Err(Failure::limit(format!("no copy could be made: {reason}; {remedy}")))
            }
            None => Err(Failure::Unusable),
        }
    }
}

fn copy(place: &Place, database: &Database) -> Result<File, Broken> {
    let failed = |error: io::Error| broken(redb::Error::Io(error));
    let file = place.folder().map_or_else(tempfile::tempfile, tempfile::tempfile_in).map_err(failed)?;
    // Every write through this handle is the copy's.
    let backend = FileBackend::new(file.try_clone().map_err(failed)?).map_err(broken)?;
    let copy = builder().create_with_backend(backend).map_err(broken)?;
    make_tables(&copy)?;
    let snapshot = database.begin_read().map_err(broken)?;
    let (entries, usage) = (snapshot.open_table(ENTRIES).map_err(broken)?, snapshot.open_table(USAGE).map_err(broken)?);
    let mut writing = copy.begin_write().map_err(broken)?;
    let mut bytes = 0;
    for entry in entries.iter().map_err(broken)? {
        let (place, value) = entry.map_err(broken)?;
        if bytes > STEP {
            writing.commit().map_err(broken)?;
            writing = copy.begin_write().map_err(broken)?;
            bytes = 0;
        }
        bytes += value.value().len();
        writing.open_table(ENTRIES).map_err(broken)?.insert(place.value(), value.value()).map_err(broken)?;
    }
    finish(writing, &usage)?;
    copy.close().map_err(broken)?;
    Ok(file)
}

fn finish(writing: WriteTransaction, usage: &impl ReadableTable<&'static str, u64>) -> Result<(), Broken> {
    {
        let mut copied = writing.open_table(USAGE).map_err(broken)?;
        for entry in usage.iter().map_err(broken)? {
            let (service, used) = entry.map_err(broken)?;
            copied.insert(service.value(), used.value()).map_err(broken)?;
        }
    }
    writing.commit().map_err(broken)
}
