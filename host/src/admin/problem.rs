//! Errors as callers of the API read them: `application/problem+json` (RFC 9457).

use axum::{
    Json,
    extract::rejection::PathRejection,
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// The body of every error.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct Problem {
    /// What kind of error.
    pub title: String,
    /// The status of the response.
    pub status: u16,
    /// What is wrong here.
    pub detail: String,
    /// What to do about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub remedy: Option<String>,
    /// Names that are there and look like the one that is not.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub near: Vec<String>,
    /// Seconds after which the same call may go well: a header, and not of the body.
    #[serde(skip)]
    pub(super) retry_after: Option<u32>,
}

/// Names that are this much like the one asked for are told.
const LIKENESS: f64 = 0.7;
/// The most that are told.
pub(super) const NEAR_MAX: usize = 3;

impl Problem {
    pub(super) fn new(status: StatusCode, detail: impl Into<String>) -> Self {
        let title = status.canonical_reason().unwrap_or("Error").to_owned();
        Self { title, status: status.as_u16(), detail: detail.into(), remedy: None, near: Vec::new(), retry_after: None }
    }

    pub(super) fn remedy(self, remedy: impl Into<String>) -> Self {
        Self { remedy: Some(remedy.into()), ..self }
    }

    pub(super) fn retry_after(self, seconds: u32) -> Self {
        Self { retry_after: Some(seconds), ..self }
    }

    /// There is no `what` (a service, say) of this name.
    pub(super) fn unknown(what: &str, name: &str, known: impl IntoIterator<Item = String>) -> Self {
        let near = alike(name, known);
        let detail = format!("there is no {what} `{}`", name.escape_debug());
        let problem = Self::new(StatusCode::NOT_FOUND, detail);
        let remedy = (!near.is_empty()).then(|| format!("did you mean {}?", near.join(" or ")));
        Self { remedy, near, ..problem }
    }
}

impl From<PathRejection> for Problem {
    fn from(rejection: PathRejection) -> Self {
        Self::new(rejection.status(), rejection.body_text()).remedy("percent-encode the name as UTF-8")
    }
}

/// Those of `known` that look like `name`, the most alike first.
pub(super) fn alike(name: &str, known: impl IntoIterator<Item = String>) -> Vec<String> {
    let mut near: Vec<_> = known
        .into_iter()
        .map(|known| (strsim::jaro_winkler(name, &known), known))
        .filter(|(likeness, _)| *likeness > LIKENESS)
        .collect();
    near.sort_by(|a, b| b.0.total_cmp(&a.0));
    near.into_iter().take(NEAR_MAX).map(|(_, known)| known).collect()
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let retry_after = self.retry_after;
        let mut response = (status, Json(self)).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        if status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        if let Some(seconds) = retry_after {
            headers.insert(header::RETRY_AFTER, seconds.into());
        }
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_names_come_first() {
        let known = ["stock", "hello", "hallo", "order"].map(str::to_owned);
        let problem = Problem::unknown("service", "helo", known);
        assert_eq!(problem.near, ["hello", "hallo"]);
        assert_eq!(problem.status, 404);
        assert_eq!(Problem::unknown("service", "zzz", ["hello".to_owned()]).remedy, None);
    }
}
