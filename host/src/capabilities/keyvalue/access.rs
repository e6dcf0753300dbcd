//! What one revision may keep: the buckets that are granted to it, and the calls of one of its requests.

use super::{
    change::{Change, Changed},
    failure::Failure,
    limits::CALLS_MAX,
    store::{KeyValue, Page},
};
use crate::{
    capabilities::denials::{Denial, Denials, remedy},
    config::{BucketName, Grants, ServiceName},
    telemetry::{Capability, KeyValueResult, ServiceMetrics},
};
use std::{collections::BTreeSet, sync::Arc};
use tokio::sync::{Semaphore, SemaphorePermit};
use tracing::warn;

/// Lines of one request on buckets that are denied, and bytes of a name that are shown.
const LINES_MAX: u32 = 20;
const NAME_SHOWN: usize = 64;

/// The space of one service, as one revision may use it.
pub(crate) struct Space {
    store: Arc<KeyValue>,
    service: Arc<str>,
    metrics: Arc<ServiceMetrics>,
    granted: BTreeSet<BucketName>,
    calls: Semaphore,
}

/// Why a bucket is not opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Closed {
    /// No bucket is granted at all.
    Denied,
    /// There are granted ones, and it is none of them.
    Unknown,
}

impl Space {
    pub(crate) fn new(
        store: Arc<KeyValue>,
        service: &ServiceName,
        metrics: Arc<ServiceMetrics>,
        granted: &BTreeSet<BucketName>,
    ) -> Self {
        let service = service.as_str().into();
        Self { store, service, metrics, granted: granted.clone(), calls: Semaphore::new(CALLS_MAX) }
    }

    pub(super) async fn get(&self, bucket: &Arc<str>, keys: Vec<String>) -> Result<Vec<(String, Option<Vec<u8>>)>, Failure> {
        let _turn = self.turn().await?;
        self.counted(self.store.get(&self.service, bucket, keys).await)
    }

    pub(super) async fn exists(&self, bucket: &Arc<str>, key: String) -> Result<bool, Failure> {
        let _turn = self.turn().await?;
        self.counted(self.store.exists(&self.service, bucket, key).await)
    }

    pub(super) async fn page(&self, bucket: &Arc<str>, after: Option<String>) -> Result<Page, Failure> {
        let _turn = self.turn().await?;
        self.counted(self.store.page(&self.service, bucket, after).await)
    }

    pub(super) async fn change(&self, bucket: &Arc<str>, change: Change) -> Result<Changed, Failure> {
        let _turn = self.turn().await?;
        self.counted(self.store.change(&self.service, bucket, change).await)
    }

    async fn turn(&self) -> Result<SemaphorePermit<'_>, Failure> {
        // It is never closed.
        self.calls.acquire().await.map_err(|_| Failure::Unusable)
    }

    fn counted<T>(&self, outcome: Result<T, Failure>) -> Result<T, Failure> {
        self.metrics.kept(match &outcome {
            Ok(_) => KeyValueResult::Done,
            Err(Failure::Limit(_)) => KeyValueResult::Refused,
            Err(Failure::Unusable) => KeyValueResult::Failed,
        });
        outcome
    }
}

/// The key-value side of one instance.
pub(crate) struct KeyValueAccess {
    pub(super) space: Arc<Space>,
    told: u32,
}

impl KeyValueAccess {
    pub(crate) fn new(space: Arc<Space>) -> Self {
        Self { space, told: 0 }
    }

    /// What is asked for from here on belongs to another request.
    pub(crate) fn begin(&mut self) {
        self.told = 0;
    }

    /// The name of a bucket that may be opened.
    pub(super) fn open(&mut self, bucket: &str, request_id: &str, denials: &Denials) -> Result<Arc<str>, Closed> {
        let space = &self.space;
        if space.granted.contains(bucket) {
            return Ok(bucket.into());
        }
        space.metrics.denied(Capability::KeyValue);
        self.told = self.told.saturating_add(1);
        if self.told <= LINES_MAX {
            let service = &space.service;
            let bucket: String = bucket.chars().take(NAME_SHOWN).collect();
            let grant = Grants::line_with_bucket(&space.granted, &bucket);
            let (capability, reason) = (Capability::KeyValue.as_str(), "not granted");
            let remedy = grant.as_deref().map(|grant| remedy(service, grant));
            warn!(target: "hotbay::denied", %service, request_id, capability, bucket, reason, remedy, "bucket denied");
            denials.add(|| Denial {
                service: service.to_string(),
                capability,
                destination: bucket,
                reason: reason.to_owned(),
                grant,
            });
        }
        Err(if space.granted.is_empty() { Closed::Denied } else { Closed::Unknown })
    }
}
