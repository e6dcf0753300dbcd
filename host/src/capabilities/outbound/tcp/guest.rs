//! What one instance may do with sockets: each address and each name is held against the grants here.

use super::{
    super::{
        asker::Asker,
        failure::{Failure, FailureKind},
    },
    client::TcpClient,
    resolved::Resolved,
};
use crate::{
    capabilities::Denials,
    config::{Host, looked_up},
    telemetry::{Capability, OutboundResult},
};
use std::{
    fmt::Display,
    net::{IpAddr, SocketAddr},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};
use tokio_util::task::AbortOnDropHandle;
use wasmtime_wasi::sockets::SocketAddrUse;

/// Why a name was not found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NameFailure {
    /// No grant has it, or what it leads to may not be reached by it.
    Denied,
    /// It is no name.
    Invalid,
    /// It has no address.
    Missing,
    /// Nobody answered in time.
    Timeout,
}

/// The addresses of a name.
pub(super) type Found = Result<Vec<IpAddr>, NameFailure>;

/// One instance, as its sockets and its look-ups know it.
pub(super) struct Guest {
    pub(super) client: Arc<TcpClient>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    request_id: String,
    denials: Denials,
    /// Made at the first line of a request: most have none.
    asker: Option<Arc<Asker>>,
    resolved: Resolved,
}

impl Guest {
    pub(super) fn new(client: Arc<TcpClient>) -> Arc<Self> {
        Arc::new(Self { client, state: Mutex::default() })
    }

    pub(super) fn begin(&self, request_id: &str, denials: &Denials) {
        let mut state = self.state();
        state.request_id.clear();
        state.request_id.push_str(request_id);
        state.denials.clone_from(denials);
        state.asker = None;
    }

    /// Whether the guest may use this address so. Asked before each step of a socket that the system would hear of.
    pub(super) fn allows(&self, address: SocketAddr, usage: SocketAddrUse) -> bool {
        match usage {
            SocketAddrUse::TcpConnect if self.may_reach(address) => {
                self.client.metrics.dialled();
                true
            }
            SocketAddrUse::TcpConnect => {
                let grant = self.client.line_with(&address.to_string());
                self.deny(&address, "not granted, or not an address that was found for a granted name", Some(&grant));
                false
            }
            // Any port, as the system picks one for each connection. Nobody can listen there.
            SocketAddrUse::TcpBind if address.ip().is_unspecified() && address.port() == 0 => true,
            _ => {
                self.deny(&address, "only connections are granted: no address to bind to, and none to listen at", None);
                false
            }
        }
    }

    fn may_reach(&self, address: SocketAddr) -> bool {
        let (ip, state) = (address.ip(), self.state());
        // An IPv4 address in IPv6 is neither granted nor found, so another spelling of one gets nowhere.
        self.client.of_port(address.port()).any(|grant| match grant.host() {
            Host::Domain(name) => state.resolved.has(name, ip),
            Host::Ipv4(_) | Host::Ipv6(_) => grant.address() == Some(ip),
        })
    }

    /// Looks a name up that a grant has. What comes of it may be connected to, at the port of that grant.
    pub(super) fn look_up(self: &Arc<Self>, name: &str) -> Result<AbortOnDropHandle<Found>, NameFailure> {
        let Ok(host) = looked_up(name) else {
            self.deny(&name, "neither a name nor an address", None);
            return Err(NameFailure::Invalid);
        };
        if !self.client.names(&host) {
            let grant = self.client.line_with(&host.to_string());
            self.deny(&host, "not granted", Some(&grant));
            return Err(NameFailure::Denied);
        }
        let guest = self.clone();
        Ok(AbortOnDropHandle::new(tokio::spawn(async move { guest.found(&host).await })))
    }

    async fn found(&self, host: &Host) -> Found {
        match self.client.addresses(host).await {
            Ok(addresses) => {
                let addresses: Vec<_> = addresses.iter().map(IpAddr::to_canonical).collect();
                if let Host::Domain(name) = host {
                    self.state().resolved.add(name, &addresses);
                }
                Ok(addresses)
            }
            Err(failure) => Err(self.failed(host, &failure)),
        }
    }

    fn failed(&self, host: &Host, failure: &Failure) -> NameFailure {
        match failure.kind {
            // A name is looked for among hosts of the network, where no service is missing.
            FailureKind::Denied(_) | FailureKind::Missing => {
                self.deny(host, &failure.reason, None);
                NameFailure::Denied
            }
            FailureKind::Ended(result) => {
                self.asker().tell(host, failure);
                if result == OutboundResult::Timeout { NameFailure::Timeout } else { NameFailure::Missing }
            }
        }
    }

    fn deny(&self, destination: &impl Display, reason: &str, grant: Option<&str>) {
        self.client.metrics.denied(Capability::Tcp);
        self.asker().denied("tcp", destination, reason, grant);
    }

    fn asker(&self) -> Arc<Asker> {
        let state = &mut *self.state();
        state.asker.get_or_insert_with(|| self.client.asker(&state.request_id, &state.denials)).clone()
    }

    /// Nothing that can panic runs under the lock.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
