//! Who tells that files were saved: the system, or a look at intervals where the system tells no more.

use notify::{
    Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher as _,
    event::{AccessKind, AccessMode, ModifyKind},
};
use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};
use tokio::{sync::mpsc, time::Instant};

/// A save is over once nothing was told for so long, and at the latest after the longest time: editors write a file in steps.
const QUIET: Duration = Duration::from_millis(10);
const QUIET_MAX: Duration = Duration::from_millis(30);

/// Between two looks at everything, where nothing is told.
const POLL: Duration = Duration::from_millis(500);

/// Paths on their way; beyond them everything is looked at.
const WAITING_MAX: usize = 4096;

/// Where to look.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Hint {
    /// At these paths.
    At(BTreeSet<PathBuf>),
    /// At everything.
    All,
}

/// What the system tells of some folders.
pub(super) struct Watch {
    /// Absent where the system does not tell of all of them.
    watcher: Option<RecommendedWatcher>,
    followed: BTreeSet<PathBuf>,
    told: mpsc::Receiver<Told>,
    /// What was told of the save under way.
    paths: BTreeSet<PathBuf>,
    /// Whether something was not told, for want of room or by the system.
    lost: Arc<AtomicBool>,
    /// When it is over at the latest, or when the next look is due.
    due: Option<Instant>,
}

#[derive(Debug)]
enum Told {
    Path(PathBuf),
    /// It came or went as a whole: a folder of this name is not the one that was followed.
    Other(PathBuf),
    /// Something was lost.
    Lost,
}

/// Why the system does not tell of all folders, and what to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct WatchError {
    pub(super) reason: String,
    pub(super) remedy: String,
}

impl Watch {
    /// Of no folder yet.
    pub(super) fn new() -> (Self, Option<WatchError>) {
        let (tell, told) = mpsc::channel(WAITING_MAX);
        let lost = Arc::new(AtomicBool::new(false));
        let lose = {
            let lost = lost.clone();
            move |tell: &mpsc::Sender<Told>| {
                lost.store(true, Relaxed);
                // Where there is no room, something else is there to be woken by.
                let _ = tell.try_send(Told::Lost);
            }
        };
        let tell_all = move |event: notify::Result<Event>| {
            let Ok(event) = event else { return lose(&tell) };
            let told = match event.kind {
                // Reading sources is an access too, and building reads them all.
                EventKind::Access(kind) if kind != AccessKind::Close(AccessMode::Write) => return,
                EventKind::Create(_) | EventKind::Remove(_) | EventKind::Modify(ModifyKind::Name(_)) => Told::Other,
                _ => Told::Path,
            };
            if event.need_rescan() {
                lose(&tell);
            }
            for path in event.paths {
                if tell.try_send(told(path)).is_err() {
                    return lose(&tell);
                }
            }
        };
        let (watcher, error) = match notify::recommended_watcher(tell_all) {
            Ok(watcher) => (Some(watcher), None),
            Err(error) => (None, Some(WatchError::of(&error))),
        };
        (Self { watcher, followed: BTreeSet::new(), told, paths: BTreeSet::new(), lost, due: None }, error)
    }

    /// Tells of the files in each of `folders` from now on, and no more of others. Returns those that nobody was told of until now.
    pub(super) fn follow(&mut self, folders: &BTreeSet<PathBuf>) -> Result<Vec<PathBuf>, WatchError> {
        let Some(watcher) = &mut self.watcher else { return Ok(Vec::new()) };
        // One that is gone took its watch with it; where it is there still, what is told of it does not count.
        for gone in self.followed.extract_if(.., |folder| !folders.contains(folder)) {
            let _ = watcher.unwatch(&gone);
        }
        let mut new = Vec::new();
        for folder in folders.difference(&self.followed) {
            match watcher.watch(folder, RecursiveMode::NonRecursive) {
                Ok(()) => new.push(folder.clone()),
                // It went in the meantime, which is told by the folder above.
                Err(_) if !folder.is_dir() => {}
                Err(error) => {
                    self.watcher = None;
                    return Err(WatchError::of(&error));
                }
            }
        }
        self.followed.extend(new.iter().cloned());
        Ok(new)
    }

    /// Waits until something was saved, wholly. Whoever stops waiting loses nothing.
    pub(super) async fn next(&mut self) -> Hint {
        if self.watcher.is_none() {
            let due = *self.due.get_or_insert_with(|| Instant::now() + POLL);
            tokio::time::sleep_until(due).await;
            self.due = None;
            return Hint::All;
        }
        loop {
            let quiet = self.due.map(|latest| latest.min(Instant::now() + QUIET));
            tokio::select! {
                told = self.told.recv() => match told {
                    Some(told) => self.note(told),
                    // The sender lives in the watcher.
                    None => std::future::pending().await,
                },
                () = at(quiet) => return self.hint(),
            }
        }
    }

    fn note(&mut self, told: Told) {
        self.due.get_or_insert_with(|| Instant::now() + QUIET_MAX);
        match told {
            Told::Path(path) => drop(self.paths.insert(path)),
            Told::Other(path) => {
                self.forget(&path);
                self.paths.insert(path);
            }
            Told::Lost => {}
        }
    }

    /// The watch of a folder that was removed or moved went with it, also where another has taken its place by now.
    fn forget(&mut self, path: &Path) {
        // Those below come one after another, from it on.
        let gone: Vec<_> =
            self.followed.range(path.to_owned()..).take_while(|folder| folder.starts_with(path)).cloned().collect();
        for gone in gone {
            self.followed.remove(&gone);
            if let Some(watcher) = &mut self.watcher {
                let _ = watcher.unwatch(&gone);
            }
        }
    }

    fn hint(&mut self) -> Hint {
        self.due = None;
        let paths = std::mem::take(&mut self.paths);
        if self.lost.swap(false, Relaxed) {
            // Whatever was lost may have been such a removal.
            self.forget(Path::new("/"));
            return Hint::All;
        }
        Hint::At(paths)
    }
}

/// Returns at `moment`, never where there is none.
async fn at(moment: Option<Instant>) {
    match moment {
        Some(moment) => tokio::time::sleep_until(moment).await,
        None => std::future::pending().await,
    }
}

impl WatchError {
    fn of(error: &notify::Error) -> Self {
        let is_limit = match &error.kind {
            notify::ErrorKind::MaxFilesWatch => true,
            // EMFILE of inotify_init is its limit of instances.
            notify::ErrorKind::Io(error) => [rustix::io::Errno::MFILE, rustix::io::Errno::NFILE, rustix::io::Errno::NOSPC]
                .iter()
                .any(|limit| error.raw_os_error() == Some(limit.raw_os_error())),
            _ => false,
        };
        let seconds = POLL.as_secs_f32();
        let reason = match is_limit {
            true => format!("the file watcher ran out{}", limits(Path::new("/proc/sys/fs/inotify"))),
            false => format!("the file watcher does not work here: {error}"),
        };
        let remedy = match is_limit {
            true => {
                "sudo sysctl fs.inotify.max_user_watches=524288 fs.inotify.max_user_instances=512, then start hotbay dev anew"
            }
            false => "follow folders on a disk of this machine",
        };
        Self { reason: format!("{reason}; files are looked at every {seconds} s instead"), remedy: remedy.to_owned() }
    }
}

/// The limits of this system, where they can be read.
fn limits(folder: &Path) -> String {
    let read = |name: &str| std::fs::read_to_string(folder.join(name)).ok().map(|value| format!("{name} {}", value.trim()));
    let found: Vec<_> = ["max_user_watches", "max_user_instances"].into_iter().filter_map(read).collect();
    if found.is_empty() { String::new() } else { format!(" ({})", found.join(", ")) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[tokio::test]
    async fn many_writes_are_one_hint() {
        let folder = tempfile::tempdir().unwrap();
        let (mut watch, error) = Watch::new();
        assert_eq!(error, None);
        watch.follow(&[folder.path().to_owned()].into()).unwrap();
        let file = folder.path().join("main.rs");
        for text in ["1", "22", "333"] {
            fs::write(&file, text).unwrap();
        }
        fs::rename(&file, folder.path().join("lib.rs")).unwrap();
        let Hint::At(paths) = watch.next().await else { panic!("nothing was lost") };
        assert_eq!(paths, [file, folder.path().join("lib.rs")].into());
    }

    /// As code generators and git do, in less time than a save takes to be over.
    #[tokio::test]
    async fn a_folder_in_the_place_of_another_is_followed_anew() {
        let folder = tempfile::tempdir().unwrap();
        let (mut watch, _) = Watch::new();
        let (made, file) = (folder.path().join("made"), folder.path().join("made/main.rs"));
        fs::create_dir(&made).unwrap();
        let folders = BTreeSet::from([folder.path().to_owned(), made.clone()]);
        assert_eq!(watch.follow(&folders).unwrap().len(), 2);
        for replace in [
            |made: &Path| fs::remove_dir_all(made).and_then(|()| fs::create_dir(made)),
            |made: &Path| fs::rename(made, made.with_extension("old")).and_then(|()| fs::create_dir(made)),
        ] {
            replace(&made).unwrap();
            while watch.follow(&folders).unwrap().is_empty() {
                watch.next().await;
            }
            fs::write(&file, "1").unwrap();
            loop {
                let Hint::At(paths) = watch.next().await else { panic!("nothing was lost") };
                if paths.contains(&file) {
                    break;
                }
                watch.follow(&folders).unwrap();
            }
            fs::remove_file(&file).unwrap();
        }
    }

    #[tokio::test]
    async fn where_there_is_no_room_everything_is_looked_at() {
        let folder = tempfile::tempdir().unwrap();
        let (mut watch, _) = Watch::new();
        watch.follow(&[folder.path().to_owned()].into()).unwrap();
        for number in 0..WAITING_MAX {
            fs::write(folder.path().join(number.to_string()), "").unwrap();
        }
        // Nobody takes anything until then.
        while !watch.lost.load(Relaxed) {
            std::thread::yield_now();
        }
        let mut hint = watch.next().await;
        while hint != Hint::All {
            hint = watch.next().await;
        }
    }

    #[test]
    fn a_limit_is_named_with_its_remedy() {
        let error = WatchError::of(&notify::Error::new(notify::ErrorKind::MaxFilesWatch));
        assert!(error.reason.contains("ran out") && error.reason.contains("0.5 s"), "{error:?}");
        assert!(error.remedy.contains("fs.inotify.max_user_watches"), "{error:?}");
        let error = WatchError::of(&notify::Error::io(std::io::Error::from_raw_os_error(libc::EMFILE)));
        assert!(error.reason.contains("ran out"), "{error:?}");
    }
}
