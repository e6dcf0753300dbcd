//! The TCP side of one revision: where it may connect, and the places for its sockets.

use super::super::{asker::Asker, failure::Failure, network::Network, share::Share};
use crate::{
    capabilities::Denials,
    config::{Grants, Host, ServiceName, TcpGrant, line_with_tcp},
    telemetry::{Connected, ServiceMetrics},
};
use std::{net::IpAddr, sync::Arc};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::timeout,
};
use wasmtime_wasi_http::Error;

/// What one revision may reach over TCP.
pub(crate) struct TcpClient {
    pub(super) service: ServiceName,
    pub(super) metrics: Arc<ServiceMetrics>,
    grants: Vec<TcpGrant>,
    network: Arc<Network>,
    share: Arc<Share>,
}

/// One of `outbound.tcp_connections`, and one of those of the whole host, held by a socket.
pub(super) struct Place {
    _own: OwnedSemaphorePermit,
    _of_all: OwnedSemaphorePermit,
    _counted: Connected,
}

impl TcpClient {
    /// None where nothing is granted.
    pub(in super::super) fn new(
        service: &ServiceName,
        metrics: &Arc<ServiceMetrics>,
        grants: &Grants,
        network: &Arc<Network>,
    ) -> Option<Arc<Self>> {
        let granted = !grants.tcp().is_empty();
        let made = || Self {
            service: service.clone(),
            metrics: metrics.clone(),
            grants: grants.tcp().to_vec(),
            network: network.clone(),
            share: network.shares.of(service, &network.config),
        };
        granted.then(|| Arc::new(made()))
    }

    pub(super) fn asker(&self, request_id: &str, denials: &Denials) -> Arc<Asker> {
        Arc::new(Asker::new(self.service.clone(), request_id.to_owned(), denials.clone()))
    }

    /// The line of `[grants]` that allows connections there beside what is granted.
    pub(super) fn line_with(&self, destination: &str) -> String {
        line_with_tcp(&self.grants, destination)
    }

    /// The grants for `port`.
    pub(super) fn of_port(&self, port: u16) -> impl Iterator<Item = &TcpGrant> {
        self.grants.iter().filter(move |grant| grant.port() == port)
    }

    /// Whether any grant names this very host, with whatever port.
    pub(super) fn names(&self, host: &Host) -> bool {
        self.grants.iter().any(|grant| grant.host() == host)
    }

    /// The addresses of a host that a grant names, those that may be reached by it.
    pub(super) async fn addresses(&self, host: &Host) -> Result<Vec<IpAddr>, Failure> {
        let most = self.network.config.connect_timeout.0;
        match timeout(most, self.network.addresses(host, &self.share.look_ups)).await {
            Ok(found) => found,
            Err(_) => Err(Failure::timeout(Error::DnsTimeout, format!("`{host}` was not found within {most:?}"))),
        }
    }

    /// A place for one more socket, where there is one.
    pub(super) fn place(&self) -> Option<Place> {
        let taken = |places: &Arc<Semaphore>| places.clone().try_acquire_owned().ok();
        let place = taken(&self.share.sockets).zip(taken(&self.network.sockets));
        if place.is_none() {
            self.metrics.socket_refused();
        }
        place.map(|(own, of_all)| Place { _own: own, _of_all: of_all, _counted: self.metrics.socket() })
    }
}
