//! Whether a revision that was just published fails so often that the host goes back to the one before.

use crate::{config::RollbackPolicy, runtime::Revision};
use std::time::{Duration, Instant};

/// A revision that fails at least so many times as often as the one before is worse; one that fails as often is not at fault.
const WORSE: u64 = 2;

/// Requests that have ended, and how many of them in a fault that the host saw and that is the guest's alone.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Counts {
    pub(super) requests: u64,
    pub(super) faults: u64,
}

impl Counts {
    /// Those of a revision.
    pub(super) fn of(revision: &Revision) -> Self {
        let metrics = revision.metrics();
        Self { requests: metrics.requests(), faults: metrics.blamed() }
    }

    fn since(self, before: Self) -> Self {
        Self { requests: self.requests.saturating_sub(before.requests), faults: self.faults.saturating_sub(before.faults) }
    }
}

/// How a revision has fared lately: two readings of its counters, the older at least half a window old once there were that many.
#[derive(Debug, Clone, Copy)]
pub(super) struct Lately {
    period: Duration,
    older: Counts,
    newer: Counts,
    read: Instant,
}

impl Lately {
    pub(super) fn new(policy: &RollbackPolicy, now: Instant) -> Self {
        // A policy that watches nothing needs no readings; once an hour is next to none.
        let period = if policy.window.0.is_zero() { Duration::from_secs(3600) } else { policy.window.0 / 2 };
        Self { period, older: Counts::default(), newer: Counts::default(), read: now }
    }

    /// When the counters are to be read the next time.
    pub(super) fn due(&self) -> Instant {
        self.read + self.period
    }

    pub(super) fn note(&mut self, now: Instant, counts: Counts) {
        if now >= self.due() {
            (self.older, self.newer, self.read) = (self.newer, counts, now);
        }
    }

    /// What has come since the older of the two readings.
    pub(super) fn counts(&self, now: Counts) -> Counts {
        now.since(self.older)
    }
}

/// The watch over a revision that was just published.
#[derive(Debug, Clone, Copy)]
pub(super) struct Watch {
    policy: RollbackPolicy,
    until: Instant,
    /// How the revision before fared lately.
    before: Counts,
    /// No verdict before: the last one could not be carried out.
    not_before: Option<Instant>,
}

/// Between two attempts to go back.
const AGAIN: Duration = Duration::from_secs(1);

impl Watch {
    /// None where the policy watches nothing.
    pub(super) fn begin(policy: RollbackPolicy, before: Counts, now: Instant) -> Option<Self> {
        (!policy.window.0.is_zero()).then(|| Self { policy, until: now + policy.window.0, before, not_before: None })
    }

    /// When there is something to do even if nothing fails meanwhile.
    pub(super) fn next_look(&self) -> Instant {
        self.not_before.unwrap_or(self.until)
    }

    /// Whether no verdict will come any more.
    pub(super) fn is_over(&self, now: Instant) -> bool {
        now >= self.until && self.not_before.is_none()
    }

    /// The same, after a verdict that could not be carried out for want of something of the host's.
    pub(super) fn later(self, now: Instant) -> Self {
        Self { not_before: Some(now + AGAIN), ..self }
    }

    /// What the next revision is measured by: how this one has fared, or while that is too little to tell, the one before it.
    pub(super) fn measure(&self, seen: Counts) -> Counts {
        if seen.requests < u64::from(self.policy.min_requests.0) { self.before } else { seen }
    }

    /// Why the host should go back, if it should: enough requests, enough faults among them, and clearly more than before.
    pub(super) fn verdict(&self, seen: Counts, now: Instant) -> Option<String> {
        if self.not_before.is_some_and(|moment| now < moment) {
            return None;
        }
        let RollbackPolicy { faults, min_requests, window } = self.policy;
        let Counts { requests, faults: failed } = seen;
        let enough = requests >= u64::from(min_requests.0) && faults.is_reached_by(failed, requests);
        // failed/requests >= WORSE * before.faults/before.requests, without dividing.
        let mine = u128::from(failed) * u128::from(self.before.requests.max(1));
        let theirs = u128::from(WORSE) * u128::from(self.before.faults) * u128::from(requests);
        (enough && mine >= theirs).then(|| {
            let before = match self.before.requests {
                0 => String::new(),
                before => format!(", of the revision before {} of {before}", self.before.faults),
            };
            format!("{failed} of its first {requests} requests ended in a fault{before} (within rollback.window, {window})")
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Count, Share, Span};

    const POLICY: RollbackPolicy =
        RollbackPolicy { faults: Share::percent(50), min_requests: Count(20), window: Span(Duration::from_secs(30)) };

    fn counts(faults: u64, requests: u64) -> Counts {
        Counts { requests, faults }
    }

    fn goes_back(before: Counts, seen: Counts) -> bool {
        Watch::begin(POLICY, before, Instant::now()).unwrap().verdict(seen, Instant::now()).is_some()
    }

    #[test]
    fn enough_faults_among_enough_requests() {
        assert!(goes_back(counts(0, 0), counts(20, 20)));
        assert!(goes_back(counts(0, 1000), counts(10, 20)));
        assert!(!goes_back(counts(0, 1000), counts(19, 19)), "too few requests");
        assert!(!goes_back(counts(0, 1000), counts(9, 20)), "too few faults");
        assert!(Watch::begin(RollbackPolicy { window: Span(Duration::ZERO), ..POLICY }, counts(0, 0), Instant::now()).is_none());
    }

    #[test]
    fn what_failed_before_is_not_its_fault() {
        assert!(!goes_back(counts(100, 100), counts(20, 20)));
        assert!(!goes_back(counts(60, 100), counts(20, 20)), "less than twice as often");
        assert!(goes_back(counts(25, 100), counts(50, 100)));
    }

    #[test]
    fn one_that_has_hardly_been_asked_is_no_measure() {
        let watch = Watch::begin(POLICY, counts(90, 100), Instant::now()).unwrap();
        assert_eq!(watch.measure(counts(0, 3)), counts(90, 100));
        assert_eq!(watch.measure(counts(0, 20)), counts(0, 20));
    }

    #[test]
    fn a_verdict_that_could_not_be_carried_out_comes_again() {
        let now = Instant::now();
        let watch = Watch::begin(POLICY, counts(0, 0), now).unwrap().later(now);
        assert_eq!(watch.verdict(counts(20, 20), now), None);
        let end = now + Duration::from_secs(60);
        assert!(!watch.is_over(end) && watch.verdict(counts(20, 20), end).is_some());
    }

    #[test]
    fn lately_forgets_what_is_older_than_the_window() {
        let begun = Instant::now();
        let mut lately = Lately::new(&POLICY, begun);
        lately.note(begun + Duration::from_secs(1), counts(9, 9));
        assert_eq!(lately.counts(counts(9, 10)), counts(9, 10), "not due yet");
        lately.note(begun + Duration::from_secs(15), counts(0, 100));
        lately.note(begun + Duration::from_secs(30), counts(0, 200));
        assert_eq!(lately.counts(counts(50, 250)), counts(50, 150));
    }
}
