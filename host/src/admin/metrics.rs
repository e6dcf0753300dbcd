//! `GET /metrics`: what is counted, as Prometheus reads it.

use super::{Admin, problem::Problem};
use crate::telemetry::METRICS_TYPE;
use axum::{
    extract::State,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use std::sync::Arc;

/// All metrics in the text format of Prometheus
#[utoipa::path(get, path = "/metrics", tag = "metrics", responses((status = 200, content_type = "text/plain", body = String)))]
pub(super) async fn metrics(State(admin): State<Arc<Admin>>) -> Result<Response, Problem> {
    let metrics = admin.metrics.clone();
    let text = tokio::task::spawn_blocking(move || metrics.text()).await;
    // A panic in it was logged.
    let text = text.map_err(|_| Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "the metrics could not be read"))?;
    Ok(([(header::CONTENT_TYPE, METRICS_TYPE)], text).into_response())
}
