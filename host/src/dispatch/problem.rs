//! Errors as a client reads them: `application/problem+json` (RFC 9457).

use super::{Details, Refusal, last_words};
use crate::{
    runtime::{CallFailure, Fault, Report, Tangle},
    telemetry::Limit,
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
    /// The services that call each other, where that is what is wrong.
    #[serde(skip_serializing_if = "Option::is_none")]
    chain: Option<&'a str>,
    /// With `--dev` only.
    #[serde(skip_serializing_if = "Option::is_none")]
    dev: Option<&'a Details>,
}

/// The media type of problems.
const PROBLEM: HeaderValue = HeaderValue::from_static("application/problem+json");

/// One error on its way out.
pub(crate) struct Problem<'a> {
    status: StatusCode,
    title: &'static str,
    detail: &'static str,
    remedy: &'static str,
    reason: String,
    report: Option<&'a Report>,
    allow: Option<&'a str>,
    chain: Option<&'a str>,
    provider: Option<&'a str>,
}

impl<'a> Problem<'a> {
    pub(crate) fn new(status: StatusCode, title: &'static str, detail: &'static str, remedy: &'static str) -> Self {
        let (report, allow, chain, provider) = (None, None, None, None);
        Self { status, title, detail, remedy, reason: String::new(), report, allow, chain, provider }
    }

    /// What the log says, and with `--dev` the client.
    pub(crate) fn because(self, reason: impl Into<String>) -> Self {
        Self { reason: reason.into(), ..self }
    }

    pub(crate) fn status(&self) -> StatusCode {
        self.status
    }

    pub(crate) fn title(&self) -> &'static str {
        self.title
    }

    /// What a client may always know.
    pub(crate) fn detail(&self) -> &'static str {
        self.detail
    }

    /// What otherwise only the log says. `output` is what the guest wrote last, where it did not trap.
    pub(crate) fn details(&self, output: Vec<String>) -> Details {
        let Report { reason: trap, frames, output: last } = self.report.cloned().unwrap_or_default();
        let output = if last.is_empty() { output } else { last };
        let failure = last_words::find(&output);
        // A guest that says why it ends says more than the way in which it does.
        let remedy = if failure.is_none() && self.remedy == LOOK { remedy_of_trap(&trap) } else { None };
        Details {
            reason: self.reason.clone(),
            remedy: remedy.unwrap_or(self.remedy).to_owned(),
            failure,
            backtrace: frames,
            output,
            ..Details::default()
        }
    }

    /// The response. `dev` adds what otherwise only the log says.
    pub(crate) fn response(&self, service: Option<&str>, request_id: &str, dev: Option<&Details>) -> Response<Bytes> {
        let Self { status, title, detail, chain, provider, .. } = *self;
        let body = Body { title, status: status.as_u16(), detail, service, provider, request_id, chain, dev };
        // Text and numbers always become JSON.
        let json = serde_json::to_vec(&body).unwrap_or_default();
        self.answer(Bytes::from(json), PROBLEM)
    }

    /// A response with another body for the same.
    pub(crate) fn answer(&self, body: Bytes, content_type: HeaderValue) -> Response<Bytes> {
        let mut response = Response::new(body);
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, content_type);
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
            Refusal::Tangled(tangle) => Self::tangled(tangle),
            Refusal::CallerDeadline => Self::new(
                StatusCode::GATEWAY_TIMEOUT,
                "Gateway timeout",
                "The time of the calling service is over.",
                "raise limits.deadline in the settings of the caller",
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

/// The remedy where nobody knows a better one.
const LOOK: &str = "the backtrace and the guest's last lines show where";

/// What to do about a trap that says more by itself than the guest does; the words are those of wasmtime.
fn remedy_of_trap(trap: &str) -> Option<&'static str> {
    const REMEDIES: [(&str, &str); 5] = [
        ("call stack exhausted", "the guest calls itself too deep: end the recursion, or keep what it has on the heap"),
        ("out of bounds memory access", "the guest read or wrote outside its memory: look at pointers and lengths in the frames"),
        ("integer divide by zero", "look for a division in the frames, and test the divisor before it"),
        ("indirect call", "the guest called a function pointer that is none of its type: look at casts in the frames"),
        ("unreachable", "the guest gave up; a panic handler that prints to stderr would say why"),
    ];
    REMEDIES.iter().find(|(words, _)| trap.contains(words)).map(|(_, remedy)| *remedy)
}

fn full_remedy(limit: Limit) -> &'static str {
    match limit {
        Limit::Memory => "raise budgets.memory in hotbay.toml, or lower limits.memory of the services",
        Limit::Requests => "raise budgets.requests in hotbay.toml, or lower limits.queue of the services",
        _ => "raise pool.instances in hotbay.toml, or lower limits.concurrency of the services",
    }
}

impl<'a> Problem<'a> {
    fn unavailable(detail: &'static str, remedy: &'static str) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "Service unavailable", detail, remedy)
    }

    fn tangled(tangle: &'a Tangle) -> Self {
        let (chain, detail, remedy) = match tangle {
            Tangle::Circle(chain) => (
                chain,
                "The call would close a circle of services that wait for each other.",
                "let one of the services do without its call",
            ),
            Tangle::TooDeep { chain, .. } => (
                chain,
                "More services wait for each other than may.",
                "let fewer services call each other, or raise calls.depth in hotbay.toml",
            ),
        };
        Self { chain: Some(chain), ..Self::new(StatusCode::LOOP_DETECTED, "Loop detected", detail, remedy) }
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
            Fault::Trap(_) => (INTERNAL, "The service failed.", LOOK),
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
            Fault::Full(limit) => return Self::unavailable("The host is at its limit.", full_remedy(*limit)),
            Fault::Callee(error) => {
                const REMEDY: &str = "the log says what the service that it calls failed by";
                let problem = match &error.failure {
                    CallFailure::Unavailable => Self::unavailable("A service that it calls is not available.", REMEDY),
                    CallFailure::Tangled(tangle) => Self::tangled(tangle),
                    CallFailure::Late => Self::new(TIMEOUT.0, TIMEOUT.1, "A service that it calls took too long.", REMEDY),
                    CallFailure::Failed => Self::new(INTERNAL.0, INTERNAL.1, "A service that it calls failed.", REMEDY),
                };
                return Self { provider: Some(&error.provider), ..problem };
            }
            Fault::Retired => return Self::unavailable("The revision was retired.", "try again"),
        };
        Self { report, ..Self::new(status, title, detail, remedy) }
    }
}
