//! One instance of a revision, and the idle ones that are kept where the settings say `policy = "reuse"`.

use super::{lifecycle::Lifecycle, store::HostState};
use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};
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
    idle_since: Instant,
}

impl Instance {
    pub(crate) fn new(
        store: Store<HostState>,
        guest: component::Instance,
        proxy: Option<Proxy>,
        lifecycle: Option<Lifecycle>,
    ) -> Self {
        Self { store, guest, proxy, lifecycle, served: 0, idle_since: Instant::now() }
    }

    /// Ends an instance that was kept: tells the guest, then gives its slot back.
    pub(crate) async fn end(mut self) {
        if let Some(lifecycle) = self.lifecycle.take() {
            lifecycle.stop(&mut self.store).await;
        }
        // Giving the slot back resets its memory; that is no work for an async thread.
        tokio::task::spawn_blocking(move || drop(self));
    }
}

/// Idle instances, the warmest last. Bounded by the service's concurrency, since each was taken for a request once.
pub(crate) struct IdleInstances {
    max_requests: u32,
    idle: Duration,
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
    pub(crate) fn new(max_requests: u32, idle: Duration, count: Arc<AtomicUsize>) -> Self {
        Self { max_requests, idle, kept: Mutex::default(), count }
    }

    /// How long an instance may be idle.
    pub(crate) fn idle_limit(&self) -> Duration {
        self.idle
    }

    /// Takes the instance that served last: its memory is the warmest.
    pub(crate) fn take(&self) -> Option<Instance> {
        let mut kept = self.kept();
        let taken = kept.instances.pop();
        self.counted(&kept);
        taken
    }

    /// Keeps an instance that served its request well, or gives it back where its time is over.
    pub(crate) fn give_back(&self, mut instance: Instance) -> Option<Instance> {
        instance.served = instance.served.saturating_add(1);
        if instance.served >= self.max_requests || instance.store.data_mut().leaks() {
            return Some(instance);
        }
        self.keep(instance)
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

    /// Takes out what has been idle for too long.
    pub(crate) fn expired(&self) -> Vec<Instance> {
        let mut kept = self.kept();
        let first_young = kept.instances.iter().position(|instance| instance.idle_since.elapsed() < self.idle);
        let old = first_young.unwrap_or(kept.instances.len());
        let expired = kept.instances.drain(..old).collect();
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
