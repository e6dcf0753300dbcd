//! The files below the folders that are followed: which there are, in which state, and which count.

use crate::workshop::is_made_by_tools;
use std::{
    collections::{BTreeMap, BTreeSet},
    fs::{self, Metadata},
    hash::{DefaultHasher, Hasher},
    io,
    os::unix::fs::MetadataExt,
    path::{Component, Path, PathBuf},
    time::{Duration, SystemTime},
};

/// How editors name what they write beside a file.
const TEMPORARY_ENDINGS: [&str; 9] = ["~", ".swp", ".swo", ".swx", ".tmp", ".bak", ".crswap", "___jb_tmp___", "___jb_old___"];
/// What vim writes to see whether it may.
const VIM_PROBE: &str = "4913";

/// Two writes within a clock's grain leave the same stamp: of a file this young the content has the say.
const CLOCK_GRAIN: Duration = Duration::from_millis(20);

/// Bytes of a file whose content is compared; a larger one that was written counts as changed.
const COMPARED_MAX: u64 = 4 << 20;

/// Folders within folders that are entered; a tree that is deeper is a loop, or nobody's sources.
const DEPTH_MAX: usize = 32;

/// The state of one file: any save changes it, up to the clock's grain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stamp {
    inode: u64,
    len: u64,
    modified: (i64, i64),
}

impl Stamp {
    fn of(found: &Metadata) -> Self {
        Self { inode: found.ino(), len: found.len(), modified: (found.mtime(), found.mtime_nsec()) }
    }
}

/// What is followed: folders with what is in them, and files that are followed alone.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Roots(Vec<PathBuf>);

impl Roots {
    /// These, without those that are followed with another one.
    pub(super) fn new(roots: impl IntoIterator<Item = PathBuf>) -> Self {
        let mut kept = Self::default();
        for root in roots {
            if !kept.hold(&root) {
                kept.0.retain(|other| !Self(vec![root.clone()]).hold(other));
                kept.0.push(root);
            }
        }
        kept
    }

    /// Whether `path` is among what is written below them, and not made by tools and editors. One that somebody named counts whatever
    /// it is called.
    pub(super) fn hold(&self, path: &Path) -> bool {
        self.0.iter().filter_map(|root| path.strip_prefix(root).ok()).any(|inside| {
            let names = || {
                inside.components().filter_map(|part| match part {
                    Component::Normal(name) => name.to_str(),
                    _ => None,
                })
            };
            !names().any(is_made_by_tools) && !names().next_back().is_some_and(is_temporary)
        })
    }
}

/// What is known of a file.
#[derive(Debug, Clone, Copy)]
struct Known {
    stamp: Stamp,
    /// A hash of its content, once it was seen to be written: a save that changes nothing is none, such as that of a build which
    /// writes among its own sources.
    content: Option<u64>,
}

/// What is known of the files below some folders.
#[derive(Debug, Default)]
pub(super) struct Tree {
    /// Folders, and files that are followed alone.
    roots: Roots,
    /// Folders and files within that are made by whoever follows them.
    outputs: BTreeSet<PathBuf>,
    files: BTreeMap<PathBuf, Known>,
    folders: BTreeSet<PathBuf>,
}

/// What was found to be other than before.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Difference {
    /// Files that came, changed or went.
    pub(super) files: BTreeSet<PathBuf>,
    /// Those of them that came.
    pub(super) new_files: BTreeSet<PathBuf>,
    /// Folders that came.
    pub(super) new_folders: BTreeSet<PathBuf>,
    /// Folders that went.
    pub(super) gone_folders: BTreeSet<PathBuf>,
}

impl Difference {
    pub(super) fn is_empty(&self) -> bool {
        self.files.is_empty() && self.new_folders.is_empty() && self.gone_folders.is_empty()
    }

    /// Both together.
    pub(super) fn join(&mut self, other: Self) {
        self.files.extend(other.files);
        self.new_files.extend(other.new_files);
        self.new_folders.extend(other.new_folders);
        self.gone_folders.extend(other.gone_folders);
    }
}

impl Tree {
    /// Nothing is known yet of what lies below `roots`; what lies in `outputs` never counts.
    pub(super) fn new(roots: Roots, outputs: impl IntoIterator<Item = PathBuf>) -> Self {
        Self { roots, outputs: outputs.into_iter().collect(), ..Self::default() }
    }

    /// Other folders; what is new below them is found at the next look. Returns those from before where they were others.
    pub(super) fn set_roots(&mut self, roots: Roots) -> Option<Roots> {
        let before = std::mem::replace(&mut self.roots, roots);
        (before != self.roots).then_some(before)
    }

    /// Every folder that is followed.
    pub(super) fn folders(&self) -> &BTreeSet<PathBuf> {
        &self.folders
    }

    /// Whether what happens to `path` counts.
    pub(super) fn counts(&self, path: &Path) -> bool {
        self.roots.hold(path) && !path.ancestors().any(|above| self.outputs.contains(above))
    }

    /// Looks at everything.
    pub(super) fn look_at_all(&mut self) -> Difference {
        let mut difference = Difference::default();
        let mut seen = Seen::default();
        for root in self.roots.0.clone() {
            match fs::metadata(&root) {
                Ok(found) if found.is_file() => self.look_at_one(root, &found, &mut seen, &mut difference),
                _ => self.walk(&root, 0, &mut seen, &mut difference),
            }
        }
        self.forget(|path| !seen.files.contains(path), |path| !seen.folders.contains(path), &mut difference);
        difference
    }

    /// Looks at these paths, of which something was told.
    pub(super) fn look_at(&mut self, paths: impl IntoIterator<Item = PathBuf>) -> Difference {
        let mut difference = Difference::default();
        for path in paths {
            if !self.counts(&path) {
                continue;
            }
            match of_sources(&path) {
                Ok(found) if found.is_dir() => {
                    let mut seen = Seen::default();
                    self.walk(&path, 0, &mut seen, &mut difference);
                    let gone = |known: &Path, seen: &BTreeSet<PathBuf>| known.starts_with(&path) && !seen.contains(known);
                    self.forget(|file| gone(file, &seen.files), |folder| gone(folder, &seen.folders), &mut difference);
                }
                Ok(found) => self.note(path, &found, true, &mut difference),
                Err(_) => self.forget(|file| file.starts_with(&path), |folder| folder.starts_with(&path), &mut difference),
            }
        }
        difference
    }

    /// A file that is followed alone: of its folder, which the system tells of, nothing else counts.
    fn look_at_one(&mut self, file: PathBuf, found: &Metadata, seen: &mut Seen, difference: &mut Difference) {
        if let Some(folder) = file.parent() {
            self.note_folder(folder, seen, difference);
        }
        seen.files.insert(file.clone());
        self.note(file, found, false, difference);
    }

    fn note_folder(&mut self, folder: &Path, seen: &mut Seen, difference: &mut Difference) {
        seen.folders.insert(folder.to_owned());
        if self.folders.insert(folder.to_owned()) {
            difference.new_folders.insert(folder.to_owned());
        }
    }

    fn walk(&mut self, folder: &Path, depth: usize, seen: &mut Seen, difference: &mut Difference) {
        // What cannot be read is not there, as far as anybody can follow it.
        let Ok(entries) = fs::read_dir(folder) else { return };
        self.note_folder(folder, seen, difference);
        for entry in entries.flatten() {
            let path = entry.path();
            if !self.counts(&path) {
                continue;
            }
            match of_sources(&path) {
                Ok(found) if found.is_dir() && depth < DEPTH_MAX => self.walk(&path, depth + 1, seen, difference),
                Ok(found) if found.is_file() => {
                    seen.files.insert(path.clone());
                    self.note(path, &found, false, difference);
                }
                _ => {}
            }
        }
    }

    fn note(&mut self, path: PathBuf, found: &Metadata, was_told: bool, difference: &mut Difference) {
        let stamp = Stamp::of(found);
        let is_young = || {
            let age = found.modified().ok().and_then(|modified| SystemTime::now().duration_since(modified).ok());
            age.is_some_and(|age| age < CLOCK_GRAIN)
        };
        let Some(before) = self.files.get(&path).copied() else {
            self.files.insert(path.clone(), Known { stamp, content: None });
            difference.new_files.insert(path.clone());
            difference.files.insert(path);
            return;
        };
        if before.stamp != stamp || was_told && is_young() {
            let content = hashed(&path, stamp.len);
            if content.is_none() || content != before.content {
                difference.files.insert(path.clone());
            }
            self.files.insert(path, Known { stamp, content });
        }
    }

    fn forget(&mut self, file: impl Fn(&Path) -> bool, folder: impl Fn(&Path) -> bool, difference: &mut Difference) {
        self.files.retain(|path, _| {
            let gone = file(path);
            if gone {
                difference.files.insert(path.clone());
            }
            !gone
        });
        self.folders.retain(|path| {
            let gone = folder(path);
            if gone {
                difference.gone_folders.insert(path.clone());
            }
            !gone
        });
    }
}

fn hashed(path: &Path, len: u64) -> Option<u64> {
    let content = (len <= COMPARED_MAX).then(|| fs::read(path).ok()).flatten()?;
    let mut hasher = DefaultHasher::new();
    hasher.write(&content);
    Some(hasher.finish())
}

/// What a walk came by.
#[derive(Default)]
struct Seen {
    files: BTreeSet<PathBuf>,
    folders: BTreeSet<PathBuf>,
}

/// What lies at `path`. Links are followed to files and not to folders: these may lie around them, and whoever watched one by two names
/// would hear of it by one, and of nothing once that is gone.
fn of_sources(path: &Path) -> io::Result<Metadata> {
    let found = fs::symlink_metadata(path)?;
    if !found.is_symlink() {
        return Ok(found);
    }
    fs::metadata(path).and_then(|found| if found.is_dir() { Err(io::ErrorKind::IsADirectory.into()) } else { Ok(found) })
}

fn is_temporary(name: &str) -> bool {
    let marked = name.starts_with('#') && name.ends_with('#');
    marked || name == VIM_PROBE || TEMPORARY_ENDINGS.iter().any(|ending| name.ends_with(ending))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree() -> (tempfile::TempDir, Tree) {
        let folder = tempfile::tempdir().unwrap();
        for file in ["a/src/lib.rs", "a/build.toml", "a/target/debug/x", "a/.git/HEAD", "b/app.py", "b/node_modules/c/index.js"] {
            let path = folder.path().join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "1").unwrap();
        }
        let tree = Tree::new(Roots::new([folder.path().to_owned()]), [folder.path().join("bay")]);
        (folder, tree)
    }

    fn names(folder: &Path, paths: &BTreeSet<PathBuf>) -> Vec<String> {
        paths.iter().map(|path| path.strip_prefix(folder).unwrap().display().to_string()).collect()
    }

    #[test]
    fn what_is_made_does_not_count() {
        let (folder, mut tree) = tree();
        let found = tree.look_at_all();
        assert_eq!(names(folder.path(), &found.files), ["a/build.toml", "a/src/lib.rs", "b/app.py"]);
        assert_eq!(names(folder.path(), &found.new_folders), ["", "a", "a/src", "b"]);
        for (path, counts) in [
            ("a/src/main.rs", true),
            ("a/src/main.rs~", false),
            ("a/src/.main.rs.swp", false),
            ("a/src/#main.rs#", false),
            ("a/4913", false),
            ("a/target/wasm32-wasip2/x.rs", false),
            ("bay/a.wasm", false),
        ] {
            assert_eq!(tree.counts(&folder.path().join(path)), counts, "{path}");
        }
        assert!(!tree.counts(Path::new("/somewhere/else.rs")));
    }

    #[test]
    fn what_somebody_named_counts_whatever_it_is_called() {
        let (folder, _) = tree();
        let root = folder.path();
        let roots = Roots::new(["b/node_modules/c", "a", "a/src", "a/target/debug/x"].map(|path| root.join(path)));
        assert_eq!(roots.0, ["b/node_modules/c", "a", "a/target/debug/x"].map(|path| root.join(path)));
        let mut tree = Tree::new(roots, []);
        let found = tree.look_at_all();
        assert_eq!(names(root, &found.files), ["a/build.toml", "a/src/lib.rs", "a/target/debug/x", "b/node_modules/c/index.js"]);
        // The folder of a file is heard, and nothing else in it counts.
        assert_eq!(names(root, &found.new_folders), ["a", "a/src", "a/target/debug", "b/node_modules/c"]);
        fs::write(root.join("a/target/debug/y"), "").unwrap();
        fs::write(root.join("a/target/debug/x"), "22").unwrap();
        let seen = tree.look_at(["x", "y"].map(|name| root.join("a/target/debug").join(name)));
        assert_eq!(names(root, &seen.files), ["a/target/debug/x"]);
        assert!(tree.look_at_all().is_empty());
    }

    #[test]
    fn a_save_is_seen_once() {
        let (folder, mut tree) = tree();
        tree.look_at_all();
        assert!(tree.look_at_all().is_empty());
        let file = folder.path().join("a/src/lib.rs");
        fs::write(&file, "22").unwrap();
        let seen = tree.look_at([file.clone(), file.clone(), folder.path().join("a/target/debug/x")]);
        assert_eq!(names(folder.path(), &seen.files), ["a/src/lib.rs"]);
        assert!(tree.look_at_all().is_empty());
        // Within a clock's grain no stamp tells two saves of one length apart.
        fs::write(&file, "33").unwrap();
        assert!(!tree.look_at([file.clone()]).is_empty());
        fs::write(&file, "33").unwrap();
        assert!(tree.look_at([file.clone()]).is_empty(), "it says what it said before");
        fs::remove_file(&file).unwrap();
        assert_eq!(names(folder.path(), &tree.look_at([file]).files), ["a/src/lib.rs"]);
    }

    #[test]
    fn links_lead_to_files_and_not_to_folders() {
        let (folder, mut tree) = tree();
        tree.look_at_all();
        let (to_a, around, to_file) = ["b/a", "b/around", "b/main.rs"].map(|name| folder.path().join(name)).into();
        std::os::unix::fs::symlink("../a", &to_a).unwrap();
        std::os::unix::fs::symlink(".", &around).unwrap();
        std::os::unix::fs::symlink("../a/src/lib.rs", &to_file).unwrap();
        let seen = tree.look_at([to_a, around, to_file]);
        assert_eq!((names(folder.path(), &seen.files), seen.new_folders.len()), (vec!["b/main.rs".to_owned()], 0));
        assert!(tree.look_at_all().is_empty());
    }

    #[test]
    fn folders_come_and_go() {
        let (folder, mut tree) = tree();
        tree.look_at_all();
        let new = folder.path().join("c");
        fs::create_dir_all(new.join("src")).unwrap();
        fs::write(new.join("src/main.c"), "").unwrap();
        let seen = tree.look_at([new.clone()]);
        assert_eq!(names(folder.path(), &seen.new_folders), ["c", "c/src"]);
        assert_eq!(names(folder.path(), &seen.files), ["c/src/main.c"]);
        fs::remove_dir_all(&new).unwrap();
        let seen = tree.look_at([new]);
        assert_eq!(names(folder.path(), &seen.gone_folders), ["c", "c/src"]);
        assert_eq!(names(folder.path(), &seen.files), ["c/src/main.c"]);
    }
}
