//! One completion log line a request, whatever happened: written when the response body has ended or was let go.

use crate::{
    config::ServiceName,
    runtime::{Fault, GuestBody},
    telemetry::{FaultKind, RevisionMetrics, micros},
};
use bytes::Bytes;
use http::{HeaderValue, Method, StatusCode};
use http_body::{Body, Frame, SizeHint};
use http_body_util::Full;
use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::{Duration, Instant},
};
use tracing::{Level, event, event_enabled};

/// The target of completion lines, so that a filter can leave them out.
const TARGET: &str = "hotbay::request";

/// Who is told how the response goes, beside the log.
pub(crate) trait Watch: Unpin {
    /// More of the response was asked for; `owed` says whether there was none.
    fn polled(&mut self, owed: bool);

    /// The schedule of `[[cron]]` by which the host makes the request.
    fn schedule(&self) -> Option<&str> {
        None
    }
}

/// A call from service to service has no connection.
impl Watch for () {
    fn polled(&mut self, _: bool) {}
}

/// What the completion line says. Written when it is dropped, so that a client who leaves before there is a response leaves a
/// line as well.
pub(crate) struct Record<W: Watch> {
    pub(crate) begun: Instant,
    pub(crate) service: Option<ServiceName>,
    /// `x-hotbay-revision`. Not the revision itself: a client that reads slowly must not keep a retired one alive.
    pub(crate) revision: Option<HeaderValue>,
    pub(crate) request_id: String,
    /// The service that made it; absent where a client did.
    pub(crate) caller: Option<ServiceName>,
    pub(crate) method: Method,
    pub(crate) path: String,
    /// Absent where the client left before it was known.
    pub(crate) status: Option<StatusCode>,
    /// Why there was no response of a guest, or why it broke off.
    pub(crate) reason: Option<String>,
    /// Bytes of the response body that were handed to the connection.
    pub(crate) sent: u64,
    /// Whether the response was handed over to its end, or broke off by the guest's fault.
    pub(crate) ended: bool,
    /// What it counts as; at most one fault a request.
    pub(crate) metrics: Option<Arc<RevisionMetrics>>,
    pub(crate) fault: Option<FaultKind>,
    /// Told of the response, and kept for as long.
    pub(crate) watch: W,
}

impl<W: Watch> Drop for Record<W> {
    fn drop(&mut self) {
        let took = self.begun.elapsed();
        if let Some(metrics) = &self.metrics {
            metrics.completed(self.status.map(|status| status.as_u16()), took, self.fault);
        }
        // Refusals by a limit of the client's are usual; faults of the guest or the host are not.
        let status = self.status.unwrap_or_default();
        if status.is_server_error() || self.reason.is_some() && !status.is_client_error() {
            self.write_at::<true>(took);
        } else if event_enabled!(target: TARGET, Level::INFO) {
            self.write_at::<false>(took);
        }
    }
}

impl<W: Watch> Record<W> {
    fn write_at<const FAULT: bool>(&self, took: Duration) {
        let service = self.service.as_ref().map(ServiceName::as_str);
        let revision = self.revision.as_ref().and_then(|revision| revision.to_str().ok());
        let took_us = micros(took);
        let (id, method, path, status) =
            (self.request_id.as_str(), self.method.as_str(), self.path.as_str(), self.status.map(|status| status.as_u16()));
        let (reason, sent) = (self.reason.as_deref(), self.sent);
        let (caller, schedule) = (self.caller.as_ref().map(ServiceName::as_str), self.watch.schedule());
        let message = match (self.ended, caller) {
            (true, _) => "request",
            (false, None) => "request: client gone",
            (false, Some(_)) => "request: caller gone",
        };
        macro_rules! line {
            ($level:expr) => {
                event!(target: TARGET, $level, service, revision, request_id = id, caller, schedule, method, path, status, sent, took_us, reason, "{message}")
            };
        }
        if FAULT { line!(Level::WARN) } else { line!(Level::INFO) }
    }
}

/// A response body and its record.
pub(crate) struct Observed<W: Watch> {
    body: Source,
    record: Record<W>,
}

enum Source {
    Guest(GuestBody),
    Host(Full<Bytes>),
    Nothing,
}

impl<W: Watch> Observed<W> {
    pub(crate) fn guest(body: GuestBody, record: Record<W>) -> Self {
        Self::new(Source::Guest(body), record)
    }

    pub(crate) fn host(body: Full<Bytes>, record: Record<W>) -> Self {
        Self::new(Source::Host(body), record)
    }

    /// The response to HEAD has no body (RFC 9110 §9.3.2); hyper would send one over HTTP/2.
    fn new(body: Source, record: Record<W>) -> Self {
        let body = if record.method == Method::HEAD { Source::Nothing } else { body };
        Self { body, record }
    }
}

impl<W: Watch> Body for Observed<W> {
    type Data = Bytes;
    type Error = Fault;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Fault>>> {
        let polled = match &mut self.body {
            Source::Guest(body) => Pin::new(body).poll_frame(cx),
            Source::Host(body) => Pin::new(body).poll_frame(cx).map_err(|never| match never {}),
            Source::Nothing => Poll::Ready(None),
        };
        self.record.watch.polled(polled.is_pending());
        match &polled {
            Poll::Ready(Some(Ok(frame))) => {
                let len = frame.data_ref().map_or(0, Bytes::len);
                self.record.sent = self.record.sent.saturating_add(u64::try_from(len).unwrap_or(u64::MAX));
            }
            Poll::Ready(Some(Err(fault))) => {
                self.record.fault = fault.kind();
                self.record.reason = Some(fault.to_string());
                self.record.ended = true;
            }
            Poll::Ready(None) => self.record.ended = true,
            Poll::Pending => {}
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        match &self.body {
            Source::Guest(body) => body.is_end_stream(),
            Source::Host(body) => body.is_end_stream(),
            Source::Nothing => true,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.body {
            Source::Guest(body) => body.size_hint(),
            Source::Host(body) => body.size_hint(),
            Source::Nothing => SizeHint::with_exact(0),
        }
    }
}

impl<W: Watch> Drop for Observed<W> {
    fn drop(&mut self) {
        // hyper does not ask a body for more once it has all of it.
        self.record.ended |= match &self.body {
            Source::Guest(body) => body.is_complete(),
            Source::Host(body) => body.is_end_stream(),
            Source::Nothing => true,
        };
    }
}
