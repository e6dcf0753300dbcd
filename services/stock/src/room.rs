//! What is there, and what is taken.

use hotbay_sdk::kv::{Bucket, Error};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Why something was not done.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// Nobody has ever counted this.
    Unknown(String),
    /// There is less than was asked for.
    Short { sku: String, left: u32 },
    /// The books could not be read or written.
    Closed(String),
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        Self::Closed(error.to_string())
    }
}

/// One thing: how many are left, and what orders have of it that are not settled. Both in one value, since only one key can be changed
/// by looking at it first: whenever a call breaks off, the two fit each other, and the same call again does what is left of it.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Shelf {
    level: u32,
    held: BTreeMap<u64, u32>,
}

/// A key for each thing.
pub(crate) struct Room(Bucket);

impl Room {
    pub(crate) fn open() -> Result<Self, Refusal> {
        Ok(Self(Bucket::open("default")?))
    }

    pub(crate) fn level(&self, sku: &str) -> Result<u32, Refusal> {
        let value = self.0.get(&key(sku))?.ok_or_else(|| Refusal::Unknown(sku.to_owned()))?;
        Ok(read(&value)?.level)
    }

    /// This many are there, beside what orders have.
    pub(crate) fn count(&self, sku: &str, level: u32) -> Result<(), Refusal> {
        let mut outcome = Ok(());
        self.0.update(&key(sku), |old| {
            let shelf = old.map_or(Ok(Shelf::default()), |old| read(&old));
            let shelf = shelf.map(|shelf| Shelf { level, ..shelf }).map_err(|refusal| outcome = Err(refusal));
            shelf.ok().map(|shelf| write(&shelf))
        })?;
        outcome
    }

    /// Takes all of them, or nothing: what was taken before one is short is put back.
    pub(crate) fn take(&self, order: u64, wanted: &BTreeMap<&str, u32>) -> Result<(), Refusal> {
        let mut taken = Vec::new();
        for (sku, quantity) in wanted {
            let refusal = self.change(sku, |shelf| {
                if shelf.held.contains_key(&order) {
                    return Ok(false);
                }
                let short = || Refusal::Short { sku: (*sku).to_owned(), left: shelf.level };
                shelf.level = shelf.level.checked_sub(*quantity).ok_or_else(short)?;
                shelf.held.insert(order, *quantity);
                Ok(true)
            });
            if let Err(refusal) = refusal {
                self.give_back(order, taken)?;
                return Err(refusal);
            }
            taken.push(*sku);
        }
        Ok(())
    }

    pub(crate) fn give_back<'a>(&self, order: u64, skus: impl IntoIterator<Item = &'a str>) -> Result<(), Refusal> {
        skus.into_iter().try_for_each(|sku| {
            self.change(sku, |shelf| {
                let held = shelf.held.remove(&order);
                let full = || Refusal::Closed(format!("there are more of `{sku}` than can be counted"));
                shelf.level = shelf.level.checked_add(held.unwrap_or_default()).ok_or_else(full)?;
                Ok(held.is_some())
            })
        })
    }

    pub(crate) fn sold<'a>(&self, order: u64, skus: impl IntoIterator<Item = &'a str>) -> Result<(), Refusal> {
        skus.into_iter().try_for_each(|sku| self.change(sku, |shelf| Ok(shelf.held.remove(&order).is_some())))
    }

    /// One change, however many do it at once: `change` is asked again where somebody else was faster. It says whether there is one.
    fn change(&self, sku: &str, change: impl Fn(&mut Shelf) -> Result<bool, Refusal>) -> Result<(), Refusal> {
        let mut outcome = Ok(());
        self.0.update(&key(sku), |old| {
            let changed = || {
                let mut shelf = read(&old.ok_or_else(|| Refusal::Unknown(sku.to_owned()))?)?;
                Ok(change(&mut shelf)?.then(|| write(&shelf)))
            };
            outcome = Ok(());
            changed().unwrap_or_else(|refusal| {
                outcome = Err(refusal);
                None
            })
        })?;
        outcome
    }
}

fn key(sku: &str) -> String {
    format!("shelf:{sku}")
}

fn write(shelf: &Shelf) -> Vec<u8> {
    // Numbers can always be written.
    serde_json::to_vec(shelf).unwrap_or_default()
}

fn read(value: &[u8]) -> Result<Shelf, Refusal> {
    serde_json::from_slice(value).map_err(|error| Refusal::Closed(format!("a shelf cannot be read: {error}")))
}
