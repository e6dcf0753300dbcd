//! axum's `Path` and `Query`, refusing with a problem document instead of plain text.

use axum::extract as axum_extract;
use axum_core::extract::FromRequestParts;
use http::request::Parts;
use serde::de::DeserializeOwned;

use crate::Problem;

/// The parameters of a path: one value for one parameter, a tuple or a struct for several.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Path<T>(pub T);

impl<T, S> FromRequestParts<S> for Path<T>
where
    T: DeserializeOwned + Send,
    S: Send + Sync,
{
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        match axum_extract::Path::from_request_parts(parts, state).await {
            Ok(axum_extract::Path(value)) => Ok(Self(value)),
            Err(rejection) => Err(Problem::new(rejection.status()).detail(rejection.body_text())),
        }
    }
}

/// The query string as a struct. Repeated keys are taken as serde takes them: the type decides.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Query<T>(pub T);

impl<T, S> FromRequestParts<S> for Query<T>
where
    T: DeserializeOwned,
    S: Send + Sync,
{
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        match axum_extract::Query::from_request_parts(parts, state).await {
            Ok(axum_extract::Query(value)) => Ok(Self(value)),
            Err(rejection) => Err(Problem::new(rejection.status()).detail(rejection.body_text())),
        }
    }
}
