//! `wasi:http` requests that a guest makes: none is granted, so each ends with `http-request-denied`.

use http::{Request, Response};
use std::future::ready;
use tracing::warn;
use wasmtime_wasi_http::{Error, RequestOptions, WasiBody, WasiHttpHooks};

use crate::config::ServiceName;

type Transmission = Box<dyn Future<Output = Result<(), Error>> + Send>;
type Answer = Box<dyn Future<Output = Result<(Response<WasiBody>, Transmission), Error>> + Send>;

/// The outbound side of one instance.
pub(crate) struct OutboundHttp {
    service: ServiceName,
    request_id: String,
}

impl OutboundHttp {
    pub(crate) fn new(service: ServiceName) -> Self {
        Self { service, request_id: String::new() }
    }

    /// What is asked for from here on belongs to this request.
    pub(crate) fn begin(&mut self, request_id: &str) {
        self.request_id.clear();
        self.request_id.push_str(request_id);
    }
}

impl WasiHttpHooks for OutboundHttp {
    fn send_request(&mut self, request: Request<WasiBody>, _options: Option<RequestOptions>, _sent: Transmission) -> Answer {
        let authority = request.uri().authority().map_or("", |authority| authority.as_str());
        warn!(
            target: "hotbay::denied",
            service = %self.service,
            request_id = self.request_id,
            capability = "http",
            %authority,
            "outbound request denied: not granted"
        );
        Box::new(ready(Err(Error::HttpRequestDenied)))
    }
}
