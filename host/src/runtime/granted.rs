//! What the guests of one revision may reach outside themselves, made once for all of its instances.

use crate::{
    capabilities::{KeyValue, OutboundClient, Reach, Secrets, Space},
    config::{Grants, ServiceName},
    telemetry::ServiceMetrics,
};
use std::sync::Arc;
use wasmtime_wasi_config::WasiConfigVariables;

/// What the host has to grant from. One a host.
#[derive(Clone)]
pub struct Sources {
    /// The way to other hosts, and to other services of this one.
    pub reach: Reach,
    /// What services keep.
    pub keyvalue: Arc<KeyValue>,
}

/// What is granted to one revision.
pub(crate) struct Granted {
    pub(super) outbound: Arc<OutboundClient>,
    pub(super) keyvalue: Arc<Space>,
    /// Settings, and secrets among them.
    pub(super) config: WasiConfigVariables,
    pub(super) environment: Vec<(String, String)>,
    /// What the secrets were when it was made.
    secrets: Secrets,
}

impl Granted {
    pub(super) fn new(
        service: &ServiceName,
        grants: &Grants,
        secrets: Secrets,
        metrics: &Arc<ServiceMetrics>,
        sources: &Sources,
    ) -> Arc<Self> {
        let config = grants.config().iter().map(|(key, value)| (key.as_str(), value.as_str())).chain(secrets.iter()).collect();
        Arc::new(Self {
            outbound: OutboundClient::new(service.clone(), metrics.clone(), grants.clone(), &sources.reach),
            keyvalue: Arc::new(Space::new(sources.keyvalue.clone(), service, metrics.clone(), grants.keyvalue())),
            config,
            environment: grants.env().iter().map(|(name, value)| (name.to_string(), value.clone())).collect(),
            secrets,
        })
    }

    pub(super) fn secrets(&self) -> &Secrets {
        &self.secrets
    }
}
