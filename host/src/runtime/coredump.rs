//! Core dumps: what a guest was when it trapped, in the format of WebAssembly's tool conventions, in a folder of the state folder.
//!
//! A dump holds the guest's memory, with whatever a request and the settings gave it: the folder is the host's user's alone.

use super::store::HostState;
use crate::{
    config::ServiceName,
    state::{make_private, refuse_unless_own, remove_if_there, sweep, write_whole},
};
use std::{
    ffi::OsStr,
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
    time::SystemTime,
};
use tokio::sync::Semaphore;
use tracing::{info, warn};
use wasmtime::{Error, Store, WasmCoreDump};

/// Dumps that are kept; the oldest go.
const KEPT: usize = 10;
/// Bytes of a dump beside the memory of its guest: stack, globals and where each piece of the memory belongs.
const BESIDE: usize = 1 << 20;

/// Writes core dumps, one at a time.
pub struct CoreDumps {
    folder: PathBuf,
    place: Arc<Semaphore>,
}

impl CoreDumps {
    /// Into this folder, which need not be there.
    pub fn at(folder: PathBuf) -> Arc<Self> {
        Arc::new(Self { folder, place: Arc::new(Semaphore::new(1)) })
    }

    /// Writes down what the guest of `store` was, which ended with `error`, off the async threads; the log tells of it. One that fails
    /// while another is written leaves none.
    pub(super) fn write(self: &Arc<Self>, error: Error, store: Store<HostState>, revision: String, memory: usize) {
        let (service, request_id) = (store.data().service.clone(), store.data().request_id().to_owned());
        let Ok(place) = self.place.clone().try_acquire_owned() else {
            info!(target: "hotbay::coredump", %service, revision, request_id, "no core dump: that of another trap is being written");
            return;
        };
        let (dumps, name, at) = (self.clone(), service.clone(), revision.clone());
        let written = tokio::task::spawn_blocking(move || {
            let _place = place;
            dumps.write_now(&error, store, &name, &at, memory)
        });
        tokio::spawn(async move {
            // The engine panics at globals of a component's own, which those have that were composed of several.
            let reason = match written.await {
                Ok(Ok(path)) => {
                    let file = path.display();
                    info!(
                        target: "hotbay::coredump", %service, revision, request_id, %file,
                        "the trap's core dump is {file}; it holds the guest's data, and docs/debugging.md says how to read it"
                    );
                    return;
                }
                Ok(Err(error)) => error.to_string(),
                Err(error) => format!("the engine could not make one: {error}"),
            };
            warn!(target: "hotbay::coredump", %service, revision, request_id, reason, "no core dump of the trap: {reason}");
        });
    }

    fn write_now(
        &self,
        error: &Error,
        mut store: Store<HostState>,
        service: &ServiceName,
        revision: &str,
        memory: usize,
    ) -> io::Result<PathBuf> {
        let Some(dump) = error.downcast_ref::<WasmCoreDump>() else {
            return Err(io::Error::other("the guest had not begun"));
        };
        let bytes = dump.serialize(&mut store, &format!("{service}.wasm"));
        // Its memory is given back before the disk is waited for.
        drop(store);
        let most = memory.saturating_add(memory / 64).saturating_add(BESIDE);
        if bytes.len() > most {
            return Err(io::Error::other(format!("it has {} bytes, more than the {most} that it may", bytes.len())));
        }
        make_private(&self.folder)?;
        refuse_unless_own(&fs::metadata(&self.folder)?)?;
        sweep(&self.folder)?;
        let at = humantime::format_rfc3339_millis(SystemTime::now()).to_string().replace(['-', ':'], "");
        let path = self.folder.join(format!("{service}-{revision}-{at}.wasm"));
        write_whole(&path, &bytes)?;
        keep_newest(&self.folder)?;
        Ok(path)
    }
}

fn keep_newest(folder: &Path) -> io::Result<()> {
    let mut dumps = Vec::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if entry.path().extension() == Some(OsStr::new("wasm")) {
            dumps.push((entry.metadata()?.modified()?, entry.path()));
        }
    }
    dumps.sort();
    let old = dumps.len().saturating_sub(KEPT);
    dumps.iter().take(old).try_for_each(|(_, path)| remove_if_there(path))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{fs::File, time::Duration};

    #[test]
    fn the_newest_are_kept() {
        let folder = tempfile::tempdir().unwrap();
        for n in 0..KEPT + 3 {
            let file = File::create(folder.path().join(format!("dump-{n}.wasm"))).unwrap();
            file.set_modified(SystemTime::UNIX_EPOCH + Duration::from_secs(n.try_into().unwrap())).unwrap();
        }
        File::create(folder.path().join("of-somebody-else")).unwrap();
        keep_newest(folder.path()).unwrap();
        let mut left: Vec<_> = fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        left.sort();
        assert_eq!(left.len(), KEPT + 1);
        assert!(!left.iter().any(|name| name == "dump-2.wasm") && left.iter().any(|name| name == "dump-3.wasm"));
    }
}
