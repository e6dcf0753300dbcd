//! The half that talks to the host: WASI 0.2 requests in, responses out. Exists only inside a component.

#[cfg(feature = "lifecycle")]
pub mod lifecycle;
mod outgoing;

use axum_core::body::Body;
use axum_core::extract::Request;
use axum_core::response::Response;
use http::{Method, StatusCode};
use wasip2::http::types::{IncomingRequest, ResponseOutparam};
use wstd::http::request::try_from_incoming;

/// One call of the export: one request, until the last byte of its response has been taken.
///
/// A failure while sending means that the client or the host is gone, or that the body of the response itself broke
/// off. Neither is worth a trap, which would take a reused instance with it; the host sees a body that was never
/// finished and cuts the connection.
pub fn serve<F, R>(request: IncomingRequest, response: ResponseOutparam, handler: F)
where
    F: FnOnce(Request) -> R,
    R: Future<Output = Response>,
{
    wstd::runtime::block_on(async move {
        let (is_head, answer) = match try_from_incoming(request) {
            Ok(request) => {
                let is_head = request.method() == Method::HEAD;
                // The body is not touched before the handler reads it.
                (is_head, handler(request.map(|body| Body::new(body.into_boxed_body()))).await)
            }
            // The host has parsed the request before, so that only a header beyond what `http` takes ends here.
            Err(error) => (false, bad_request(&error.to_string())),
        };
        if let Err(error) = outgoing::send(answer, is_head, response).await {
            eprintln!("error: the response was not sent whole: {error}");
        }
    });
}

fn bad_request(text: &str) -> Response {
    let mut response = Response::new(Body::from(format!("{text}\n")));
    *response.status_mut() = StatusCode::BAD_REQUEST;
    response
}
