//! One setting or secret of `wasi:config`: the engine's own function tells nobody what was asked for in vain.

use wasmtime::{
    StoreContextMut,
    component::{ComponentType, Lift, Linker, Lower},
};

/// The name by which the engine links its own, so that ours takes its place.
const STORE: &str = "wasi:config/store@0.2.0-rc.1";

/// The interface's own error, which never comes.
#[derive(ComponentType, Lift, Lower)]
#[component(variant)]
#[allow(dead_code, reason = "it is part of the function's type")]
enum Error {
    #[component(name = "upstream")]
    Upstream(String),
    #[component(name = "io")]
    Io(String),
}

/// Links `get`, after the engine's; `setting` has the value of a key.
pub(crate) fn add_setting<T: 'static>(linker: &mut Linker<T>, setting: fn(&T, String) -> Option<String>) -> wasmtime::Result<()> {
    linker.allow_shadowing(true);
    linker.instance(STORE)?.func_wrap("get", move |store: StoreContextMut<'_, T>, (key,): (String,)| {
        Ok((Ok::<_, Error>(setting(store.data(), key)),))
    })?;
    linker.allow_shadowing(false);
    Ok(())
}
