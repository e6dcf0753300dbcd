//! How a request ended that the guest did not answer well.

use super::{
    limiter::Refused,
    store::HostState,
    typed_call::{CallError, CallFailure},
};
use crate::{
    capabilities::Due,
    config::{ByteSize, Limits, Span},
    telemetry::{FaultKind, Limit},
};
use std::fmt;
use wasmtime::{Error, PoolConcurrencyLimitError, Store, Trap, WasmBacktrace};

/// Frames of a backtrace that are shown.
const FRAMES_MAX: usize = 32;

/// What the host saw go wrong. The message is for the log and for `--dev`; what a client reads in production is the title only.
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    /// The guest trapped.
    #[error("the guest trapped: {0}")]
    Trap(Report),
    /// The guest asked for more memory than it may have and trapped.
    #[error("the guest reached its memory limit of {limit} (limits.memory) and trapped: {report}")]
    Memory {
        /// The limit.
        limit: ByteSize,
        /// The trap.
        report: Report,
    },
    /// The guest computed for longer than it may.
    #[error("the guest computed for more than {0} (limits.cpu)")]
    Cpu(Span),
    /// There was no response head in time.
    #[error("the guest gave no response head within {0} (limits.deadline)")]
    Deadline(Span),
    /// A body that nothing moved on, in either direction.
    #[error("nothing moved in the response body for {0} (limits.stream_idle)")]
    StreamIdle(Span),
    /// The guest ended without a response.
    #[error("the guest returned without setting a response")]
    NoResponse,
    /// The guest gave an error instead of a response.
    #[error("the guest answered with the error {0}")]
    Refused(String),
    /// What the guest gave is no HTTP response.
    #[error("the guest broke the protocol: {0}")]
    Protocol(String),
    /// The response body is longer than it may be.
    #[error("the response body has more than {0} (limits.response_body)")]
    ResponseTooLarge(ByteSize),
    /// The request body is longer than it may be.
    #[error("the request body has more than {0} (limits.request_body)")]
    RequestTooLarge(ByteSize),
    /// The request cannot be handed to this kind of guest.
    #[error("{0}")]
    BadRequest(&'static str),
    /// The host has no room for more of this service.
    #[error("the host is at its limit, and this service has its part of it ({})", .0.setting())]
    Full(Limit),
    /// The revision was retired while this ran.
    #[error("the revision was replaced or removed, and the drain deadline is over")]
    Retired,
    /// A library has no HTTP side.
    #[error("this service is a library; it answers no HTTP")]
    Library,
    /// A service that it called failed.
    #[error("{0}")]
    Callee(CallError),
    /// Something of the host.
    #[error("the host failed: {0}")]
    Host(String),
}

impl Fault {
    /// The message without the backtrace and the output, for whoever shows those by themselves.
    pub fn brief(&self) -> String {
        match self {
            Self::Trap(report) => format!("the guest trapped: {}", report.reason),
            Self::Memory { limit, report } => {
                format!("the guest reached its memory limit of {limit} (limits.memory) and trapped: {}", report.reason)
            }
            other => other.to_string(),
        }
    }

    /// What it counts as; none where neither the guest nor what runs it is at fault.
    pub(crate) fn kind(&self) -> Option<FaultKind> {
        match self {
            Self::Trap(_) => Some(FaultKind::Trap),
            Self::Memory { .. } => Some(FaultKind::Memory),
            Self::Cpu(_) => Some(FaultKind::Cpu),
            Self::Deadline(_) => Some(FaultKind::Deadline),
            Self::StreamIdle(_) => Some(FaultKind::StreamIdle),
            Self::NoResponse => Some(FaultKind::NoResponse),
            Self::Refused(_) => Some(FaultKind::Error),
            Self::Protocol(_) => Some(FaultKind::Protocol),
            Self::ResponseTooLarge(_) => Some(FaultKind::ResponseBody),
            Self::Callee(_) => Some(FaultKind::Callee),
            Self::Host(_) => Some(FaultKind::Host),
            Self::RequestTooLarge(_) | Self::BadRequest(_) | Self::Full(_) | Self::Retired | Self::Library => None,
        }
    }

    /// A deadline of `limit` is over for whoever is `due`: its callee is at fault where it has been waited for most of the time.
    pub(crate) fn overdue(limit: Span, due: Option<&Due>) -> Self {
        let longest = due.and_then(Due::longest).filter(|call| call.took() >= limit.0 / 2);
        longest.map_or(Self::Deadline(limit), |call| {
            Self::Callee(CallError {
                provider: call.provider.to_string(),
                function: call.function.to_string(),
                reason: format!("it had not returned when its caller's time of {limit} was over (limits.deadline)"),
                failure: CallFailure::Late,
            })
        })
    }

    /// Reads what ended a guest's call.
    pub(crate) fn of(error: &Error, store: &Store<HostState>, limits: &Limits) -> Self {
        let guest = store.data();
        if error.is::<PoolConcurrencyLimitError>() {
            guest.memory.account().refused(Limit::Pool);
            return Self::Full(Limit::Pool);
        }
        if let Some(error) = error.downcast_ref::<CallError>() {
            return Self::Callee(error.clone());
        }
        match guest.memory.refused() {
            None => Self::Trap(Report::of(error, guest.log.tail())),
            Some(Refused::Own) => Self::Memory { limit: limits.memory, report: Report::of(error, guest.log.tail()) },
            Some(Refused::Host(limit)) => Self::Full(limit),
        }
    }
}

/// A trap, told in full.
#[derive(Debug, Clone, Default)]
pub struct Report {
    /// The trap in a few words.
    pub reason: String,
    /// Function names, innermost first, with file and line where the guest has them.
    pub frames: Vec<String>,
    /// The last lines of the guest's stdout and stderr: a panic's message is among them.
    pub output: Vec<String>,
}

impl Report {
    fn of(error: &Error, output: Vec<String>) -> Self {
        let reason = match error.downcast_ref::<Trap>() {
            Some(trap) => trap.to_string(),
            None => format!("{:#}", error.root_cause()),
        };
        let frames = error.downcast_ref::<WasmBacktrace>().map(frames).unwrap_or_default();
        Self { reason, frames, output }
    }
}

fn frames(backtrace: &WasmBacktrace) -> Vec<String> {
    let name = |frame: &wasmtime::FrameInfo| {
        let raw = frame.func_name().unwrap_or("<unnamed function>");
        let mut name = demangled(raw);
        if let Some(symbol) = frame.symbols().first()
            && let (Some(file), Some(line)) = (symbol.file(), symbol.line())
        {
            name.push_str(&format!(" at {file}:{line}"));
        }
        name
    };
    backtrace.frames().iter().take(FRAMES_MAX).map(name).collect()
}

fn demangled(raw: &str) -> String {
    format!("{:#}", rustc_demangle::demangle(raw))
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.reason)?;
        if !self.frames.is_empty() {
            write!(f, "; in {}", self.frames.join(" < "))?;
        }
        f.write_str(&quoted(&self.output))
    }
}

/// A guest's last lines as the end of a sentence; nothing where it wrote none.
pub(super) fn quoted(output: &[String]) -> String {
    if output.is_empty() { String::new() } else { format!("; it wrote: {}", output.join(" | ")) }
}
