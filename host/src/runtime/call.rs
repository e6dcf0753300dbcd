//! What the edge tells the runtime about one request beside the request itself.

use super::stdio::Output;
use std::{net::SocketAddr, sync::Arc};

/// One request's circumstances.
#[derive(Debug, Clone)]
pub struct Call {
    /// `x-request-id`.
    pub request_id: String,
    /// The client.
    pub peer: SocketAddr,
    /// The address that the client reached.
    pub local: SocketAddr,
    /// What was taken off the path before the guest sees it: `SCRIPT_NAME` of a command.
    pub prefix: Option<Arc<str>>,
    /// Where the guest's output can be read afterwards.
    pub output: Output,
}
