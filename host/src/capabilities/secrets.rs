//! Secrets: a file for each in a folder, which nobody but the host's user may read, or a variable of the host's environment. Their values
//! go to the guests that are granted them and nowhere else: nothing here can be printed.

use crate::{
    config::SecretName,
    state::{open_own, refuse_unless_own},
};
use std::{
    collections::BTreeSet,
    env, fmt, fs,
    hash::{DefaultHasher, Hash, Hasher},
    io::{self, Read},
    os::unix::fs::MetadataExt,
    path::PathBuf,
    sync::Arc,
    time::{Duration, SystemTime},
};

/// Bytes of a secret.
const SECRET_MAX: u64 = 64 << 10;

/// What the variables of the host's environment begin with that hold secrets.
const VARIABLE: &str = "HOTBAY_SECRET_";

/// Where secrets are read from: the folder, and where it has no file of a name, the environment.
#[derive(Debug, Clone)]
pub struct SecretFolder(PathBuf);

/// The secrets of one revision, by name. Two are equal where all names and values are.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Secrets(Arc<[(SecretName, String)]>);

/// Stands for the state of all files of the folder: another state, another number.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SecretsSeen(u64);

/// Why a secret cannot be read, and what to do. Names files and never what is in them.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct SecretError {
    /// Which secret, and what is wrong.
    pub reason: String,
    /// What to do about it.
    pub remedy: String,
    /// Whether it is in neither place.
    pub is_missing: bool,
}

impl fmt::Debug for Secrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.iter().map(|(name, _)| name.as_str())).finish()
    }
}

impl Secrets {
    /// Names and values.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }
}

impl SecretFolder {
    /// The folder need not be there until a secret is asked for.
    pub fn new(folder: PathBuf) -> Self {
        Self(folder)
    }

    /// The folder.
    pub fn path(&self) -> &std::path::Path {
        &self.0
    }

    /// Where the secret of this name lies, or would.
    pub(crate) fn file(&self, name: &SecretName) -> PathBuf {
        self.0.join(name.as_str())
    }

    /// Where the secret of this name is read from, as people are told.
    pub(crate) fn source(&self, name: &SecretName) -> String {
        let file = self.file(name);
        match !file.exists() && env::var_os(variable(name)).is_some() {
            true => format!("{} in hotbay's environment", variable(name)),
            false => format!("the secret file {}", file.display()),
        }
    }

    /// The secrets of these names, and how long ago the youngest file was written: what comes from the environment never changes.
    /// Waits for the disk.
    ///
    /// # Errors
    /// One is missing in both places, others may read it, or it is no text of at most 64 KiB.
    pub fn read(&self, names: &BTreeSet<SecretName>) -> Result<(Secrets, Duration), SecretError> {
        let mut age = Duration::MAX;
        let mut read = Vec::with_capacity(names.len());
        if !names.is_empty() {
            self.refuse_open_folder()?;
        }
        for name in names {
            let value = match self.read_one(name) {
                Ok((value, written)) => {
                    // A time in the future counts as long ago.
                    age = age.min(written.elapsed().unwrap_or(Duration::MAX));
                    value
                }
                Err(error) if is_missing(&error) => match from_environment(name) {
                    Some(value) => value.map_err(|error| self.error(name, &error))?,
                    None => return Err(self.error(name, &error)),
                },
                Err(error) => return Err(self.error(name, &error)),
            };
            read.push((name.clone(), value));
        }
        Ok((Secrets(read.into()), age))
    }

    /// How the files are now. A folder that is not there has none.
    pub fn seen(&self) -> SecretsSeen {
        let mut files: Vec<_> = fs::read_dir(&self.0)
            .into_iter()
            .flatten()
            .flatten()
            .filter_map(|entry| {
                let found = entry.metadata().ok()?;
                let changed = (found.ctime(), found.ctime_nsec(), found.mtime(), found.mtime_nsec());
                Some((entry.file_name(), found.ino(), found.len(), changed))
            })
            .collect();
        files.sort();
        let mut hasher = DefaultHasher::new();
        files.hash(&mut hasher);
        // Whether the folder is the host's alone is judged as well.
        fs::metadata(&self.0).ok().map(|found| (found.mode(), found.uid(), found.gid())).hash(&mut hasher);
        SecretsSeen(hasher.finish())
    }

    /// Whoever may write the folder could put files of the host's user in the place of others.
    fn refuse_open_folder(&self) -> Result<(), SecretError> {
        let found = match fs::metadata(&self.0) {
            Ok(found) => found,
            // The reading names the secret.
            Err(_) => return Ok(()),
        };
        let folder = self.0.display();
        refuse_unless_own(&found).map_err(|error| SecretError {
            reason: format!("the folder of secrets {folder} is not the host's alone: {error}"),
            remedy: format!("make it so: chown it to hotbay's user, and chmod 700 {folder}"),
            is_missing: false,
        })
    }

    fn read_one(&self, name: &SecretName) -> io::Result<(String, SystemTime)> {
        let mut file = open_own(&self.file(name))?;
        let found = file.metadata()?;
        if found.mode() & 0o077 != 0 {
            return Err(io::Error::new(
                io::ErrorKind::PermissionDenied,
                format!("others may read it (mode {:o})", found.mode() & 0o777),
            ));
        }
        let mut value = String::new();
        file.by_ref().take(SECRET_MAX + 1).read_to_string(&mut value).map_err(|error| match error.kind() {
            io::ErrorKind::InvalidData => io::Error::new(error.kind(), "it is not UTF-8"),
            _ => error,
        })?;
        refuse_long(&value)?;
        // Editors and `echo` end a file with a line end, which is no part of a password.
        if let Some(line) = value.strip_suffix('\n') {
            value.truncate(line.strip_suffix('\r').unwrap_or(line).len());
        }
        Ok((value, found.modified()?))
    }

    fn error(&self, name: &SecretName, error: &io::Error) -> SecretError {
        let file = self.file(name);
        let file = file.display();
        match error.kind() {
            _ if is_missing(error) => SecretError {
                reason: format!(
                    "the secret `{name}` is missing: there is no {file}, and no {} in hotbay's environment",
                    variable(name)
                ),
                remedy: format!(
                    "put it into that file, owned by hotbay's user with mode 0600, or take `{name}` out of [grants] secrets"
                ),
                is_missing: true,
            },
            io::ErrorKind::InvalidData | io::ErrorKind::FileTooLarge => SecretError {
                reason: format!(
                    "the secret `{name}` ({file}, or {} in hotbay's environment) cannot be used: {error}",
                    variable(name)
                ),
                remedy: "a secret is text of at most 64 KiB; encode what is not, as base64 say".to_owned(),
                is_missing: false,
            },
            _ => SecretError {
                reason: format!("the secret `{name}` cannot be used: {file}: {error}"),
                remedy: format!(
                    "it must be a regular file, no link, owned by hotbay's user, and nobody else's to read: chmod 600 {file}"
                ),
                is_missing: false,
            },
        }
    }
}

fn is_missing(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

/// The variable of a secret: `HOTBAY_SECRET_DB_PASSWORD` of `db_password` or `db-password`.
fn variable(name: &SecretName) -> String {
    let name = name.as_str().chars().map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_uppercase() } else { '_' });
    VARIABLE.chars().chain(name).collect()
}

fn from_environment(name: &SecretName) -> Option<io::Result<String>> {
    let value = env::var_os(variable(name))?;
    let text = value.into_string().map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "it is not UTF-8"));
    Some(text.and_then(|value| refuse_long(&value).map(|()| value)))
}

fn refuse_long(value: &str) -> io::Result<()> {
    if u64::try_from(value.len()).unwrap_or(u64::MAX) > SECRET_MAX {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, format!("it has more than {SECRET_MAX} bytes")));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{PermissionsExt, symlink};

    fn folder(files: &[(&str, &[u8], u32)]) -> (tempfile::TempDir, SecretFolder) {
        let folder = tempfile::tempdir().unwrap();
        for (name, value, mode) in files {
            let path = folder.path().join(name);
            fs::write(&path, value).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(*mode)).unwrap();
        }
        let secrets = SecretFolder::new(folder.path().to_owned());
        (folder, secrets)
    }

    fn names(names: &[&str]) -> BTreeSet<SecretName> {
        names.iter().map(|name| SecretName::try_from((*name).to_owned()).unwrap()).collect()
    }

    #[test]
    fn one_line_end_is_no_part_of_a_secret() {
        let (_folder, secrets) = folder(&[("a", b"x\n", 0o600), ("b", b"y\r\n", 0o400), ("c", b"z\n\n", 0o600)]);
        let (read, _) = secrets.read(&names(&["a", "b", "c"])).unwrap();
        assert_eq!(read.iter().collect::<Vec<_>>(), [("a", "x"), ("b", "y"), ("c", "z\n")]);
        assert_eq!(format!("{read:?}"), r#"{"a", "b", "c"}"#);
    }

    #[test]
    fn what_others_could_read_or_forge_is_refused_and_what_is_in_it_not_shown() {
        let (folder, secrets) = folder(&[
            ("open", b"hush", 0o640),
            ("binary", b"hush\xff", 0o600),
            ("long", &[b'x'; 65537], 0o600),
            ("real", b"hush", 0o600),
        ]);
        symlink(folder.path().join("real"), folder.path().join("link")).unwrap();
        for (name, reason) in
            [("open", "mode 640"), ("binary", "UTF-8"), ("long", "65536"), ("none", "missing"), ("link", "link")]
        {
            let error = secrets.read(&names(&[name])).unwrap_err();
            assert!(error.reason.contains(reason), "{name}: {error}");
            assert!(!format!("{error:?}").contains("hush"), "{error:?}");
        }
    }

    #[test]
    fn a_variable_has_the_name_of_its_secret_in_capitals() {
        let name = SecretName::try_from("db-password.2".to_owned()).unwrap();
        assert_eq!(variable(&name), "HOTBAY_SECRET_DB_PASSWORD_2");
        assert!(from_environment(&name).is_none());
    }

    #[test]
    fn another_state_of_the_folder_is_seen() {
        let (folder, secrets) = folder(&[("a", b"x", 0o600)]);
        let before = secrets.seen();
        assert_eq!(before, secrets.seen());
        fs::write(folder.path().join("b"), "y").unwrap();
        assert!(before != secrets.seen());
        assert_eq!(SecretFolder::new(folder.path().join("none")).seen(), SecretFolder::new(folder.path().join("none")).seen());
    }
}
