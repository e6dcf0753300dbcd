//! One request and its response: checked, forwarded, dispatched, observed.

use super::{
    bad_request::BadRequest,
    dev::{Dev, Onlooker, Origin},
    forward::{self, Client},
    outgoing::Outgoing,
    watch::{Active, Activity},
};
use crate::{
    config::{HttpConfig, ServiceName},
    dispatch::{Dispatched, Observed, Problem, Record, Refusal, dispatch, head_length},
    hop_by_hop,
    registry::{REVISION, Registry},
    runtime::{Call, Errand, Output},
    telemetry::{Metrics, Unrouted, new_request_id},
};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response, Uri, Version, header, uri::Scheme};
use http_body_util::Full;
use hyper::body::Incoming;
use std::{convert::Infallible, io, net::SocketAddr, sync::Arc, time::Instant};
use tokio::net::TcpStream;

/// Header fields of one request, over HTTP/1.1 and HTTP/2 alike.
const HEADERS_MAX: usize = 100;

/// What the public listener answers from.
pub struct Edge {
    registry: Arc<Registry>,
    config: HttpConfig,
    dev: Option<Dev>,
    metrics: Arc<Metrics>,
}

impl Edge {
    /// An edge in front of `registry`; with `dev`, clients are told what the log tells, and more.
    pub fn new(registry: Arc<Registry>, config: HttpConfig, dev: Option<Dev>, metrics: Arc<Metrics>) -> Self {
        Self { registry, config, dev, metrics }
    }

    pub(super) fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    pub(super) fn config(&self) -> &HttpConfig {
        &self.config
    }
}

/// Who is at the ends of one connection.
pub(super) struct ConnectionInfo {
    peer: SocketAddr,
    local: SocketAddr,
    client: Client,
    activity: Arc<Activity>,
}

impl ConnectionInfo {
    pub(super) fn of(stream: &TcpStream, activity: Arc<Activity>) -> io::Result<Self> {
        let peer = stream.peer_addr()?;
        Ok(Self { peer, local: stream.local_addr()?, client: Client::new(peer.ip()), activity })
    }
}

/// Answers one request. The outer function observes; what is decided is decided in [`dispatch`].
pub(super) async fn exchange(
    edge: Arc<Edge>,
    connection: Arc<ConnectionInfo>,
    mut request: Request<Incoming>,
) -> Result<Response<Outgoing>, Infallible> {
    if let Some(dev) = edge.dev.as_ref().filter(|dev| dev.owns(&request)) {
        let host = host(&request).unwrap_or_default();
        let response = dev.answer(&edge.registry, &request, host, connection.activity.request());
        return Ok(response.map(|body| Outgoing::Told(Box::new(body))));
    }
    let mut aside = Aside { onlooker: edge.dev.as_ref().map(|_| Box::new(Onlooker::new(&request))), ..Aside::default() };
    let request_id = match forward::usable_id(request.headers()) {
        Some(id) => id.to_owned(),
        None => new_request_id(),
    };
    let id_header = HeaderValue::from_str(&request_id).unwrap_or(HeaderValue::from_static("-"));
    let mut record = Record {
        begun: Instant::now(),
        service: None,
        revision: None,
        request_id,
        caller: None,
        method: request.method().clone(),
        path: request.uri().path().to_owned(),
        status: None,
        reason: None,
        sent: 0,
        ended: false,
        metrics: None,
        fault: None,
        watch: connection.activity.request(),
    };
    let host = match check(&edge, &connection, &mut request) {
        Ok(host) => host,
        Err(bad) => {
            edge.metrics.unrouted(bad.unrouted());
            return Ok(refuse(&edge, (&bad).into(), bad.to_string(), record, id_header, aside));
        }
    };
    hop_by_hop::strip(request.headers_mut());
    forward::set_forwarded(request.headers_mut(), &connection.client, &host, &id_header);
    let errand = Errand::new(record.request_id.clone(), connection.peer, connection.local);
    let mut call = Call { errand, prefix: None, output: Output::default() };
    if let Some(onlooker) = &aside.onlooker {
        (call.errand.denials, call.output) = (onlooker.denials(), onlooker.output());
    }
    let Dispatched { revision, outcome } = dispatch(&edge.registry, request, &host, call).await;
    if let Some(revision) = &revision {
        record.metrics = Some(revision.metrics().clone());
        record.service = Some(revision.service().clone());
        record.revision = Some(revision.header().clone());
        aside.serial = Some(revision.serial());
    }
    aside.host = Some(&host);
    Ok(match outcome {
        Ok(mut response) => {
            record.status = Some(response.status());
            hop_by_hop::strip(response.headers_mut());
            finish(&edge, response.headers_mut(), &record, id_header);
            head_length(&record.method, &mut response);
            let more = aside.amend(&edge, &mut response, record.service.as_ref());
            response.map(|body| Outgoing::new(Observed::guest(body, record), more))
        }
        Err(refusal) => {
            match &refusal {
                Refusal::NoRoute { .. } => edge.metrics.unrouted(Unrouted::NoRoute),
                Refusal::Method { .. } => edge.metrics.unrouted(Unrouted::Method),
                Refusal::Starting => edge.metrics.unrouted(Unrouted::Starting),
                Refusal::NoRevision(name) => {
                    edge.metrics.unrouted(Unrouted::NoRevision);
                    record.service = Some(name.clone());
                }
                Refusal::Fault(fault) => record.fault = fault.kind(),
                Refusal::Overloaded(_) | Refusal::Tangled(_) | Refusal::CallerDeadline => {}
            }
            refuse(&edge, (&refusal).into(), refusal.to_string(), record, id_header, aside)
        }
    })
}

fn refuse(
    edge: &Edge,
    problem: Problem<'_>,
    reason: String,
    mut record: Record<Active>,
    id: HeaderValue,
    aside: Aside<'_>,
) -> Response<Outgoing> {
    record.status = Some(problem.status());
    record.reason = Some(reason);
    let mut response = aside.problem(edge, &problem, &record).map(Full::from);
    head_length(&record.method, &mut response);
    finish(edge, response.headers_mut(), &record, id);
    response.map(|body| Outgoing::Plain(Observed::host(body, record)))
}

/// What the edge of a host with `--dev` keeps of a request beside its record; without, nothing.
#[derive(Default)]
struct Aside<'a> {
    onlooker: Option<Box<Onlooker>>,
    /// The host that was asked for, once it is known.
    host: Option<&'a str>,
    /// The number of the revision.
    serial: Option<u64>,
}

impl Aside<'_> {
    /// What is sent behind a guest's response.
    fn amend<B>(&self, edge: &Edge, response: &mut Response<B>, service: Option<&ServiceName>) -> Option<Bytes> {
        let (dev, onlooker) = edge.dev.as_ref().zip(self.onlooker.as_deref())?;
        dev.amend(onlooker, service?, self.serial?, response)
    }

    /// An error as this client gets it.
    fn problem(self, edge: &Edge, problem: &Problem<'_>, record: &Record<Active>) -> Response<Bytes> {
        let (service, request_id) = (record.service.as_ref(), record.request_id.as_str());
        match (&edge.dev, self.onlooker) {
            (Some(dev), Some(onlooker)) => {
                let origin = Origin { request_id, host: self.host, service, revision: record.revision.as_ref().zip(self.serial) };
                dev.problem(&edge.registry, problem, *onlooker, origin)
            }
            _ => problem.response(service.map(ServiceName::as_str), request_id, None),
        }
    }
}

/// The headers that every response carries.
fn finish(edge: &Edge, headers: &mut HeaderMap, record: &Record<Active>, id: HeaderValue) {
    headers.insert(forward::REQUEST_ID, id);
    match &record.revision {
        Some(revision) if edge.config.revision_header => headers.insert(REVISION, revision.clone()),
        // Only the host speaks of revisions.
        _ => headers.remove(REVISION),
    };
}

/// Refuses what no service should see, and returns the host that the request is for.
fn check(edge: &Edge, connection: &ConnectionInfo, request: &mut Request<Incoming>) -> Result<String, BadRequest> {
    // Over HTTP/1.1 hyper counts them; over HTTP/2 nobody else does.
    if request.headers().len() > HEADERS_MAX {
        return Err(BadRequest::HeaderCount);
    }
    let size: usize = request.headers().iter().map(|(name, value)| name.as_str().len() + value.len() + 4).sum();
    if size + request.uri().path_and_query().map_or(0, |path| path.as_str().len()) > edge.config.header_size.as_usize() {
        return Err(BadRequest::HeaderSize(edge.config.header_size));
    }
    let host = match host(request) {
        Some(host) => host.to_owned(),
        // HTTP/1.0 knows no Host; the address that was reached is the best answer.
        None if request.version() <= Version::HTTP_10 && !request.headers().contains_key(header::HOST) => {
            connection.local.to_string()
        }
        None => return Err(BadRequest::Host),
    };
    // WASI takes the authority from the URI or from Host; with one of its own it never fails for want of it. The scheme is the
    // one that was spoken, whatever a client wrote into an absolute URI.
    let mut parts = std::mem::take(request.uri_mut()).into_parts();
    if parts.authority.is_none() {
        parts.authority = host.parse().ok();
    }
    // CONNECT has neither scheme nor path.
    parts.scheme = parts.path_and_query.is_some().then_some(Scheme::HTTP);
    *request.uri_mut() = Uri::from_parts(parts).map_err(|_| BadRequest::Host)?;
    Ok(host)
}

/// The one host of a request: the URI's where it has one (HTTP/2, absolute form), else the Host header's (RFC 9112 §3.2).
fn host(request: &Request<Incoming>) -> Option<&str> {
    let mut headers = request.headers().get_all(header::HOST).iter();
    let (header, more) = (headers.next(), headers.next().is_some());
    let header = header.map(|value| value.to_str().unwrap_or(""));
    let named = request.uri().authority().map(|authority| authority.as_str()).or(header)?;
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b':' | b'[' | b']');
    (!more && !named.is_empty() && named.len() <= 255 && named.bytes().all(plain)).then_some(named)
}
