//! The log: its set-up, and what its targets and fields are called. Beside it the metrics, and the lines of guests as they come.
//!
//! | target | what |
//! |---|---|
//! | `hotbay::request` | one completion line a request |
//! | `hotbay::swap` | one line for each state of a swap |
//! | `hotbay::admin` | one line for each change that was ordered by the admin API |
//! | `hotbay::guest` | what guests write to stdout and stderr, and by `wasi:logging` |
//! | `hotbay::denied` | calls of guests that are not granted |
//! | `hotbay::outbound` | requests of guests to other hosts that failed |
//! | `hotbay::calls` | calls to services that are not there |
//! | `hotbay::keyvalue` | what is wrong with the store of `wasi:keyvalue` |
//! | `hotbay::cron` | entries of `[[cron]]` that did not run at their time, a clock that was set |
//! | `hotbay::budget` | what all services share is used up; at most a line a second for each budget |
//!
//! Fields: `service`, `revision` (12 hex digits), `request_id`, `state`, `took_us` (microseconds), `method`, `path`, `status`,
//! `sent` (bytes of the response body), `caller` (the service that made the request), `schedule` (of `[[cron]]`, by which the host
//! made it), `times` (that did not run), `off` (by how much a clock was set), `reason`, `remedy`; of guests `stream`,
//! `context` and `cut` (lines); of calls to other hosts and services `capability` and `authority`; of key-value stores `bucket` and
//! `file`; of budgets `limit`, `used`, `whole`, `own` and `refused`; of orders `order`, `peer` and `wait`; of the host `bay`, `state`,
//! `error`, `signal`, `connections`; of a
//! hand-over `process` and `version` of the other host, `bound` and `configured` addresses.

mod batch;
mod call_metrics;
mod durations;
mod families;
mod guest_lines;
mod labels;
mod metrics;
mod process;
mod recent;
mod revision_metrics;
mod shown;

pub use call_metrics::CallMetrics;
pub use guest_lines::{GuestLevel, GuestLine, GuestLines, GuestStream};
pub use labels::{CallResult, Capability, CronResult, KeyValueResult, Limit, OutboundResult, Outcome, Renewal, Unrouted};
pub use metrics::{Budgeted, Connected, ConnectionsFull, METRICS_TYPE, Metrics, ServiceMetrics};
pub use recent::{Now, Recent, Sample, Series};
pub use revision_metrics::{FaultKind, InstanceMetrics, RevisionMetrics, Vitals};
pub use shown::LogLine;

use batch::{Batch, Batches};
use shown::Shown;
use std::{
    io::{self, IsTerminal},
    sync::OnceLock,
    time::Duration,
};
use tokio::sync::mpsc;
use tracing::warn;
use tracing_subscriber::{EnvFilter, fmt, layer::SubscriberExt, util::SubscriberInitExt};

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// A time as the fields `took_us` have it.
pub fn micros(took: Duration) -> u64 {
    u64::try_from(took.as_micros()).unwrap_or(u64::MAX)
}

/// 128 random bits in hex: the id of a request that brings none. Ids need not be secret, so a fast generator serves.
pub fn new_request_id() -> String {
    format!("{:032x}", fastrand::u128(..))
}

/// The target of what guests write.
pub const GUEST_TARGET: &str = "hotbay::guest";

/// What is logged unless `HOTBAY_LOG` says otherwise.
const DEFAULT_FILTER: &str = "warn,hotbay=info";

/// The log of the process, for [`flush`].
static LOG: OnceLock<Batch> = OnceLock::new();

/// Writes what is left of the log when it is dropped.
pub struct LogGuard {
    _batches: Batches,
}

/// Sends the log to stderr from a thread of its own.
///
/// # Errors
/// Where the thread cannot be started.
pub fn start(format: LogFormat) -> io::Result<LogGuard> {
    start_layers(Some(format), None)
}

/// Hands warnings and errors to the receiver, and sends the log to stderr too where there is a format for it. A receiver that is 1024
/// lines behind loses the newest.
///
/// # Errors
/// As of [`start`].
pub fn start_shown(format: Option<LogFormat>) -> io::Result<(LogGuard, mpsc::Receiver<LogLine>)> {
    let (shown, told) = Shown::new();
    Ok((start_layers(format, Some(shown))?, told))
}

fn start_layers(format: Option<LogFormat>, shown: Option<Shown>) -> io::Result<LogGuard> {
    let (batch, batches) = Batches::start(io::stderr())?;
    let (filter, refused) = match std::env::var("HOTBAY_LOG") {
        Ok(words) => match EnvFilter::try_new(&words) {
            Ok(filter) => (filter, None),
            Err(error) => (EnvFilter::new(DEFAULT_FILTER), Some((words, error))),
        },
        Err(_) => (EnvFilter::new(DEFAULT_FILTER), None),
    };
    let registry = tracing_subscriber::registry().with(filter).with(shown);
    let lines = fmt::layer().with_writer(LOG.get_or_init(|| batch).clone());
    // An error says that a log is set up already, which is as good.
    let _ = match format {
        Some(LogFormat::Text) => registry.with(lines.with_ansi(io::stderr().is_terminal())).try_init(),
        Some(LogFormat::Json) => {
            registry.with(lines.json().flatten_event(true).with_current_span(false).with_span_list(false)).try_init()
        }
        None => registry.try_init(),
    };
    if let Some((words, error)) = refused {
        warn!(%error, "HOTBAY_LOG={words:?} is not understood and `{DEFAULT_FILTER}` holds; write TARGET=LEVEL,… such as hotbay=debug");
    }
    Ok(LogGuard { _batches: batches })
}

/// Writes what is left of the log now: for an end of the process that drops nothing.
pub fn flush() {
    if let Some(batch) = LOG.get() {
        batch.flush_to(&mut io::stderr());
    }
}
