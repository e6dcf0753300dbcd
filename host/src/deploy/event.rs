//! What happens to revisions: one typed event and one log line for each state.

use super::history::Came;
use crate::{
    config::ServiceName,
    runtime::Reject,
    telemetry::{Metrics, Outcome},
};
use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, SystemTime},
};
use tokio::sync::broadcast;
use tracing::{error, info, warn};

/// Events that a slow reader may be behind before it loses some.
const RING: usize = 1024;

/// The states of a swap, by the names that logs, events and the API show.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// A change of the bay was seen.
    Detected,
    /// The files were read.
    Reading,
    /// The build was compiled, or found compiled.
    Compiling,
    /// Its imports were resolved.
    Linking,
    /// It was instantiated once.
    Warming,
    /// New requests run on it.
    Published,
    /// It gets no new requests.
    Draining,
    /// It is gone.
    Retired,
    /// It will not serve.
    Rejected,
    /// It served, failed, and the host went back to the one before.
    RolledBack,
}

impl State {
    /// The name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Detected => "detected",
            Self::Reading => "reading",
            Self::Compiling => "compiling",
            Self::Linking => "linking",
            Self::Warming => "warming",
            Self::Published => "published",
            Self::Draining => "draining",
            Self::Retired => "retired",
            Self::Rejected => "rejected",
            Self::RolledBack => "rolled-back",
        }
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// One state that a revision of a service has come through.
#[derive(Debug, Clone)]
pub struct Event {
    /// Counts from 1, without gaps, in the order of sending.
    pub sequence: u64,
    /// When.
    pub at: SystemTime,
    /// Which service.
    pub service: String,
    /// Which revision, where its digest is known.
    pub revision: Option<String>,
    /// Which state.
    pub state: State,
    /// How long the step took; for `published` and `rejected` the whole since `detected`, for `retired` the drain.
    pub took: Duration,
    /// Why, for `rejected`, for a removal and for a drain that was cut.
    pub reason: Option<String>,
    /// What to do, for `rejected`.
    pub remedy: Option<String>,
}

/// Where events go: the log, and whoever listens.
pub struct Events {
    /// The number of the last event. The lock is held while one is sent, so that they arrive in the order of their numbers.
    last: Mutex<u64>,
    sender: broadcast::Sender<Event>,
    metrics: Arc<Metrics>,
}

impl Events {
    /// Nobody listens yet. Each state is counted too.
    pub fn new(metrics: Arc<Metrics>) -> Self {
        Self { last: Mutex::new(0), sender: broadcast::channel(RING).0, metrics }
    }

    /// Everything from here on. A reader that is more than 1024 events behind loses the oldest and is told how many.
    pub fn subscribe(&self) -> broadcast::Receiver<Event> {
        self.sender.subscribe()
    }

    /// Where they are counted.
    pub(super) fn metrics(&self) -> &Arc<Metrics> {
        &self.metrics
    }

    /// A state that went well.
    pub(super) fn state(&self, service: &ServiceName, revision: Option<&str>, state: State, took: Duration) {
        info!(target: "hotbay::swap", service = %service, revision, %state, took_us = micros(took), "{service} {state}");
        self.send(service.as_str(), revision, state, took, None, None);
    }

    /// A publication. `reason` says why, where it is not what lies in the bay.
    pub(super) fn published(&self, service: &ServiceName, revision: &str, took: Duration, came: Came, reason: Option<&str>) {
        let (state, took_us, name) = (State::Published, micros(took), came.as_str());
        match reason {
            None => info!(target: "hotbay::swap", %service, revision, %state, took_us, came = name, "{service} published"),
            Some(reason) => {
                error!(target: "hotbay::swap", %service, revision, %state, took_us, came = name, reason, "{service} published ({name}): {reason}");
            }
        }
        self.send(service.as_str(), Some(revision), state, took, reason, None);
    }

    /// A revision that the host goes back from.
    pub(super) fn rolled_back(&self, service: &ServiceName, revision: &str, served: Duration, reason: &str, remedy: &str) {
        let state = State::RolledBack;
        error!(target: "hotbay::swap", %service, revision, %state, took_us = micros(served), reason, remedy, "{service} rolled-back: {reason}; {remedy}");
        self.send(service.as_str(), Some(revision), state, served, Some(reason), Some(remedy));
    }

    /// The last good revision of the history does not serve either.
    pub(super) fn last_good_fails(&self, service: &ServiceName, reject: &Reject) {
        error!(target: "hotbay::swap", %service, reason = reject.reason, remedy = reject.remedy, "{service} has no good revision: the last good one does not serve either: {reject}");
    }

    /// A revision fails, and there is nothing to go back to.
    pub(super) fn rollback_fails(&self, service: &ServiceName, reason: &str, reject: &Reject) {
        error!(target: "hotbay::swap", %service, reason, remedy = reject.remedy, "{service} fails and stays published: {reason}; it cannot be gone back from: {reject}");
    }

    /// A build, settings or a file that will not serve. `service` is the file's name where there is no service of that name.
    pub(super) fn rejected(&self, service: &str, revision: Option<&str>, took: Duration, reason: &str, remedy: &str) {
        let state = State::Rejected;
        warn!(target: "hotbay::swap", service, revision, %state, took_us = micros(took), reason, remedy, "{service} rejected: {reason}; {remedy}");
        self.send(service, revision, state, took, Some(reason), Some(remedy));
    }

    /// A revision that gets no new requests, and why where it is not for the next one.
    pub(super) fn draining(&self, service: &ServiceName, revision: &str, reason: Option<&str>) {
        let state = State::Draining;
        let because = reason.map(|reason| format!(": {reason}")).unwrap_or_default();
        info!(target: "hotbay::swap", service = %service, revision, %state, took_us = 0, reason, "{service} draining{because}");
        self.send(service.as_str(), Some(revision), state, Duration::ZERO, reason, None);
    }

    /// A drain that was cut at its deadline.
    pub(super) fn cut(&self, service: &ServiceName, revision: &str, took: Duration) {
        let (state, reason) = (State::Retired, "the drain deadline was over; what still ran was ended");
        warn!(target: "hotbay::swap", service = %service, revision, %state, took_us = micros(took), reason, "{service} retired: {reason}");
        self.send(service.as_str(), Some(revision), state, took, Some(reason), None);
    }

    fn send(
        &self,
        service: &str,
        revision: Option<&str>,
        state: State,
        took: Duration,
        reason: Option<&str>,
        remedy: Option<&str>,
    ) {
        match state {
            State::Published => self.metrics.swapped(service, Outcome::Published),
            State::Rejected => self.metrics.swapped(service, Outcome::Rejected),
            State::RolledBack => self.metrics.swapped(service, Outcome::RolledBack),
            _ => {}
        }
        if !matches!(state, State::Detected | State::Draining | State::Rejected | State::RolledBack) {
            self.metrics.step(state.as_str(), took);
        }
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        *last += 1;
        let event = Event {
            sequence: *last,
            at: SystemTime::now(),
            service: service.to_owned(),
            revision: revision.map(str::to_owned),
            state,
            took,
            reason: reason.map(str::to_owned),
            remedy: remedy.map(str::to_owned),
        };
        // An error only says that nobody listens.
        let _ = self.sender.send(event);
    }
}

fn micros(took: Duration) -> u64 {
    u64::try_from(took.as_micros()).unwrap_or(u64::MAX)
}
