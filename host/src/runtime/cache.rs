//! The compile cache: machine code by digest and engine settings, and never any that this host did not write.
//!
//! Loading an artifact runs whatever it says, so each one carries an HMAC-SHA256 (RFC 2104) under a key that lies outside the
//! cache folder. One descriptor is read, checked and mapped: nobody can swap the file between the check and the use.

use super::{digest::Digest, engine::Flavour};
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, Read, Seek, Write},
    os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
    sync::atomic::{AtomicU64, Ordering},
    time::SystemTime,
};
use tempfile::NamedTempFile;
use tracing::warn;

/// Bytes of artifacts that are kept; above it those that were used least recently go.
const CACHE_MAX: u64 = 1 << 30;

const KEY_FILE: &str = "cache.key";
const FOLDER: &str = "cache";

/// The state folder's cache, or its absence where the folder cannot be used: slower then, never wrong.
pub(crate) struct Cache {
    folder: Option<Folder>,
}

struct Folder {
    path: PathBuf,
    key: [u8; 32],
    /// Bytes of artifacts, so that the folder is read again only when there are too many.
    size: AtomicU64,
}

/// A file that the compiling child writes into.
pub(crate) enum Scratch {
    /// In the cache folder, to be renamed into place.
    Named(NamedTempFile),
    /// Without a name, since there is no cache.
    Unnamed(File),
}

impl Scratch {
    pub(crate) fn file(&self) -> io::Result<File> {
        match self {
            Self::Named(named) => named.as_file().try_clone(),
            Self::Unnamed(file) => file.try_clone(),
        }
    }
}

impl Cache {
    /// Opens the cache in the state folder `state`, creating both (mode 0700) where they are missing.
    pub(crate) fn open(state: &Path) -> Self {
        let folder = Folder::open(state)
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

    /// A place for a new artifact.
    pub(crate) fn scratch(&self) -> io::Result<Scratch> {
        let named = self.folder.as_ref().map(|folder| NamedTempFile::with_prefix_in(".compile-", &folder.path));
        match named {
            Some(Ok(named)) => Ok(Scratch::Named(named)),
            Some(Err(error)) => {
                warn!(%error, "the compile cache cannot be written; this build is compiled again at the next start");
                tempfile::tempfile().map(Scratch::Unnamed)
            }
            None => tempfile::tempfile().map(Scratch::Unnamed),
        }
    }

    /// Keeps what the child wrote for the next time. Failing to is no failure of the swap.
    pub(crate) fn keep(&self, scratch: Scratch, digest: &Digest, flavour: Flavour, compatibility: &str) {
        if let (Some(folder), Scratch::Named(named)) = (&self.folder, scratch)
            && let Err(error) = folder.keep(named, &folder.artifact(digest, flavour, compatibility))
        {
            warn!(%digest, %error, "an artifact could not be kept; it is compiled again at the next start");
        }
    }
}

impl Folder {
    fn open(state: &Path) -> io::Result<Self> {
        let folder = state.join(FOLDER);
        DirBuilder::new().recursive(true).mode(0o700).create(&folder)?;
        for folder in [state, &folder] {
            refuse_unless_own(&fs::metadata(folder)?)?;
        }
        let folder = Self { path: folder, key: key(&state.join(KEY_FILE))?, size: AtomicU64::new(0) };
        let size = folder.artifacts()?.iter().map(|(_, len, _)| len).sum();
        folder.size.store(size, Ordering::Relaxed);
        Ok(folder)
    }

    fn artifact(&self, digest: &Digest, flavour: Flavour, compatibility: &str) -> PathBuf {
        self.path.join(format!("{digest}.{}.{compatibility}.cwasm", flavour.as_str()))
    }

    fn seal(path: &Path) -> PathBuf {
        path.with_extension("hmac")
    }

    fn open_checked(&self, path: &Path) -> io::Result<File> {
        let mut file = OpenOptions::new().read(true).custom_flags(NOFOLLOW).open(path)?;
        refuse_unless_own(&file.metadata()?)?;
        let sealed = fs::read(Self::seal(path)).map_err(|error| io::Error::other(format!("no seal: {error}")))?;
        let mac = self.mac(&mut file, path)?;
        // The time of its last use, for `prune`; an artifact that cannot be marked is only removed earlier.
        let _ = file.set_modified(SystemTime::now());
        mac.verify_slice(&sealed)
            .map_err(|_| io::Error::other("its seal does not fit: it was changed or comes from elsewhere"))?;
        Ok(file)
    }

    fn keep(&self, named: NamedTempFile, path: &Path) -> io::Result<()> {
        let sealed = self.mac(&mut named.as_file().try_clone()?, path)?.finalize().into_bytes();
        let mut seal = NamedTempFile::with_prefix_in(".seal-", &self.path)?;
        seal.write_all(&sealed)?;
        // The artifact first: a crash between the two leaves one without a seal, which is compiled again.
        named.persist(path)?;
        seal.persist(Self::seal(path))?;
        let len = fs::metadata(path)?.len();
        if self.size.fetch_add(len, Ordering::Relaxed).saturating_add(len) > CACHE_MAX {
            self.prune(CACHE_MAX)?;
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
            fs::remove_file(&path).and_then(|()| fs::remove_file(Self::seal(&path)))?;
            total -= len;
        }
        self.size.store(total, Ordering::Relaxed);
        Ok(())
    }

    /// Over the name and the content, so that no artifact can stand in for another.
    fn mac(&self, file: &mut File, path: &Path) -> io::Result<Hmac<Sha256>> {
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.key).map_err(io::Error::other)?;
        mac.update(path.file_name().unwrap_or_default().as_encoded_bytes());
        file.rewind()?;
        let mut block = [0; 16 << 10];
        loop {
            match file.read(&mut block)? {
                0 => break,
                len => mac.update(block.get(..len).unwrap_or_default()),
            }
        }
        file.rewind()?;
        Ok(mac)
    }
}

/// `O_NOFOLLOW`: a link planted in the cache is not followed.
const NOFOLLOW: i32 = rustix::fs::OFlags::NOFOLLOW.bits().cast_signed();

/// Refuses what another user owns or may write.
fn refuse_unless_own(found: &fs::Metadata) -> io::Result<()> {
    let me = rustix::process::geteuid().as_raw();
    if found.uid() != me {
        return Err(io::Error::other(format!("it belongs to user {}, hotbay runs as user {me}", found.uid())));
    }
    if found.mode() & 0o022 != 0 {
        return Err(io::Error::other(format!("others may write it (mode {:o})", found.mode() & 0o777)));
    }
    Ok(())
}

/// Reads the key, or makes one at the first start.
fn key(path: &Path) -> io::Result<[u8; 32]> {
    match OpenOptions::new().read(true).custom_flags(NOFOLLOW).open(path) {
        Ok(mut file) => {
            refuse_unless_own(&file.metadata()?)?;
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
    // `NamedTempFile` is made with mode 0600.
    let mut file = NamedTempFile::with_prefix_in(".key-", path.parent().unwrap_or(Path::new(".")))?;
    file.write_all(&key)?;
    file.as_file().sync_all()?;
    file.persist(path)?;
    Ok(key)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filled(state: &Path) -> (Cache, Digest, PathBuf) {
        let cache = Cache::open(state);
        let digest = Digest::of(b"a build");
        let scratch = cache.scratch().unwrap();
        scratch.file().unwrap().write_all(b"machine code").unwrap();
        cache.keep(scratch, &digest, Flavour::Sync, "00");
        let path = cache.folder.as_ref().unwrap().artifact(&digest, Flavour::Sync, "00");
        (cache, digest, path)
    }

    #[test]
    fn what_was_kept_is_found_again() {
        let state = tempfile::tempdir().unwrap();
        let (cache, digest, _) = filled(state.path());
        let mut text = String::new();
        cache.find(&digest, Flavour::Sync, "00").unwrap().read_to_string(&mut text).unwrap();
        assert_eq!(text, "machine code");
        assert!(cache.find(&digest, Flavour::Async, "00").is_none());
        assert!(cache.find(&digest, Flavour::Sync, "01").is_none());
        assert!(Cache::open(state.path()).find(&digest, Flavour::Sync, "00").is_some(), "after a restart");
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
    }

    #[test]
    fn a_folder_that_others_may_write_is_not_used() {
        use std::os::unix::fs::PermissionsExt;
        let state = tempfile::tempdir().unwrap();
        fs::set_permissions(state.path(), fs::Permissions::from_mode(0o777)).unwrap();
        assert!(Cache::open(state.path()).folder.is_none());
    }
}
