//! The key-value store of a host: reads beside each other, writes through one writer.

use super::{
    change::{Change, Changed, ENTRIES},
    database::{Broken, Place, broken},
    failure::Failure,
    limits::{self, PAGE_MAX},
    writer::Writer,
};
use crate::config::KeyValueConfig;
use redb::{Database, ReadableDatabase};
use std::{
    ops::Bound,
    path::Path,
    sync::{Arc, OnceLock},
};
use tracing::error;

/// What the services of a host keep. One a host; opened at its first use.
pub struct KeyValue {
    pub(super) place: Arc<Place>,
    quota: u64,
    /// Begun with the first change: most hosts have no service that makes one.
    writer: OnceLock<Writer>,
}

/// A page of keys, and where the next begins.
pub(super) type Page = (Vec<String>, Option<String>);

impl KeyValue {
    /// The store in this state folder; without one it is in memory and ends with the process. Nothing is opened yet.
    pub fn new(state: Option<&Path>, config: &KeyValueConfig) -> Arc<Self> {
        Arc::new(Self { place: Arc::new(Place::new(state)), quota: config.size.0, writer: OnceLock::new() })
    }

    /// Closes the database. A later use opens it again.
    pub async fn close(&self) {
        let place = self.place.clone();
        // Closing cannot panic; if it did, the file is closed with the process.
        let _ = tokio::task::spawn_blocking(move || place.close()).await;
    }

    /// The values of these keys, in their order.
    pub(super) async fn get(
        &self,
        service: &Arc<str>,
        bucket: &Arc<str>,
        keys: Vec<String>,
    ) -> Result<Vec<(String, Option<Vec<u8>>)>, Failure> {
        limits::batch(keys.len())?;
        keys.iter().try_for_each(|key| limits::key(key))?;
        let (service, bucket) = (service.clone(), bucket.clone());
        self.read(move |database| get(database, &service, &bucket, keys)).await?
    }

    /// The keys of a bucket that come after `after`, in their order.
    pub(super) async fn page(&self, service: &Arc<str>, bucket: &Arc<str>, after: Option<String>) -> Result<Page, Failure> {
        after.as_deref().map_or(Ok(()), limits::key)?;
        let (service, bucket) = (service.clone(), bucket.clone());
        self.read(move |database| page(database, &service, &bucket, after.as_deref())).await
    }

    /// Does a change, and returns once it is on the disk.
    pub(super) async fn change(&self, service: &Arc<str>, bucket: &Arc<str>, change: Change) -> Result<Changed, Failure> {
        change.check()?;
        let writer = self.writer.get_or_init(|| Writer::start(self.place.clone(), self.quota));
        writer.change(service, bucket, change).await
    }

    async fn read<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Database) -> Result<T, Broken> + Send + 'static,
    ) -> Result<T, Failure> {
        let place = self.place.clone();
        match tokio::task::spawn_blocking(move || place.with(work)).await {
            Ok(done) => done.ok_or(Failure::Unusable),
            Err(panic) => {
                error!(target: "hotbay::keyvalue", %panic, "a read of the key-value store failed");
                Err(Failure::Unusable)
            }
        }
    }
}

type Values = Vec<(String, Option<Vec<u8>>)>;

/// All from one snapshot.
fn get(database: &Database, service: &str, bucket: &str, keys: Vec<String>) -> Result<Result<Values, Failure>, Broken> {
    let reading = database.begin_read().map_err(broken)?;
    let entries = reading.open_table(ENTRIES).map_err(broken)?;
    let (mut values, mut bytes) = (Vec::with_capacity(keys.len()), 0_usize);
    for key in keys {
        let found = entries.get((service, bucket, key.as_str())).map_err(broken)?;
        let value = found.map(|found| found.value().to_vec());
        bytes = bytes.saturating_add(key.len()).saturating_add(value.as_ref().map_or(0, Vec::len));
        if let Err(refused) = limits::call(bytes) {
            return Ok(Err(refused));
        }
        values.push((key, value));
    }
    Ok(Ok(values))
}

fn page(database: &Database, service: &str, bucket: &str, after: Option<&str>) -> Result<Page, Broken> {
    let reading = database.begin_read().map_err(broken)?;
    let entries = reading.open_table(ENTRIES).map_err(broken)?;
    let from = match after {
        Some(after) => Bound::Excluded((service, bucket, after)),
        None => Bound::Included((service, bucket, "")),
    };
    let mut keys = Vec::new();
    for entry in entries.range::<(&str, &str, &str)>((from, Bound::Unbounded)).map_err(broken)? {
        let (place, _) = entry.map_err(broken)?;
        let (of_service, of_bucket, key) = place.value();
        if (of_service, of_bucket) != (service, bucket) {
            break;
        }
        if keys.len() == PAGE_MAX {
            let cursor = keys.last().cloned();
            return Ok((keys, cursor));
        }
        keys.push(key.to_owned());
    }
    Ok((keys, None))
}
