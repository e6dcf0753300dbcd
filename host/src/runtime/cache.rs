//! The compile cache: machine code by digest and engine settings, and never any that this host did not write.
//!
//! Loading an artifact runs whatever it says, so each one carries an HMAC-SHA256 (RFC 2104) under a key that lies outside the
//! cache folder. What is mapped is a copy without a name, checked as it was copied: nobody can change it between the check and
//! the use, and nobody can truncate it later, which would kill the host.

use super::{digest::Digest, engine::Flavour};
use crate::state::{self, make_private, open_own, refuse_unless_own, remove_if_there};
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use std::{
    fs::{self, DirBuilder, File},
    io::{self, Read, Seek, Write},
    os::unix::fs::{DirBuilderExt, MetadataExt},
    path::{Path, PathBuf},
    sync::atomic::{AtomicU64, Ordering},
    time::SystemTime,
};
use tempfile::NamedTempFile;
use tracing::warn;

const KEY_FILE: &str = "cache.key";
const FOLDER: &str = "cache";

/// The state folder's cache, or its absence where the folder cannot be used: slower then, never wrong.
pub(crate) struct Cache {
    folder: Option<Folder>,
}

struct Folder {
    path: PathBuf,
    key: [u8; 32],
    /// Bytes of artifacts that are kept; above it those that were used least recently go.
    limit: u64,
    /// Bytes of artifacts that there are, so that the folder is read again only when there are too many.
    size: AtomicU64,
}

impl Cache {
    /// Opens the cache in the state folder `state`, creating both (mode 0700) where they are missing. It keeps `limit` bytes.
    pub(crate) fn open(state: &Path, limit: u64) -> Self {
        let folder = Folder::open(state, limit)
            .inspect_err(|error| {
                warn!(
                    state = %state.display(), %error,
                    "the state folder cannot be used: builds are compiled again at every start; give hotbay a folder of its own with --state"
                );
            })
            .ok();
        Self { folder }
    }

    /// No cache: everything is compiled.
    pub(crate) fn none() -> Self {
        Self { folder: None }
    }

    /// The artifact of `digest` for an engine, if there is one that this host wrote and nobody changed.
    pub(crate) fn find(&self, digest: &Digest, flavour: Flavour, compatibility: &str) -> Option<File> {
        let folder = self.folder.as_ref()?;
        let path = folder.artifact(digest, flavour, compatibility);
        match folder.open_checked(&path) {
            Ok(file) => Some(file),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => {
                warn!(artifact = %path.display(), %error, "a cached artifact is not trusted and is compiled again");
                None
            }
        }
    }

    /// A file without a name for a new artifact, on the disk of the cache; none where that takes none.
    pub(crate) fn scratch(&self) -> Option<File> {
        let folder = self.folder.as_ref()?;
        let scratch = tempfile::tempfile_in(&folder.path).or_else(|error| match error.kind() {
            // Somebody removed it while we run.
            io::ErrorKind::NotFound => folder.make().and_then(|()| tempfile::tempfile_in(&folder.path)),
            _ => Err(error),
        });
        scratch
            .inspect_err(
                |error| warn!(%error, "the compile cache cannot be written; this build is compiled again at the next start"),
            )
            .ok()
    }

    /// Keeps a copy of `artifact` for the next time. Failing to is no failure of the swap.
    pub(crate) fn keep(&self, artifact: File, digest: &Digest, flavour: Flavour, compatibility: &str) {
        if let Some(folder) = &self.folder
            && let Err(error) = folder.keep(artifact, &folder.artifact(digest, flavour, compatibility))
        {
            warn!(%digest, %error, "an artifact could not be kept; it is compiled again at the next start");
        }
    }
}

/// A copy of `artifact` in memory.
pub(crate) fn in_memory(artifact: &File) -> io::Result<File> {
    let (mut from, mut to) = (artifact.try_clone()?, memory()?);
    from.rewind()?;
    io::copy(&mut from, &mut to)?;
    Ok(to)
}

/// A file in memory, for where the disk takes none.
pub(crate) fn memory() -> io::Result<File> {
    Ok(rustix::fs::memfd_create("hotbay-artifact", rustix::fs::MemfdFlags::CLOEXEC)?.into())
}

impl Folder {
    fn open(state: &Path, limit: u64) -> io::Result<Self> {
        let path = state.join(FOLDER);
        make_private(&path)?;
        for folder in [state, &path] {
            refuse_unless_own(&fs::metadata(folder)?)?;
        }
        let folder = Self { path, key: key(&state.join(KEY_FILE))?, limit, size: AtomicU64::new(0) };
        folder.sweep()?;
        // It may have been filled under another limit.
        folder.prune(limit)?;
        Ok(folder)
    }

    /// Makes the folder anew, and the key beside it, so that what is kept from now on is trusted after a restart.
    fn make(&self) -> io::Result<()> {
        // Only these two: where the bay around them is gone as well, it may be on its way back.
        for folder in [self.path.parent().unwrap_or(&self.path), &self.path] {
            match DirBuilder::new().mode(0o700).create(folder) {
                Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
                _ => refuse_unless_own(&fs::metadata(folder)?)?,
            }
        }
        self.size.store(0, Ordering::Relaxed);
        let key_file = self.path.with_file_name(KEY_FILE);
        if key_file.exists() { Ok(()) } else { state::write_whole(&key_file, &self.key) }
    }

    /// Removes what a crash left half written, and seals of what is not there any more.
    fn sweep(&self) -> io::Result<()> {
        for entry in fs::read_dir(&self.path)? {
            let (entry, path) = entry.map(|entry| (entry.file_name(), entry.path()))?;
            let lone = path.extension().is_some_and(|extension| extension == "hmac") && !path.with_extension("cwasm").exists();
            if lone || entry.as_encoded_bytes().starts_with(b".") {
                remove_if_there(&path)?;
            }
        }
        Ok(())
    }

    fn artifact(&self, digest: &Digest, flavour: Flavour, compatibility: &str) -> PathBuf {
        self.path.join(format!("{digest}.{}.{compatibility}.cwasm", flavour.as_str()))
    }

    fn seal(path: &Path) -> PathBuf {
        path.with_extension("hmac")
    }

    /// A copy of the artifact at `path`, which nobody else can reach.
    fn open_checked(&self, path: &Path) -> io::Result<File> {
        let mut file = open_own(path)?;
        let no_seal = |error: io::Error| io::Error::other(format!("no seal: {error}"));
        let mut sealed = [0; 32];
        open_own(&Self::seal(path)).and_then(|mut seal| seal.read_exact(&mut sealed)).map_err(no_seal)?;
        // The time of its last use, for `prune`; an artifact that cannot be marked is only removed earlier.
        let _ = file.set_modified(SystemTime::now());
        let on_disk = tempfile::tempfile_in(&self.path).and_then(|copy| self.copy(&mut file, copy, path));
        let (copy, mac) = match on_disk {
            Ok(copied) => copied,
            Err(_) => self.copy(&mut file, memory()?, path)?,
        };
        mac.verify_slice(&sealed)
            .map_err(|_| io::Error::other("its seal does not fit: it was changed or comes from elsewhere"))?;
        Ok(copy)
    }

    fn keep(&self, mut artifact: File, path: &Path) -> io::Result<()> {
        let named = NamedTempFile::with_prefix_in(".artifact-", &self.path)?;
        let (copy, mac) = self.copy(&mut artifact, named.as_file().try_clone()?, path)?;
        let len = copy.metadata()?.len();
        let mut seal = NamedTempFile::with_prefix_in(".seal-", &self.path)?;
        seal.write_all(&mac.finalize().into_bytes())?;
        // The artifact first: a crash between the two leaves one without a seal, which is compiled again.
        named.persist(path)?;
        seal.persist(Self::seal(path))?;
        if self.size.fetch_add(len, Ordering::Relaxed).saturating_add(len) > self.limit {
            self.prune(self.limit)?;
        }
        Ok(())
    }

    /// The artifacts there are: when they were used last, their length and their place.
    fn artifacts(&self) -> io::Result<Vec<(SystemTime, u64, PathBuf)>> {
        let mut artifacts = Vec::new();
        for entry in fs::read_dir(&self.path)? {
            let path = entry?.path();
            // Another swap may have removed it in the meantime.
            if path.extension().is_some_and(|extension| extension == "cwasm")
                && let Ok(found) = fs::metadata(&path)
            {
                artifacts.push((found.modified()?, found.len(), path));
            }
        }
        artifacts.sort();
        Ok(artifacts)
    }

    /// Removes the artifacts that were used least recently until no more than `limit` bytes are left. What is mapped stays mapped.
    fn prune(&self, limit: u64) -> io::Result<()> {
        let artifacts = self.artifacts()?;
        let mut total: u64 = artifacts.iter().map(|(_, len, _)| len).sum();
        for (_, len, path) in artifacts {
            if total <= limit {
                break;
            }
            // The artifact first: a seal without one is harmless.
            remove_if_there(&path)?;
            remove_if_there(&Self::seal(&path))?;
            total -= len;
        }
        self.size.store(total, Ordering::Relaxed);
        Ok(())
    }

    /// Copies `from` into `to`, and authenticates what was copied: over the name `path` and the content, so that no artifact
    /// can stand in for another.
    fn copy(&self, from: &mut File, mut to: File, path: &Path) -> io::Result<(File, Hmac<Sha256>)> {
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.key).map_err(io::Error::other)?;
        mac.update(path.file_name().unwrap_or_default().as_encoded_bytes());
        from.rewind()?;
        let mut block = [0; 64 << 10];
        loop {
            let len = from.read(&mut block)?;
            let read = block.get(..len).unwrap_or_default();
            if read.is_empty() {
                return Ok((to, mac));
            }
            mac.update(read);
            to.write_all(read)?;
        }
    }
}

/// Reads the key, or makes one at the first start.
fn key(path: &Path) -> io::Result<[u8; 32]> {
    match open_own(path) {
        Ok(mut file) => {
            let mode = file.metadata()?.mode();
            if mode & 0o077 != 0 {
                return Err(io::Error::other(format!("others may read {KEY_FILE} (mode {:o})", mode & 0o777)));
            }
            let mut key = [0; 32];
            match file.read_exact(&mut key) {
                Ok(()) => Ok(key),
                // Cut short by a crash at the first start: whatever it sealed is compiled again.
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => new_key(path),
                Err(error) => Err(error),
            }
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => new_key(path),
        Err(error) => Err(error),
    }
}

fn new_key(path: &Path) -> io::Result<[u8; 32]> {
    let mut key = [0; 32];
    getrandom::fill(&mut key).map_err(io::Error::other)?;
    state::write_whole(path, &key)?;
    Ok(key)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filled(state: &Path) -> (Cache, Digest, PathBuf) {
        let cache = Cache::open(state, 1 << 20);
        let digest = Digest::of(b"a build");
        let mut scratch = cache.scratch().unwrap();
        scratch.write_all(b"machine code").unwrap();
        cache.keep(scratch, &digest, Flavour::Sync, "00");
        let path = cache.folder.as_ref().unwrap().artifact(&digest, Flavour::Sync, "00");
        (cache, digest, path)
    }

    #[test]
    fn what_was_kept_is_found_again() {
        let state = tempfile::tempdir().unwrap();
        let (cache, digest, _) = filled(state.path());
        let mut text = String::new();
        let mut found = cache.find(&digest, Flavour::Sync, "00").unwrap();
        found.rewind().unwrap();
        found.read_to_string(&mut text).unwrap();
        assert_eq!(text, "machine code");
        assert!(cache.find(&digest, Flavour::Async, "00").is_none());
        assert!(cache.find(&digest, Flavour::Sync, "01").is_none());
        assert!(Cache::open(state.path(), 1 << 20).find(&digest, Flavour::Sync, "00").is_some(), "after a restart");
    }

    #[test]
    fn a_flipped_byte_a_cut_or_a_stranger_is_not_trusted() {
        let state = tempfile::tempdir().unwrap();
        let (cache, digest, path) = filled(state.path());
        let found = || cache.find(&digest, Flavour::Sync, "00").is_some();
        for changed in [b"machine codE".as_slice(), b"machine", b""] {
            fs::write(&path, changed).unwrap();
            assert!(!found());
        }
        fs::write(&path, b"machine code").unwrap();
        assert!(found());
        let other = path.with_file_name(format!("{}.sync.00.cwasm", Digest::of(b"another")));
        fs::copy(&path, &other).unwrap();
        fs::copy(Folder::seal(&path), Folder::seal(&other)).unwrap();
        assert!(cache.find(&Digest::of(b"another"), Flavour::Sync, "00").is_none(), "sealed under another name");
    }

    #[test]
    fn what_was_used_least_recently_goes_first() {
        let state = tempfile::tempdir().unwrap();
        let (cache, digest, path) = filled(state.path());
        let folder = cache.folder.as_ref().unwrap();
        let old = folder.artifact(&Digest::of(b"old"), Flavour::Sync, "00");
        for copy in [&old, &Folder::seal(&old)] {
            fs::write(copy, b"0123456789ab").unwrap();
        }
        File::open(&old).unwrap().set_modified(SystemTime::UNIX_EPOCH).unwrap();
        folder.prune(24).unwrap();
        assert!(old.exists());
        folder.prune(12).unwrap();
        assert!(!old.exists() && !Folder::seal(&old).exists() && path.exists());
        assert!(cache.find(&digest, Flavour::Sync, "00").is_some());
        assert!(Cache::open(state.path(), 11).find(&digest, Flavour::Sync, "00").is_none(), "it is bounded at the start too");
    }

    #[test]
    fn what_is_used_cannot_be_cut_under_the_host() {
        let state = tempfile::tempdir().unwrap();
        let (cache, digest, path) = filled(state.path());
        let mut found = cache.find(&digest, Flavour::Sync, "00").unwrap();
        File::create(&path).unwrap();
        assert_eq!(found.metadata().unwrap().len(), 12);
        found.rewind().unwrap();
        assert_eq!(io::read_to_string(found).unwrap(), "machine code");
    }

    #[test]
    fn leftovers_go_and_a_removed_folder_comes_back() {
        let state = tempfile::tempdir().unwrap();
        let (cache, digest, path) = filled(state.path());
        let leftover = path.with_file_name(".artifact-of-a-crash");
        fs::write(&leftover, b"half").unwrap();
        let seal = path.with_file_name("0123.sync.00.hmac");
        fs::write(&seal, b"of nothing").unwrap();
        assert!(Cache::open(state.path(), 1 << 20).find(&digest, Flavour::Sync, "00").is_some());
        assert!(!leftover.exists() && !seal.exists());
        fs::remove_dir_all(state.path()).unwrap();
        let mut scratch = cache.scratch().unwrap();
        scratch.write_all(b"machine code").unwrap();
        cache.keep(scratch, &digest, Flavour::Sync, "00");
        assert!(Cache::open(state.path(), 1 << 20).find(&digest, Flavour::Sync, "00").is_some(), "under the same key");
    }

    #[test]
    fn a_folder_that_others_may_write_is_not_used() {
        use std::os::unix::fs::PermissionsExt;
        let state = tempfile::tempdir().unwrap();
        fs::set_permissions(state.path(), fs::Permissions::from_mode(0o777)).unwrap();
        assert!(Cache::open(state.path(), 1 << 20).folder.is_none());
    }
}
