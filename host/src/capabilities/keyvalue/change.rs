//! One change of a service's keys: done wholly or not at all, within a transaction that others may share.

use super::{
    failure::Failure,
    limits::{self, ENTRY_COST},
    report::Use,
    tables::{Spot, size},
};
use redb::{ReadableTable, StorageError, Table};
use std::collections::BTreeMap;

/// What is to be done in one bucket.
#[derive(Debug)]
pub(super) enum Change {
    /// Gives keys values, and takes out those without one.
    Put(BTreeMap<String, Option<Vec<u8>>>),
    /// Adds to a number.
    Add(String, i64),
    /// Gives a key a value if it has the expected one.
    Swap { key: String, expected: Option<Vec<u8>>, value: Vec<u8> },
}

/// What came of it.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Changed {
    /// It is done.
    Done,
    /// The number is this now.
    Sum(i64),
    /// Nothing was done, since the key has another value: this one.
    Differs(Option<Vec<u8>>),
}

impl Change {
    /// Whether its keys and values are within their bounds.
    pub(super) fn check(&self) -> Result<(), Failure> {
        match self {
            Self::Put(entries) => {
                limits::batch(entries.len())?;
                for (key, value) in entries {
                    limits::key(key)?;
                    value.as_ref().map_or(Ok(()), |value| limits::value(key, value))?;
                }
                let bytes = entries.iter().map(|(key, value)| key.len() + value.as_ref().map_or(0, Vec::len)).sum();
                limits::call(bytes)
            }
            Self::Add(key, _) => limits::key(key),
            Self::Swap { key, value, .. } => limits::key(key).and_then(|()| limits::value(key, value)),
        }
    }

    /// Whether it takes room, or only makes some.
    pub(super) fn how(&self) -> Use {
        match self {
            Self::Put(entries) if entries.values().all(Option::is_none) => Use::Freeing,
            _ => Use::Writing,
        }
    }

    /// About how many bytes it carries.
    pub(super) fn bytes(&self) -> usize {
        match self {
            Self::Put(entries) => entries.iter().map(|(key, value)| key.len() + value.as_ref().map_or(0, Vec::len)).sum(),
            Self::Add(key, _) => key.len(),
            Self::Swap { key, expected, value } => key.len() + value.len() + expected.as_ref().map_or(0, Vec::len),
        }
    }
}

/// The tables of one transaction, as one service sees them.
pub(super) struct Tables<'txn> {
    pub(super) entries: Table<'txn, Spot, &'static [u8]>,
    pub(super) keys: Table<'txn, Spot, u64>,
    pub(super) usage: Table<'txn, &'static str, u64>,
    /// Bytes that each service may use.
    pub(super) quota: u64,
    /// Whether anything is to be committed.
    pub(super) dirty: bool,
}

impl Tables<'_> {
    /// Does one change. Where the guest is refused, nothing of it is done.
    ///
    /// # Errors
    /// The database fails, and the whole transaction with it.
    pub(super) fn apply(
        &mut self,
        service: &str,
        bucket: &str,
        change: &Change,
    ) -> Result<Result<Changed, Failure>, StorageError> {
        let mut change_of = BTreeMap::new();
        let changed = match change {
            Change::Put(entries) => {
                change_of.extend(entries.iter().map(|(key, value)| (key.as_str(), value.as_deref())));
                return Ok(self.put(service, bucket, &change_of)?.map(|()| Changed::Done));
            }
            Change::Add(key, delta) => {
                let sum = match self.sum(service, bucket, key, *delta)? {
                    Ok(sum) => sum,
                    Err(refused) => return Ok(Err(refused)),
                };
                let text = sum.to_string();
                change_of.insert(key.as_str(), Some(text.as_bytes()));
                return Ok(self.put(service, bucket, &change_of)?.map(|()| Changed::Sum(sum)));
            }
            Change::Swap { key, expected, value } => {
                let found = self.entries.get((service, bucket, key.as_str()))?;
                if found.as_ref().map(|found| found.value()) != expected.as_deref() {
                    return Ok(Ok(Changed::Differs(found.map(|found| found.value().to_vec()))));
                }
                drop(found);
                change_of.insert(key.as_str(), Some(value.as_slice()));
                Changed::Done
            }
        };
        Ok(self.put(service, bucket, &change_of)?.map(|()| changed))
    }

    /// Numbers are kept as decimal text, so that a service may read and set them as values.
    fn sum(&self, service: &str, bucket: &str, key: &str, delta: i64) -> Result<Result<i64, Failure>, StorageError> {
        let found = self.entries.get((service, bucket, key))?;
        let number = match &found {
            None => Some(0),
            Some(found) => limits::number(found.value()),
        };
        let Some(number) = number else {
            return Ok(Err(limits::no_number(key)));
        };
        Ok(number.checked_add(delta).ok_or_else(|| limits::overflow(number, delta)))
    }

    fn put(
        &mut self,
        service: &str,
        bucket: &str,
        change: &BTreeMap<&str, Option<&[u8]>>,
    ) -> Result<Result<(), Failure>, StorageError> {
        let used = self.usage.get(service)?.map_or(0, |used| used.value());
        let (mut freed, mut taken) = (0, 0);
        for (key, value) in change {
            if let Some(found) = self.keys.get((service, bucket, *key))? {
                freed += cost(key, found.value());
            }
            taken += value.map_or(0, |value| cost(key, size(value)));
        }
        let now = (used + taken).saturating_sub(freed);
        // What makes room is allowed where the quota was lowered below what there is.
        if now > self.quota && taken > freed {
            return Ok(Err(limits::quota(now, self.quota)));
        }
        for (key, value) in change {
            let spot = (service, bucket, *key);
            match value {
                Some(value) => {
                    self.entries.insert(spot, *value)?;
                    self.keys.insert(spot, size(value))?;
                }
                None => {
                    self.entries.remove(spot)?;
                    self.keys.remove(spot)?;
                }
            }
        }
        self.usage.insert(service, now)?;
        self.dirty = true;
        Ok(Ok(()))
    }
}

fn cost(key: &str, value: u64) -> u64 {
    size(key.as_bytes()).saturating_add(value).saturating_add(ENTRY_COST)
}
