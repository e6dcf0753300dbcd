//! How much of the log one service may fill: bytes within a second, over all of its revisions and instances.

use std::{
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::{Duration, Instant},
};

/// Bytes within a second. All services together wait for stderr in one place, which has room for four times that.
const SECOND_MAX: u64 = 1 << 20;
/// What a line costs beside its text: the time, the names and the request id in front of it.
const LINE_COST: u64 = 256;

/// What one service has written of late.
pub(crate) struct LogShare {
    begun: Instant,
    /// Seconds after `begun` that `used` is of.
    second: AtomicU64,
    used: AtomicU64,
}

impl LogShare {
    pub(super) fn new() -> Self {
        Self { begun: Instant::now(), second: AtomicU64::new(0), used: AtomicU64::new(0) }
    }

    /// Whether a line of so many bytes may be told now.
    pub(super) fn take(&self, bytes: usize) -> bool {
        self.take_at(self.begun.elapsed(), bytes)
    }

    /// Two that find a new second at once may both begin it, which gives away a line.
    fn take_at(&self, since: Duration, bytes: usize) -> bool {
        if self.second.swap(since.as_secs(), Relaxed) != since.as_secs() {
            self.used.store(0, Relaxed);
        }
        let cost = u64::try_from(bytes).unwrap_or(u64::MAX).saturating_add(LINE_COST);
        let fits = |used: u64| used.checked_add(cost).filter(|used| *used <= SECOND_MAX);
        self.used.fetch_update(Relaxed, Relaxed, fits).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_has_so_many_bytes_and_the_next_as_many_again() {
        let share = LogShare::new();
        for second in [0, 1, 5] {
            let now = Duration::from_secs(second);
            let lines = (0..10_000).filter(|_| share.take_at(now, 4 << 10)).count();
            assert_eq!(lines, (1 << 20) / ((4 << 10) + 256), "second {second}");
        }
    }
}
