//! A profile of a revision's guests: where they are at the steps of the clock, for a while, in the format of the Firefox profiler.

use super::{
    budget::Account,
    digest::Digest,
    granted::Granted,
    names::Readable,
    revision::Revision,
    store::HostState,
    ticks::{FINE, Ticks},
};
use crate::telemetry::RevisionMetrics;
use std::{
    io::{self, Write},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};
use tokio::runtime::Handle;
use wasmtime::{GuestProfiler, StoreContextMut};

/// Profiles at once: each costs the guests that it looks at, and memory.
const AT_ONCE: u32 = 4;

/// Time of threads that looking may take, in all and at the beginning. It is spread over the profile: a guest that is deep in itself
/// takes long to look at, and is looked at less often. It bounds what is gathered too.
const LOOKING: Duration = Duration::from_millis(500);
const LOOKING_AT_FIRST: Duration = Duration::from_millis(5);

/// Bytes of a profile, as it is sent.
const SIZE_MAX: usize = 64 << 20;

/// Why there is no profile.
#[derive(Debug, Clone, thiserror::Error)]
pub(crate) enum ProfileError {
    /// One of the same service is being taken.
    #[error("another profile of this service is being taken")]
    UnderWay,
    /// As many as may be are being taken.
    #[error("{AT_ONCE} profiles are being taken, and no more are at once")]
    Many,
    /// The guests gave too many different stacks, or have names without end.
    #[error("the profile has more than {} MiB", SIZE_MAX >> 20)]
    Large,
    /// The engine does not give one.
    #[error("the engine takes no profile: {0}")]
    Engine(String),
}

/// A profile that was taken.
pub(crate) struct Taken {
    /// In the processed format of the Firefox profiler.
    pub(crate) json: Vec<u8>,
    /// How often a guest was looked at.
    pub(crate) samples: u64,
    /// Time of threads that looking took.
    pub(crate) looked: Duration,
    /// Requests, or calls, that ended meanwhile.
    pub(crate) requests: u64,
    /// Of which build.
    pub(crate) digest: Digest,
}

/// Where the guests of a service are looked at.
#[derive(Default)]
pub(super) struct Sampler {
    is_on: AtomicBool,
    sampling: Mutex<Option<Sampling>>,
}

/// What was seen so far.
struct Sampling {
    profiler: GuestProfiler,
    /// Of which revision: what its instances have in common.
    granted: Arc<Granted>,
    samples: u64,
    begun: Instant,
    lasts: Duration,
    looked: Duration,
}

impl Sampler {
    /// Whether anybody wants to know.
    pub(super) fn is_on(&self) -> bool {
        self.is_on.load(Relaxed)
    }

    fn begin(&self, sampling: Sampling) -> Result<(), ProfileError> {
        let mut place = self.sampling();
        if place.is_some() {
            return Err(ProfileError::UnderWay);
        }
        *place = Some(sampling);
        self.is_on.store(true, Relaxed);
        Ok(())
    }

    fn end(&self) -> Option<Sampling> {
        self.is_on.store(false, Relaxed);
        self.sampling().take()
    }

    /// A panic while the lock was held left at worst a sample out.
    fn sampling(&self) -> MutexGuard<'_, Option<Sampling>> {
        self.sampling.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Notes where the guest of `store`, which was interrupted here, is.
pub(super) fn sample(sampler: &Sampler, store: &StoreContextMut<'_, HostState>) {
    let mut place = sampler.sampling();
    // Instances of another revision have other code.
    if let Some(sampling) = place.as_mut().filter(|sampling| store.data().is_of(&sampling.granted)) {
        sampling.look(store);
    }
}

impl Sampling {
    fn look(&mut self, store: &StoreContextMut<'_, HostState>) {
        let now = Instant::now();
        let share = now.duration_since(self.begun).as_secs_f64() / self.lasts.as_secs_f64();
        if self.looked <= LOOKING_AT_FIRST + LOOKING.mul_f64(share.min(1.0)) {
            self.profiler.sample(store, Duration::ZERO);
            self.samples += 1;
            self.looked += now.elapsed();
        }
    }
}

/// A profile that is being taken. Whoever drops it gives it up.
pub(crate) struct Profile {
    account: Arc<Account>,
    _ticks: FineTicks,
    digest: Digest,
    metrics: Arc<RevisionMetrics>,
    /// Its requests before.
    before: u64,
    /// Whether its place is free again, and may be another's.
    has_ended: bool,
}

/// Fine steps of the clock, for as long as this is there.
struct FineTicks(Arc<Ticks>);

impl Drop for FineTicks {
    fn drop(&mut self) {
        self.0.coarser();
    }
}

impl Revision {
    /// Begins to look at the guests of this revision, for about as long as `lasts`. The requests of others of its service are not in
    /// the profile. It holds the code of the revision, and not the revision.
    ///
    /// # Errors
    /// Where one of this service is being taken, or too many of others.
    pub(crate) async fn profile(self: Arc<Self>, lasts: Duration) -> Result<Profile, ProfileError> {
        let account = self.account().clone();
        let ticks = FineTicks(account.ticks().clone());
        if account.ticks().finer() > AT_ONCE {
            return Err(ProfileError::Many);
        }
        let (digest, metrics) = (*self.digest(), self.metrics().clone());
        // The names of all functions are read.
        let profiler = tokio::task::spawn_blocking(move || {
            let component = self.code.component.as_ref().clone();
            let profiler = GuestProfiler::new_component(&self.code.engine, self.service().as_str(), FINE, component, []);
            (profiler, self.granted().clone())
        });
        let (profiler, granted) = profiler.await.map_err(|error| ProfileError::Engine(error.to_string()))?;
        let profiler = profiler.map_err(|error| ProfileError::Engine(error.to_string()))?;
        let begun = Instant::now();
        account.sampler().begin(Sampling { profiler, granted, samples: 0, begun, lasts, looked: Duration::ZERO })?;
        Ok(Profile { account, _ticks: ticks, digest, before: metrics.requests(), metrics, has_ended: false })
    }
}

impl Profile {
    /// Ends it, and gives what was seen.
    ///
    /// # Errors
    /// Where it is too large.
    pub(crate) async fn finish(mut self) -> Result<Taken, ProfileError> {
        let (digest, requests) = (self.digest, self.metrics.requests().saturating_sub(self.before));
        let sampling = self.account.sampler().end();
        self.has_ended = true;
        drop(self);
        // Only this one ends it.
        let Some(Sampling { profiler, samples, looked, .. }) = sampling else { return Err(ProfileError::UnderWay) };
        let written = tokio::task::spawn_blocking(move || {
            let mut json = Readable::new(Bounded(Vec::new()));
            profiler.finish(&mut json).map(|()| json.into_inner().0)
        });
        match written.await {
            Ok(Ok(json)) => Ok(Taken { json, samples, looked, requests, digest }),
            Ok(Err(_)) => Err(ProfileError::Large),
            Err(error) => Err(ProfileError::Engine(error.to_string())),
        }
    }
}

impl Drop for Profile {
    fn drop(&mut self) {
        let given_up = if self.has_ended { None } else { self.account.sampler().end() };
        // Code that nobody else has any more goes with it, off the async threads.
        if let Some(given_up) = given_up {
            match Handle::try_current() {
                Ok(runtime) => drop(runtime.spawn_blocking(move || drop(given_up))),
                Err(_) => drop(given_up),
            }
        }
    }
}

/// Takes so many bytes and no more.
struct Bounded(Vec<u8>);

impl Write for Bounded {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.0.len().saturating_add(bytes.len()) > SIZE_MAX {
            return Err(io::Error::from(io::ErrorKind::FileTooLarge));
        }
        self.0.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
