//! What is counted of the host: made once, handed to whoever counts, read by Prometheus.
//!
//! Labels are bounded by what is alive. A series ends with the last that counts on it, and its counters are told once more after
//! that: a revision that was published and rolled back between two scrapes would leave no trace otherwise.

use super::{
    call_metrics::CallMetrics,
    families::Families,
    labels::{CallResult, Capability, CronResult, KeyValueResult, Limit, OutboundResult, Outcome, Renewal, Unrouted},
    process,
    recent::ServiceCount,
    revision_metrics::{CLASSES, FaultKind, RevisionMetrics, Vitals},
};
use prometheus::{IntCounter, IntGauge, TextEncoder};
use std::{
    collections::{BTreeMap, VecDeque},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, SystemTime},
};

/// The `content-type` of [`Metrics::text`].
pub const METRICS_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Ended series that wait for a scrape; of a host that nobody scrapes, the oldest go.
const ENDED_MAX: usize = 64;

/// All metrics of one host.
pub struct Metrics {
    pub(super) families: Families,
    unrouted: [(Unrouted, IntCounter); Unrouted::ALL.len()],
    alive: Mutex<Alive>,
    budgets: Mutex<Vec<Arc<Budgeted>>>,
}

/// Who counts at this moment, by the labels.
#[derive(Default)]
struct Alive {
    services: BTreeMap<String, Weak<ServiceMetrics>>,
    /// More than one where a build that drains is published again, with other settings say. They share their series.
    revisions: BTreeMap<(String, String), Vec<Weak<RevisionMetrics>>>,
    calls: BTreeMap<(String, String), Weak<CallMetrics>>,
    ended: VecDeque<Ended>,
}

/// A series that nobody counts on any more.
#[derive(PartialEq)]
enum Ended {
    Service(String),
    Revision(String, String),
    Calls(String, String),
}

/// Something of which all services together may have so much, and how much they have.
#[derive(Debug)]
pub struct Budgeted {
    name: &'static str,
    limit: u64,
    used: AtomicU64,
}

impl Budgeted {
    /// How much there is.
    pub fn limit(&self) -> u64 {
        self.limit
    }

    /// How much is used.
    pub fn used(&self) -> u64 {
        self.used.load(Relaxed)
    }

    /// So much more is used. Returns how much it is now.
    pub fn add(&self, amount: u64) -> u64 {
        self.used.fetch_add(amount, Relaxed).saturating_add(amount)
    }

    /// So much less is used.
    pub fn sub(&self, amount: u64) {
        self.used.fetch_sub(amount, Relaxed);
    }
}

/// What is counted of one service as a whole. Whoever holds it keeps its series.
pub struct ServiceMetrics {
    host: Arc<Metrics>,
    name: String,
    refused: [(Limit, IntCounter); Limit::ALL.len()],
    denied: [(Capability, IntCounter); Capability::ALL.len()],
    outbound: [(OutboundResult, IntCounter); OutboundResult::ALL.len()],
    keyvalue: [(KeyValueResult, IntCounter); KeyValueResult::ALL.len()],
    tcp: IntCounter,
    tcp_refused: IntCounter,
    tcp_sockets: IntGauge,
    renewed: [(Renewal, IntCounter); Renewal::ALL.len()],
    lines: IntCounter,
    lines_cut: IntCounter,
    ended: Arc<ServiceCount>,
}

impl ServiceMetrics {
    /// The name of the service.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Counts a request that a limit refused.
    pub fn refused(&self, limit: Limit) {
        count(&self.refused, limit);
    }

    /// Counts what no grant allows.
    pub fn denied(&self, capability: Capability) {
        count(&self.denied, capability);
    }

    /// What is counted of its revisions that have ended.
    pub(super) fn ended(&self) -> &Arc<ServiceCount> {
        &self.ended
    }

    /// What is counted of its calls to the service `callee`.
    pub fn calls_to(&self, callee: &str) -> Arc<CallMetrics> {
        self.host.calls_of(&self.name, callee)
    }

    /// Counts a request to another host that has ended.
    pub fn asked(&self, result: OutboundResult) {
        count(&self.outbound, result);
    }

    /// Counts a call that read or wrote keys.
    pub fn kept(&self, result: KeyValueResult) {
        count(&self.keyvalue, result);
    }

    /// Counts a TCP connection that was begun.
    pub fn dialled(&self) {
        self.tcp.inc();
    }

    /// Counts a TCP socket that was one too many.
    pub fn socket_refused(&self) {
        self.tcp_refused.inc();
    }

    /// Counts a TCP socket for as long as the returned value lives.
    pub fn socket(&self) -> Connected {
        self.tcp_sockets.inc();
        Connected(self.tcp_sockets.clone())
    }

    /// How many requests a limit refused.
    pub fn refusals(&self, limit: Limit) -> u64 {
        self.refused.iter().find(|(one, _)| *one == limit).map_or(0, |(_, counter)| counter.get())
    }

    /// It has entries of `[[cron]]`: what is counted of them is there with 0 before the first.
    pub fn has_cron(&self) {
        for result in CronResult::ALL {
            self.cron(result, 0);
        }
    }

    /// Counts a run of an entry that has ended.
    pub fn cron_ended(&self, result: CronResult) {
        self.cron(result, 1);
    }

    /// Counts times at which an entry did not run.
    pub fn cron_missed(&self, times: u64) {
        self.cron(CronResult::Missed, times);
    }

    /// Looked up each time: most services have no entries, and those that have run them once a minute or so.
    fn cron(&self, result: CronResult, times: u64) {
        self.host.families.cron.with_label_values(&[self.name.as_str(), result.as_str()]).inc_by(times);
    }

    /// Counts an instance that was renewed.
    pub fn renewed(&self, reason: Renewal) {
        count(&self.renewed, reason);
    }

    /// Counts a line that a guest wrote.
    pub fn line(&self) {
        self.lines.inc();
    }

    /// Counts lines that were cut.
    pub fn cut(&self, lines: u64) {
        self.lines_cut.inc_by(lines);
    }
}

impl Drop for ServiceMetrics {
    fn drop(&mut self) {
        self.host.service_ended(&self.name);
    }
}

/// A connection that is counted for as long as this lives.
pub struct Connected(IntGauge);

impl Drop for Connected {
    fn drop(&mut self) {
        self.0.dec();
    }
}

/// What is told of connections that wait because there are as many as there may be.
#[derive(Clone)]
pub struct ConnectionsFull(IntCounter);

impl ConnectionsFull {
    /// One waits.
    pub fn count(&self) {
        self.0.inc();
    }
}

impl Metrics {
    /// Nothing counted yet.
    ///
    /// # Errors
    /// Where two metrics have one name.
    pub fn new() -> prometheus::Result<Self> {
        let started = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let families = Families::new(env!("CARGO_PKG_VERSION"), started.as_secs_f64())?;
        let unrouted = Unrouted::ALL.map(|reason| (reason, families.unrouted.with_label_values(&[reason.as_str()])));
        Ok(Self { families, unrouted, alive: Mutex::default(), budgets: Mutex::default() })
    }

    /// Something of which all services together may have `limit`, told under `name`.
    pub fn budget(&self, name: &'static str, limit: u64) -> Arc<Budgeted> {
        let made = Arc::new(Budgeted { name, limit, used: AtomicU64::new(0) });
        self.budgets.lock().unwrap_or_else(PoisonError::into_inner).push(made.clone());
        made
    }

    /// What is counted of the service `name`.
    pub fn service(self: &Arc<Self>, name: &str) -> Arc<ServiceMetrics> {
        self.service_of(&mut self.alive(), name)
    }

    fn service_of(self: &Arc<Self>, alive: &mut Alive, name: &str) -> Arc<ServiceMetrics> {
        if let Some(there) = alive.services.get(name).and_then(Weak::upgrade) {
            return there;
        }
        alive.ended.retain(|ended| *ended != Ended::Service(name.to_owned()));
        let families = &self.families;
        // Made now, so that they are there with 0 before the first is counted.
        families.rejects.with_label_values(&[name]);
        for outcome in Outcome::ALL {
            families.swaps.with_label_values(&[name, outcome.as_str()]);
        }
        let made = Arc::new(ServiceMetrics {
            host: self.clone(),
            name: name.to_owned(),
            refused: Limit::ALL.map(|limit| (limit, families.refused.with_label_values(&[name, limit.as_str()]))),
            denied: Capability::ALL
                .map(|capability| (capability, families.denied.with_label_values(&[name, capability.as_str()]))),
            outbound: OutboundResult::ALL.map(|result| (result, families.outbound.with_label_values(&[name, result.as_str()]))),
            keyvalue: KeyValueResult::ALL.map(|result| (result, families.keyvalue.with_label_values(&[name, result.as_str()]))),
            tcp: families.tcp.with_label_values(&[name]),
            tcp_refused: families.tcp_refused.with_label_values(&[name]),
            tcp_sockets: families.tcp_sockets.with_label_values(&[name]),
            renewed: Renewal::ALL.map(|reason| (reason, families.renewed.with_label_values(&[name, reason.as_str()]))),
            lines: families.lines.with_label_values(&[name]),
            lines_cut: families.lines_cut.with_label_values(&[name]),
            ended: Arc::default(),
        });
        alive.services.insert(name.to_owned(), Arc::downgrade(&made));
        made
    }

    /// What is counted of one revision; `vitals` is read at each scrape.
    pub fn revision(self: &Arc<Self>, service: &str, revision: &str, vitals: Vitals) -> Arc<RevisionMetrics> {
        let mut alive = self.alive();
        let of_service = self.service_of(&mut alive, service);
        alive.ended.retain(|ended| *ended != Ended::Revision(service.to_owned(), revision.to_owned()));
        let made = Arc::new(RevisionMetrics::new(self.clone(), of_service, revision, vitals));
        alive.revisions.entry((service.to_owned(), revision.to_owned())).or_default().push(Arc::downgrade(&made));
        made
    }

    /// Counts a request that reached no revision.
    pub fn unrouted(&self, reason: Unrouted) {
        count(&self.unrouted, reason);
    }

    /// Counts a connection for as long as the returned value lives.
    pub fn connected(&self) -> Connected {
        let connections = self.families.connections.clone();
        connections.inc();
        Connected(connections)
    }

    /// Counts connections that had to wait.
    pub fn connections_full(&self) -> ConnectionsFull {
        ConnectionsFull(self.families.connections_full.clone())
    }

    /// Counts how a swap ended. A file whose name is no service's is counted without one: such names are not bounded.
    pub fn swapped(&self, service: &str, outcome: Outcome) {
        let alive = self.alive();
        let known = alive.services.contains_key(service);
        let service = if known { service } else { "" };
        if outcome == Outcome::Rejected {
            self.families.rejects.with_label_values(&[service]).inc();
        }
        if known {
            self.families.swaps.with_label_values(&[service, outcome.as_str()]).inc();
        }
    }

    /// Counts the time that a step of a swap took; `step` is the name of its state.
    pub fn step(&self, step: &'static str, took: Duration) {
        self.families.step.with_label_values(&[step]).observe(took.as_secs_f64());
    }

    /// All of it in the text format of Prometheus, version 0.0.4. Reads /proc: not for an async thread.
    pub fn text(&self) -> String {
        let mut alive = self.alive();
        // Let go of after the lock: the last to let go ends a series, under the lock.
        let counted = self.read(&alive);
        process::read(&self.families.process);
        for budget in self.budgets.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            let shown = |amount| i64::try_from(amount).unwrap_or(i64::MAX);
            self.families.budget.with_label_values(&[budget.name]).set(shown(budget.limit));
            self.families.budget_used.with_label_values(&[budget.name]).set(shown(budget.used()));
        }
        let families = self.families.gather();
        for ended in alive.ended.drain(..) {
            self.forget(&ended);
        }
        drop(alive);
        drop(counted);
        let mut text = String::new();
        // Names were checked when they were registered, and a string takes all that is written.
        let _ = TextEncoder::new().encode_utf8(&families, &mut text);
        text
    }

    /// Reads the gauges of all revisions that there are.
    fn read(&self, alive: &Alive) -> Vec<Arc<RevisionMetrics>> {
        for service in alive.services.keys() {
            self.families.revisions.with_label_values(&[service]).set(0);
        }
        let mut all = Vec::new();
        for ((service, revision), sharing) in &alive.revisions {
            let sharing: Vec<_> = sharing.iter().filter_map(Weak::upgrade).collect();
            let sum = |of: fn(&RevisionMetrics) -> u64| {
                i64::try_from(sharing.iter().map(|one| of(one)).sum::<u64>()).unwrap_or(i64::MAX)
            };
            let labels = [service.as_str(), revision.as_str()];
            let families = &self.families;
            families.in_flight.with_label_values(&labels).set(sum(RevisionMetrics::in_flight));
            families.waiting.with_label_values(&labels).set(sum(RevisionMetrics::waiting));
            families.instances.with_label_values(&labels).set(sum(RevisionMetrics::instances));
            families.idle.with_label_values(&labels).set(sum(RevisionMetrics::idle));
            families.memory.with_label_values(&labels).set(sum(RevisionMetrics::memory));
            families.revisions.with_label_values(&[service]).add(sum(|one| u64::from(one.is_there())));
            all.extend(sharing);
        }
        all
    }

    fn service_ended(&self, name: &str) {
        let mut alive = self.alive();
        // One that was made meanwhile goes on with the series.
        if alive.services.get(name).is_some_and(|one| one.strong_count() == 0) {
            alive.services.remove(name);
            self.end(&mut alive, Ended::Service(name.to_owned()));
        }
    }

    pub(super) fn revision_ended(&self, service: &str, revision: &str) {
        let mut alive = self.alive();
        let labels = (service.to_owned(), revision.to_owned());
        let Some(sharing) = alive.revisions.get_mut(&labels) else {
            return;
        };
        sharing.retain(|one| one.strong_count() > 0);
        if sharing.is_empty() {
            alive.revisions.remove(&labels);
            self.families.forget_gauges(service, revision);
            self.end(&mut alive, Ended::Revision(labels.0, labels.1));
        }
    }

    fn calls_of(self: &Arc<Self>, caller: &str, callee: &str) -> Arc<CallMetrics> {
        let mut alive = self.alive();
        let labels = (caller.to_owned(), callee.to_owned());
        if let Some(there) = alive.calls.get(&labels).and_then(Weak::upgrade) {
            return there;
        }
        alive.ended.retain(|ended| *ended != Ended::Calls(labels.0.clone(), labels.1.clone()));
        let by_class = CLASSES.map(|class| self.families.calls.with_label_values(&[caller, callee, class]));
        let typed = &self.families.typed_calls;
        let by_result = CallResult::ALL.map(|result| (result, typed.with_label_values(&[caller, callee, result.as_str()])));
        let made = Arc::new(CallMetrics::new(self.clone(), &labels, by_class, by_result));
        alive.calls.insert(labels, Arc::downgrade(&made));
        made
    }

    pub(super) fn calls_ended(&self, labels: &(String, String)) {
        let mut alive = self.alive();
        // Those that were made meanwhile go on with the series.
        if alive.calls.get(labels).is_some_and(|one| one.strong_count() == 0) {
            alive.calls.remove(labels);
            self.end(&mut alive, Ended::Calls(labels.0.clone(), labels.1.clone()));
        }
    }

    /// Who may call whom, or could a moment ago, and how often it did.
    pub fn calls(&self) -> Vec<Arc<CallMetrics>> {
        self.alive().calls.values().filter_map(Weak::upgrade).collect()
    }

    /// The services that anything is counted of.
    pub(super) fn services(&self) -> Vec<Arc<ServiceMetrics>> {
        self.alive().services.values().filter_map(Weak::upgrade).collect()
    }

    /// The revisions that anything is counted of; let go of outside the lock.
    pub(super) fn revisions(&self) -> Vec<Arc<RevisionMetrics>> {
        self.alive().revisions.values().flatten().filter_map(Weak::upgrade).collect()
    }

    fn end(&self, alive: &mut Alive, ended: Ended) {
        alive.ended.push_back(ended);
        if alive.ended.len() > ENDED_MAX
            && let Some(oldest) = alive.ended.pop_front()
        {
            self.forget(&oldest);
        }
    }

    fn forget(&self, ended: &Ended) {
        match ended {
            Ended::Service(name) => self.families.forget_service(name),
            Ended::Calls(caller, callee) => self.families.forget_calls(caller, callee, &CLASSES),
            Ended::Revision(service, revision) => {
                self.families.forget_revision(service, revision, &CLASSES, &FaultKind::ALL.map(FaultKind::as_str));
            }
        }
    }

    /// Nothing that is read under the lock can be left half done.
    fn alive(&self) -> MutexGuard<'_, Alive> {
        self.alive.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Counts one of a few.
pub(super) fn count<T: PartialEq>(counters: &[(T, IntCounter)], which: T) {
    if let Some((_, counter)) = counters.iter().find(|(one, _)| *one == which) {
        counter.inc();
    }
}

#[cfg(test)]
mod tests;
