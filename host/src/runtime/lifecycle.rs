//! The optional export `hotbay:service/lifecycle`: what a guest does when an instance of it begins and ends.

use super::{fault::shown, store::HostState};
use std::time::Duration;
use tracing::warn;
use wasmtime::{
    Store,
    component::{Component, ComponentExportIndex, Instance, Type, TypedFunc, types::ComponentItem},
};

/// Longest time that `stop` gets.
pub(super) const STOP_MAX: Duration = Duration::from_secs(1);

/// Bytes of a reason in the log.
const WORDS_MAX: usize = 1 << 10;

/// The interface.
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
    pub(crate) fn bind(&self, store: &mut Store<HostState>, instance: &Instance) -> wasmtime::Result<Lifecycle> {
        Ok(Lifecycle {
            start: instance.get_typed_func(&mut *store, self.start)?,
            stop: instance.get_typed_func(&mut *store, self.stop)?,
        })
    }
}

/// Checks the types of the export, where there is one.
///
/// # Errors
/// What is not as `wit/service.wit` says.
pub(crate) fn check(component: &Component) -> Result<(), String> {
    let (ty, engine) = (component.component_type(), component.engine());
    let Some((_, export)) = ty.exports(engine).find(|(name, _)| *name == INTERFACE) else {
        return Ok(());
    };
    let ComponentItem::ComponentInstance(interface) = export.ty else {
        return Err(format!("its export `{INTERFACE}` is no interface"));
    };
    let fits = |name: &str, returns: fn(&[Type]) -> bool| {
        interface.exports(engine).any(|(found, item)| match item.ty {
            ComponentItem::ComponentFunc(function) if found == name => {
                !function.async_() && function.params().len() == 0 && returns(&function.results().collect::<Vec<_>>())
            }
            _ => false,
        })
    };
    let outcome = |results: &[Type]| match results {
        [Type::Result(outcome)] => outcome.ok().is_none() && outcome.err() == Some(Type::String),
        _ => false,
    };
    if !fits("start", outcome) {
        return Err(format!("`{INTERFACE}` must export `start: func() -> result<_, string>`"));
    }
    if !fits("stop", <[Type]>::is_empty) {
        return Err(format!("`{INTERFACE}` must export `stop: func()`"));
    }
    Ok(())
}

/// The two functions of one instance.
pub(crate) struct Lifecycle {
    start: TypedFunc<(), (Result<(), String>,)>,
    stop: TypedFunc<(), ()>,
}

impl Lifecycle {
    /// Calls `start`. The inner error is the guest's own.
    pub(crate) async fn start(&self, store: &mut Store<HostState>) -> wasmtime::Result<Result<(), String>> {
        let (answer,) = self.start.call_async(store, ()).await?;
        Ok(answer)
    }

    /// Calls `stop`; a guest that does not end in time or traps is ended all the same.
    pub(crate) async fn stop(&self, store: &mut Store<HostState>) {
        let service = store.data().service.clone();
        match tokio::time::timeout(STOP_MAX, self.stop.call_async(store, ())).await {
            Ok(Ok(())) => {}
            // The words of the trap: those around them are a backtrace, whose names are the guest's and without end.
            Ok(Err(error)) => {
                let error = shown(&error.root_cause().to_string(), WORDS_MAX);
                warn!(%service, error, "a guest failed in lifecycle.stop");
            }
            Err(_) => warn!(%service, limit = ?STOP_MAX, "a guest took too long in lifecycle.stop and was ended"),
        }
    }
}
