//! Durations of requests as they are read: how many lie below each bound, the longest, and what is told of them.

use prometheus::{Histogram, core::Metric};
use std::{
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::Duration,
};

/// The longest of some durations. Whoever adds one only reads, unless it is the longest so far.
#[derive(Debug, Default)]
pub(super) struct Longest(AtomicU64);

impl Longest {
    pub(super) fn saw(&self, took: Duration) {
        let nanos = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        if nanos > self.0.load(Relaxed) {
            self.0.fetch_max(nanos, Relaxed);
        }
    }

    pub(super) fn read(&self) -> Duration {
        Duration::from_nanos(self.0.load(Relaxed))
    }

    /// From here on only those that come later count.
    pub(super) fn take(&self) -> Duration {
        Duration::from_nanos(self.0.swap(0, Relaxed))
    }
}

/// A reading of a histogram of durations.
#[derive(Debug, Clone, Default)]
pub(super) struct Durations {
    /// Upper bounds in seconds, and how many durations were not above each.
    buckets: Vec<(f64, u64)>,
    count: u64,
    /// None of them was above it.
    longest: Duration,
}

impl Durations {
    pub(super) fn of(histogram: &Histogram) -> Self {
        let metric = histogram.metric();
        let read = metric.get_histogram();
        let buckets = read.get_bucket().iter().map(|bucket| (bucket.upper_bound(), bucket.cumulative_count()));
        Self { buckets: buckets.collect(), count: read.get_sample_count(), longest: Duration::ZERO }
    }

    pub(super) fn count(&self) -> u64 {
        self.count
    }

    /// Some of them took so long, and none longer unless that is said too.
    pub(super) fn saw(&mut self, longest: Duration) {
        self.longest = self.longest.max(longest);
    }

    /// Those that `earlier` had not.
    pub(super) fn since(&self, earlier: &Self) -> Self {
        let before = earlier.buckets.iter().map(|(_, count)| *count).chain(std::iter::repeat(0));
        let buckets = self.buckets.iter().zip(before).map(|((bound, count), before)| (*bound, count.saturating_sub(before)));
        Self { buckets: buckets.collect(), count: self.count.saturating_sub(earlier.count), longest: self.longest }
    }

    /// All histograms have the same bounds.
    pub(super) fn add(&mut self, other: &Self) {
        self.saw(other.longest);
        if self.buckets.is_empty() {
            (self.buckets, self.count) = (other.buckets.clone(), other.count);
            return;
        }
        for ((_, count), (_, more)) in self.buckets.iter_mut().zip(&other.buckets) {
            *count += more;
        }
        self.count += other.count;
    }

    /// See [`super::RevisionMetrics::quantile`].
    pub(super) fn quantile(&self, q: f64) -> Option<Duration> {
        let rank = q.clamp(0.0, 1.0) * float(self.count);
        let (mut below, mut lower) = (0.0, 0.0);
        for (upper, count) in &self.buckets {
            let count = float(*count);
            if count >= rank && count > below {
                // One that was counted before its length was seen lies above the lower bound all the same.
                let upper = upper.min(self.longest.as_secs_f64()).max(lower);
                let seconds = lower + (upper - lower) * ((rank - below) / (count - below)).max(0.0);
                return Duration::try_from_secs_f64(seconds).ok();
            }
            (below, lower) = (count, *upper);
        }
        // Above all bounds: the last is the best that can be said.
        (self.count > 0).then(|| Duration::try_from_secs_f64(lower).ok()).flatten()
    }
}

/// As near as a float comes.
fn float(count: u64) -> f64 {
    let half = |bits: u64| f64::from(u32::try_from(bits & u64::from(u32::MAX)).unwrap_or(u32::MAX));
    half(count >> 32) * 4_294_967_296.0 + half(count)
}
