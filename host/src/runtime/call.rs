//! What the edge tells the runtime about one request beside the request itself.

use super::stdio::Output;
use crate::capabilities::Errand;
use std::sync::Arc;

/// One request's circumstances.
#[derive(Debug, Clone)]
pub struct Call {
    /// Its id, its client, and what else it hands on to the calls of its guest.
    pub errand: Errand,
    /// What was taken off the path before the guest sees it: `SCRIPT_NAME` of a command.
    pub prefix: Option<Arc<str>>,
    /// Where the guest's output can be read afterwards.
    pub output: Output,
}
