//! What a guest may reach outside itself, one file a family of imports. Nothing is granted yet but the service's own log:
//! each other family answers with its own error.

mod logging;
mod outbound;

pub(crate) use logging::{add_logging, knows_logging};
pub(crate) use outbound::OutboundHttp;
