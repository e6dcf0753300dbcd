//! New services: a template, in this binary or in a folder, becomes a folder of sources in which `{{name}}` is the service's name.

use super::{Language, crate_name, is_made_by_tools, sdk};
use hotbay::config::ServiceName;
use include_dir::{Dir, DirEntry, include_dir};
use std::{
    fs::{self, Permissions},
    io,
    path::{Path, PathBuf},
};

/// What stands for the service's name in texts and in names of files.
const PLACEHOLDER: &str = "{{name}}";
/// Folders of a template of one's own that are not part of it.
const LEFT_OUT: [&str; 4] = [".git", "target", "node_modules", ".venv"];

static TEMPLATES: Dir<'static> = include_dir!("$CARGO_MANIFEST_DIR/templates");

/// What a new service is made of.
#[derive(Debug, Clone)]
pub(crate) enum Template {
    /// The one in this binary.
    Language(Language),
    /// All files of a folder.
    Folder(PathBuf),
}

/// Why there is no new service.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NewError {
    /// Something is there.
    #[error("{0} exists and is not empty; take another name, or remove it")]
    Exists(String),
    /// Something that is no folder is there.
    #[error("{0} is there and is no folder; take another name, or remove it")]
    NoFolder(String),
    /// Only who names its very folder would find it.
    #[error(
        "`hotbay build` and `hotbay dev` never look into a folder that is called {0}: tools keep what they make in such ones; take \
         another name, such as service-{0}"
    )]
    NotLookedInto(ServiceName),
    /// cargo would not build it.
    #[error("no crate in Rust can be called {name}: {reason}; take another name, such as service-{name}")]
    NoCrate { name: ServiceName, reason: &'static str },
    /// The folder of one's own template.
    #[error("the template {dir} cannot be read: {error}; name a folder that holds the files of a service")]
    Template { dir: String, error: io::Error },
    /// Nothing in it.
    #[error("the template {0} holds no files; name a folder that holds the files of a service")]
    Empty(String),
    /// The new folder.
    #[error("{dir} cannot be made: {error}; see to the folder that it is to lie in")]
    Write { dir: String, error: io::Error },
}

/// A file of a template.
struct Source {
    path: PathBuf,
    content: Vec<u8>,
    /// Where the usual ones will not do: scripts can be run.
    permissions: Option<Permissions>,
}

impl Template {
    /// Makes the folder `dir`, whole or not at all. A Rust service that wants the SDK in `vendor/` gets it.
    ///
    /// # Errors
    /// Where the template cannot be read, `name` is one that is never found or cannot be a crate that is wanted, or `dir` is there or
    /// cannot be made.
    pub(crate) fn make(&self, dir: &Path, name: &ServiceName) -> Result<(), NewError> {
        let shown = || dir.display().to_string();
        if is_made_by_tools(name.as_str()) {
            return Err(NewError::NotLookedInto(name.clone()));
        }
        if let (Self::Language(Language::Rust), Some(reason)) = (self, crate_name::fault(name)) {
            return Err(NewError::NoCrate { name: name.clone(), reason });
        }
        if fs::symlink_metadata(dir).is_ok() && !dir.is_dir() {
            return Err(NewError::NoFolder(shown()));
        }
        if fs::read_dir(dir).is_ok_and(|mut entries| entries.next().is_some()) {
            return Err(NewError::Exists(shown()));
        }
        let sources = self.sources()?;
        let failed = |error| NewError::Write { dir: shown(), error };
        let parent = dir.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        fs::create_dir_all(parent).map_err(failed)?;
        let draft = Draft(parent.join(format!(".{name}.{}.new", std::process::id())));
        write(&sources, &draft.0, name).map_err(failed)?;
        fs::rename(&draft.0, dir).map_err(failed)
    }

    fn sources(&self) -> Result<Vec<Source>, NewError> {
        let mut sources = Vec::new();
        let shown = match self {
            Self::Language(language) => {
                if let Some(dir) = TEMPLATES.get_dir(language.word()) {
                    embedded(dir, dir.path(), &mut sources);
                }
                language.to_string()
            }
            Self::Folder(folder) => {
                let shown = folder.display().to_string();
                read(folder, Path::new(""), &mut sources).map_err(|error| NewError::Template { dir: shown.clone(), error })?;
                shown
            }
        };
        if sources.is_empty() { Err(NewError::Empty(shown)) } else { Ok(sources) }
    }
}

/// A folder that has not its name yet, and is gone where it did not get one.
struct Draft(PathBuf);

impl Drop for Draft {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn write(sources: &[Source], draft: &Path, name: &ServiceName) -> io::Result<()> {
    fs::create_dir_all(draft)?;
    let mut wants_sdk = false;
    for Source { path, content, permissions } in sources {
        let renamed = path.to_string_lossy().replace(PLACEHOLDER, name.as_str());
        let to = draft.join(&renamed);
        if let Some(folder) = to.parent() {
            fs::create_dir_all(folder)?;
        }
        match std::str::from_utf8(content) {
            Ok(text) => {
                let text = text.replace(PLACEHOLDER, name.as_str());
                wants_sdk |= renamed == "Cargo.toml" && text.contains(sdk::FOLDER);
                fs::write(&to, text)?;
            }
            // A picture, say.
            Err(_) => fs::write(&to, content)?,
        }
        if let Some(permissions) = permissions {
            fs::set_permissions(&to, permissions.clone())?;
        }
    }
    if wants_sdk && !draft.join(sdk::FOLDER).exists() { sdk::unpack(draft) } else { Ok(()) }
}

fn embedded(dir: &Dir<'_>, root: &Path, sources: &mut Vec<Source>) {
    for entry in dir.entries() {
        match entry {
            DirEntry::Dir(dir) => embedded(dir, root, sources),
            DirEntry::File(file) => {
                let path = file.path().strip_prefix(root).unwrap_or(file.path()).to_owned();
                sources.push(Source { path, content: file.contents().to_owned(), permissions: None });
            }
        }
    }
}

/// Files and folders; links are followed nowhere and left out.
fn read(folder: &Path, inside: &Path, sources: &mut Vec<Source>) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let (kind, name) = (entry.file_type()?, entry.file_name());
        if LEFT_OUT.iter().any(|left_out| name == *left_out) {
            continue;
        }
        let path = inside.join(&name);
        if kind.is_dir() {
            read(&entry.path(), &path, sources)?;
        } else if kind.is_file() {
            let permissions = Some(entry.metadata()?.permissions());
            sources.push(Source { path, content: fs::read(entry.path())?, permissions });
        }
    }
    Ok(())
}
