//! What guests write, for whoever follows it as it comes.

use std::{sync::Arc, time::SystemTime};
use tokio::sync::broadcast;

/// Lines that a slow reader may be behind before it loses some.
const RING: usize = 1024;

/// How a guest wrote a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GuestStream {
    /// On stdout.
    Stdout,
    /// On stderr.
    Stderr,
    /// By `wasi:logging`.
    Logging,
}

impl GuestStream {
    /// The name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Stdout => "stdout",
            Self::Stderr => "stderr",
            Self::Logging => "logging",
        }
    }
}

/// How much a line matters, in the words of `wasi:logging`. What comes on stdout and stderr is `info`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GuestLevel {
    /// Values and ways through the code.
    Trace,
    /// For who mends it.
    Debug,
    /// For who runs it.
    Info,
    /// May go wrong.
    Warn,
    /// Went wrong.
    Error,
    /// Cannot go on.
    Critical,
}

impl GuestLevel {
    /// The name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Trace => "trace",
            Self::Debug => "debug",
            Self::Info => "info",
            Self::Warn => "warn",
            Self::Error => "error",
            Self::Critical => "critical",
        }
    }
}

/// One line of a guest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GuestLine {
    /// When.
    pub at: SystemTime,
    /// Of which service.
    pub service: String,
    /// Of which revision: 12 hex digits of its digest.
    pub revision: String,
    /// For which request; empty before the first.
    pub request_id: String,
    /// How it was written.
    pub stream: GuestStream,
    /// How much it matters.
    pub level: GuestLevel,
    /// The group that the guest gave it, where it gave one.
    pub context: String,
    /// What it says, without the line end.
    pub text: String,
}

/// Where the lines of all guests go. Cheap to clone.
#[derive(Clone)]
pub struct GuestLines(broadcast::Sender<Arc<GuestLine>>);

impl GuestLines {
    /// Nobody listens yet.
    pub fn new() -> Self {
        Self(broadcast::channel(RING).0)
    }

    /// Everything from here on. A reader that is more than 1024 lines behind loses the oldest and is told how many.
    pub fn subscribe(&self) -> broadcast::Receiver<Arc<GuestLine>> {
        self.0.subscribe()
    }

    /// Whether anybody listens.
    pub fn is_followed(&self) -> bool {
        self.0.receiver_count() > 0
    }

    /// Hands a line to all who listen; it is made only for them.
    pub fn send(&self, line: impl FnOnce() -> GuestLine) {
        if self.is_followed() {
            // An error only says that the last of them has left.
            let _ = self.0.send(Arc::new(line()));
        }
    }
}

impl Default for GuestLines {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::sync::broadcast::error::TryRecvError;

    fn line(text: String) -> GuestLine {
        GuestLine {
            at: SystemTime::now(),
            service: "probe".to_owned(),
            revision: "0".repeat(12),
            request_id: "7".to_owned(),
            stream: GuestStream::Logging,
            level: GuestLevel::Warn,
            context: String::new(),
            text,
        }
    }

    #[test]
    fn nothing_is_made_for_nobody() {
        let lines = GuestLines::new();
        lines.send(|| unreachable!("nobody listens"));
        drop(lines.subscribe());
        lines.send(|| unreachable!("nobody listens any more"));
    }

    #[test]
    fn a_slow_reader_loses_the_oldest_and_is_told_how_many() {
        let lines = GuestLines::new();
        let mut reader = lines.subscribe();
        for n in 0..RING + 3 {
            lines.send(|| line(n.to_string()));
        }
        assert_eq!(reader.try_recv().unwrap_err(), TryRecvError::Lagged(3));
        assert_eq!(reader.try_recv().unwrap().text, "3");
    }
}
