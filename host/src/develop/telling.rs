//! What is said of what happens: of a swap, of a request that failed, of the folders.

use super::{Development, awaited::Outcome, ears::REQUESTS, screen::Screen, took::Took, watch::WatchError};
use hotbay::{
    config::ServiceName,
    deploy::{Event, State},
    telemetry::LogLine,
};
use std::{collections::BTreeSet, time::Duration};

impl Development {
    pub(super) fn swapped(&mut self, event: &Event) {
        if event.state == State::Published && event.label.is_none() {
            let settings = ServiceName::parse(&event.service).ok().and_then(|name| self.bay.settings(&name));
            self.awaited.published(event, settings);
        }
        let service = match &event.label {
            Some(label) => format!("{}@{label}", event.service),
            None => event.service.clone(),
        };
        let revision = event.revision.as_deref().unwrap_or_default();
        let Some(outcome) = self.awaited.told(event) else { return };
        let text = match outcome {
            Outcome::Swapped { why, steps } => self.screen.swapped(&service, &why, &steps, revision),
            Outcome::Settings { took } => self.screen.settings_swapped(&service, revision, took),
            Outcome::Published { reason: None } => self.screen.note(&service, &format!("{revision} serves")),
            Outcome::Published { reason: Some(reason) } => self.screen.failed(&service, &format!("{revision} serves"), &reason),
            Outcome::Rejected { reason, remedy } => {
                let still = self.still(&service);
                self.screen.rejected(&service, &reason, &remedy, &still)
            }
            Outcome::RolledBack { reason } => self.screen.failed(&service, &format!("gone back from {revision}"), &reason),
            Outcome::Gone => self.screen.note(&service, "it serves no more"),
        };
        (self.print)(&text);
    }

    /// What serves although something failed.
    pub(super) fn still(&self, service: &str) -> String {
        match self.voices.board.one(service).and_then(|status| status.serving) {
            Some(serving) => format!("{} serves on", serving.revision),
            None => "nothing of it serves yet".to_owned(),
        }
    }

    /// A request that failed, or something about the host itself.
    pub(super) fn complained(&mut self, line: &LogLine) {
        let field = |name| line.field(name).unwrap_or_default();
        if line.target != REQUESTS {
            let rest: Vec<_> = line.fields.iter().map(|(name, value)| format!("{name}={value}")).collect();
            return self.tell_host(&format!("{} {}", line.message, rest.join(" ")));
        }
        // Whoever asks for one that is being built for the first time is told how that goes, and here it stands already.
        if ServiceName::parse(field("service")).is_ok_and(|service| self.unbuilt.knows(&service)) {
            return;
        }
        let took = field("took_us").parse().map_or(Duration::ZERO, Duration::from_micros);
        let what = format!("{} {} {} in {}", field("status"), field("method"), field("path"), Took(took));
        let words: Vec<_> = [field("reason"), field("remedy")].into_iter().filter(|text| !text.is_empty()).collect();
        self.tell(|screen| screen.failed(field("service"), &what, &words.join("\n→ ")));
    }

    pub(super) fn tell(&mut self, line: impl FnOnce(&mut Screen) -> String) {
        let text = line(&mut self.screen);
        (self.print)(&text);
    }

    pub(super) fn tell_host(&mut self, text: &str) {
        self.tell(|screen| screen.host(text, true));
    }

    pub(super) fn tell_watch(&mut self, error: Option<&WatchError>) {
        if let Some(WatchError { reason, remedy }) = error {
            self.tell_host(&format!("{reason}\n→ {remedy}"));
        }
    }

    /// Tells those that have not been told. Returns them.
    pub(super) fn tell_faults(&mut self, faults: BTreeSet<String>) -> BTreeSet<String> {
        let new: BTreeSet<_> = faults.difference(&self.faults).cloned().collect();
        new.iter().for_each(|fault| self.tell_host(fault));
        self.faults = faults;
        new
    }
}

/// Whether a compiler's line warns, in colour or not.
pub(super) fn is_warning(line: &str) -> bool {
    console::strip_ansi_codes(line).trim_start().starts_with("warning")
}
