//! Hints that the bay may have changed. A hint says only "look again": the scan is what counts, so a lost hint is a late one.

use notify::{
    Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher as _,
    event::{AccessKind, AccessMode},
};
use std::{os::unix::fs::MetadataExt, path::PathBuf, sync::Arc, time::Duration};
use tokio::sync::Notify;
use tracing::{info, warn};

/// Watches the bay for as long as it lives.
pub(super) struct Watcher {
    bay: Watched,
    /// What is not there, as with hosts without secrets, is not watched.
    secrets: Watched,
    hint: Arc<Notify>,
    rescan: Duration,
    warned: bool,
}

/// One folder.
struct Watched {
    folder: PathBuf,
    /// The watch in force and the folder's identity when it was set.
    watch: Option<(RecommendedWatcher, (u64, u64))>,
}

impl Watcher {
    /// `hint` is notified where somebody else knows a reason to look.
    pub(super) fn new(bay: PathBuf, secrets: PathBuf, rescan: Duration, hint: Arc<Notify>) -> Self {
        let watched = |folder| Watched { folder, watch: None };
        let mut watcher = Self { bay: watched(bay), secrets: watched(secrets), hint, rescan, warned: false };
        watcher.ensure();
        watcher
    }

    /// Waits for a hint, or for the time of the rescan that repairs missed ones (a full event queue, a link whose target changed).
    pub(super) async fn next(&mut self) {
        if tokio::time::timeout(self.rescan, self.hint.notified()).await.is_err() {
            self.ensure();
        }
    }

    /// Sets the watches anew where the folders under these names are others than before.
    fn ensure(&mut self) {
        // The rescan looks at secrets too, and says nothing of the watch: that of the bay fails for the same reasons.
        let _ = self.secrets.ensure(&self.hint);
        match self.bay.ensure(&self.hint) {
            Ok(false) => {}
            Ok(true) => {
                if std::mem::take(&mut self.warned) {
                    info!(bay = %self.bay.folder.display(), "the bay is watched again");
                }
            }
            Err(error) => {
                if !std::mem::replace(&mut self.warned, true) {
                    warn!(
                        bay = %self.bay.folder.display(), %error, rescan = ?self.rescan,
                        "the bay cannot be watched and is read at intervals instead; raise fs.inotify.max_user_instances and max_user_watches"
                    );
                }
            }
        }
    }
}

impl Watched {
    /// Returns whether a watch was set just now.
    fn ensure(&mut self, hint: &Arc<Notify>) -> notify::Result<bool> {
        let Ok(found) = std::fs::metadata(&self.folder) else {
            self.watch = None;
            return Ok(false);
        };
        let identity = (found.dev(), found.ino());
        if self.watch.as_ref().is_some_and(|(_, watched)| *watched == identity) {
            return Ok(false);
        }
        let hint = hint.clone();
        let tell = move |event: notify::Result<Event>| {
            // Reading the bay is an access too: it must not be a reason to read it again. An error is one, since it may hide events.
            let reading = |event: &Event| match event.kind {
                EventKind::Access(kind) => kind != AccessKind::Close(AccessMode::Write),
                _ => false,
            };
            if !event.is_ok_and(|event| reading(&event)) {
                hint.notify_one();
            }
        };
        let mut watcher = notify::recommended_watcher(tell)?;
        watcher.watch(&self.folder, RecursiveMode::NonRecursive)?;
        self.watch = Some((watcher, identity));
        Ok(true)
    }
}
