//! A guest's stdout and stderr as log lines of its service: cut into lines, bounded, and never waited for.

use bytes::Bytes;
use std::{
    collections::VecDeque,
    io,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
    task::{Context, Poll},
};
use tokio::io::AsyncWrite;
use tracing::info;
use wasmtime_wasi::{
    async_trait,
    cli::{IsTerminal, StdoutStream},
    p2::{OutputStream, Pollable, StreamResult},
};

use crate::config::ServiceName;

/// The longest line that is kept whole.
const LINE_MAX: usize = 4 << 10;
/// Lines of one request that are logged; what follows is counted.
const LINES_MAX: usize = 200;
/// Last lines that are kept for the report of a trap.
const TAIL: usize = 8;
/// Bytes that a guest may write at once.
const WRITE_MAX: usize = 64 << 10;

/// Which of the two streams.
#[derive(Debug, Clone, Copy)]
enum Source {
    Stdout,
    Stderr,
}

/// Where the output of one instance goes.
#[derive(Clone)]
pub(crate) struct GuestLog(Arc<Mutex<State>>);

struct State {
    service: ServiceName,
    request: String,
    pending: [Vec<u8>; 2],
    tail: VecDeque<String>,
    lines: usize,
}

impl GuestLog {
    pub(crate) fn new(service: ServiceName) -> Self {
        let state = State { service, request: String::new(), pending: Default::default(), tail: VecDeque::new(), lines: 0 };
        Self(Arc::new(Mutex::new(state)))
    }

    /// Lines from here on belong to this request.
    pub(crate) fn begin(&self, request: &str) {
        let mut state = self.state();
        state.request.clear();
        state.request.push_str(request);
        state.tail.clear();
        state.lines = 0;
    }

    /// Logs what has no line end yet.
    pub(crate) fn flush(&self) {
        let mut state = self.state();
        for source in [Source::Stdout, Source::Stderr] {
            let rest = std::mem::take(state.pending_mut(source));
            if !rest.is_empty() {
                state.line(source, &rest);
            }
        }
        if let Some(cut) = state.lines.checked_sub(LINES_MAX).filter(|cut| *cut > 0) {
            info!(target: "hotbay::guest", service = %state.service, request_id = state.request, cut, "more output was cut");
            state.lines = 0;
        }
    }

    /// The last lines, for the report of a trap or a reject.
    pub(crate) fn tail(&self) -> Vec<String> {
        self.flush();
        self.state().tail.iter().cloned().collect()
    }

    pub(crate) fn stdout(&self) -> Stdio {
        Stdio { log: self.clone(), source: Source::Stdout }
    }

    pub(crate) fn stderr(&self) -> Stdio {
        Stdio { log: self.clone(), source: Source::Stderr }
    }

    /// A panic while the lock was held left at worst a line in two pieces.
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self, source: Source, mut bytes: &[u8]) {
        let mut state = self.state();
        while let Some(end) = bytes.iter().position(|byte| *byte == b'\n') {
            let (line, rest) = bytes.split_at(end);
            let mut whole = std::mem::take(state.pending_mut(source));
            whole.extend_from_slice(line);
            state.line(source, &whole);
            bytes = rest.split_first().map_or(&[][..], |(_newline, rest)| rest);
        }
        state.pending_mut(source).extend_from_slice(bytes);
        if state.pending_mut(source).len() > LINE_MAX {
            let whole = std::mem::take(state.pending_mut(source));
            state.line(source, &whole);
        }
    }
}

/// Where the output of the instance that answers a call can be read when the call is over, for whoever asks for that.
#[derive(Clone, Default)]
pub struct Output(Option<Arc<OnceLock<GuestLog>>>);

impl Output {
    /// The output is asked for.
    pub(super) fn wanted() -> Self {
        Self(Some(Arc::default()))
    }

    /// The call is this instance's now.
    pub(super) fn is_of(&self, log: &GuestLog) {
        if let Some(place) = &self.0 {
            // A call goes to one instance.
            let _ = place.set(log.clone());
        }
    }

    /// The last lines, of a guest that is still at work too.
    pub(super) fn tail(&self) -> Vec<String> {
        self.0.as_ref().and_then(|place| place.get()).map(GuestLog::tail).unwrap_or_default()
    }
}

impl std::fmt::Debug for Output {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Output").field(&self.0.is_some()).finish()
    }
}

impl State {
    fn pending_mut(&mut self, source: Source) -> &mut Vec<u8> {
        let [stdout, stderr] = &mut self.pending;
        match source {
            Source::Stdout => stdout,
            Source::Stderr => stderr,
        }
    }

    fn line(&mut self, source: Source, line: &[u8]) {
        self.lines += 1;
        let line = line.get(..LINE_MAX).unwrap_or(line);
        let text = String::from_utf8_lossy(line);
        let text = text.trim_end();
        if self.lines <= LINES_MAX {
            let stream = match source {
                Source::Stdout => "stdout",
                Source::Stderr => "stderr",
            };
            info!(target: "hotbay::guest", service = %self.service, request_id = self.request, stream, "{text}");
        }
        if self.tail.len() == TAIL {
            self.tail.pop_front();
        }
        self.tail.push_back(text.to_owned());
    }
}

/// One stream of a guest.
pub(crate) struct Stdio {
    log: GuestLog,
    source: Source,
}

impl IsTerminal for Stdio {
    fn is_terminal(&self) -> bool {
        false
    }
}

impl StdoutStream for Stdio {
    fn async_stream(&self) -> Box<dyn AsyncWrite + Send + Sync> {
        Box::new(Self { log: self.log.clone(), source: self.source })
    }

    fn p2_stream(&self) -> Box<dyn OutputStream> {
        Box::new(Self { log: self.log.clone(), source: self.source })
    }
}

#[async_trait]
impl Pollable for Stdio {
    async fn ready(&mut self) {}
}

impl OutputStream for Stdio {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        self.log.write(self.source, &bytes);
        Ok(())
    }

    fn flush(&mut self) -> StreamResult<()> {
        Ok(())
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        Ok(WRITE_MAX)
    }
}

impl AsyncWrite for Stdio {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.log.write(self.source, bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
