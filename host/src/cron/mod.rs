//! The clock's requests: which entry of which service comes next, and that it runs once, and never beside itself.
//!
//! The schedule follows the main revisions that are published. One task looks at the wall clock each second, and whenever
//! something is due; each run is a request of its own, in a task of its own.

mod job;
mod lease;
mod lived;

pub use job::{JobState, LastRun};

use crate::{
    config::{CronEntry, ServiceName},
    dispatch::tick,
    registry::Registry,
    shutdown::Shutdown,
    telemetry::{CronResult, Metrics},
};
use job::{Job, Turn};
use lease::Lease;
use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant, SystemTime},
};
use tracing::warn;

/// Between two looks at the wall clock at the most: it may be set at any moment.
const LOOK: Duration = Duration::from_secs(1);
/// A wall clock that is off by more than this after a look was set.
const JUMP: Duration = Duration::from_secs(2);
/// How late a time may still be run; one that is later was missed.
const LATE: Duration = Duration::from_secs(60);

/// All entries of all services.
pub struct Cron {
    registry: Arc<Registry>,
    metrics: Arc<Metrics>,
    shutdown: Shutdown,
    jobs: Mutex<BTreeMap<ServiceName, Vec<Arc<Job>>>>,
}

impl Cron {
    /// Nothing runs before [`Self::run`].
    pub fn new(registry: Arc<Registry>, metrics: Arc<Metrics>, shutdown: Shutdown) -> Self {
        Self { registry, metrics, shutdown, jobs: Mutex::default() }
    }

    /// How the entries of a service stand, in the order of its settings.
    pub fn of(&self, service: &str) -> Vec<JobState> {
        let jobs = self.jobs();
        let of = jobs.iter().find(|(name, _)| name.as_str() == service);
        of.into_iter().flat_map(|(_, jobs)| jobs).filter_map(|job| job.state()).collect()
    }

    /// Runs what is due until the shutdown begins, and returns once what it has begun has ended.
    ///
    /// `lock` stands for the right to run the entries of this bay: two hosts that share it, as at a hand-over, do not both run
    /// them. `follows` says that this host has taken over, so that what came due between the two is run by this one.
    pub async fn run(self: Arc<Self>, lock: PathBuf, mut follows: bool) {
        let mut published = self.registry.published();
        self.plan(SystemTime::now());
        // A host without entries needs no right to run them.
        while self.jobs().is_empty() {
            follows = false;
            tokio::select! {
                biased;
                () = self.shutdown.begun() => return,
                changed = published.changed() => if changed.is_err() { return },
            }
            self.plan(SystemTime::now());
        }
        let held = tokio::select! {
            biased;
            () = self.shutdown.begun() => return,
            lease = Lease::take(lock) => lease,
        };
        let (mut clock, mut is_news) = (Clock::new(), true);
        let until = held.until.filter(|until| follows && *until <= clock.wall);
        self.begin(until.unwrap_or(clock.wall));
        loop {
            let off = clock.look();
            if let Some(off) = off.filter(|_| !self.jobs().is_empty()) {
                warn!(target: job::TARGET, ?off, "the wall clock was set; [[cron]] goes by it from here on");
            }
            if std::mem::take(&mut is_news) {
                self.plan(clock.wall);
            }
            let next = self.turn(clock.wall, off.is_some());
            let wait = next.map(|next| next.duration_since(clock.wall).unwrap_or_default().min(LOOK));
            tokio::select! {
                biased;
                () = self.shutdown.begun() => break,
                changed = published.changed() => match changed {
                    Ok(()) => is_news = true,
                    Err(_) => break,
                },
                () = sleep(wait) => {}
            }
        }
        // What comes due from here on is another host's.
        held.release(clock.wall, self.ended()).await;
    }

    /// Makes the entries those of the main revisions. One that was there goes on as it is.
    fn plan(&self, now: SystemTime) {
        let listed = self.registry.crons();
        let mut jobs = self.jobs();
        for (_, known) in jobs.iter_mut() {
            known.iter().for_each(|job| job.delist());
        }
        for (service, entries) in listed {
            let known = jobs.entry(service.clone()).or_default();
            let mut order = Vec::with_capacity(entries.len());
            for entry in entries.iter() {
                let job = match known.iter().position(|job| job.entry() == entry) {
                    Some(place) => known.swap_remove(place),
                    None => Arc::new(self.job(&service, entry, now)),
                };
                job.list(now);
                order.push(job);
            }
            order.append(known);
            *known = order;
        }
        jobs.retain(|_, known| {
            // One that runs is kept, so that it does not run twice at once when it comes back.
            known.retain(|job| job.is_wanted());
            !known.is_empty()
        });
    }

    fn job(&self, service: &ServiceName, entry: &CronEntry, now: SystemTime) -> Job {
        Job::new(service.clone(), entry.clone(), self.metrics.service(service.as_str()), now)
    }

    /// All times are counted from `moment`.
    fn begin(&self, moment: SystemTime) {
        self.jobs().values().flatten().for_each(|job| job.begin(moment));
    }

    /// Runs what is due. Returns when the next entry is; none where there are no entries.
    fn turn(&self, now: SystemTime, jumped: bool) -> Option<SystemTime> {
        let jobs: Vec<_> = self.jobs().values().flatten().cloned().collect();
        let mut next = None;
        for job in jobs {
            let Turn { due, missed, next: after } = job.turn(now, jumped);
            if missed > 0 {
                job.missed(missed, "the host was held up, or its clock was set");
            }
            if due.is_some() {
                self.start(&job);
            }
            // Also without a next one there is something to look at: the clock may be set.
            let after = after.unwrap_or(now + LOOK);
            next = Some(next.map_or(after, |next: SystemTime| next.min(after)));
        }
        next
    }

    fn start(&self, job: &Arc<Job>) {
        let revision = self.registry.main(job.service());
        // A swap between the look and this moment may have taken it out.
        let Some(revision) = revision.filter(|revision| revision.settings().crons.contains(job.entry())) else {
            return;
        };
        let Some(run) = Job::start(job) else {
            return job.missed(1, "its last run has not ended");
        };
        self.shutdown.track(async move {
            let ended = tick(revision, run.entry()).await;
            run.ended(ended);
        });
    }

    /// Returns once nothing runs.
    async fn ended(&self) {
        loop {
            let running = self.jobs().values().flatten().find(|job| job.is_running()).cloned();
            match running {
                Some(job) => job.rests().await,
                None => return,
            }
        }
    }

    /// Held for a moment; a half-done change of a list would only be looked at again.
    fn jobs(&self) -> MutexGuard<'_, BTreeMap<ServiceName, Vec<Arc<Job>>>> {
        self.jobs.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Never where there is nothing to wait for.
async fn sleep(wait: Option<Duration>) {
    match wait {
        Some(wait) => tokio::time::sleep(wait).await,
        None => std::future::pending().await,
    }
}

/// The wall clock, watched by one that cannot be set.
struct Clock {
    wall: SystemTime,
    read: Instant,
}

impl Clock {
    fn new() -> Self {
        Self { wall: SystemTime::now(), read: Instant::now() }
    }

    /// Reads it. Returns by how much it was set since the last look.
    fn look(&mut self) -> Option<Duration> {
        let expected = self.wall + self.read.elapsed();
        *self = Self::new();
        let off = self.wall.duration_since(expected).unwrap_or_else(|error| error.duration());
        Some(off).filter(|off| *off > JUMP)
    }
}
