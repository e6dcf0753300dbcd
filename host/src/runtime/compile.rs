//! Compiling in a child process of the same binary: a build that makes the compiler burn or explode burns the child.
//!
//! The child gets the wasm on stdin, writes the artifact to stdout (a file that the host opened) and its answer as the last
//! line of stderr. It needs no path, no network and no environment.

use super::{
    artifact,
    engine::{self, Flavour},
};
use crate::config::{ByteSize, CompileConfig, Span};
use bytes::Bytes;
use rustix::process::{Resource, Rlimit, setrlimit};
use serde::{Deserialize, Serialize};
use std::{
    fs::File,
    io::{self, Read, Write},
    os::{fd::AsFd, unix::process::ExitStatusExt},
    process::{ExitStatus, Stdio},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    process::Command,
    sync::Semaphore,
};

/// The hidden subcommand that makes this binary the compiling child.
pub const SUBCOMMAND: &str = "compile-child";

/// The running executable, even where its file has been replaced in the meantime.
const THIS_BINARY: &str = "/proc/self/exe";

/// Bytes of the child's stderr that are read, and characters of a reason in it.
const STDERR_MAX: u64 = 64 << 10;
const REASON_MAX: usize = 4 << 10;

const SIGKILL: i32 = rustix::process::Signal::KILL.as_raw();

/// Least priority that still gets its share: serving comes first.
const NICE: i32 = 10;

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
#[serde(rename_all = "kebab-case")]
enum Answer {
    Compiled(Flavour),
    Invalid(String),
    /// The artifact could not be written.
    Output(String),
}

/// Starts compiling children, a few at a time.
pub(crate) struct Compiler {
    config: CompileConfig,
    permits: Semaphore,
}

impl Compiler {
    pub(crate) fn new(config: CompileConfig) -> Self {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Self { config, permits: Semaphore::new(cores) }
    }

    /// Compiles `wasm` into `output`.
    pub(crate) async fn compile(&self, wasm: Bytes, output: File) -> Result<Flavour, CompileError> {
        // The semaphore is never closed; an error would only mean that nobody bounds us.
        let _permit = self.permits.acquire().await.ok();
        let mut child = Command::new(THIS_BINARY)
            .arg(SUBCOMMAND)
            .arg(self.config.memory.0.to_string())
            .arg(self.config.timeout.0.as_secs().saturating_add(1).to_string())
            .env_clear()
            .stdin(Stdio::piped())
            .stdout(output)
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        let (stdin, stderr) = (child.stdin.take(), child.stderr.take());
        let feed = async {
            if let Some(mut stdin) = stdin {
                // A child that dies early breaks the pipe; its status tells why.
                let _ = stdin.write_all(&wasm).await;
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
        let answer = said.lines().last().and_then(|line| serde_json::from_str(line).ok());
        match answer {
            Some(Answer::Compiled(flavour)) if status.success() => Ok(flavour),
            Some(Answer::Invalid(reason)) => Err(CompileError::Invalid(reason)),
            Some(Answer::Output(reason)) => Err(CompileError::Output(reason)),
            None if status.signal() == Some(SIGKILL) => Err(CompileError::Killed(status)),
            _ => Err(CompileError::Died {
                status,
                words: said.lines().rfind(|line| !line.starts_with("note: ")).unwrap_or("it said nothing").to_owned(),
                memory: self.config.memory,
            }),
        }
    }
}

/// The child's whole life: limits itself to `memory` bytes and `seconds` of computing a core, reads stdin, writes stdout, answers on stderr.
pub fn child(memory: u64, seconds: u64) -> io::Result<()> {
    confine(memory, seconds)?;
    let mut wasm = Vec::new();
    io::stdin().lock().read_to_end(&mut wasm)?;
    let answer = match compile(wasm) {
        Ok((flavour, artifact)) => {
            // Unbuffered: the artifact is one piece, and whatever the disk says is to be heard here.
            let mut stdout = File::from(io::stdout().as_fd().try_clone_to_owned()?);
            match stdout.write_all(&artifact) {
                Ok(()) => Answer::Compiled(flavour),
                Err(error) => Answer::Output(error.to_string()),
            }
        }
        Err(reason) => Answer::Invalid(reason.chars().take(REASON_MAX).collect()),
    };
    let answer = serde_json::to_string(&answer).map_err(io::Error::other)?;
    writeln!(io::stderr(), "{answer}")
}

fn confine(memory: u64, seconds: u64) -> io::Result<()> {
    let limit = |resource, value, grace: u64| {
        setrlimit(resource, Rlimit { current: Some(value), maximum: Some(value.saturating_add(grace)) })
    };
    limit(Resource::As, memory, 0)?;
    // The limit counts the time of all threads, of which there is one a core. The first signal is SIGXCPU; the SIGKILL of the
    // hard limit would look like one from outside.
    let cores = std::thread::available_parallelism().map_or(1, |cores| u64::try_from(cores.get()).unwrap_or(1));
    limit(Resource::Cpu, seconds.saturating_mul(cores), 5)?;
    limit(Resource::Core, 0, 0)?;
    // Where the kernel is out of memory the child goes before the host. Raising this is always allowed; without /proc it is not done.
    let _ = std::fs::write("/proc/self/oom_score_adj", "1000");
    // Refused where a lower priority is already in force; that is as good.
    let _ = rustix::process::nice(NICE);
    #[cfg(target_os = "linux")]
    rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL))?;
    Ok(())
}

fn compile(wasm: Vec<u8>) -> Result<(Flavour, Vec<u8>), String> {
    let binary = artifact::identify(&wasm).map_err(|unfit| unfit.to_string())?;
    let component = artifact::componentize(binary, wasm)?;
    let compile = |flavour| -> wasmtime::Result<Vec<u8>> {
        wasmtime::Engine::new(&engine::config(flavour))?.precompile_component(&component)
    };
    // Validation comes first and is quick, so a component with async features falls through to the engine that has them
    // long before anything is compiled for the one that has not.
    let first = match compile(Flavour::Sync) {
        Ok(artifact) => return Ok((Flavour::Sync, artifact)),
        Err(error) => error,
    };
    match compile(Flavour::Async) {
        Ok(artifact) => Ok((Flavour::Async, artifact)),
        Err(second) if format!("{first:#}").contains("async") => Err(format!("{second:#}")),
        Err(_) => Err(format!("{first:#}")),
    }
}
