//! What happens to revisions: one typed event and one log line for each state.

use super::history::Came;
use crate::{
    config::{BuildName, Traffic},
    runtime::Reject,
    telemetry::{Metrics, Outcome, micros},
};
use serde::{Serialize, Serializer};
use std::{
    collections::VecDeque,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, SystemTime},
};
use tokio::sync::watch;
use tracing::{error, info, warn};

/// Events that are kept: a reader that is further behind loses the oldest.
const RING: usize = 1024;

/// The states of a swap, by the names that logs, events and the API show.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
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

/// One state that a revision of a service has come through. Its fields are what the API shows.
#[derive(Debug, Clone, Serialize)]
pub struct Event {
    /// Counts from 1, without gaps, in the order of sending.
    pub sequence: u64,
    /// When; RFC 3339.
    #[serde(serialize_with = "rfc3339")]
    pub at: SystemTime,
    /// Which service.
    pub service: String,
    /// Of a labelled revision, `NAME@LABEL`: its label.
    pub label: Option<String>,
    /// Which revision, where its digest is known.
    pub revision: Option<String>,
    /// Which state.
    pub state: State,
    /// How long the step took; for `published` and `rejected` the whole since `detected`, for `retired` the drain.
    #[serde(rename = "took_us", serialize_with = "as_micros")]
    pub took: Duration,
    /// Why, for `rejected`, for a removal and for a drain that was cut.
    pub reason: Option<String>,
    /// What to do, for `rejected`.
    pub remedy: Option<String>,
}

/// Where events go: the log, and whoever listens.
pub struct Events {
    /// The lock is held while one is sent, so that they arrive in the order of their numbers.
    kept: Mutex<Kept>,
    /// The number of the last event: wakes the readers.
    last: watch::Sender<u64>,
    metrics: Arc<Metrics>,
}

/// The last events, the newest at the end.
struct Kept {
    last: u64,
    ring: VecDeque<Arc<Event>>,
}

impl Events {
    /// Nothing has happened yet. Each state is counted too.
    pub fn new(metrics: Arc<Metrics>) -> Self {
        let kept = Kept { last: 0, ring: VecDeque::with_capacity(RING) };
        Self { kept: Mutex::new(kept), last: watch::channel(0).0, metrics }
    }

    /// Everything from here on.
    pub fn subscribe(self: &Arc<Self>) -> Reader {
        self.reader(self.kept().last)
    }

    /// Everything after the event number `last`, and what is told of those that are not kept any more. A number that was not
    /// given yet is another host's: then everything that is kept.
    pub fn subscribe_from(self: &Arc<Self>, last: u64) -> Reader {
        let given = self.kept().last;
        if last > given { self.subscribe_kept() } else { self.reader(last) }
    }

    /// Everything that is kept, and what comes after it.
    pub fn subscribe_kept(self: &Arc<Self>) -> Reader {
        let before = self.kept().ring.front().map_or(0, |oldest| oldest.sequence.saturating_sub(1));
        self.reader(before)
    }

    fn reader(self: &Arc<Self>, seen: u64) -> Reader {
        Reader { events: self.clone(), last: self.last.subscribe(), seen }
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Where they are counted.
    pub(super) fn metrics(&self) -> &Arc<Metrics> {
        &self.metrics
    }

    /// A state that went well.
    pub(super) fn state(&self, name: &BuildName, revision: Option<&str>, state: State, took: Duration) {
        info!(target: "hotbay::swap", service = %name.service, label = name.label(), revision, %state, took_us = micros(took), "{name} {state}");
        self.send(name.into(), revision, state, took, None, None);
    }

    /// A publication. `reason` says why, where it is not what lies in the bay.
    pub(super) fn published(&self, name: &BuildName, revision: &str, took: Duration, came: Came, reason: Option<&str>) {
        let (state, took_us, came) = (State::Published, micros(took), came.as_str());
        match reason {
            None => {
                info!(target: "hotbay::swap", service = %name.service, label = name.label(), revision, %state, took_us, came, "{name} published")
            }
            Some(reason) => {
                error!(target: "hotbay::swap", service = %name.service, label = name.label(), revision, %state, took_us, came, reason, "{name} published ({came}): {reason}");
            }
        }
        self.send(name.into(), Some(revision), state, took, reason, None);
    }

    /// A revision that the host goes back from.
    pub(super) fn rolled_back(&self, name: &BuildName, revision: &str, served: Duration, reason: &str, remedy: &str) {
        let state = State::RolledBack;
        error!(target: "hotbay::swap", service = %name.service, label = name.label(), revision, %state, took_us = micros(served), reason, remedy, "{name} rolled-back: {reason}; {remedy}");
        self.send(name.into(), Some(revision), state, served, Some(reason), Some(remedy));
    }

    /// The last good revision of the history does not serve either.
    pub(super) fn last_good_fails(&self, name: &BuildName, reject: &Reject) {
        error!(target: "hotbay::swap", service = %name.service, label = name.label(), reason = reject.reason, remedy = reject.remedy, "{name} has no good revision: the last good one does not serve either: {reject}");
    }

    /// A revision fails, and there is nothing to go back to.
    pub(super) fn rollback_fails(&self, name: &BuildName, reason: &str, reject: &Reject) {
        error!(target: "hotbay::swap", service = %name.service, label = name.label(), reason, remedy = reject.remedy, "{name} fails and stays published: {reason}; it cannot be gone back from: {reject}");
    }

    /// The shares of a service are others; its revisions are the same.
    pub(super) fn shared(&self, name: &BuildName, traffic: &Traffic) {
        let shares: Vec<String> = traffic.shares.iter().map(|(label, percent)| format!("{label} {percent} %")).collect();
        info!(target: "hotbay::swap", service = %name.service, shares = shares.join(", "), "{name} shares its requests anew");
    }

    /// A file that no service can come of.
    pub(super) fn unusable(&self, file: &str, reject: &Reject) {
        let (state, remedy) = (State::Rejected, &reject.remedy);
        let reason = format!("{file}: {}", reject.reason);
        warn!(target: "hotbay::swap", service = file, %state, took_us = 0, reason, remedy, "{file} rejected: {reason}; {remedy}");
        self.send(Subject { service: file, label: None }, None, state, Duration::ZERO, Some(&reason), Some(remedy));
    }

    /// A build or settings that will not serve.
    pub(super) fn rejected(&self, name: &BuildName, revision: Option<&str>, took: Duration, reason: &str, remedy: &str) {
        let state = State::Rejected;
        warn!(target: "hotbay::swap", service = %name.service, label = name.label(), revision, %state, took_us = micros(took), reason, remedy, "{name} rejected: {reason}; {remedy}");
        self.send(name.into(), revision, state, took, Some(reason), Some(remedy));
    }

    /// A revision that gets no new requests, and why where it is not for the next one.
    pub(super) fn draining(&self, name: &BuildName, revision: &str, reason: Option<&str>) {
        let state = State::Draining;
        let because = reason.map(|reason| format!(": {reason}")).unwrap_or_default();
        info!(target: "hotbay::swap", service = %name.service, label = name.label(), revision, %state, took_us = 0, reason, "{name} draining{because}");
        self.send(name.into(), Some(revision), state, Duration::ZERO, reason, None);
    }

    /// A drain that was cut at its deadline.
    pub(super) fn cut(&self, name: &BuildName, revision: &str, took: Duration) {
        let (state, reason) = (State::Retired, "the drain deadline was over; what still ran was ended");
        warn!(target: "hotbay::swap", service = %name.service, label = name.label(), revision, %state, took_us = micros(took), reason, "{name} retired: {reason}");
        self.send(name.into(), Some(revision), state, took, Some(reason), None);
    }

    fn send(
        &self,
        Subject { service, label }: Subject<'_>,
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
        let mut kept = self.kept();
        kept.last += 1;
        let event = Event {
            sequence: kept.last,
            at: SystemTime::now(),
            service: service.to_owned(),
            label: label.map(str::to_owned),
            revision: revision.map(str::to_owned),
            state,
            took,
            reason: reason.map(str::to_owned),
            remedy: remedy.map(str::to_owned),
        };
        if kept.ring.len() == RING {
            kept.ring.pop_front();
        }
        kept.ring.push_back(Arc::new(event));
        self.last.send_replace(kept.last);
    }
}

/// Whom an event is about: a service, its labelled revision, or a file that can be none.
struct Subject<'a> {
    service: &'a str,
    label: Option<&'a str>,
}

impl<'a> From<&'a BuildName> for Subject<'a> {
    fn from(name: &'a BuildName) -> Self {
        Self { service: name.service.as_str(), label: name.label() }
    }
}

/// What a reader is told.
#[derive(Debug, Clone)]
pub enum Told {
    /// The next event.
    Event(Arc<Event>),
    /// So many were lost before the next one: the reader was too slow, or asked too late.
    Lost(u64),
}

/// Reads events at its own pace; nobody waits for it.
pub struct Reader {
    events: Arc<Events>,
    last: watch::Receiver<u64>,
    /// The number of the last event that was told or lost.
    seen: u64,
}

impl Reader {
    /// What there is already; none where everything has been told.
    pub fn ready(&mut self) -> Option<Told> {
        let kept = self.events.kept();
        let oldest = kept.ring.front()?.sequence;
        let lost = oldest.saturating_sub(self.seen).saturating_sub(1);
        if lost > 0 {
            self.seen = oldest.saturating_sub(1);
            return Some(Told::Lost(lost));
        }
        let position = usize::try_from(self.seen.checked_sub(oldest.checked_sub(1)?)?).ok()?;
        let event = kept.ring.get(position)?.clone();
        self.seen = event.sequence;
        Some(Told::Event(event))
    }

    /// The next event, or how many were lost before it.
    pub async fn next(&mut self) -> Told {
        loop {
            self.last.mark_unchanged();
            if let Some(told) = self.ready() {
                return told;
            }
            // The sender lives in `events`.
            let _ = self.last.changed().await;
        }
    }
}

fn rfc3339<S: Serializer>(at: &SystemTime, to: S) -> Result<S::Ok, S::Error> {
    to.collect_str(&humantime::format_rfc3339_micros(*at))
}

fn as_micros<S: Serializer>(took: &Duration, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_u64(micros(*took))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sent(count: u64) -> (Arc<Events>, BuildName) {
        let (events, name) = (Arc::new(Events::new(Arc::new(Metrics::new().unwrap()))), BuildName::parse("hello").unwrap());
        (0..count).for_each(|_| events.state(&name, None, State::Detected, Duration::ZERO));
        (events, name)
    }

    fn number(told: Option<Told>) -> Option<u64> {
        told.map(|told| match told {
            Told::Event(event) => event.sequence,
            Told::Lost(count) => panic!("{count} were lost"),
        })
    }

    #[test]
    fn a_reader_goes_on_where_it_stood() {
        let (events, name) = sent(3);
        assert_eq!(number(events.subscribe().ready()), None);
        let mut reader = events.subscribe_from(1);
        assert_eq!([number(reader.ready()), number(reader.ready()), number(reader.ready())], [Some(2), Some(3), None]);
        events.state(&name, None, State::Reading, Duration::ZERO);
        assert_eq!(number(reader.ready()), Some(4));
        assert_eq!(number(events.subscribe_kept().ready()), Some(1));
        assert_eq!(number(events.subscribe_from(99).ready()), Some(1), "a number of another host");
    }

    #[test]
    fn who_is_too_slow_loses_the_oldest_and_is_told_how_many() {
        let ring = u64::try_from(RING).unwrap();
        let (events, name) = sent(1);
        let mut reader = events.subscribe_kept();
        (0..ring + 4).for_each(|_| events.state(&name, None, State::Reading, Duration::ZERO));
        assert!(matches!(reader.ready(), Some(Told::Lost(5))));
        assert_eq!(number(reader.ready()), Some(6));
        let mut reader = events.subscribe_kept();
        assert_eq!(number(reader.ready()), Some(6), "who asked for none of the old ones has lost none");
    }

    #[test]
    fn the_fields_of_the_api() {
        let (events, _) = sent(1);
        let Some(Told::Event(event)) = events.subscribe_kept().ready() else { panic!("one was sent") };
        let json = serde_json::to_value(&*event).unwrap();
        let mut names: Vec<_> = json.as_object().unwrap().keys().map(String::as_str).collect();
        names.sort_unstable();
        assert_eq!(names, ["at", "label", "reason", "remedy", "revision", "sequence", "service", "state", "took_us"]);
        assert_eq!(json["state"], "detected");
    }
}
