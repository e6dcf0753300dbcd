//! One instance of a revision, and the idle ones that are kept where the settings say `policy = "reuse"`.

use super::{
    lifecycle::{Lifecycle, STOP_MAX},
    running::Running,
    store::HostState,
};
use crate::{
    config::{Reuse, Span},
    telemetry::Renewal,
};
use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};
use tracing::warn;
use wasmtime::{Store, component};
use wasmtime_wasi_http::handler::Proxy;

/// A guest that can take one request, or one call, at a time.
pub(crate) struct Instance {
    pub(crate) store: Store<HostState>,
    pub(crate) guest: component::Instance,
    /// What takes HTTP requests, if it does.
    pub(crate) proxy: Option<Proxy>,
    pub(crate) lifecycle: Option<Lifecycle>,
    served: u32,
    begun: Instant,
    idle_since: Instant,
    /// Bytes that it held after its first request.
    settled: Option<usize>,
}

impl Instance {
    pub(crate) fn new(
        store: Store<HostState>,
        guest: component::Instance,
        proxy: Option<Proxy>,
        lifecycle: Option<Lifecycle>,
    ) -> Self {
        let now = Instant::now();
        Self { store, guest, proxy, lifecycle, served: 0, begun: now, idle_since: now, settled: None }
    }

    /// Why it is time for a new one after this request, if it is.
    fn spent(&mut self, bounds: &Reuse) -> Option<Renewal> {
        self.served = self.served.saturating_add(1);
        let memory = &self.store.data().memory;
        let settled = *self.settled.get_or_insert(memory.used());
        let outgrown = memory.outgrew(settled);
        if self.served >= bounds.max_requests {
            Some(Renewal::Requests)
        } else if self.begun.elapsed() >= bounds.max_age {
            Some(Renewal::Age)
        } else if outgrown {
            Some(Renewal::Memory)
        } else {
            HostState::leaks(&mut self.store).then_some(Renewal::Handles)
        }
    }

    /// Ends an instance that was kept: tells the guest, then gives its slot back.
    pub(crate) async fn end(mut self) {
        let state = self.store.data();
        let (service, line) = (state.service.clone(), state.memory.account().line().clone());
        let call = Box::pin(async move {
            if let Some(lifecycle) = self.lifecycle.take() {
                lifecycle.stop(&mut self.store).await;
            }
            // Giving the slot back resets its memory; that is no work for an async thread.
            tokio::task::spawn_blocking(move || drop(self));
            Ok(())
        });
        if let Err(error) = Running::new(call, Span(STOP_MAX), &line).await {
            warn!(%service, %error, "a guest was ended in lifecycle.stop");
        }
    }
}

/// Idle instances, the warmest last. Bounded by the service's concurrency, since each was taken for a request once.
pub(crate) struct IdleInstances {
    bounds: Reuse,
    kept: Mutex<Kept>,
    /// How many are kept, for who may not wait for the lock.
    count: Arc<AtomicUsize>,
}

#[derive(Default)]
struct Kept {
    closed: bool,
    instances: Vec<Instance>,
}

impl IdleInstances {
    pub(crate) fn new(bounds: Reuse, count: Arc<AtomicUsize>) -> Self {
        Self { bounds, kept: Mutex::default(), count }
    }

    /// How often it is worth looking for [`Self::expired`] ones.
    pub(crate) fn period(&self) -> Duration {
        self.bounds.idle.min(self.bounds.max_age) / 4
    }

    /// Takes the instance that served last: its memory is the warmest.
    pub(crate) fn take(&self) -> Option<Instance> {
        let mut kept = self.kept();
        let taken = kept.instances.pop();
        self.counted(&kept);
        taken
    }

    /// Keeps an instance that served its request well, or gives it back where its time is over: a guest that leaks ends here,
    /// before it reaches a limit and a request of somebody fails.
    pub(crate) fn give_back(&self, mut instance: Instance) -> Option<Instance> {
        match instance.spent(&self.bounds) {
            Some(reason) => {
                instance.store.data().log.renewed(reason);
                Some(instance)
            }
            None => self.keep(instance),
        }
    }

    /// Keeps an instance that is ready for its next request.
    pub(crate) fn keep(&self, mut instance: Instance) -> Option<Instance> {
        instance.idle_since = Instant::now();
        let mut kept = self.kept();
        if kept.closed {
            return Some(instance);
        }
        kept.instances.push(instance);
        self.counted(&kept);
        None
    }

    /// Takes out what has been idle for too long, or is too old.
    pub(crate) fn expired(&self) -> Vec<Instance> {
        let Reuse { idle, max_age, .. } = self.bounds;
        let over = |instance: &mut Instance| instance.idle_since.elapsed() >= idle || instance.begun.elapsed() >= max_age;
        let mut kept = self.kept();
        let expired = kept.instances.extract_if(.., over).collect();
        self.counted(&kept);
        expired
    }

    /// Takes everything out and keeps nothing from now on.
    pub(crate) fn close(&self) -> Vec<Instance> {
        let mut kept = self.kept();
        kept.closed = true;
        let all = std::mem::take(&mut kept.instances);
        self.counted(&kept);
        all
    }

    fn counted(&self, kept: &Kept) {
        self.count.store(kept.instances.len(), Ordering::Relaxed);
    }

    /// Nothing that can panic runs under the lock.
    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
