//! The end of the process: the signal, what still runs, and how long it may.

use std::{
    future::Future,
    io,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::{info, warn};

/// Begun once, seen by all clones; tracks what must finish first.
#[derive(Clone, Default)]
pub struct Shutdown {
    begun: CancellationToken,
    /// The same as `begun`, for each request to read without a lock.
    has_begun: Arc<AtomicBool>,
    /// Set where another host takes over: how long a connection may rest before it is closed.
    grace: Arc<OnceLock<Duration>>,
    running: TaskTracker,
}

impl Shutdown {
    /// A shutdown that has not begun.
    pub fn new() -> Self {
        Self::default()
    }

    /// Begins it. Again is the same as once.
    pub fn begin(&self) {
        self.has_begun.store(true, Ordering::Relaxed);
        self.begun.cancel();
        self.running.close();
    }

    /// Begins it because another host takes over: nobody is in a hurry, so that a connection which has just been used for the
    /// next request, or not yet for its first, is kept for `grace`.
    pub(crate) fn hand_over(&self, grace: Duration) {
        // A shutdown that has begun by a signal stays one.
        if !self.has_begun() {
            let _ = self.grace.set(grace);
        }
        self.begin();
    }

    /// Returns when it has begun because another host takes over.
    pub(crate) async fn handed_over(&self) {
        self.begun().await;
        if !self.is_hand_over() {
            std::future::pending().await
        }
    }

    /// Whether it has begun because another host takes over.
    pub(crate) fn is_hand_over(&self) -> bool {
        self.grace.get().is_some()
    }

    /// How long a connection without a request is kept once it has begun.
    pub(crate) fn grace(&self) -> Duration {
        self.grace.get().copied().unwrap_or_default()
    }

    /// Whether it has begun.
    pub(crate) fn has_begun(&self) -> bool {
        self.has_begun.load(Ordering::Relaxed)
    }

    /// Returns when it has begun.
    pub async fn begun(&self) {
        self.begun.cancelled().await;
    }

    /// Runs `task`, which the end waits for.
    pub(crate) fn track(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.running.spawn(task);
    }

    /// Waits for what is tracked, at most for `deadline`. Returns how many were left.
    pub async fn finished(&self, deadline: Duration) -> usize {
        let _ = tokio::time::timeout(deadline, self.running.wait()).await;
        self.running.len()
    }

    /// Begins the shutdown at the first SIGTERM or SIGINT; the second one ends the process at once with
    /// exit code 1, after `at_exit`.
    ///
    /// # Errors
    /// Where the signal handlers cannot be installed.
    pub fn on_signal(&self, at_exit: fn()) -> io::Result<()> {
        let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
        let shutdown = self.clone();
        tokio::spawn(async move {
            for first in [true, false] {
                let name = tokio::select! {
                    _ = terminate.recv() => "SIGTERM",
                    _ = interrupt.recv() => "SIGINT",
                };
                if first {
                    info!(signal = name, "no new connections; finishing what runs (the same signal again ends at once)");
                    shutdown.begin();
                } else {
                    warn!(signal = name, "ended at once");
                    at_exit();
                    std::process::exit(1);
                }
            }
        });
        Ok(())
    }
}
