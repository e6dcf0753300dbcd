//! The outbound side of one revision: what it may ask and call, and each request to another host from its permit to its response.

use super::{
    asker::Asker,
    body::{Held, ResponseBody},
    failure::{Failure, FailureKind},
    network::Network,
    pool::{Connection, Pool},
    share::Share,
    tally::Tally,
    tcp::TcpClient,
};
use crate::{
    capabilities::{
        Denials, ServiceCaller,
        calls::{Callee, Callees, service_of},
    },
    config::{Grants, INTERNAL, Origin, ServiceName},
    hop_by_hop,
    telemetry::{OutboundResult, ServiceMetrics},
};
use http::{HeaderValue, Method, Request, Response, StatusCode, Uri, Version, header};
use http_body::Body as _;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use std::{sync::Arc, time::Duration};
use tokio::{
    sync::OwnedSemaphorePermit,
    time::{Instant, timeout, timeout_at},
};
use tokio_rustls::TlsConnector;
use wasmtime_wasi_http::{Error, RequestOptions, WasiBody};

/// What one revision may ask of other hosts, and what it has under way. Its connections are its own and end with it.
pub(crate) struct OutboundClient {
    service: ServiceName,
    metrics: Arc<ServiceMetrics>,
    grants: Grants,
    pub(super) callees: Callees,
    /// Absent where nothing is granted.
    open: Option<Open>,
    /// Likewise.
    tcp: Option<Arc<TcpClient>>,
}

/// The ways out that guests have, as far as they are granted: one a host, shared by all revisions.
#[derive(Clone)]
pub struct Reach {
    /// To other hosts.
    pub network: Arc<Network>,
    /// To other services; absent where there are none, while a file is checked.
    pub services: Option<Arc<dyn ServiceCaller>>,
}

/// Where a request that was admitted goes.
pub(super) enum Destination {
    Host(Origin),
    Service(Arc<Callee>),
}

struct Open {
    network: Arc<Network>,
    tls: TlsConnector,
    pool: Arc<Pool>,
    /// That of the service: its other revisions ask from it too.
    share: Arc<Share>,
}

/// A response head, and what is in use until the body behind it has ended.
struct Exchanged {
    response: Response<Incoming>,
    connection: Connection,
    permit: OwnedSemaphorePermit,
}

/// The times of one request.
struct Times {
    connect: Duration,
    first_byte: Duration,
    between_bytes: Duration,
}

impl OutboundClient {
    pub(crate) fn new(service: ServiceName, metrics: Arc<ServiceMetrics>, grants: Grants, reach: &Reach) -> Arc<Self> {
        let Reach { network, services } = reach;
        let config = &network.config;
        let open = grants.any_http().then(|| Open {
            tls: network.tls(),
            pool: Pool::new(config.connections.as_usize(), network.places.clone(), config.idle.0),
            share: network.shares.of(&service, config),
            network: network.clone(),
        });
        let callees = Callees::new(&service, &grants, &metrics, services.clone());
        let tcp = TcpClient::new(&service, &metrics, &grants, network);
        Arc::new(Self { service, metrics, grants, callees, open, tcp })
    }

    /// What it may reach over TCP.
    pub(super) fn tcp(&self) -> Option<&Arc<TcpClient>> {
        self.tcp.as_ref()
    }

    /// What is counted of the service.
    pub(super) fn metrics(&self) -> &Arc<ServiceMetrics> {
        &self.metrics
    }

    /// The line of `[grants]` that allows TCP connections there beside what is granted.
    pub(super) fn line_with_tcp(&self, destination: &str) -> String {
        self.grants.line_with_tcp(destination)
    }

    pub(super) fn asker(&self, request_id: &str, denials: &Denials) -> Arc<Asker> {
        Arc::new(Asker::new(self.service.clone(), request_id.to_owned(), denials.clone()))
    }

    /// Where the request goes, if that is granted. Addresses behind a name are looked at when they are dialled.
    pub(super) fn admit(&self, method: &Method, uri: &Uri) -> Result<Destination, Failure> {
        let admitted = self.admitted(method, uri);
        if let Err(Failure { kind: FailureKind::Denied(capability), .. }) = &admitted {
            self.metrics.denied(*capability);
        }
        admitted
    }

    fn admitted(&self, method: &Method, uri: &Uri) -> Result<Destination, Failure> {
        let origin = Origin::of(uri).map_err(Failure::no_origin)?;
        let destination = if origin.is_within(INTERNAL) {
            let denied = || Failure::denied_call().allowed_by(service_of(&origin).map(|name| self.grants.line_with_call(name)));
            Destination::Service(self.callees.find(&origin).ok_or_else(denied)?.clone())
        } else if self.grants.allow_http(&origin) {
            Destination::Host(origin)
        } else {
            let grant = self.grants.line_with_http(&origin);
            return Err(Failure::denied(Error::HttpRequestDenied, "not granted").allowed_by(grant));
        };
        if *method == Method::CONNECT {
            return Err(Failure::tunnel());
        }
        Ok(destination)
    }

    /// Sends a request that was admitted and returns when the head of its response is there.
    pub(super) async fn send(
        &self,
        origin: Origin,
        request: Request<WasiBody>,
        options: Option<RequestOptions>,
        asker: Arc<Asker>,
    ) -> Result<Response<WasiBody>, Error> {
        let Some(open) = &self.open else {
            return Err(Error::HttpRequestDenied);
        };
        let mut tally = Tally::new(self.metrics.clone());
        let times = open.times(options);
        match open.exchange(&origin, request, &times).await {
            Ok(Exchanged { response, connection, permit }) => {
                tally.is(OutboundResult::Answered);
                let (pool, limit) = (open.pool.clone(), open.network.config.response_body);
                let body = |incoming| {
                    let held = Held { incoming, connection, pool, origin, tally, asker, _permit: permit };
                    ResponseBody::new(held, limit, times.between_bytes).boxed_unsync()
                };
                Ok(response.map(body))
            }
            Err(failure) => {
                match failure.kind {
                    FailureKind::Ended(result) => tally.is(result),
                    FailureKind::Denied(capability) => {
                        tally.is(OutboundResult::Failed);
                        self.metrics.denied(capability);
                    }
                    FailureKind::Missing => tally.is(OutboundResult::Failed),
                }
                asker.tell(&origin, &failure);
                Err(failure.error)
            }
        }
    }
}

impl Open {
    /// What the guest asks for, and no more than the host allows.
    fn times(&self, options: Option<RequestOptions>) -> Times {
        let (options, config) = (options.unwrap_or_default(), &self.network.config);
        let at_most = |asked: Option<Duration>, most: Duration| asked.map_or(most, |asked| asked.min(most));
        Times {
            connect: at_most(options.connect_timeout, config.connect_timeout.0),
            first_byte: at_most(options.first_byte_timeout, config.first_byte_timeout.0),
            between_bytes: at_most(options.between_bytes_timeout, config.between_bytes_timeout.0),
        }
    }

    async fn exchange(&self, origin: &Origin, request: Request<WasiBody>, times: &Times) -> Result<Exchanged, Failure> {
        let until = Instant::now() + times.connect;
        let permit = match timeout_at(until, self.share.requests.clone().acquire_owned()).await {
            Ok(Ok(permit)) => permit,
            _ => {
                let reason = "as many requests are under way as may be (outbound.requests)";
                return Err(Failure::limit(Error::ConnectionLimitReached, reason));
            }
        };
        let mut request = addressed(request, origin)?;
        // Only a connection that rested is tried in vain, and each of them once.
        let (mut response, connection) = loop {
            let (mut connection, rested) = match self.pool.take(origin) {
                Some(connection) => (connection, true),
                None => (self.connect(origin, until).await?, false),
            };
            match timeout(times.first_byte, connection.send(request)).await {
                Ok(Ok(response)) => break (response, connection),
                // Closed by the other side while it rested: nothing of the request was sent.
                Ok(Err(mut error)) => match error.take_message() {
                    Some(unsent) if rested => request = unsent,
                    _ => return Err(Failure::http(error.error(), false)),
                },
                Err(_) => {
                    let reason = format!("no response head within {:?}", times.first_byte);
                    return Err(Failure::timeout(Error::ConnectionReadTimeout, reason));
                }
            }
        };
        if response.status() == StatusCode::SWITCHING_PROTOCOLS {
            return Err(Failure::failed(Error::HttpUpgradeFailed, "it changed the protocol, which nobody asked for"));
        }
        let limit = self.network.config.response_body;
        if let Some(size) = response.body().size_hint().exact().filter(|size| *size > limit.0) {
            return Err(Failure::too_large(Some(size), limit));
        }
        hop_by_hop::strip(response.headers_mut());
        Ok(Exchanged { response, connection, permit })
    }

    async fn connect(&self, origin: &Origin, until: Instant) -> Result<Connection, Failure> {
        let place = self.pool.place(until).await?;
        let io = self.network.dial(origin, &self.tls, &self.share.look_ups, until).await?;
        Connection::new(io, place).await
    }
}

/// The request as it goes over a connection to `origin`: a target without host, and a `Host` that is the origin's.
fn addressed(request: Request<WasiBody>, origin: &Origin) -> Result<Request<WasiBody>, Failure> {
    let (mut parts, body) = request.into_parts();
    let invalid = |error: &dyn std::fmt::Display| Failure::failed(Error::HttpRequestUriInvalid, error.to_string());
    let target = parts.uri.path_and_query().map_or("/", |target| target.as_str());
    let target = if target.starts_with('/') { Uri::try_from(target) } else { Uri::try_from(format!("/{target}")) };
    parts.uri = target.map_err(|error| invalid(&error))?;
    parts.version = Version::HTTP_11;
    hop_by_hop::strip(&mut parts.headers);
    let host = HeaderValue::from_str(&origin.authority()).map_err(|error| invalid(&error))?;
    parts.headers.insert(header::HOST, host);
    Ok(Request::from_parts(parts, body))
}
