//! Looks names up: of the system, or of the name server that the settings name. Bounded in number here, in time by who asks.

use super::failure::Failure;
use crate::config::OutboundConfig;
use hickory_resolver::{
    TokioResolver,
    config::{LookupIpStrategy, NameServerConfig, ResolveHosts, ResolverConfig},
    net::runtime::TokioRuntimeProvider,
};
use std::{
    net::{IpAddr, SocketAddr, ToSocketAddrs},
    sync::Arc,
};
use tokio::sync::Semaphore;

/// Look-ups at once of all services. Those of the system take a thread each, and nobody can end one before its time.
const LOOK_UPS_MAX: usize = 64;
/// Look-ups at once of one service: names that nobody answers for must not take them all.
pub(super) const LOOK_UPS_OF_ONE: usize = 8;

pub(super) struct Resolver {
    /// Absent: the system is asked.
    server: Option<TokioResolver>,
    places: Arc<Semaphore>,
}

impl Resolver {
    /// # Errors
    /// Where the resolver cannot be made, which is not known to happen.
    pub(super) fn new(config: &OutboundConfig) -> Result<Self, String> {
        let server = config.nameserver.map(ask_of).transpose()?;
        Ok(Self { server, places: Arc::new(Semaphore::new(LOOK_UPS_MAX)) })
    }

    /// All addresses of `name`, of whatever kind, in the order in which they should be tried. `own` are the places of the one
    /// that asks.
    pub(super) async fn addresses(&self, name: &str, own: &Arc<Semaphore>) -> Result<Vec<IpAddr>, Failure> {
        let places = (own.clone().acquire_owned().await, self.places.clone().acquire_owned().await);
        let failed = |error: &dyn std::fmt::Display| Failure::no_name(name, error);
        match &self.server {
            Some(server) => {
                // With the dot at its end it is never tried below a domain of ours.
                let found = server.lookup_ip(format!("{name}.")).await.map_err(|error| failed(&error))?;
                Ok(found.iter().collect())
            }
            None => {
                let asked = name.to_owned();
                let found = tokio::task::spawn_blocking(move || {
                    // Held until the system has answered, and not only until nobody waits for it any more.
                    let _places = places;
                    (asked.as_str(), 0).to_socket_addrs().map(|found| found.map(|address| address.ip()).collect())
                });
                found.await.map_err(|error| failed(&error))?.map_err(|error| failed(&error))
            }
        }
    }
}

fn ask_of(server: SocketAddr) -> Result<TokioResolver, String> {
    let mut named = NameServerConfig::udp_and_tcp(server.ip());
    for connection in &mut named.connections {
        connection.port = server.port();
    }
    let config = ResolverConfig::from_name_servers(vec![named]);
    let mut builder = TokioResolver::builder_with_config(config, TokioRuntimeProvider::default());
    let options = builder.options_mut();
    options.ip_strategy = LookupIpStrategy::Ipv4AndIpv6;
    options.use_hosts_file = ResolveHosts::Never;
    builder.build().map_err(|error| error.to_string())
}
