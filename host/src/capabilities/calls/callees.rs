//! The services that one revision may call, looked up once; each call from its grant to its answer.

use super::{Errand, ServiceCall, ServiceCaller, answer::Answer};
use crate::{
    config::{CRON, Grants, Host, INTERNAL, Origin, ServiceName},
    hop_by_hop,
    telemetry::{CallMetrics, ServiceMetrics},
};
use http::{
    HeaderName, HeaderValue, Request, Response, Uri, Version, header,
    uri::{Authority, PathAndQuery, Scheme},
};
use http_body_util::BodyExt;
use std::sync::Arc;
use tokio::time::timeout;
use tokio_util::task::AbortOnDropHandle;
use wasmtime_wasi_http::{Error, RequestOptions, WasiBody};

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// What one revision may call.
pub(crate) struct Callees {
    caller: ServiceName,
    granted: Vec<Arc<Callee>>,
    /// Absent where there are no services: while a file is checked.
    services: Option<Arc<dyn ServiceCaller>>,
}

/// One service that may be called, whether it is there or not.
pub(crate) struct Callee {
    service: ServiceName,
    authority: Authority,
    host: HeaderValue,
    metrics: Arc<CallMetrics>,
}

/// Why there is no answer.
pub(crate) enum Unanswered {
    /// There is no such service.
    Missing,
    /// This is what the guest is told; nobody else need know.
    Told(Error),
}

impl Callee {
    /// The host by which it is called.
    pub(crate) fn authority(&self) -> &Authority {
        &self.authority
    }
}

impl Callees {
    pub(crate) fn new(
        caller: &ServiceName,
        grants: &Grants,
        metrics: &ServiceMetrics,
        services: Option<Arc<dyn ServiceCaller>>,
    ) -> Self {
        let callee = |service: &ServiceName| {
            let host = format!("{service}.{INTERNAL}");
            // The characters of a service's name are those of a host.
            let (authority, value) = (host.parse().ok()?, HeaderValue::from_str(&host).ok()?);
            let metrics = metrics.calls_to(service.as_str());
            Some(Arc::new(Callee { service: service.clone(), authority, host: value, metrics }))
        };
        Self { caller: caller.clone(), granted: grants.calls().iter().filter_map(callee).collect(), services }
    }

    /// Whether any call is granted.
    pub(crate) fn any(&self) -> bool {
        !self.granted.is_empty()
    }

    /// The service at `origin`, if it may be called. There are no others, as far as the caller can tell.
    pub(crate) fn find(&self, origin: &Origin) -> Option<&Arc<Callee>> {
        let name = name_of(origin)?;
        self.granted.iter().find(|callee| callee.service.as_str() == name)
    }

    /// Calls. `apart` says whether the future that is returned is polled apart from the caller's store; else a task of its own
    /// carries the call out, which ends with the future.
    pub(crate) fn call<H: Send + Unpin + 'static>(
        &self,
        callee: &Arc<Callee>,
        request: Request<WasiBody>,
        options: Option<RequestOptions>,
        errand: Errand,
        apart: bool,
        held: H,
    ) -> impl Future<Output = Result<Response<WasiBody>, Unanswered>> + Send + use<H> {
        let mut tally = Tally { metrics: callee.metrics.clone(), status: None };
        let options = options.unwrap_or_default();
        let called = self.services.as_ref().map(|services| {
            let errand = errand.identified();
            let request = addressed(request, callee, &errand);
            services.call(ServiceCall { caller: self.caller.clone(), callee: callee.service.clone(), request, errand })
        });
        let called = called.map(|called| if apart { Task::Here(called) } else { Task::spawn(called) });
        async move {
            let called = called.ok_or(Unanswered::Missing)?.ended();
            let answered = match options.first_byte_timeout {
                Some(time) => timeout(time, called).await.map_err(|_| Unanswered::Told(Error::ConnectionReadTimeout))?,
                None => called.await,
            };
            let response = answered?;
            tally.answered(response.status().as_u16());
            Ok(response.map(|body| Answer::new(body, options.between_bytes_timeout, held).boxed_unsync()))
        }
    }
}

/// The service that a call to `origin` would be for, whether there is one or not.
pub(crate) fn service_of(origin: &Origin) -> Option<ServiceName> {
    ServiceName::parse(name_of(origin)?).ok()
}

fn name_of(origin: &Origin) -> Option<&str> {
    let Host::Domain(host) = &origin.host else { return None };
    let plain = !origin.tls && origin.port == Origin::usual_port(false);
    host.strip_suffix(INTERNAL)?.strip_suffix('.').filter(|_| plain)
}

/// Where a call is carried out.
enum Task {
    Here(super::Called),
    Apart(AbortOnDropHandle<Result<Response<WasiBody>, super::NoService>>),
}

impl Task {
    fn spawn(called: super::Called) -> Self {
        Self::Apart(AbortOnDropHandle::new(tokio::spawn(called)))
    }

    async fn ended(self) -> Result<Response<WasiBody>, Unanswered> {
        let answered = match self {
            Self::Here(called) => called.await,
            Self::Apart(task) => match task.await {
                Ok(answered) => answered,
                Err(error) => return Err(Unanswered::Told(Error::InternalError(Some(error.to_string())))),
            },
        };
        answered.map_err(|super::NoService| Unanswered::Missing)
    }
}

/// The request as the callee gets it: the path as the caller wrote it, and the name by which it was called for a host.
fn addressed(request: Request<WasiBody>, callee: &Callee, errand: &Errand) -> Request<WasiBody> {
    let (mut parts, body) = request.into_parts();
    let mut uri = parts.uri.into_parts();
    uri.scheme = Some(Scheme::HTTP);
    uri.authority = Some(callee.authority.clone());
    uri.path_and_query = uri.path_and_query.map_or(Some(PathAndQuery::from_static("/")), |path| match path.as_str() {
        // Only `?query` is a target without a slash that gets here.
        query if query.starts_with('?') => format!("/{query}").parse().ok(),
        _ => Some(path),
    });
    // All three parts are there, which is all that can be wrong.
    parts.uri = Uri::from_parts(uri).unwrap_or_default();
    parts.version = Version::HTTP_11;
    hop_by_hop::strip(&mut parts.headers);
    // Only the host itself says that it is time.
    parts.headers.remove(CRON);
    parts.headers.insert(header::HOST, callee.host.clone());
    if let Ok(id) = HeaderValue::from_str(&errand.request_id) {
        parts.headers.insert(REQUEST_ID, id);
    }
    errand.trace.pass_on(&mut parts.headers);
    Request::from_parts(parts, body)
}

/// One call; counted when it is dropped, with the status that there was by then.
struct Tally {
    metrics: Arc<CallMetrics>,
    status: Option<u16>,
}

impl Tally {
    fn answered(&mut self, status: u16) {
        self.status = Some(status);
    }
}

impl Drop for Tally {
    fn drop(&mut self) {
        self.metrics.called(self.status);
    }
}
