//! The interfaces of `wasi:keyvalue` as guests call them.

use super::{
    access::{Closed, KeyValueAccess},
    change::{Change, Changed},
    failure::Failure,
    limits,
};
use crate::capabilities::Denials;
use bindings::wasi::keyvalue::{atomics, batch, store};
use std::sync::Arc;
use store::Error;
use wasmtime::{
    Result,
    component::{HasData, Linker, Resource, ResourceTable},
};

#[allow(
    missing_docs,
    unreachable_pub,
    unused_qualifications,
    clippy::all,
    clippy::allow_attributes_without_reason,
    reason = "generated"
)]
mod bindings {
    wasmtime::component::bindgen!({
        path: "../wit",
        world: "hotbay:service/keyvalue-imports",
        imports: { default: async | trappable },
        with: {
            "wasi:keyvalue/store.bucket": super::Bucket,
            "wasi:keyvalue/atomics.cas": super::Look,
        },
    });
}

/// The version of the package that links.
pub(crate) const VERSION: &str = "0.2.0-draft2";

/// An open bucket.
#[allow(unreachable_pub, reason = "the generated bindings name it as theirs, which are public within this file")]
pub struct Bucket(Arc<str>);

/// The value of a key at one moment. It is in the memory of the host and counted in that of the instance.
#[allow(unreachable_pub, reason = "the generated bindings name it as theirs, which are public within this file")]
pub struct Look {
    bucket: Arc<str>,
    key: String,
    value: Option<Vec<u8>>,
}

impl Look {
    fn bytes(&self) -> usize {
        self.key.len().saturating_add(self.value.as_ref().map_or(0, Vec::len))
    }
}

/// The memory of an instance, in which what the host keeps for its handles counts.
pub(crate) trait HandleMemory: Send {
    /// Counts so many bytes more; not where the instance or the host has no room for them.
    fn take(&mut self, bytes: usize) -> bool;
    /// So many bytes less.
    fn give(&mut self, bytes: usize);
}

/// One instance's side of the interfaces, for one call.
pub(crate) struct KeyValueView<'a> {
    pub(crate) access: &'a mut KeyValueAccess,
    pub(crate) table: &'a mut ResourceTable,
    pub(crate) memory: &'a mut dyn HandleMemory,
    /// The request that the instance works for.
    pub(crate) request_id: &'a str,
    /// Who is told of what is denied to it.
    pub(crate) denials: &'a Denials,
}

struct View;

impl HasData for View {
    type Data<'a> = KeyValueView<'a>;
}

/// Links the interfaces.
pub(crate) fn add_keyvalue<T: Send + 'static>(linker: &mut Linker<T>, view: fn(&mut T) -> KeyValueView<'_>) -> Result<()> {
    store::add_to_linker::<T, View>(linker, view)?;
    atomics::add_to_linker::<T, View>(linker, view)?;
    batch::add_to_linker::<T, View>(linker, view)
}

impl From<Failure> for Error {
    fn from(failure: Failure) -> Self {
        Self::Other(failure.to_string())
    }
}

impl KeyValueView<'_> {
    fn name(&self, bucket: &Resource<Bucket>) -> Result<Arc<str>> {
        Ok(self.table.get(bucket)?.0.clone())
    }

    async fn change(&mut self, bucket: &Resource<Bucket>, change: Change) -> Result<Result<Changed, Error>> {
        let bucket = self.name(bucket)?;
        Ok(self.access.space.change(&bucket, change).await.map_err(Error::from))
    }

    async fn put(
        &mut self,
        bucket: &Resource<Bucket>,
        entries: impl Iterator<Item = (String, Option<Vec<u8>>)>,
    ) -> Result<Result<(), Error>> {
        Ok(self.change(bucket, Change::Put(entries.collect())).await?.map(drop))
    }

    /// A handle on what a key had at this moment.
    fn look(&mut self, look: Look) -> Result<Result<Resource<Look>, Error>> {
        let bytes = look.bytes();
        if !self.memory.take(bytes) {
            return Ok(Err(limits::handle(bytes).into()));
        }
        Ok(Ok(self.table.push(look)?))
    }

    fn let_go(&mut self, cas: Resource<Look>) -> Result<Look> {
        let look = self.table.delete(cas)?;
        self.memory.give(look.bytes());
        Ok(look)
    }

    async fn one(&mut self, bucket: &Resource<Bucket>, key: String) -> Result<Result<Option<Vec<u8>>, Error>> {
        let bucket = self.name(bucket)?;
        let found = self.access.space.get(&bucket, vec![key]).await;
        Ok(found.map(|mut found| found.pop().and_then(|(_, value)| value)).map_err(Error::from))
    }
}

impl store::Host for KeyValueView<'_> {
    async fn open(&mut self, identifier: String) -> Result<Result<Resource<Bucket>, Error>> {
        Ok(match self.access.open(&identifier, self.request_id, self.denials) {
            Ok(name) => Ok(self.table.push(Bucket(name))?),
            Err(Closed::Denied) => Err(Error::AccessDenied),
            Err(Closed::Unknown) => Err(Error::NoSuchStore),
        })
    }
}

impl store::HostBucket for KeyValueView<'_> {
    async fn get(&mut self, bucket: Resource<Bucket>, key: String) -> Result<Result<Option<Vec<u8>>, Error>> {
        self.one(&bucket, key).await
    }

    async fn set(&mut self, bucket: Resource<Bucket>, key: String, value: Vec<u8>) -> Result<Result<(), Error>> {
        self.put(&bucket, std::iter::once((key, Some(value)))).await
    }

    async fn delete(&mut self, bucket: Resource<Bucket>, key: String) -> Result<Result<(), Error>> {
        self.put(&bucket, std::iter::once((key, None))).await
    }

    async fn exists(&mut self, bucket: Resource<Bucket>, key: String) -> Result<Result<bool, Error>> {
        let bucket = self.name(&bucket)?;
        Ok(self.access.space.exists(&bucket, key).await.map_err(Error::from))
    }

    async fn list_keys(&mut self, bucket: Resource<Bucket>, cursor: Option<String>) -> Result<Result<store::KeyResponse, Error>> {
        let bucket = self.name(&bucket)?;
        let page = self.access.space.page(&bucket, cursor).await;
        Ok(page.map(|(keys, cursor)| store::KeyResponse { keys, cursor }).map_err(Error::from))
    }

    async fn drop(&mut self, bucket: Resource<Bucket>) -> Result<()> {
        self.table.delete(bucket)?;
        Ok(())
    }
}

impl atomics::Host for KeyValueView<'_> {
    async fn increment(&mut self, bucket: Resource<Bucket>, key: String, delta: i64) -> Result<Result<i64, Error>> {
        Ok(match self.change(&bucket, Change::Add(key, delta)).await? {
            Ok(Changed::Sum(sum)) => Ok(sum),
            Ok(_) => Err(Failure::Unusable.into()),
            Err(error) => Err(error),
        })
    }

    async fn swap(&mut self, cas: Resource<Look>, value: Vec<u8>) -> Result<Result<(), atomics::CasError>> {
        let Look { bucket, key, value: expected } = self.let_go(cas)?;
        let change = Change::Swap { key: key.clone(), expected, value };
        Ok(match self.access.space.change(&bucket, change).await {
            Ok(Changed::Differs(value)) => Err(match self.look(Look { bucket, key, value })? {
                Ok(now) => atomics::CasError::CasFailed(now),
                Err(error) => atomics::CasError::StoreError(error),
            }),
            Ok(_) => Ok(()),
            Err(failure) => Err(atomics::CasError::StoreError(failure.into())),
        })
    }
}

impl atomics::HostCas for KeyValueView<'_> {
    async fn new(&mut self, bucket: Resource<Bucket>, key: String) -> Result<Result<Resource<Look>, Error>> {
        let value = match self.one(&bucket, key.clone()).await? {
            Ok(value) => value,
            Err(error) => return Ok(Err(error)),
        };
        let bucket = self.name(&bucket)?;
        self.look(Look { bucket, key, value })
    }

    async fn current(&mut self, cas: Resource<Look>) -> Result<Result<Option<Vec<u8>>, Error>> {
        Ok(Ok(self.table.get(&cas)?.value.clone()))
    }

    async fn drop(&mut self, cas: Resource<Look>) -> Result<()> {
        self.let_go(cas)?;
        Ok(())
    }
}

impl batch::Host for KeyValueView<'_> {
    async fn get_many(
        &mut self,
        bucket: Resource<Bucket>,
        keys: Vec<String>,
    ) -> Result<Result<Vec<(String, Option<Vec<u8>>)>, Error>> {
        let bucket = self.name(&bucket)?;
        Ok(self.access.space.get(&bucket, keys).await.map_err(Error::from))
    }

    async fn set_many(&mut self, bucket: Resource<Bucket>, key_values: Vec<(String, Vec<u8>)>) -> Result<Result<(), Error>> {
        // The last one of a key that comes twice counts, as if they were set one after another.
        self.put(&bucket, key_values.into_iter().map(|(key, value)| (key, Some(value)))).await
    }

    async fn delete_many(&mut self, bucket: Resource<Bucket>, keys: Vec<String>) -> Result<Result<(), Error>> {
        self.put(&bucket, keys.into_iter().map(|key| (key, None))).await
    }
}
