//! Route, admit, invoke: from a request to the response of a guest. Knows neither sockets nor files.

mod calls;
mod details;
mod last_words;
mod observe;
mod problem;
mod scheduled;

pub(crate) use calls::Calls;
pub(crate) use details::{Asked, Building, Details, FirstBuild, HIDDEN, Rejected};
#[cfg(test)]
pub(crate) use last_words::LastWords;
pub(crate) use observe::{Observed, Record, Watch};
pub(crate) use problem::Problem;
pub(crate) use scheduled::{Ended, tick};

use crate::{
    config::ServiceName,
    registry::{Found, REVISION, Registry, Serving},
    runtime::{BodyError, Call, Fault, GuestBody, Revision, Tangle, Trace, bounded, invoke},
    telemetry::Limit,
};
use bytes::Bytes;
use http::{HeaderName, HeaderValue, Method, Request, Response, Uri, header, uri::PathAndQuery};
use http_body::Body;
use std::sync::{Arc, atomic::Ordering};
use tokio::sync::OwnedSemaphorePermit;

/// `x-forwarded-prefix`.
const FORWARDED_PREFIX: HeaderName = HeaderName::from_static("x-forwarded-prefix");

/// Why a request did not get a guest's response.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Refusal {
    /// No route.
    #[error("no service answers {host}{path}")]
    NoRoute {
        /// The host asked for.
        host: String,
        /// The path asked for.
        path: String,
    },
    /// No route yet.
    #[error("the host is starting and has not read its whole bay yet")]
    Starting,
    /// A route, not for this method.
    #[error("the path does not take this method; it takes {allow}")]
    Method {
        /// The value of `Allow`.
        allow: String,
    },
    /// The service has no revision that ever was good.
    #[error("the service {0} has no good revision: its build was rejected, see the log, or is still being loaded")]
    NoRevision(ServiceName),
    /// All permits taken, and the queue full or the wait too long.
    #[error("the service is at its limit: {0}")]
    Overloaded(&'static str),
    /// The call that makes the request closes a circle, or goes too deep.
    #[error(transparent)]
    Tangled(#[from] Tangle),
    /// Nobody waits any more for what was called.
    #[error("the deadline of its caller is over")]
    CallerDeadline,
    /// The guest failed.
    #[error(transparent)]
    Fault(#[from] Fault),
}

/// A response or its refusal, and the revision that the request was pinned to.
pub(crate) struct Dispatched {
    /// Absent where no revision was reached.
    pub revision: Option<Arc<Revision>>,
    /// What came of it.
    pub outcome: Result<Response<GuestBody>, Refusal>,
}

/// Sends one request to the revision that serves it. The table is loaded once, which pins the version for the whole request.
pub(crate) async fn dispatch<B>(registry: &Registry, mut request: Request<B>, host: &str, call: Call) -> Dispatched
where
    B: Body<Data = Bytes> + Send + Unpin + 'static,
    B::Error: Into<BodyError>,
{
    let (revision, strip) = match find(registry, &mut request, host) {
        Ok(found) => found,
        Err(refusal) => return Dispatched { revision: None, outcome: Err(refusal) },
    };
    let outcome = run(revision.clone(), request, strip, call).await;
    Dispatched { revision: Some(revision), outcome }
}

fn find<B>(registry: &Registry, request: &mut Request<B>, host: &str) -> Result<(Arc<Revision>, Option<Arc<str>>), Refusal> {
    let path = request.uri().path();
    match registry.table().find(host, path, request.method()) {
        Found::Hit(target) => Ok((pick(&target.serving, request)?, target.strip.clone())),
        Found::WrongMethod(allow) => Err(Refusal::Method { allow }),
        Found::Nothing => Err(Refusal::NoRoute { host: host.to_owned(), path: path.to_owned() }),
        Found::StillLoading => Err(Refusal::Starting),
    }
}

/// The revision of a service that gets this request.
fn pick<B>(serving: &Serving, request: &mut Request<B>) -> Result<Arc<Revision>, Refusal> {
    match serving {
        Serving::Up(revision) => Ok(revision.clone()),
        Serving::Split(split) => {
            let revision = split.pick(request.headers()).clone();
            if split.is_asked() {
                request.headers_mut().remove(REVISION);
            }
            Ok(revision)
        }
        Serving::Down(name) => Err(Refusal::NoRevision(name.clone())),
    }
}

async fn run<B>(
    revision: Arc<Revision>,
    request: Request<B>,
    strip: Option<Arc<str>>,
    mut call: Call,
) -> Result<Response<GuestBody>, Refusal>
where
    B: Body<Data = Bytes> + Send + Unpin + 'static,
    B::Error: Into<BodyError>,
{
    let limit = revision.settings().limits.request_body;
    let metrics = revision.metrics().clone();
    if request.body().size_hint().lower() > limit.0 {
        metrics.refused(Limit::RequestBody);
        return Err(Fault::RequestTooLarge(limit).into());
    }
    // Counted while it waits as well: what waits takes room too.
    let claim = revision.account().request().map_err(Fault::Full)?;
    let permit = admit(&revision).await?;
    let (mut parts, body) = request.into_parts();
    if let Some(prefix) = strip.as_deref() {
        take_off(&mut parts.uri, prefix);
        // A prefix was part of a path pattern, whose characters a header value takes.
        if let Ok(value) = HeaderValue::from_str(prefix) {
            parts.headers.insert(FORWARDED_PREFIX, value);
        }
    }
    let (body, inbound) = bounded(body, limit.0);
    call.prefix = strip;
    if !revision.settings().grants.calls().is_empty() {
        call.errand.trace = Trace::of(&parts.headers);
    }
    let outcome = invoke(revision, Request::from_parts(parts, body), &inbound, call, (permit, claim)).await;
    // Whatever the guest made of a body that was cut, the client is told why.
    if inbound.was_cut() {
        metrics.refused(Limit::RequestBody);
        return Err(Fault::RequestTooLarge(limit).into());
    }
    match outcome {
        // A guest that fails over a body that its client broke is not at fault.
        Err(_) if inbound.was_broken() => Err(Fault::BadRequest("the request body broke off or is no HTTP").into()),
        outcome => Ok(outcome?),
    }
}

/// Why there was no permit.
struct Overloaded(&'static str);

impl From<Overloaded> for Refusal {
    fn from(Overloaded(reason): Overloaded) -> Self {
        Self::Overloaded(reason)
    }
}

/// A permit of the service: at once, or after a wait in a bounded, fair queue.
async fn admit(revision: &Revision) -> Result<OwnedSemaphorePermit, Overloaded> {
    if let Ok(permit) = revision.permits().clone().try_acquire_owned() {
        return Ok(permit);
    }
    revision.metrics().must_wait();
    let limits = &revision.settings().limits;
    let Some(_place) = QueuePlace::take(revision) else {
        revision.metrics().refused(Limit::Queue);
        return Err(Overloaded("all permits (limits.concurrency) are taken and the queue (limits.queue) is full"));
    };
    match tokio::time::timeout(limits.queue_wait.0, revision.permits().clone().acquire_owned()).await {
        Ok(Ok(permit)) => Ok(permit),
        _ => {
            revision.metrics().refused(Limit::QueueWait);
            Err(Overloaded("no permit was free within limits.queue_wait"))
        }
    }
}

/// A place in the queue, given back when dropped: a client that leaves while it waits frees it too.
struct QueuePlace<'a>(&'a Revision);

impl<'a> QueuePlace<'a> {
    fn take(revision: &'a Revision) -> Option<Self> {
        let taken = revision.waiting().fetch_add(1, Ordering::Relaxed);
        let place = Self(revision);
        (taken < revision.settings().limits.queue).then_some(place)
    }
}

impl Drop for QueuePlace<'_> {
    fn drop(&mut self) {
        self.0.waiting().fetch_sub(1, Ordering::Relaxed);
    }
}

/// Takes `prefix` off the path: `/orders/7?x` becomes `/7?x`, `/orders` becomes `/`. The query stays as it was, byte for byte.
fn take_off(uri: &mut Uri, prefix: &str) {
    let Some(rest) = uri.path_and_query().and_then(|path| path.as_str().strip_prefix(prefix)) else {
        return;
    };
    let path = if rest.starts_with('/') { rest.to_owned() } else { format!("/{rest}") };
    let mut parts = uri.clone().into_parts();
    if let Ok(path) = PathAndQuery::try_from(path) {
        parts.path_and_query = Some(path);
        if let Ok(stripped) = Uri::from_parts(parts) {
            *uri = stripped;
        }
    }
}

/// A response to HEAD has no body to tell its length, so the length is said where it is known (RFC 9110 §9.3.2).
pub(crate) fn head_length<B: Body>(method: &Method, response: &mut Response<B>) {
    if method == Method::HEAD
        && !response.headers().contains_key(header::CONTENT_LENGTH)
        && let Some(len) = response.body().size_hint().exact().filter(|len| *len > 0)
    {
        response.headers_mut().insert(header::CONTENT_LENGTH, HeaderValue::from(len));
    }
}
