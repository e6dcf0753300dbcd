//! A build: the tools are run, and what they made is looked at.

use super::{Language, Need, Project, c, child, child::Stdout, javascript, project::Way, python, rust, toolchain::Toolchain};
use hotbay::{
    config::ServiceName,
    deploy::{UNREADABLE_REMEDY, read_build},
};
use std::{
    collections::BTreeSet,
    fmt::Write as _,
    fs, io,
    path::{Path, PathBuf},
    process::Command,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};
use tokio::sync::OnceCell;

/// What is wanted of a build.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    /// There soon after a save, with the lines of the sources in it for traps.
    Quick,
    /// Fast and small.
    Release,
}

/// What is told while a build runs, without the end of the line.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Line<'a> {
    /// Ours: something that takes long begins.
    Note(&'a str),
    /// A tool's own words, with colours where they were asked for.
    Tool(&'a str),
}

/// Where lines go.
pub(crate) type Sink<'a> = &'a mut (dyn FnMut(Line<'_>) + Send);

/// Builds services. What is the same for all builds of a process is found out once.
pub(crate) struct Workshop {
    pub(super) mode: Mode,
    pub(super) colour: bool,
    /// For each target of Rust that was asked for.
    pub(super) rust: [OnceCell<Toolchain>; 2],
    /// Languages that lack nothing.
    whole: Mutex<BTreeSet<Language>>,
}

/// A build that was made and that a host can read.
#[derive(Debug, Clone)]
pub(crate) struct Built {
    /// The service.
    pub(crate) name: ServiceName,
    /// The file that was made. It stays where its tool put it.
    pub(crate) wasm: PathBuf,
    /// Its settings among the sources.
    pub(crate) settings: Option<PathBuf>,
    /// Bytes of the file.
    pub(crate) size: u64,
    /// The first 12 hex digits of its digest, as a host shows them.
    pub(crate) digest: String,
    /// From the order to here.
    pub(crate) took: Duration,
    /// How much of it was the look at what was made.
    pub(crate) checked: Duration,
}

/// Why there is no build.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BuildFailure {
    /// The tools are not here.
    #[error("{}", missing(*language, needs))]
    Missing { language: Language, needs: Vec<Need> },
    /// The tool found fault with the sources; its words were told.
    #[error("{tool} ended with {status}")]
    Failed { tool: String, status: String },
    /// The tool ended well and left nothing.
    #[error("{tool} made no {file}; {remedy}")]
    NoOutput { tool: String, file: String, remedy: &'static str },
    /// The sources cannot be built as they are.
    #[error("{0}")]
    Sources(String),
    /// What was made is nothing that a host could serve.
    #[error("{file}: {reason}; {remedy}")]
    Unfit { file: String, reason: String, remedy: String },
    /// The machine refuses.
    #[error("{what}: {error}")]
    Io { what: String, error: io::Error },
}

impl BuildFailure {
    /// With what was tried.
    pub(super) fn io(what: impl ToString) -> impl FnOnce(io::Error) -> Self {
        move |error| Self::Io { what: what.to_string(), error }
    }
}

impl Workshop {
    /// For builds in `mode`; with `colour`, tools are asked for it.
    pub(crate) fn new(mode: Mode, colour: bool) -> Self {
        Self { mode, colour, rust: [OnceCell::new(), OnceCell::new()], whole: Mutex::default() }
    }

    /// Builds the service, tells `sink` what tools say while they run, and looks at what was made. Dropping the future ends all
    /// processes of it; the next build begins where it stopped.
    ///
    /// # Errors
    /// Why there is no build; a compiler's words went to `sink`.
    pub(crate) async fn build(&self, project: &Project, sink: Sink<'_>) -> Result<Built, BuildFailure> {
        let start = Instant::now();
        let wasm = match project.way() {
            Way::Command { command, output } => self.run_own(project, command, output, sink).await?,
            Way::Language(Language::Rust) => rust::build(self, project, sink).await?,
            Way::Language(Language::Python) => python::build(self, project, sink).await?,
            Way::Language(Language::JavaScript) => javascript::build(self, project, sink).await?,
            Way::Language(Language::C) => c::build(self, project, sink).await?,
        };
        let (name, settings) = (project.name().clone(), project.settings());
        let read = tokio::task::spawn_blocking(move || looked_at(name, wasm, settings, start)).await;
        read.map_err(|error| BuildFailure::Io { what: "the build was not read".to_owned(), error: error.into() })?
    }

    /// Runs `tool`, whose words are told as they come.
    ///
    /// # Errors
    /// Where it cannot be started or does not end well. Where `language` lacks something, that is why.
    pub(super) async fn run(
        &self,
        (tool, command): (&str, Command),
        stdout: Stdout,
        sink: Sink<'_>,
        language: Option<Language>,
    ) -> Result<Vec<u8>, BuildFailure> {
        let ended = match (child::run(command, stdout, sink).await, language) {
            (Ok(ended), _) => ended,
            (Err(error), Some(language)) if error.kind() == io::ErrorKind::NotFound => return Err(lacking(language).await),
            (Err(error), _) => return Err(BuildFailure::io(format!("{tool} does not start"))(error)),
        };
        if !ended.status.success() {
            if let Some(language) = language {
                self.look(language).await?;
            }
            return Err(BuildFailure::Failed { tool: tool.to_owned(), status: ended.status.to_string() });
        }
        Ok(ended.output)
    }

    /// Whether a tool failed because it is too old, or misses another. Not at each error in the sources: once it does not.
    async fn look(&self, language: Language) -> Result<(), BuildFailure> {
        // Nothing that can panic runs under the lock.
        let whole = || self.whole.lock().unwrap_or_else(PoisonError::into_inner);
        let is_whole = whole().contains(&language);
        if !is_whole {
            lacking_any(language).await?;
            whole().insert(language);
        }
        Ok(())
    }

    async fn run_own(&self, project: &Project, line: &str, output: &Path, sink: Sink<'_>) -> Result<PathBuf, BuildFailure> {
        let mut command = Command::new("sh");
        command.args(["-c", line]).current_dir(project.dir());
        self.run((line, command), Stdout::Told, sink, None).await?;
        if !output.is_file() {
            let (tool, file) = (line.to_owned(), output.display().to_string());
            return Err(BuildFailure::NoOutput { tool, file, remedy: "mend `command` or `output` in hotbay-build.toml" });
        }
        Ok(output.to_owned())
    }
}

/// What the language's tools lack on this machine. Runs them for their versions.
pub(super) async fn lacking(language: Language) -> BuildFailure {
    BuildFailure::Missing { language, needs: lacked(language).await }
}

/// The same where they lack something.
pub(super) async fn lacking_any(language: Language) -> Result<(), BuildFailure> {
    let needs = lacked(language).await;
    if needs.is_empty() { Ok(()) } else { Err(BuildFailure::Missing { language, needs }) }
}

/// Off the threads that serve, where a host runs beside.
async fn lacked(language: Language) -> Vec<Need> {
    let needs = tokio::task::spawn_blocking(move || language.needs()).await.unwrap_or_default();
    needs.into_iter().filter(|need| need.found.is_none()).collect()
}

fn missing(language: Language, needs: &[Need]) -> String {
    let mut text = format!("this machine cannot build {language}");
    for need in needs {
        // Writing to a String does not fail.
        let _ = write!(text, "\n  {} is missing; get it: {}", need.what, need.remedy);
    }
    let _ = write!(text, "\n`hotbay doctor --lang {}` looks again", language.word());
    text
}

/// Where what is made of sources in other languages than Rust goes, beside them.
pub(super) fn output(project: &Project) -> Result<PathBuf, BuildFailure> {
    let folder = project.dir().join("target").join("hotbay");
    fs::create_dir_all(&folder).map_err(BuildFailure::io(folder.display()))?;
    Ok(folder.join(format!("{}.wasm", project.name())))
}

/// A folder for what a tool writes on its way to `output`, on the same disk; gone with this value, whatever has become of the tool.
pub(super) fn scratch(output: &Path) -> Result<tempfile::TempDir, BuildFailure> {
    let folder = output.parent().unwrap_or(Path::new(""));
    tempfile::Builder::new().prefix(".draft-").tempdir_in(folder).map_err(BuildFailure::io(folder.display()))
}

/// A look that costs little: whether a host could read it at all. What it imports is looked at when it is loaded.
fn looked_at(name: ServiceName, wasm: PathBuf, settings: Option<PathBuf>, start: Instant) -> Result<Built, BuildFailure> {
    let made = Instant::now();
    let unfit = |reason, remedy| BuildFailure::Unfit { file: wasm.display().to_string(), reason, remedy };
    let (build, _) = read_build(&wasm).map_err(|error| unfit(error.to_string(), UNREADABLE_REMEDY.to_owned()))?;
    build.binary().map_err(|fault| unfit(fault.to_string(), fault.remedy()))?;
    let (size, digest) = (u64::try_from(build.size()).unwrap_or(u64::MAX), build.digest().short().to_string());
    Ok(Built { name, wasm, settings, size, digest, took: start.elapsed(), checked: made.elapsed() })
}
