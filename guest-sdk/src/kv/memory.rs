//! Buckets in memory, a set of them for each thread: what tests run on, natively.

use super::{Change, Error, Values};
use std::{cell::RefCell, collections::BTreeMap};

type Entries = BTreeMap<String, Vec<u8>>;

thread_local! {
    static BUCKETS: RefCell<BTreeMap<String, Entries>> = RefCell::default();
    static FAILURE: RefCell<Option<Error>> = RefCell::default();
}

pub(super) fn fail(error: Option<Error>) {
    FAILURE.set(error);
}

/// What a test wants to happen, or nothing.
fn works() -> Result<(), Error> {
    FAILURE.with_borrow(|failure| failure.clone().map_or(Ok(()), Err))
}

fn fits(what: &str, len: usize, max: usize) -> Result<(), Error> {
    if len > max { Err(Error::Other(format!("{what} {len}, and {max} are the most"))) } else { Ok(()) }
}

/// The bounds that the host has, so that tests meet them too.
const KEY_MAX: usize = 1 << 10;
const VALUE_MAX: usize = 1 << 20;
const BATCH_MAX: usize = 1000;

/// A page, small enough that tests of more than a few keys meet several.
const PAGE: usize = 2;

pub(super) struct Bucket(String);

impl Bucket {
    pub(super) fn open(name: &str) -> Result<Self, Error> {
        works().map(|()| Self(name.to_owned()))
    }

    fn with<T>(&self, work: impl FnOnce(&mut Entries) -> T) -> T {
        BUCKETS.with_borrow_mut(|buckets| work(buckets.entry(self.0.clone()).or_default()))
    }

    pub(super) fn get(&self, key: &str) -> Result<Option<Vec<u8>>, Error> {
        works().and_then(|()| fits("the bytes of the key are", key.len(), KEY_MAX))?;
        Ok(self.with(|entries| entries.get(key).cloned()))
    }

    pub(super) fn set(&self, key: &str, value: &[u8]) -> Result<(), Error> {
        works().and_then(|()| fits("the bytes of the key are", key.len(), KEY_MAX))?;
        fits("the bytes of the value are", value.len(), VALUE_MAX)?;
        self.with(|entries| entries.insert(key.to_owned(), value.to_owned()));
        Ok(())
    }

    pub(super) fn delete(&self, key: &str) -> Result<(), Error> {
        works()?;
        self.with(|entries| entries.remove(key));
        Ok(())
    }

    pub(super) fn exists(&self, key: &str) -> Result<bool, Error> {
        Ok(self.get(key)?.is_some())
    }

    pub(super) fn page(&self, cursor: Option<String>) -> Result<(Vec<String>, Option<String>), Error> {
        works()?;
        let after = |key: &&String| cursor.as_ref().is_none_or(|cursor| *key > cursor);
        let keys: Vec<String> = self.with(|entries| entries.keys().filter(after).take(PAGE).cloned().collect());
        let cursor = keys.last().filter(|_| keys.len() == PAGE).cloned();
        Ok((keys, cursor))
    }

    pub(super) fn increment(&self, key: &str, delta: i64) -> Result<i64, Error> {
        let found = self.get(key)?;
        let number = found.map_or(Some(0), |value| std::str::from_utf8(&value).ok()?.parse::<i64>().ok());
        let number =
            number.ok_or_else(|| Error::Other(format!("the value of `{key}` is no whole number and cannot be added to")))?;
        let sum = number.checked_add(delta).ok_or_else(|| Error::Other("the sum is more than 64 bits hold".to_owned()))?;
        self.set(key, sum.to_string().as_bytes())?;
        Ok(sum)
    }

    pub(super) fn update(&self, key: &str, change: &mut Change<'_>) -> Result<Option<Vec<u8>>, Error> {
        loop {
            let before = self.get(key)?;
            // It may use the bucket itself.
            let Some(value) = change(before.clone()) else { return Ok(None) };
            if self.get(key)? == before {
                self.set(key, &value)?;
                return Ok(Some(value));
            }
        }
    }

    pub(super) fn get_many(&self, keys: &[String]) -> Result<Values, Error> {
        fits("the keys of the batch are", keys.len(), BATCH_MAX)?;
        keys.iter().map(|key| Ok((key.clone(), self.get(key)?))).collect()
    }

    pub(super) fn set_many(&self, entries: &[(String, Vec<u8>)]) -> Result<(), Error> {
        fits("the keys of the batch are", entries.len(), BATCH_MAX)?;
        // All or none: what does not fit is found before anything is changed.
        let before = self.with(|entries| entries.clone());
        let done = entries.iter().try_for_each(|(key, value)| self.set(key, value));
        done.inspect_err(|_| self.with(|entries| *entries = before))
    }

    pub(super) fn delete_many(&self, keys: &[String]) -> Result<(), Error> {
        fits("the keys of the batch are", keys.len(), BATCH_MAX)?;
        keys.iter().try_for_each(|key| self.delete(key))
    }
}
