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

/// Bytes of a line at most; a longer one is told in parts.
const LINE_MAX: u64 = 64 << 10;
/// Bytes of standard output that are kept: the last ones.
const KEPT_MAX: usize = 16 << 20;
/// Bytes that are read of it at once.
const READ: usize = 16 << 10;

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
    /// Standard output where it was kept, at least its end.
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
    // Outside of what reads: what came before the end of the patience came.
    let (mut line, mut output) = (Vec::new(), Vec::new());
    let status = {
        let mut all = pin!(future::try_join(tell(words, &mut line, &mut *sink), keep(kept, &mut output)));
        match future::select(pin!(child.wait()), &mut all).await {
            Either::Left((status, _)) => {
                let status = status?;
                // Else something that it started writes on, and ends here.
                if let Ok(read) = timeout(LAST_WORDS, all).await {
                    read?;
                    group.0 = None;
                }
                status
            }
            Either::Right((read, waiting)) => {
                let status = waiting.await?;
                read?;
                group.0 = None;
                status
            }
        }
    };
    if !line.is_empty() {
        told(&line, sink);
    }
    Ok(Ended { status, output })
}

/// Line by line; of a line that has not ended, what came is in `line`.
async fn tell(words: impl AsyncRead + Unpin, line: &mut Vec<u8>, sink: Sink<'_>) -> io::Result<()> {
    let mut words = BufReader::new(words);
    while (&mut words).take(LINE_MAX).read_until(b'\n', line).await? > 0 {
        told(line, &mut *sink);
        line.clear();
    }
    Ok(())
}

fn told(line: &[u8], sink: Sink<'_>) {
    sink(Line::Tool(String::from_utf8_lossy(line).trim_end_matches(['\r', '\n'])));
}

async fn keep(stdout: Option<impl AsyncRead + Unpin>, kept: &mut Vec<u8>) -> io::Result<()> {
    let Some(mut stdout) = stdout else { return Ok(()) };
    loop {
        kept.reserve(READ);
        if stdout.read_buf(kept).await? == 0 {
            return Ok(());
        }
        // Not at each read, or each would move all of it.
        if kept.len() > 2 * KEPT_MAX {
            kept.drain(..kept.len() - KEPT_MAX);
        }
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    async fn shell(script: &str) -> (Ended, Vec<String>) {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        let mut lines = Vec::new();
        let mut sink = |line: Line<'_>| {
            if let Line::Tool(text) = line {
                lines.push(text.to_owned());
            }
        };
        let ended = run(command, Stdout::Kept, &mut sink).await.unwrap();
        (ended, lines)
    }

    #[tokio::test]
    async fn what_a_tool_said_is_there_also_where_something_of_it_writes_on() {
        let (ended, lines) = shell("echo made; echo whole >&2; printf half >&2; sleep 1000 & exit 3").await;
        assert_eq!((ended.status.code(), ended.output.as_slice()), (Some(3), b"made\n".as_slice()));
        assert_eq!(lines, ["whole", "half"]);
    }

    #[tokio::test]
    async fn a_line_that_does_not_end_is_told_in_parts() {
        let (_, lines) = shell("head -c 200000 /dev/zero | tr '\\0' x >&2; printf '\\nnext\\n' >&2").await;
        let lengths: Vec<_> = lines.iter().map(String::len).collect();
        assert_eq!(lengths, [64 << 10, 64 << 10, 64 << 10, 200_000 - (192 << 10), 4]);
    }

    #[tokio::test]
    async fn of_much_output_the_end_is_kept() {
        let (ended, _) = shell("head -c 50000000 /dev/zero; echo made").await;
        assert!(ended.output.len() <= 2 * KEPT_MAX && ended.output.ends_with(b"made\n"), "{}", ended.output.len());
    }
}
