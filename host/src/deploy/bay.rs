//! The bay as it is on disk: which files there are, in which state, and what is in them.

use crate::{
    config::{BayFile, BuildName, Label, ServiceName, Settings},
    fault_point,
    runtime::{Build, Digest, Reject},
    state::{Staged, remove_if_there, sweep},
};
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use std::{
    collections::{BTreeMap, BTreeSet},
    fs::{self, OpenOptions},
    hash::{DefaultHasher, Hash, Hasher},
    io::{self, Read},
    os::unix::fs::{MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

/// The largest build that is read, in bytes.
pub const BUILD_MAX: u64 = 256 << 20;
/// The largest settings file that is read, in bytes.
pub const SETTINGS_MAX: u64 = 1 << 20;

/// The state of one file, links followed: any change of its content changes it, up to the clock's grain.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stamp {
    device: u64,
    inode: u64,
    len: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Stamp {
    /// Stands for a file that is there and cannot be looked at.
    const UNKNOWN: Self = Self { device: 0, inode: 0, len: 0, modified: (0, 0), changed: (0, 0) };

    fn of(path: &Path) -> io::Result<Self> {
        let place = fs::symlink_metadata(path)?;
        let found = if place.is_symlink() { fs::metadata(path)? } else { place.clone() };
        let changed = |found: &fs::Metadata| (found.ctime(), found.ctime_nsec());
        Ok(Self {
            device: found.dev(),
            inode: found.ino(),
            len: found.len(),
            modified: (found.mtime(), found.mtime_nsec()),
            // A link that is switched to an old file was placed now.
            changed: changed(&found).max(changed(&place)),
        })
    }

    /// The same but for the number of the device, which a restart of the machine may change.
    fn on_any_device(self) -> Self {
        Self { device: 0, ..self }
    }

    /// How long until nobody has written the content for `age`; none where that is so already.
    pub(super) fn until_aged(&self, age: Duration) -> Option<Duration> {
        age.checked_sub(self.age()).filter(|left| !left.is_zero())
    }

    /// How long until neither the content nor the owner and mode have changed for `age`; none where that is so already.
    pub(super) fn until_unchanged(&self, age: Duration) -> Option<Duration> {
        let changed = Self { modified: self.changed, ..*self };
        changed.until_aged(age)
    }

    /// When content, name, owner or mode were changed last.
    pub(super) fn changed_at(&self) -> SystemTime {
        let (seconds, nanos) = self.changed;
        let changed = Duration::new(u64::try_from(seconds).unwrap_or(0), u32::try_from(nanos).unwrap_or(0));
        SystemTime::UNIX_EPOCH.checked_add(changed).unwrap_or(SystemTime::UNIX_EPOCH)
    }

    /// How long ago the content was written. A time in the future, as a clock that jumped leaves it, counts as long ago.
    pub(super) fn age(&self) -> Duration {
        let (seconds, nanos) = self.modified;
        let modified = Duration::new(u64::try_from(seconds).unwrap_or(0), u32::try_from(nanos).unwrap_or(0));
        let since = SystemTime::UNIX_EPOCH.checked_add(modified).and_then(|modified| modified.elapsed().ok());
        since.unwrap_or(Duration::MAX)
    }
}

/// What is there of one service.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Sighting {
    pub(super) build: Option<Stamp>,
    pub(super) settings: Option<Stamp>,
    /// Which labelled revisions there are beside a main one; the shares in its settings depend on them.
    pub(super) labels: Labels,
}

/// Stands for the names of the labelled revisions of a service: other names, another number.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Labels(u64);

impl Labels {
    fn of(labels: &BTreeSet<Label>) -> Self {
        if labels.is_empty() {
            return Self::default();
        }
        let mut hasher = DefaultHasher::new();
        labels.hash(&mut hasher);
        Self(hasher.finish())
    }
}

/// What one reading of the folder found.
#[derive(Debug, Default)]
pub(super) struct BayView {
    pub(super) builds: BTreeMap<BuildName, Sighting>,
    /// Files that no service can come of, by name and each with the reason.
    pub(super) unusable: BTreeMap<String, Reject>,
}

impl BayView {
    /// A labelled revision has the settings of its service, whose main revision has shares for it.
    fn connect(&mut self) {
        let mut labels: BTreeMap<BuildName, BTreeSet<Label>> = BTreeMap::new();
        for name in self.builds.keys() {
            if let Some(label) = &name.label {
                labels.entry(name.main()).or_default().insert(label.clone());
            }
        }
        for (main, labels) in labels {
            let settings = self.builds.get(&main).and_then(|sighting| sighting.settings);
            if let Some(sighting) = self.builds.get_mut(&main) {
                sighting.labels = Labels::of(&labels);
            }
            for label in labels {
                let labelled = BuildName { label: Some(label), ..main.clone() };
                self.builds.entry(labelled).or_default().settings = settings;
            }
        }
    }
}

/// The folder that is watched.
#[derive(Debug, Clone)]
pub(super) struct Bay {
    pub(super) folder: PathBuf,
}

impl Bay {
    /// Reads the folder. Costs one `stat` a file.
    pub(super) fn scan(&self) -> io::Result<BayView> {
        let mut view = BayView::default();
        for entry in fs::read_dir(&self.folder)? {
            let entry = entry?;
            // What is not UTF-8 keeps a character that no name may have, and is told as misnamed.
            let file_name = entry.file_name().to_string_lossy().into_owned();
            let (name, is_build) = match BayFile::of(&file_name) {
                BayFile::Build(name) => (name.into(), true),
                BayFile::Settings(name) => (name.into(), false),
                BayFile::Labelled(service, label) => (BuildName { service, label: Some(label) }, true),
                BayFile::Misnamed(error) => {
                    view.unusable.insert(printable(&file_name), Reject::new(error.to_string(), error.remedy()));
                    continue;
                }
                BayFile::Ignored => continue,
            };
            let stamp = match Stamp::of(&entry.path()) {
                Ok(stamp) => stamp,
                // Gone in the meantime. A link to nothing stays: it may be on its way to another place.
                Err(error) if is_absence(&error) && !is_link(&entry.path()) => continue,
                // A file that cannot be looked at is not a file that is gone: the reading tells what is wrong with it.
                Err(_) => Stamp::UNKNOWN,
            };
            let sighting = view.builds.entry(name).or_default();
            let place = if is_build { &mut sighting.build } else { &mut sighting.settings };
            *place = Some(stamp);
        }
        view.connect();
        Ok(view)
    }

    /// The labels that there are builds of beside the main one.
    pub(super) fn labels(&self, service: &ServiceName) -> io::Result<BTreeSet<Label>> {
        let mut labels = BTreeSet::new();
        for entry in fs::read_dir(&self.folder)? {
            if let Some(BayFile::Labelled(name, label)) = entry?.file_name().to_str().map(BayFile::of)
                && name == *service
            {
                labels.insert(label);
            }
        }
        Ok(labels)
    }

    pub(super) fn build_path(&self, name: &BuildName) -> PathBuf {
        self.folder.join(format!("{name}.wasm"))
    }

    pub(super) fn settings_path(&self, name: &ServiceName) -> PathBuf {
        self.folder.join(format!("{name}.toml"))
    }

    /// The build and the settings of a service, each read whole.
    pub(super) fn read(&self, name: &BuildName) -> io::Result<Contents> {
        let (build, stamp) = read_build(&self.build_path(name))?;
        let (settings, settings_stamp) = self.read_settings(&name.service)?.unzip();
        let labels = match name.label {
            Some(_) => Labels::default(),
            None => Labels::of(&self.labels(&name.service)?),
        };
        Ok(Contents { build, stamp, settings, settings_stamp, labels })
    }

    /// How the files of a service are now; the settings of a labelled revision are its service's and not looked at.
    pub(super) fn stamps(&self, name: &BuildName) -> io::Result<Stamps> {
        let stamp = |path: &Path| match Stamp::of(path) {
            Ok(stamp) => Ok(Some(stamp)),
            Err(error) if is_absence(&error) => Ok(None),
            Err(error) => Err(about(path, error)),
        };
        let settings = match name.label {
            None => stamp(&self.settings_path(&name.service))?,
            Some(_) => None,
        };
        Ok(Stamps { build: stamp(&self.build_path(name))?, settings })
    }

    /// Writes the files of a service beside their places, each whole: what a full disk refuses is refused here, before any changes.
    pub(super) fn stage(&self, name: &BuildName, written: &Written) -> io::Result<StagedFiles> {
        let stage = |path: &Path, content: &[u8]| Staged::shared(path, content).map_err(|error| unwritable(path, error));
        let (build, settings) = (self.build_path(name), self.settings_path(&name.service));
        let staged_settings = match &written.settings {
            Some(Some(text)) => Some(Ok(stage(&settings, text)?)),
            Some(None) => Some(Err(settings)),
            None => None,
        };
        let build = written.build.as_ref().map(|wasm| stage(&build, wasm.wasm())).transpose()?;
        Ok(StagedFiles { settings: staged_settings, build })
    }

    /// Takes the build of `name` out if it is the one of this digest. Returns whether it was.
    pub(super) fn remove_build(&self, name: &BuildName, digest: &Digest) -> io::Result<bool> {
        let path = self.build_path(name);
        match read_build(&path) {
            Ok((build, _)) if build.digest() == digest => remove_if_there(&path).map(|()| true),
            Err(error) if !is_absence(&error) => Err(error),
            _ => Ok(false),
        }
    }

    /// Takes the files of a service out, or the build of a labelled revision. Returns whether there were any.
    pub(super) fn remove(&self, name: &BuildName) -> io::Result<bool> {
        // The build first: settings without a build serve nobody, a build without its settings might.
        let settings = name.label.is_none().then(|| self.settings_path(&name.service));
        let files: Vec<PathBuf> = [self.build_path(name)].into_iter().chain(settings).collect();
        let there = files.iter().any(|file| fs::symlink_metadata(file).is_ok());
        files.iter().try_for_each(|file| remove_if_there(file))?;
        Ok(there)
    }

    /// Removes what a crash of the host left half written.
    pub(super) fn sweep(&self) -> io::Result<()> {
        sweep(&self.folder)
    }

    /// The settings of a service, if it has a file of them.
    pub(super) fn read_settings(&self, name: &ServiceName) -> io::Result<Option<(Bytes, Stamp)>> {
        read_settings_text(&self.settings_path(name))
    }
}

/// The build in the file at `path`, as the bay takes it: a regular file of at most 256 MiB that nobody writes just now.
///
/// # Errors
/// The reason, with the file's name.
pub fn read_build(path: &Path) -> io::Result<(Build, Stamp)> {
    let (wasm, stamp) = read_still(path, BUILD_MAX).map_err(|error| about(path, error))?;
    Ok((Build::of(wasm), stamp))
}

/// The settings of service `name` in the file at `path`; the defaults where there is no such file.
///
/// # Errors
/// The reason and the remedy.
pub fn read_settings_at(name: &ServiceName, path: &Path) -> Result<Settings, Reject> {
    let read = read_settings_text(path).map_err(|error| Reject::new(error.to_string(), UNREADABLE_REMEDY))?;
    parse_settings(name, read.map(|(text, _)| text).as_ref())
}

/// The text of `NAME.toml` in the bay at `folder`, if it is there.
///
/// # Errors
/// Where it cannot be read, or somebody writes it just now: the reason, with the file's name.
pub fn read_settings_of(folder: &Path, name: &ServiceName) -> io::Result<Option<Bytes>> {
    let bay = Bay { folder: folder.to_owned() };
    Ok(bay.read_settings(name)?.map(|(text, _)| text))
}

/// The text of the settings file at `path`, if it is there.
fn read_settings_text(path: &Path) -> io::Result<Option<(Bytes, Stamp)>> {
    match read_still(path, SETTINGS_MAX) {
        Ok(read) => Ok(Some(read)),
        Err(error) if is_absence(&error) => Ok(None),
        Err(error) => Err(about(path, error)),
    }
}

/// The settings in the text of `NAME.toml`, or the defaults where there is none.
pub(super) fn parse_settings(name: &ServiceName, text: Option<&Bytes>) -> Result<Settings, Reject> {
    let Some(text) = text else {
        return Ok(Settings::defaults(name));
    };
    let text = std::str::from_utf8(text)
        .map_err(|error| Reject::new(format!("{name}.toml is not UTF-8: {error}"), "save it as UTF-8"))?;
    Settings::parse(name, text).map_err(|error| Reject::new(format!("{name}.toml {error}"), error.remedy))
}

/// What to do about a file that cannot be read.
pub const UNREADABLE_REMEDY: &str = "put a regular file there that hotbay may read; see to its kind, size and permissions";

/// Whether the error says that there is no such file.
fn is_absence(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

fn is_link(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok_and(|found| found.is_symlink())
}

/// The error with the name of the file that it is about.
fn about(path: &Path, error: io::Error) -> io::Error {
    let file = path.file_name().unwrap_or(path.as_os_str()).to_string_lossy();
    io::Error::new(error.kind(), format!("{} cannot be read: {error}", printable(&file)))
}

/// A file's name as a line of a log or a terminal may hold it.
fn printable(file_name: &str) -> String {
    file_name.escape_debug().to_string()
}

/// The states of the files of a service that are its own.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Stamps {
    pub(super) build: Option<Stamp>,
    pub(super) settings: Option<Stamp>,
}

/// What of a service's files is to be written.
#[derive(Debug, Clone, Default)]
pub(super) struct Written {
    /// The build, unless it stays as it is.
    pub(super) build: Option<Build>,
    /// The settings or their removal, unless they stay as they are.
    pub(super) settings: Option<Option<Bytes>>,
}

impl Stamps {
    /// The same but for the numbers of the devices, which a restart of the machine may change.
    pub(super) fn on_any_device(self) -> Self {
        let any = |stamp: Option<Stamp>| stamp.map(Stamp::on_any_device);
        Self { build: any(self.build), settings: any(self.settings) }
    }
}

/// Files of a service beside their places.
#[derive(Debug)]
pub(super) struct StagedFiles {
    /// A file, or the path of one that is to go.
    settings: Option<Result<Staged, PathBuf>>,
    build: Option<Staged>,
}

impl StagedFiles {
    /// Puts them in their places: the settings first, or their removal, then the build.
    pub(super) fn place(self, bay: &Bay, name: &BuildName) -> io::Result<()> {
        match self.settings {
            Some(Ok(staged)) => staged.place(),
            Some(Err(path)) => remove_if_there(&path),
            None => Ok(()),
        }
        .map_err(|error| unwritable(&bay.settings_path(&name.service), error))?;
        fault_point::reached("settings-placed");
        let placed = self.build.map_or(Ok(()), Staged::place);
        placed.map_err(|error| unwritable(&bay.build_path(name), error))
    }
}

fn unwritable(path: &Path, error: io::Error) -> io::Error {
    let file = path.file_name().unwrap_or_default().to_string_lossy();
    io::Error::new(error.kind(), format!("{file} cannot be written into the bay: {error}"))
}

/// What was in the files of a service.
pub(super) struct Contents {
    pub(super) build: Build,
    pub(super) stamp: Stamp,
    pub(super) settings: Option<Bytes>,
    pub(super) settings_stamp: Option<Stamp>,
    pub(super) labels: Labels,
}

impl Contents {
    /// The state in which the files were read.
    pub(super) fn sighting(&self) -> Sighting {
        Sighting { build: Some(self.stamp), settings: self.settings_stamp, labels: self.labels }
    }

    /// Whether the settings file is there and sets nothing.
    pub(super) fn settings_are_blank(&self) -> bool {
        self.settings.as_ref().is_some_and(is_blank)
    }
}

/// Whether settings set nothing, as those of a file that was just emptied or of which only the first lines are there.
pub(super) fn is_blank(settings: &Bytes) -> bool {
    let says_nothing = |line: &[u8]| line.trim_ascii().is_empty() || line.trim_ascii().starts_with(b"#");
    settings.split(|byte| *byte == b'\n').all(says_nothing)
}

const NONBLOCK: i32 = rustix::fs::OFlags::NONBLOCK.bits().cast_signed();

/// Reads a file that nobody changed while it was read. One that is being written is an error of the kind `Interrupted`.
fn read_still(path: &Path, limit: u64) -> io::Result<(Bytes, Stamp)> {
    let before = Stamp::of(path).map_err(|error| match is_absence(&error) && is_link(path) {
        true => io::Error::other("it is a link to a file that is not there"),
        false => error,
    })?;
    if before.len > limit {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, format!("it has {} bytes, {limit} are allowed", before.len)));
    }
    // A pipe or a device would hold the reader up for ever; one that takes the file's place just now is opened without waiting.
    let mut file = OpenOptions::new().read(true).custom_flags(NONBLOCK).open(path)?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is no regular file"));
    }
    let mut content = Vec::with_capacity(usize::try_from(before.len).unwrap_or(0));
    // What has grown since is seen below; it is not read to an end that may not come.
    (&mut file).take(before.len.saturating_add(1)).read_to_end(&mut content)?;
    if Stamp::of(path)? != before || u64::try_from(content.len()).unwrap_or(u64::MAX) != before.len {
        return Err(io::Error::new(io::ErrorKind::Interrupted, "it is being written"));
    }
    Ok((content.into(), before))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scan_tells_services_from_the_rest() {
        let folder = tempfile::tempdir().unwrap();
        for file in ["a.wasm", "a.toml", "a@x.wasm", "b.toml", "C.wasm", ".d.wasm", "e.wasm.tmp"] {
            fs::write(folder.path().join(file), file).unwrap();
        }
        std::os::unix::fs::symlink("nowhere", folder.path().join("f.wasm")).unwrap();
        let view = Bay { folder: folder.path().to_owned() }.scan().unwrap();
        let names: Vec<_> = view.builds.keys().map(BuildName::to_string).collect();
        assert_eq!(names, ["a", "a@x", "b", "f"], "a link to nothing is there, and cannot be read");
        assert_eq!(view.unusable.keys().collect::<Vec<_>>(), ["C.wasm"]);
        let a = view.builds.values().next().unwrap();
        assert!(a.build.is_some() && a.settings.is_some());
    }

    #[test]
    fn a_switched_link_is_another_state() {
        let folder = tempfile::tempdir().unwrap();
        let link = folder.path().join("a.wasm");
        let sees = || Stamp::of(&link).unwrap();
        for target in ["one", "two"] {
            fs::write(folder.path().join(target), "same").unwrap();
        }
        std::os::unix::fs::symlink("one", &link).unwrap();
        let before = sees();
        fs::remove_file(&link).unwrap();
        // Long after the file was made, as far as clocks tell.
        while fs::metadata(folder.path().join("two")).unwrap().modified().unwrap().elapsed().unwrap() < Duration::from_millis(20)
        {
        }
        std::os::unix::fs::symlink("two", &link).unwrap();
        assert_ne!(before, sees());
        assert!(sees().changed_at() > fs::metadata(folder.path().join("two")).unwrap().modified().unwrap(), "it was placed now");
    }
}
