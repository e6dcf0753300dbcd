//! Errors as a client reads them: `application/problem+json` (RFC 9457).

use crate::{
    dispatch::Refusal,
    runtime::{Fault, Report},
    telemetry::Unrouted,
};
use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header};
use serde::Serialize;

/// The body of every error that the host answers with.
#[derive(Serialize)]
struct Body<'a> {
    title: &'a str,
    status: u16,
    detail: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    service: Option<&'a str>,
    /// The service that it called.
    #[serde(skip_serializing_if = "Option::is_none")]
    provider: Option<&'a str>,
    request_id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    dev: Option<Dev<'a>>,
}

/// With `--dev` only: what the log says.
#[derive(Serialize)]
struct Dev<'a> {
    reason: String,
    remedy: &'a str,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    backtrace: &'a [String],
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    output: &'a [String],
}

/// A request that the edge itself does not take.
#[derive(Debug, thiserror::Error)]
pub(super) enum BadRequest {
    #[error("the request names no host, or more than one, or one that is no host")]
    Host,
    #[error("the request head has more than {0} (http.header_size)")]
    HeaderSize(crate::config::ByteSize),
}

impl BadRequest {
    pub(super) fn unrouted(&self) -> Unrouted {
        match self {
            Self::Host => Unrouted::BadRequest,
            Self::HeaderSize(_) => Unrouted::HeaderSize,
        }
    }
}

/// One error on its way out.
pub(super) struct Problem<'a> {
    status: StatusCode,
    title: &'static str,
    detail: &'static str,
    remedy: &'static str,
    reason: String,
    report: Option<&'a Report>,
    allow: Option<&'a str>,
    provider: Option<&'a str>,
}

impl<'a> Problem<'a> {
    fn new(status: StatusCode, title: &'static str, detail: &'static str, remedy: &'static str) -> Self {
        Self { status, title, detail, remedy, reason: String::new(), report: None, allow: None, provider: None }
    }

    pub(super) fn status(&self) -> StatusCode {
        self.status
    }

    /// The response. `dev` adds what otherwise only the log says.
    pub(super) fn response(&self, service: Option<&str>, request_id: &str, dev: bool) -> Response<Bytes> {
        let dev = dev.then(|| Dev {
            reason: self.reason.clone(),
            remedy: self.remedy,
            backtrace: self.report.map_or(&[], |report| &report.frames),
            output: self.report.map_or(&[], |report| &report.output),
        });
        let provider = self.provider;
        let body =
            Body { title: self.title, status: self.status.as_u16(), detail: self.detail, service, provider, request_id, dev };
        // Text and numbers always become JSON.
        let json = serde_json::to_vec(&body).unwrap_or_default();
        let mut response = Response::new(Bytes::from(json));
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if self.status == StatusCode::SERVICE_UNAVAILABLE {
            headers.insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
        }
        if let Some(allow) = self.allow.and_then(|allow| HeaderValue::from_str(allow).ok()) {
            headers.insert(header::ALLOW, allow);
        }
        response
    }
}

impl<'a> From<&'a BadRequest> for Problem<'a> {
    fn from(bad: &'a BadRequest) -> Self {
        let problem = match bad {
            BadRequest::Host => Self::new(
                StatusCode::BAD_REQUEST,
                "Bad request",
                "The request must name exactly one host.",
                "send one Host header with a host name",
            ),
            BadRequest::HeaderSize(_) => Self::new(
                StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
                "Request header fields too large",
                "The request head is larger than this host takes.",
                "send smaller headers, or raise http.header_size in hotbay.toml",
            ),
        };
        Self { reason: bad.to_string(), ..problem }
    }
}

impl<'a> From<&'a Refusal> for Problem<'a> {
    fn from(refusal: &'a Refusal) -> Self {
        let problem = match refusal {
            Refusal::NoRoute { .. } => Self::new(
                StatusCode::NOT_FOUND,
                "Not found",
                "No service answers this host and path.",
                "the table that hotbay prints at its start shows the routes; NAME.wasm answers /NAME",
            ),
            Refusal::Method { allow } => Self {
                allow: Some(allow),
                ..Self::new(
                    StatusCode::METHOD_NOT_ALLOWED,
                    "Method not allowed",
                    "The path exists, but not for this method; see the Allow header.",
                    "add the method to the route in the service's settings",
                )
            },
            Refusal::Starting => Self::unavailable("The host is starting.", "try again in a moment"),
            Refusal::NoRevision(_) => Self::unavailable(
                "The service has no good revision.",
                "the log says why its build was rejected; replace the file",
            ),
            Refusal::Overloaded(_) => Self::unavailable(
                "The service is at its limit.",
                "raise limits.concurrency, limits.queue or limits.queue_wait in its settings",
            ),
            Refusal::Fault(fault) => Self::fault(fault),
        };
        let reason = match refusal {
            Refusal::Fault(fault) => fault.brief(),
            other => other.to_string(),
        };
        Self { reason, ..problem }
    }
}

impl<'a> Problem<'a> {
    fn unavailable(detail: &'static str, remedy: &'static str) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "Service unavailable", detail, remedy)
    }

    fn fault(fault: &'a Fault) -> Self {
        const INTERNAL: (StatusCode, &str) = (StatusCode::INTERNAL_SERVER_ERROR, "Internal server error");
        const GATEWAY: (StatusCode, &str) = (StatusCode::BAD_GATEWAY, "Bad gateway");
        const TIMEOUT: (StatusCode, &str) = (StatusCode::GATEWAY_TIMEOUT, "Gateway timeout");
        let report = match fault {
            Fault::Trap(report) | Fault::Memory { report, .. } => Some(report),
            _ => None,
        };
        let ((status, title), detail, remedy) = match fault {
            Fault::Trap(_) => (INTERNAL, "The service failed.", "the backtrace and the guest's last lines show where"),
            Fault::Memory { .. } => (INTERNAL, "The service ran out of memory.", "raise limits.memory in its settings"),
            Fault::Protocol(_) => (INTERNAL, "The service broke the protocol.", "mend the response that the guest makes"),
            Fault::ResponseTooLarge(_) => {
                (INTERNAL, "The service's response is too large.", "raise limits.response_body in its settings")
            }
            Fault::Host(_) => (INTERNAL, "The host failed.", "the log says more"),
            Fault::NoResponse => (GATEWAY, "The service gave no response.", "set a response before the handler returns"),
            Fault::Refused(_) => (GATEWAY, "The service answered with an error.", "see to the error that the guest gives"),
            Fault::Library => (GATEWAY, "The service answers no HTTP.", "export wasi:http/incoming-handler"),
            Fault::Deadline(_) => (TIMEOUT, "The service took too long.", "raise limits.deadline in its settings"),
            Fault::Cpu(_) => (TIMEOUT, "The service computed for too long.", "raise limits.cpu in its settings"),
            Fault::StreamIdle(_) => (TIMEOUT, "The response stood still.", "raise limits.stream_idle in its settings"),
            Fault::RequestTooLarge(_) => (
                (StatusCode::PAYLOAD_TOO_LARGE, "Content too large"),
                "The request body is larger than the service takes.",
                "raise limits.request_body in its settings",
            ),
            Fault::BadRequest(_) => {
                ((StatusCode::BAD_REQUEST, "Bad request"), "The service cannot take this request.", "mend the request")
            }
            Fault::PoolExhausted => {
                return Self::unavailable("The host is at its limit.", "raise pool.instances in hotbay.toml");
            }
            Fault::Callee(error) => {
                const REMEDY: &str = "the log says what the service that it calls failed by";
                let problem = match error.is_unavailable {
                    true => Self::unavailable("A service that it calls is not available.", REMEDY),
                    false => Self::new(INTERNAL.0, INTERNAL.1, "A service that it calls failed.", REMEDY),
                };
                return Self { provider: Some(&error.provider), ..problem };
            }
            Fault::Retired => return Self::unavailable("The revision was retired.", "try again"),
        };
        Self { report, ..Self::new(status, title, detail, remedy) }
    }
}
