//! The way out of the host: names, addresses, TCP and TLS. One a host, shared by all revisions.

use super::{address::is_public, failure::Failure, resolver::Resolver, share::Shares};
use crate::config::{Host, LOCALHOST, Origin, OutboundConfig};
use rustls::{
    ClientConfig, RootCertStore,
    client::Resumption,
    crypto::ring,
    pki_types::{CertificateDer, ServerName, pem::PemObject},
};
use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    path::Path,
    sync::Arc,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    sync::Semaphore,
    time::{Instant, timeout_at},
};
use tokio_rustls::TlsConnector;
use tracing::{info, warn};
use wasmtime_wasi_http::Error;

/// Addresses of one name that are tried.
const ADDRESSES_MAX: usize = 8;
/// TLS sessions of one revision that can be resumed.
const SESSIONS_MAX: usize = 64;

/// Why there is no way out.
#[derive(Debug, thiserror::Error)]
pub enum NetworkError {
    /// `outbound.ca_file` holds no certificates.
    #[error("outbound.ca_file `{path}` cannot be used: {reason}; name a file of certificates in PEM, or take the key out")]
    CaFile {
        /// The file.
        path: String,
        /// The reason.
        reason: String,
    },
    /// The libraries refuse these settings.
    #[error("outbound requests cannot be set up: {0}")]
    Setup(String),
}

/// What all revisions share of the way out.
pub struct Network {
    pub(super) config: OutboundConfig,
    /// Connections of all services together.
    pub(super) places: Arc<Semaphore>,
    /// TCP sockets of all services together.
    pub(super) sockets: Arc<Semaphore>,
    pub(super) shares: Shares,
    resolver: Resolver,
    tls: ClientConfig,
}

/// Bytes both ways.
pub(super) trait Io: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Io for T {}

impl Network {
    /// Reads the certificates that are trusted: the system's and those of `ca_file`.
    ///
    /// # Errors
    /// Where `ca_file` is of no use. A system without certificates is told in the log.
    pub fn new(config: OutboundConfig) -> Result<Arc<Self>, NetworkError> {
        let mut roots = RootCertStore::empty();
        let system = rustls_native_certs::load_native_certs();
        for error in system.errors {
            warn!(%error, "a certificate of the system cannot be read and is not trusted");
        }
        // What a system has gathered over the years is not all well-formed; the rest counts.
        roots.add_parsable_certificates(system.certs);
        if let Some(path) = &config.ca_file {
            trust(&mut roots, path).map_err(|reason| NetworkError::CaFile { path: path.display().to_string(), reason })?;
        }
        if roots.is_empty() {
            info!(
                "this system has no root certificates: https of guests fails until they are installed, or outbound.ca_file is set"
            );
        }
        let setup = |error: &dyn std::fmt::Display| NetworkError::Setup(error.to_string());
        let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()));
        let builder = builder.with_safe_default_protocol_versions().map_err(|error| setup(&error))?;
        let mut tls = builder.with_root_certificates(roots).with_no_client_auth();
        tls.alpn_protocols = vec![b"http/1.1".to_vec()];
        let resolver = Resolver::new(&config).map_err(|error| setup(&error))?;
        let places = Arc::new(Semaphore::new(config.all_connections()));
        let sockets = Arc::new(Semaphore::new(config.all_tcp_connections()));
        Ok(Arc::new(Self { config, places, sockets, shares: Shares::default(), resolver, tls }))
    }

    /// TLS with those that are trusted, for what is no HTTP.
    pub(in crate::capabilities) fn trusting(&self) -> Arc<ClientConfig> {
        let mut config = self.tls.clone();
        config.alpn_protocols.clear();
        Arc::new(config)
    }

    /// TLS for one revision: sessions of one are not resumed by another.
    pub(super) fn tls(&self) -> TlsConnector {
        let mut config = self.tls.clone();
        config.resumption = Resumption::in_memory_sessions(SESSIONS_MAX);
        Arc::new(config).into()
    }

    /// A connection to `origin`, which a grant must cover. `look_ups` are the places of the one that asks.
    ///
    /// The name is looked up once, and what is dialled is one of the addresses that were found and allowed then: an answer
    /// that changes afterwards changes nothing.
    pub(super) async fn dial(
        &self,
        origin: &Origin,
        tls: &TlsConnector,
        look_ups: &Arc<Semaphore>,
        until: Instant,
    ) -> Result<Box<dyn Io>, Failure> {
        let addresses = timeout_at(until, self.addresses(&origin.host, look_ups)).await;
        let addresses = addresses.map_err(|_| Failure::timeout(Error::DnsTimeout, "its name was not found in time"))??;
        let stream = connect(&addresses, origin.port, until).await?;
        if !origin.tls {
            return Ok(Box::new(stream));
        }
        let name = match &origin.host {
            Host::Domain(name) => ServerName::try_from(name.clone()).map_err(|error| Failure::no_name(name, error))?,
            Host::Ipv4(address) => IpAddr::V4(*address).into(),
            Host::Ipv6(address) => IpAddr::V6(*address).into(),
        };
        match timeout_at(until, tls.connect(name, stream)).await {
            Ok(Ok(stream)) => Ok(Box::new(stream)),
            Ok(Err(error)) => Err(Failure::tls(&error)),
            Err(_) => Err(Failure::timeout(Error::ConnectionTimeout, "TLS was not agreed on in time")),
        }
    }

    /// The addresses of a host that a grant covers which may be dialled.
    pub(super) async fn addresses(&self, host: &Host, look_ups: &Arc<Semaphore>) -> Result<Vec<IpAddr>, Failure> {
        let name = match host {
            // The grant names this very address, or it would not cover it.
            Host::Ipv4(address) => return Ok(vec![(*address).into()]),
            Host::Ipv6(address) => return Ok(vec![(*address).into()]),
            // The name stands for these addresses, whatever a resolver says (RFC 6761 §6.3).
            Host::Domain(name) if name == LOCALHOST => {
                return Ok(vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()]);
            }
            Host::Domain(name) => name,
        };
        let found = self.resolver.addresses(name, look_ups).await?;
        let allowed: Vec<_> = found.iter().copied().filter(|address| is_public(*address)).take(ADDRESSES_MAX).collect();
        match found.first() {
            None => Err(Failure::no_name(name, "it has no address")),
            Some(address) if allowed.is_empty() => Err(Failure::denied(
                Error::DestinationIpProhibited,
                format!(
                    "`{name}` leads to {address}, which is not of the public network: only a grant of that very address allows it"
                ),
            )),
            Some(_) => Ok(allowed),
        }
    }
}

/// Tries one address after another, each for its share of the time that is left.
async fn connect(addresses: &[IpAddr], port: u16, until: Instant) -> Result<TcpStream, Failure> {
    let mut last = Failure::timeout(Error::ConnectionTimeout, "no connection in time");
    for (tried, address) in addresses.iter().enumerate() {
        let left = until.saturating_duration_since(Instant::now());
        let share = u32::try_from(addresses.len() - tried).map_or(left, |ahead| left / ahead);
        match timeout_at(Instant::now() + share, TcpStream::connect(SocketAddr::new(*address, port))).await {
            Ok(Ok(stream)) => {
                // Small pieces of a body must not wait for one another; a stream that refuses works all the same.
                let _ = stream.set_nodelay(true);
                return Ok(stream);
            }
            Ok(Err(error)) => last = Failure::connect(&error),
            Err(_) => last = Failure::timeout(Error::ConnectionTimeout, format!("no connection to {address} in time")),
        }
    }
    Err(last)
}

fn trust(roots: &mut RootCertStore, path: &Path) -> Result<(), String> {
    let certificates = CertificateDer::pem_file_iter(path).map_err(|error| error.to_string())?;
    let mut count = 0_usize;
    for certificate in certificates {
        let certificate = certificate.map_err(|error| error.to_string())?;
        roots.add(certificate).map_err(|error| error.to_string())?;
        count += 1;
    }
    if count == 0 { Err("it holds no certificate".to_owned()) } else { Ok(()) }
}
