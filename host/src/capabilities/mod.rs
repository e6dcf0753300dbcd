//! What a guest may reach outside itself, one file a family of imports. Outbound HTTP and TCP go where the settings grant it,
//! and the service's own log is always there; each other family answers with its own error.

mod logging;
mod outbound;

pub(crate) use logging::{add_logging, knows_logging};
pub use outbound::{Network, NetworkError};
pub(crate) use outbound::{OutboundClient, OutboundHttp, Sockets, SocketsView, add_sockets, add_sockets_of_async};
