//! Buckets in memory, a set of them for each thread: what tests run on, natively.

use super::{Change, Error, Values};
use std::{
    cell::{Cell, RefCell},
    collections::BTreeMap,
};

type Entries = BTreeMap<String, Vec<u8>>;

thread_local! {
    static BUCKETS: RefCell<BTreeMap<String, Entries>> = RefCell::default();
    static FAILURE: RefCell<Option<Error>> = RefCell::default();
    static QUOTA: Cell<u64> = const { Cell::new(QUOTA_DEFAULT) };
    static USED: Cell<u64> = const { Cell::new(0) };
}

pub(super) fn fail(error: Option<Error>) {
    FAILURE.set(error);
}

pub(super) fn quota(bytes: u64) {
    QUOTA.set(bytes);
}

/// What a test wants to happen, or nothing.
fn works() -> Result<(), Error> {
    FAILURE.with_borrow(|failure| failure.clone().map_or(Ok(()), Err))
}

/// The bounds that the host has, so that tests meet them too.
const KEY_MAX: usize = 1 << 10;
const VALUE_MAX: usize = 1 << 20;
const BATCH_MAX: usize = 1000;
const CALL_MAX: usize = 8 << 20;
const ENTRY_COST: u64 = 64;
/// What `keyvalue.size` is unless the settings of the host say otherwise.
const QUOTA_DEFAULT: u64 = 64 << 20;

fn at_most(what: &str, len: usize, unit: &str, max: usize) -> Result<(), Error> {
    if len > max { Err(Error::Other(format!("{what} has {len} {unit}, and {max} are the most"))) } else { Ok(()) }
}

fn fits_key(key: &str) -> Result<(), Error> {
    at_most("the key", key.len(), "bytes", KEY_MAX)
}

fn fits_call(bytes: usize) -> Result<(), Error> {
    if bytes > CALL_MAX {
        return Err(Error::Other(format!("the keys and values of the call have more than {CALL_MAX} bytes; ask for fewer")));
    }
    Ok(())
}

fn cost(key: &str, value: &[u8]) -> u64 {
    u64::try_from(key.len() + value.len()).unwrap_or(u64::MAX).saturating_add(ENTRY_COST)
}

/// There is one way to write a number: neither `+5` nor `007`.
fn number(value: &[u8]) -> Option<i64> {
    let text = std::str::from_utf8(value).ok()?;
    text.parse::<i64>().ok().filter(|number| number.to_string() == text)
}

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

    /// All or none: what does not fit is found before anything is changed. The last one of a key that comes twice counts.
    fn put<'a>(&self, changes: impl Iterator<Item = (&'a str, Option<&'a [u8]>)>) -> Result<(), Error> {
        works()?;
        let changes: BTreeMap<_, _> = changes.collect();
        at_most("the batch", changes.len(), "keys", BATCH_MAX)?;
        for (key, value) in &changes {
            fits_key(key)?;
            at_most(&format!("the value of `{key}`"), value.map_or(0, <[u8]>::len), "bytes", VALUE_MAX)?;
        }
        fits_call(changes.iter().map(|(key, value)| key.len() + value.map_or(0, <[u8]>::len)).sum())?;
        let freed = |entries: &mut Entries| changes.keys().filter_map(|key| Some(cost(key, entries.get(*key)?))).sum::<u64>();
        let (freed, quota) = (self.with(freed), QUOTA.get());
        let taken: u64 = changes.iter().filter_map(|(key, value)| Some(cost(key, (*value)?))).sum();
        let now = (USED.get() + taken).saturating_sub(freed);
        // What makes room is allowed, whatever there is.
        if now > quota && taken > freed {
            let words = format!("the service would use {now} bytes, and {quota} are the most (keyvalue.size); delete keys first");
            return Err(Error::Other(words));
        }
        USED.set(now);
        self.with(|entries| {
            for (key, value) in changes {
                match value {
                    Some(value) => drop(entries.insert(key.to_owned(), value.to_owned())),
                    None => drop(entries.remove(key)),
                }
            }
        });
        Ok(())
    }

    pub(super) fn get(&self, key: &str) -> Result<Option<Vec<u8>>, Error> {
        works().and_then(|()| fits_key(key))?;
        Ok(self.with(|entries| entries.get(key).cloned()))
    }

    pub(super) fn set(&self, key: &str, value: &[u8]) -> Result<(), Error> {
        self.put(std::iter::once((key, Some(value))))
    }

    pub(super) fn delete(&self, key: &str) -> Result<(), Error> {
        self.put(std::iter::once((key, None)))
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
        let number = found.map_or(Some(0), |value| number(&value));
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
        at_most("the batch", keys.len(), "keys", BATCH_MAX)?;
        let found = keys.iter().map(|key| Ok((key.clone(), self.get(key)?))).collect::<Result<Values, Error>>()?;
        fits_call(found.iter().map(|(key, value)| key.len() + value.as_ref().map_or(0, Vec::len)).sum())?;
        Ok(found)
    }

    pub(super) fn set_many(&self, entries: &[(String, Vec<u8>)]) -> Result<(), Error> {
        self.put(entries.iter().map(|(key, value)| (key.as_str(), Some(value.as_slice()))))
    }

    pub(super) fn delete_many(&self, keys: &[String]) -> Result<(), Error> {
        self.put(keys.iter().map(|key| (key.as_str(), None)))
    }
}
