//! The key-value store of a host: a Redis, or a database with reads beside each other and writes through one writer.

use super::{
    change::{Change, Changed},
    database::{Broken, Place, broken},
    failure::Failure,
    limits::{self, PAGE_MAX, READS_MAX},
    redis::Redis,
    tables::{ENTRIES, KEYS},
    turns::Turns,
    writer::Writer,
};
use crate::{
    capabilities::{Network, SecretFolder},
    config::KeyValueConfig,
};
use redb::{Database, ReadableDatabase};
use std::{
    ops::Bound,
    path::Path,
    sync::{Arc, OnceLock},
};
use tracing::error;

/// What the services of a host keep. One a host; opened at its first use.
pub struct KeyValue(Backend);

enum Backend {
    Database(Embedded),
    Redis(Redis),
}

/// The database in the state folder.
struct Embedded {
    place: Arc<Place>,
    quota: u64,
    reads: Turns,
    /// Begun with the first change: most hosts have no service that makes one.
    writer: OnceLock<Writer>,
}

/// Keys, each with its value; none where there is none.
pub(super) type Values = Vec<(String, Option<Vec<u8>>)>;
/// A page of keys, and where the next begins.
pub(super) type Page = (Vec<String>, Option<String>);

impl KeyValue {
    /// The store of these settings: a Redis, or a database in this state folder. Nothing is opened yet.
    pub fn new(state: &Path, config: &KeyValueConfig, network: &Network, secrets: SecretFolder) -> Arc<Self> {
        let backend = match config.redis.clone() {
            Some(address) => Backend::Redis(Redis::new(address, config, network, secrets)),
            None => Backend::database(Some(state), config),
        };
        Arc::new(Self(backend))
    }

    /// A store that ends with the process.
    pub fn in_memory() -> Arc<Self> {
        Arc::new(Self(Backend::database(None, &KeyValueConfig::default())))
    }

    /// Closes what is open. A later use opens it again.
    pub async fn close(&self) {
        match &self.0 {
            Backend::Database(embedded) => {
                let place = embedded.place.clone();
                // Closing cannot panic; if it did, the file is closed with the process.
                let _ = tokio::task::spawn_blocking(move || place.close()).await;
            }
            Backend::Redis(redis) => redis.close(),
        }
    }

    /// Where the database is, of which a copy can be made.
    ///
    /// # Errors
    /// It is another program that keeps it.
    pub(super) fn place(&self) -> Result<&Arc<Place>, Failure> {
        match &self.0 {
            Backend::Database(embedded) => Ok(&embedded.place),
            Backend::Redis(redis) => Err(Failure::limit(format!(
                "what services keep is in Redis at {}, which makes copies itself: redis-cli --rdb FILE",
                redis.address()
            ))),
        }
    }

    /// The values of these keys, in their order and of one moment.
    pub(super) async fn get(&self, service: &Arc<str>, bucket: &Arc<str>, keys: Vec<String>) -> Result<Values, Failure> {
        limits::batch(keys.len())?;
        keys.iter().try_for_each(|key| limits::key(key))?;
        match &self.0 {
            Backend::Database(embedded) => {
                let (of, bucket) = (service.clone(), bucket.clone());
                embedded.read(service, move |database| get(database, &of, &bucket, &keys)).await?
            }
            Backend::Redis(redis) => redis.get(service, bucket, keys).await,
        }
    }

    /// Whether there is such a key.
    pub(super) async fn exists(&self, service: &Arc<str>, bucket: &Arc<str>, key: String) -> Result<bool, Failure> {
        limits::key(&key)?;
        match &self.0 {
            Backend::Database(embedded) => {
                let (of, bucket) = (service.clone(), bucket.clone());
                embedded.read(service, move |database| exists(database, &of, &bucket, &key)).await
            }
            Backend::Redis(redis) => redis.exists(service, bucket, &key).await,
        }
    }

    /// The keys of a bucket that come after `after`, in their order.
    pub(super) async fn page(&self, service: &Arc<str>, bucket: &Arc<str>, after: Option<String>) -> Result<Page, Failure> {
        after.as_deref().map_or(Ok(()), limits::key)?;
        match &self.0 {
            Backend::Database(embedded) => {
                let (of, bucket) = (service.clone(), bucket.clone());
                embedded.read(service, move |database| page(database, &of, &bucket, after.as_deref())).await
            }
            Backend::Redis(redis) => redis.page(service, bucket, after.as_deref()).await,
        }
    }

    /// Does a change, and returns once it is kept.
    pub(super) async fn change(&self, service: &Arc<str>, bucket: &Arc<str>, change: Change) -> Result<Changed, Failure> {
        change.check()?;
        match &self.0 {
            Backend::Database(embedded) => {
                let writer = embedded.writer.get_or_init(|| Writer::start(embedded.place.clone(), embedded.quota));
                writer.change(service, bucket, change).await
            }
            Backend::Redis(redis) => redis.change(service, bucket, &change).await,
        }
    }
}

impl Backend {
    fn database(state: Option<&Path>, config: &KeyValueConfig) -> Self {
        let (place, reads) = (Arc::new(Place::new(state)), Turns::new(READS_MAX));
        Self::Database(Embedded { place, quota: config.size.0, reads, writer: OnceLock::new() })
    }
}

impl Embedded {
    async fn read<T: Send + 'static>(
        &self,
        service: &Arc<str>,
        work: impl Fn(&Database) -> Result<T, Broken> + Send + 'static,
    ) -> Result<T, Failure> {
        let (place, turn) = (self.place.clone(), self.reads.take(service).await);
        let reading = move || {
            // Held until it has ended, also where nobody waits for it any more.
            let _turn = turn;
            place.read(work)
        };
        match tokio::task::spawn_blocking(reading).await {
            Ok(done) => done.ok_or(Failure::Unusable),
            Err(panic) => {
                error!(target: "hotbay::keyvalue", %panic, "a read of the key-value store failed");
                Err(Failure::Unusable)
            }
        }
    }
}

/// All from one snapshot.
fn get(database: &Database, service: &str, bucket: &str, keys: &[String]) -> Result<Result<Values, Failure>, Broken> {
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
        values.push((key.clone(), value));
    }
    Ok(Ok(values))
}

fn exists(database: &Database, service: &str, bucket: &str, key: &str) -> Result<bool, Broken> {
    let reading = database.begin_read().map_err(broken)?;
    let all = reading.open_table(KEYS).map_err(broken)?;
    Ok(all.get((service, bucket, key)).map_err(broken)?.is_some())
}

fn page(database: &Database, service: &str, bucket: &str, after: Option<&str>) -> Result<Page, Broken> {
    let reading = database.begin_read().map_err(broken)?;
    let all = reading.open_table(KEYS).map_err(broken)?;
    let from = match after {
        Some(after) => Bound::Excluded((service, bucket, after)),
        None => Bound::Included((service, bucket, "")),
    };
    let mut keys = Vec::new();
    for entry in all.range::<(&str, &str, &str)>((from, Bound::Unbounded)).map_err(broken)? {
        let (spot, _) = entry.map_err(broken)?;
        let (of_service, of_bucket, key) = spot.value();
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
