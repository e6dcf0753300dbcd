//! The compiling child that stays, with `--dev`: it is there when a build comes, and it knows the functions of the builds before.
//!
//! It is shut off as every child is. What a build does to it others may feel, which is why only developers have it: it ends after a
//! build that failed by its time or its memory, and after [`BUILDS`] of them, and the next one begins anew.

use super::{
    compile::STDERR_MAX,
    compile_child::{Answer, Outcome},
    confine::ARTIFACT_MAX,
};
use std::{
    fs::File,
    io::{self, Write},
    time::Duration,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, BufReader},
    process::{Child, ChildStdin, ChildStdout, Command},
    sync::Mutex,
};
use tracing::{debug, warn};

/// Builds of one child, so that what is left behind by each comes to an end. Its computing time is bounded by as much as all of them
/// may take; that of one build is bounded by the host's clock.
pub(super) const BUILDS: u32 = 256;

/// How long a build waits for the one before; then a child of its own is quicker, or at least in nobody's way.
const BUSY: Duration = Duration::from_millis(250);

/// Bytes that are read at once.
const BUFFER: usize = 256 << 10;

/// Why the child did not answer.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Refused {
    /// It has another build.
    Busy,
    /// It took longer than it may, and was ended.
    Timeout,
    /// It could not be started, or it died.
    Died,
}

/// The place of the child.
pub(super) struct Kept(Mutex<Option<Process>>);

struct Process {
    /// Ended when it is dropped.
    _child: Child,
    to: ChildStdin,
    from: BufReader<ChildStdout>,
    builds: u32,
}

impl Kept {
    /// No child yet.
    pub(super) fn new() -> Self {
        Self(Mutex::new(None))
    }

    /// Compiles `wasm` into `output`.
    pub(super) async fn compile(
        &self,
        command: impl FnOnce() -> Command,
        wasm: &[u8],
        output: &File,
        timeout: Duration,
    ) -> Result<Answer, Refused> {
        let Ok(mut place) = tokio::time::timeout(BUSY, self.0.lock()).await else { return Err(Refused::Busy) };
        Self::build(&mut place, command, wasm, Some(output), timeout).await
    }

    /// Compiles `wasm` for what the child remembers of it and for what it answers.
    pub(super) async fn learn(
        &self,
        command: impl FnOnce() -> Command,
        wasm: &[u8],
        timeout: Duration,
    ) -> Result<Answer, Refused> {
        Self::build(&mut *self.0.lock().await, command, wasm, None, timeout).await
    }

    async fn build(
        place: &mut Option<Process>,
        command: impl FnOnce() -> Command,
        wasm: &[u8],
        output: Option<&File>,
        timeout: Duration,
    ) -> Result<Answer, Refused> {
        // Taken out: a build that nobody waits for any more ends the child, since nobody would read its answer.
        let started = place.take().map_or_else(|| Process::start(command()), Ok);
        let mut process = started.map_err(|error| died(&error))?;
        match tokio::time::timeout(timeout, process.build(wasm, output)).await {
            Err(_) => Err(Refused::Timeout),
            Ok(Err(error)) => Err(died(&error)),
            Ok(Ok(answer)) => {
                if process.builds < BUILDS {
                    *place = Some(process);
                }
                Ok(answer)
            }
        }
    }
}

fn died(error: &io::Error) -> Refused {
    warn!(%error, "the compiling process that stays has ended; this build gets one of its own");
    Refused::Died
}

impl Process {
    fn start(mut command: Command) -> io::Result<Self> {
        // Nobody reads what it says there: its end says as much, and the child that compiles the build again tells more.
        let mut child = command.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::null()).spawn()?;
        let missing = || io::Error::other("it has no pipes");
        let (to, from) = (child.stdin.take().ok_or_else(missing)?, child.stdout.take().ok_or_else(missing)?);
        debug!(process = child.id(), "a compiling process that stays has started");
        Ok(Self { _child: child, to, from: BufReader::with_capacity(BUFFER, from), builds: 0 })
    }

    async fn build(&mut self, wasm: &[u8], output: Option<&File>) -> io::Result<Answer> {
        self.builds += 1;
        // It reads all before it answers.
        self.to.write_u64_le(u64::try_from(wasm.len()).map_err(io::Error::other)?).await?;
        self.to.write_all(wasm).await?;
        let length = u64::from(self.from.read_u32_le().await?);
        let said = self.read(length, STDERR_MAX).await?;
        let mut answer: Answer = serde_json::from_slice(&said).map_err(io::Error::other)?;
        let length = self.from.read_u64_le().await?;
        let artifact = self.read(length, ARTIFACT_MAX).await?;
        if let Some(mut output) = output.map(File::try_clone).transpose()? {
            let written = tokio::task::spawn_blocking(move || output.write_all(&artifact)).await;
            if let Err(error) = written.map_err(io::Error::other).flatten() {
                answer.outcome = Outcome::Output(error.to_string());
            }
        }
        Ok(answer)
    }

    async fn read(&mut self, length: u64, most: u64) -> io::Result<Vec<u8>> {
        if length > most {
            return Err(io::Error::other(format!("it answers with {length} bytes, of which {most} are allowed")));
        }
        let mut read = Vec::with_capacity(usize::try_from(length).map_err(io::Error::other)?);
        (&mut self.from).take(length).read_to_end(&mut read).await?;
        if u64::try_from(read.len()).is_ok_and(|read| read == length) {
            Ok(read)
        } else {
            Err(io::ErrorKind::UnexpectedEof.into())
        }
    }
}
