//! A tool's process: in a group of its own, so that all that it starts ends with it.

use super::build::{Line, Sink};
use futures::future::{self, Either};
use rustix::process::{Pid, Signal, kill_process_group};
use std::{
    io,
    os::{fd::OwnedFd, unix::process::CommandExt},
    pin::pin,
    process::{Command, ExitStatus, Stdio},
    time::Duration,
};
use tokio::{
    io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, BufReader},
    net::unix::pipe::Receiver,
    time::timeout,
};

/// How long what a tool left running may hold on to its output.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// What becomes of standard output; errors are told line by line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stdout {
    /// Told with the errors, in the order in which they were written.
    Told,
    /// Kept for whoever asked.
    Kept,
}

/// How a tool ended.
pub(super) struct Ended {
    pub(super) status: ExitStatus,
    /// Standard output where it was kept.
    pub(super) output: Vec<u8>,
}

/// Runs a tool to its end. Whoever drops this future ends the tool and all that it has started.
///
/// # Errors
/// Where it cannot be started; [`io::ErrorKind::NotFound`] where there is no such program.
pub(super) async fn run(mut command: Command, stdout: Stdout, sink: Sink<'_>) -> io::Result<Ended> {
    let (words, end) = io::pipe()?;
    let words = Receiver::from_owned_fd(OwnedFd::from(words))?;
    match stdout {
        Stdout::Told => command.stdout(end.try_clone()?),
        Stdout::Kept => command.stdout(Stdio::piped()),
    };
    command.stdin(Stdio::null()).stderr(end).process_group(0);
    let mut command = tokio::process::Command::from(command);
    let mut child = command.spawn()?;
    // Its ends of the pipes, or they would never be read to the end.
    drop(command);
    let mut group = Group::of(&child);
    let kept = child.stdout.take();
    let mut all = pin!(future::try_join(tell(words, sink), keep(kept)));
    let ended = match future::select(pin!(child.wait()), &mut all).await {
        Either::Left((status, _)) => Either::Left(status?),
        Either::Right((read, waiting)) => Either::Right((waiting.await?, read?.1)),
    };
    let (status, output) = match ended {
        Either::Right(both) => both,
        Either::Left(status) => match timeout(LAST_WORDS, all).await {
            Ok(read) => (status, read?.1),
            // Something that it started writes on, and ends here.
            Err(_) => return Ok(Ended { status, output: Vec::new() }),
        },
    };
    group.0 = None;
    Ok(Ended { status, output })
}

async fn tell(words: impl AsyncRead + Unpin, sink: Sink<'_>) -> io::Result<()> {
    let mut lines = BufReader::new(words).split(b'\n');
    while let Some(line) = lines.next_segment().await? {
        sink(Line::Tool(String::from_utf8_lossy(&line).trim_end_matches('\r')));
    }
    Ok(())
}

async fn keep(stdout: Option<impl AsyncRead + Unpin>) -> io::Result<Vec<u8>> {
    let mut kept = Vec::new();
    if let Some(mut stdout) = stdout {
        stdout.read_to_end(&mut kept).await?;
    }
    Ok(kept)
}

/// The processes of a tool, which end when this is dropped.
struct Group(Option<Pid>);

impl Group {
    fn of(child: &tokio::process::Child) -> Self {
        Self(child.id().and_then(|id| Pid::from_raw(i32::try_from(id).ok()?)))
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(group) = self.0 {
            // Gone already is what was wanted.
            let _ = kill_process_group(group, Signal::KILL);
        }
    }
}
