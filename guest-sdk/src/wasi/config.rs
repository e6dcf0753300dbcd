//! Settings by `wasi:config`.

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
        world: "hotbay:service/config-imports",
        generate_all,
    });
}

use bindings::wasi::config::store;

/// The host has them in memory: no call fails.
pub(crate) fn get(name: &str) -> Option<String> {
    store::get(name).ok().flatten()
}

pub(crate) fn all() -> Vec<(String, String)> {
    store::get_all().unwrap_or_default()
}
