//! The half that talks to the host: WASI 0.2 requests in, responses out. Exists only inside a component.

#[cfg(feature = "client")]
pub(crate) mod client;
#[cfg(feature = "config")]
pub(crate) mod config;
mod incoming;
#[cfg(feature = "kv")]
pub(crate) mod keyvalue;
#[cfg(feature = "lifecycle")]
pub mod lifecycle;
#[cfg(feature = "log")]
pub(crate) mod log;
mod outgoing;

use axum_core::body::Body;
use axum_core::extract::Request;
use axum_core::response::Response;
use http::{Method, StatusCode};
use wasip2::http::types::{IncomingRequest, ResponseOutparam};

use crate::handler::Handler;

/// One call of the export: one request, until the last byte of its response has been taken.
///
/// A failure while sending means that the client or the host is gone, or that the body of the response itself broke
/// off. Neither is worth a trap, which would take a reused instance with it; the host sees a body that was never
/// finished and cuts the connection.
pub fn serve<H: Handler<Args>, Args>(request: IncomingRequest, response: ResponseOutparam, handler: H) {
    wstd::runtime::block_on(async move {
        let received = if H::TAKES_REQUEST { incoming::receive(request) } else { Ok(Request::default()) };
        let (is_head, answer) = match received {
            Ok(request) => (request.method() == Method::HEAD, handler.call(request).await),
            // The host has parsed the request before, so that only a header beyond what `http` takes ends here.
            Err(error) => (false, bad_request(&error.to_string())),
        };
        if let Err(error) = outgoing::send(answer, is_head, response).await {
            crate::report(&format!("the response was not sent whole: {error}"));
        }
    });
}

fn bad_request(text: &str) -> Response {
    let mut response = Response::new(Body::from(format!("{text}\n")));
    *response.status_mut() = StatusCode::BAD_REQUEST;
    response
}
