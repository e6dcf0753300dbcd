//! What a router of axum needs to be a service.

use axum::Router;
use axum_core::extract::Request;
use axum_core::response::Response;
use http::{Method, StatusCode, Uri};
use tower_service::Service;

use crate::Problem;

/// Added to axum's [`Router`].
pub trait RouterExt {
    /// Answers an unknown path (404) and a wrong method (405, with `allow`) with a [`Problem`] instead of an empty
    /// body. It holds for the routes that are there already, so it comes last.
    #[must_use]
    fn problems(self) -> Self;
}

impl<S> RouterExt for Router<S>
where
    S: Clone + Send + Sync + 'static,
{
    fn problems(self) -> Self {
        self.fallback(no_such_path).method_not_allowed_fallback(wrong_method)
    }
}

async fn no_such_path(uri: Uri) -> Problem {
    Problem::not_found(format!("there is nothing at {}", uri.path()))
}

async fn wrong_method(method: Method, uri: Uri) -> Problem {
    Problem::new(StatusCode::METHOD_NOT_ALLOWED).detail(format!("{} does not take {method}", uri.path()))
}

/// One request through a router. A clone of a router is a reference to the same routes and state.
#[doc(hidden)]
pub fn route(app: &Router, request: Request) -> impl Future<Output = Response> + use<> {
    let mut app = app.clone();
    async move { app.call(request).await.unwrap_or_else(|never| match never {}) }
}

/// As `check_handler`, for the router form of `service!`.
#[doc(hidden)]
pub fn check_app(_app: fn() -> Router) {}

#[cfg(test)]
mod tests {
    use axum::routing::get;
    use http::header::ALLOW;
    use tower::ServiceExt;

    use super::*;
    use crate::{Body, Path};

    fn ask(method: &str, path: &str) -> Response {
        let app = Router::new().route("/n/{n}", get(async |Path(n): Path<u8>| n.to_string())).problems();
        let request = http::Request::builder().method(method).uri(path).body(Body::empty()).unwrap();
        pollster::block_on(app.oneshot(request)).unwrap()
    }

    #[test]
    fn what_is_refused_is_refused_with_a_problem() {
        assert_eq!(ask("GET", "/n/7").status(), StatusCode::OK);
        for (method, path, status) in [("GET", "/m", 404), ("PUT", "/n/7", 405), ("GET", "/n/seven", 400)] {
            let response = ask(method, path);
            assert_eq!(response.status(), status);
            assert_eq!(response.headers()["content-type"], "application/problem+json");
        }
        assert_eq!(ask("PUT", "/n/7").headers()[ALLOW], "GET,HEAD");
    }
}
