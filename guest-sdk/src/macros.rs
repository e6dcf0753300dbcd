//! The macros that export a service, and the checks that stand in for the exports natively.

use std::fmt::Display;

use crate::handler::Handler;

/// Exports a service: `service!(handler)` or `service!(router: app)`.
///
/// `handler` is an `async fn(Request) -> impl IntoResponse`, or one without an argument, for which the request is not
/// even fetched from the host. It is the leanest form: no router comes with it.
///
/// `app` is a `fn() -> Router`. It is called once for each instance, at the first request; state that is given to the
/// router lives as long as the instance does, which is one request unless the settings say `policy = "reuse"`.
///
/// ```
/// use hotbay_sdk::{IntoResponse, Request, http::StatusCode};
///
/// hotbay_sdk::service!(teapot);
///
/// async fn teapot(request: Request) -> impl IntoResponse {
///     (StatusCode::IM_A_TEAPOT, format!("no coffee at {}\n", request.uri().path()))
/// }
/// ```
#[macro_export]
macro_rules! service {
    (router: $app:path) => {
        #[cfg(target_family = "wasm")]
        $crate::__export_http!(|request: $crate::Request| {
            static APP: ::std::sync::OnceLock<$crate::Router> = ::std::sync::OnceLock::new();
            $crate::__private::route(APP.get_or_init($app), request)
        });
        #[cfg(not(target_family = "wasm"))]
        const _: fn() = || $crate::__private::check_app($app);
    };
    ($handler:path) => {
        #[cfg(target_family = "wasm")]
        $crate::__export_http!($handler);
        #[cfg(not(target_family = "wasm"))]
        const _: fn() = || $crate::__private::check_handler($handler);
    };
}

/// The export itself, for both forms of [`service!`].
#[doc(hidden)]
#[macro_export]
macro_rules! __export_http {
    ($serve:expr) => {
        const _: () = {
            struct Service;
            impl $crate::__private::wasip2::exports::http::incoming_handler::Guest for Service {
                fn handle(
                    request: $crate::__private::wasip2::http::types::IncomingRequest,
                    response: $crate::__private::wasip2::http::types::ResponseOutparam,
                ) {
                    $crate::__private::serve(request, response, $serve);
                }
            }
            $crate::__private::wasip2::http::proxy::export!(
                Service with_types_in $crate::__private::wasip2
            );
        };
    };
}

/// Makes a module of what a WIT world imports from other services, or exports to them: `bindings!(wit, path: "wit", world: "dependent")`.
/// Needs the feature `typed`.
///
/// `path` is a WIT file or folder, from the folder of the crate. An import `shop:stock/stock` is called as
/// `wit::shop::stock::stock::take(…)`; natively such a call panics, so a test stands in for the functions that call it. An export is
/// the trait `wit::exports::shop::stock::stock::Guest`, and `wit::export!(Type with_types_in wit)` gives the type that has it.
#[cfg(feature = "typed")]
#[macro_export]
macro_rules! bindings {
    ($module:ident, path: $path:literal, world: $world:literal) => {
        #[allow(
            unsafe_code,
            missing_docs,
            dead_code,
            unreachable_pub,
            unused_qualifications,
            unused_macros,
            unused_imports,
            clippy::all,
            clippy::mem_forget,
            clippy::indexing_slicing,
            clippy::allow_attributes_without_reason,
            reason = "generated"
        )]
        mod $module {
            $crate::__private::wit_bindgen::generate!({
                path: $path,
                world: $world,
                runtime_path: "hotbay_sdk::__private::wit_bindgen::rt",
                generate_all,
                pub_export_macro: true,
                additional_derives: [PartialEq],
            });
        }
    };
}

/// Exports `hotbay:service/lifecycle`: `lifecycle!(start = f)` or `lifecycle!(start = f, stop = g)`. Needs the feature
/// `lifecycle`.
///
/// `start` is an `async fn() -> Result<(), E>`, where `E` can be displayed; an error rejects the new revision with
/// that text. `stop` is an `async fn()`. When they are called, and when not, is told in `wit/service.wit`.
///
/// ```
/// hotbay_sdk::lifecycle!(start = start, stop = stop);
///
/// async fn start() -> Result<(), String> {
///     let prices = include_str!("../Cargo.toml"); // the data that this build carries
///     if prices.is_empty() { Err("the price list is empty".to_owned()) } else { Ok(()) }
/// }
///
/// async fn stop() {}
/// ```
#[macro_export]
macro_rules! lifecycle {
    (start = $start:path $(,)?) => {
        $crate::lifecycle!(start = $start, stop = $crate::__stop_nothing);
    };
    (start = $start:path, stop = $stop:path $(,)?) => {
        #[cfg(target_family = "wasm")]
        const _: () = {
            struct Lifecycle;
            impl $crate::__private::lifecycle::Guest for Lifecycle {
                fn start() -> ::std::result::Result<(), ::std::string::String> {
                    $crate::__private::block_on($start()).map_err(|error| ::std::string::ToString::to_string(&error))
                }
                fn stop() {
                    $crate::__private::block_on($stop());
                }
            }
            $crate::__private::lifecycle::export!(
                Lifecycle with_types_in $crate::__private::lifecycle::bindings
            );
        };
        #[cfg(not(target_family = "wasm"))]
        const _: fn() = || {
            $crate::__private::check_start($start);
            $crate::__private::check_stop($stop);
        };
    };
}

/// The `stop` of a service that has none.
#[doc(hidden)]
pub async fn __stop_nothing() {}

/// Natively a handler is type-checked and kept from looking unused, and nothing more.
pub fn check_handler<H: Handler<Args>, Args>(_handler: H) {}

/// As [`check_handler`], for the `start` of [`lifecycle!`].
pub fn check_start<F, R, E>(_start: F)
where
    F: Fn() -> R,
    R: Future<Output = Result<(), E>>,
    E: Display,
{
}

/// As [`check_handler`], for the `stop` of [`lifecycle!`].
pub fn check_stop<F, R>(_stop: F)
where
    F: Fn() -> R,
    R: Future<Output = ()>,
{
}
