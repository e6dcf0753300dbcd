//! Everything that names wasmtime: from the bytes of a build to the response of a guest.

mod artifact;
mod body;
mod budget;
mod build;
mod cache;
mod call;
mod callee;
mod cgi;
mod clock;
mod compile;
mod compile_child;
mod confine;
mod coredump;
mod digest;
mod engine;
mod fault;
mod functions;
mod granted;
mod instance;
mod invoke;
mod kept;
mod lane;
mod lanes;
mod lifecycle;
mod limiter;
mod linker;
mod links;
mod loader;
mod log_share;
mod names;
mod probe;
mod profile;
mod progress;
mod proxy;
mod request;
mod revision;
mod running;
mod stdio;
mod store;
mod ticks;
mod typed_call;
mod value_size;
mod wit_text;

pub use crate::capabilities::{
    Called, Denial, Denials, Due, Errand, KeyValue, KeyValueFailure, Link, Network, NetworkError, NoService, Reach, SecretError,
    SecretFolder, Secrets, SecretsSeen, ServiceCall, ServiceCaller, Tangle, Trace,
};
pub use artifact::{Binary, Unfit};
pub use body::GuestBody;
pub use build::Build;
pub use call::Call;
pub use compile_child::{SUBCOMMAND as COMPILE_CHILD, child as compile_child, staying_child as staying_compile_child};
pub use coredump::CoreDumps;
pub use digest::Digest;
pub use engine::{Backtraces, Engines, Flavour};
pub(crate) use fault::{BETWEEN_FRAMES, FRAMES, OUTPUT};
pub use fault::{Fault, Report};
pub use granted::Sources;
pub(crate) use invoke::invoke;
pub use linker::{Kind, Surface};
pub use links::{Interface, Links, brief, difference};
pub use loader::{Inspection, Loader, Reject, Stage, nobody};
pub(crate) use profile::{ProfileError, Taken};
pub(crate) use request::bounded;
pub use request::{BodyError, Inbound, RequestBody};
pub use revision::{Drain, Observers, Revision};
pub use stdio::Output;
pub use typed_call::{CallError, CallFailure, Providers};
pub use wit_text::Signature;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) use {artifact::identify, cgi::split_head};
