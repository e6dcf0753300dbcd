//! Who asks other hosts: one request of a service, and how much of it the log has told.

use super::failure::{Failure, FailureKind};
use crate::{
    capabilities::denials::{Denial, Denials, remedy},
    config::ServiceName,
    telemetry::Capability,
};
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
    denials: Denials,
    told: AtomicU32,
}

impl Asker {
    pub(super) fn new(service: ServiceName, request_id: String, denials: Denials) -> Self {
        Self { service, request_id, denials, told: AtomicU32::new(0) }
    }

    /// Tells the log how a call failed. A guest that asks in a loop fills nobody's log.
    pub(super) fn tell(&self, destination: &impl Display, failure: &Failure) {
        let reason = &failure.reason;
        match failure.kind {
            FailureKind::Denied(capability) => {
                self.denied(capability.as_str(), destination, reason, failure.grant.as_deref());
            }
            FailureKind::Missing => {
                if let Some(authority) = self.authority(destination) {
                    let (service, request_id) = (&self.service, &self.request_id);
                    warn!(target: "hotbay::calls", %service, request_id, authority, reason, "call to a service that is not there");
                    self.denials.add(|| Denial {
                        service: service.to_string(),
                        capability: Capability::Calls.as_str(),
                        destination: authority,
                        reason: reason.clone(),
                        grant: None,
                    });
                }
            }
            FailureKind::Ended(_) => {
                if let Some(authority) = self.authority(destination) {
                    let (service, request_id) = (&self.service, &self.request_id);
                    warn!(target: "hotbay::outbound", %service, request_id, authority, reason, "outbound request failed");
                }
            }
        }
    }

    /// Tells the log of a call that no grant allows, and whoever remembers. `grant` is the line that would allow it.
    pub(super) fn denied(&self, capability: &'static str, destination: &impl Display, reason: &str, grant: Option<&str>) {
        let Some(authority) = self.authority(destination) else { return };
        let (service, request_id) = (&self.service, &self.request_id);
        let remedy = grant.map(|grant| remedy(service.as_str(), grant));
        warn!(target: "hotbay::denied", %service, request_id, capability, authority, reason, remedy, "outbound request denied");
        self.denials.add(|| Denial {
            service: service.to_string(),
            capability,
            destination: authority,
            reason: reason.to_owned(),
            grant: grant.map(str::to_owned),
        });
    }

    /// Where a call went, as the log shows it; none where the request has told enough.
    fn authority(&self, destination: &impl Display) -> Option<String> {
        if self.told.fetch_add(1, Ordering::Relaxed) >= LINES_MAX {
            return None;
        }
        let mut authority = destination.to_string();
        authority.truncate(authority.floor_char_boundary(AUTHORITY_MAX));
        Some(authority)
    }
}
