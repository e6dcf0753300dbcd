//! What a guest may reach outside itself, one file a family of imports. Outbound HTTP goes where the settings grant it, to other
//! hosts and to other services of this one, and the service's own log is always there; each other family answers with its own
//! error.

mod calls;
mod logging;
mod outbound;

pub use calls::{Called, Due, Errand, Link, NoService, ServiceCall, ServiceCaller, Tangle, Trace};
pub(crate) use logging::{add_logging, knows_logging};
pub use outbound::{Network, NetworkError, Reach};
pub(crate) use outbound::{OutboundClient, OutboundHttp};
