//! Errors as clients see them: problem documents, RFC 9457.

use std::borrow::Cow;
use std::error::Error;

use axum_core::body::Body;
use axum_core::response::{IntoResponse, Response};
use http::header::CONTENT_TYPE;
use http::{HeaderValue, StatusCode};
use serde::Serialize;
use serde::ser::SerializeMap;
use serde_json::{Map, Value};

/// An error that becomes an `application/problem+json` response.
///
/// Handlers return `Result<T, Problem>`. The `?` operator turns every other error into a 500: its text goes to the
/// service's log (stderr) and not to the client, who is told nothing about the inside.
///
/// ```
/// use hotbay_sdk::{Problem, http::StatusCode};
///
/// fn withdraw(balance: u64, amount: &str) -> Result<u64, Problem> {
///     let amount: u64 = amount.parse().map_err(|_| Problem::bad_request("amount is not a number"))?;
///     balance.checked_sub(amount).ok_or_else(|| {
///         Problem::new(StatusCode::CONFLICT).detail("not enough in the account").with("balance", balance)
///     })
/// }
///
/// assert_eq!(withdraw(10, "20").unwrap_err().status(), StatusCode::CONFLICT);
/// ```
#[derive(Debug, Clone)]
pub struct Problem(Box<Members>);

/// Boxed, so that a `Result` with a [`Problem`] stays small.
#[derive(Debug, Clone)]
struct Members {
    kind: Option<Cow<'static, str>>,
    title: Cow<'static, str>,
    status: StatusCode,
    detail: Option<Cow<'static, str>>,
    extensions: Map<String, Value>,
}

impl Problem {
    /// A problem with the usual title of this status.
    pub fn new(status: StatusCode) -> Self {
        Self(Box::new(Members {
            kind: None,
            title: Cow::Borrowed(status.canonical_reason().unwrap_or("Error")),
            status,
            detail: None,
            extensions: Map::new(),
        }))
    }

    /// 400: the request cannot be understood.
    pub fn bad_request(detail: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::BAD_REQUEST).detail(detail)
    }

    /// 404: there is nothing by that name.
    pub fn not_found(detail: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::NOT_FOUND).detail(detail)
    }

    /// 409: the request is fine, but not in the present state of things.
    pub fn conflict(detail: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::CONFLICT).detail(detail)
    }

    /// 422: well-formed, but its content is not acceptable.
    pub fn unprocessable(detail: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::UNPROCESSABLE_ENTITY).detail(detail)
    }

    /// The member `type`: a URI that identifies this kind of problem, for clients that tell problems apart.
    #[must_use]
    pub fn kind(mut self, uri: impl Into<Cow<'static, str>>) -> Self {
        self.0.kind = Some(uri.into());
        self
    }

    /// The member `title`: the kind of problem in a few words, the same at every occurrence.
    #[must_use]
    pub fn title(mut self, title: impl Into<Cow<'static, str>>) -> Self {
        self.0.title = title.into();
        self
    }

    /// The member `detail`: what is wrong this time, and what the client can do about it.
    #[must_use]
    pub fn detail(mut self, detail: impl Into<Cow<'static, str>>) -> Self {
        self.0.detail = Some(detail.into());
        self
    }

    /// A member of your own. The five of the RFC are not replaced by it; a value that is no JSON becomes null.
    #[must_use]
    pub fn with(mut self, name: impl Into<String>, value: impl Serialize) -> Self {
        let name = name.into();
        if !matches!(name.as_str(), "type" | "title" | "status" | "detail" | "instance") {
            self.0.extensions.insert(name, serde_json::to_value(value).unwrap_or(Value::Null));
        }
        self
    }

    /// The status of the response that it becomes.
    pub fn status(&self) -> StatusCode {
        self.0.status
    }
}

impl Serialize for Problem {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let members = &*self.0;
        let mut map = serializer.serialize_map(None)?;
        if let Some(kind) = &members.kind {
            map.serialize_entry("type", kind)?;
        }
        map.serialize_entry("title", &members.title)?;
        map.serialize_entry("status", &members.status.as_u16())?;
        if let Some(detail) = &members.detail {
            map.serialize_entry("detail", detail)?;
        }
        for (name, value) in &members.extensions {
            map.serialize_entry(name, value)?;
        }
        map.end()
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        // Strings and JSON values only: there is nothing in it that could fail.
        let body = serde_json::to_vec(&self).unwrap_or_default();
        let mut response = Response::new(Body::from(body));
        *response.status_mut() = self.status();
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        response
    }
}

/// Everything that is not a problem yet is a fault of the service. `Problem` itself is deliberately no
/// [`Error`], or this would not be allowed beside `impl From<T> for T`.
impl<E: Error> From<E> for Problem {
    fn from(error: E) -> Self {
        let mut text = error.to_string();
        let mut source = error.source();
        while let Some(cause) = source {
            text.push_str(": ");
            text.push_str(&cause.to_string());
            source = cause.source();
        }
        crate::report(&text);
        Self::new(StatusCode::INTERNAL_SERVER_ERROR)
    }
}

#[cfg(test)]
mod tests {
    use http::StatusCode;
    use http_body_util::BodyExt;
    use serde_json::{Value, json};

    use super::*;

    fn document(problem: Problem) -> Value {
        let response = problem.into_response();
        assert_eq!(response.headers()[CONTENT_TYPE], "application/problem+json");
        let body = pollster::block_on(response.into_body().collect()).unwrap().to_bytes();
        serde_json::from_slice(&body).unwrap()
    }

    #[test]
    fn a_problem_has_its_members_and_ones_of_its_own() {
        let problem = Problem::conflict("already shipped").kind("urn:x").with("order", 7).with("status", 200);
        let expected = json!({"type": "urn:x", "title": "Conflict", "status": 409, "detail": "already shipped", "order": 7});
        assert_eq!(document(problem), expected);
    }

    #[test]
    fn other_errors_become_a_500_that_tells_nothing() {
        fn fails() -> Result<(), Problem> {
            Err(std::io::Error::other("password is hunter2"))?;
            Ok(())
        }
        let expected = json!({"title": "Internal Server Error", "status": 500});
        assert_eq!(document(fails().unwrap_err()), expected);
        assert_eq!(Problem::new(StatusCode::IM_A_TEAPOT).status(), StatusCode::IM_A_TEAPOT);
    }
}
