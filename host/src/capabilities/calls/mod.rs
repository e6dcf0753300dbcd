//! Calls of a guest to other services of this host, `http://NAME.internal/…`: to whom they are granted, what they take along,
//! and who carries them out.

mod answer;
mod callees;
mod due;
mod errand;

pub(crate) use callees::{Callee, Callees, Unanswered, service_of};
pub use due::Due;
pub use errand::{Errand, Link, Tangle, Trace};

use crate::config::ServiceName;
use http::{Request, Response};
use std::pin::Pin;
use wasmtime_wasi_http::WasiBody;

/// Carries calls out: the host's dispatch, which lies above and is handed down.
pub trait ServiceCaller: Send + Sync {
    /// Ends when the head of the response is there. Dropping it, or later the body, ends the call and what the callee does for it.
    ///
    /// Must not be polled by a guest's own store: wasmtime 48 does not let one store run within another.
    fn call(&self, call: ServiceCall) -> Called;
}

/// A call under way. An error of the callee is a response; the only thing that is none is a callee that does not exist.
pub type Called = Pin<Box<dyn Future<Output = Result<Response<WasiBody>, NoService>> + Send>>;

/// There is no service of the name.
#[derive(Debug, Clone, Copy)]
pub struct NoService;

/// One call that is granted.
pub struct ServiceCall {
    /// Who calls.
    pub caller: ServiceName,
    /// Who is called.
    pub callee: ServiceName,
    /// The request, for the host `NAME.internal`.
    pub request: Request<WasiBody>,
    /// What the caller's own request hands on.
    pub errand: Errand,
}
