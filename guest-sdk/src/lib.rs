//! What a Hotbay service written in Rust depends on: a thin layer over [`http`], `axum` and `wstd`, and no framework.
//!
//! The smallest service is a function and a line that exports it:
//!
//! ```
//! hotbay_sdk::service!(hello);
//!
//! async fn hello() -> &'static str {
//!     "Hello!\n"
//! }
//! ```
//!
//! A larger one is an axum router, with path parameters, JSON in and out, and errors as problem documents (RFC 9457):
//!
//! ```
//! # #[cfg(feature = "router")] mod service {
//! use hotbay_sdk::{Json, Path, Problem, Router, RouterExt, routing::get};
//!
//! hotbay_sdk::service!(router: app);
//!
//! fn app() -> Router {
//!     Router::new().route("/square/{n}", get(square)).problems()
//! }
//!
//! async fn square(Path(n): Path<u32>) -> Result<Json<u32>, Problem> {
//!     let square = n.checked_mul(n).ok_or_else(|| Problem::unprocessable("the square of n is too large"))?;
//!     Ok(Json(square))
//! }
//! # }
//! ```
//!
//! Build it for `wasm32-wasip2` as a `cdylib`, and drop the file into the bay.
//!
//! # Bodies
//!
//! A [`Body`] streams, in both directions: nothing is read before the handler asks for it, and what
//! [`Body::from_stream`] yields is sent as it comes. The host stops a guest that sends faster than the client takes.
//! A body whose length is known gets a `content-length`.
//!
//! # Tests
//!
//! Handlers and routers are plain functions over plain types. Natively [`service!`] only checks their types, so
//! `cargo test` runs them without a host: call the function, or `tower::ServiceExt::oneshot` the router. The services
//! `hello` and `orders` show both.
//!
//! # Features
//!
//! | feature | gives | costs |
//! |---|---|---|
//! | `router` (default) | `Router`, `Path`, `Query`, `State`; needs `json` | axum |
//! | `json` | `Json`, `Problem` | serde |
//! | `lifecycle` | `lifecycle!` | wit-bindgen, when building |
//! | `kv` | `kv`: keys with values that outlive an instance | wit-bindgen, when building |
//! | `config` | `config` and `secrets` | wit-bindgen, when building |
//! | `log` | `log`: messages with a level in the service's log | wit-bindgen, when building |
//! | `client` | `http::send`, `get`, `post_json`: requests to other services and hosts | nothing |
//! | `typed` | `bindings!`: functions that other services export, or that a service exports to them | wit-bindgen, when building |
//!
//! Timers, bodies that stream out of other hosts and whatever else a component can do are in `wstd` 0.6; a service that wants them depends
//! on it directly, and runs in its event loop already.

#[cfg(feature = "config")]
pub mod config;
#[cfg(feature = "router")]
mod extract;
mod handler;
pub mod http;
#[cfg(feature = "json")]
mod json;
#[cfg(feature = "kv")]
pub mod kv;
#[cfg(feature = "log")]
pub mod log;
mod macros;
#[cfg(feature = "json")]
mod problem;
#[cfg(feature = "router")]
mod router;
#[cfg(feature = "config")]
pub mod secrets;
#[cfg(target_family = "wasm")]
mod wasi;

#[doc(hidden)]
pub use macros::__stop_nothing;

pub use axum_core::body::Body;
pub use axum_core::extract::{FromRequest, FromRequestParts, Request};
pub use axum_core::response::{IntoResponse, Response};
pub use bytes::Bytes;

#[cfg(feature = "router")]
pub use axum::{Router, extract::State, routing};
#[cfg(feature = "router")]
pub use extract::{Path, Query};
#[cfg(feature = "json")]
pub use json::Json;
#[cfg(feature = "json")]
pub use problem::Problem;
#[cfg(feature = "router")]
pub use router::RouterExt;

/// A line in the service's log, for what must not be told to the client.
#[cfg(any(feature = "json", target_family = "wasm"))]
#[allow(clippy::print_stderr, reason = "stderr is the log of a guest")]
fn report(text: &str) {
    eprintln!("error: {text}");
}

/// What the macros expand to. Not for others: it changes without notice.
#[doc(hidden)]
pub mod __private {
    #[cfg(feature = "typed")]
    pub use wit_bindgen;

    #[cfg(all(feature = "lifecycle", target_family = "wasm"))]
    pub use crate::wasi::lifecycle;
    #[cfg(target_family = "wasm")]
    pub use crate::wasi::serve;
    #[cfg(target_family = "wasm")]
    pub use wasip2;
    #[cfg(target_family = "wasm")]
    pub use wstd::runtime::block_on;

    pub use crate::macros::{check_handler, check_start, check_stop};
    #[cfg(feature = "router")]
    pub use crate::router::{check_app, route};
}
