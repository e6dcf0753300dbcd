//! The names of all metrics: what each is called, counts and is labelled by. `docs/metrics.md` explains them.

use super::labels::{CallResult, Capability, CronResult, KeyValueResult, Limit, OutboundResult, Outcome, Renewal};
use prometheus::{
    Counter, Gauge, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry, Result,
};

/// Upper bounds of the buckets of a request's time, in seconds: what a guest in memory takes, up to a long stream.
const REQUEST_BUCKETS: [f64; 17] =
    [0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0];
/// Likewise of a step of a swap: what is cached takes a millisecond, a large build some ten seconds to compile.
const STEP_BUCKETS: [f64; 12] = [0.0005, 0.001, 0.0025, 0.01, 0.025, 0.1, 0.25, 1.0, 2.5, 10.0, 30.0, 60.0];

/// Every metric, registered.
pub(super) struct Families {
    pub(super) requests: IntCounterVec,
    pub(super) duration: HistogramVec,
    pub(super) faults: IntCounterVec,
    pub(super) in_flight: IntGaugeVec,
    pub(super) waiting: IntGaugeVec,
    pub(super) waited: IntCounterVec,
    pub(super) refused: IntCounterVec,
    pub(super) unrouted: IntCounterVec,
    pub(super) swaps: IntCounterVec,
    pub(super) step: HistogramVec,
    pub(super) rejects: IntCounterVec,
    pub(super) revisions: IntGaugeVec,
    pub(super) instances: IntGaugeVec,
    pub(super) idle: IntGaugeVec,
    pub(super) memory: IntGaugeVec,
    pub(super) denied: IntCounterVec,
    pub(super) outbound: IntCounterVec,
    pub(super) keyvalue: IntCounterVec,
    pub(super) calls: IntCounterVec,
    pub(super) typed_calls: IntCounterVec,
    pub(super) tcp: IntCounterVec,
    pub(super) tcp_refused: IntCounterVec,
    pub(super) tcp_sockets: IntGaugeVec,
    pub(super) cron: IntCounterVec,
    pub(super) renewed: IntCounterVec,
    pub(super) lines: IntCounterVec,
    pub(super) lines_cut: IntCounterVec,
    pub(super) connections: IntGauge,
    pub(super) connections_full: IntCounter,
    pub(super) budget: IntGaugeVec,
    pub(super) budget_used: IntGaugeVec,
    pub(super) process: Process,
    registry: Registry,
}

/// What the system says of the process, by the names that Prometheus' own clients use.
pub(super) struct Process {
    pub(super) cpu: Counter,
    pub(super) resident: IntGauge,
    pub(super) threads: IntGauge,
    pub(super) open_fds: IntGauge,
    pub(super) max_fds: IntGauge,
}

impl Families {
    /// Makes and registers each one.
    ///
    /// # Errors
    /// Where two have one name, which a test rules out.
    pub(super) fn new(version: &str, started: f64) -> Result<Self> {
        let registry = Registry::new();
        let made = Make(&registry);
        made.gauges("hotbay_build_info", "Always 1; the label says which version runs.", &["version"])?
            .with_label_values(&[version])
            .set(1);
        made.seconds("hotbay_start_time_seconds", "When the host started, in seconds since 1970.")?.set(started);
        Ok(Self {
            requests: made.counters(
                "hotbay_requests_total",
                "Requests of a revision whose response has ended, by the class of their status.",
                &["service", "revision", "code_class"],
            )?,
            duration: made.histograms(
                "hotbay_request_duration_seconds",
                "Time from a request's head to the end of its response, or to the client's leaving.",
                &["service", "revision"],
                &REQUEST_BUCKETS,
            )?,
            faults: made.counters(
                "hotbay_faults_total",
                "Requests that the guest failed, as the host saw it.",
                &["service", "revision", "fault"],
            )?,
            in_flight: made.gauges(
                "hotbay_requests_in_flight",
                "Requests that run, each with one of the permits of limits.concurrency.",
                &["service", "revision"],
            )?,
            waiting: made.gauges("hotbay_requests_waiting", "Requests that wait for a permit.", &["service", "revision"])?,
            waited: made.counters(
                "hotbay_requests_waited_total",
                "Requests that found no permit of limits.concurrency free.",
                &["service", "revision"],
            )?,
            refused: made.counters(
                "hotbay_requests_refused_total",
                "Requests that a limit refused before a guest answered them.",
                &["service", "limit"],
            )?,
            unrouted: made.counters("hotbay_unrouted_requests_total", "Requests that reached no revision.", &["reason"])?,
            swaps: made.counters("hotbay_swaps_total", "Swaps by how they ended.", &["service", "outcome"])?,
            step: made.histograms(
                "hotbay_swap_step_duration_seconds",
                "Time that a step of a swap took.",
                &["step"],
                &STEP_BUCKETS,
            )?,
            rejects: made.counters("hotbay_rejects_total", "Builds, settings and files that will not serve.", &["service"])?,
            revisions: made.gauges("hotbay_revisions", "Revisions that are not retired yet.", &["service"])?,
            instances: made.gauges(
                "hotbay_instances",
                "Instances that there are, at work and idle.",
                &["service", "revision"],
            )?,
            idle: made.gauges(
                "hotbay_instances_idle",
                "Instances that are kept for the next request.",
                &["service", "revision"],
            )?,
            memory: made.gauges(
                "hotbay_guest_memory_bytes",
                "Linear memory and tables that the instances hold.",
                &["service", "revision"],
            )?,
            denied: made.counters("hotbay_denied_total", "Calls of guests that no grant allows.", &["service", "capability"])?,
            outbound: made.counters(
                "hotbay_outbound_requests_total",
                "Requests of guests to other hosts, by how they ended.",
                &["service", "result"],
            )?,
            keyvalue: made.counters(
                "hotbay_keyvalue_calls_total",
                "Calls of guests that read or write keys, by how they ended.",
                &["service", "result"],
            )?,
            calls: made.counters(
                "hotbay_calls_total",
                "HTTP calls from service to service, by the class of the status that the caller got.",
                &["caller", "callee", "code_class"],
            )?,
            typed_calls: made.counters(
                "hotbay_typed_calls_total",
                "Calls of functions of one service by another, by how they ended.",
                &["caller", "callee", "result"],
            )?,
            tcp: made.counters("hotbay_tcp_connections_total", "TCP connections that guests began.", &["service"])?,
            tcp_refused: made.counters(
                "hotbay_tcp_connections_refused_total",
                "TCP sockets that guests asked for beyond outbound.tcp_connections.",
                &["service"],
            )?,
            tcp_sockets: made.gauges("hotbay_tcp_sockets", "TCP sockets that guests have.", &["service"])?,
            cron: made.counters(
                "hotbay_cron_runs_total",
                "Times of [[cron]] entries, by what became of them.",
                &["service", "result"],
            )?,
            renewed: made.counters(
                "hotbay_instances_renewed_total",
                "Instances that were kept and made room for a new one.",
                &["service", "reason"],
            )?,
            lines: made.counters("hotbay_guest_lines_total", "Lines that guests wrote.", &["service"])?,
            lines_cut: made.counters(
                "hotbay_guest_lines_cut_total",
                "Lines of them that were over the limit and cut.",
                &["service"],
            )?,
            connections: made.gauge("hotbay_connections", "Connections that are open.")?,
            connections_full: made.registered(IntCounter::new(
                "hotbay_connections_full_total",
                "Times that all places for connections were taken and the next had to wait.",
            ))?,
            budget: made.gauges("hotbay_budget_limit", "What all services together may have.", &["budget"])?,
            budget_used: made.gauges("hotbay_budget_used", "What all services together have of it.", &["budget"])?,
            process: Process {
                cpu: made.registered(Counter::new("process_cpu_seconds_total", "Computing time of the process."))?,
                resident: made.gauge("process_resident_memory_bytes", "Memory of the process that is resident.")?,
                threads: made.gauge("process_threads", "Threads of the process.")?,
                open_fds: made.gauge("process_open_fds", "Open file descriptors.")?,
                max_fds: made.gauge("process_max_fds", "Most file descriptors that may be open.")?,
            },
            registry,
        })
    }

    /// What Prometheus gathers, sorted by name.
    pub(super) fn gather(&self) -> Vec<prometheus::proto::MetricFamily> {
        self.registry.gather()
    }

    /// Forgets what was counted of this revision.
    pub(super) fn forget_revision(&self, service: &str, revision: &str, classes: &[&str], faults: &[&str]) {
        // An error says that there was no such line, which is what is wanted.
        for class in classes {
            let _ = self.requests.remove_label_values(&[service, revision, class]);
        }
        for fault in faults {
            let _ = self.faults.remove_label_values(&[service, revision, fault]);
        }
        let _ = self.duration.remove_label_values(&[service, revision]);
        let _ = self.waited.remove_label_values(&[service, revision]);
    }

    /// Forgets what can only be said of a revision that is there.
    pub(super) fn forget_gauges(&self, service: &str, revision: &str) {
        for gauges in [&self.in_flight, &self.waiting, &self.instances, &self.idle, &self.memory] {
            let _ = gauges.remove_label_values(&[service, revision]);
        }
    }

    /// Forgets how often one service called another.
    pub(super) fn forget_calls(&self, caller: &str, callee: &str, classes: &[&str]) {
        for class in classes {
            let _ = self.calls.remove_label_values(&[caller, callee, class]);
        }
        for result in CallResult::ALL.map(CallResult::as_str) {
            let _ = self.typed_calls.remove_label_values(&[caller, callee, result]);
        }
    }

    /// Forgets what is told of this service as a whole.
    pub(super) fn forget_service(&self, service: &str) {
        for limit in Limit::ALL.map(Limit::as_str) {
            let _ = self.refused.remove_label_values(&[service, limit]);
        }
        for renewal in Renewal::ALL.map(Renewal::as_str) {
            let _ = self.renewed.remove_label_values(&[service, renewal]);
        }
        for outcome in Outcome::ALL.map(Outcome::as_str) {
            let _ = self.swaps.remove_label_values(&[service, outcome]);
        }
        for result in OutboundResult::ALL.map(OutboundResult::as_str) {
            let _ = self.outbound.remove_label_values(&[service, result]);
        }
        for result in KeyValueResult::ALL.map(KeyValueResult::as_str) {
            let _ = self.keyvalue.remove_label_values(&[service, result]);
        }
        for result in CronResult::ALL.map(CronResult::as_str) {
            let _ = self.cron.remove_label_values(&[service, result]);
        }
        for capability in Capability::ALL.map(Capability::as_str) {
            let _ = self.denied.remove_label_values(&[service, capability]);
        }
        for counters in [&self.rejects, &self.lines, &self.lines_cut, &self.tcp, &self.tcp_refused] {
            let _ = counters.remove_label_values(&[service]);
        }
        for gauges in [&self.revisions, &self.tcp_sockets] {
            let _ = gauges.remove_label_values(&[service]);
        }
    }
}

/// Makes metrics and registers them.
struct Make<'a>(&'a Registry);

impl Make<'_> {
    fn registered<C: prometheus::core::Collector + Clone + 'static>(&self, made: Result<C>) -> Result<C> {
        let made = made?;
        self.0.register(Box::new(made.clone()))?;
        Ok(made)
    }

    fn counters(&self, name: &str, help: &str, labels: &[&str]) -> Result<IntCounterVec> {
        self.registered(IntCounterVec::new(Opts::new(name, help), labels))
    }

    fn gauges(&self, name: &str, help: &str, labels: &[&str]) -> Result<IntGaugeVec> {
        self.registered(IntGaugeVec::new(Opts::new(name, help), labels))
    }

    fn histograms(&self, name: &str, help: &str, labels: &[&str], buckets: &[f64]) -> Result<HistogramVec> {
        self.registered(HistogramVec::new(HistogramOpts::new(name, help).buckets(buckets.to_vec()), labels))
    }

    fn gauge(&self, name: &str, help: &str) -> Result<IntGauge> {
        self.registered(IntGauge::new(name, help))
    }

    fn seconds(&self, name: &str, help: &str) -> Result<Gauge> {
        self.registered(Gauge::new(name, help))
    }
}
