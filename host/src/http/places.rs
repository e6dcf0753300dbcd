//! Places for connections: as many as the settings say. When all are taken, connections at rest give theirs up.

use super::watch::Activity;
use crate::telemetry::ConnectionsFull;
use std::{
    io,
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore, watch},
};
use tracing::warn;

/// How long a connection may rest while others wait for a place.
const REST_WHEN_FULL: Duration = Duration::from_secs(1);
/// Between two log lines that say that all places are taken.
const TOLD_EVERY: Duration = Duration::from_secs(10);

/// All places of a listener.
pub(super) struct Places {
    free: Arc<Semaphore>,
    is_full: watch::Sender<bool>,
    metrics: ConnectionsFull,
    told: Option<Instant>,
}

/// One connection's.
pub(super) struct Place {
    _permit: OwnedSemaphorePermit,
    is_full: watch::Receiver<bool>,
}

impl Places {
    pub(super) fn new(count: usize, metrics: ConnectionsFull) -> Self {
        Self { free: Arc::new(Semaphore::new(count)), is_full: watch::channel(false).0, metrics, told: None }
    }

    /// Accepts a connection once there is a place for it.
    pub(super) async fn accept(&mut self, listener: &TcpListener) -> io::Result<(TcpStream, Place)> {
        let permit = match self.free.clone().try_acquire_owned() {
            Ok(permit) => permit,
            Err(_) => {
                self.tell();
                let full = Full::begin(&self.is_full);
                let permit = self.free.clone().acquire_owned().await.map_err(io::Error::other)?;
                drop(full);
                permit
            }
        };
        let (stream, _) = listener.accept().await?;
        Ok((stream, Place { _permit: permit, is_full: self.is_full.subscribe() }))
    }

    fn tell(&mut self) {
        self.metrics.count();
        if self.told.is_none_or(|told| told.elapsed() >= TOLD_EVERY) {
            self.told = Some(Instant::now());
            warn!(
                target: "hotbay::budget", limit = "http.connections",
                "all places for connections are taken; those at rest are closed, and the next ones wait"
            );
        }
    }
}

/// All places are taken for as long as this lives.
struct Full<'a>(&'a watch::Sender<bool>);

impl<'a> Full<'a> {
    fn begin(is_full: &'a watch::Sender<bool>) -> Self {
        is_full.send_replace(true);
        Self(is_full)
    }
}

impl Drop for Full<'_> {
    fn drop(&mut self) {
        self.0.send_replace(false);
    }
}

impl Place {
    /// Returns once the connection of `activity` should give its place up: it rests, and others wait.
    pub(super) async fn needed(&self, activity: &Activity) {
        let mut is_full = self.is_full.clone();
        loop {
            if is_full.wait_for(|full| *full).await.is_err() {
                // The listener is gone, so nobody waits.
                return std::future::pending().await;
            }
            activity.at_rest(REST_WHEN_FULL).await;
            if *is_full.borrow() {
                return;
            }
        }
    }
}
