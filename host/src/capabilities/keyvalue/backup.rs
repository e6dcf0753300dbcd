//! A copy of the whole store at one moment, made while it serves.

use super::{
    database::{Broken, Place, broken, builder},
    failure::Failure,
    store::KeyValue,
    tables::{ENTRIES, KEYS, USAGE, make_tables, size},
};
use redb::{Database, ReadableDatabase, ReadableTable, WriteTransaction, backends::FileBackend};
use std::{fs::File, io};
use tokio_util::sync::CancellationToken;
use tracing::error;

/// Values that are written into the copy before it goes to the disk, in bytes: what the copying holds of them in memory.
const STEP: usize = 16 << 20;

impl KeyValue {
    /// A file without a name that holds a database with all that was acknowledged when the copying began. Needs as much room in the
    /// state folder again. Writes go on meanwhile. `held` is held as long as copying takes, and given back with the copy; whoever stops
    /// waiting ends the copying.
    ///
    /// # Errors
    /// The store, or the disk that takes the copy, fails; the log has said why.
    pub async fn backup<T: Send + 'static>(&self, held: T) -> Result<(File, T), Failure> {
        let place = self.place()?.clone();
        let unwanted = CancellationToken::new();
        let _waiting = unwanted.clone().drop_guard();
        // What fails may be the copy: the store is used on, and says itself where it is the one that is broken.
        let copying = move || (place.read(|database| Ok(copy(&place, database, &unwanted))), held);
        let Ok((copied, held)) = tokio::task::spawn_blocking(copying).await else {
            return Err(Failure::Unusable);
        };
        match copied {
            Some(Ok(copy)) => Ok((copy, held)),
            Some(Err(reason)) => {
                let remedy = "a copy needs as much room in the state folder as the store";
                error!(target: "hotbay::keyvalue", %reason, remedy, "no copy of the key-value store could be made: {reason}; {remedy}");
                Err(Failure::limit(format!("no copy could be made: {reason}; {remedy}")))
            }
            None => Err(Failure::Unusable),
        }
    }
}

fn copy(place: &Place, database: &Database, unwanted: &CancellationToken) -> Result<File, Broken> {
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
        let (spot, value) = entry.map_err(broken)?;
        if unwanted.is_cancelled() {
            return Err(failed(io::Error::new(io::ErrorKind::Interrupted, "nobody waits for it any more")));
        }
        if bytes > STEP {
            writing.commit().map_err(broken)?;
            writing = copy.begin_write().map_err(broken)?;
            bytes = 0;
        }
        bytes += value.value().len();
        writing.open_table(ENTRIES).map_err(broken)?.insert(spot.value(), value.value()).map_err(broken)?;
        writing.open_table(KEYS).map_err(broken)?.insert(spot.value(), size(value.value())).map_err(broken)?;
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

#[cfg(test)]
mod tests {
    use super::*;
    use futures::FutureExt;
    use std::sync::mpsc::{self, Sender};

    fn kept() -> Place {
        let place = Place::new(None);
        place
            .read(|database| {
                let writing = database.begin_write().map_err(broken)?;
                writing
                    .open_table(ENTRIES)
                    .map_err(broken)?
                    .insert(("service", "bucket", "key"), &b"value"[..])
                    .map_err(broken)?;
                writing.commit().map_err(broken)
            })
            .unwrap();
        place
    }

    #[test]
    fn a_copy_that_nobody_waits_for_is_not_made() {
        let place = kept();
        let unwanted = CancellationToken::new();
        let made = |unwanted: &CancellationToken| place.read(|database| Ok(copy(&place, database, unwanted))).unwrap();
        assert!(made(&unwanted).is_ok());
        unwanted.cancel();
        assert!(made(&unwanted).unwrap_err().to_string().contains("nobody waits"));
    }

    struct Held(Sender<()>);

    impl Drop for Held {
        fn drop(&mut self) {
            let _ = self.0.send(());
        }
    }

    #[test]
    fn what_is_held_for_a_copy_is_held_until_the_copying_has_ended() {
        let (store, runtime) =
            (KeyValue::in_memory(), tokio::runtime::Builder::new_current_thread().max_blocking_threads(1).build().unwrap());
        let _inside = runtime.enter();
        // The one thread that could copy is busy.
        let (go_on, wait) = mpsc::channel::<()>();
        runtime.spawn_blocking(move || wait.recv());
        let (held, ended) = mpsc::channel();
        assert!(store.backup(Held(held)).now_or_never().is_none(), "it waits");
        assert!(ended.try_recv().is_err(), "whoever waited has gone, and the copying is still to come");
        go_on.send(()).unwrap();
        ended.recv().unwrap();
    }
}
