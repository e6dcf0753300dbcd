//! `wasi:http` requests that a guest makes: none is granted, so each ends with `http-request-denied`.

use http::{Request, Response};
use std::future::ready;
use tracing::warn;
use wasmtime_wasi_http::{Error, RequestOptions, WasiBody, WasiHttpHooks};

use crate::config::ServiceName;

type Transmission = Box<dyn Future<Output = Result<(), Error>> + Send>;
type Answer = Box<dyn Future<Output = Result<(Response<WasiBody>, Transmission), Error>> + Send>;

/// Denied calls of one request that are logged, and bytes of an authority that are shown.
const DENIED_MAX: u32 = 20;
const AUTHORITY_MAX: usize = 256;
/// Bytes of a body that a guest hands over at once. A body that nobody reads holds two of these in the host's memory, outside
/// the guest's own budget, for each handle that the guest may have.
const CHUNK: usize = 32 << 10;

/// The outbound side of one instance.
pub(crate) struct OutboundHttp {
    service: ServiceName,
    request_id: String,
    denied: u32,
}

impl OutboundHttp {
    pub(crate) fn new(service: ServiceName) -> Self {
        Self { service, request_id: String::new(), denied: 0 }
    }

    /// What is asked for from here on belongs to this request.
    pub(crate) fn begin(&mut self, request_id: &str) {
        self.request_id.clear();
        self.request_id.push_str(request_id);
        self.denied = 0;
    }
}

impl WasiHttpHooks for OutboundHttp {
    fn p2_outgoing_body_chunk_size(&mut self) -> usize {
        CHUNK
    }

    fn p3_outgoing_body_chunk_size(&mut self) -> usize {
        CHUNK
    }

    fn send_request(&mut self, request: Request<WasiBody>, _options: Option<RequestOptions>, _sent: Transmission) -> Answer {
        let authority = request.uri().authority().map_or("", |authority| authority.as_str());
        // A guest that asks in a loop fills nobody's log.
        self.denied = self.denied.saturating_add(1);
        if self.denied > DENIED_MAX {
            return Box::new(ready(Err(Error::HttpRequestDenied)));
        }
        let authority = authority.get(..AUTHORITY_MAX).unwrap_or(authority);
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
