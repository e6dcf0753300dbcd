//! Lines of the log for who shows them in words of his own: what a request or the host complains about.

use std::fmt::{self, Write as _};
use tokio::sync::mpsc;
use tracing::{
    Event, Level, Subscriber,
    field::{Field, Visit},
};
use tracing_subscriber::layer::{Context, Layer};

/// Lines that wait to be shown; what comes when there are so many is lost.
const WAITING_MAX: usize = 1024;

/// What is told elsewhere: the states of swaps by their events, the lines of guests as they come.
const TOLD_ELSEWHERE: [&str; 2] = ["hotbay::swap", super::GUEST_TARGET];

/// A warning or an error, as it was logged.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LogLine {
    /// Which part of the host says it, such as `hotbay::request`.
    pub target: String,
    /// The text.
    pub message: String,
    /// Its fields, in the order in which they were given.
    pub fields: Vec<(&'static str, String)>,
}

impl LogLine {
    /// The value of a field, where it was given.
    pub fn field(&self, name: &str) -> Option<&str> {
        self.fields.iter().find(|(field, _)| *field == name).map(|(_, value)| value.as_str())
    }
}

impl Visit for LogLine {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let mut text = String::new();
        // Writing to a String does not fail.
        let _ = write!(text, "{value:?}");
        self.note(field, text);
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.note(field, value.to_owned());
    }
}

impl LogLine {
    fn note(&mut self, field: &Field, value: String) {
        if field.name() == "message" { self.message = value } else { self.fields.push((field.name(), value)) }
    }
}

/// Hands warnings and errors on.
pub(super) struct Shown(mpsc::Sender<LogLine>);

impl Shown {
    pub(super) fn new() -> (Self, mpsc::Receiver<LogLine>) {
        let (tell, told) = mpsc::channel(WAITING_MAX);
        (Self(tell), told)
    }
}

impl<S: Subscriber> Layer<S> for Shown {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let about = event.metadata();
        if *about.level() > Level::WARN || TOLD_ELSEWHERE.contains(&about.target()) {
            return;
        }
        let mut line = LogLine { target: about.target().to_owned(), ..LogLine::default() };
        event.record(&mut line);
        let _ = self.0.try_send(line);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tracing_subscriber::layer::SubscriberExt;

    #[test]
    fn warnings_are_handed_on_with_their_fields() {
        let (shown, mut told) = Shown::new();
        tracing::subscriber::with_default(tracing_subscriber::registry().with(shown), || {
            tracing::info!("nothing to see");
            tracing::warn!(target: "hotbay::swap", "told elsewhere");
            tracing::warn!(target: "hotbay::request", service = "hello", status = 500_u16, reason = Some("it trapped"), "request");
        });
        let line = told.try_recv().unwrap();
        assert_eq!((line.target.as_str(), line.message.as_str()), ("hotbay::request", "request"));
        assert_eq!(
            [line.field("service"), line.field("status"), line.field("reason"), line.field("remedy")],
            [Some("hello"), Some("500"), Some("it trapped"), None]
        );
        assert!(told.try_recv().is_err());
    }
}
