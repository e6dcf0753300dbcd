//! What the guests of one revision may reach outside themselves, made once for all of its instances.

use crate::{
    capabilities::{Denial, KeyValue, OutboundClient, Reach, Secrets, Space},
    config::{ConfigKey, Grants, ServiceName},
    telemetry::ServiceMetrics,
};
use std::{collections::BTreeMap, sync::Arc};
use wasmtime_wasi_config::WasiConfigVariables;

/// Characters of a key that are shown.
const KEY_SHOWN: usize = 128;

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
    /// The same, for one at a time.
    pub(super) values: BTreeMap<String, String>,
    /// The settings alone.
    settings: BTreeMap<ConfigKey, String>,
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
        let settings = grants.config().iter().map(|(key, value)| (key.as_str(), value.as_str()));
        let values: BTreeMap<_, _> =
            settings.chain(secrets.iter()).map(|(key, value)| (key.to_owned(), value.to_owned())).collect();
        Arc::new(Self {
            outbound: OutboundClient::new(service.clone(), metrics.clone(), grants.clone(), &sources.reach),
            keyvalue: Arc::new(Space::new(sources.keyvalue.clone(), service, metrics.clone(), grants.keyvalue())),
            config: values.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect(),
            values,
            settings: grants.config().clone(),
            environment: grants.env().iter().map(|(name, value)| (name.to_string(), value.clone())).collect(),
            secrets,
        })
    }

    /// What a developer is told of a setting that is not set.
    pub(super) fn unset(&self, service: &ServiceName, key: String) -> Denial {
        let shown: String = key.chars().take(KEY_SHOWN).collect();
        let reason = format!("neither in `config` nor in `secrets` of {service}.toml");
        let grant = Grants::line_with_setting(&self.settings, &key);
        Denial { service: service.to_string(), capability: "config", destination: shown, reason, grant }
    }

    pub(super) fn secrets(&self) -> &Secrets {
        &self.secrets
    }
}
