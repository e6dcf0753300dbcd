//! `GET /healthz` and `GET /readyz`: for supervisors and load balancers, without a token.

use super::Admin;
use crate::deploy::Phase;
use axum::{Json, extract::State, http::StatusCode};
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use utoipa::ToSchema;

/// Whether the process answers.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct Health {
    /// Always `ok`.
    pub status: String,
}

/// Whether the host should get requests.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct Readiness {
    /// `starting`, `ready` or `draining`.
    pub status: String,
    /// Services with a good revision.
    pub serving: usize,
    /// Services that never had a good revision, and files that can be none.
    pub rejected: usize,
    /// Services whose first build has not been decided.
    pub loading: usize,
    /// What does not run as its files in the bay say.
    pub not_as_in_the_bay: Vec<Deviation>,
}

/// A service whose newest files were rejected.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct Deviation {
    /// The service.
    pub name: String,
    /// The older revision that serves instead; none where nothing serves.
    pub serving: Option<String>,
    /// Why the newest files were rejected.
    pub reason: String,
    /// What to do.
    pub remedy: String,
}

/// The process answers
#[utoipa::path(get, path = "/healthz", tag = "health", security(), responses((status = 200, body = Health)))]
pub(super) async fn healthz() -> Json<Health> {
    Json(Health { status: "ok".to_owned() })
}

/// Every service of the bay was published or rejected, and the host does not end
#[utoipa::path(get, path = "/readyz", tag = "health", security(), responses(
    (status = 200, body = Readiness),
    (status = 503, description = "Starting or draining", body = Readiness),
))]
pub(super) async fn readyz(State(admin): State<Arc<Admin>>) -> (StatusCode, Json<Readiness>) {
    let (code, status) = match (admin.shutdown.has_begun(), admin.board.has_started()) {
        (true, _) => (StatusCode::SERVICE_UNAVAILABLE, "draining"),
        (false, false) => (StatusCode::SERVICE_UNAVAILABLE, "starting"),
        (false, true) => (StatusCode::OK, "ready"),
    };
    let services = admin.board.all();
    let count = |phase| services.values().filter(|status| status.phase() == phase).count();
    let back = count(Phase::RolledBack) + count(Phase::LastGood);
    let (serving, rejected, loading) = (count(Phase::Serving) + back, count(Phase::Rejected), count(Phase::Loading));
    let deviations = services.into_iter().filter_map(|(name, status)| {
        let rejected = status.rejected?;
        let serving = status.serving.map(|serving| serving.revision);
        Some(Deviation { name, serving, reason: rejected.reason, remedy: rejected.remedy })
    });
    let not_as_in_the_bay = deviations.collect();
    (code, Json(Readiness { status: status.to_owned(), serving, rejected, loading, not_as_in_the_bay }))
}
