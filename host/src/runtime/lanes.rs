//! Who may compile when: what takes long holds up nobody else, and what was ended for its time before holds up nobody who was not.
//!
//! A build begins in the short lane, of which there is a place a core. One that outstays it moves to the long lane; where that is
//! full it is ended, and begins anew when its turn there comes. So a place in the short lane is free again after [`SHORT`] at the
//! latest, whatever is compiled, and there are never more processes than places. A service whose last build took long goes to the
//! long lane at once, and one whose last build came to no end does not get the last place in it.

use super::compile::CompileError;
use crate::config::ServiceName;
use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};
use tokio::sync::Semaphore;

/// Longest time in the short lane. A usual service compiles in less than a second, on a machine that has much to do as well.
const SHORT: Duration = Duration::from_secs(5);

/// Services that are remembered; who names more of them than that is not worth remembering one by one.
const REMEMBERED: usize = 4096;

/// What a service's last build was like. Of most there is nothing to say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Record {
    /// It took long, and was compiled.
    Long,
    /// It took long, and came to no end.
    Endless,
}

/// The places there are.
pub(super) struct Lanes {
    short: Semaphore,
    long: Semaphore,
    /// Those of the long lane that a service with [`Record::Endless`] may take.
    suspects: Semaphore,
    records: Mutex<HashMap<ServiceName, Record>>,
}

impl Lanes {
    /// A short lane of `cores` places, and a long one of at least two.
    pub(super) fn new(cores: usize) -> Self {
        let long = cores.max(2);
        Self {
            short: Semaphore::new(cores.max(1)),
            long: Semaphore::new(long),
            suspects: Semaphore::new(long - 1),
            records: Mutex::default(),
        }
    }

    /// Makes an attempt once there is a place for it; a second one where the first was ended to make room.
    pub(super) async fn compile<T, F>(&self, service: &ServiceName, attempt: impl Fn() -> F) -> Result<T, CompileError>
    where
        F: Future<Output = Result<T, CompileError>>,
    {
        // The semaphores are never closed; an error would only mean that nobody bounds us.
        let record = self.records().get(service).copied();
        if record.is_none() {
            let place = self.short.acquire().await.ok();
            let begun = Instant::now();
            let mut first = Box::pin(attempt());
            if let Ok(outcome) = tokio::time::timeout(SHORT, &mut first).await {
                return self.judged(service, begun, outcome);
            }
            self.records().insert(service.clone(), Record::Long);
            if let Ok(_place) = self.long.try_acquire() {
                drop(place);
                return self.judged(service, begun, first.await);
            }
            // Dropping it ends the process; only then somebody else may begin.
            drop(first);
        }
        let _suspect = match record {
            Some(Record::Endless) => self.suspects.acquire().await.ok(),
            Some(Record::Long) | None => None,
        };
        let _place = self.long.acquire().await.ok();
        let begun = Instant::now();
        let outcome = attempt().await;
        self.judged(service, begun, outcome)
    }

    /// Remembers how a build was.
    fn judged<T>(&self, service: &ServiceName, begun: Instant, outcome: Result<T, CompileError>) -> Result<T, CompileError> {
        let mut records = self.records();
        let record = match &outcome {
            Err(CompileError::Timeout(_)) => Some(Record::Endless),
            _ if begun.elapsed() < SHORT => None,
            Err(CompileError::Died { .. } | CompileError::Killed(_)) => Some(Record::Endless),
            _ => Some(Record::Long),
        };
        match record {
            None => drop(records.remove(service)),
            Some(record) => {
                if records.len() >= REMEMBERED && !records.contains_key(service) {
                    records.clear();
                }
                records.insert(service.clone(), record);
            }
        }
        outcome
    }

    /// Nothing that can panic runs under the lock.
    fn records(&self) -> MutexGuard<'_, HashMap<ServiceName, Record>> {
        self.records.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Span;

    fn name(name: &str) -> ServiceName {
        ServiceName::parse(name).unwrap()
    }

    fn timed_out() -> Result<(), CompileError> {
        Err(CompileError::Timeout(Span(Duration::from_secs(1))))
    }

    #[tokio::test]
    async fn what_came_to_no_end_does_not_get_the_last_place() {
        let lanes = Lanes::new(1);
        for service in ["a", "b"] {
            assert!(lanes.compile(&name(service), async || timed_out()).await.is_err());
        }
        // `a` compiles for ever; `b`, which is as bad, waits for it, and others do not.
        let endless = name("a");
        let a = lanes.compile(&endless, std::future::pending::<Result<(), CompileError>>);
        let mut a = Box::pin(a);
        assert!(futures::poll!(&mut a).is_pending());
        let second = name("b");
        let mut b = Box::pin(lanes.compile(&second, async || Ok(())));
        assert!(futures::poll!(&mut b).is_pending());
        lanes.records().insert(name("large"), Record::Long);
        lanes.compile(&name("large"), async || Ok(())).await.unwrap();
        lanes.compile(&name("usual"), async || Ok(())).await.unwrap();
        drop(a);
        b.await.unwrap();
        let remembered: Vec<_> = lanes.records().keys().cloned().collect();
        assert_eq!(remembered, [endless], "who compiles quickly is in nobody's way any more");
    }
}
