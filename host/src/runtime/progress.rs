//! When the bodies of a request moved last, in either direction.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, Instant},
};

/// Shared by the request body, the response body and whoever watches them.
pub(super) struct Progress {
    begun: Instant,
    /// Milliseconds after `begun`.
    last: AtomicU64,
}

impl Progress {
    pub(super) fn new() -> Self {
        Self { begun: Instant::now(), last: AtomicU64::new(0) }
    }

    /// Something moved.
    pub(super) fn note(&self) {
        let now = u64::try_from(self.begun.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.last.store(now, Ordering::Relaxed);
    }

    /// Returns once nothing moved for `limit`.
    pub(super) async fn stalled(&self, limit: Duration) {
        loop {
            let idle_since = self.begun + Duration::from_millis(self.last.load(Ordering::Relaxed));
            match (idle_since + limit).checked_duration_since(Instant::now()) {
                Some(left) if !left.is_zero() => tokio::time::sleep(left).await,
                _ => return,
            }
        }
    }
}
