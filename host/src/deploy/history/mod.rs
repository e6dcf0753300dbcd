//! The history: every build that was ever good, with its settings, in the state folder.
//!
//! Files and no database: what there is to keep are builds, which are files, and a page of text for each service. Each is written
//! whole under another name, synced and renamed, so a crash at any moment leaves the old or the new one; a broken file harms one
//! service; and a person can read, copy and mend them with what every machine has.

mod record;

pub use record::{Came, End, Ended, Entry, Files};
pub(super) use record::{Intended, Publication, good};

use crate::{
    config::HistoryConfig,
    deploy::{bay::read_build, verdict::Counts},
    fault_point,
    runtime::{Build, Digest},
    state::{Lock, make_private, open_own, refuse_unless_own, remove_if_there, sweep, write_whole},
};
use record::Record;
use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    io::{self, Read},
    path::{Path, PathBuf},
    time::SystemTime,
};
use tracing::{error, warn};

const FOLDER: &str = "history";
const BUILDS: &str = "builds";
const LOCK: &str = "lock";

/// The history of one bay, or its absence where the state folder cannot be used. All of it waits for the disk.
pub struct History {
    folder: Option<Folder>,
}

struct Folder {
    path: PathBuf,
    config: HistoryConfig,
}

/// The folder while nobody else reads or writes it: after a take-over two hosts keep one history for a moment.
struct Locked<'a> {
    path: &'a Path,
    config: &'a HistoryConfig,
    _lock: Lock,
}

impl History {
    /// Opens the history of `bay` in the state folder `state`, creating both where they are missing. Where that fails the log says
    /// so, and nothing is remembered.
    ///
    /// A successor leaves everything as it is until [`Self::tidy`] is called.
    pub fn open(state: &Path, bay: &Path, config: HistoryConfig, is_successor: bool) -> Self {
        let folder = Folder::open(state, bay, config)
            .inspect_err(|error| {
                warn!(
                    state = %state.display(), %error,
                    "the state folder cannot be used: no history is kept, and there is nothing to roll back to; give hotbay a \
                     folder of its own with --state"
                );
            })
            .ok();
        let history = Self { folder };
        if !is_successor {
            history.tidy();
        }
        history
    }

    /// Removes what a crash left half written, and what the settings of this start allow no more.
    pub(super) fn tidy(&self) {
        let tidy = |folder: &Folder| {
            let locked = folder.lock()?;
            sweep(locked.path)?;
            sweep(&locked.path.join(BUILDS))?;
            locked.tidy()
        };
        if let Some(folder) = &self.folder
            && let Err(error) = tidy(folder)
        {
            warn!(folder = %folder.path.display(), %error, "the history could not be tidied; it is tried again at the next start");
        }
    }

    /// Remembers that a revision was published, and keeps its build.
    pub(super) fn published(&self, name: &str, build: &Build, publication: Publication) {
        self.note("a revision could not be remembered; it cannot be rolled back to", name, |folder| {
            folder.keep_build(build)?;
            fault_point::reached("build-kept");
            let changed = folder.change(name, |record| record.publish(publication, SystemTime::now()))?;
            fault_point::reached("remembered");
            // Reads every record; a restart that goes on with the same revisions needs none of it.
            if changed { folder.tidy() } else { Ok(()) }
        });
    }

    /// Remembers that the revision of these files ceases to serve, and how it fared.
    pub(super) fn ended(&self, name: &str, files: &Files, end: End, counts: Counts) {
        self.note("the end of a revision could not be remembered", name, |folder| {
            folder.change(name, |record| record.end(files, end, counts, SystemTime::now())).map(drop)
        });
    }

    /// Remembers that what serves is the same revision under another text of its settings.
    pub(super) fn reworded(&self, name: &str, before: &Files, settings: Option<String>) {
        self.note("other settings of a revision could not be remembered", name, |folder| {
            folder.change(name, |record| record.reword(before, settings)).map(drop)
        });
    }

    /// What was published of `name`, the oldest first.
    ///
    /// # Errors
    /// Where its record cannot be read.
    pub fn entries(&self, name: &str) -> io::Result<Vec<Entry>> {
        Ok(self.usable()?.lock()?.read(name)?.entries)
    }

    /// The names that there are records of.
    pub fn names(&self) -> Vec<String> {
        let names = || self.usable()?.lock()?.names();
        names().unwrap_or_default()
    }

    /// What was published of `name` where a service without a good revision may fall back to it, the oldest first.
    pub(super) fn to_fall_back_to(&self, name: &str) -> Vec<Entry> {
        let entries = self.entries(name).unwrap_or_default();
        // Who took the service out of the bay did not want it to serve.
        let removed = entries.last().and_then(|last| last.ended.as_ref()).is_some_and(|ended| ended.end == End::Removed);
        if removed { Vec::new() } else { entries }
    }

    /// A build of the history, read and checked against its digest.
    ///
    /// # Errors
    /// Where it is not there, or is not what it was.
    pub(super) fn build(&self, digest: &Digest) -> io::Result<Build> {
        let path = build_path(&self.usable()?.path, digest);
        drop(open_own(&path)?);
        let (build, _) = read_build(&path)?;
        match build.digest() == digest {
            true => Ok(build),
            false => Err(io::Error::new(io::ErrorKind::InvalidData, format!("{} is not what it was", path.display()))),
        }
    }

    /// Remembers what is about to be written into the bay, so that a crash in the middle is made good at the next start.
    ///
    /// # Errors
    /// Where it cannot be written: then nothing must be changed that a crash could leave half done.
    pub(super) fn intend(&self, name: &str, build: &Build, intended: Intended) -> io::Result<()> {
        let Some(folder) = &self.folder else {
            return Ok(());
        };
        let folder = folder.lock()?;
        folder.keep_build(build)?;
        folder.change(name, |record| record.intended = Some(intended)).map(drop)
    }

    /// What was intended is done, or given up.
    pub(super) fn settled(&self, name: &str) {
        self.note("a finished change could not be noted", name, |folder| {
            folder.change(name, |record| record.intended = None).map(drop)
        });
    }

    /// What a crash left half done, by service.
    pub(super) fn unfinished(&self) -> Vec<(String, Intended)> {
        let intended = |name: String| {
            let record = self.usable().and_then(Folder::lock).and_then(|folder| folder.read(&name)).ok()?;
            Some((name, record.intended?))
        };
        self.names().into_iter().filter_map(intended).collect()
    }

    /// Services that were in the bay when the host ended and are not now were taken out meanwhile.
    pub(super) fn missing(&self, there: &BTreeSet<String>) {
        for name in self.names() {
            if !there.contains(&name) {
                self.note("the end of a revision could not be remembered", &name, |folder| {
                    folder.change(&name, |record| record.missing(SystemTime::now())).map(drop)
                });
            }
        }
    }

    fn usable(&self) -> io::Result<&Folder> {
        self.folder.as_ref().ok_or_else(|| io::Error::other("no history is kept: the state folder cannot be used, see the log"))
    }

    /// Writes what serving does not depend on.
    fn note(&self, failed: &str, name: &str, write: impl FnOnce(&Locked<'_>) -> io::Result<()>) {
        if let Some(folder) = &self.folder
            && let Err(error) = folder.lock().and_then(|folder| write(&folder))
        {
            error!(service = name, %error, "{failed}");
        }
    }
}

impl Folder {
    fn open(state: &Path, bay: &Path, config: HistoryConfig) -> io::Result<Self> {
        let path = state.join(FOLDER).join(identity(state, bay)?);
        make_private(&path.join(BUILDS))?;
        for folder in [state, &state.join(FOLDER), &path, &path.join(BUILDS)] {
            refuse_unless_own(&fs::metadata(folder)?)?;
        }
        let folder = Self { path, config };
        // Whether it can be locked is whether it can be used.
        drop(folder.lock()?);
        Ok(folder)
    }

    fn lock(&self) -> io::Result<Locked<'_>> {
        let lock = Lock::take(&self.path.join(LOCK))?;
        Ok(Locked { path: &self.path, config: &self.config, _lock: lock })
    }
}

/// Tells the histories of bays apart that share a state folder: the way from the one to the other, so that both can be moved
/// together.
fn identity(state: &Path, bay: &Path) -> io::Result<String> {
    make_private(state)?;
    let (state, bay) = (fs::canonicalize(state)?, fs::canonicalize(bay)?);
    let shared = state.components().zip(bay.components()).take_while(|(a, b)| a == b).count();
    let ups = state.components().skip(shared).count();
    let way = bay.components().skip(shared).fold(PathBuf::from("../".repeat(ups)), |way, part| way.join(part));
    Ok(Digest::of(way.as_os_str().as_encoded_bytes()).short())
}

fn build_path(folder: &Path, digest: &Digest) -> PathBuf {
    folder.join(BUILDS).join(format!("{digest}.wasm"))
}

impl Locked<'_> {
    fn record_path(&self, name: &str) -> PathBuf {
        self.path.join(format!("{name}.json"))
    }

    fn read(&self, name: &str) -> io::Result<Record> {
        let path = self.record_path(name);
        let read = || {
            let mut text = Vec::new();
            open_own(&path)?.read_to_end(&mut text)?;
            Record::parse(&text)
        };
        match read() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Record::default()),
            read => read.map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", path.display()))),
        }
    }

    /// Returns whether the record is another one now.
    fn change(&self, name: &str, change: impl FnOnce(&mut Record)) -> io::Result<bool> {
        let mut record = match self.read(name) {
            // Nobody can read it, so nothing is lost with it; it stays beside the new one for a person.
            Err(error) if matches!(error.kind(), io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof) => {
                warn!(service = name, %error, "a record of the history is broken and is begun anew; the old one is kept as {name}.broken");
                fs::rename(self.record_path(name), self.path.join(format!("{name}.broken")))?;
                Record::default()
            }
            read => read?,
        };
        let before = record.clone();
        change(&mut record);
        record.trim(self.config.keep.as_usize());
        if record != before {
            write_whole(&self.record_path(name), &record.text()?)?;
        }
        Ok(record != before)
    }

    fn keep_build(&self, build: &Build) -> io::Result<()> {
        let path = build_path(self.path, build.digest());
        // Whether what is there is whole is seen when it is read: written whole it was, and only damage could have changed it.
        let is_there = fs::metadata(&path).is_ok_and(|found| usize::try_from(found.len()) == Ok(build.size()));
        if is_there { Ok(()) } else { write_whole(&path, build.wasm()) }
    }

    fn names(&self) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(self.path)? {
            let file = entry?.file_name();
            names.extend(file.to_str().and_then(|file| file.strip_suffix(".json")).map(str::to_owned));
        }
        names.sort();
        Ok(names)
    }

    /// Forgets the oldest revisions while all builds take more than `history.size`, then removes builds that no record names.
    fn tidy(&self) -> io::Result<()> {
        let mut records = BTreeMap::new();
        for name in self.names()? {
            // One that cannot be read may name any build.
            let Ok(record) = self.read(&name) else { return Ok(()) };
            records.insert(name, record);
        }
        let mut forgetful = BTreeSet::new();
        while builds(&records).values().sum::<u64>() > self.config.size.0 {
            let idle = records.iter_mut().filter_map(|(name, record)| Some((record.oldest()?, name, record)));
            let Some((_, name, record)) = idle.min_by_key(|(published, ..)| *published) else { break };
            record.forget_oldest();
            forgetful.insert(name.clone());
        }
        for (name, record) in records.iter().filter(|(name, _)| forgetful.contains(*name)) {
            write_whole(&self.record_path(name), &record.text()?)?;
        }
        let wanted = builds(&records);
        for entry in fs::read_dir(self.path.join(BUILDS))? {
            let entry = entry?;
            let digest = entry.file_name().to_str().and_then(|file| Digest::parse(file.strip_suffix(".wasm")?));
            if digest.is_some_and(|digest| !wanted.contains_key(&digest)) {
                remove_if_there(&entry.path())?;
            }
        }
        Ok(())
    }
}

/// The builds that records name, each once, with their sizes. What is only intended is not counted, and not removed.
fn builds(records: &BTreeMap<String, Record>) -> BTreeMap<Digest, u64> {
    let intended = records.values().filter_map(|record| Some((record.intended.as_ref()?.files.digest, 0)));
    let published = records.values().flat_map(|record| &record.entries).map(|entry| (entry.digest, entry.size));
    intended.chain(published).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        config::{ByteSize, Count},
        deploy::bay::Stamps,
    };
    use bytes::Bytes;

    fn opened(folder: &Path, keep: u32, size: u64) -> History {
        let bay = folder.join("bay");
        fs::create_dir_all(&bay).unwrap();
        History::open(&bay.join(".hotbay"), &bay, HistoryConfig { keep: Count(keep), size: ByteSize(size) }, false)
    }

    fn build(text: &str) -> Build {
        Build::of(Bytes::copy_from_slice(text.as_bytes()))
    }

    fn publish(history: &History, name: &str, build: &Build) {
        let publication =
            Publication { files: Files::of(build, None), came: Came::Bay, repeats: None, replaced: Counts::default() };
        history.published(name, build, publication);
    }

    fn digests(history: &History, name: &str) -> Vec<Digest> {
        history.entries(name).unwrap().iter().map(|entry| entry.digest).collect()
    }

    #[test]
    fn what_was_published_is_there_after_a_restart_and_after_a_move() {
        let folder = tempfile::tempdir().unwrap();
        let history = opened(folder.path(), 10, 1000);
        for text in ["one", "two"] {
            publish(&history, "a", &build(text));
        }
        let moved = tempfile::tempdir().unwrap();
        fs::rename(folder.path().join("bay"), moved.path().join("bay")).unwrap();
        let history = opened(moved.path(), 10, 1000);
        assert_eq!(digests(&history, "a"), [*build("one").digest(), *build("two").digest()]);
        assert_eq!(history.build(build("one").digest()).unwrap().wasm(), b"one");
        assert_eq!(history.to_fall_back_to("a").len(), 2);
    }

    #[test]
    fn the_oldest_go_and_the_serving_stay() {
        let folder = tempfile::tempdir().unwrap();
        let history = opened(folder.path(), 2, 9);
        for (name, text) in [("a", "aa1"), ("b", "bb1"), ("a", "aa2"), ("b", "bb2"), ("b", "bb3")] {
            publish(&history, name, &build(text));
        }
        assert_eq!(digests(&history, "a"), [*build("aa2").digest()]);
        assert_eq!(digests(&history, "b"), ["bb2", "bb3"].map(|text| *build(text).digest()));
        assert!(history.build(build("bb1").digest()).is_err());
        assert_eq!(fs::read_dir(history.folder.as_ref().unwrap().path.join(BUILDS)).unwrap().count(), 3);
        let one = tempfile::tempdir().unwrap();
        let history = opened(one.path(), 2, 1);
        publish(&history, "a", &build("larger than all"));
        assert!(history.build(build("larger than all").digest()).is_ok(), "it serves");
    }

    #[test]
    fn damage_is_seen_and_harms_one_service() {
        let folder = tempfile::tempdir().unwrap();
        let history = opened(folder.path(), 10, 1000);
        for name in ["a", "b", "c"] {
            publish(&history, name, &build(name));
        }
        let path = history.folder.as_ref().unwrap().path.clone();
        fs::write(path.join("a.json"), "{\"version\": 1").unwrap();
        fs::write(path.join("b.json"), "{\"version\": 99}").unwrap();
        fs::write(build_path(&path, build("c").digest()), "C").unwrap();
        for name in ["a", "b"] {
            publish(&history, name, &build("new"));
        }
        assert_eq!(digests(&history, "a"), [*build("new").digest()]);
        assert!(path.join("a.broken").exists());
        assert!(history.entries("b").unwrap_err().to_string().contains("later hotbay"), "it is left alone");
        assert_eq!(fs::read_to_string(path.join("b.json")).unwrap(), "{\"version\": 99}");
        assert_eq!(history.build(build("c").digest()).unwrap_err().kind(), io::ErrorKind::InvalidData);
    }

    #[test]
    fn what_was_taken_out_or_gone_back_from_is_no_last_good() {
        let folder = tempfile::tempdir().unwrap();
        let history = opened(folder.path(), 10, 1000);
        publish(&history, "a", &build("good"));
        publish(&history, "a", &build("bad"));
        history.ended("a", &Files::of(&build("bad"), None), End::RolledBack("it failed".to_owned()), Counts::default());
        let last_good = || {
            let entries = history.to_fall_back_to("a");
            good(&entries, Entry::files).iter().map(|entry| entry.digest).collect::<Vec<_>>()
        };
        assert_eq!(last_good(), [*build("good").digest()]);
        history.missing(&BTreeSet::new());
        assert_eq!(last_good().len(), 1, "it was gone back from before, and not taken out");
        publish(&history, "a", &build("good"));
        history.missing(&BTreeSet::new());
        assert_eq!(history.to_fall_back_to("a"), []);
    }

    #[test]
    fn an_intention_is_there_until_it_is_settled() {
        let folder = tempfile::tempdir().unwrap();
        let history = opened(folder.path(), 10, 1000);
        let intended = Intended { files: Files::of(&build("next"), None), before: Stamps::default() };
        history.intend("a", &build("next"), intended.clone()).unwrap();
        publish(&history, "b", &build("other"));
        assert_eq!(opened(folder.path(), 10, 1000).unfinished(), [("a".to_owned(), intended)]);
        assert!(history.build(build("next").digest()).is_ok(), "its build is not tidied away");
        history.settled("a");
        assert!(history.unfinished().is_empty());
    }
}
