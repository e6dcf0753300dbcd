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
    folder: PathBuf,
    hint: Arc<Notify>,
    rescan: Duration,
    /// The watch in force and the folder's identity when it was set.
    watch: Option<(RecommendedWatcher, (u64, u64))>,
    warned: bool,
}

impl Watcher {
    /// `hint` is notified where somebody else knows a reason to look.
    pub(super) fn new(folder: PathBuf, rescan: Duration, hint: Arc<Notify>) -> Self {
        let mut watcher = Self { folder, hint, rescan, watch: None, warned: false };
        watcher.ensure();
        watcher
    }

    /// Waits for a hint, or for the time of the rescan that repairs missed ones (a full event queue, a link whose target changed).
    pub(super) async fn next(&mut self) {
        if tokio::time::timeout(self.rescan, self.hint.notified()).await.is_err() {
            self.ensure();
        }
    }

    /// Sets the watch anew where the folder under this name is another one than before.
    fn ensure(&mut self) {
        let Ok(found) = std::fs::metadata(&self.folder) else {
            self.watch = None;
            return;
        };
        let identity = (found.dev(), found.ino());
        if self.watch.as_ref().is_some_and(|(_, watched)| *watched == identity) {
            return;
        }
        let hint = self.hint.clone();
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
        let watch = notify::recommended_watcher(tell).and_then(|mut watcher| {
            watcher.watch(&self.folder, RecursiveMode::NonRecursive)?;
            Ok(watcher)
        });
        match watch {
            Ok(watcher) => {
                if self.warned {
                    info!(bay = %self.folder.display(), "the bay is watched again");
                }
                self.warned = false;
                self.watch = Some((watcher, identity));
            }
            Err(error) => {
                if !self.warned {
                    warn!(
                        bay = %self.folder.display(), %error, rescan = ?self.rescan,
                        "the bay cannot be watched and is read at intervals instead; raise fs.inotify.max_user_instances and max_user_watches"
                    );
                }
                self.warned = true;
            }
        }
    }
}
