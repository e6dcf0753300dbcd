//! Requests that the edge itself does not take.

use crate::{config::ByteSize, dispatch::Problem, telemetry::Unrouted};
use http::StatusCode;

/// A request that the edge itself does not take.
#[derive(Debug, thiserror::Error)]
pub(super) enum BadRequest {
    #[error("the request names no host, or more than one, or one that is no host")]
    Host,
    #[error("the request head has more than 100 header fields")]
    HeaderCount,
    #[error("the request head has more than {0} (http.header_size)")]
    HeaderSize(ByteSize),
}

impl BadRequest {
    pub(super) fn unrouted(&self) -> Unrouted {
        match self {
            Self::Host => Unrouted::BadRequest,
            Self::HeaderCount | Self::HeaderSize(_) => Unrouted::HeaderSize,
        }
    }
}

impl From<&BadRequest> for Problem<'_> {
    fn from(bad: &BadRequest) -> Self {
        let problem = match bad {
            BadRequest::Host => Problem::new(
                StatusCode::BAD_REQUEST,
                "Bad request",
                "The request must name exactly one host.",
                "send one Host header with a host name",
            ),
            BadRequest::HeaderCount => Problem::new(
                StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
                "Request header fields too large",
                "The request has more header fields than this host takes.",
                "send fewer headers",
            ),
            BadRequest::HeaderSize(_) => Problem::new(
                StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
                "Request header fields too large",
                "The request head is larger than this host takes.",
                "send smaller headers, or raise http.header_size in hotbay.toml",
            ),
        };
        problem.because(bad.to_string())
    }
}
