//! Who asks other hosts: one request of a service, and how much of it the log has told.

use super::failure::{Failure, FailureKind};
use crate::config::ServiceName;
use std::{
    fmt::Display,
    sync::atomic::{AtomicU32, Ordering},
};
use tracing::warn;

/// Lines of one request on calls that were denied or failed, and bytes of an authority that are shown.
const LINES_MAX: u32 = 20;
const AUTHORITY_MAX: usize = 256;

/// One request of a service. Whatever is under way for it holds it.
pub(super) struct Asker {
    service: ServiceName,
    request_id: String,
    told: AtomicU32,
}

impl Asker {
    pub(super) fn new(service: ServiceName, request_id: String) -> Self {
        Self { service, request_id, told: AtomicU32::new(0) }
    }

    /// Tells the log how a call failed. A guest that asks in a loop fills nobody's log.
    pub(super) fn tell(&self, destination: &impl Display, failure: &Failure) {
        if self.told.fetch_add(1, Ordering::Relaxed) >= LINES_MAX {
            return;
        }
        let destination = destination.to_string();
        let authority = destination.get(..AUTHORITY_MAX).unwrap_or(&destination);
        let (service, request_id, reason) = (&self.service, &self.request_id, &failure.reason);
        match failure.kind {
            FailureKind::Denied(capability) => {
                let capability = capability.as_str();
                warn!(target: "hotbay::denied", %service, request_id, capability, authority, reason, "outbound request denied");
            }
            FailureKind::Missing => {
                warn!(target: "hotbay::calls", %service, request_id, authority, reason, "call to a service that is not there");
            }
            FailureKind::Ended(_) => {
                warn!(target: "hotbay::outbound", %service, request_id, authority, reason, "outbound request failed");
            }
        }
    }
}
