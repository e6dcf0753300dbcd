//! What was put into the bay, and what the host makes of it: the steps of a save and its end.

use super::screen::Steps;
use hotbay::{
    config::Settings,
    deploy::{Event, State},
};
use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

/// A build or settings on the way to be served.
#[derive(Debug, Clone)]
pub(super) struct Placed {
    /// What was saved, in words.
    pub(super) why: String,
    /// When.
    pub(super) saved: Instant,
    /// How long its build and the look at it took; none for settings.
    pub(super) built: Option<(Duration, Duration)>,
    /// When it was put into the bay.
    pub(super) at: Instant,
    /// The revision that it makes.
    pub(super) revision: Option<String>,
}

/// What came of something.
#[derive(Debug, Clone)]
pub(super) enum Outcome {
    /// A save is served.
    Swapped { why: String, steps: Steps },
    /// Saved settings are served.
    Settings { took: Duration },
    /// Something serves that nobody saved just now: as at the start, or by an order.
    Published { reason: Option<String> },
    /// It will not serve.
    Rejected { reason: String, remedy: String },
    /// The host went back to the one before.
    RolledBack { reason: String },
    /// The service has gone.
    Gone,
}

/// What is on its way, by service.
#[derive(Default)]
pub(super) struct Awaited {
    placed: BTreeMap<String, Placed>,
    compiling: BTreeMap<String, Duration>,
    /// The revision that was published last, and its settings.
    served: BTreeMap<String, (String, Settings)>,
}

impl Awaited {
    /// Something new is on its way.
    pub(super) fn placed(&mut self, service: &str, placed: Placed) {
        self.compiling.remove(service);
        self.placed.insert(service.to_owned(), placed);
    }

    /// A revision was published, with these settings in the bay. Where it is not what lies in the bay, its settings are not known.
    pub(super) fn published(&mut self, event: &Event, settings: Option<Settings>) {
        self.served.remove(&event.service);
        if let (Some(revision), Some(settings), None) = (&event.revision, settings, &event.reason) {
            self.served.insert(event.service.clone(), (revision.clone(), settings));
        }
    }

    /// Whether `revision` serves under these settings already: of files that make nothing else the host tells nothing, and nothing
    /// is waited for any more.
    pub(super) fn is_served(&mut self, service: &str, revision: &str, settings: &Settings) -> bool {
        let awaits_other =
            self.placed.get(service).and_then(|placed| placed.revision.as_deref()).is_some_and(|awaited| awaited != revision);
        let is_it = |(served, under): &(String, Settings)| served == revision && under.same_revision(settings);
        let is_served = !awaits_other && self.served.get(service).is_some_and(is_it);
        if is_served {
            self.placed.remove(service);
        }
        is_served
    }

    /// A state that a revision has come through; what is worth telling of it.
    pub(super) fn told(&mut self, event: &Event) -> Option<Outcome> {
        let service = event.service.as_str();
        let reason = || event.reason.clone().unwrap_or_default();
        // What is saved is the main revision; of labelled ones nobody waits for anything.
        let is_main = event.label.is_none();
        match event.state {
            State::Compiling if is_main => {
                self.compiling.insert(service.to_owned(), event.took);
                None
            }
            State::Published if is_main => {
                let is_it = |placed: &Placed| placed.revision.is_none() || placed.revision == event.revision;
                let placed = self.placed.get(service).is_some_and(is_it).then(|| self.placed.remove(service)).flatten();
                let compile = self.compiling.remove(service).unwrap_or_default();
                Some(placed.map_or_else(|| Outcome::Published { reason: event.reason.clone() }, |placed| placed.outcome(compile)))
            }
            State::Published => Some(Outcome::Published { reason: event.reason.clone() }),
            State::Rejected => {
                if is_main {
                    self.placed.remove(service);
                }
                Some(Outcome::Rejected { reason: reason(), remedy: event.remedy.clone().unwrap_or_default() })
            }
            State::RolledBack => Some(Outcome::RolledBack { reason: reason() }),
            // A drain with a reason is a removal.
            State::Draining if event.reason.is_some() && is_main => Some(Outcome::Gone),
            _ => None,
        }
    }
}

impl Placed {
    fn outcome(self, compile: Duration) -> Outcome {
        let (whole, since) = (self.saved.elapsed(), self.at.elapsed());
        match self.built {
            None => Outcome::Settings { took: whole },
            Some((build, check)) => {
                let steps = Steps { build, check, compile, swap: since.saturating_sub(compile), whole };
                Outcome::Swapped { why: self.why, steps }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hotbay::config::ServiceName;
    use std::time::SystemTime;

    fn event(state: State, revision: &str, took: u64) -> Event {
        Event {
            sequence: 1,
            at: SystemTime::now(),
            service: "hello".to_owned(),
            label: None,
            revision: Some(revision.to_owned()),
            state,
            took: Duration::from_millis(took),
            reason: (state == State::Rejected).then(|| "it is text".to_owned()),
            remedy: None,
        }
    }

    fn placed(revision: &str) -> Placed {
        let built = Some((Duration::from_millis(800), Duration::from_millis(2)));
        let now = Instant::now();
        Placed { why: "src/lib.rs".to_owned(), saved: now, built, at: now, revision: Some(revision.to_owned()) }
    }

    #[test]
    fn the_steps_of_a_save_come_together() {
        let mut awaited = Awaited::default();
        awaited.placed("hello", placed("aa"));
        assert!(awaited.told(&event(State::Compiling, "aa", 60)).is_none());
        let Some(Outcome::Swapped { why, steps }) = awaited.told(&event(State::Published, "aa", 64)) else { panic!("it serves") };
        assert_eq!(
            (why.as_str(), steps.build, steps.compile),
            ("src/lib.rs", Duration::from_millis(800), Duration::from_millis(60))
        );
        assert!(matches!(awaited.told(&event(State::Published, "bb", 1)), Some(Outcome::Published { .. })));
    }

    #[test]
    fn what_becomes_of_a_label_ends_no_wait() {
        let mut awaited = Awaited::default();
        awaited.placed("hello", Placed { built: None, revision: None, ..placed("aa") });
        for state in [State::Compiling, State::Published, State::Rejected] {
            let of_a_label = Event { label: Some("beta".to_owned()), ..event(state, "bb", 1) };
            assert!(!matches!(awaited.told(&of_a_label), Some(Outcome::Settings { .. })));
        }
        assert!(matches!(awaited.told(&event(State::Published, "aa", 1)), Some(Outcome::Settings { .. })));
    }

    #[test]
    fn mended_settings_are_known_to_serve_already() {
        let mut awaited = Awaited::default();
        let settings = |text| Settings::parse(&ServiceName::parse("hello").unwrap(), text).unwrap();
        let (good, other) = (settings("# as it was\n"), settings("[limits]\nmemory = \"8MiB\"\n"));
        assert!(!awaited.is_served("hello", "aa", &good), "nothing is known yet");
        awaited.published(&event(State::Published, "aa", 1), Some(good));
        awaited.placed("hello", Placed { built: None, revision: None, ..placed("aa") });
        assert!(awaited.told(&event(State::Rejected, "aa", 1)).is_some());
        assert!(awaited.is_served("hello", "aa", &settings("")));
        assert!(!awaited.is_served("hello", "aa", &other) && !awaited.is_served("hello", "bb", &settings("")));
        awaited.placed("hello", placed("bb"));
        assert!(!awaited.is_served("hello", "aa", &settings("")), "another one is on its way");
        let gone_back = Event { reason: Some("it failed".to_owned()), ..event(State::Published, "aa", 1) };
        awaited.published(&gone_back, Some(settings("")));
        assert!(!awaited.is_served("hello", "aa", &settings("")));
    }

    #[test]
    fn one_that_was_overtaken_is_not_taken_for_the_newest() {
        let mut awaited = Awaited::default();
        awaited.placed("hello", placed("aa"));
        awaited.placed("hello", placed("bb"));
        assert!(matches!(awaited.told(&event(State::Published, "aa", 1)), Some(Outcome::Published { .. })));
        assert!(matches!(awaited.told(&event(State::Published, "bb", 1)), Some(Outcome::Swapped { .. })));
        awaited.placed("hello", placed("cc"));
        assert!(
            matches!(awaited.told(&event(State::Rejected, "cc", 1)), Some(Outcome::Rejected { reason, .. }) if reason == "it is text")
        );
    }
}
