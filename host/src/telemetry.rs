//! The log: its set-up, and what its targets and fields are called.
//!
//! | target | what |
//! |---|---|
//! | `hotbay::request` | one completion line a request |
//! | `hotbay::swap` | one line for each state of a swap |
//! | `hotbay::guest` | what guests write to stdout and stderr |
//! | `hotbay::denied` | calls of guests that are not granted |
//!
//! Fields: `service`, `revision`, `request_id`, `state`, `took_us`, `method`, `path`, `status`, `sent`, `reason`, `remedy`.

use std::io::{BufWriter, IsTerminal};
use tracing_appender::non_blocking::{NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::{EnvFilter, fmt, layer::SubscriberExt, util::SubscriberInitExt};

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// What is logged unless `HOTBAY_LOG` says otherwise.
const DEFAULT_FILTER: &str = "warn,hotbay=info";
/// Lines that wait for stderr; a log that nobody reads fast enough loses lines and slows no request.
const LINES_MAX: usize = 16_384;

/// Sends the log to stderr from a thread of its own. The guard writes what is left when it is dropped.
pub fn start(format: LogFormat) -> WorkerGuard {
    // The thread flushes when no line waits, so that a buffer saves system calls under load and delays nothing else.
    let stderr = BufWriter::new(std::io::stderr());
    let (writer, guard) = NonBlockingBuilder::default().buffered_lines_limit(LINES_MAX).lossy(true).finish(stderr);
    let filter = EnvFilter::try_from_env("HOTBAY_LOG").unwrap_or_else(|_| EnvFilter::new(DEFAULT_FILTER));
    let registry = tracing_subscriber::registry().with(filter);
    let lines = fmt::layer().with_writer(writer);
    // An error says that a log is set up already, which is as good.
    let _ = match format {
        LogFormat::Text => registry.with(lines.with_ansi(std::io::stderr().is_terminal())).try_init(),
        LogFormat::Json => {
            registry.with(lines.json().flatten_event(true).with_current_span(false).with_span_list(false)).try_init()
        }
    };
    guard
}
