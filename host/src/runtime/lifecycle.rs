//! The optional export `hotbay:service/lifecycle`: what a guest does when an instance of it begins and ends.

use super::store::Guest;
use std::time::Duration;
use tracing::warn;
use wasmtime::{
    Store,
    component::{Component, ComponentExportIndex, Instance, TypedFunc},
};

/// Longest time that `stop` gets.
const STOP_MAX: Duration = Duration::from_secs(1);

/// The interface, any 0.1 version of it.
const INTERFACE: &str = "hotbay:service/lifecycle@0.1.0";

/// Where the two functions are in a component; looked up once a revision.
#[derive(Clone, Copy)]
pub(crate) struct LifecycleIndex {
    start: ComponentExportIndex,
    stop: ComponentExportIndex,
}

impl LifecycleIndex {
    pub(crate) fn of(component: &Component) -> Option<Self> {
        let interface = component.get_export_index(None, INTERFACE)?;
        let function = |name| component.get_export_index(Some(&interface), name);
        Some(Self { start: function("start")?, stop: function("stop")? })
    }

    /// The functions of one instance.
    pub(crate) fn bind(&self, store: &mut Store<Guest>, instance: &Instance) -> wasmtime::Result<Lifecycle> {
        Ok(Lifecycle {
            start: instance.get_typed_func(&mut *store, self.start)?,
            stop: instance.get_typed_func(&mut *store, self.stop)?,
        })
    }
}

/// The two functions of one instance.
pub(crate) struct Lifecycle {
    start: TypedFunc<(), (Result<(), String>,)>,
    stop: TypedFunc<(), ()>,
}

impl Lifecycle {
    /// Calls `start`. The inner error is the guest's own.
    pub(crate) async fn start(&self, store: &mut Store<Guest>) -> wasmtime::Result<Result<(), String>> {
        let (answer,) = self.start.call_async(store, ()).await?;
        Ok(answer)
    }

    /// Calls `stop`; a guest that does not end in time or traps is ended all the same.
    pub(crate) async fn stop(&self, store: &mut Store<Guest>) {
        match tokio::time::timeout(STOP_MAX, self.stop.call_async(store, ())).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => warn!(%error, "a guest failed in lifecycle.stop"),
            Err(_) => warn!("a guest took more than 1s in lifecycle.stop and was ended"),
        }
    }
}
