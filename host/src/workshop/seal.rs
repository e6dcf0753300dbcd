//! What a build was made of. Where nothing of it is other than then, the build that lies there is as good as another one: for tools that
//! make another file of the same sources each time, and take long for it.

use super::{BuildFailure, Project};
use sha2::{Digest, Sha256};
use std::{
    collections::BTreeSet,
    fs::{self, Metadata},
    io,
    os::unix::fs::MetadataExt,
    path::{Component, Path, PathBuf},
};

/// Folders among the sources that tools make. What is installed is looked at for itself.
const MADE: [&str; 4] = ["target", "node_modules", "venv", "__pycache__"];
/// Folders among what is installed that tools write while they run.
const KEPT_BY_TOOLS: [&str; 2] = ["__pycache__", ".cache"];
/// Beyond them it takes longer to look than can be won.
const FILES_MAX: u32 = 100_000;
/// Bytes of a file whose content is read; of a larger one its size and its time have to do.
const READ_MAX: u64 = 16 << 20;

/// All that a build is made of.
#[derive(Debug, Clone)]
pub(super) struct Inputs {
    /// Its folder is read, and what it says that it is built from.
    pub(super) project: Project,
    /// Folders within that builds are put into.
    pub(super) outputs: Vec<PathBuf>,
    /// More folders that are read.
    pub(super) read: Vec<PathBuf>,
    /// Folders of which names, sizes and times are looked at: what an installer wrote.
    pub(super) installed: Vec<PathBuf>,
    /// Versions of tools, and how they are called.
    pub(super) words: Vec<String>,
}

/// Stands for the inputs of a build. None where they cannot be known, as of sources that reach out of their folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Seal(Option<String>);

impl Inputs {
    /// How they are now.
    pub(super) async fn seal(&self) -> Result<Seal, BuildFailure> {
        let inputs = self.clone();
        let sealed = tokio::task::spawn_blocking(move || Seal(Walk::over(&inputs)));
        sealed.await.map_err(|error| BuildFailure::io("the sources are not read")(error.into()))
    }

    /// Notes that `output` was made of `before`, unless something was saved meanwhile.
    pub(super) async fn keep(&self, before: &Seal, output: &Path) -> Result<(), BuildFailure> {
        let file = beside(output);
        let kept = match (&before.0, self.seal().await? == *before) {
            (Some(seal), true) => fs::write(
                &file,
                format!("{seal} {}\n", stamp(&fs::metadata(output).map_err(BuildFailure::io(output.display()))?)),
            ),
            _ => match fs::remove_file(&file) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
                _ => Ok(()),
            },
        };
        kept.map_err(BuildFailure::io(file.display()))
    }
}

impl Seal {
    /// Whether `output` is there, and was made of these very inputs.
    pub(super) fn holds(&self, output: &Path) -> bool {
        let (Some(seal), Ok(found)) = (&self.0, fs::metadata(output)) else { return false };
        fs::read_to_string(beside(output)).is_ok_and(|kept| kept == format!("{seal} {}\n", stamp(&found)))
    }
}

/// Where the seal of a build lies.
fn beside(output: &Path) -> PathBuf {
    output.with_extension("made-of")
}

fn stamp(found: &Metadata) -> String {
    format!("{} {}.{:09} {}", found.len(), found.mtime(), found.mtime_nsec(), found.ino())
}

/// What is looked at in a folder.
#[derive(Clone, Copy, PartialEq, Eq)]
enum How {
    Sources,
    Installed,
}

struct Walk {
    hasher: Sha256,
    /// No source, though it lies among them.
    settings: Option<PathBuf>,
    /// Folders that were entered: links may lead around in a circle.
    entered: BTreeSet<PathBuf>,
    left: u32,
}

impl Walk {
    fn over(inputs: &Inputs) -> Option<String> {
        let read = inputs.read.iter().map(PathBuf::as_path);
        let sources: Vec<_> = inputs.project.watched().chain(read).map(|folder| (folder, How::Sources)).collect();
        // A bay that holds the sources themselves is no reason to look at none of them.
        let is_within = |output: &PathBuf| !sources.iter().any(|(folder, _)| folder.starts_with(output));
        let outputs = inputs.outputs.iter().filter_map(|output| output.canonicalize().ok()).filter(is_within);
        let mut walk =
            Self { hasher: Sha256::new(), settings: inputs.project.settings(), entered: outputs.collect(), left: FILES_MAX };
        inputs.words.iter().for_each(|word| walk.word(word.as_bytes()));
        let installed = inputs.installed.iter().map(|folder| (folder.as_path(), How::Installed));
        for (folder, how) in sources.into_iter().chain(installed) {
            walk.word(folder.as_os_str().as_encoded_bytes());
            walk.path(folder, 0, how)?;
        }
        Some(hex::encode(walk.hasher.finalize()))
    }

    /// None where it cannot be known what the path stands for.
    fn path(&mut self, path: &Path, depth: usize, how: How) -> Option<()> {
        let found = match fs::metadata(path) {
            Ok(found) => found,
            // A link to nothing is as if it were not there.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Some(()),
            Err(_) => return None,
        };
        if found.is_dir() {
            return self.folder(path, depth, how);
        }
        if !found.is_file() {
            return Some(());
        }
        self.left = self.left.checked_sub(1)?;
        self.word(path.as_os_str().as_encoded_bytes());
        if how == How::Installed || found.len() > READ_MAX {
            self.word(format!("{} {}.{:09}", found.len(), found.mtime(), found.mtime_nsec()).as_bytes());
            return Some(());
        }
        let content = fs::read(path).ok()?;
        self.word(&content);
        (!reaches_out(path, &content, depth)).then_some(())
    }

    fn folder(&mut self, path: &Path, depth: usize, how: How) -> Option<()> {
        if !self.entered.insert(path.canonicalize().ok()?) {
            return Some(());
        }
        let mut entries: Vec<_> = fs::read_dir(path).ok()?.collect::<io::Result<_>>().ok()?;
        entries.sort_by_key(fs::DirEntry::file_name);
        for entry in entries {
            let (name, path) = (entry.file_name(), entry.path());
            let is_settings = self.settings.as_ref() == Some(&path);
            if !is_settings && counts(&name.to_string_lossy(), how) {
                self.path(&path, depth + 1, how)?;
            }
        }
        Some(())
    }

    /// With its length, so that two never look like one.
    fn word(&mut self, word: &[u8]) {
        self.hasher.update(word.len().to_le_bytes());
        self.hasher.update(word);
    }
}

/// As `hotbay dev` follows sources, with what is vendored.
fn counts(name: &str, how: How) -> bool {
    match how {
        How::Sources => !name.starts_with('.') && !name.ends_with('~') && !name.ends_with(".wasm") && !MADE.contains(&name),
        How::Installed => !KEPT_BY_TOOLS.contains(&name),
    }
}

/// Whether a path within a service's folder is come by on the way through its sources.
pub(super) fn is_among_sources(path: &Path) -> bool {
    path.components().all(|part| match part {
        Component::CurDir => true,
        Component::Normal(name) => counts(&name.to_string_lossy(), How::Sources),
        _ => false,
    })
}

/// Whether a source may be made of more than what lies in its folder, below which it lies `depth` deep.
fn reaches_out(path: &Path, content: &[u8], depth: usize) -> bool {
    let text = String::from_utf8_lossy(content);
    match path.extension().and_then(|ending| ending.to_str()) {
        Some("py") => text.contains("sys.path") || text.contains("site.addsitedir"),
        Some("js" | "mjs" | "cjs" | "ts") => {
            let out = "../".repeat(depth);
            ['"', '\'', '`']
                .iter()
                .any(|quote| text.contains(&format!("{quote}{out}")) || text.contains(&format!("{quote}./{out}")))
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Bench(tempfile::TempDir, Inputs);

    impl Bench {
        fn new() -> Self {
            let folder = tempfile::tempdir().unwrap();
            let put = |name: &str, text: &str| {
                let path = folder.path().join(name);
                fs::create_dir_all(path.parent().unwrap()).unwrap();
                fs::write(path, text).unwrap();
            };
            put("greet/app.py", "import wit_world\n");
            put("greet/parts/one.py", "1\n");
            put("greet/bay/greet.toml", "");
            put("installed/tool.py", "a\n");
            put("greet/target/hotbay/greet.wasm", "made\n");
            let dir = folder.path().join("greet");
            let project = Project::find(&[&dir]).unwrap().remove(0);
            let inputs = Inputs {
                project,
                outputs: vec![dir.join("bay")],
                read: Vec::new(),
                installed: vec![folder.path().join("installed")],
                words: vec!["tool 1".to_owned()],
            };
            Self(folder, inputs)
        }

        fn path(&self, name: &str) -> PathBuf {
            self.0.path().join(name)
        }

        fn output(&self) -> PathBuf {
            self.path("greet/target/hotbay/greet.wasm")
        }

        async fn holds(&self) -> bool {
            self.1.seal().await.unwrap().holds(&self.output())
        }

        /// As a build does.
        async fn build(&self) {
            let seal = self.1.seal().await.unwrap();
            self.1.keep(&seal, &self.output()).await.unwrap();
        }
    }

    #[tokio::test]
    async fn a_build_holds_until_something_of_what_it_is_made_of_is_another() {
        let mut bench = Bench::new();
        assert!(!bench.holds().await, "nothing is known of it");
        for (file, text) in [
            ("greet/app.py", "import wit_world # 2\n"),
            ("greet/parts/one.py", "2\n"),
            ("greet/parts/two.py", "new\n"),
            ("greet/vendor/dep.py", "new\n"),
            ("installed/tool.py", "longer\n"),
            ("installed/new/deep.py", "new\n"),
            ("greet/target/hotbay/greet.wasm", "somebody else's\n"),
        ] {
            bench.build().await;
            assert!(bench.holds().await, "before {file}");
            fs::create_dir_all(bench.path(file).parent().unwrap()).unwrap();
            fs::write(bench.path(file), text).unwrap();
            assert!(!bench.holds().await, "{file}");
        }
        bench.build().await;
        for file in
            ["greet/greet.toml", "greet/bay/other.toml", "greet/.app.py.swp", "greet/__pycache__/app.pyc", "greet/target/x"]
        {
            fs::create_dir_all(bench.path(file).parent().unwrap()).unwrap();
            fs::write(bench.path(file), "x").unwrap();
            assert!(bench.holds().await, "{file}");
        }
        bench.1.outputs.push(bench.path("greet"));
        bench.build().await;
        fs::write(bench.path("greet/app.py"), "import wit_world # in the bay\n").unwrap();
        assert!(!bench.holds().await, "a bay that is the folder of the service hides no source");
        fs::remove_file(bench.path("greet/parts/one.py")).unwrap();
        assert!(!bench.holds().await);
        bench.build().await;
        bench.1.words.push("another tool".to_owned());
        assert!(!bench.holds().await);
    }

    #[test]
    fn a_module_outside_of_the_sources_is_known_as_such() {
        for (path, is_among) in [
            ("app.js", true),
            ("./src/app.js", true),
            (".output/server.mjs", false),
            ("target/bundle.js", false),
            ("../shared/app.js", false),
            ("/abs/app.js", false),
        ] {
            assert_eq!(is_among_sources(Path::new(path)), is_among, "{path}");
        }
    }

    #[tokio::test]
    async fn what_was_saved_during_a_build_or_lies_elsewhere_is_built_again() {
        let bench = Bench::new();
        let seal = bench.1.seal().await.unwrap();
        fs::write(bench.path("greet/app.py"), "import wit_world # meanwhile\n").unwrap();
        bench.1.keep(&seal, &bench.output()).await.unwrap();
        assert!(!bench.holds().await);
        bench.build().await;
        assert!(bench.holds().await);
        fs::write(bench.path("greet/parts/one.py"), "import sys; sys.path.append('..')\n").unwrap();
        bench.build().await;
        assert!(!bench.holds().await, "nobody knows what it imports");
        for (depth, text, out) in [
            (1, "import a from '../a.js'", true),
            (1, "import a from './a.js'", false),
            (2, "import a from \"../a.js\"", false),
            (2, "import a from \"../../a.js\"", true),
            (1, "import a from './../a.js'", true),
        ] {
            assert_eq!(reaches_out(Path::new("x.js"), text.as_bytes(), depth), out, "{text}");
        }
    }
}
