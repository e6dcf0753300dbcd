//! What a guest may reach outside itself, one file a family of imports. Nothing is granted yet: each family answers with its own error.

mod outbound;

pub(crate) use outbound::OutboundHttp;
