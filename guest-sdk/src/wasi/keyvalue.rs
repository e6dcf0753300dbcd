//! Buckets of `wasi:keyvalue`, as the host keeps them.

#[allow(
    unsafe_code,
    missing_docs,
    unreachable_pub,
    unused_qualifications,
    clippy::all,
    clippy::mem_forget,
    clippy::allow_attributes_without_reason,
    reason = "generated"
)]
mod bindings {
    wit_bindgen::generate!({
        path: "../wit",
        world: "hotbay:service/keyvalue-imports",
        generate_all,
    });
}

use crate::kv::{Change, Error, Values};
use bindings::wasi::keyvalue::{
    atomics::{self, Cas, CasError},
    batch, store,
};

impl From<store::Error> for Error {
    fn from(error: store::Error) -> Self {
        match error {
            store::Error::NoSuchStore => Self::NoSuchStore,
            store::Error::AccessDenied => Self::AccessDenied,
            store::Error::Other(words) => Self::Other(words),
        }
    }
}

pub(crate) struct Bucket(store::Bucket);

impl Bucket {
    pub(crate) fn open(name: &str) -> Result<Self, Error> {
        Ok(Self(store::open(name)?))
    }

    pub(crate) fn get(&self, key: &str) -> Result<Option<Vec<u8>>, Error> {
        Ok(self.0.get(key)?)
    }

    pub(crate) fn set(&self, key: &str, value: &[u8]) -> Result<(), Error> {
        Ok(self.0.set(key, value)?)
    }

    pub(crate) fn delete(&self, key: &str) -> Result<(), Error> {
        Ok(self.0.delete(key)?)
    }

    pub(crate) fn exists(&self, key: &str) -> Result<bool, Error> {
        Ok(self.0.exists(key)?)
    }

    pub(crate) fn page(&self, cursor: Option<String>) -> Result<(Vec<String>, Option<String>), Error> {
        let page = self.0.list_keys(cursor.as_deref())?;
        Ok((page.keys, page.cursor))
    }

    pub(crate) fn increment(&self, key: &str, delta: i64) -> Result<i64, Error> {
        Ok(atomics::increment(&self.0, key, delta)?)
    }

    pub(crate) fn update(&self, key: &str, change: &mut Change<'_>) -> Result<Option<Vec<u8>>, Error> {
        let mut cas = Cas::new(&self.0, key)?;
        loop {
            let Some(value) = change(cas.current()?) else { return Ok(None) };
            match atomics::swap(cas, &value) {
                Ok(()) => return Ok(Some(value)),
                Err(CasError::CasFailed(now)) => cas = now,
                Err(CasError::StoreError(error)) => return Err(error.into()),
            }
        }
    }

    pub(crate) fn get_many(&self, keys: &[String]) -> Result<Values, Error> {
        Ok(batch::get_many(&self.0, keys)?)
    }

    pub(crate) fn set_many(&self, entries: &[(String, Vec<u8>)]) -> Result<(), Error> {
        Ok(batch::set_many(&self.0, entries)?)
    }

    pub(crate) fn delete_many(&self, keys: &[String]) -> Result<(), Error> {
        Ok(batch::delete_many(&self.0, keys)?)
    }
}
