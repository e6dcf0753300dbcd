//! What is counted of one revision. Its handles are looked up once, so that a request only adds.

use super::{
    durations::{Durations, Longest},
    labels::Limit,
    metrics::{Metrics, ServiceMetrics, count},
};
use prometheus::{Histogram, IntCounter};
use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};
use tokio::sync::{Notify, Semaphore};
use tokio_util::sync::CancellationToken;

/// Classes of status codes, by their first digit; `none` where the client left before there was one.
pub(super) const CLASSES: [&str; 6] = ["none", "1xx", "2xx", "3xx", "4xx", "5xx"];

/// What the host saw a guest fail by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FaultKind {
    /// It trapped.
    Trap,
    /// It trapped at `limits.memory`.
    Memory,
    /// `limits.cpu`.
    Cpu,
    /// `limits.deadline`.
    Deadline,
    /// `limits.stream_idle`.
    StreamIdle,
    /// It set no response.
    NoResponse,
    /// It gave an error instead of a response.
    Error,
    /// What it gave is no response.
    Protocol,
    /// `limits.response_body`.
    ResponseBody,
    /// A service that it called failed.
    Callee,
    /// Something of the host failed while it ran.
    Host,
}

impl FaultKind {
    pub(super) const ALL: [Self; 11] = [
        Self::Trap,
        Self::Memory,
        Self::Cpu,
        Self::Deadline,
        Self::StreamIdle,
        Self::NoResponse,
        Self::Error,
        Self::Protocol,
        Self::ResponseBody,
        Self::Callee,
        Self::Host,
    ];

    /// Whether the guest alone can be at fault: a client that does not read lets a stream fall silent too, and whoever is called
    /// answers for itself.
    fn is_the_guests(self) -> bool {
        !matches!(self, Self::StreamIdle | Self::Callee | Self::Host)
    }

    /// The value of the label `fault`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Trap => "trap",
            Self::Memory => "memory",
            Self::Cpu => "cpu",
            Self::Deadline => "deadline",
            Self::StreamIdle => "stream_idle",
            Self::NoResponse => "no_response",
            Self::Error => "error",
            Self::Protocol => "protocol",
            Self::ResponseBody => "response_body",
            Self::Callee => "callee",
            Self::Host => "host",
        }
    }
}

/// What is read of a revision instead of counted: nothing of it costs a request anything.
pub struct Vitals {
    /// Those of `limits.concurrency` that nobody holds.
    pub permits: Arc<Semaphore>,
    /// All of them.
    pub concurrency: usize,
    /// Requests that wait for one.
    pub waiting: Arc<AtomicU32>,
    /// Instances that are kept.
    pub idle: Arc<AtomicUsize>,
    /// Cancelled once nobody holds the revision.
    pub gone: CancellationToken,
}

#[cfg(test)]
impl Vitals {
    /// Those of a revision that nobody asks.
    pub(crate) fn none() -> Self {
        let (waiting, idle) = (Arc::default(), Arc::default());
        Self { permits: Arc::new(Semaphore::new(4)), concurrency: 4, waiting, idle, gone: CancellationToken::new() }
    }
}

/// What is counted of one revision. Whoever holds it keeps its series, and not the revision.
pub struct RevisionMetrics {
    host: Arc<Metrics>,
    service: Arc<ServiceMetrics>,
    revision: String,
    by_class: [IntCounter; CLASSES.len()],
    by_fault: [(FaultKind, IntCounter); FaultKind::ALL.len()],
    duration: Histogram,
    waited: IntCounter,
    // The series may be shared with an earlier load of the same build; these are of this one alone.
    requests: AtomicU64,
    faults: AtomicU64,
    blamed: AtomicU64,
    /// The durations that there were before it.
    earlier: Durations,
    longest: Longest,
    longest_lately: Longest,
    fault_seen: Notify,
    instances: AtomicUsize,
    memory: AtomicUsize,
    vitals: Vitals,
}

impl RevisionMetrics {
    pub(super) fn new(host: Arc<Metrics>, service: Arc<ServiceMetrics>, revision: &str, vitals: Vitals) -> Self {
        let (families, name) = (&host.families, service.name());
        let duration = families.duration.with_label_values(&[name, revision]);
        Self {
            earlier: Durations::of(&duration),
            longest: Longest::default(),
            longest_lately: Longest::default(),
            by_class: CLASSES.map(|class| families.requests.with_label_values(&[name, revision, class])),
            by_fault: FaultKind::ALL.map(|fault| (fault, families.faults.with_label_values(&[name, revision, fault.as_str()]))),
            duration,
            waited: families.waited.with_label_values(&[name, revision]),
            requests: AtomicU64::new(0),
            faults: AtomicU64::new(0),
            blamed: AtomicU64::new(0),
            fault_seen: Notify::new(),
            instances: AtomicUsize::new(0),
            memory: AtomicUsize::new(0),
            revision: revision.to_owned(),
            vitals,
            service,
            host,
        }
    }

    /// What is counted of its service.
    pub fn service(&self) -> &Arc<ServiceMetrics> {
        &self.service
    }

    /// 12 hex digits of its digest.
    pub fn revision(&self) -> &str {
        &self.revision
    }

    /// Counts a request whose response has ended; `status` is absent where the client left before there was one.
    pub fn completed(&self, status: Option<u16>, took: Duration, fault: Option<FaultKind>) {
        let class = usize::from(status.unwrap_or_default() / 100);
        let [.., last] = &self.by_class;
        self.by_class.get(class).unwrap_or(last).inc();
        // Before it is in a bucket: whoever reads the bucket reads no shorter one.
        self.longest.saw(took);
        self.longest_lately.saw(took);
        self.duration.observe(took.as_secs_f64());
        self.requests.fetch_add(1, Relaxed);
        if let Some(fault) = fault {
            self.failed(fault);
        }
    }

    /// Counts a fault: of a request, or of what a guest did after its last byte.
    pub fn failed(&self, fault: FaultKind) {
        count(&self.by_fault, fault);
        self.faults.fetch_add(1, Relaxed);
        self.blamed.fetch_add(u64::from(fault.is_the_guests()), Relaxed);
        self.fault_seen.notify_one();
    }

    /// Counts a call of a function of it by another service that has ended.
    pub fn called(&self, fault: Option<FaultKind>) {
        self.requests.fetch_add(1, Relaxed);
        if let Some(fault) = fault {
            self.failed(fault);
        }
    }

    /// Counts a request that a limit refused.
    pub fn refused(&self, limit: Limit) {
        self.service.refused(limit);
    }

    /// Counts a request that found no permit free.
    pub fn must_wait(&self) {
        self.waited.inc();
    }

    /// Requests that found no permit free. Over all loads of the same build that are there.
    pub fn waited(&self) -> u64 {
        self.waited.get()
    }

    /// Requests of this revision that have ended, and calls of other services.
    pub fn requests(&self) -> u64 {
        self.requests.load(Relaxed)
    }

    /// How often a guest of this revision failed by `fault`. Over all loads of the same build that are there.
    pub fn faults_by(&self, fault: FaultKind) -> u64 {
        self.by_fault.iter().find(|(one, _)| *one == fault).map_or(0, |(_, counter)| counter.get())
    }

    /// Faults of this revision.
    pub fn faults(&self) -> u64 {
        self.faults.load(Relaxed)
    }

    /// Those of its faults that nobody but its guest can have caused.
    pub fn blamed(&self) -> u64 {
        self.blamed.load(Relaxed)
    }

    /// Told of each fault, for one who waits. Faults that nobody waited for are told as one.
    pub fn fault_seen(&self) -> &Notify {
        &self.fault_seen
    }

    /// Requests that run now.
    pub fn in_flight(&self) -> u64 {
        number(self.vitals.concurrency.saturating_sub(self.vitals.permits.available_permits()))
    }

    /// Requests that wait for a permit now.
    pub fn waiting(&self) -> u64 {
        self.vitals.waiting.load(Relaxed).into()
    }

    /// Instances that there are now, at work and idle.
    pub fn instances(&self) -> u64 {
        number(self.instances.load(Relaxed))
    }

    pub(super) fn idle(&self) -> u64 {
        number(self.vitals.idle.load(Relaxed))
    }

    /// Bytes of linear memory and tables that its instances hold now.
    pub fn memory(&self) -> u64 {
        number(self.memory.load(Relaxed))
    }

    pub(super) fn is_there(&self) -> bool {
        !self.vitals.gone.is_cancelled()
    }

    /// The time that the share `q` of its requests did not exceed, between the bounds of a bucket by its place in it, as
    /// PromQL's `histogram_quantile` has it, and never above the longest that there was. None before the first request. Of this
    /// load of the build, and of others that serve at the same time.
    pub fn quantile(&self, q: f64) -> Option<Duration> {
        let mut durations = Durations::of(&self.duration).since(&self.earlier);
        durations.saw(self.longest.read());
        durations.quantile(q)
    }

    /// The longest duration since this was asked before. For one who asks.
    pub(super) fn take_longest(&self) -> Duration {
        self.longest_lately.take()
    }

    /// The durations that there were before this load of the build.
    pub(super) fn earlier(&self) -> &Durations {
        &self.earlier
    }

    /// The durations that there are, where there are more than `before`: reading them costs more than seeing that there are none.
    pub(super) fn durations_since(&self, before: &Durations) -> Option<Durations> {
        (self.duration.get_sample_count() != before.count()).then(|| Durations::of(&self.duration))
    }

    /// Counts an instance for as long as the returned value lives.
    pub fn instance(self: &Arc<Self>) -> InstanceMetrics {
        self.instances.fetch_add(1, Relaxed);
        InstanceMetrics { revision: self.clone(), memory: 0 }
    }
}

impl fmt::Debug for RevisionMetrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RevisionMetrics").field("revision", &self.revision).finish_non_exhaustive()
    }
}

impl Drop for RevisionMetrics {
    fn drop(&mut self) {
        self.service.ended().add(*self.requests.get_mut(), *self.faults.get_mut());
        self.host.revision_ended(self.service.name(), &self.revision);
    }
}

/// One instance, and the memory that it holds.
pub struct InstanceMetrics {
    revision: Arc<RevisionMetrics>,
    memory: usize,
}

impl InstanceMetrics {
    /// The instance holds so many bytes more.
    pub fn grew(&mut self, bytes: usize) {
        self.memory = self.memory.saturating_add(bytes);
        self.revision.memory.fetch_add(bytes, Relaxed);
    }

    /// The instance holds so many bytes less.
    pub fn shrank(&mut self, bytes: usize) {
        let bytes = bytes.min(self.memory);
        self.memory -= bytes;
        self.revision.memory.fetch_sub(bytes, Relaxed);
    }
}

impl Drop for InstanceMetrics {
    fn drop(&mut self) {
        self.revision.memory.fetch_sub(self.memory, Relaxed);
        self.revision.instances.fetch_sub(1, Relaxed);
    }
}

fn number(count: usize) -> u64 {
    u64::try_from(count).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn revision() -> Arc<RevisionMetrics> {
        Arc::new(Metrics::new().unwrap()).revision("probe", "012345678901", Vitals::none())
    }

    #[test]
    fn a_quantile_lies_within_its_bucket_by_its_place() {
        let revision = revision();
        assert_eq!(revision.quantile(0.5), None);
        // Half within (1 ms, 2.5 ms], half within (100 ms, 250 ms], of which none was above 200 ms.
        for ms in [2, 200].into_iter().cycle().take(100) {
            revision.completed(Some(200), Duration::from_millis(ms), None);
        }
        let ms = |q| revision.quantile(q).unwrap().as_secs_f64() * 1e3;
        for (q, wanted) in [(0.25, 1.75), (0.5, 2.5), (0.75, 150.0), (1.0, 200.0)] {
            assert!((ms(q) - wanted).abs() < 1e-6, "{q}: {} and not {wanted}", ms(q));
        }
        for _ in 0..900 {
            revision.completed(Some(200), Duration::from_secs(60), None);
        }
        assert!((ms(0.99) - 30_000.0).abs() < 1e-6, "above all bounds the last one is told");
    }

    #[test]
    fn no_quantile_is_above_the_longest_of_its_time() {
        let revision = revision();
        let took = Duration::from_millis(5_001);
        (0..10).for_each(|_| revision.completed(Some(504), took, None));
        assert!(revision.quantile(0.99).unwrap() <= took && revision.quantile(1.0) == Some(took));
        assert_eq!((revision.take_longest(), revision.take_longest()), (took, Duration::ZERO));
        revision.completed(Some(200), Duration::from_millis(3), None);
        assert_eq!(revision.take_longest(), Duration::from_millis(3));
        assert_eq!(revision.quantile(1.0), Some(took), "whoever asks for the last seconds takes nothing from the whole");
    }

    #[test]
    fn a_later_load_of_the_same_build_has_quantiles_of_its_own() {
        let host = Arc::new(Metrics::new().unwrap());
        let first = host.revision("probe", "012345678901", Vitals::none());
        first.completed(Some(200), Duration::from_secs(20), None);
        let second = host.revision("probe", "012345678901", Vitals::none());
        assert_eq!(second.quantile(0.99), None);
        second.completed(Some(200), Duration::from_millis(2), None);
        assert!(second.quantile(0.99).unwrap() < Duration::from_millis(3));
    }

    #[test]
    fn what_a_client_can_cause_is_not_the_guests_to_answer_for() {
        let revision = revision();
        for fault in [FaultKind::StreamIdle, FaultKind::Host, FaultKind::Trap] {
            revision.completed(Some(500), Duration::ZERO, Some(fault));
        }
        assert_eq!((revision.faults(), revision.blamed()), (3, 1));
    }

    #[test]
    fn requests_and_faults_are_counted_and_a_fault_wakes_who_waits() {
        let revision = revision();
        revision.completed(Some(200), Duration::ZERO, None);
        revision.completed(None, Duration::ZERO, None);
        assert_eq!((revision.requests(), revision.faults()), (2, 0));
        revision.completed(Some(504), Duration::ZERO, Some(FaultKind::Deadline));
        assert_eq!((revision.requests(), revision.faults()), (3, 1));
        ready_at_once(revision.fault_seen().notified());
    }

    /// The future must be ready at its first poll.
    fn ready_at_once(future: impl Future<Output = ()>) {
        use futures::FutureExt;
        assert!(future.now_or_never().is_some(), "a fault that came before the wait is not missed");
    }
}
