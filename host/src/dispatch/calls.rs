//! Calls from service to service: one more request of the callee, found by its name and not by its routes. No socket between.
//! And what the runtime asks for calls of functions.

use super::{Details, Observed, Overloaded, Problem, Record, Refusal, admit, head_length, pick, run};
use crate::{
    config::ServiceName,
    hop_by_hop,
    registry::{REVISION, Registry},
    runtime::{
        BodyError, Call, Called, Denials, Due, Errand, Fault, GuestBody, Link, Links, NoService, Output, Providers, Reject,
        RequestBody, Revision, ServiceCall, ServiceCaller,
    },
};
use futures::future::BoxFuture;
use http::{HeaderName, HeaderValue, Request, Response, StatusCode, header};
use http_body::Body as _;
use http_body_util::{BodyExt, Full};
use std::{sync::Arc, time::Instant};
use tokio::sync::OwnedSemaphorePermit;

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Carries the calls of all guests out.
pub(crate) struct Calls(Arc<Shared>);

struct Shared {
    registry: Arc<Registry>,
    /// Calls one behind the other.
    depth: u32,
    dev: bool,
}

impl Calls {
    /// `depth` is `calls.depth`; `dev` tells callers what the log tells.
    pub(crate) fn new(registry: Arc<Registry>, depth: u32, dev: bool) -> Self {
        Self(Arc::new(Shared { registry, depth, dev }))
    }
}

impl ServiceCaller for Calls {
    fn call(&self, call: ServiceCall) -> Called {
        let shared = self.0.clone();
        Box::pin(async move { shared.answer(call).await })
    }
}

/// Calls of functions find their revision and their permit as requests do.
impl Providers for Calls {
    fn provider(&self, service: &ServiceName) -> Option<Arc<Revision>> {
        self.0.registry.table().provider(service).cloned()
    }

    fn queue(&self, revision: Arc<Revision>) -> BoxFuture<'static, Result<OwnedSemaphorePermit, &'static str>> {
        Box::pin(async move { admit(&revision).await.map_err(|Overloaded(reason)| reason) })
    }

    fn depth(&self) -> u32 {
        self.0.depth
    }

    fn check_imports(&self, links: &Arc<Links>) -> Result<(), Reject> {
        self.0.registry.check_imports(links)
    }
}

impl Shared {
    /// The outer function observes, as [`crate::http`] does for a client; what is decided is decided in [`Self::reach`].
    async fn answer(&self, call: ServiceCall) -> Result<Response<RequestBody>, NoService> {
        let ServiceCall { caller, callee, mut request, mut errand } = call;
        // Looked up once, which pins the revision for the whole call.
        let found = {
            let table = self.registry.table();
            match table.service(&callee) {
                Some(serving) => pick(serving, &mut request),
                None if table.is_loading() => Err(Refusal::Starting),
                None => return Err(NoService),
            }
        };
        let mut record = Record {
            begun: Instant::now(),
            service: Some(callee.clone()),
            revision: None,
            request_id: errand.request_id.clone(),
            caller: Some(caller.clone()),
            method: request.method().clone(),
            path: request.uri().path().to_owned(),
            status: None,
            reason: None,
            sent: 0,
            ended: false,
            metrics: None,
            fault: None,
            watch: (),
        };
        let output = if self.dev { Output::wanted() } else { Output::default() };
        let denials = errand.denials.clone();
        let due = errand.due.clone();
        let outcome = match self.linked(&caller, &callee, &mut errand).and(found) {
            Ok(revision) => {
                record.metrics = Some(revision.metrics().clone());
                record.revision = Some(revision.header().clone());
                reach(revision, request, errand, due, output.clone()).await
            }
            Err(refusal) => Err(refusal),
        };
        Ok(match outcome {
            Ok(response) => self.answered(response, record),
            Err(refusal) => self.refused(&refusal, record, &output, &denials),
        })
    }

    /// Makes the caller one of those who wait, unless that closes a circle or goes too deep.
    fn linked(&self, caller: &ServiceName, callee: &ServiceName, errand: &mut Errand) -> Result<(), Refusal> {
        let link = Link::new(caller.clone(), errand.chain.take());
        link.may_call(callee, self.depth)?;
        errand.chain = Some(link);
        Ok(())
    }

    fn answered(&self, mut response: Response<GuestBody>, mut record: Record<()>) -> Response<RequestBody> {
        record.status = Some(response.status());
        hop_by_hop::strip(response.headers_mut());
        head_length(&record.method, &mut response);
        body_length(&mut response);
        if let Some(revision) = &record.revision {
            response.headers_mut().insert(REVISION, revision.clone());
        }
        boxed(response.map(|body| Observed::guest(body, record)))
    }

    fn refused(&self, refusal: &Refusal, mut record: Record<()>, output: &Output, denials: &Denials) -> Response<RequestBody> {
        let problem = Problem::from(refusal);
        record.status = Some(problem.status());
        record.reason = Some(refusal.to_string());
        if let Refusal::Fault(fault) = refusal {
            record.fault = fault.kind();
        }
        // As a problem, whatever the caller's guest says that it takes: it may pass on what a browser said.
        let details =
            self.dev.then(|| Details { denied: denials.all(), ..problem.details(output.of_request(&record.request_id)) });
        let service = record.service.as_ref().map(ServiceName::as_str);
        let mut response = problem.response(service, &record.request_id, details.as_ref()).map(Full::from);
        if let Ok(id) = HeaderValue::from_str(&record.request_id) {
            response.headers_mut().insert(REQUEST_ID, id);
        }
        head_length(&record.method, &mut response);
        boxed(response.map(|body| Observed::host(body, record)))
    }
}

/// A permit of the callee and its guest, for no longer than its caller has time.
async fn reach(
    revision: Arc<Revision>,
    request: Request<RequestBody>,
    errand: Errand,
    due: Option<Arc<Due>>,
    output: Output,
) -> Result<Response<GuestBody>, Refusal> {
    let call = Call { errand, prefix: None, output };
    let running = run(revision, request, None, call);
    let Some(due) = due else {
        return running.await;
    };
    tokio::select! {
        biased;
        outcome = running => outcome,
        () = due.passed() => Err(Refusal::CallerDeadline),
    }
}

fn boxed(response: Response<Observed<()>>) -> Response<RequestBody> {
    response.map(|body| body.map_err(|fault| told(&fault)).boxed_unsync())
}

/// What the caller's guest is told where a response breaks off.
fn told(fault: &Fault) -> BodyError {
    match fault {
        Fault::ResponseTooLarge(limit) => BodyError::HttpResponseBodySize(Some(limit.0)),
        Fault::StreamIdle(_) => BodyError::ConnectionReadTimeout,
        _ => BodyError::HttpResponseIncomplete,
    }
}

/// A length that is known is said, as a connection would say it.
fn body_length(response: &mut Response<GuestBody>) {
    let bodiless = matches!(response.status(), StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
    if let Some(len) = response.body().size_hint().exact().filter(|_| !bodiless) {
        response.headers_mut().entry(header::CONTENT_LENGTH).or_insert(HeaderValue::from(len));
    }
}
