//! Compiling in a child process of the same binary: a build that makes the compiler burn or explode burns the child.
//!
//! Each build gets a child of its own, which gets the wasm on stdin, writes the artifact to stdout (a file that the host opened) and
//! its answer as the last line of stderr. With `--dev` one child stays for all of them (`kept.rs`).

use super::{
    compile_child::{Answer, Outcome, SUBCOMMAND},
    engine::{Backtraces, Flavour},
    kept::{Kept, Refused},
    lanes::Lanes,
};
use crate::config::{ByteSize, CompileConfig, ServiceName, Span};
use bytes::Bytes;
use std::{
    fs::File,
    io::{self, Seek},
    os::unix::process::ExitStatusExt,
    process::{ExitStatus, Stdio},
    sync::atomic::{AtomicBool, Ordering},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    process::Command,
};
use tracing::warn;

/// The running executable, even where its file has been replaced in the meantime.
const THIS_BINARY: &str = "/proc/self/exe";

/// Bytes of the child's stderr that are read.
pub(super) const STDERR_MAX: u64 = 64 << 10;

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

/// Starts compiling children, a few at a time.
pub(crate) struct Compiler {
    config: CompileConfig,
    backtraces: Backtraces,
    cores: usize,
    lanes: Lanes,
    /// The child that stays, with `--dev`.
    kept: Option<Kept>,
    /// Whether it was told what is lacking.
    told: AtomicBool,
}

impl Compiler {
    pub(crate) fn new(config: CompileConfig, backtraces: Backtraces) -> Self {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let kept = backtraces.has_lines().then(Kept::new);
        Self { config, backtraces, cores, lanes: Lanes::new(cores), kept, told: AtomicBool::new(false) }
    }

    /// Compiles a build of `service` into `output`, when it is its turn.
    pub(crate) async fn compile(&self, service: &ServiceName, wasm: &Bytes, output: &File) -> Result<Flavour, CompileError> {
        self.lanes.compile(service, || self.attempt(wasm, output)).await
    }

    /// Starts a child that has nothing to do, so that what this system lacks is told at the start of the host.
    pub(crate) async fn try_out(&self) {
        if let Some(kept) = &self.kept
            && let Ok(answer) = kept.learn(|| self.command(true), &[], self.config.timeout.0).await
        {
            return self.tell(&answer.lacking);
        }
        // An empty file is no build; what matters was told by then.
        if let Err(error @ CompileError::Host(_)) = self.run(&Bytes::new(), Stdio::null()).await {
            warn!(%error, "nothing can be compiled; builds that are in the cache serve");
        }
    }

    /// Whether a child stays, which compiles what it knows in a part of the time.
    pub(crate) fn learns(&self) -> bool {
        self.kept.is_some()
    }

    /// Lets the child that stays know a build that it did not compile.
    pub(crate) async fn learn(&self, wasm: &Bytes) {
        if let Some(kept) = &self.kept {
            // Where it does not, the next save takes longer.
            let _ = kept.learn(|| self.command(true), wasm, self.config.timeout.0).await;
        }
    }

    async fn attempt(&self, wasm: &Bytes, output: &File) -> Result<Flavour, CompileError> {
        empty(output)?;
        if let Some(kept) = &self.kept {
            match kept.compile(|| self.command(true), wasm, output, self.config.timeout.0).await {
                Ok(answer) => return self.judged(answer),
                Err(Refused::Timeout) => return Err(CompileError::Timeout(self.config.timeout)),
                // One of its own has the say, as where nobody develops.
                Err(Refused::Busy | Refused::Died) => empty(output)?,
            }
        }
        self.run(wasm, output.try_clone()?.into()).await
    }

    /// The child, for one build or to stay.
    fn command(&self, stays: bool) -> Command {
        let mut command = Command::new(THIS_BINARY);
        command
            .arg(SUBCOMMAND)
            .arg(self.config.memory.0.to_string())
            .arg(self.config.timeout.0.as_secs().saturating_add(1).to_string())
            .args(self.backtraces.has_lines().then_some("--lines"))
            .args(stays.then_some("--stay"))
            .env_clear()
            .env(THREADS, self.cores.to_string())
            .stdin(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        command
    }

    async fn run(&self, wasm: &[u8], output: Stdio) -> Result<Flavour, CompileError> {
        let mut child = self.command(false).stdout(output).spawn()?;
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
        match said.lines().last().and_then(|line| serde_json::from_str::<Answer>(line).ok()) {
            Some(answer) if status.success() || !matches!(answer.outcome, Outcome::Compiled(_)) => self.judged(answer),
            None if status.signal() == Some(SIGKILL) => Err(CompileError::Killed(status)),
            _ => Err(CompileError::Died {
                status,
                words: said.lines().rfind(|line| !line.starts_with("note: ")).unwrap_or("it said nothing").to_owned(),
                memory: self.config.memory,
            }),
        }
    }

    fn judged(&self, answer: Answer) -> Result<Flavour, CompileError> {
        self.tell(&answer.lacking);
        match answer.outcome {
            Outcome::Compiled(flavour) => Ok(flavour),
            Outcome::Invalid(reason) => Err(CompileError::Invalid(reason)),
            Outcome::Output(reason) => Err(CompileError::Output(reason)),
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

/// An attempt that was ended may have begun to write.
fn empty(mut output: &File) -> io::Result<()> {
    output.rewind()?;
    output.set_len(0)
}
