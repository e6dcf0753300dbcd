//! The types of the [`http`](::http) crate; with the feature `client` also requests to other services and hosts.

pub use ::http::*;

#[cfg(feature = "client")]
mod client;
#[cfg(all(feature = "client", feature = "json"))]
pub use client::post_json;
#[cfg(feature = "client")]
pub use client::{RESPONSE_MAX, SendError, get, send};
#[cfg(all(feature = "client", not(target_family = "wasm")))]
pub use client::{answer_for_tests, refuse_for_tests};
