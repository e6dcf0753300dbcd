//! What may stand in `service!`: an async function, of the request or of nothing.

use axum_core::extract::Request;
use axum_core::response::{IntoResponse, Response};

/// An async function that answers requests. `Args` only tells the two implementations apart.
pub trait Handler<Args> {
    /// Whether it looks at the request at all. One that does not spares the calls into the host that would fetch it: a
    /// good part of what a small answer costs.
    const TAKES_REQUEST: bool;

    /// Answers one request.
    fn call(self, request: Request) -> impl Future<Output = Response>;
}

impl<F, R> Handler<()> for F
where
    F: FnOnce() -> R,
    R: Future,
    R::Output: IntoResponse,
{
    const TAKES_REQUEST: bool = false;

    async fn call(self, _request: Request) -> Response {
        self().await.into_response()
    }
}

impl<F, R> Handler<(Request,)> for F
where
    F: FnOnce(Request) -> R,
    R: Future,
    R::Output: IntoResponse,
{
    const TAKES_REQUEST: bool = true;

    async fn call(self, request: Request) -> Response {
        self(request).await.into_response()
    }
}
