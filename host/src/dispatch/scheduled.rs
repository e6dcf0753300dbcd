//! Requests that the host makes itself, by the clock: admitted, limited, observed and counted as those of clients are.

use super::{Observed, Problem, Record, Refusal, Watch, run};
use crate::{
    config::{CRON, CronEntry},
    runtime::{Call, Errand, Fault, Output, Revision},
    telemetry::{CronResult, FaultKind, new_request_id},
};
use bytes::Bytes;
use http::{HeaderName, HeaderValue, Request, Response, StatusCode, Uri, header, uri::Scheme};
use http_body_util::{BodyExt, Empty};
use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::Arc,
    time::Instant,
};

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// By this a guest knows who asks.
const USER_AGENT: HeaderValue = HeaderValue::from_static(concat!("hotbay-cron/", env!("CARGO_PKG_VERSION")));
/// There is no socket at either end.
const NOBODY: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

/// How a request of the host ended.
#[derive(Debug, Clone)]
pub(crate) struct Ended {
    /// `x-request-id`, by which its lines in the log are found.
    pub(crate) request_id: String,
    /// What it counts as.
    pub(crate) result: CronResult,
    /// What a client would have got.
    pub(crate) status: StatusCode,
    /// Why there was no response of a guest, or why it broke off.
    pub(crate) reason: Option<String>,
    /// What the host saw the guest fail by.
    pub(crate) fault: Option<FaultKind>,
}

/// Told in the completion line.
struct Schedule(HeaderValue);

impl Watch for Schedule {
    fn polled(&mut self, _: bool) {}

    fn schedule(&self) -> Option<&str> {
        self.0.to_str().ok()
    }
}

/// Asks `revision` what `entry` says, and reads the answer to its end.
pub(crate) async fn tick(revision: Arc<Revision>, entry: &CronEntry) -> Ended {
    let request_id = new_request_id();
    let mut record = Record {
        begun: Instant::now(),
        service: Some(revision.service().clone()),
        revision: Some(revision.header().clone()),
        request_id: request_id.clone(),
        caller: None,
        method: entry.method().clone(),
        path: entry.target().path().to_owned(),
        status: None,
        reason: None,
        sent: 0,
        ended: false,
        metrics: Some(revision.metrics().clone()),
        fault: None,
        watch: Schedule(entry.header().clone()),
    };
    let call = Call { errand: Errand::new(request_id.clone(), NOBODY, NOBODY), prefix: None, output: Output::default() };
    let asked = match request(&revision, entry, &request_id) {
        Ok(request) => run(revision, request, None, call).await,
        Err(error) => Err(Fault::Host(error.to_string()).into()),
    };
    let response = match asked {
        Ok(response) => response,
        Err(refusal) => {
            let ended = refused(request_id, &refusal);
            (record.status, record.reason, record.fault) = (Some(ended.status), ended.reason.clone(), ended.fault);
            record.ended = true;
            return ended;
        }
    };
    let status = response.status();
    record.status = Some(status);
    let mut body: Response<_> = response.map(|body| Observed::guest(body, record));
    while let Some(frame) = body.frame().await {
        if let Err(fault) = frame {
            let (result, reason) = (failed(fault.kind()), Some(fault.to_string()));
            return Ended { request_id, result, status, reason, fault: fault.kind() };
        }
    }
    let is_good = status.is_success() || status.is_redirection();
    let result = if is_good { CronResult::Succeeded } else { CronResult::Failed };
    Ended { request_id, result, status, reason: None, fault: None }
}

/// One request as a client would send it to the service's own host.
fn request(revision: &Revision, entry: &CronEntry, id: &str) -> http::Result<Request<Empty<Bytes>>> {
    let host = format!("{}.localhost", revision.service());
    let uri = Uri::builder().scheme(Scheme::HTTP).authority(host.as_str()).path_and_query(entry.target().clone()).build()?;
    Request::builder()
        .method(entry.method())
        .uri(uri)
        .header(header::HOST, host)
        .header(header::USER_AGENT, USER_AGENT)
        .header(REQUEST_ID, id)
        .header(CRON, entry.header())
        .body(Empty::new())
}

fn refused(request_id: String, refusal: &Refusal) -> Ended {
    let fault = match refusal {
        Refusal::Fault(fault) => fault.kind(),
        _ => None,
    };
    let status = Problem::from(refusal).status();
    Ended { request_id, result: failed(fault), status, reason: Some(refusal.to_string()), fault }
}

/// What neither the guest nor what runs it is at fault for was refused, or ended by the drain deadline.
fn failed(fault: Option<FaultKind>) -> CronResult {
    if fault.is_some() { CronResult::Fault } else { CronResult::Refused }
}
