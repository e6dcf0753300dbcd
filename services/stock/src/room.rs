//! What is there, and what is taken.

use hotbay_sdk::kv::{Bucket, Error};

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

/// A key for each thing, with the number that is there as decimal text.
pub(crate) struct Room(Bucket);

impl Room {
    pub(crate) fn open() -> Result<Self, Refusal> {
        Ok(Self(Bucket::open("default")?))
    }

    pub(crate) fn level(&self, sku: &str) -> Result<u32, Refusal> {
        let level = self.0.get(&key(sku))?;
        level.as_deref().and_then(number).ok_or_else(|| Refusal::Unknown(sku.to_owned()))
    }

    pub(crate) fn set(&self, sku: &str, level: u32) -> Result<(), Refusal> {
        Ok(self.0.set(&key(sku), level.to_string())?)
    }

    /// Takes all of them, or nothing: what was taken before one is short is put back.
    pub(crate) fn take(&self, lines: &[(&str, u32)]) -> Result<(), Refusal> {
        for (taken, line) in lines.iter().enumerate() {
            if let Err(refusal) = self.take_one(line) {
                self.give_back(lines.get(..taken).unwrap_or_default())?;
                return Err(refusal);
            }
        }
        Ok(())
    }

    /// One change, however many do it at once: `update` asks again where somebody else was faster.
    fn take_one(&self, (sku, quantity): &(&str, u32)) -> Result<(), Refusal> {
        let mut outcome = Ok(());
        if !self.0.exists(&key(sku))? {
            return Err(Refusal::Unknown((*sku).to_owned()));
        }
        self.0.update(&key(sku), |old| {
            let left = old.as_deref().and_then(number).unwrap_or_default();
            match left.checked_sub(*quantity) {
                Some(rest) => {
                    outcome = Ok(());
                    rest.to_string().into_bytes()
                }
                None => {
                    outcome = Err(Refusal::Short { sku: (*sku).to_owned(), left });
                    left.to_string().into_bytes()
                }
            }
        })?;
        outcome
    }

    pub(crate) fn give_back(&self, lines: &[(&str, u32)]) -> Result<(), Refusal> {
        for (sku, quantity) in lines {
            self.0.increment(&key(sku), i64::from(*quantity))?;
        }
        Ok(())
    }
}

fn key(sku: &str) -> String {
    format!("level:{sku}")
}

fn number(text: &[u8]) -> Option<u32> {
    std::str::from_utf8(text).ok()?.parse().ok()
}
