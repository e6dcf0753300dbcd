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
use wasmtime::{Error, FrameInfo, FrameSymbol, PoolConcurrencyLimitError, Store, Trap, WasmBacktrace};

/// Frames of a backtrace that are shown, and bytes of each: the names are the guest's, and each may be as long as its file.
const FRAMES_MAX: usize = 32;
const FRAME_MAX: usize = 256;
/// Last lines of output in a sentence.
const QUOTED_MAX: usize = 8;
/// Bytes of a line of output in a sentence, and of any other words of a guest's in a fault.
const LINE_MAX: usize = 512;
const WORDS_MAX: usize = 1 << 10;

/// How a trap goes on after the reason: with the functions, innermost first, and with the guest's last lines. Whoever tells it in
/// other lines reads it by these.
pub(crate) const FRAMES: &str = "; in ";
pub(crate) const BETWEEN_FRAMES: &str = " < ";
pub(crate) const OUTPUT: &str = "; it wrote: ";

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
    #[error("the guest answered with the error {}", shown(.0, WORDS_MAX))]
    Refused(String),
    /// What the guest gave is no HTTP response.
    #[error("the guest broke the protocol: {}", shown(.0, WORDS_MAX))]
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
    /// Function names, innermost first; with `--dev` file and line too, where the guest has them.
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
        Self { reason: shown(&reason, WORDS_MAX), frames, output }
    }
}

fn frames(backtrace: &WasmBacktrace) -> Vec<String> {
    backtrace.frames().iter().flat_map(functions).take(FRAMES_MAX).collect()
}

/// The function of a frame, and before it those that were inlined into it, where the guest's debug information knows them.
fn functions(frame: &FrameInfo) -> Vec<String> {
    let named = |raw: Option<&str>, place: Option<(&str, u32)>| {
        let raw = raw.unwrap_or("<unnamed function>");
        // No longer than what is kept of it, several times over, before anything is done with it.
        let name = shown(&demangled(start(raw, FRAME_MAX * 4)), FRAME_MAX);
        // Of a long path the end tells more.
        let place = place.map(|(file, line)| format!(" at {}:{line}", shown(end(file, FRAME_MAX), FRAME_MAX)));
        name + &place.unwrap_or_default()
    };
    match frame.symbols() {
        [] => vec![named(frame.func_name(), None)],
        [inlined @ .., outer] => {
            let inlined = inlined.iter().map(|symbol| named(symbol.name(), place(symbol)));
            // Of the function itself the names in the build say more than tables of lines alone do.
            inlined.chain([named(frame.func_name().or(outer.name()), place(outer))]).collect()
        }
    }
}

fn place(symbol: &FrameSymbol) -> Option<(&str, u32)> {
    symbol.file().zip(symbol.line())
}

fn demangled(raw: &str) -> String {
    format!("{:#}", rustc_demangle::demangle(raw))
}

/// Words of a guest's as they may stand in a line of the host's: of at most about so many bytes, and without characters that move a
/// terminal or begin a line.
pub(super) fn shown(words: &str, most: usize) -> String {
    let kept = start(words, most);
    let mut shown = String::with_capacity(kept.len());
    for character in kept.chars() {
        if character.is_control() { shown.extend(character.escape_debug()) } else { shown.push(character) }
    }
    if kept.len() < words.len() {
        shown.push('…');
    }
    shown
}

/// The first `most` bytes, or less where a character would be cut.
fn start(words: &str, most: usize) -> &str {
    words.get(..words.floor_char_boundary(most)).unwrap_or(words)
}

/// The last `most` bytes, or less where a character would be cut.
fn end(words: &str, most: usize) -> &str {
    words.get(words.ceil_char_boundary(words.len().saturating_sub(most))..).unwrap_or(words)
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.reason)?;
        if !self.frames.is_empty() {
            write!(f, "{FRAMES}{}", self.frames.join(BETWEEN_FRAMES))?;
        }
        f.write_str(&quoted(&self.output))
    }
}

/// A guest's last lines as the end of a sentence; nothing where it wrote none.
pub(super) fn quoted(output: &[String]) -> String {
    let last = output.iter().skip(output.len().saturating_sub(QUOTED_MAX));
    let lines: Vec<_> = last.map(|line| shown(line, LINE_MAX)).collect();
    if lines.is_empty() { String::new() } else { format!("{OUTPUT}{}", lines.join(" | ")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_of_a_guest_are_cut_and_begin_no_line() {
        assert_eq!(shown("plain, \u{e9} too", 64), "plain, \u{e9} too");
        assert_eq!(shown("a\n2026 INFO forged\u{1b}[2J", 64), "a\\n2026 INFO forged\\u{1b}[2J");
        assert_eq!(shown("\u{e9}\u{e9}", 3), "\u{e9}…");
        assert_eq!((end("a\u{e9}b", 2), end("ab", 9)), ("b", "ab"));
        for fault in [Fault::Refused("x".repeat(2 << 20)), Fault::Protocol("\n".repeat(2 << 20))] {
            assert!(fault.to_string().len() < 4 << 10);
        }
    }
}
