//! One entry of one service: when it comes next, whether it runs, and how it ended.

use super::{CronResult, LATE, lived::Lived};
use crate::{
    config::{CronEntry, ServiceName},
    dispatch::Ended,
    telemetry::{ServiceMetrics, micros},
};
use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant, SystemTime},
};
use tokio::sync::Notify;
use tracing::warn;

/// The target of lines about entries.
pub(super) const TARGET: &str = "hotbay::cron";

/// Times of one entry that are counted one by one where many have passed at once: each minute of a day, and some more.
const MISSED_MAX: u64 = 1_500;

/// One entry of one service. As long as its settings have it, it is the same across all swaps.
pub(super) struct Job {
    service: ServiceName,
    entry: CronEntry,
    metrics: Arc<ServiceMetrics>,
    state: Mutex<State>,
    rests: Notify,
}

struct State {
    /// Whether the main revision has it.
    listed: bool,
    lived: Lived,
    next: Option<SystemTime>,
    running: Option<SystemTime>,
    last: Option<LastRun>,
    runs: u64,
    missed: u64,
}

/// How an entry stands.
#[derive(Debug, Clone)]
pub struct JobState {
    /// When, and what is asked then.
    pub entry: CronEntry,
    /// When it comes next.
    pub next: Option<SystemTime>,
    /// Since when it runs, where it does.
    pub running: Option<SystemTime>,
    /// The last run that has ended.
    pub last: Option<LastRun>,
    /// Runs that have ended since the host started.
    pub runs: u64,
    /// Times since then at which it did not run.
    pub missed: u64,
}

/// A run that has ended.
#[derive(Debug, Clone)]
pub struct LastRun {
    /// When it began.
    pub begun: SystemTime,
    /// How long it took, in microseconds.
    pub took_us: u64,
    /// What it counts as.
    pub result: CronResult,
    /// The status that a client would have got.
    pub status: u16,
    /// Why there was no response of a guest, or why it broke off.
    pub reason: Option<String>,
    /// `x-request-id`.
    pub request_id: String,
}

/// What has come due.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Turn {
    /// The time that is to be run now.
    pub(super) due: Option<SystemTime>,
    /// Times that have passed without a run.
    pub(super) missed: u64,
    pub(super) next: Option<SystemTime>,
}

impl State {
    fn turn(&mut self, entry: &CronEntry, now: SystemTime, jumped: bool) -> Turn {
        let (mut due, mut missed) = (None, 0);
        let late = now.checked_sub(LATE).unwrap_or(now);
        // A clock that was set back has to live up to it again.
        let ahead = if jumped && now < self.lived.end() { None } else { self.next };
        let mut next = ahead;
        while let Some(time) = next.filter(|time| *time <= now) {
            let is_late = time < late;
            missed += u64::from(is_late || due.is_some());
            // Of what is too late there may be a great many: from so many on they are passed over at once.
            let passes = is_late && missed >= MISSED_MAX;
            let after = if passes { late.checked_sub(Duration::from_nanos(1)).unwrap_or(late) } else { time };
            due = if is_late { due } else { Some(time) };
            next = self.lived.next(after, |after| entry.next(after));
        }
        self.lived.go_on(now, jumped);
        if jumped || self.next != next {
            next = self.lived.next(self.lived.end(), |after| entry.next(after));
        }
        self.next = next;
        Turn { due, missed, next }
    }
}

impl Job {
    /// An entry that counts from `now` on.
    pub(super) fn new(service: ServiceName, entry: CronEntry, metrics: Arc<ServiceMetrics>, now: SystemTime) -> Self {
        metrics.has_cron();
        let state = State {
            listed: false,
            lived: Lived::since(now),
            next: entry.next(now),
            running: None,
            last: None,
            runs: 0,
            missed: 0,
        };
        Self { service, entry, metrics, state: Mutex::new(state), rests: Notify::new() }
    }

    pub(super) fn service(&self) -> &ServiceName {
        &self.service
    }

    pub(super) fn entry(&self) -> &CronEntry {
        &self.entry
    }

    /// The main revision has it. One that comes back counts from `now` on.
    pub(super) fn list(&self, now: SystemTime) {
        let mut state = self.lock();
        state.listed = true;
        if state.next.is_none() {
            state.next = state.lived.next(now.max(state.lived.end()), |after| self.entry.next(after));
        }
    }

    /// It may no longer be one of the main revision's.
    pub(super) fn delist(&self) {
        self.lock().listed = false;
    }

    /// Whether it is to be kept: it is listed, or runs.
    pub(super) fn is_wanted(&self) -> bool {
        let mut state = self.lock();
        if !state.listed {
            state.next = None;
        }
        state.listed || state.running.is_some()
    }

    /// Counts from `moment` on.
    pub(super) fn begin(&self, moment: SystemTime) {
        let mut state = self.lock();
        state.lived = Lived::since(moment);
        state.next = self.entry.next(moment).filter(|_| state.listed);
    }

    /// The clock shows `now`, and was set where it `jumped`.
    pub(super) fn turn(&self, now: SystemTime, jumped: bool) -> Turn {
        let mut state = self.lock();
        if !state.listed {
            state.lived.go_on(now, jumped);
            return Turn { due: None, missed: 0, next: None };
        }
        state.turn(&self.entry, now, jumped)
    }

    /// Counts times at which it did not run.
    pub(super) fn missed(&self, times: u64, reason: &str) {
        {
            let mut state = self.lock();
            state.missed = state.missed.saturating_add(times);
        }
        self.metrics.cron_missed(times);
        let (service, schedule, path) = (self.service.as_str(), self.entry.schedule(), self.entry.target().as_str());
        warn!(target: TARGET, service, schedule, path, times, reason, "an entry of [[cron]] did not run at its time: {reason}");
    }

    /// Begins a run, unless the last one goes on.
    pub(super) fn start(job: &Arc<Self>) -> Option<Run> {
        let mut state = job.lock();
        if state.running.is_some() {
            return None;
        }
        let begun = SystemTime::now();
        state.running = Some(begun);
        Some(Run { job: job.clone(), begun, clock: Instant::now() })
    }

    pub(super) fn is_running(&self) -> bool {
        self.lock().running.is_some()
    }

    /// Returns once it does not run.
    pub(super) async fn rests(&self) {
        let mut rests = std::pin::pin!(self.rests.notified());
        // From here on its end is not missed.
        rests.as_mut().enable();
        if self.is_running() {
            rests.await;
        }
    }

    /// How it stands; none where it only runs to its end.
    pub(super) fn state(&self) -> Option<JobState> {
        let state = self.lock();
        state.listed.then(|| JobState {
            entry: self.entry.clone(),
            next: state.next,
            running: state.running,
            last: state.last.clone(),
            runs: state.runs,
            missed: state.missed,
        })
    }

    /// Each change of it is one assignment or is made anew at the next look.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A run that goes on until this is dropped, however it ends.
pub(super) struct Run {
    job: Arc<Job>,
    begun: SystemTime,
    clock: Instant,
}

impl Run {
    pub(super) fn entry(&self) -> &CronEntry {
        &self.job.entry
    }

    /// It has ended by itself.
    pub(super) fn ended(self, ended: Ended) {
        let Ended { request_id, result, status, reason, .. } = ended;
        self.job.metrics.cron_ended(result);
        let took_us = micros(self.clock.elapsed());
        let mut state = self.job.lock();
        state.runs = state.runs.saturating_add(1);
        state.last = Some(LastRun { begun: self.begun, took_us, result, status: status.as_u16(), reason, request_id });
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        self.job.lock().running = None;
        self.job.rests.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::Metrics;

    fn at(seconds: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_020 + seconds)
    }

    /// Each whole minute, from the first on.
    fn job(schedule: &str) -> Arc<Job> {
        let entry = toml::from_str(&format!("schedule = '{schedule}'\npath = '/tick'")).unwrap();
        let metrics = Arc::new(Metrics::new().unwrap()).service("probe");
        let job = Job::new(ServiceName::parse("probe").unwrap(), entry, metrics, at(0));
        job.list(at(0));
        Arc::new(job)
    }

    fn turns(job: &Job, now: u64, jumped: bool) -> (Option<SystemTime>, u64) {
        let turn = job.turn(at(now), jumped);
        (turn.due, turn.missed)
    }

    #[test]
    fn each_time_comes_once() {
        let job = job("* * * * *");
        assert_eq!(turns(&job, 59, false), (None, 0));
        assert_eq!(turns(&job, 60, false), (Some(at(60)), 0));
        assert_eq!(turns(&job, 60, false), (None, 0));
        assert_eq!(turns(&job, 119, false), (None, 0));
        assert_eq!(turns(&job, 121, false), (Some(at(120)), 0));
        assert_eq!(job.state().unwrap().next, Some(at(180)));
    }

    #[test]
    fn a_clock_set_back_runs_no_time_twice() {
        let job = job("* * * * *");
        assert_eq!(turns(&job, 60, false), (Some(at(60)), 0));
        assert_eq!(turns(&job, 120, false), (Some(at(120)), 0));
        assert_eq!(turns(&job, 50, true), (None, 0));
        for now in [60, 61, 120, 121] {
            assert_eq!(turns(&job, now, false), (None, 0), "{now}");
        }
        assert_eq!(turns(&job, 180, false), (Some(at(180)), 0));
    }

    #[test]
    fn what_is_late_runs_and_what_is_too_late_is_missed() {
        let job = job("* * * * *");
        assert_eq!(turns(&job, 90, false), (Some(at(60)), 0));
        assert_eq!(turns(&job, 90 + 86_400, true), (Some(at(86_460)), 1_439), "a day of minutes");
        let daily = self::job("0 0 * * *");
        assert_eq!(turns(&daily, 3 * 86_400, true), (None, 3));
        let often = self::job("* * * * * *");
        assert_eq!(turns(&often, 10, false), (Some(at(10)), 9));
        assert_eq!(turns(&often, 11, false), (Some(at(11)), 0));
        assert_eq!(turns(&often, 11 + 86_400, true).1, MISSED_MAX + 60, "they are counted up to a bound, beside the last minute");
    }

    #[tokio::test]
    async fn one_that_runs_is_not_begun_again_and_is_kept_when_it_goes() {
        let job = job("* * * * *");
        let run = Job::start(&job).unwrap();
        assert!(Job::start(&job).is_none() && job.is_running());
        job.delist();
        assert!(job.is_wanted() && job.state().is_none());
        assert_eq!(turns(&job, 60, false), (None, 0), "it is not listed");
        job.list(at(61));
        assert_eq!(job.state().unwrap().next, Some(at(120)));
        drop(run);
        job.rests().await;
        assert!(Job::start(&job).is_some());
    }
}
