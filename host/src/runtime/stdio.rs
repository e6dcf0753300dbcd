//! What a guest writes to stdout, to stderr and by `wasi:logging` as log lines of its service: bounded, and never waited for.

use bytes::Bytes;
use std::{
    borrow::Cow,
    collections::VecDeque,
    io,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
    task::{Context, Poll},
    time::SystemTime,
};
use tokio::io::AsyncWrite;
use tracing::{Level, event, event_enabled, info};
use wasmtime_wasi::{
    async_trait,
    cli::{IsTerminal, StdoutStream},
    p2::{OutputStream, Pollable, StreamResult},
};

use super::log_share::LogShare;
use crate::telemetry::{GUEST_TARGET as TARGET, GuestLevel, GuestLine, GuestLines, GuestStream, Renewal, RevisionMetrics};

/// The longest line that is kept whole.
const LINE_MAX: usize = 4 << 10;
/// Bytes of a line's context that are kept.
const CONTEXT_MAX: usize = 256;
/// Lines of one request that are logged; what follows is counted.
const LINES_MAX: usize = 200;
/// Last lines that are kept for the report of a trap.
const TAIL: usize = 16;
/// Bytes that a guest may write at once.
const WRITE_MAX: usize = 64 << 10;

/// Which of the two streams.
#[derive(Debug, Clone, Copy)]
enum Source {
    Stdout,
    Stderr,
}

/// Where the lines of a revision's guests go; the same for all of its instances.
pub(crate) struct GuestSink {
    pub(crate) metrics: Arc<RevisionMetrics>,
    pub(crate) lines: GuestLines,
    /// That of the service.
    pub(super) share: Arc<LogShare>,
}

/// Where the output of one instance goes.
#[derive(Clone)]
pub(crate) struct GuestLog(Arc<Mutex<State>>);

struct State {
    sink: Arc<GuestSink>,
    request: String,
    pending: [Vec<u8>; 2],
    tail: VecDeque<String>,
    told: usize,
    cut: u64,
}

impl GuestLog {
    pub(crate) fn new(sink: Arc<GuestSink>) -> Self {
        let pending = Default::default();
        Self(Arc::new(Mutex::new(State { sink, request: String::new(), pending, tail: VecDeque::new(), told: 0, cut: 0 })))
    }

    /// Lines from here on belong to this request.
    pub(crate) fn begin(&self, request: &str) {
        let mut state = self.state();
        state.finish();
        state.request.clear();
        state.request.push_str(request);
        state.tail.clear();
        state.told = 0;
    }

    /// Logs what has no line end yet.
    pub(crate) fn flush(&self) {
        self.state().finish();
    }

    /// The last lines, for the report of a trap or a reject.
    pub(crate) fn tail(&self) -> Vec<String> {
        self.flush();
        self.state().tail.iter().cloned().collect()
    }

    /// Counts that the instance ended before its time, and why.
    pub(crate) fn renewed(&self, reason: Renewal) {
        self.state().sink.metrics.service().renewed(reason);
    }

    pub(crate) fn stdout(&self) -> Stdio {
        Stdio { log: self.clone(), source: Source::Stdout }
    }

    pub(crate) fn stderr(&self) -> Stdio {
        Stdio { log: self.clone(), source: Source::Stderr }
    }

    /// A message of `wasi:logging`: a record for each of its lines, so that none can pass for a line of the host.
    pub(crate) fn message(&self, level: GuestLevel, context: &str, message: &str) {
        let context = String::from_utf8_lossy(start(context.as_bytes(), CONTEXT_MAX));
        let mut state = self.state();
        let mut lines = message.trim_end().split('\n');
        for line in lines.by_ref().take(LINES_MAX) {
            state.line(GuestStream::Logging, level, &context, line.as_bytes());
        }
        let rest = u64::try_from(lines.count()).unwrap_or(u64::MAX);
        state.cut(rest);
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
            state.written(source, &whole);
            bytes = rest.split_first().map_or(&[][..], |(_newline, rest)| rest);
        }
        state.pending_mut(source).extend_from_slice(bytes);
        if state.pending_mut(source).len() > LINE_MAX {
            let whole = std::mem::take(state.pending_mut(source));
            state.written(source, &whole);
        }
    }
}

/// Where the output of the instance that answers a call can be read when the call is over, for whoever asks for that.
#[derive(Clone, Default)]
pub struct Output(Option<Arc<OnceLock<GuestLog>>>);

impl Output {
    /// The output is asked for.
    pub(crate) fn wanted() -> Self {
        Self(Some(Arc::default()))
    }

    /// The call is this instance's now.
    pub(super) fn is_of(&self, log: &GuestLog) {
        if let Some(place) = &self.0 {
            // A call goes to one instance.
            let _ = place.set(log.clone());
        }
    }

    /// The last lines that the guest wrote for this request; its instance may work for another one by now.
    pub(crate) fn of_request(&self, request: &str) -> Vec<String> {
        let log = self.0.as_ref().and_then(|place| place.get());
        log.filter(|log| log.state().request == request).map(GuestLog::tail).unwrap_or_default()
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

    /// Tells what has no line end yet, and how much was cut.
    fn finish(&mut self) {
        for source in [Source::Stdout, Source::Stderr] {
            let rest = std::mem::take(self.pending_mut(source));
            if !rest.is_empty() {
                self.written(source, &rest);
            }
        }
        let cut = std::mem::take(&mut self.cut);
        if cut > 0 {
            let (metrics, request_id) = (&self.sink.metrics, self.request.as_str());
            let (service, revision) = (metrics.service().name(), metrics.revision());
            info!(target: TARGET, service, revision, request_id, cut, "more output was cut");
        }
    }

    fn written(&mut self, source: Source, line: &[u8]) {
        let stream = match source {
            Source::Stdout => GuestStream::Stdout,
            Source::Stderr => GuestStream::Stderr,
        };
        self.line(stream, GuestLevel::Info, "", line);
    }

    fn line(&mut self, stream: GuestStream, level: GuestLevel, context: &str, line: &[u8]) {
        let text = String::from_utf8_lossy(start(line, LINE_MAX));
        let text = printable(text.trim_end());
        let text = text.as_ref();
        self.sink.metrics.service().line();
        // What no filter lets through and nobody follows uses nothing up of what may be told.
        if is_logged(level) || self.sink.lines.is_followed() {
            if self.told < LINES_MAX && self.sink.share.take(text.len()) {
                self.told += 1;
                self.tell(stream, level, context, text);
            } else {
                self.cut(1);
            }
        }
        if self.tail.len() == TAIL {
            self.tail.pop_front();
        }
        self.tail.push_back(text.to_owned());
    }

    fn tell(&self, stream: GuestStream, level: GuestLevel, context: &str, text: &str) {
        let (metrics, request_id) = (&self.sink.metrics, self.request.as_str());
        let (service, revision) = (metrics.service().name(), metrics.revision());
        let group = (!context.is_empty()).then_some(context);
        macro_rules! record {
            ($level:expr) => {
                event!(target: TARGET, $level, service, revision, request_id, stream = stream.as_str(), context = group, "{text}")
            };
        }
        match level {
            GuestLevel::Trace => record!(Level::TRACE),
            GuestLevel::Debug => record!(Level::DEBUG),
            GuestLevel::Info => record!(Level::INFO),
            GuestLevel::Warn => record!(Level::WARN),
            GuestLevel::Error | GuestLevel::Critical => record!(Level::ERROR),
        }
        self.sink.lines.send(|| GuestLine {
            at: SystemTime::now(),
            service: service.to_owned(),
            revision: revision.to_owned(),
            request_id: request_id.to_owned(),
            stream,
            level,
            context: context.to_owned(),
            text: text.to_owned(),
        });
    }

    fn cut(&mut self, lines: u64) {
        self.cut = self.cut.saturating_add(lines);
        self.sink.metrics.service().cut(lines);
    }
}

impl Drop for State {
    /// A guest that was ended leaves its last words too.
    fn drop(&mut self) {
        self.finish();
    }
}

/// Whether a line of this level would come into the log.
fn is_logged(level: GuestLevel) -> bool {
    match level {
        GuestLevel::Trace => event_enabled!(target: TARGET, Level::TRACE),
        GuestLevel::Debug => event_enabled!(target: TARGET, Level::DEBUG),
        GuestLevel::Info => event_enabled!(target: TARGET, Level::INFO),
        GuestLevel::Warn => event_enabled!(target: TARGET, Level::WARN),
        GuestLevel::Error | GuestLevel::Critical => event_enabled!(target: TARGET, Level::ERROR),
    }
}

/// A carriage return or another control character would let a line write over what stands before it on a terminal: the host's own
/// words. Tabs move nothing but ahead.
fn printable(text: &str) -> Cow<'_, str> {
    let moves = |character: char| character.is_control() && character != '\t';
    if text.contains(moves) { Cow::Owned(text.replace(moves, "\u{fffd}")) } else { Cow::Borrowed(text) }
}

fn start(bytes: &[u8], most: usize) -> &[u8] {
    bytes.get(..most).unwrap_or(bytes)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_line_of_a_guest_writes_over_the_words_of_the_host() {
        assert_eq!(
            printable("x\r2026-11-25 INFO hotbay::swap\u{1b}[2K\u{9b}A"),
            "x\u{fffd}2026-11-25 INFO hotbay::swap\u{fffd}[2K\u{fffd}A"
        );
        assert!(matches!(printable("a\tb, \u{e9}"), Cow::Borrowed("a\tb, \u{e9}")));
    }
}
