//! The last minutes: samples of what is counted, taken by the clock, so that whoever begins to look sees what came before. A request
//! pays nothing for them.

use super::{
    durations::Durations,
    metrics::{Metrics, ServiceMetrics},
    micros,
    revision_metrics::RevisionMetrics,
};
use std::{
    collections::{HashMap, HashSet, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, SystemTime},
};

/// Time between two samples.
const EVERY: Duration = Duration::from_secs(5);
/// Samples that are kept: 15 minutes. Of a service only those in which something happened, 20 bytes each.
const KEPT: u64 = 180;
/// Samples whose durations are told as one: a minute.
const NOW: u64 = 12;

/// What happened between two samples.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Sample {
    /// Counts the samples.
    number: u32,
    /// Requests that ended, and calls of other services.
    pub requests: u32,
    /// Guests that the host saw fail.
    pub faults: u32,
    /// The time that half of the requests did not exceed, in microseconds; 0 where there was none.
    pub p50_us: u32,
    /// The same for 99 of 100.
    pub p99_us: u32,
}

/// How it is now: of a service, or of all.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Now {
    /// Requests a second, between the last two samples.
    pub per_second: f64,
    /// Requests of the last minute.
    pub requests: u64,
    /// Faults of the last minute.
    pub faults: u64,
    /// Requests that run at this moment.
    pub in_flight: u64,
    /// The time that half of the requests of the last minute did not exceed.
    pub p50: Option<Duration>,
    /// The same for 99 of 100.
    pub p99: Option<Duration>,
}

/// A series of samples, with the time of each, the oldest first.
pub type Series = Vec<(SystemTime, Sample)>;

/// The samples of one host.
pub struct Recent {
    metrics: Arc<Metrics>,
    started: SystemTime,
    kept: Mutex<Kept>,
}

#[derive(Default)]
struct Kept {
    /// The number of the last sample.
    number: u32,
    times: VecDeque<SystemTime>,
    all: Track,
    services: HashMap<String, Track>,
    read: Readings,
}

/// Samples of a service, or of all.
#[derive(Default)]
struct Track {
    samples: VecDeque<Sample>,
    /// The durations of the last samples.
    durations: VecDeque<(u32, Durations)>,
}

/// What was read for the last sample.
#[derive(Default)]
struct Readings {
    services: HashMap<String, OfService>,
    durations: HashMap<(String, String), Durations>,
}

struct OfService {
    counted: Arc<ServiceCount>,
    requests: u64,
    faults: u64,
}

/// What is counted of the revisions of a service that have ended: without it, what came between a sample and the end would be lost.
#[derive(Debug, Default)]
pub(super) struct ServiceCount {
    ended: Mutex<(u64, u64)>,
}

impl ServiceCount {
    /// A revision with so many requests and faults has ended.
    pub(super) fn add(&self, requests: u64, faults: u64) {
        let mut ended = self.ended.lock().unwrap_or_else(PoisonError::into_inner);
        *ended = (ended.0 + requests, ended.1 + faults);
    }

    fn read(&self) -> (u64, u64) {
        *self.ended.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a service did since the last sample.
#[derive(Default)]
struct Step {
    requests: u64,
    faults: u64,
    durations: Durations,
}

impl Recent {
    /// No samples yet.
    pub fn new(metrics: Arc<Metrics>) -> Self {
        Self { metrics, started: SystemTime::now(), kept: Mutex::default() }
    }

    /// Takes samples until it is dropped.
    pub async fn follow(&self) {
        let mut clock = tokio::time::interval(EVERY);
        clock.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
        loop {
            clock.tick().await;
            self.sample();
        }
    }

    /// When the first could be taken.
    pub fn started(&self) -> SystemTime {
        self.started
    }

    /// Time between two samples.
    pub fn every(&self) -> Duration {
        EVERY
    }

    /// Takes one sample of all services.
    fn sample(&self) {
        let (services, revisions) = (self.metrics.services(), self.metrics.revisions());
        let mut kept = self.kept();
        let steps = kept.read.steps(&services, &revisions);
        kept.add(SystemTime::now(), steps);
        drop(kept);
        // The last to let go of one ends its series, which takes a lock of the metrics.
        drop((services, revisions));
    }

    /// All services as one, and each of which anything can be told.
    pub fn now(&self) -> (Now, Vec<(String, Now)>) {
        let mut running: HashMap<String, u64> = HashMap::new();
        for revision in self.metrics.revisions() {
            *running.entry(revision.service().name().to_owned()).or_default() += revision.in_flight();
        }
        let kept = self.kept();
        let number = kept.number;
        let sum = running.values().sum();
        let mut services: Vec<_> = kept
            .services
            .iter()
            .map(|(name, track)| (name.clone(), track.now(number, running.remove(name).unwrap_or_default())))
            .collect();
        // Their first request still runs.
        services.extend(running.into_iter().map(|(name, in_flight)| (name, Now { in_flight, ..Now::default() })));
        services.retain(|(_, now)| now.requests + now.faults + now.in_flight > 0);
        services.sort_by(|(one, _), (other, _)| one.cmp(other));
        (kept.all.now(number, sum), services)
    }

    /// The samples that are kept: of one service, or of all.
    pub fn series(&self, service: Option<&str>) -> Series {
        let kept = self.kept();
        let track = match service {
            Some(service) => kept.services.get(service),
            None => Some(&kept.all),
        };
        let mut samples = track.into_iter().flat_map(|track| &track.samples).peekable();
        let first = u64::from(kept.number).saturating_sub(u64::try_from(kept.times.len()).unwrap_or(KEPT));
        let quiet = |number| Sample { number, ..Sample::default() };
        let of = |(number, at): (u64, &SystemTime)| {
            let number = u32::try_from(number).unwrap_or(u32::MAX);
            (*at, samples.next_if(|sample| sample.number == number).copied().unwrap_or_else(|| quiet(number)))
        };
        (first + 1..).zip(&kept.times).map(of).collect()
    }

    /// Nothing that is read under the lock can be left half done.
    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Kept {
    fn add(&mut self, at: SystemTime, steps: HashMap<String, Step>) {
        self.number = self.number.saturating_add(1);
        self.times.push_back(at);
        if u64::try_from(self.times.len()).unwrap_or(KEPT) > KEPT {
            self.times.pop_front();
        }
        let number = self.number;
        let mut all = Step::default();
        for (service, step) in steps {
            all.add(&step);
            if step.requests + step.faults > 0 {
                self.services.entry(service).or_default().push(number, step);
            }
        }
        if all.requests + all.faults > 0 {
            self.all.push(number, all);
        }
        self.all.forget(number);
        self.services.retain(|_, track| {
            track.forget(number);
            !track.samples.is_empty()
        });
    }
}

impl Track {
    fn push(&mut self, number: u32, step: Step) {
        let us = |q| step.durations.quantile(q).map_or(0, |time| u32::try_from(micros(time)).unwrap_or(u32::MAX));
        let count = |count| u32::try_from(count).unwrap_or(u32::MAX);
        let (requests, faults) = (count(step.requests), count(step.faults));
        self.samples.push_back(Sample { number, requests, faults, p50_us: us(0.5), p99_us: us(0.99) });
        self.durations.push_back((number, step.durations));
    }

    fn forget(&mut self, number: u32) {
        let older = |than: u64| move |sample: u32| u64::from(sample) + than <= u64::from(number);
        while self.samples.front().is_some_and(|sample| older(KEPT)(sample.number)) {
            self.samples.pop_front();
        }
        while self.durations.front().is_some_and(|(sample, _)| older(NOW)(*sample)) {
            self.durations.pop_front();
        }
    }

    fn now(&self, number: u32, in_flight: u64) -> Now {
        let minute = self.samples.iter().rev().take_while(|sample| u64::from(sample.number) + NOW > u64::from(number));
        let (requests, faults) = minute.fold((0, 0), |(requests, faults), sample| {
            (requests + u64::from(sample.requests), faults + u64::from(sample.faults))
        });
        let last = self.samples.back().filter(|sample| sample.number == number).map_or(0, |sample| sample.requests);
        let mut durations = Durations::default();
        self.durations.iter().for_each(|(_, some)| durations.add(some));
        Now {
            per_second: f64::from(last) / EVERY.as_secs_f64(),
            requests,
            faults,
            in_flight,
            p50: durations.quantile(0.5),
            p99: durations.quantile(0.99),
        }
    }
}

impl Step {
    fn add(&mut self, other: &Self) {
        self.requests += other.requests;
        self.faults += other.faults;
        self.durations.add(&other.durations);
    }
}

impl Readings {
    /// What each service did since the last reading.
    fn steps(&mut self, services: &[Arc<ServiceMetrics>], revisions: &[Arc<RevisionMetrics>]) -> HashMap<String, Step> {
        let mut steps: HashMap<String, Step> = HashMap::new();
        let mut seen = HashSet::new();
        for revision in revisions {
            let step = steps.entry(revision.service().name().to_owned()).or_default();
            step.requests += revision.requests();
            step.faults += revision.faults();
            step.durations.saw(revision.take_longest());
            let labels = (revision.service().name().to_owned(), revision.revision().to_owned());
            // Several loads of one build share their durations.
            if seen.insert(labels.clone()) {
                let before = self.durations.get(&labels).unwrap_or(revision.earlier());
                if let Some(read) = revision.durations_since(before) {
                    step.durations.add(&read.since(before));
                    self.durations.insert(labels, read);
                }
            }
        }
        self.durations.retain(|labels, _| seen.contains(labels));
        for service in services {
            let step = steps.entry(service.name().to_owned()).or_default();
            let ended = service.ended().read();
            let (requests, faults) = (step.requests + ended.0, step.faults + ended.1);
            let before = self.services.get(service.name()).filter(|before| Arc::ptr_eq(&before.counted, service.ended()));
            let (old_requests, old_faults) = before.map_or((0, 0), |before| (before.requests, before.faults));
            (step.requests, step.faults) = (requests.saturating_sub(old_requests), faults.saturating_sub(old_faults));
            // A revision that ends just now is counted by neither for a moment: what was counted stays counted.
            let (requests, faults) = (requests.max(old_requests), faults.max(old_faults));
            let read = OfService { counted: service.ended().clone(), requests, faults };
            self.services.insert(service.name().to_owned(), read);
        }
        let there: HashSet<_> = services.iter().map(|service| service.name()).collect();
        self.services.retain(|name, _| there.contains(name.as_str()));
        steps
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::{FaultKind, Vitals};

    fn host() -> (Arc<Metrics>, Recent) {
        let metrics = Arc::new(Metrics::new().unwrap());
        (metrics.clone(), Recent::new(metrics))
    }

    fn requests(series: &Series) -> Vec<u32> {
        series.iter().map(|(_, sample)| sample.requests).collect()
    }

    #[test]
    fn each_sample_holds_what_came_since_the_one_before() {
        let (metrics, recent) = host();
        let revision = metrics.revision("probe", "012345678901", Vitals::none());
        recent.sample();
        for _ in 0..3 {
            revision.completed(Some(200), Duration::from_millis(2), None);
        }
        recent.sample();
        recent.sample();
        revision.completed(Some(500), Duration::from_secs(20), Some(FaultKind::Trap));
        recent.sample();
        let series = recent.series(Some("probe"));
        assert_eq!(requests(&series), [0, 3, 0, 1]);
        assert_eq!(recent.series(None), series);
        let of = |place: usize| series[place].1;
        assert_eq!((of(1).faults, of(3).faults), (0, 1));
        assert!(of(1).p99_us < 3_000 && of(3).p50_us > 9_000_000 && of(2).p99_us == 0, "{series:?}");
        let (all, services) = recent.now();
        assert_eq!((all.requests, all.faults, all.per_second), (4, 1, 0.2));
        assert_eq!(services, [("probe".to_owned(), all)]);
        assert_eq!(requests(&recent.series(Some("other"))), [0; 4]);
    }

    #[test]
    fn what_a_revision_did_before_its_end_is_not_lost_and_a_service_that_returns_begins_anew() {
        let (metrics, recent) = host();
        let first = metrics.revision("probe", "012345678901", Vitals::none());
        first.completed(Some(200), Duration::ZERO, None);
        recent.sample();
        first.completed(Some(200), Duration::ZERO, None);
        let second = metrics.revision("probe", "112345678901", Vitals::none());
        drop(first);
        second.completed(Some(200), Duration::ZERO, None);
        recent.sample();
        assert_eq!(requests(&recent.series(Some("probe"))), [1, 2]);
        drop(second);
        let third = metrics.revision("probe", "112345678901", Vitals::none());
        third.completed(Some(200), Duration::ZERO, None);
        recent.sample();
        assert_eq!(requests(&recent.series(Some("probe"))), [1, 2, 1]);
    }

    #[test]
    fn the_oldest_samples_go_and_with_the_last_of_them_the_service() {
        let (metrics, recent) = host();
        let revision = metrics.revision("probe", "012345678901", Vitals::none());
        revision.completed(Some(200), Duration::ZERO, None);
        for _ in 0..KEPT {
            recent.sample();
        }
        assert_eq!(requests(&recent.series(Some("probe"))).iter().sum::<u32>(), 1);
        assert_eq!(recent.now().1, [], "a minute without a request");
        recent.sample();
        assert_eq!(recent.series(None).len(), usize::try_from(KEPT).unwrap());
        assert!(recent.kept().services.is_empty() && recent.kept().all.samples.is_empty());
    }
}
