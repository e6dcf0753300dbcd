//! How an outbound request fails: what the guest is told, what the log says, and how it is counted.

use crate::{
    config::{ByteSize, OriginError},
    telemetry::{Capability, OutboundResult},
};
use http::Method;
use rustls::{AlertDescription, Error as TlsError};
use std::{fmt::Display, io};
use wasmtime_wasi_http::Error;

/// One that failed.
#[derive(Debug)]
pub(super) struct Failure {
    pub(super) kind: FailureKind,
    /// What the guest is told, in the words of `wasi:http`.
    pub(super) error: Error,
    /// What the log says.
    pub(super) reason: String,
    /// The line of `[grants]` that would allow it, where that is what is missing.
    pub(super) grant: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum FailureKind {
    /// No grant allows it.
    Denied(Capability),
    /// A call that was allowed, to a service that is not there.
    Missing,
    /// It was allowed, and ended like this.
    Ended(OutboundResult),
}

impl Failure {
    pub(super) fn denied(error: Error, reason: impl Into<String>) -> Self {
        Self { kind: FailureKind::Denied(Capability::Http), error, reason: reason.into(), grant: None }
    }

    /// The line that would allow it.
    pub(super) fn allowed_by(self, grant: Option<String>) -> Self {
        Self { grant, ..self }
    }

    /// To the caller it is the same as [`Self::missing`].
    pub(super) fn denied_call() -> Self {
        let reason = "not granted (grants.calls); services are called as http://NAME.internal";
        let kind = FailureKind::Denied(Capability::Calls);
        Self { kind, error: Error::DestinationNotFound, reason: reason.to_owned(), grant: None }
    }

    pub(super) fn missing() -> Self {
        let reason = "there is no such service in the bay".to_owned();
        Self { kind: FailureKind::Missing, error: Error::DestinationNotFound, reason, grant: None }
    }

    pub(super) fn failed(error: Error, reason: impl Into<String>) -> Self {
        Self { kind: FailureKind::Ended(OutboundResult::Failed), error, reason: reason.into(), grant: None }
    }

    pub(super) fn timeout(error: Error, reason: impl Into<String>) -> Self {
        Self { kind: FailureKind::Ended(OutboundResult::Timeout), error, reason: reason.into(), grant: None }
    }

    pub(super) fn limit(error: Error, reason: impl Into<String>) -> Self {
        Self { kind: FailureKind::Ended(OutboundResult::Limit), error, reason: reason.into(), grant: None }
    }

    /// A URL that is none. Where it only looks like one, somebody tries something: it counts as denied.
    pub(super) fn no_origin(error: OriginError) -> Self {
        Self::denied(Error::HttpRequestUriInvalid, error.to_string())
    }

    /// A method that asks for a tunnel, in which no grant could be held to.
    pub(super) fn tunnel() -> Self {
        Self::denied(Error::HttpRequestMethodInvalid, format!("{} is granted to nobody", Method::CONNECT))
    }

    pub(super) fn too_large(size: Option<u64>, limit: ByteSize) -> Self {
        Self::limit(Error::HttpResponseBodySize(size), format!("its body has more than {limit} (outbound.response_body)"))
    }

    pub(super) fn no_name(name: &str, error: impl Display) -> Self {
        let told = Error::DnsError { rcode: Some("the name was not found".to_owned()), info_code: None };
        Self::failed(told, format!("`{name}` was not found: {error}"))
    }

    pub(super) fn connect(error: &io::Error) -> Self {
        let told = match error.kind() {
            io::ErrorKind::ConnectionRefused => Error::ConnectionRefused,
            io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkUnreachable => Error::DestinationIpUnroutable,
            io::ErrorKind::TimedOut => return Self::timeout(Error::ConnectionTimeout, error.to_string()),
            _ => Error::DestinationUnavailable,
        };
        Self::failed(told, format!("no connection: {error}"))
    }

    pub(super) fn tls(error: &io::Error) -> Self {
        let told = match error.get_ref().and_then(|inner| inner.downcast_ref::<TlsError>()) {
            Some(TlsError::InvalidCertificate(_)) => Error::TlsCertificateError,
            Some(TlsError::AlertReceived(alert)) => alerted(*alert),
            Some(_) => Error::TlsProtocolError,
            None => Error::ConnectionTerminated,
        };
        Self::failed(told, format!("no TLS: {error}"))
    }

    /// What hyper says; `begun` where the response head had come.
    pub(super) fn http(error: &hyper::Error, begun: bool) -> Self {
        if error.is_parse_too_large() {
            return Self::limit(Error::HttpResponseHeaderSectionSize(None), "its head is too large");
        }
        let source = std::error::Error::source(error).map_or_else(String::new, |source| format!(": {source}"));
        let told = if error.is_user() {
            // The guest did not write what it had promised.
            Error::HttpRequestBodySize(None)
        } else if error.is_parse() {
            Error::HttpProtocolError
        } else if begun {
            Error::HttpResponseIncomplete
        } else {
            Error::ConnectionTerminated
        };
        Self::failed(told, format!("{error}{source}"))
    }
}

fn alerted(alert: AlertDescription) -> Error {
    Error::TlsAlertReceived { alert_id: Some(alert.into()), alert_message: Some(format!("{alert:?}")) }
}
