//! Whatever happens, from wherever it is told, one thing after another.

use super::{
    builds::{Builds, Ended, Note},
    keys::Asked,
    watch::{Hint, Watch},
};
use hotbay::{
    deploy::{Reader, Told},
    http::in_lines,
    telemetry::{GuestLine, LogLine},
};
use std::sync::Arc;
use tokio::sync::{broadcast, mpsc};

/// The target of the lines on requests.
pub(super) const REQUESTS: &str = "hotbay::request";

/// Where what happens comes in.
pub(super) struct Ears {
    pub(super) watch: Watch,
    pub(super) notes: mpsc::UnboundedReceiver<Note>,
    pub(super) events: Reader,
    pub(super) guests: broadcast::Receiver<Arc<GuestLine>>,
    pub(super) log: mpsc::Receiver<LogLine>,
    pub(super) keys: Option<mpsc::UnboundedReceiver<Asked>>,
}

/// Something that happened.
pub(super) enum Happened {
    Saved(Hint),
    Built(Box<Ended>),
    Noted(Note),
    Told(Told),
    Guest(Arc<GuestLine>),
    Complained(LogLine),
    Asked(Asked),
}

impl Ears {
    /// The next thing that happens. Whoever stops waiting loses nothing.
    pub(super) async fn next(&mut self, builds: &mut Builds) -> Happened {
        let guest = async {
            loop {
                match self.guests.recv().await {
                    Ok(line) => return line,
                    // What a flood of lines washed away is in the log.
                    Err(broadcast::error::RecvError::Lagged(_)) => {}
                    Err(broadcast::error::RecvError::Closed) => std::future::pending().await,
                }
            }
        };
        let key = async {
            match &mut self.keys {
                Some(keys) => match keys.recv().await {
                    Some(asked) => asked,
                    None => std::future::pending().await,
                },
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            asked = key => Happened::Asked(asked),
            ended = builds.next() => Happened::Built(Box::new(ended)),
            hint = self.watch.next() => Happened::Saved(hint),
            told = self.events.next() => Happened::Told(told),
            Some(note) = self.notes.recv() => Happened::Noted(note),
            line = guest => Happened::Guest(line),
            Some(line) = self.log.recv() => Happened::Complained(by_lines(line)),
        }
    }
}

/// A reason with a backtrace is one long line in the log.
fn by_lines(mut line: LogLine) -> LogLine {
    for (name, value) in &mut line.fields {
        if *name == "reason" && line.target == REQUESTS {
            *value = in_lines(value);
        }
    }
    line
}
