//! The connections of one revision to other hosts: so many at once, and those that rest until they are asked again.

use super::{failure::Failure, network::Io};
use crate::config::Origin;
use http::{Request, Response};
use hyper::{
    body::Incoming,
    client::conn::{
        TrySendError,
        http1::{self, SendRequest},
    },
};
use hyper_util::rt::TokioIo;
use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{Instant, timeout, timeout_at},
};
use tokio_util::task::AbortOnDropHandle;
use wasmtime_wasi_http::{Error, WasiBody};

/// Bytes of a response head, and of what is read ahead of the guest.
const HEAD_MAX: usize = 64 << 10;
/// Headers of a response.
const HEADERS_MAX: usize = 100;
/// How long a connection may take to be ready for its next request once its response has been read.
const READY_IN: Duration = Duration::from_secs(1);

/// One connection, HTTP/1.1. Dropping it closes it at once, whatever is under way.
pub(super) struct Connection {
    sender: SendRequest<WasiBody>,
    _driver: AbortOnDropHandle<()>,
    _place: Place,
}

/// A place among the connections of the revision, and one among those of all.
pub(super) struct Place {
    _own: OwnedSemaphorePermit,
    _of_all: OwnedSemaphorePermit,
}

impl Connection {
    pub(super) async fn new(io: Box<dyn Io>, place: Place) -> Result<Self, Failure> {
        let mut builder = http1::Builder::new();
        builder.max_buf_size(HEAD_MAX).max_headers(HEADERS_MAX);
        let (sender, connection) = builder.handshake(TokioIo::new(io)).await.map_err(|error| Failure::http(&error, false))?;
        // How it ends is told to whoever waits for a response.
        let driver = tokio::spawn(async move { drop(connection.await) });
        Ok(Self { sender, _driver: AbortOnDropHandle::new(driver), _place: place })
    }

    /// What was not sent at all comes back with the error.
    pub(super) async fn send(
        &mut self,
        request: Request<WasiBody>,
    ) -> Result<Response<Incoming>, TrySendError<Request<WasiBody>>> {
        self.sender.try_send_request(request).await
    }
}

/// The connections of one revision.
pub(super) struct Pool {
    places: Arc<Semaphore>,
    /// Those of the host.
    of_all: Arc<Semaphore>,
    /// How many wait for a place.
    waiting: AtomicUsize,
    /// How long a connection rests.
    idle: Duration,
    kept: Mutex<Kept>,
}

#[derive(Default)]
struct Kept {
    /// The one that has rested longest first.
    resting: Vec<Resting>,
    /// Whether a task looks after those whose time is over.
    watched: bool,
}

struct Resting {
    origin: Origin,
    since: Instant,
    connection: Connection,
}

impl Pool {
    pub(super) fn new(connections: usize, of_all: Arc<Semaphore>, idle: Duration) -> Arc<Self> {
        let places = Arc::new(Semaphore::new(connections));
        Arc::new(Self { places, of_all, waiting: AtomicUsize::new(0), idle, kept: Mutex::default() })
    }

    /// A connection that rests: the one that was used last, since it is the least likely to have been closed.
    pub(super) fn take(&self, origin: &Origin) -> Option<Connection> {
        let mut kept = self.kept();
        kept.resting.retain(|resting| !resting.connection.sender.is_closed());
        let at = kept.resting.iter().rposition(|resting| resting.origin == *origin)?;
        Some(kept.resting.remove(at).connection)
    }

    /// A place for one more connection; one that rests makes room.
    pub(super) async fn place(&self, until: Instant) -> Result<Place, Failure> {
        // From here on a connection that becomes free is closed and not kept.
        let _waiting = Waiting::new(&self.waiting);
        let full = |reason| Failure::limit(Error::ConnectionLimitReached, reason);
        let own = self.place_of(&self.places, until).await;
        let own = own.ok_or_else(|| full("all its connections are in use (outbound.connections)"))?;
        let of_all = self.place_of(&self.of_all, until).await;
        let of_all = of_all.ok_or_else(|| full("as many connections of all services are in use as the host may have"))?;
        Ok(Place { _own: own, _of_all: of_all })
    }

    async fn place_of(&self, places: &Arc<Semaphore>, until: Instant) -> Option<OwnedSemaphorePermit> {
        {
            let mut kept = self.kept();
            if places.available_permits() == 0 && !kept.resting.is_empty() {
                kept.resting.remove(0);
            }
        }
        timeout_at(until, places.clone().acquire_owned()).await.ok()?.ok()
    }

    /// Keeps a connection whose response has been read to its end.
    pub(super) fn keep(self: &Arc<Self>, origin: Origin, mut connection: Connection) {
        if connection.sender.is_ready() {
            return self.rest(origin, connection);
        }
        // The last of the request may still be on its way, or the driver has not had its turn.
        let pool = self.clone();
        tokio::spawn(async move {
            if let Ok(Ok(())) = timeout(READY_IN, connection.sender.ready()).await {
                pool.rest(origin, connection);
            }
        });
    }

    fn rest(self: &Arc<Self>, origin: Origin, connection: Connection) {
        if self.waiting.load(Ordering::Relaxed) > 0 {
            return;
        }
        let mut kept = self.kept();
        kept.resting.push(Resting { origin, since: Instant::now(), connection });
        if !std::mem::replace(&mut kept.watched, true) {
            tokio::spawn(watch(Arc::downgrade(self), self.idle));
        }
    }

    /// Closes what has rested for too long. Returns whether anything is left.
    fn close_old(&self) -> bool {
        let mut kept = self.kept();
        kept.resting.retain(|resting| resting.since.elapsed() < self.idle && !resting.connection.sender.is_closed());
        kept.watched = !kept.resting.is_empty();
        kept.watched
    }

    /// Nothing that can panic runs under the lock.
    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Closes old connections for as long as there are any.
async fn watch(pool: Weak<Pool>, idle: Duration) {
    loop {
        tokio::time::sleep((idle / 4).max(Duration::from_millis(10))).await;
        if !pool.upgrade().is_some_and(|pool| pool.close_old()) {
            return;
        }
    }
}

/// Counted among those that wait.
struct Waiting<'a>(&'a AtomicUsize);

impl<'a> Waiting<'a> {
    fn new(count: &'a AtomicUsize) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(count)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}
