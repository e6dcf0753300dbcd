//! Log lines on their way to stderr, many at a time: a request appends to a buffer and wakes nobody.
//!
//! A channel to a writer thread (tracing-appender) costs a system call a line to wake that thread, which was a fifth of the
//! time of a request to a reused instance. Here the thread is woken once for all the lines of an interval.

use super::GUEST_TARGET;
use std::{
    borrow::Cow,
    io::{self, Write},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread::{self, JoinHandle},
    time::Duration,
};
use tracing::Metadata;
use tracing_subscriber::fmt::MakeWriter;

/// How long lines are gathered: the longest that a line is late.
const INTERVAL: Duration = Duration::from_millis(5);
/// Bytes that wait for stderr; a log that nobody reads fast enough loses lines and slows no request. The last quarter is for the
/// host's own lines: guests that write a lot do not push them out.
const WAITING_MAX: usize = 4 << 20;
const WAITING_GUESTS_MAX: usize = WAITING_MAX / 4 * 3;
/// Bytes of one line.
const LINE_MAX: usize = 64 << 10;

/// Hands out writers; the thread behind them is [`Batches`].
#[derive(Clone)]
pub(super) struct Batch(Arc<Shared>);

#[derive(Default)]
struct Shared {
    waiting: Mutex<Waiting>,
    more: Condvar,
    /// Held while lines are written, so that a flush does not overtake them.
    writing: Mutex<()>,
}

#[derive(Default)]
struct Waiting {
    lines: Vec<u8>,
    lost: usize,
    closed: bool,
}

impl Shared {
    /// Nothing that can panic runs under the lock.
    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn append(&self, line: &[u8], most: usize) {
        let line = one_line(line);
        let mut waiting = self.waiting();
        if waiting.lines.len().saturating_add(line.len()) > most {
            waiting.lost = waiting.lost.saturating_add(1);
            return;
        }
        let first = waiting.lines.is_empty();
        waiting.lines.extend_from_slice(&line);
        drop(waiting);
        if first {
            self.more.notify_one();
        }
    }

    /// Writes what waits. Returns false once nothing more will come.
    fn write_out(&self, out: &mut impl Write, spare: &mut Vec<u8>) -> bool {
        let _writing = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let (lost, closed) = {
            let mut waiting = self.waiting();
            std::mem::swap(&mut waiting.lines, spare);
            (std::mem::take(&mut waiting.lost), waiting.closed)
        };
        // There is nowhere to say that stderr is gone.
        let _ = out.write_all(spare);
        if lost > 0 {
            let _ = writeln!(out, "hotbay: {lost} log lines were lost: stderr is read too slowly");
        }
        spare.clear();
        !closed
    }
}

/// A record as one line of bounded length. What comes from a guest or a client may hold line ends, in the message or in a field that
/// is displayed; as they are, they would begin lines that pass for the host's.
fn one_line(record: &[u8]) -> Cow<'_, [u8]> {
    let text = record.strip_suffix(b"\n").unwrap_or(record);
    let is_end = |byte: &u8| matches!(byte, b'\n' | b'\r');
    if text.len() <= LINE_MAX && !text.iter().any(is_end) {
        return Cow::Borrowed(record);
    }
    let mut line = Vec::with_capacity(text.len().min(LINE_MAX));
    for byte in text.iter().take(LINE_MAX) {
        match byte {
            b'\n' => line.extend_from_slice(b"\\n"),
            b'\r' => line.extend_from_slice(b"\\r"),
            byte => line.push(*byte),
        }
    }
    if text.len() > LINE_MAX {
        line.extend_from_slice(b" [cut]");
    }
    line.push(b'\n');
    Cow::Owned(line)
}

/// The thread that writes. What waits is written when this is dropped.
pub(super) struct Batches {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

impl Batches {
    /// Starts the thread.
    pub(super) fn start(mut out: impl Write + Send + 'static) -> io::Result<(Batch, Self)> {
        let shared = Arc::new(Shared::default());
        let writes = shared.clone();
        let work = move || {
            let mut spare = Vec::new();
            loop {
                let idle = |waiting: &mut Waiting| waiting.lines.is_empty() && !waiting.closed;
                let waiting = writes.more.wait_while(writes.waiting(), idle).unwrap_or_else(PoisonError::into_inner);
                let closed = waiting.closed;
                drop(waiting);
                if !closed {
                    thread::sleep(INTERVAL);
                }
                if !writes.write_out(&mut out, &mut spare) {
                    return;
                }
            }
        };
        let thread = thread::Builder::new().name("hotbay-log".to_owned()).spawn(work)?;
        Ok((Batch(shared.clone()), Self { shared, thread: Some(thread) }))
    }
}

impl Drop for Batches {
    fn drop(&mut self) {
        self.shared.waiting().closed = true;
        self.shared.more.notify_one();
        if let Some(thread) = self.thread.take() {
            // It does not panic; if it did, there is nobody to tell.
            let _ = thread.join();
        }
    }
}

impl Batch {
    /// Writes what waits, now: before the process ends without unwinding.
    pub(super) fn flush_to(&self, out: &mut impl Write) {
        self.0.write_out(out, &mut Vec::new());
    }
}

/// One line's writer.
pub(super) struct Line<'a> {
    shared: &'a Shared,
    /// Bytes that may wait with it.
    most: usize,
}

impl Write for Line<'_> {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.shared.append(line, self.most);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Batch {
    type Writer = Line<'a>;

    fn make_writer(&'a self) -> Line<'a> {
        Line { shared: &self.0, most: WAITING_MAX }
    }

    fn make_writer_for(&'a self, meta: &Metadata<'_>) -> Line<'a> {
        let most = if meta.target() == GUEST_TARGET { WAITING_GUESTS_MAX } else { WAITING_MAX };
        Line { shared: &self.0, most }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Clone, Default)]
    struct Sink(Arc<Mutex<Vec<u8>>>);

    impl Write for Sink {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn every_line_arrives_in_order_and_the_end_waits_for_them() {
        let sink = Sink::default();
        let (batch, batches) = Batches::start(sink.clone()).unwrap();
        let expected: String = (0..1000).map(|n| format!("line {n}\n")).collect();
        for line in expected.split_inclusive('\n') {
            batch.make_writer().write_all(line.as_bytes()).unwrap();
        }
        drop(batches);
        assert_eq!(String::from_utf8(sink.0.lock().unwrap().clone()).unwrap(), expected);
    }

    #[test]
    fn what_does_not_fit_is_counted() {
        let shared = Shared::default();
        let line = vec![b'x'; LINE_MAX];
        for _ in 0..=WAITING_MAX / LINE_MAX {
            shared.append(&line, WAITING_MAX);
        }
        let mut out = Vec::new();
        shared.write_out(&mut out, &mut Vec::new());
        assert!(out.ends_with(b"1 log lines were lost: stderr is read too slowly\n"));
    }

    #[test]
    fn guests_leave_room_for_the_host() {
        let (shared, line) = (Shared::default(), vec![b'x'; LINE_MAX]);
        for _ in 0..WAITING_MAX / LINE_MAX {
            shared.append(&line, WAITING_GUESTS_MAX);
        }
        shared.append(b"the host's own\n", WAITING_MAX);
        assert!(shared.waiting().lines.ends_with(b"the host's own\n"));
    }

    #[test]
    fn a_record_is_one_line() {
        assert_eq!(&*one_line(b"INFO as usual\n"), b"INFO as usual\n");
        assert_eq!(&*one_line(b"WARN reason=a\nINFO forged\r\n"), b"WARN reason=a\\nINFO forged\\r\n");
        let long = one_line(&[b'x'; 1 << 20]).into_owned();
        assert!(long.len() < LINE_MAX + 16 && long.ends_with(b"[cut]\n"));
    }
}
