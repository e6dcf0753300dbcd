//! By when a request must be answered, and the calls that it waits for: who is at fault where it is not.

use crate::config::ServiceName;
use std::{
    iter,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};
use tokio::time::{Instant, sleep_until};

/// By when a request must have the head of its response.
#[derive(Debug)]
pub struct Due {
    at: Instant,
    met: AtomicBool,
    /// That of the request that waits for this one.
    before: Option<Arc<Due>>,
    awaited: Mutex<Vec<Arc<Awaited>>>,
}

/// A call of a function that a request waits for.
#[derive(Debug)]
pub struct Awaited {
    /// The service that is called.
    pub provider: ServiceName,
    /// `interface#function`.
    pub function: Arc<str>,
    since: Instant,
}

impl Awaited {
    /// How long it has been waited for.
    pub fn took(&self) -> Duration {
        self.since.elapsed()
    }
}

impl Due {
    /// So long from now on; `before` is that of the request on whose behalf this one is made.
    pub fn within(time: Duration, before: Option<Arc<Self>>) -> Arc<Self> {
        Arc::new(Self { at: Instant::now() + time, met: AtomicBool::new(false), before, awaited: Mutex::default() })
    }

    /// The head is there: from now on nothing is due.
    pub fn meet(&self) {
        self.met.store(true, Ordering::Relaxed);
    }

    /// Returns once the time is over, and never where it was met before.
    pub async fn passed(&self) {
        if !self.met.load(Ordering::Relaxed) {
            sleep_until(self.at).await;
        }
        if self.met.load(Ordering::Relaxed) {
            std::future::pending().await
        }
    }

    /// Whether its own time is over, or that of one who waits for it.
    pub fn is_over(&self) -> bool {
        let now = Instant::now();
        let mut all = iter::successors(Some(self), |due| due.before.as_deref());
        all.any(|due| due.at <= now && !due.met.load(Ordering::Relaxed))
    }

    /// A call of `function` of `provider` is waited for until the returned value is dropped.
    pub fn awaits(self: &Arc<Self>, provider: ServiceName, function: Arc<str>) -> Waits {
        let one = Arc::new(Awaited { provider, function, since: Instant::now() });
        self.awaited().push(one.clone());
        Waits { due: self.clone(), one }
    }

    /// Of the calls that are waited for now, the one that has taken longest.
    pub fn longest(&self) -> Option<Arc<Awaited>> {
        self.awaited().iter().min_by_key(|one| one.since).cloned()
    }

    /// Nothing that can panic runs under the lock.
    fn awaited(&self) -> MutexGuard<'_, Vec<Arc<Awaited>>> {
        self.awaited.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A call that is waited for, until this is dropped.
#[derive(Debug)]
pub struct Waits {
    due: Arc<Due>,
    one: Arc<Awaited>,
}

impl Drop for Waits {
    fn drop(&mut self) {
        self.due.awaited().retain(|one| !Arc::ptr_eq(one, &self.one));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::FutureExt;

    const LONG: Duration = Duration::from_secs(3600);

    #[tokio::test]
    async fn a_time_that_was_met_never_passes() {
        let due = Due::within(Duration::ZERO, None);
        due.passed().await;
        due.meet();
        assert!(due.passed().now_or_never().is_none());
    }

    #[test]
    fn it_is_over_with_that_of_whoever_waits_for_it() {
        let first = Due::within(Duration::ZERO, None);
        let last = Due::within(LONG, Some(Due::within(LONG, Some(first.clone()))));
        assert!(last.is_over());
        first.meet();
        assert!(!last.is_over());
    }

    #[test]
    fn the_call_that_takes_longest_is_known() {
        let due = Due::within(LONG, None);
        let awaits = |name: &str| due.awaits(ServiceName::parse(name).unwrap(), "a#b".into());
        let (first, second) = (awaits("first"), awaits("second"));
        let longest = || due.longest().map(|one| one.provider.to_string());
        assert_eq!(longest().as_deref(), Some("first"));
        drop(first);
        assert_eq!(longest().as_deref(), Some("second"));
        drop(second);
        assert_eq!(longest(), None);
    }
}
