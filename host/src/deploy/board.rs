//! How each service stands at this moment: what serves, what was rejected last, what still drains.

use super::history::Came;
use crate::{
    config::{Limits, Traffic},
    runtime::{Kind, Links, Revision},
    telemetry::RevisionMetrics,
};
use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::SystemTime,
};

/// The state of a service as a whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Its first build has not been decided yet.
    Loading,
    /// It has a good revision.
    Serving,
    /// The host went back to an earlier one from one that failed.
    RolledBack,
    /// What lies in the bay was rejected at the start, and the last good one of the history serves.
    LastGood,
    /// It never had a good one.
    Rejected,
    /// It was removed, and what ran finishes.
    Draining,
}

impl Phase {
    /// The name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Loading => "loading",
            Self::Serving => "serving",
            Self::RolledBack => "rolled-back",
            Self::LastGood => "last-good",
            Self::Rejected => "rejected",
            Self::Draining => "draining",
        }
    }
}

/// One service, or one file of the bay that can be none.
#[derive(Debug, Clone)]
pub struct Status {
    /// Since when it has its phase.
    pub since: SystemTime,
    /// The revision that gets new requests.
    pub serving: Option<Serving>,
    /// The last reject, unless a later build serves or the files are again those that serve.
    pub rejected: Option<Rejected>,
    /// Revisions that finish what they have.
    pub draining: Vec<Draining>,
    /// How the settings that hold share its requests out.
    pub traffic: Traffic,
    /// What its build in the bay calls and exports, where that waits for other services.
    pub waits: Option<Arc<Links>>,
    /// Whether its files are there.
    present: bool,
}

/// A revision that gets new requests.
#[derive(Debug, Clone)]
pub struct Serving {
    /// 12 hex digits of the digest.
    pub revision: String,
    /// SHA-256 of the build, in hex.
    pub digest: String,
    /// How it is served.
    pub kind: Kind,
    /// Where it answers, as people write it; none for a library.
    pub routes: Vec<String>,
    /// What it may reach outside itself.
    pub grants: Vec<String>,
    /// The services that it may call, whether they are there or not.
    pub calls: Vec<String>,
    /// The interfaces of services that it imports and exports.
    pub links: Arc<Links>,
    /// The way in which it came to serve.
    pub came: Came,
    /// Why it serves, where it is not what lies in the bay.
    pub reason: Option<String>,
    /// When new requests began to run on it.
    pub published_at: SystemTime,
    /// What it may use.
    pub limits: Limits,
    /// What is counted of it. The revision itself is not kept from its end.
    pub metrics: Arc<RevisionMetrics>,
}

/// A build, settings or a file that will not serve.
#[derive(Debug, Clone)]
pub struct Rejected {
    /// 12 hex digits of the digest, where the build could be read.
    pub revision: Option<String>,
    /// Why.
    pub reason: String,
    /// What to do.
    pub remedy: String,
    /// When.
    pub at: SystemTime,
}

/// A revision that gets no new requests.
#[derive(Debug, Clone)]
pub struct Draining {
    /// 12 hex digits of the digest.
    pub revision: String,
    /// Since when.
    pub since: SystemTime,
}

impl Status {
    fn new() -> Self {
        Self {
            since: SystemTime::now(),
            serving: None,
            rejected: None,
            draining: Vec::new(),
            traffic: Traffic::default(),
            waits: None,
            present: true,
        }
    }

    /// The state as a whole.
    pub fn phase(&self) -> Phase {
        match (&self.serving, &self.rejected) {
            _ if !self.present => Phase::Draining,
            (Some(Serving { came: Came::AutomaticRollback, .. }), _) => Phase::RolledBack,
            (Some(Serving { came: Came::LastGood, .. }), _) => Phase::LastGood,
            (Some(_), _) => Phase::Serving,
            (None, Some(_)) => Phase::Rejected,
            (None, None) => Phase::Loading,
        }
    }
}

/// Written by the swaps, read by whoever asks. Each call holds the lock for a moment and waits for nothing else.
#[derive(Default)]
pub struct Board {
    services: Mutex<BTreeMap<String, Status>>,
    /// How many have [`Phase::Loading`]; written under the lock.
    loading: AtomicUsize,
    started: AtomicBool,
}

impl Board {
    /// No services.
    pub fn new() -> Self {
        Self::default()
    }

    /// Everything that was in the bay at the start has been decided.
    pub fn start_ended(&self) {
        self.started.store(true, Ordering::Release);
    }

    /// Whether everything that was in the bay at the start has been decided.
    pub fn has_started(&self) -> bool {
        self.started.load(Ordering::Acquire)
    }

    /// All of it, by name.
    pub fn all(&self) -> BTreeMap<String, Status> {
        self.services().clone()
    }

    /// One service.
    pub fn one(&self, name: &str) -> Option<Status> {
        self.services().get(name).cloned()
    }

    /// The names.
    pub fn names(&self) -> Vec<String> {
        self.services().keys().cloned().collect()
    }

    /// How many have not been decided yet.
    pub(super) fn loading_now(&self) -> usize {
        self.loading.load(Ordering::Acquire)
    }

    pub(super) fn loading(&self, name: &str) {
        self.change(name, |_| {});
    }

    /// `of_the_bay`: its files are those that lie in the bay, so that a reject of others is over.
    pub(super) fn published(&self, name: &str, revision: &Revision, came: Came, reason: Option<&str>, of_the_bay: bool) {
        let routes = match revision.kind() {
            Kind::Library => Vec::new(),
            _ => revision.settings().routes.iter().map(ToString::to_string).collect(),
        };
        let serving = Serving {
            revision: revision.digest().short(),
            digest: revision.digest().to_string(),
            kind: revision.kind(),
            routes,
            grants: revision.settings().grants.listed(),
            calls: revision.settings().grants.calls().iter().map(ToString::to_string).collect(),
            links: revision.links().clone(),
            came,
            reason: reason.map(str::to_owned),
            published_at: SystemTime::now(),
            limits: revision.settings().limits,
            metrics: revision.metrics().clone(),
        };
        let traffic = revision.settings().traffic.clone();
        self.change(name, |status| {
            (status.serving, status.traffic) = (Some(serving), traffic);
            if of_the_bay {
                status.rejected = None;
            }
        });
    }

    pub(super) fn rejected(&self, name: &str, revision: Option<&str>, reason: &str, remedy: &str) {
        let rejected = Rejected {
            revision: revision.map(str::to_owned),
            reason: reason.to_owned(),
            remedy: remedy.to_owned(),
            at: SystemTime::now(),
        };
        self.change(name, |status| status.rejected = Some(rejected));
    }

    /// Whether its build in the bay waits for other services. One that is not there stays so.
    pub(super) fn waits(&self, name: &str, links: Option<&Arc<Links>>) {
        if let Some(status) = self.services().get_mut(name) {
            status.waits = links.cloned();
        }
    }

    /// Its requests are shared out anew.
    pub(super) fn shared(&self, name: &str, traffic: &Traffic) {
        self.change(name, |status| status.traffic = traffic.clone());
    }

    /// The service has no revision to go back to.
    pub(super) fn withdrawn(&self, name: &str) {
        self.change(name, |status| status.serving = None);
    }

    /// The files in the bay are those that serve.
    pub(super) fn mended(&self, name: &str) {
        self.change(name, |status| {
            status.rejected = None;
            if let Some(serving) = &mut status.serving
                && matches!(serving.came, Came::AutomaticRollback | Came::LastGood)
            {
                (serving.came, serving.reason) = (Came::Bay, None);
            }
        });
    }

    /// The files are gone; what drains is shown until it has ended.
    pub(super) fn removed(&self, name: &str) {
        let mut services = self.services();
        if let Some(status) = services.get_mut(name) {
            self.count(Some(status.phase()), None);
            *status = Status { present: false, draining: std::mem::take(&mut status.draining), ..Status::new() };
            if status.draining.is_empty() {
                services.remove(name);
            }
        }
    }

    pub(super) fn draining(&self, name: &str, revision: &str) {
        let draining = Draining { revision: revision.to_owned(), since: SystemTime::now() };
        let gone = || Status { present: false, ..Status::new() };
        self.services().entry(name.to_owned()).or_insert_with(gone).draining.push(draining);
    }

    pub(super) fn retired(&self, name: &str, revision: &str) {
        let mut services = self.services();
        let Some(status) = services.get_mut(name) else {
            return;
        };
        // The same build with other settings may drain twice: the one that began first stands first.
        if let Some(first) = status.draining.iter().position(|draining| draining.revision == revision) {
            status.draining.remove(first);
        }
        if !status.present && status.draining.is_empty() {
            services.remove(name);
        }
    }

    fn change(&self, name: &str, change: impl FnOnce(&mut Status)) {
        let mut services = self.services();
        let counted = services.get(name).map(Status::phase);
        let status = services.entry(name.to_owned()).or_insert_with(Status::new);
        let before = status.phase();
        status.present = true;
        change(status);
        if status.phase() != before {
            status.since = SystemTime::now();
        }
        self.count(counted, Some(status.phase()));
    }

    /// A service went from one phase to another.
    fn count(&self, before: Option<Phase>, after: Option<Phase>) {
        match (before == Some(Phase::Loading), after == Some(Phase::Loading)) {
            (false, true) => self.loading.fetch_add(1, Ordering::AcqRel),
            (true, false) => self.loading.fetch_sub(1, Ordering::AcqRel),
            _ => return,
        };
    }

    fn services(&self) -> MutexGuard<'_, BTreeMap<String, Status>> {
        self.services.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_that_is_removed_is_shown_until_it_has_drained() {
        let board = Board::new();
        board.loading("hello");
        assert_eq!(board.one("hello").unwrap().phase(), Phase::Loading);
        assert_eq!(board.loading_now(), 1);
        board.loading("hello");
        board.loading("other");
        board.rejected("other", None, "no wasm", "put one there");
        assert_eq!(board.loading_now(), 1);
        board.removed("hello");
        board.removed("other");
        assert!(board.one("hello").is_none());
        assert_eq!(board.loading_now(), 0);
        board.draining("hello", "aa");
        board.draining("hello", "aa");
        board.retired("hello", "aa");
        assert_eq!(board.one("hello").unwrap().phase(), Phase::Draining);
        board.rejected("hello", None, "no wasm", "put one there");
        board.retired("hello", "aa");
        assert_eq!(board.one("hello").unwrap().phase(), Phase::Rejected);
        board.mended("hello");
        assert!(board.one("hello").unwrap().rejected.is_none());
    }
}
