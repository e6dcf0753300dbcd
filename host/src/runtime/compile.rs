//! Compiling in a child process of the same binary: a build that makes the compiler burn or explode burns the child.
//!
//! The child gets the wasm on stdin, writes the artifact to stdout (a file that the host opened) and its answer as the last
//! line of stderr. It needs no path and no network, and shuts itself off from them before it reads what may be hostile.

use super::{
    artifact, confine,
    engine::{self, Backtraces, Flavour},
    lanes::Lanes,
};
use crate::config::{ByteSize, CompileConfig, ServiceName, Span};
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use std::{
    fs::File,
    io::{self, Read, Seek, Write},
    os::{fd::AsFd, unix::process::ExitStatusExt},
    process::{ExitStatus, Stdio},
    sync::atomic::{AtomicBool, Ordering},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    process::Command,
};
use tracing::warn;

/// The hidden subcommand that makes this binary the compiling child.
pub const SUBCOMMAND: &str = "compile-child";

/// The running executable, even where its file has been replaced in the meantime.
const THIS_BINARY: &str = "/proc/self/exe";

/// Bytes of the child's stderr that are read, and characters of a reason in it.
const STDERR_MAX: u64 = 64 << 10;
const REASON_MAX: usize = 4 << 10;

/// How many threads compile, for the library that keeps them: the child itself may not ask the system any more.
const THREADS: &str = "RAYON_NUM_THREADS";

const SIGKILL: i32 = rustix::process::Signal::KILL.as_raw();

/// Why there is no artifact.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CompileError {
    /// The build is at fault.
    #[error("{0}")]
    Invalid(String),
    /// The build took more time than it may.
    #[error("compiling it took more than {0} (compile.timeout)")]
    Timeout(Span),
    /// The child died, as it does where it may not have more memory.
    #[error("the compiling process ended with {status}: {words}; it may use {memory} of memory (compile.memory)")]
    Died {
        /// Its exit status.
        status: ExitStatus,
        /// The last thing it said.
        words: String,
        /// Its limit.
        memory: ByteSize,
    },
    /// Somebody else ended the child.
    #[error("the compiling process was killed ({0}) from outside")]
    Killed(ExitStatus),
    /// The child could not write the artifact.
    #[error("the artifact could not be written: {0}")]
    Output(String),
    /// The artifact is there and does not load.
    #[error("the compiled code does not load: {0}")]
    Map(String),
    /// The host could not run the child.
    #[error("the compiling process could not be run: {0}")]
    Host(#[from] io::Error),
}

/// What the child answers.
#[derive(Serialize, Deserialize)]
struct Answer {
    outcome: Outcome,
    /// What this system does not do to shut the child off.
    lacking: Vec<String>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Outcome {
    Compiled(Flavour),
    Invalid(String),
    /// The artifact could not be written.
    Output(String),
}

/// Starts compiling children, a few at a time.
pub(crate) struct Compiler {
    config: CompileConfig,
    backtraces: Backtraces,
    cores: usize,
    lanes: Lanes,
    /// Whether it was told what is lacking.
    told: AtomicBool,
}

impl Compiler {
    pub(crate) fn new(config: CompileConfig, backtraces: Backtraces) -> Self {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Self { config, backtraces, cores, lanes: Lanes::new(cores), told: AtomicBool::new(false) }
    }

    /// Compiles a build of `service` into `output`, when it is its turn.
    pub(crate) async fn compile(&self, service: &ServiceName, wasm: &Bytes, output: &File) -> Result<Flavour, CompileError> {
        self.lanes.compile(service, || self.attempt(wasm, output)).await
    }

    /// Starts a child that has nothing to do, so that what this system lacks is told at the start of the host.
    pub(crate) async fn try_out(&self) {
        // An empty file is no build; what matters was told by then.
        if let Err(error @ CompileError::Host(_)) = self.run(&Bytes::new(), Stdio::null()).await {
            warn!(%error, "nothing can be compiled; builds that are in the cache serve");
        }
    }

    async fn attempt(&self, wasm: &Bytes, mut output: &File) -> Result<Flavour, CompileError> {
        // An attempt that was ended may have begun to write.
        output.rewind()?;
        output.set_len(0)?;
        self.run(wasm, output.try_clone()?.into()).await
    }

    async fn run(&self, wasm: &[u8], output: Stdio) -> Result<Flavour, CompileError> {
        let mut child = Command::new(THIS_BINARY)
            .arg(SUBCOMMAND)
            .arg(self.config.memory.0.to_string())
            .arg(self.config.timeout.0.as_secs().saturating_add(1).to_string())
            .args(self.backtraces.has_lines().then_some("--lines"))
            .env_clear()
            .env(THREADS, self.cores.to_string())
            .stdin(Stdio::piped())
            .stdout(output)
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        let (stdin, stderr) = (child.stdin.take(), child.stderr.take());
        let feed = async {
            if let Some(mut stdin) = stdin {
                // A child that dies early breaks the pipe; its status tells why.
                let _ = stdin.write_all(wasm).await;
            }
        };
        let listen = async {
            let mut said = Vec::new();
            if let Some(stderr) = stderr {
                let _ = stderr.take(STDERR_MAX).read_to_end(&mut said).await;
            }
            said
        };
        let run = async { tokio::join!(feed, listen, child.wait()) };
        let Ok(((), said, status)) = tokio::time::timeout(self.config.timeout.0, run).await else {
            return Err(CompileError::Timeout(self.config.timeout));
        };
        let (said, status) = (String::from_utf8_lossy(&said), status?);
        let answer = said.lines().last().and_then(|line| serde_json::from_str::<Answer>(line).ok());
        if let Some(answer) = &answer {
            self.tell(&answer.lacking);
        }
        match answer.map(|answer| answer.outcome) {
            Some(Outcome::Compiled(flavour)) if status.success() => Ok(flavour),
            Some(Outcome::Invalid(reason)) => Err(CompileError::Invalid(reason)),
            Some(Outcome::Output(reason)) => Err(CompileError::Output(reason)),
            None if status.signal() == Some(SIGKILL) => Err(CompileError::Killed(status)),
            _ => Err(CompileError::Died {
                status,
                words: said.lines().rfind(|line| !line.starts_with("note: ")).unwrap_or("it said nothing").to_owned(),
                memory: self.config.memory,
            }),
        }
    }

    /// Tells once in a host's life what the system lacks.
    fn tell(&self, lacking: &[String]) {
        if !lacking.is_empty() && !self.told.swap(true, Ordering::Relaxed) {
            warn!(
                lacking = lacking.join("; "),
                "the compiling process is not wholly shut off from files, networks and processes on this system; its limits hold. \
                 See docs/security.md"
            );
        }
    }
}

/// The child's whole life: limits itself to `memory` bytes and `seconds` of computing a core, shuts itself off, reads stdin, writes
/// stdout, answers on stderr.
pub fn child(memory: u64, seconds: u64, backtraces: Backtraces) -> io::Result<()> {
    confine::bound(memory, seconds)?;
    #[allow(clippy::let_unit_value, reason = "only tests count")]
    let inherited = inherited();
    // Unbuffered: the artifact is one piece, and whatever the disk says is to be heard here. Before no descriptor can be made.
    let mut stdout = File::from(io::stdout().as_fd().try_clone_to_owned()?);
    let lacking = confine::shut_off();
    let mut wasm = Vec::new();
    io::stdin().lock().read_to_end(&mut wasm)?;
    let outcome = match attempts(&wasm, inherited).map_or_else(|| compile(wasm, backtraces), Err) {
        Ok((flavour, artifact)) => match stdout.write_all(&artifact) {
            Ok(()) => Outcome::Compiled(flavour),
            Err(error) => Outcome::Output(error.to_string()),
        },
        Err(reason) => Outcome::Invalid(reason.chars().take(REASON_MAX).collect()),
    };
    let answer = serde_json::to_string(&Answer { outcome, lacking }).map_err(io::Error::other)?;
    writeln!(io::stderr(), "{answer}")
}

/// What came of what the child must not be able to do, where a build of a test asks for it.
#[cfg(feature = "fault-points")]
fn attempts(wasm: &[u8], inherited: usize) -> Option<String> {
    let asks = |mark: &[u8]| wasm.windows(mark.len()).any(|window| window == mark);
    asks(b"hotbay:attempts").then(|| {
        let tried = confine::attempts::all().into_iter().map(|(what, error)| format!("{what}={error}"));
        format!("attempts: inherited={inherited} {}", tried.collect::<Vec<_>>().join(" "))
    })
}

#[cfg(feature = "fault-points")]
fn inherited() -> usize {
    confine::attempts::open_files()
}

#[cfg(not(feature = "fault-points"))]
fn inherited() {}

#[cfg(not(feature = "fault-points"))]
fn attempts(_wasm: &[u8], _inherited: ()) -> Option<String> {
    None
}

fn compile(wasm: Vec<u8>, backtraces: Backtraces) -> Result<(Flavour, Vec<u8>), String> {
    let binary = artifact::identify(&wasm).map_err(|unfit| unfit.to_string())?;
    let component = artifact::componentize(binary, wasm)?;
    let compile = |flavour| -> wasmtime::Result<Vec<u8>> {
        wasmtime::Engine::new(&engine::config(flavour, backtraces))?.precompile_component(&component)
    };
    let fits = |flavour, artifact: Vec<u8>| match u64::try_from(artifact.len()) {
        Ok(len) if len <= confine::ARTIFACT_MAX => Ok((flavour, artifact)),
        _ => Err(format!("its machine code has {} bytes, more than the {} that it may", artifact.len(), confine::ARTIFACT_MAX)),
    };
    // Validation comes first and is quick, so a component with async features falls through to the engine that has them
    // long before anything is compiled for the one that has not.
    let first = match compile(Flavour::Sync) {
        Ok(artifact) => return fits(Flavour::Sync, artifact),
        Err(error) => error,
    };
    match compile(Flavour::Async) {
        Ok(artifact) => fits(Flavour::Async, artifact),
        Err(second) if format!("{first:#}").contains("async") => Err(format!("{second:#}")),
        Err(_) => Err(format!("{first:#}")),
    }
}
