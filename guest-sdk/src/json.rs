//! JSON in and out.

use axum_core::body::Body;
use axum_core::extract::{FromRequest, Request};
use axum_core::response::{IntoResponse, Response};
use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderValue, StatusCode};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::error::Category;

use crate::Problem;

/// JSON in and out: as an argument of a handler it reads the body, as its result it is the body.
///
/// A request that is not JSON (415), not valid JSON (400), or not what `T` takes (422) never reaches the handler; the
/// client gets a [`Problem`] that says what is wrong and where. Without a router, `Json::from_request` does the same.
///
/// ```
/// use hotbay_sdk::{FromRequest, Json, Problem, Request};
///
/// async fn sum(request: Request) -> Result<Json<i64>, Problem> {
///     let Json(numbers) = Json::<Vec<i64>>::from_request(request, &()).await?;
///     Ok(Json(numbers.iter().sum()))
/// }
/// ```
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Json<T>(pub T);

impl<T, S> FromRequest<S> for Json<T>
where
    T: DeserializeOwned,
    S: Send + Sync,
{
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self, Problem> {
        if !is_json(request.headers()) {
            let problem = Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE);
            return Err(problem.detail("expected a body with content-type: application/json"));
        }
        let body = Bytes::from_request(request, state)
            .await
            .map_err(|rejection| Problem::new(rejection.status()).detail(rejection.body_text()))?;
        serde_json::from_slice(&body).map(Json).map_err(|error| match error.classify() {
            Category::Data => Problem::unprocessable(error.to_string()),
            Category::Io | Category::Syntax | Category::Eof => {
                Problem::bad_request(format!("the body is not valid JSON: {error}"))
            }
        })
    }
}

/// `application/json`, or one of the types built on it such as `application/merge-patch+json`.
fn is_json(headers: &HeaderMap) -> bool {
    let Some(value) = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()) else {
        return false;
    };
    let essence = value.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    essence == "application/json" || (essence.starts_with("application/") && essence.ends_with("+json"))
}

impl<T: Serialize> IntoResponse for Json<T> {
    fn into_response(self) -> Response {
        match serde_json::to_vec(&self.0) {
            Ok(body) => {
                let mut response = Response::new(Body::from(body));
                response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
                response
            }
            Err(error) => Problem::from(error).into_response(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(content_type: &str, body: &'static str) -> Result<Vec<u8>, StatusCode> {
        let request = http::Request::builder().header(CONTENT_TYPE, content_type).body(Body::from(body)).unwrap();
        pollster::block_on(Json::from_request(request, &())).map(|Json(value)| value).map_err(|problem| problem.status())
    }

    #[test]
    fn a_body_is_read_or_refused_with_the_status_that_fits() {
        assert_eq!(read("application/json; charset=utf-8", "[1,2]"), Ok(vec![1, 2]));
        assert_eq!(read("application/merge-patch+json", "[]"), Ok(vec![]));
        assert_eq!(read("text/plain", "[1]"), Err(StatusCode::UNSUPPORTED_MEDIA_TYPE));
        assert_eq!(read("application/json", "[1,"), Err(StatusCode::BAD_REQUEST));
        assert_eq!(read("application/json", "[300]"), Err(StatusCode::UNPROCESSABLE_ENTITY));
    }
}
