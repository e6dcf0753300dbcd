//! A service's sources: a folder, the name of the service and how it is built; and the search for all of them.

use super::{
    Language, c,
    recipe::{self, Recipe},
    remark,
};
use hotbay::config::{NameError, ServiceName};
use std::{
    fs, io,
    path::{Path, PathBuf},
};

/// Folders that hold what others made, or what tools keep, beside those that begin with a dot.
const NOT_SOURCES: [&str; 6] = ["target", "node_modules", "vendor", "venv", "__pycache__", "dist"];
/// Folders in each other that are looked into.
const DEPTH_MAX: usize = 6;

/// One service as its author has it: sources in a folder.
#[derive(Debug, Clone)]
pub(crate) struct Project {
    name: ServiceName,
    dir: PathBuf,
    way: Way,
    watch: Vec<PathBuf>,
}

/// How it is built.
#[derive(Debug, Clone)]
pub(super) enum Way {
    /// As its language is.
    Language(Language),
    /// As `hotbay-build.toml` says.
    Command { command: String, output: PathBuf },
}

/// What is found below some folders.
#[derive(Debug, Default)]
pub(crate) struct Search {
    /// The services, by name.
    pub(crate) projects: Vec<Project>,
    /// What is wrong.
    pub(crate) faults: Vec<ProjectError>,
    /// What is left out although it may be meant for a service, each with the remedy.
    pub(crate) remarks: Vec<String>,
}

/// Why there is nothing to build.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ProjectError {
    /// Not a folder, or not readable.
    #[error("{dir}: {error}; name a folder that holds a service, or services in folders of their own")]
    Unreadable { dir: String, error: io::Error },
    /// No service in it nor below it.
    #[error(
        "{dir} holds no service: neither a crate with [package.metadata.hotbay] or hotbay-sdk, nor an app.py that imports \
         wit_world, nor a package.json with componentize-js, nor a main.c with a NAME.toml, nor a hotbay-build.toml that says how \
         it is built; `hotbay new` makes one"
    )]
    NoService { dir: String },
    /// A folder whose name is none for a service.
    #[error("{dir}: {error}; set name = \"…\" in {dir}/hotbay-build.toml, or rename the folder")]
    Name { dir: String, error: NameError },
    /// Two folders of one name.
    #[error("two services are called {name}: {first} and {second}; set another name = \"…\" in hotbay-build.toml of one of them")]
    Twice { name: ServiceName, first: String, second: String },
    /// `hotbay-build.toml` cannot be used.
    #[error("{0}")]
    Recipe(String),
}

impl Project {
    /// Every service below these folders, sorted by name: a folder itself, or else what is in its sub-folders. What tools make
    /// or keep is not looked into (`NOT_SOURCES`, folders with a dot), nor are links.
    ///
    /// # Errors
    /// Where one of the folders holds none, or two services have one name.
    pub(crate) fn find<P: AsRef<Path>>(dirs: &[P]) -> Result<Vec<Self>, ProjectError> {
        let found = Self::search(dirs);
        found.faults.into_iter().next().map_or(Ok(found.projects), Err)
    }

    /// The same as far as it goes, with all that is wrong: of two services of one name the one in the first folder is there.
    pub(crate) fn search<P: AsRef<Path>>(dirs: &[P]) -> Search {
        let mut search = Search::default();
        for dir in dirs {
            let dir = dir.as_ref();
            // `.` has no name of its own.
            match dir.canonicalize().and_then(|whole| fs::read_dir(&whole).map(|_| whole)) {
                Ok(whole) => search.named(&whole, dir),
                Err(error) => search.faults.push(ProjectError::Unreadable { dir: dir.display().to_string(), error }),
            }
        }
        let Search { projects, faults, remarks } = &mut search;
        projects.sort_by(|a, b| (&a.name, &a.dir).cmp(&(&b.name, &b.dir)));
        projects.dedup_by(|again, first| {
            if again.name == first.name && again.dir != first.dir {
                let (first, second) = (first.dir.display().to_string(), again.dir.display().to_string());
                faults.push(ProjectError::Twice { name: again.name.clone(), first, second });
            }
            // One folder may be named twice, by itself and by one above it.
            again.name == first.name
        });
        projects.iter().for_each(|project| remark::of_service(project, remarks));
        remarks.sort();
        remarks.dedup();
        search
    }

    /// The service in this very folder, if there is one. `is_meant`: people say that there is.
    fn of(dir: &Path, is_meant: bool) -> Result<Option<Self>, ProjectError> {
        let written = Recipe::read(dir).map_err(ProjectError::Recipe)?;
        let is_meant = is_meant || written.is_some();
        let recipe = written.unwrap_or_default();
        let way = match (&recipe.command, &recipe.output) {
            (Some(command), Some(output)) => Way::Command { command: command.clone(), output: dir.join(output) },
            _ => match Language::of(dir, &recipe) {
                Some(language) => Way::Language(language),
                None if is_meant && c::is_program(dir) => Way::Language(Language::C),
                None => return Ok(None),
            },
        };
        let folder = dir.file_name().unwrap_or_default().to_string_lossy();
        let name = ServiceName::parse(recipe.name.as_deref().unwrap_or(&folder))
            .map_err(|error| ProjectError::Name { dir: dir.display().to_string(), error })?;
        let watch = recipe.watch.unwrap_or_default().into_iter().map(|path| whole(&dir.join(path))).collect();
        Ok(Some(Self { name, dir: dir.to_owned(), way, watch }))
    }

    /// The service that it is built for.
    pub(crate) fn name(&self) -> &ServiceName {
        &self.name
    }

    /// Its folder, without links and `..`.
    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    /// None where `hotbay-build.toml` names a command.
    pub(crate) fn language(&self) -> Option<Language> {
        match self.way {
            Way::Language(language) => Some(language),
            Way::Command { .. } => None,
        }
    }

    pub(super) fn way(&self) -> &Way {
        &self.way
    }

    /// The service's settings for the host, if its author wrote any: `NAME.toml` in the folder.
    pub(crate) fn settings(&self) -> Option<PathBuf> {
        let path = self.dir.join(format!("{}.toml", self.name));
        path.is_file().then_some(path)
    }

    /// What to watch for changes, files and folders with all that is in them; [`Project::concerns`] says which changes count.
    pub(crate) fn watched(&self) -> impl Iterator<Item = &Path> {
        std::iter::once(&self.dir).chain(&self.watch).map(PathBuf::as_path)
    }

    /// Whether a change of the file at `path` calls for a build.
    pub(crate) fn concerns(&self, path: &Path) -> bool {
        let inside = path.strip_prefix(&self.dir).ok();
        if let Some(inside) = inside
            && (inside == Path::new(recipe::FILE) || self.is_settings(inside) || inside == Path::new("Cargo.toml"))
        {
            return true;
        }
        let listed = self.watch.iter().find_map(|watched| path.strip_prefix(watched).ok());
        let Some(seen) = (if self.watch.is_empty() { inside } else { listed }) else {
            return false;
        };
        let made = matches!(&self.way, Way::Command { output, .. } if path == output);
        !made && seen.components().all(|part| is_source(&part.as_os_str().to_string_lossy()))
    }

    fn is_settings(&self, inside: &Path) -> bool {
        inside == Path::new(&format!("{}.toml", self.name))
    }
}

/// The path without links and `..`, as watchers name it, where it is there.
fn whole(path: &Path) -> PathBuf {
    path.canonicalize().unwrap_or_else(|_| path.to_owned())
}

/// Whether this file or folder can be somebody's source: not a tool's, nor what an editor keeps beside it.
fn is_source(name: &str) -> bool {
    !is_made_by_tools(name) && !name.ends_with('~') && !name.ends_with(".wasm")
}

/// Whether a file or folder of this name is made, or kept, by tools and not written by hand.
pub(crate) fn is_made_by_tools(name: &str) -> bool {
    name.starts_with('.') || NOT_SOURCES.contains(&name)
}

impl Search {
    /// Looks into a folder that people named as `shown`.
    fn named(&mut self, dir: &Path, shown: &Path) {
        let before = self.projects.len() + self.faults.len();
        let remarks = self.remarks.len();
        self.below(dir, 0);
        if self.projects.len() + self.faults.len() > before {
            return;
        }
        match Project::of(dir, true) {
            Ok(Some(project)) => {
                self.projects.push(project);
                // What was remarked is of this folder, or of folders of this service.
                self.remarks.truncate(remarks);
            }
            Ok(None) => self.faults.push(ProjectError::NoService { dir: shown.display().to_string() }),
            Err(fault) => self.faults.push(fault),
        }
    }

    fn below(&mut self, dir: &Path, depth: usize) {
        // A template is no service yet.
        if depth > 0 && dir.join("{{name}}.toml").exists() {
            return;
        }
        match Project::of(dir, false) {
            Ok(None) => remark::of_folder(dir, &mut self.remarks),
            Ok(Some(project)) => return self.projects.push(project),
            Err(fault) => return self.faults.push(fault),
        }
        // Below the first, a folder that cannot be read is none of ours.
        let (true, Ok(entries)) = (depth < DEPTH_MAX, fs::read_dir(dir)) else {
            return;
        };
        for entry in entries.flatten() {
            // Links are not followed: they could lead around in a circle.
            let is_folder = entry.file_type().is_ok_and(|kind| kind.is_dir());
            if is_folder && is_source(&entry.file_name().to_string_lossy()) {
                self.below(&entry.path(), depth + 1);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn project(folder: &Path, recipe: &str) -> Project {
        let dir = folder.join("greet");
        fs::create_dir_all(&dir).unwrap();
        fs::write(dir.join(recipe::FILE), recipe).unwrap();
        Project::find(&[folder]).unwrap().remove(0)
    }

    #[test]
    fn a_change_of_sources_calls_for_a_build_and_what_tools_make_does_not() {
        let folder = tempfile::tempdir().unwrap();
        let project = project(folder.path(), "command = \"make\"\noutput = \"out/x.bin\"\n");
        for (file, concerns) in [
            ("src/deep/a.c", true),
            ("greet.toml", true),
            (recipe::FILE, true),
            ("out/x.bin", false),
            ("out/greet.wasm", false),
            ("target/debug/a.c", false),
            ("node_modules/a.js", false),
            (".git/index", false),
            ("src/.a.c.swp", false),
            ("src/a.c~", false),
        ] {
            assert_eq!(project.concerns(&project.dir().join(file)), concerns, "{file}");
        }
        assert!(!project.concerns(&folder.path().join("elsewhere.c")));
    }

    #[test]
    fn where_a_recipe_says_what_to_watch_nothing_else_counts() {
        let folder = tempfile::tempdir().unwrap();
        let shared = folder.path().canonicalize().unwrap().join("shared");
        fs::create_dir_all(&shared).unwrap();
        fs::create_dir_all(folder.path().join("greet/src")).unwrap();
        let project = project(folder.path(), "language = \"c\"\nwatch = [\"src\", \"../shared\"]\n");
        let dir = project.dir();
        assert!(project.concerns(&dir.join("src/a.c")) && project.concerns(&dir.join("greet.toml")));
        assert!(!project.concerns(&dir.join("notes.md")));
        assert!(project.concerns(&shared.join("b.c")));
        assert!(project.watched().any(|watched| watched == shared));
    }
}
