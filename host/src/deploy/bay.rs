//! The bay as it is on disk: which files there are, in which state, and what is in them.

use crate::{
    config::{BayFile, NameError, ServiceName},
    runtime::Build,
};
use bytes::Bytes;
use std::{
    collections::BTreeMap,
    fs::{self, OpenOptions},
    io::{self, Read},
    os::unix::fs::{MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

/// The largest build that is read, in bytes.
const BUILD_MAX: u64 = 256 << 20;
/// The largest settings file that is read, in bytes.
const SETTINGS_MAX: u64 = 1 << 20;

/// The state of one file, links followed: any change of its content changes it, up to the clock's grain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stamp {
    device: u64,
    inode: u64,
    len: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Stamp {
    fn of(path: &Path) -> io::Result<Self> {
        let found = fs::metadata(path)?;
        Ok(Self {
            device: found.dev(),
            inode: found.ino(),
            len: found.len(),
            modified: (found.mtime(), found.mtime_nsec()),
            changed: (found.ctime(), found.ctime_nsec()),
        })
    }

    /// How long until nobody has written the content for `age`; none where that is so already.
    pub(super) fn until_aged(&self, age: Duration) -> Option<Duration> {
        age.checked_sub(self.age()).filter(|left| !left.is_zero())
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
}

/// What one reading of the folder found.
#[derive(Debug, Default)]
pub(super) struct BayView {
    pub(super) services: BTreeMap<ServiceName, Sighting>,
    pub(super) misnamed: BTreeMap<String, NameError>,
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
                BayFile::Build(name) => (name, true),
                BayFile::Settings(name) => (name, false),
                BayFile::Misnamed(error) => {
                    view.misnamed.insert(file_name, error);
                    continue;
                }
                BayFile::Ignored => continue,
            };
            // Gone in the meantime, or a link to nothing: not there.
            let Ok(stamp) = Stamp::of(&entry.path()) else {
                continue;
            };
            let sighting = view.services.entry(name).or_default();
            let place = if is_build { &mut sighting.build } else { &mut sighting.settings };
            *place = Some(stamp);
        }
        Ok(view)
    }

    pub(super) fn build_path(&self, name: &ServiceName) -> PathBuf {
        self.folder.join(format!("{name}.wasm"))
    }

    pub(super) fn settings_path(&self, name: &ServiceName) -> PathBuf {
        self.folder.join(format!("{name}.toml"))
    }

    /// The build and the settings of a service, each read whole.
    pub(super) fn read(&self, name: &ServiceName) -> io::Result<Contents> {
        let (wasm, stamp) = read_still(&self.build_path(name), BUILD_MAX)?;
        let (settings, settings_stamp) = self.read_settings(name)?.unzip();
        Ok(Contents { build: Build::of(wasm), stamp, settings, settings_stamp })
    }

    /// The settings of a service, if it has a file of them.
    pub(super) fn read_settings(&self, name: &ServiceName) -> io::Result<Option<(Bytes, Stamp)>> {
        match read_still(&self.settings_path(name), SETTINGS_MAX) {
            Ok(read) => Ok(Some(read)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }
}

/// What was in the files of a service.
pub(super) struct Contents {
    pub(super) build: Build,
    pub(super) stamp: Stamp,
    pub(super) settings: Option<Bytes>,
    pub(super) settings_stamp: Option<Stamp>,
}

const NONBLOCK: i32 = rustix::fs::OFlags::NONBLOCK.bits().cast_signed();

/// Reads a file that nobody changed while it was read. One that is being written is an error of the kind `Interrupted`.
fn read_still(path: &Path, limit: u64) -> io::Result<(Bytes, Stamp)> {
    let before = Stamp::of(path)?;
    if before.len > limit {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, format!("it has {} bytes, {limit} are allowed", before.len)));
    }
    // A pipe or a device would hold the reader up for ever; one that takes the file's place just now is opened without waiting.
    let mut file = OpenOptions::new().read(true).custom_flags(NONBLOCK).open(path)?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is no regular file"));
    }
    let mut content = Vec::with_capacity(usize::try_from(before.len).unwrap_or(0));
    file.read_to_end(&mut content)?;
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
        for file in ["a.wasm", "a.toml", "b.toml", "C.wasm", ".d.wasm", "e.wasm.tmp"] {
            fs::write(folder.path().join(file), file).unwrap();
        }
        std::os::unix::fs::symlink("nowhere", folder.path().join("f.wasm")).unwrap();
        let view = Bay { folder: folder.path().to_owned() }.scan().unwrap();
        let names: Vec<_> = view.services.keys().map(ServiceName::as_str).collect();
        assert_eq!(names, ["a", "b"]);
        assert_eq!(view.misnamed.keys().collect::<Vec<_>>(), ["C.wasm"]);
        let a = view.services.values().next().unwrap();
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
        std::os::unix::fs::symlink("two", &link).unwrap();
        assert_ne!(before, sees());
    }
}
